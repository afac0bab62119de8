"""The web page and the REST interface."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware

from sficonv.service.jobs import Jobs, TooBusyError, reason
from sficonv.service.security import REPORT_POLICY, Guard, SecurityHeaders
from sficonv.service.settings import Settings
from sficonv.service.store import ENDED, Job
from sficonv.service.uploads import BodyLimit, display_name, store_upload
from sficonv.version import __version__

CLEANING_EVERY = 60.0
"""Seconds between two looks for jobs that have become old."""

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


class ScanOptions(BaseModel):
    """What of a video is looked at: form fields beside the file."""

    every: float = Field(0.5, gt=0, le=3600, description="Seconds between two sampled frames.")
    start: float = Field(0.0, ge=0, le=1e6, description="Begin here, in seconds.")
    end: float | None = Field(None, gt=0, le=1e6, description="Stop before this time, in seconds.")


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


class Health(BaseModel):
    """The service and its detector."""

    status: str
    version: str
    detector: dict[str, Any]
    waiting: int
    keep_hours: float
    max_upload: int
    token_needed: bool


def create_app(settings: Settings) -> FastAPI:
    """Build the service; the detector is loaded when it starts.

    Args:
        settings: Limits and addresses.

    Returns:
        An ASGI application; run it with one process, it has workers of its own.

    Example:
        >>> app = create_app(Settings(Path("/tmp/sficonv")))
        >>> app.title
        'sficonv'
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.jobs = await run_in_threadpool(Jobs, settings)
        app.state.uploads = asyncio.Semaphore(settings.max_uploads)
        cleaning = asyncio.create_task(_clean_up(app.state.jobs))
        try:
            yield
        finally:
            cleaning.cancel()
            with suppress(asyncio.CancelledError):
                await cleaning
            await run_in_threadpool(app.state.jobs.close)

    app = FastAPI(
        title="sficonv",
        version=__version__,
        description="Judges whether the faces of images and videos look forged. A hint, not proof.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    # the last one added sees a request first
    app.add_middleware(BodyLimit, limit=settings.max_upload)
    app.add_middleware(Guard, token=settings.token)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=settings.hosts, www_redirect=False)
    app.add_middleware(SecurityHeaders)
    _add_api(app, settings)
    _add_pages(app)
    return app


async def _clean_up(jobs: Jobs) -> None:
    while True:
        await run_in_threadpool(jobs.delete_old)
        await asyncio.sleep(CLEANING_EVERY)


async def _judge(jobs: Jobs, path: Path, name: str) -> dict[str, Any]:
    try:
        return await asyncio.wrap_future(jobs.judge_image(path, name))
    except BrokenProcessPool:  # not the fault of this file
        return await asyncio.wrap_future(jobs.judge_image(path, name))


def _view(job: Job, settings: Settings) -> dict[str, Any]:
    expires = job.finished + 3600 * settings.keep_hours if job.finished else None
    fields = {name: getattr(job, name) for name in JobView.model_fields if name != "expires"}
    return fields | {"expires": expires}


