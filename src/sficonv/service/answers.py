"""The shapes of what the service answers; the description of the interface is made from them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from sficonv.service.settings import Settings
from sficonv.service.store import Job


class FormFields(BaseModel):
    """What of a video is looked at: form fields beside the file."""

    every: float = Field(0.5, gt=0, le=3600, description="Seconds between two sampled frames.")
    start: float = Field(0.0, ge=0, le=1e6, description="Begin here, in seconds.")
    end: float | SkipJsonSchema[None] = Field(
        None, gt=0, le=1e6, description="Stop before this time, in seconds."
    )


class JobView(BaseModel):
    """One job."""

    id: str
    name: str = Field(description="What the file was called.")
    kind: str = Field(description="image or video, by content.")
    size: int = Field(description="Bytes.")
    state: str = Field(description="waiting, running, done, failed or cancelled.")
    created: float = Field(description="Seconds since 1970.")
    finished: float | None
    progress: float = Field(description="Share of the file that was read, 0 to 1.")
    remaining: float | None = Field(description="Seconds left, estimated while the job runs.")
    verdict: str | None = Field(description="real, fake, uncertain, no_face or error, once done.")
    p_fake: float | None = Field(description="P(fake) of the file, 0 to 1, once done.")
    error: str | None = Field(description="Why there is no verdict, or what is wrong with the file.")
    expires: float | None = Field(description="When the job is deleted, in seconds since 1970.")


class JobAnswer(JobView):
    """One job with all that is known."""

    result: dict[str, Any] | None = Field(None, description="As of 'sficonv scan --json'.")
    pictures: list[dict[str, Any]] = Field(
        [], description="The strongest faces as data URIs; the first with attention map and region shares."
    )


class ScanAnswer(BaseModel):
    """One image, with the fields of 'sficonv scan --json'."""

    model_config = ConfigDict(extra="allow")
    path: str = Field(description="What the file was called.")
    kind: str
    verdict: str = Field(description="real, fake, uncertain, no_face or error.")
    p_fake: float | None = Field(description="P(fake) of the image, 0 to 1; none without a face.")
    error: str | None = Field(description="What is wrong with the file.")
    notes: list[str] = Field(description="Reasons for caution.")
    faces: list[dict[str, Any]] = Field(description="Each face with its box and score.")


class Health(BaseModel):
    """The service and its detector."""

    status: str
    version: str
    detector: dict[str, Any]
    waiting: int
    keep_hours: float
    max_upload: int
    token_needed: bool


class Problem(BaseModel):
    """Why a request is refused."""

    model_config = ConfigDict(extra="allow")
    detail: str


_PROBLEMS = {
    400: "The form is damaged, or the host name is not one of the service's.",
    401: "The token is missing or wrong.",
    403: "Another site made the browser send this.",
    404: "There is no such job: it never existed, or was deleted.",
    405: "This address does not know the method; `Allow` names those that it does.",
    408: "The upload stalled or was too slow.",
    409: "The job is not in a state for this.",
    413: "The file is too large.",
    415: "The file is of a kind that is not judged here.",
    422: "A field, a parameter or the file cannot be used.",
    429: "Too much waits, or too many uploads are under way; come back after `Retry-After` seconds.",
    503: "The service cannot do this at the moment, or is being stopped.",
    507: "The disk of the service is full.",
}
_ANYWHERE = (400, 401, 403, 405, 422, 503, 507)
UPLOADS = (408, 413, 415, 429)
"""What may go wrong with an upload beside the rest."""


def form_with(**fields: Any) -> dict[str, Any]:
    """The description of a form with a file and more fields."""
    schema = {
        "type": "object",
        "required": ["file"],
        "properties": {"file": {"type": "string", "format": "binary"}, **fields},
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a request, for the description of the interface.

    Args:
        statuses: Those beside the ones every request may get.

    Example:
        >>> problems(404)[404]["model"].__name__
        'Problem'
    """
    chosen = sorted({*_ANYWHERE, *statuses})
    return {status: {"model": Problem, "description": _PROBLEMS[status]} for status in chosen}


def view(job: Job, settings: Settings) -> dict[str, Any]:
    """The fields of `JobView`."""
    expires = job.finished + 3600 * settings.keep_hours if job.finished else None
    fields = {name: getattr(job, name) for name in JobView.model_fields if name != "expires"}
    return fields | {"expires": expires}
