"""Scanning with an exported detector needs neither PyTorch nor anything else that training needs."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
from PIL import Image
from skimage.data import astronaut

from sficonv.detect.demo import pan, write_video

ALLOWED = {
    "PIL", "attr", "attrs", "av", "c2pa", "cv2", "docstring_parser", "filelock", "flatbuffers", "google",
    "jinja2", "jsonargparse", "markupsafe", "numpy", "onnxruntime", "packaging", "rich", "typeshed_client",
    "typing_extensions", "yaml",
}  # fmt: skip
"""What `docs/deploy.md` says to install, and what that brings with it."""

PROGRAM = """
import sys, sysconfig
site = sysconfig.get_paths()["purelib"]
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "timm", "lightning", "sklearn", "pandas"}:
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Refuse())
from sficonv.cli.app import main
code = main(sys.argv[1:])
files = {n.split(".")[0]: getattr(m, "__file__", None) or "" for n, m in sys.modules.items() if "." not in n}
print(*(n for n, f in files.items() if f.startswith(site)), sep=",", file=sys.stderr)
sys.exit(code)
"""


def test_a_scan_with_an_exported_detector_loads_no_torch(exported, tmp_path):
    Image.fromarray(astronaut()).save(tmp_path / "photo.jpg")
    write_video(tmp_path / "clip.mp4", pan(astronaut(), frames=20))
    outputs = ["--csv", tmp_path / "scan.csv", "--report", tmp_path / "report.html"]
    command = ["scan", tmp_path / "photo.jpg", tmp_path / "clip.mp4", "--weights", exported[".onnx"].path]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, [*command, *outputs])],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert pd.read_csv(tmp_path / "scan.csv")["p_fake"].notna().all()
    loaded = set(done.stderr.strip().splitlines()[-1].split(","))
    assert "onnxruntime" in loaded
    assert {name for name in loaded if not name.startswith("_")} - ALLOWED - {"sficonv"} == set()
    text = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith("pip install numpy"))
    packages = {"numpy", "pillow", "opencv-python-headless", "av", "filelock", "jinja2", "onnxruntime"}
    assert packages <= set(line.split())
