"""Time that continues where the time stamps of a file start again, as in joined recordings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sficonv.media.container import frame_rate, open_video, tick

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

_BACK = 0.5  # seconds that packets go back in the order of decoding: more than any muxer's mistakes
_BACK_AT_KEYFRAME = 0.1  # seconds; a keyframe is shown after all that was stored before it
_LEAP = 10.0  # seconds without a frame in a stream made to be cut anywhere: another recording


class Clock:
    """Rewrites the time stamps of packets, read in order, so that they never start again.

    Args:
        tick: Seconds per unit of the time stamps.
        period: Seconds that a frame is shown.
        leaps: Whether a long step forward is a seam as well.

    Attributes:
        restarts: How often the time stamps started again so far.
    """

    def __init__(self, tick: float, period: float, *, leaps: bool) -> None:
        self._tick, self._step, self._leaps = tick, max(1, round(period / tick)), leaps
        self._latest: int | None = None  # time of the latest frame so far
        self._decoded: int | None = None  # time at which the last packet is decoded
        self._offset = 0
        self.restarts = 0

    def correct(self, packet: Packet[VideoStream]) -> bool:
        """Move the time stamps of the next packet to where they belong; whether they start again with it."""
        if packet.pts is None:  # one after the other
            return False
        seam = self._latest is not None and self._is_seam(packet, self._latest)
        if seam and self._latest is not None:
            self._offset += self._latest + self._step - packet.pts
            self._latest = None
            self.restarts += 1
        self._latest = packet.pts if self._latest is None else max(self._latest, packet.pts)
        self._decoded = packet.dts
        packet.pts += self._offset
        if packet.dts is not None:
            packet.dts += self._offset
        return seam

    def _is_seam(self, packet: Packet[VideoStream], latest: int) -> bool:
        ahead = ((packet.pts or 0) - latest) * self._tick
        if packet.is_keyframe and ahead < -_BACK_AT_KEYFRAME:
            return True
        if packet.dts is None or self._decoded is None:
            return self._leaps and ahead > _LEAP
        back = (self._decoded - packet.dts) * self._tick
        return back > _BACK or (self._leaps and ahead > _LEAP)


@dataclass(frozen=True)
class Survey:
    """What reading (not decoding) a whole stream shows.

    Attributes:
        duration: Seconds to the end of the last frame.
        packets: Frames, as far as each is one packet.
        restarts: How often its time stamps start again.
        end: Where the last packet ends in the file, in bytes; 0 where that is not known.
    """

    duration: float
    packets: int
    restarts: int
    end: int


def survey(path: Path, number: int | None, *, seams: bool) -> Survey:
    """Read all packets of a video stream, of which only the times are kept.

    Args:
        path: The video.
        number: Of the stream, as of `open_video`.
        seams: Whether its time stamps may start again.

    Raises:
        MediaError: As `open_video`.
    """
    from av.error import FFmpegError

    with open_video(path, number) as (container, stream, _):
        unit, period = tick(stream), 1 / frame_rate(stream)
        clock = Clock(unit, period, leaps=may_leap(container))
        correct = clock.correct if seams else lambda packet: False
        first = last = shown = None
        packets = end = 0
        try:
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                packets += 1
                correct(packet)
                end = max(end, (packet.pos or 0) + packet.size) if packet.pos is not None else end
                if packet.pts is None:
                    continue
                first = packet.pts if first is None else min(first, packet.pts)
                if last is None or packet.pts >= last:
                    last, shown = packet.pts, packet.duration
        except FFmpegError:
            pass
        if first is None or last is None:
            return Survey(packets * period, packets, 0, end)
        length = (last - first) * unit + ((shown or 0) * unit or period)
        return Survey(length, packets, clock.restarts, end)


def may_leap(container: object) -> bool:
    """Whether the format is made to be cut and joined anywhere, as broadcasts are."""
    return bool(container.format.flags & 0x0200)  # type: ignore[attr-defined]  # AVFMT_TS_DISCONT
