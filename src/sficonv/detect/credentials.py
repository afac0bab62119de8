"""Content credentials (C2PA) in a file: a fact to stand beside the verdict, never a part of it."""

from __future__ import annotations

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sficonv.pages import printable


def read_credentials(path: Path) -> str | None:
    """What the content credentials of an image or video say, in one sentence.

    They tell who signed the file with which program, and whether it is still as it was signed. Nothing is
    fetched from a network, and signers are not compared with a list of trust: anybody can sign.

    Args:
        path: The file.

    Returns:
        The sentence; `None` without credentials, for a kind of file that can have none, or where the package
        c2pa-python is not installed (`pip install 'sficonv[c2pa]'`).

    Example:
        >>> read_credentials(Path("no_such_file.jpg")) is None
        True
    """
    if find_spec("c2pa") is None:
        return None
    from c2pa import C2paError, Reader

    try:
        if not path.is_file():  # a pipe would wait for ever
            return None
        with path.open("rb") as file:  # not by name: a stranger's suffix would choose the parser
            reader = Reader.try_create(file, context=_offline())
        if reader is None:
            return None
        with reader:
            return _sentence(json.loads(reader.json()))
    except (C2paError, OSError, ValueError, KeyError):
        return None


@cache
def _offline() -> Any:
    from c2pa import Context

    return Context.from_dict({"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}})


def _sentence(found: dict[str, Any]) -> str:
    manifest = found["manifests"][found["active_manifest"]]
    signer = manifest.get("signature_info", {}).get("issuer") or "an unnamed signer"
    makers = [maker.get("name") for maker in manifest.get("claim_generator_info", ()) if maker.get("name")]
    parts = [f"content credentials (C2PA), signed by {signer}"]
    if makers:
        parts.append(f"made with {', '.join(makers)}")
    if sources := _declared_sources(manifest):
        parts.append(f"declared source: {', '.join(sources)}")
    whole = found.get("validation_state") in ("Valid", "Trusted")
    parts.append("unchanged since it was signed" if whole else "CHANGED since it was signed, or not valid")
    return printable("; ".join(parts))


def _declared_sources(manifest: dict[str, Any]) -> list[str]:
    """How the makers say that the content came about, such as `trainedAlgorithmicMedia`."""
    actions = [
        action
        for assertion in manifest.get("assertions", ())
        if str(assertion.get("label", "")).startswith("c2pa.actions")
        for action in assertion.get("data", {}).get("actions", ())
    ]
    sources = [str(action["digitalSourceType"]) for action in actions if action.get("digitalSourceType")]
    return list(dict.fromkeys(source.rpartition("/")[2] for source in sources))
