"""Media in, face crops and manifests out.

Names are loaded when they are first used, so that reading an image needs no table library and reading
a manifest no video decoder. `prepare` itself is `sficonv.prepare`; here the name is its module.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sficonv.data.alignment import align_face as align_face
    from sficonv.data.corruptions import CORRUPTIONS as CORRUPTIONS
    from sficonv.data.corruptions import corrupt as corrupt
    from sficonv.data.corruptions import corrupt_clip as corrupt_clip
    from sficonv.data.detectors import create_detector as create_detector
    from sficonv.data.faces import Face as Face
    from sficonv.data.faces import FaceDetector as FaceDetector
    from sficonv.data.faces import crop_face as crop_face
    from sficonv.data.inspection import SourceReport as SourceReport
    from sficonv.data.inspection import inspect_source as inspect_source
    from sficonv.data.layouts import detect_layout as detect_layout
    from sficonv.data.layouts import list_source as list_source
    from sficonv.data.layouts import read_source as read_source
    from sficonv.data.leaks import check_manifest as check_manifest
    from sficonv.data.manifest import manifest_hash as manifest_hash
    from sficonv.data.manifest import read_manifest as read_manifest
    from sficonv.data.manifest import write_manifest as write_manifest
    from sficonv.data.media import iter_media as iter_media
    from sficonv.data.media import media_kind as media_kind
    from sficonv.data.media import read_image as read_image
    from sficonv.data.prepare import PrepareReport as PrepareReport
    from sficonv.data.source import Source as Source
    from sficonv.data.source import SourceItem as SourceItem
    from sficonv.data.video import Frame as Frame
    from sficonv.data.video import VideoInfo as VideoInfo
    from sficonv.data.video import iter_frames as iter_frames
    from sficonv.data.video import probe as probe
    from sficonv.data.video import sample_times as sample_times

_NAMES = {
    "alignment": ("align_face",),
    "corruptions": ("CORRUPTIONS", "corrupt", "corrupt_clip"),
    "detectors": ("create_detector",),
    "faces": ("Face", "FaceDetector", "crop_face"),
    "inspection": ("SourceReport", "inspect_source"),
    "layouts": ("detect_layout", "list_source", "read_source"),
    "leaks": ("check_manifest",),
    "manifest": ("manifest_hash", "read_manifest", "write_manifest"),
    "media": ("iter_media", "media_kind", "read_image"),
    "prepare": ("PrepareReport",),
    "source": ("Source", "SourceItem"),
    "video": ("Frame", "VideoInfo", "iter_frames", "probe", "sample_times"),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
