"""Which faces of consecutive sampled frames are the same person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Box = tuple[float, float, float, float]


@dataclass
class _Track:
    number: int
    time: float
    box: Box
    points: np.ndarray
    look: np.ndarray


class Tracker:
    """Links faces over time by where they are and what they look like.

    A face continues a track that was seen at most `max_gap` seconds ago if its size changed by less than a
    factor of two and either

    - it is about where the track was (the boxes overlap with an IoU above 0.2, or the five landmarks moved by
      less than 0.8 face widths on average) and does not look entirely different (above 0.3, see `look`), so
      that a cut from one person to another ends a track, or
    - it looks the same (above 0.8) and moved by less than three face widths, as when the camera pans.

    Pairs are taken greedily, the likeliest first; a face without a partner starts a track of its own. Nobody
    is recognised: a person who leaves and returns later gets a new track.

    Args:
        max_gap: Seconds a track survives without a face.

    Example:
        >>> tracker = Tracker()
        >>> points = np.full((5, 2), 50.0)
        >>> crop = 255 * np.eye(256, dtype=np.uint8)[..., None].repeat(3, axis=2)
        >>> tracker.update(0.0, [(0, 0, 100, 100)], [points], [look(crop)])
        [0]
        >>> boxes = [(400, 0, 500, 100), (5, 0, 105, 100)]
        >>> tracker.update(0.5, boxes, [points + 400, points + 5], [look(crop), look(crop)])
        [1, 0]
    """

    def __init__(self, *, max_gap: float = 2.0) -> None:
        self.max_gap = max_gap
        self._alive: list[_Track] = []
        self._next = 0
        self._frame_size: tuple[int, int] | None = None

    def update(
        self,
        time: float,
        boxes: list[Box],
        points: list[np.ndarray],
        looks: list[np.ndarray],
        *,
        frame_size: tuple[int, int] | None = None,
    ) -> list[int]:
        """Assign the faces of one frame.

        Args:
            time: Of the frame, in seconds, not before that of the last call.
            boxes: `(x0, y0, x1, y1)` of each face, in pixels.
            points: Landmarks of each face, `(5, 2)`, in pixels.
            looks: `look` of the crop of each face.
            frame_size: Width and height of the frame in pixels. Where they change on the way, what was seen
                before is brought to the new size.

        Returns:
            The track number of each face; numbers count up from 0 and are never reused.
        """
        faces = list(zip(boxes, points, looks, strict=True))
        self._alive = [t for t in self._alive if time - t.time <= self.max_gap]
        self._rescale(frame_size)
        pairs = [
            (likeness, t, number)
            for t, track in enumerate(self._alive)
            for number, face in enumerate(faces)
            if (likeness := _likeness(track, *face)) is not None
        ]
        chosen: dict[int, _Track] = {}
        taken: set[int] = set()
        for _, t, number in sorted(pairs, reverse=True):
            if t not in taken and number not in chosen:
                taken.add(t)
                chosen[number] = self._alive[t]
        for number, (box, marks, seen) in enumerate(faces):
            if number not in chosen:
                chosen[number] = _Track(self._next, time, box, marks, seen)
                self._alive.append(chosen[number])
                self._next += 1
            track = chosen[number]
            track.time, track.box, track.points, track.look = time, box, marks, seen
        return [chosen[number].number for number in range(len(faces))]

    def _rescale(self, frame_size: tuple[int, int] | None) -> None:
        before, self._frame_size = self._frame_size, frame_size
        if before is None or frame_size is None or before == frame_size:
            return
        across, down = frame_size[0] / before[0], frame_size[1] / before[1]
        for track in self._alive:
            x0, y0, x1, y1 = track.box
            track.box = (x0 * across, y0 * down, x1 * across, y1 * down)
            track.points = track.points * np.array([across, down])


def look(crop: np.ndarray) -> np.ndarray:
    """What a face looks like from afar: 16 x 16 colours, freed of brightness and contrast.

    The product of two looks lies in [-1, 1]: high for one person half a second later, mostly lower for
    different people. It links neighbouring samples; it cannot tell people apart in general.

    Args:
        crop: RGB `uint8` `(H, W, 3)`.

    Returns:
        `float32` `(768,)` of length 1 (zeros for a crop of one colour).
    """
    import cv2

    small = cv2.resize(crop, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean(axis=(0, 1))
    return (small / max(float(np.linalg.norm(small)), 1e-6)).ravel()


def _likeness(track: _Track, box: Box, points: np.ndarray, seen: np.ndarray) -> float | None:
    """`None` if the face cannot continue the track, else overlap, closeness and look added up."""
    before, now = _size(track.box), _size(box)
    if not 0.5 < before / now < 2:
        return None
    overlap = _iou(track.box, box)
    shift = float(np.linalg.norm(track.points - points, axis=1).mean()) / float(np.sqrt(before * now))
    alike = float(track.look @ seen)
    same_place = (overlap > 0.2 or shift < 0.8) and alike > 0.3
    same_look = alike > 0.8 and shift < 3
    return overlap + max(0.0, 1.0 - shift) + alike if same_place or same_look else None


def _size(box: Box) -> float:
    return max(1e-6, float(np.sqrt(max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1]))))


def _iou(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (_size(a) ** 2 + _size(b) ** 2 - shared)
