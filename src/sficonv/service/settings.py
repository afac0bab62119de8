"""What the service allows; every limit in one place."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

_HOST = re.compile(r"\*|(\*\.)?[\w.-]+|\[?[0-9A-Fa-f]*:[0-9A-Fa-f:.]*\]?")
"""A name, a name with all below it, an address; no port."""


@dataclass(frozen=True)
class Settings:
    """Limits and addresses of the service.

    Args:
        folder: Where jobs and uploads are kept; made, for this user only, if missing.
        host: Address to listen on.
        port: Port to listen on.
        weights: The detector, as for `scan`.
        device: As for `scan`.
        workers: Processes that work on jobs; one more answers single images.
        token: Every request to the API must carry it; empty for none.
        keep_hours: Finished jobs are deleted with their files after this time.
        max_upload: Most bytes of one upload.
        max_pixels: Most pixels of an image or a frame.
        max_duration: Longest video, in seconds.
        max_frames: Most frames looked at per video.
        max_waiting: Jobs, and single images, that may wait; more are refused for the moment.
        max_uploads: Uploads under way at the same time; more are refused for the moment.
        upload_pause: Seconds an upload may go without a byte, a connection without the head of a request, and
            an answer without being read.
        upload_rate: Bytes per second that an upload makes on average, after its first `upload_pause` seconds.
        time_limit: Seconds after which the work on one file is stopped.
        memory_limit: Bytes that the work on one file may take beside the loaded detector.
        allowed_hosts: More names under which browsers may call the service; needed when it listens on all
            addresses of the machine. "*" allows every name.
        tidy_every: Seconds between two looks for jobs that have become old, and files that nobody needs.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 8000
    weights: str = "default"
    device: str | None = None
    workers: int = 1
    token: str = ""
    keep_hours: float = 24.0
    max_upload: int = 500_000_000
    max_pixels: int = 64_000_000
    max_duration: float = 3 * 3600.0
    max_frames: int = 240
    max_waiting: int = 100
    max_uploads: int = 200
    upload_pause: float = 20.0
    upload_rate: int = 10_000
    time_limit: float = 1800.0
    memory_limit: int = 3_000_000_000
    allowed_hosts: tuple[str, ...] = ()
    tidy_every: float = 60.0

    def __post_init__(self) -> None:
        for name in (
            "workers", "keep_hours", "max_upload", "max_pixels", "max_duration", "max_frames",
            "max_waiting", "max_uploads", "upload_pause", "upload_rate", "time_limit", "memory_limit",
            "tidy_every",
        ):  # fmt: skip
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.port < 65536:
            raise ValueError(f"port must lie between 0 and 65535, got {self.port}")
        if self.token and (len(self.token) < 16 or not self.token.isascii() or not self.token.isprintable()):
            raise ValueError("token must have at least 16 plain characters: shorter ones can be guessed")
        for name in self.allowed_hosts:
            if not _HOST.fullmatch(name):
                raise ValueError(
                    f"allowed_hosts: {name!r} is no host; give names or addresses, without http:// and port"
                )
        if self._everywhere and not self.allowed_hosts:
            raise ValueError(
                f"host {self.host} listens on all addresses of this machine: say by which names or addresses "
                "it may be called, --allowed-hosts box.example,192.168.1.5 (behind a proxy: the proxy's name)"
            )

    @property
    def _everywhere(self) -> bool:
        try:
            return not self.host or ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def hosts(self) -> list[str]:
        """Host names a request may carry; a page on another site that points its own name here is refused."""
        own = [] if self._everywhere else [self.host]
        return ["127.0.0.1", "localhost", "[::1]", *map(_in_header, (*own, *self.allowed_hosts))]


def _in_header(host: str) -> str:
    """An address of IPv6 stands in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
