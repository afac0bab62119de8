"""A multipart form whose file goes to the disk as it arrives."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from email.utils import collapse_rfc2231_value
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request

from sficonv.service.waiting import too_large

PIECE = 1 << 18
"""Bytes that are gathered before they are written."""
MAX_FIELDS = 8
MAX_FIELD_SIZE = 1000
NAME_LENGTH = 200


@dataclass
class Form:
    """What a form held.

    Args:
        fields: Its text fields.
        name: What the user calls the file, for showing only; `None` if there was none.
        size: Bytes of the file.
    """

    fields: dict[str, str] = field(default_factory=dict)
    name: str | None = None
    size: int = 0


async def receive_form(request: Request, target: Path, limit: int) -> Form:
    """Read the form of a request and write the file in its field `file` while it comes.

    Args:
        request: Its body is read to the end.
        target: Where to write the file; made for this user only, and left there whatever happens.
        limit: Most bytes of the file.

    Raises:
        HTTPException: 400 for a damaged form, 413 for a file that is too large, 422 without a file; each with
            the reason.
        ClientDisconnect: The client left.
        OSError: The file cannot be written.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise HTTPException(422, "send one file in the multipart field 'file'")
    file = await run_in_threadpool(_create, target)
    try:
        parts = _Parts(options[b"boundary"])
        async for data in request.stream():
            parts.write(data)
            if parts.form.size > limit:
                raise HTTPException(413, too_large(limit))
            if len(parts.unwritten) >= PIECE:
                await run_in_threadpool(file.write, parts.take())
        await run_in_threadpool(file.write, parts.take())
    except FormParserError as error:
        raise HTTPException(400, f"the form is damaged: {error}") from error
    finally:
        await run_in_threadpool(file.close)
    if not parts.complete:
        raise HTTPException(400, "the form ends early")
    if parts.form.name is None:
        raise HTTPException(422, "send one file in the multipart field 'file'")
    return parts.form


def _create(target: Path) -> BinaryIO:
    return os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


class _Parts:
    """The parts of a form as they come."""

    def __init__(self, boundary: bytes) -> None:
        self.form = Form()
        self.complete = False
        self.unwritten = bytearray()  # of the file
        self._headers: dict[str, str] = {}
        self._header = [bytearray(), bytearray()]  # name and value
        self._begun = 0  # parts
        self._take: Callable[[bytes], None] = lambda data: None
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._headers.clear,
                "on_header_begin": self._begin_header,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_part,
                "on_part_data": lambda data, start, end: self._take(data[start:end]),
                "on_end": self._end,
            },
        )

    def write(self, data: bytes) -> None:
        """Take in a piece of the body."""
        self._parser.write(data)

    def take(self) -> bytes:
        """What has come of the file since the last call."""
        taken = bytes(self.unwritten)
        self.unwritten.clear()
        return taken

    def _begin_header(self) -> None:
        self._header = [bytearray(), bytearray()]

    def _end_header(self) -> None:
        name, value = (part.decode("utf-8", "replace") for part in self._header)
        self._headers[name.lower()] = value

    def _begin_part(self) -> None:
        self._begun += 1
        if self._begun > MAX_FIELDS + 1:  # also of parts that share a name: each takes time
            raise HTTPException(422, f"the form has more than {MAX_FIELDS} fields beside the file")
        field, filename = _disposition(self._headers.get("content-disposition", ""))
        if filename is None:
            self._begin_field(field)
        elif field != "file" or self.form.name is not None:
            raise HTTPException(422, "send one file, in the multipart field 'file'")
        else:
            self.form.name = display_name(filename)
            self._take = self._take_file

    def _begin_field(self, field: str) -> None:
        value = bytearray()
        self.form.fields[field] = ""

        def take(data: bytes) -> None:
            value.extend(data)
            if len(value) > MAX_FIELD_SIZE:
                raise HTTPException(422, f"{field[:50]}: more than {MAX_FIELD_SIZE} characters")
            self.form.fields[field] = value.decode("utf-8", "replace")

        self._take = take

    def _take_file(self, data: bytes) -> None:
        self.unwritten += data
        self.form.size += len(data)

    def _end(self) -> None:
        self.complete = True


def _disposition(header: str) -> tuple[str, str | None]:
    """The field and the file name of a part; `filename*=` (RFC 5987) counts before `filename=`."""
    message = Message()
    message["content-disposition"] = header
    values: dict[str, str] = {}
    for key, value in message.get_params([], header="content-disposition"):
        with suppress(ValueError):  # some encodings refuse some bytes
            values[key.lower()] = collapse_rfc2231_value(value)
    return values.get("name", ""), values.get("filename")


def display_name(name: str) -> str:
    """A file's name for showing: no folders, nothing a terminal or page could act on.

    Args:
        name: As the client sent it.

    Example:
        >>> display_name("C:\\\\me\\\\clip.mp4")
        'clip.mp4'
    """
    from sficonv.pages import printable

    return printable(name.replace("\\", "/").rpartition("/")[2])[:NAME_LENGTH] or "file"
