"""Verdicts under harmless edits, with a detector whose answer can be worked out."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from sficonv.card import Calibration, check_card
from sficonv.cli.app import main
from sficonv.errors import DataError
from sficonv.evaluation.benign import EditEffect, judge_edits
from sficonv.evaluation.robustness_scores import NamedDetector
from sficonv.models import ModelConfig


class LeftIsBright(nn.Module):
    """P(fake) is high where the left half is brighter than the right one: mirroring turns it around."""

    config = ModelConfig("left", image_size=64, mean=(0.0,) * 3, std=(1.0,) * 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = 20 * (x[..., :32].mean((1, 2, 3)) - x[..., 32:].mean((1, 2, 3)))
        return torch.stack([torch.zeros_like(score), score], dim=1)


@pytest.fixture
def detector():
    band = Calibration(uncertain=(0.4, 0.6))
    return NamedDetector("A: left", "left.safetensors", {}, LeftIsBright(), band, "cpu", "")


@pytest.fixture
def rows(tmp_path):
    """Two real videos (dark left half; even), one fake one (bright left half)."""
    entries = []
    for name, label, left, right in (("a", 0, 60, 180), ("b", 0, 120, 120), ("c", 1, 180, 60)):
        for frame in range(2):
            image = np.full((64, 64, 3), right, np.uint8)
            image[:, :32] = left
            Image.fromarray(image).save(tmp_path / f"{name}{frame}.png")
            entries.append({"path": f"{name}{frame}.png", "label": label, "video_id": name})
    return pd.DataFrame(entries)


def test_verdicts_that_change_are_counted_per_edit_and_label(detector, rows, tmp_path):
    result = judge_edits(detector, rows, tmp_path, split="test", batch_size=4)
    effects = {(e.edit, e.label): e for e in result.effects}
    assert effects["mirrored", 0] == EditEffect("mirrored", 0, 2, 1, called_fake=1, called_fake_before=0)
    assert effects["mirrored", 1] == EditEffect("mirrored", 1, 1, 1, called_fake=0, called_fake_before=1)
    for edit in ("saved at JPEG 75", "half size", "cropped", "sharpened"):
        assert effects[edit, 0].changed == effects[edit, 1].changed == 0
    entry = result.entry()
    assert entry["mirrored"]["changed"] == 0.5
    assert check_card({"benign": entry})
    assert json.loads(result.to_json())["effects"][0]["edit"] == "mirrored"


def test_what_cannot_be_read_is_left_out_and_said(detector, rows, tmp_path):
    (tmp_path / "a0.png").write_bytes(b"no image")
    result = judge_edits(detector, rows, tmp_path, split="test")
    assert result.warnings[0].startswith("1 crops were left out")
    with pytest.raises(DataError, match="nothing to judge"):
        judge_edits(detector, rows[:1], tmp_path, split="test")


def test_the_command(small_faces, detectors, tmp_path, capsys):
    folder = small_faces(tmp_path / "faces", videos=1, frames=1)
    command = ["robustness", "--data", str(folder), "--weights", str(detectors[0]), "--benign"]
    assert main([*command, "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    assert "screenshot" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "out" / "benign.json").read_text())["effects"]) == 16
    assert main([*command, "--report", "page.html"]) == 2
