"""Weights from a repository of the Hugging Face Hub: tensors and a model card, never code."""

from __future__ import annotations

import re
from pathlib import Path

from sficonv.errors import WeightsError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
_FILES = (".safetensors", ".json", ".onnx", ".xml", ".bin", ".pt", ".pth", ".pkl", ".ckpt", ".tar", ".h5")


def is_repository(name: str | Path) -> bool:
    """Whether `name` can only mean a repository: `owner/name[@revision]`, and no file and no folder.

    Args:
        name: What the user gave as weights.

    Example:
        >>> is_repository("owner/detector"), is_repository("owner/detector.safetensors")
        (True, False)
        >>> is_repository("owner/detector@v1.0")
        True
    """
    text = str(name)
    if not _NAME.fullmatch(text) or text.lower().endswith(_FILES):
        return False
    return not Path(text).exists() and not Path(text).parent.exists()


def fetch(repository: str) -> Path:
    """Download the weights and the card of a repository, or find them in the cache of earlier downloads.

    Only `.safetensors` and `.json` files of its top folder are fetched, so nothing of it can run code.

    Args:
        repository: `owner/name`, or `owner/name@revision` with a commit, a tag or a branch. Its owner may
            change what the main branch, the default, holds; a commit stays what it is. The repository must
            hold one `.safetensors` file with its model card, a `.json` of the same name (what `save_weights`
            writes), beside it.

    Returns:
        The `.safetensors` file in the cache.

    Raises:
        WeightsError: If the repository is neither in the cache nor to be reached, or holds no such pair.

    Example:
        >>> fetch("owner/detector")  # doctest: +SKIP
        PosixPath('.../weights.safetensors')
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise WeightsError(
            f"{repository}: no such weights file. If it is a repository of the Hugging Face Hub: "
            "pip install huggingface_hub"
        ) from error
    name, _, revision = repository.partition("@")
    try:
        patterns = ["*.safetensors", "*.json"]
        folder = Path(
            snapshot_download(
                name, revision=revision or None, allow_patterns=patterns, ignore_patterns=["*/*"]
            )
        )
    except Exception as error:  # one class per way in which a network can fail
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise WeightsError(
            f"{repository}: no such weights file, and no repository of that name of the Hugging Face Hub "
            f"could be read ({reason}). Without a network, name a .safetensors file or 'default'"
        ) from error
    found = [path for path in sorted(folder.glob("*.safetensors")) if path.with_suffix(".json").is_file()]
    if len(found) != 1:
        raise WeightsError(
            f"{repository}: expected one .safetensors file with its model card (.json) beside it, "
            f"found {len(found)}"
        )
    return found[0]
