"""The command line as a program: exit codes, what is on standard output, and files of every bad kind."""

from __future__ import annotations

import csv
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import zlib
from importlib import import_module
from pathlib import Path
from struct import pack

import av
import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Group
from rich.table import Table
from skimage.data import astronaut

from sficonv.cli.app import VERBS, main
from sficonv.cli.output import failed, show
from sficonv.detect.demo import pan, write_video
from sficonv.detect.detector import Detector
from sficonv.models import create_model
from sficonv.models.checkpoint import save_weights
from sficonv.preparation.prepare import PrepareReport, Problem


def run(*arguments: str | Path, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sficonv", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return save_weights(tmp_path_factory.mktemp("weights") / "w", create_model("sfic_efficientnet_lite0"))


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    Image.fromarray(astronaut()).save(path, quality=95)
    return path


def bomb(path: Path, side: int = 20_000) -> None:
    """A valid PNG of 20,000 x 20,000 black pixels in 50 kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + side // 8)
    data = b"".join(packer.compress(row * 100) for _ in range(side // 100)) + packer.flush()
    header = pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def sound_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        for _ in range(20):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of good, odd and bad files."""
    folder = tmp_path_factory.mktemp("zoo")
    image = Image.fromarray(astronaut())
    image.save(folder / "good.jpg", quality=95)
    image.convert("L").save(folder / "good_grey.png")
    image.convert("CMYK").save(folder / "good_cmyk.jpg", quality=95)
    deep = np.asarray(image.convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / "good_16bit.png")
    image.putalpha(255)
    image.save(folder / "good_alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees: stored lying, so that it stands again
    image.convert("RGB").transpose(Image.Transpose.ROTATE_90).save(
        folder / "good_exif.jpg", exif=exif, quality=95
    )
    Image.new("RGB", (1, 1)).save(folder / "faceless_1x1.png")

    (folder / "bad_empty.jpg").touch()
    (folder / "bad_text.jpg").write_text("this is not a picture")
    bomb(folder / "bad_bomb.png")
    sound_only(folder / "bad_sound.mp4")
    write_video(folder / "bad_cut.mp4", pan(astronaut()))
    image.save(folder / "bad_cut.png")
    image.convert("RGB").save(folder / "bad_cut.jpg", quality=95)
    for cut in folder.glob("bad_cut.*"):
        cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    return folder


def test_bad_files_cost_only_their_own_verdict(zoo, weights, tmp_path):
    missing = tmp_path / "bad_missing.jpg"
    table, report = tmp_path / "out.csv", tmp_path / "out.html"
    done = run("scan", zoo, missing, "--weights", weights, "--json", "--csv", table, "--report", report)
    assert done.returncode == 1, done.stderr
    results = json.loads(done.stdout)
    found = {Path(r["path"]).name: r for r in results}
    detector = Detector(weights, device="cpu")
    assert found.keys() == {p.name for p in zoo.iterdir()} | {missing.name}
    for name, result in found.items():
        if name.startswith("good"):
            assert result["error"] is None, name
            assert result["p_fake"] == pytest.approx(detector(zoo / name).p_fake, abs=1e-3), name
            assert result["verdict"] == detector.verdict(result["p_fake"]), name
        elif name.startswith("faceless"):
            assert (result["verdict"], result["error"], result["p_fake"]) == ("no_face", None, None)
        elif name.startswith("bad_cut") and result["p_fake"] is not None:  # judged by what is there
            assert name in result["error"]
        else:
            assert (result["verdict"], result["p_fake"]) == ("error", None), name
            assert name in result["error"]
            assert "\n" not in result["error"]
    assert "pixels" in found["bad_bomb.png"]["error"]
    rows = list(csv.DictReader(table.open()))
    assert [row["path"] for row in rows] == [r["path"] for r in results]
    page = report.read_text(encoding="utf-8")
    assert all(name in page for name in found)


def test_good_files_alone_are_success_and_text_is_for_people(photo, weights, capsys):
    assert main(["scan", str(photo), "--weights", str(weights)]) == 0
    out = capsys.readouterr().out
    assert str(photo) in out
    assert "1 file: 1 " in out


def test_one_bad_file_is_failure(photo, weights, tmp_path, capsys):
    (tmp_path / "a.jpg").touch()
    assert main(["scan", str(photo), str(tmp_path), "--weights", str(weights), "--json"]) == 1
    assert [r["verdict"] == "error" for r in json.loads(capsys.readouterr().out)] == [False, True]


def test_what_a_library_prints_does_not_reach_the_json(photo, weights, capsys, monkeypatch):
    import sficonv.media.images as media

    read = media.read_picture
    monkeypatch.setattr(media, "read_picture", lambda *a, **k: print("chatter") or read(*a, **k))
    assert main(["scan", str(photo), "--weights", str(weights), "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)[0]["error"] is None
    assert "chatter" in printed.err


@pytest.mark.parametrize("option", ["--csv", "--report"])
def test_what_cannot_be_written_is_found_out_before_the_work(photo, tmp_path, capsys, monkeypatch, option):
    scan = import_module("sficonv.detect.scan")  # the package has a function of that name
    monkeypatch.setattr(scan, "sources_of", lambda paths: pytest.fail("the work has begun"))
    (tmp_path / "file").touch()
    target = tmp_path / "file" / ("a.csv" if option == "--csv" else "a.html")
    assert main(["scan", str(photo), option, str(target)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    assert "file" in printed.err


def test_a_failed_scan_leaves_no_empty_table(photo, weights, tmp_path, capsys):
    table = tmp_path / "new" / "a.csv"
    assert main(["scan", str(photo), "--weights", str(tmp_path / "no.safetensors"), "--csv", str(table)]) == 1
    assert not table.exists()
    assert main(["scan", str(photo), "--weights", str(weights), "--csv", str(table)]) == 0
    assert len(list(csv.DictReader(table.open()))) == 1
    assert f"csv: {table}" in capsys.readouterr().out


def test_preparing_fails_where_a_source_file_is_broken_or_nothing_was_found(photo, tmp_path, capsys):
    source = tmp_path / "source"
    for label in ("real", "fake"):
        (source / label).mkdir(parents=True)
        (source / label / f"{label}.jpg").write_bytes(photo.read_bytes())

    def prepare(out: str) -> int:
        return main(["prepare", str(source), "--out", str(tmp_path / out), "--workers", "0"])

    assert prepare("good") == 0
    (source / "real" / "text.jpg").write_text("not a picture")
    assert prepare("broken") == 1
    assert "2 crops of 3 files" in capsys.readouterr().out


def report_of(**changes: object) -> PrepareReport:
    fields = {
        "out": Path("out"),
        "layout": "folder",
        "items": 2,
        "resumed": 0,
        "crops": 2,
        "frames_sampled": 2,
        "frames_without_face": 0,
        "problems": [],
        "counts": [],
    }
    return PrepareReport(**fields | changes)


def test_what_counts_as_a_failed_preparation():
    assert not failed(report_of())
    assert not failed(report_of(problems=[Problem("a.jpg", "no_face", "no face")]))
    assert failed(report_of(problems=[Problem("a.jpg", "unreadable", "no image")]))
    assert failed(report_of(crops=0))


def test_a_summary_cannot_drive_the_terminal(capsys):
    show(report_of(notes=["a\x1b[2Jb", "bell\x07"]), {})
    out = capsys.readouterr().out
    assert r"note: a\x1b[2Jb" in out
    assert r"bell\x07" in out
    assert out.count("\n") == 4

    class Tables:
        def summary(self) -> Group:
            return Group("title \x1b[2J", Table("a\x1b]0;b"))

    show(Tables(), {})
    assert "\x1b" not in capsys.readouterr().out


class RunsCode:
    """Unpickling this creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pkl", ".pt", ".ckpt"])
def test_a_pickle_is_refused_and_its_code_does_not_run(photo, weights, tmp_path, capsys, suffix):
    proof, evil = tmp_path / "it-ran", tmp_path / f"evil{suffix}"
    evil.write_bytes(pickle.dumps({"state_dict": RunsCode(proof)}))
    evil.with_suffix(".json").write_bytes(weights.with_suffix(".json").read_bytes())
    assert main(["scan", str(photo), "--weights", str(evil)]) == 1
    assert evil.name in capsys.readouterr().err
    assert not proof.exists()
    pickle.loads(evil.read_bytes())
    assert proof.exists()  # so it was a real trap


def test_weights_that_do_not_fit_are_one_clear_line(photo, weights, tmp_path, capsys):
    def refused(path: Path, *words: str) -> None:
        words = words or (path.name,)
        assert main(["scan", str(photo), "--weights", str(path), "--json"]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        assert "Traceback" not in printed.err
        assert all(word in printed.err for word in words)

    def card_for(path: Path, **changes: object) -> Path:
        card = json.loads(weights.with_suffix(".json").read_text())
        path.with_suffix(".json").write_text(json.dumps(card | changes))
        return path

    refused(tmp_path / "missing.safetensors")
    other = card_for(tmp_path / "other.safetensors", model="resnet26", options={})
    other.write_bytes(weights.read_bytes())
    refused(other, other.name, "resnet26")
    corrupt = card_for(tmp_path / "corrupt.safetensors")
    corrupt.write_bytes(weights.read_bytes()[:-1000])
    refused(corrupt)
    empty = card_for(tmp_path / "empty.safetensors")
    empty.touch()
    refused(empty)
    cardless = tmp_path / "cardless.safetensors"
    cardless.write_bytes(weights.read_bytes())
    refused(cardless, "cardless", "card")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["judge"],
        ["scan"],
        ["scan", "a.jpg", "--every", "soon"],
        ["scan", "a.jpg", "--every", "0"],
        ["scan", "a.jpg", "--nonsense"],
        ["scan", "a.jpg", "--report", "a.jpg"],
        ["scan", "a.jpg", "--csv", "a.jpg"],
        ["train"],
        ["complexity", "no_such_model"],
    ],
)
def test_bad_usage_is_2(arguments, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.jpg").touch()
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    assert printed.err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_an_example(verb, capsys):
    assert main([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert VERBS[verb].example in out
    assert f"usage: sficonv {verb}" in out
    assert "--json" in out


def test_the_top_level_is_quick_and_lists_the_verbs(capsys):
    code = (
        "import sys, sficonv, sficonv.cli.app; assert sficonv.cli.app.main(['--help']) == 0;"
        "heavy = {'torch', 'numpy', 'cv2', 'pandas', 'jsonargparse'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(verb in done.stdout for verb in VERBS)


def test_scanning_does_not_load_what_training_needs(photo, weights):
    code = (
        "import sys; from sficonv.cli.app import main;"
        f"assert main(['scan', {str(photo)!r}, '--weights', {str(weights)!r}]) == 0;"
        "heavy = {'lightning', 'pandas', 'matplotlib', 'sklearn', 'pyarrow', 'skimage'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("sficonv ")


def test_options_come_from_a_config_file_and_dashes_are_underscores(photo, weights, tmp_path, capsys):
    config = tmp_path / "scan.yaml"
    config.write_text(f"weights: {weights}\nmin_face: 4000\n")
    assert main(["scan", str(photo), "--config", str(config), "--json"]) == 0
    assert "4000 px" in json.loads(capsys.readouterr().out)[0]["notes"][0]
    assert main(["scan", str(photo), "--config", str(config), "--min-face=5000", "--json"]) == 0
    assert "5000 px" in json.loads(capsys.readouterr().out)[0]["notes"][0]
    config.write_text("wieghts: a\n")
    assert main(["scan", str(photo), "--config", str(config)]) == 2


def test_names_that_look_like_yaml_or_options(photo, weights, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["null", "1.0", "[a].jpg", "{a: b}.jpg", "--json.jpg", "a b\n.jpg"]
    for name in names:
        Path(name).write_bytes(photo.read_bytes())
    assert main(["scan", "--json", "--weights", str(weights), "--", *names]) == 0
    assert [r["path"] for r in json.loads(capsys.readouterr().out)] == names
    assert main(["scan", "--weights", str(weights), "a b\n.jpg"]) == 0
    assert r"a b\n.jpg" in capsys.readouterr().out


def test_models_and_complexity(capsys):
    assert main(["models", "sfic_*", "--json"]) == 0
    names = json.loads(capsys.readouterr().out)
    assert "sfic_resnet26" in names
    assert all(name.startswith("sfic_") for name in names)
    assert main(["complexity", "resnet26", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["params"] == 13_950_274


def test_explain(photo, weights, tmp_path, capsys):
    assert main(["explain", str(photo), "--weights", str(weights), "--out", str(tmp_path), "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert all(Path(picture).is_file() for picture in answer["pictures"].values())
    assert "entropy" in answer["numbers"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_an_interrupt_is_one_line_and_130(photo, weights, tmp_path, interruptible):
    for i in range(200):
        (tmp_path / f"{i}.jpg").symlink_to(photo)
    command = [sys.executable, "-m", "sficonv", "scan", str(tmp_path), "--weights", str(weights)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible
    ) as process:
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    # Python ends itself with the signal where it hit code that C evaluates; a shell shows 130 for that too.
    assert process.returncode in (130, -signal.SIGINT), err
    assert "Traceback" not in err
    assert "interrupted" in err
    assert out == ""
