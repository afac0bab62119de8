"""Finding small faces in large pictures, and faces that lie on their side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sficonv.faces.detectors import YuNet
from sficonv.faces.face import Face, crop_face
from sficonv.media.resize import resize

FOUND_FROM = 20
"""Pixels of the picture that the network sees from which nearly nine of ten faces are found (of 14: half)."""
_TILE = 1280
_OVERLAP_SHARE = 1.5
_SAME = 0.3  # overlap of two boxes (intersection over union) from which they are one face
_UPRIGHT = 0.9  # an upright face hardly ever scores less, one that is turned hardly ever more
_GAIN = 0.01
_CROP_SIDE, _CROP_MARGIN = 256, 1.6
_SPARE_LOOKS, _SPARE_SHARE = 4, 8


@dataclass(frozen=True)
class TurnedFace:
    """A face in the pixels of the picture, and by how many quarters anticlockwise it is to be turned."""

    face: Face
    turns: int = 0


class FaceSearch:
    """The faces of one file: of a single picture, or of the frames of a video one after the other.

    The network sees a picture at 640 px. Where faces of `smallest` pixels are too small there, it looks again
    at tiles of the picture, at a scale at which it finds them; where it finds nothing, also at the picture
    turned on its sides and upside down. In a video this is done only where nothing was found, and less often
    where it was in vain: every tile and every turn costs as much as the picture itself.

    Args:
        detector: Sees the picture.
        smallest: Shorter side of a face, in pixels, from which it must be found.
        still: Whether there is one picture only.

    Example:
        >>> from skimage.data import astronaut
        >>> search = FaceSearch(YuNet(), smallest=40, still=True)
        >>> [found.turns for found in search(np.rot90(astronaut()))]
        [3]
    """

    def __init__(self, detector: YuNet, *, smallest: int, still: bool) -> None:
        self._detector = detector
        self._smallest = max(smallest, FOUND_FROM)
        self._still = still
        self._frames = self._in_vain = self._coarse = self._found = self._turned = 0
        self._coarsest = 0

    def __call__(self, image: np.ndarray) -> list[TurnedFace]:
        """The faces of the next picture, uint8 `(H, W, 3)`, RGB; the largest first."""
        self._frames += 1
        seen_from = FOUND_FROM * max(1.0, max(image.shape[:2]) / self._detector.long_side)
        faces = self._detector(image)
        thorough = self._still or (not faces and self._in_vain < _SPARE_LOOKS + self._frames // _SPARE_SHARE)
        if thorough and seen_from > self._smallest:
            faces = _merged(faces, self._in_tiles(image, overlap=seen_from))
            seen_from = self._smallest
        found = [TurnedFace(face, self._turns_of(image, face)) for face in faces]
        if thorough and not found:
            found = self._turned_over(image)
            self._in_vain += not found
        self._found += len(found)
        self._turned += sum(face.turns > 0 for face in found)
        self._coarse += seen_from > self._smallest
        self._coarsest = max(self._coarsest, round(seen_from))
        return found

    def notes(self) -> list[str]:
        """What a reader should know: which sizes were looked for, and who does not stand upright."""
        notes = []
        if self._turned:
            notes.append(
                f"{self._turned} of {self._found} faces lie on their side or stand upside down (was the file "
                "turned without saying so?): each was turned upright to be judged"
            )
        if self._coarse and self._coarsest > 1.5 * self._smallest:
            notes.append(
                f"faces below about {self._coarsest} px were not looked for in {self._coarse} of "
                f"{self._frames} frames"
            )
        elif not self._found and self._frames:
            what = "the picture" if self._frames == 1 else "any frame"
            notes.append(
                f"no face of about {self._coarsest} px or more in {what}; smaller ones may be missed"
            )
        return notes

    def _in_tiles(self, image: np.ndarray, overlap: float) -> list[Face]:
        scale = FOUND_FROM / self._smallest
        height, width = image.shape[:2]
        side = round(_TILE / scale)
        shared = min(side // 2, round(_OVERLAP_SHARE * overlap))
        found: list[Face] = []
        for top in _starts(height, side, shared):
            for left in _starts(width, side, shared):
                part = image[top : top + side, left : left + side]
                small = resize(
                    part, (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
                )
                faces = self._detector.search(small, _TILE)
                found = _merged(found, [_moved(face, 1 / scale, left, top) for face in faces])
        return found

    def _turns_of(self, image: np.ndarray, face: Face) -> int:
        """How a face must be turned so that the network is surest of it."""
        if face.score >= _UPRIGHT:
            return 0
        crop, _ = crop_face(image, face, margin=_CROP_MARGIN, size=_CROP_SIDE)
        scores = [self._score_in_middle(np.rot90(crop, turns)) for turns in range(4)]
        best = int(np.argmax(scores))
        return best if scores[best] > max(scores[0], face.score) + _GAIN else 0

    def _score_in_middle(self, crop: np.ndarray) -> float:
        middle = np.full(2, _CROP_SIDE / 2)
        faces = self._detector.search(np.ascontiguousarray(crop), _CROP_SIDE)
        near = [f for f in faces if np.abs(np.reshape(f.box, (2, 2)).mean(0) - middle).max() < _CROP_SIDE / 5]
        return max((face.score for face in near), default=0.0)

    def _turned_over(self, image: np.ndarray) -> list[TurnedFace]:
        """The faces of the picture turned so that most is found, in the pixels of the picture as it is."""
        best: list[TurnedFace] = []
        for turns in (1, 3, 2):
            turned = np.ascontiguousarray(np.rot90(image, turns))
            faces = [face for face in self._detector(turned) if not self._turns_of(turned, face)]
            if sum(face.score for face in faces) > sum(found.face.score for found in best):
                best = [TurnedFace(_turned_back(face, turns, image.shape), turns) for face in faces]
        return best


def turned_upright(crop: np.ndarray, points: np.ndarray, turns: int) -> tuple[np.ndarray, np.ndarray]:
    """A square crop and the points in it (as fractions of its side), turned by quarters anticlockwise."""
    for _ in range(turns):
        points = np.stack([points[:, 1], 1 - points[:, 0]], axis=1)
    return np.ascontiguousarray(np.rot90(crop, turns)), points


def _starts(length: int, side: int, overlap: int) -> Iterator[int]:
    """Where tiles of a side begin so that they overlap and the last one ends with the picture."""
    count = 1 if length <= side else -(-(length - overlap) // (side - overlap))
    for i in range(count):
        yield round(i * (length - side) / (count - 1)) if count > 1 else 0


def _moved(face: Face, factor: float, left: int, top: int) -> Face:
    shift = np.array([left, top], np.float32)
    x0, y0, x1, y1 = (np.reshape(face.box, (2, 2)) * factor + shift).ravel().tolist()
    return Face(
        (x0, y0, x1, y1), (face.landmarks * np.float32(factor) + shift).astype(np.float32), face.score
    )


def _merged(faces: list[Face], more: list[Face]) -> list[Face]:
    """Both lists without what is found twice: what was seen first, and of that the larger, counts."""
    kept = list(faces)
    for face in more:
        if all(_overlap(face.box, other.box) < _SAME for other in kept):
            kept.append(face)
    return sorted(kept, key=lambda face: -face.area)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Shared area over that of the smaller box: a part of a face that a tile shows is in the whole one."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))


def _turned_back(face: Face, turns: int, shape: tuple[int, ...]) -> Face:
    """A face of the picture turned by quarters anticlockwise, in the pixels of the picture itself."""
    height, width = shape[:2]
    corners, points = np.reshape(face.box, (2, 2)), face.landmarks
    for turn in range(turns, 0, -1):
        tall = width if turn % 2 else height  # of the picture after so many turns
        corners, points = (np.stack([tall - p[:, 1], p[:, 0]], axis=1) for p in (corners, points))
    low, high = corners.min(0).tolist(), corners.max(0).tolist()
    return Face((low[0], low[1], high[0], high[1]), points.astype(np.float32), face.score)
