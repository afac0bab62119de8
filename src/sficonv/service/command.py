"""`sficonv serve`: settings from options, then uvicorn."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sficonv.errors import SficonvError

if TYPE_CHECKING:
    import socket

    from sficonv.service.settings import Settings

SHUTDOWN = 4
"""Seconds for answers under way when the service is to stop."""


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    folder: str | Path | None = None,
    weights: str = "default",
    device: str | None = None,
    workers: int = 1,
    token: str | None = None,
    keep_hours: float = 24.0,
    max_upload_mb: int = 500,
    max_megapixels: int = 64,
    max_duration: float = 3 * 3600.0,
    time_limit: float = 1800.0,
    memory_limit_gb: float = 3.0,
    max_waiting: int = 100,
    allowed_hosts: Sequence[str] | str = (),
) -> None:
    """Start the web page and the REST interface on this machine.

    Open the address it prints: drop an image or a video on the page, see the faces, the scores over time and
    the report. The interface for programs is described at `/docs`. Everything works without a network.

    By default only this machine can reach the service. To open it to others, put it behind a proxy that
    encrypts, set a token, and name the proxy's host in `allowed_hosts`.

    Args:
        host: Address to listen on. Any but this machine's own gives a warning; 0.0.0.0, all addresses, needs
            `allowed_hosts`.
        port: Port to listen on; 0 for any free one.
        folder: Where jobs and uploads are kept, so that they survive a restart; no other user may read it,
            and one service uses it at a time. By default a folder of this user's in the system's temporary
            folder.
        weights: A `.safetensors` file with its model card beside it, an exported `.onnx` or `.xml` file, or
            "default" for the shipped detector.
        device: "cpu", "cuda", "cuda:1", ...; by default a GPU where there is one.
        workers: Processes that work on jobs; one more answers single images.
        token: Every request to `/api` must carry it as `Authorization: Bearer TOKEN`; at least 16
            characters. Default: the environment variable SFICONV_TOKEN, which other users of the machine
            cannot see, unlike an option.
        keep_hours: Hours after which finished jobs are deleted with their files. Uploads are deleted once
            judged.
        max_upload_mb: Largest upload, in megabytes.
        max_megapixels: Largest image or frame, in millions of pixels. A phone makes 12 to 50.
        max_duration: Longest video, in seconds.
        time_limit: Seconds after which the work on one file is stopped.
        memory_limit_gb: Gigabytes that the work on one file may take beside the loaded detector.
        max_waiting: Most jobs that may wait; further ones are refused with 429.
        allowed_hosts: Further names or addresses under which the service may be called, separated by commas:
            `box.example,192.168.1.5`.

    Raises:
        SficonvError: If the packages of the `[serve]` extra are missing.
        ValueError: If an option makes no sense.
        WeightsError: If the weights cannot be used.

    Example:
        >>> serve(port=8080)  # doctest: +SKIP
    """
    from sficonv.service.settings import Settings

    settings = Settings(
        folder=Path(folder) if folder else _default_folder(),
        host=host,
        port=port,
        weights=str(weights),
        device=device,
        workers=workers,
        token=os.environ.get("SFICONV_TOKEN", "") if token is None else token,
        keep_hours=keep_hours,
        max_upload=max_upload_mb * 1_000_000,
        max_pixels=max_megapixels * 1_000_000,
        max_duration=max_duration,
        time_limit=time_limit,
        memory_limit=int(memory_limit_gb * 1e9),
        max_waiting=max_waiting,
        allowed_hosts=_names(allowed_hosts),
    )
    run(settings)


def run(settings: Settings) -> None:
    """Run the service until it is told to stop.

    Args:
        settings: All limits and addresses.

    Raises:
        SficonvError: The packages of the `[serve]` extra are missing, the folder cannot be used, or the
            address is taken.
        WeightsError: The weights cannot be used.
    """
    try:
        import uvicorn

        from sficonv.service.app import create_app
        from sficonv.service.connections import PatientProtocol
        from sficonv.service.jobs import Jobs
    except ModuleNotFoundError as error:
        raise SficonvError(f"{error.name} is missing: pip install 'sficonv[serve]'") from error

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.state.closing.begin()
            await super().shutdown(sockets)

    if not settings.on_loopback:
        open_to = "everybody who can reach this machine" + ("" if settings.token else ", WITHOUT A TOKEN")
        print(
            f"sficonv: WARNING: listening on {settings.host}: open to {open_to}, unencrypted", file=sys.stderr
        )
    with Jobs(settings) as jobs:
        app = create_app(jobs)
        server = Server(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http=partial(PatientProtocol, patience=settings.upload_pause),  # type: ignore[arg-type]
                log_level="info",
                server_header=False,
                timeout_graceful_shutdown=SHUTDOWN,
            )
        )
        with suppress(KeyboardInterrupt):  # the ordinary way to end it
            server.run()
    if not server.started:
        raise SficonvError(
            f"the service did not start on {settings.host} port {settings.port}; the lines above say why"
        )


def _names(hosts: Sequence[str] | str) -> tuple[str, ...]:
    given = hosts.split(",") if isinstance(hosts, str) else hosts
    return tuple(filter(None, map(str.strip, given)))


def _default_folder() -> Path:
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    folder = Path(tempfile.gettempdir()) / f"sficonv-{user}"
    if folder.is_symlink():  # anybody may put one there
        raise SficonvError(f"{folder} is a link; choose a folder of your own with --folder")
    return folder
