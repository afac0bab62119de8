"""HEIC, the format of the iPhone's photographs, is read through Pillow by libheif."""

from __future__ import annotations

from pathlib import Path

from sficonv.errors import MediaError


def teach_pillow(path: Path) -> None:
    """Make Pillow able to open HEIC files.

    Args:
        path: The file to be read, named where it cannot be.

    Raises:
        MediaError: The package pi-heif is not installed.
    """
    try:
        from pi_heif import register_heif_opener
    except ImportError as error:
        raise MediaError(
            f"{path}: HEIC images need the package pi-heif (pip install pi-heif); or save the image as JPEG"
        ) from error
    register_heif_opener()
