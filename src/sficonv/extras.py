"""What is installed beyond the core, and how to say that something is missing."""

from __future__ import annotations

from importlib.util import find_spec

from sficonv.errors import MissingPackage, first_few

EXTRAS = {
    "torch": (
        *("torch", "torchvision", "timm", "lightning", "torchmetrics", "safetensors", "huggingface_hub"),
        *("sklearn", "scipy", "pandas", "pyarrow", "matplotlib"),
    ),
    "tables": ("pandas", "pyarrow"),
    "serve": ("fastapi", "fastapi_offline", "uvicorn", "python_multipart"),
    "ray": ("ray",),
    "dlib": ("dlib", "face_recognition_models"),
    "tensorboard": ("tensorboard",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("openvino", "nncf"),
}
"""What each extra is asked for, by the names under which it is imported."""


def installed(package: str) -> bool:
    """Whether a package can be imported, without importing it.

    Example:
        >>> installed("numpy"), installed("no_such_package")
        (True, False)
    """
    try:
        return find_spec(package) is not None
    except ValueError:  # a module that was put in by hand
        return False


def require(extra: str, *packages: str, what: str = "this") -> None:
    """Raise an error that names the extra unless its packages are installed.

    Args:
        extra: The extra that brings them.
        packages: By the names under which they are imported; by default all of `EXTRAS[extra]`.
        what: Who needs them, for the message.

    Raises:
        MissingPackage: If one is missing.

    Example:
        >>> require("serve", "no_such_package", what="the page")
        Traceback (most recent call last):
        ...
        sficonv.errors.MissingPackage: the page needs no_such_package: pip install 'sficonv[serve]'
    """
    if missing := [package for package in packages or EXTRAS[extra] if not installed(package)]:
        raise MissingPackage(f"{what} needs {first_few(missing)}: pip install 'sficonv[{extra}]'")
