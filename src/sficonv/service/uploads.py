"""Receiving files: bounded in size and number, stored under random names, told apart by their content."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sficonv.errors import MediaError

FORM_OVERHEAD = 100_000
"""Bytes of a form beside the file in it."""
NAME_LENGTH = 200


class BodyLimit:
    """Refuse a request body as soon as it grows past the limit, before it is read to its end.

    Args:
        app: The application behind it.
        limit: Most bytes of a body.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app, self.limit = app, limit + FORM_OVERHEAD

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on a request whose body is counted while it comes."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        received = 0

        async def counting() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit:
                raise HTTPException(413, too_large(self.limit - FORM_OVERHEAD))
            return message

        return await self.app(scope, counting, send)


def too_large(limit: int) -> str:
    """What to tell of an upload that is too large."""
    return f"the file is larger than the limit of {limit / 1e6:.0f} MB"


def store_upload(upload: Any, target: Path, limit: int) -> Literal["image", "video"]:
    """Write an upload to a file and say what it is.

    Args:
        upload: The part of the form.
        target: Where to write; removed again if the upload is refused.
        limit: Most bytes.

    Raises:
        HTTPException: 422 without a file, 413 too large, 415 neither image nor video; each with the reason.
    """
    from sficonv.media.kinds import media_kind

    if not isinstance(upload, UploadFile):
        raise HTTPException(422, "send one file in the multipart field 'file'")
    try:
        with target.open("xb") as file:
            target.chmod(0o600)
            shutil.copyfileobj(upload.file, file, 1 << 20)
        if target.stat().st_size > limit:
            raise HTTPException(413, too_large(limit))
        return media_kind(target)
    except MediaError as error:
        target.unlink(missing_ok=True)
        raise HTTPException(415, str(error).removeprefix(f"{target}: ")) from error
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def display_name(upload: UploadFile) -> str:
    """What the user calls the file, for showing only: no folders, nothing a terminal or page could act on."""
    from sficonv.pages import printable

    name = (upload.filename or "file").replace("\\", "/").rpartition("/")[2]
    return printable(name)[:NAME_LENGTH] or "file"
