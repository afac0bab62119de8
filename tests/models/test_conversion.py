"""The conversion report of a network given by its name."""

import json

import pytest

from sficonv.cli.app import main
from sficonv.models.conversion_report import conversion_of


def test_a_timm_network_converts_with_the_defaults():
    report = conversion_of("resnet10t")
    assert (report.alpha, report.beta) == (0.5, 1)
    assert {r.stage for r in report.layers} == {"head", "Stage 1", "Stage 2", "Stage 3"}


def test_a_registered_sfic_model_keeps_its_own_form():
    report = conversion_of("sfic_resnet26", beta=0.5)
    assert report.beta == 0.5
    assert report.options["downsample"] == "avgpool"
    assert report.options["fuse_at"] == "layer4.0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "resnt18"}, "near it are .*resnet18"),
        ({"model": "qqq"}, "neither sficonv nor timm has a model 'qqq'$"),
        ({"model": "resnet10t", "alpha": 2}, "alpha"),
        ({"model": "sfic_resnet26", "fuse_at": "layer3"}, "leave fuse_at out"),
        ({"model": "vit_tiny_patch16_224"}, "has 1 convolutions"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        conversion_of(**arguments)


def test_command_line(capsys):
    assert main(["convert-report", "resnet10t", "--alpha", "0.25", "--beta", "0.5", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["alpha"] == 0.25
    assert report["layers"][1]["stage"] == "Stage 1"
    assert main(["convert-report", "resnet10t", "--fuse-at", "layer3.0"]) == 0
    out = capsys.readouterr().out
    assert "layer4.0.conv1" in out
    assert "after the fusion" in out
    assert main(["convert-report", "resnet10t", "--alpha", "2"]) == 2