def _add_api(app: FastAPI, settings: Settings) -> None:
    @app.exception_handler(TooBusyError)
    async def too_busy(request: Request, error: TooBusyError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 429, {"Retry-After": "5"})

    @app.get("/api/health", tags=["service"])
    async def health() -> Health:
        """Whether the service works, which detector it uses and what it allows."""
        jobs: Jobs = app.state.jobs
        return Health(
            status="ok",
            version=app.version,
            detector=jobs.detector,
            waiting=await run_in_threadpool(jobs.store.waiting),
            keep_hours=settings.keep_hours,
            max_upload=settings.max_upload,
            token_needed=bool(settings.token),
        )

    @app.post("/api/scan", tags=["scan"], openapi_extra=_FORM)
    async def scan(request: Request) -> JSONResponse:
        """Judge one image and wait for the answer; nothing is kept.

        The answer has the fields of `sficonv scan --json`, among them `p_fake` and `verdict`. An image that
        cannot be read is answered with 422, the same fields, and the reason as `detail`; a video with 415.
        """
        jobs: Jobs = app.state.jobs
        path = jobs.upload_of(jobs.new_id())
        try:
            name, kind, _ = await _receive(request, path)
            if kind == "video":
                raise HTTPException(415, "this is a video: send it to /api/jobs")
            try:
                result = await _judge(jobs, path, name)
            except (TooBusyError, asyncio.CancelledError):
                raise
            except Exception as error:
                raise HTTPException(422, reason(error, settings)) from error
        finally:
            await run_in_threadpool(path.unlink, missing_ok=True)
        if result["verdict"] == "error":
            return JSONResponse(result | {"detail": result["error"]}, 422)
        return JSONResponse(result)

    async def _receive(request: Request, path: Path) -> tuple[str, str, ScanOptions]:
        async with app.state.uploads, request.form(max_files=1, max_fields=8) as form:
            upload = form.get("file")
            try:
                options = ScanOptions.model_validate(
                    {key: value for key, value in form.items() if key != "file" and value != ""}
                )
            except ValidationError as error:
                first = error.errors()[0]
                raise HTTPException(422, f"{first['loc'][0]}: {first['msg']}") from error
            kind = await run_in_threadpool(store_upload, upload, path, settings.max_upload)
            return display_name(upload), kind, options  # type: ignore[arg-type]

    @app.post("/api/jobs", status_code=202, tags=["jobs"], openapi_extra=_FORM)
    async def create_job(request: Request) -> JobView:
        """Hand in an image or a video; ask for its state at `/api/jobs/{id}`."""
        jobs: Jobs = app.state.jobs
        await run_in_threadpool(jobs.check_room)
        id = jobs.new_id()
        name, kind, options = await _receive(request, jobs.upload_of(id))
        if options.end is not None and options.end <= options.start:
            jobs.upload_of(id).unlink(missing_ok=True)
            raise HTTPException(422, "end must be later than start")
        chosen = options.model_dump(exclude_defaults=True)
        try:
            job = await run_in_threadpool(jobs.submit, id, name, kind, chosen)
        except TooBusyError:
            jobs.upload_of(id).unlink(missing_ok=True)
            raise
        return JobView(**_view(job, settings))

    @app.get("/api/jobs", tags=["jobs"])
    async def list_jobs(
        limit: Annotated[int, Query(ge=1, le=200)] = 50, offset: Annotated[int, Query(ge=0, le=10**9)] = 0
    ) -> list[JobView]:
        """The jobs that are still kept, the newest first."""
        found = await run_in_threadpool(app.state.jobs.store.newest, limit, offset)
        return [JobView(**_view(job, settings)) for job in found]

    async def _job(id: str) -> Job:
        job: Job | None = await run_in_threadpool(app.state.jobs.store.get, id)
        if job is None:
            raise HTTPException(404, "no such job: it never was, or it has been deleted")
        return job

    @app.get("/api/jobs/{id}", tags=["jobs"])
    async def get_job(id: str) -> JobAnswer:
        """A job's state and, once it is done, the whole answer."""
        job = await _job(id)
        answer = await run_in_threadpool(app.state.jobs.store.answer, id)
        return JobAnswer(**_view(job, settings), **(answer or {}))

    @app.post("/api/jobs/{id}/cancel", tags=["jobs"])
    async def cancel_job(id: str) -> JobView:
        """Stop a job that waits or runs."""
        await _job(id)
        if not await run_in_threadpool(app.state.jobs.cancel, id):
            raise HTTPException(409, "the job has ended already")
        return JobView(**_view(await _job(id), settings))

    @app.delete("/api/jobs/{id}", status_code=204, tags=["jobs"])
    async def delete_job(id: str) -> Response:
        """Stop a job if it runs, and delete it with its files."""
        await _job(id)
        await run_in_threadpool(app.state.jobs.delete, id)
        return Response(status_code=204)

    @app.get("/api/jobs/{id}/report", tags=["jobs"], response_class=FileResponse)
    async def report(id: str) -> FileResponse:
        """The HTML report of a job that is done: one file that can be kept and printed."""
        job = await _job(id)
        if job.state != "done":
            waits = job.state not in ENDED
            raise HTTPException(
                409, "not done yet" if waits else "there is no report: the job did not finish"
            )
        path = app.state.jobs.report_of(job.id)
        headers = {"Content-Security-Policy": REPORT_POLICY}
        return FileResponse(path, media_type="text/html", filename="sficonv-report.html", headers=headers)


def _add_pages(app: FastAPI) -> None:
    static = Path(str(files("sficonv.service") / "static"))

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(static / "index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        return FileResponse(static / "docs.html")

    app.mount("/static", StaticFiles(directory=static))
    # Swagger UI lies in this package, so that the documentation works without a network
    app.mount("/swagger", StaticFiles(packages=[("fastapi_offline", "static")]))
