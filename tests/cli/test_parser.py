"""The options of the command line: read from signatures without an import, and quick to complain."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any, get_type_hints

import pytest

import sficonv.cli.signature as static
from sficonv import extras
from sficonv.cli.app import main
from sficonv.cli.describe import models
from sficonv.cli.parser import arguments, make_parser, parse
from sficonv.cli.signature import REQUIRED, read_signature
from sficonv.cli.verbs import MEANT, VERBS, Verb
from sficonv.models import list_models
from sficonv.training.recipes import RECIPES

SIGNATURES = {name: read_signature(verb.function) for name, verb in VERBS.items()}
HEAVY = {"torch", "timm", "pandas", "cv2", "av", "lightning", "sklearn", "sficonv.models", "sficonv.detect"}


def load(home: str) -> Any:
    module, _, name = home.partition(":")
    return getattr(import_module(module), name)


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_read_from_the_source_is_what_the_function_takes(verb):
    signature = SIGNATURES[verb]
    owners = {"": load(VERBS[verb].function)} | {
        parameter: load(home) for parameter, home in signature.classes.items()
    }
    for option in signature.options:
        owner = owners[option.part_of]
        if option.part_of in signature.named:
            assert option.default is None
            continue
        parameter = inspect.signature(owner).parameters[option.name]
        factory = str(parameter.default) == "<factory>"
        default = REQUIRED if parameter.default is parameter.empty else parameter.default
        assert factory or option.default == default, option.name
        hint = get_type_hints(owner)[option.name]
        assert option.type == hint or str(option.type).strip("<>").split("'")[-1] in str(hint), option.name
    for parameter in inspect.signature(owners[""]).parameters.values():
        known = {option.name for option in signature.options} | signature.classes.keys()
        may_lack = parameter.default is not parameter.empty or parameter.kind is parameter.VAR_KEYWORD
        assert parameter.name in known or may_lack, parameter.name


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_explained_once(verb):
    options = SIGNATURES[verb].options
    assert len({option.name for option in options}) == len(options)
    assert not [option.name for option in options if not option.help]
    fields = ("positional", "reads", "weights", "models")
    named = [getattr(VERBS[verb], field) for field in fields]
    default = inspect.signature(Verb).parameters["weights"].default
    named = [(name,) if isinstance(name, str) else name for name in named if name and name != default]
    assert {name for names in named for name in names} <= {option.name for option in options}
    for need in VERBS[verb].needs:
        condition, _, extra = need.rpartition(": ")
        assert extra in extras.EXTRAS
        assert not condition or condition.partition("=")[0] in {option.name for option in options}


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_says_what_holds_where_an_option_is_not_given(verb):
    shown = make_parser(verb, VERBS[verb], SIGNATURES[verb]).format_help()
    options = {o.name: o for o in SIGNATURES[verb].options if o.default is not REQUIRED}
    options.pop(VERBS[verb].positional, None)
    for name in options:
        start = re.search(rf"^  --{name.replace('_', '-')}\b", shown, re.MULTILINE)
        assert start, name
        said = re.split(r"\n(?=  -|\n)", shown[start.start() :])[0]
        assert "default" in said.lower(), name


def test_the_help_of_a_recipe_tells_the_value_in_each():
    helps = {option.name: option.help for option in SIGNATURES["train"].options}
    assert helps["lr"].endswith("Default: 0.0001 (paper), 0.0003 (finetune).")
    for name in ("epochs", "seed", "betas"):
        value = getattr(RECIPES["paper"], name)
        assert helps[name].endswith(f"Default: {list(value) if isinstance(value, tuple) else value}."), name


def test_the_names_that_are_listed_are_those_that_are_registered():
    assert models() == list_models()


def test_what_others_call_it_leads_to_a_verb():
    assert set(MEANT.values()) <= VERBS.keys()
    assert not MEANT.keys() & VERBS.keys()


@pytest.fixture
def with_options(monkeypatch: pytest.MonkeyPatch) -> static.Signature:
    """A function with a dataclass, a preset and something nobody can type."""
    source = '''
from __future__ import annotations
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal
import torch

Shape = Literal["round", "square"]
SIDE = 4

@dataclass(frozen=True)
class Base:
    """Base.

    Args:
        side: Side in pixels.
    """
    side: int = SIDE * 2

@dataclass(frozen=True)
class Options(Base):
    """Options.

    Args:
        shape: Shape of it.
        names: Names.
        then: What to call.
    """
    shape: Shape | None = None
    names: Sequence[str] = field(default_factory=tuple)
    then: Callable[[], None] | None = None

@dataclass(frozen=True)
class Recipe:
    """Recipe.

    Args:
        name: Its name.
        lr: Learning rate.
    """
    name: str
    lr: float = 0.1

def work(path: str, recipe: str | Recipe = "plain", device: torch.device | str | None = None,
         options: Options = Options(), *, model: torch.nn.Module | None = None) -> None:
    """Work.

    Args:
        path: Where.
        recipe: How.
        device: On what.
        options: More.
        model: A model.
    """
'''
    made = static._Source.__new__(static._Source)
    made.module = "sficonv.made_up"
    made.nodes = dict(static._names(static.ast.parse(source).body))
    monkeypatch.setattr(static, "_source", lambda module: made)
    return read_signature("sficonv.made_up:work")


def test_a_dataclass_is_flattened_and_a_preset_can_be_changed(with_options):
    found = {o.name: (o.type, o.default, o.part_of) for o in with_options.options}
    assert list(found) == ["path", "recipe", "lr", "device", "side", "shape", "names"]
    assert found["path"] == (str, REQUIRED, "")
    assert found["device"] == (str | None, None, "")
    assert found["side"] == (int, 8, "options")
    assert found["shape"][1:] == (None, "options")
    assert found["names"][1] == ()
    assert found["lr"] == (float | None, None, "recipe")
    assert found["recipe"][:2] == (str, "plain")
    assert with_options.named == {"recipe"}
    groups = {o.name: o.group for o in with_options.options if o.group}
    assert groups == {"lr": "Recipe", "side": "Base", "shape": "Options", "names": "Options"}


def test_options_come_back_as_the_objects_the_function_takes(with_options, monkeypatch):
    class Recipe:
        named = staticmethod(lambda name, **changes: (name, changes))

    class Module:
        pass

    Module.Recipe, Module.Options = Recipe, staticmethod(lambda **fields: fields)
    monkeypatch.setattr("sficonv.cli.parser.import_module", lambda name: Module)
    verb = Verb("", "", "", positional="path", metavar="PATH")
    parser = make_parser("work", verb, with_options)
    given = arguments(parse(parser, ["a.jpg", "--lr", "0.5", "--shape", "round"]), with_options)
    assert given["recipe"] == ("plain", {"lr": 0.5})
    assert given["options"] == {"side": 8, "shape": "round", "names": ()}
    assert arguments(parse(parser, ["a.jpg"]), with_options)["recipe"] == "plain"


WRONG = {
    "scan nofile.jpg": (1, ["nofile.jpg", "no such file"]),
    "scan https://example.org/clip.mp4": (1, ["example.org", "does not download"]),
    "scan -": (1, ["standard input"]),
    "scan {tmp}/clp.mp4": (1, ["did you mean", "clip.mp4"]),
    "scan": (2, ["missing PATH", "--help"]),
    "scan {tmp} --reprot a.html": (2, ["--reprot", "did you mean --report?"]),
    "scan {tmp} --every soon": (2, ["--every: expected a number, got 'soon'"]),
    "scan {tmp} --weights no.safetensors": (1, ["no.safetensors", "no such file"]),
    "scan {tmp} --config {tmp}/bad.yaml": (2, ["--wieghts", "did you mean --weights?", "--config"]),
    "prepare {tmp}": (2, ["missing --out"]),
    "prepare {tmp} --check": (2, ["unknown option --check", "sficonv check"]),
    "explain --data faces": (2, ["unknown option --data"]),
    "train": (2, ["missing --data"]),
    "train --data nowhere": (1, ["nowhere", "no such file or folder"]),
    "train --data {tmp} --model resnet27": (2, ["resnet27", "did you mean", "resnet26"]),
    "split {tmp} --protocol alone": (2, ["--protocol: expected official or identity"]),
    "scna a.jpg": (2, ["'scna'", "did you mean scan?"]),
    "convert densenet121": (2, ["did you mean convert-report?"]),
    "predict a.jpg": (2, ["did you mean scan?"]),
    "--versoin": (2, ["unknown option '--versoin'"]),
    "models": (0, []),
    "models nosuch*": (2, ["no model is called 'nosuch*'"]),
    **{
        f"{verb} --data {{tmp}} --weights default": (1, ["no manifest.parquet in it", "sficonv prepare"])
        for verb in ("evaluate", "robustness", "calibrate")
    },
    "train {tmp}": (1, ["no manifest.parquet in it", "sficonv prepare"]),
    "attention {tmp}": (1, ["no manifest.parquet in it", "sficonv prepare"]),
    **{f"{verb} --help": (0, []) for verb in VERBS},
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, list[str]]]:
    """Exit code, last words and heavy modules of all, found out in one process."""
    tmp = tmp_path_factory.mktemp("wrong")
    (tmp / "clip.mp4").touch()
    (tmp / "bad.yaml").write_text("wieghts: a\n")
    program = f"""
import contextlib, io, json, sys
from sficonv.cli.app import main
answers = {{}}
for line in {list(WRONG)}:
    words = line.replace("{{tmp}}", {str(tmp)!r}).split()
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    answers[line] = code, err.getvalue(), out.getvalue(), sorted({HEAVY} & set(sys.modules))
print(json.dumps(answers))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("line", WRONG)
def test_what_is_wrong_is_said_before_anything_is_loaded(line, answers):
    code, words = WRONG[line]
    returned, err, out, heavy = answers[line]
    assert returned == code, err
    assert not heavy
    assert all(word in err for word in words), err
    assert "Traceback" not in err
    assert bool(out) == (code == 0)


def test_a_missing_extra_is_named_before_anything_is_loaded(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    assert main(["serve"]) == 1
    assert "pip install 'sficonv[serve]'" in capsys.readouterr().err
    assert main(["scan", str(tmp_path), "--engine", "ray"]) == 1
    assert "--engine ray needs ray" in capsys.readouterr().err
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "onnx" else find_spec(name))
    assert main(["export", "--out", str(tmp_path / "a.onnx")]) == 1
    assert "sficonv[onnx]" in capsys.readouterr().err
