"""The web page and the REST interface."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

from sficonv.errors import MediaError
from sficonv.media.kinds import media_kind
from sficonv.service.answers import (
    UPLOADS,
    FormFields,
    Health,
    JobAnswer,
    JobView,
    ScanAnswer,
    form_with,
    problems,
    view,
)
from sficonv.service.form import Form, receive_form
from sficonv.service.jobs import Jobs, reason
from sficonv.service.problems import add_handlers
from sficonv.service.security import REPORT_POLICY, Guard, SecurityHeaders
from sficonv.service.store import ENDED, Job, StoreError
from sficonv.service.waiting import BodyLimits, Closing
from sficonv.version import __version__

log = logging.getLogger(__name__)


def create_app(jobs: Jobs) -> FastAPI:
    """Build the application.

    Args:
        jobs: The work behind it; closed when the application ends.

    Returns:
        An ASGI application; run it with one process, it has workers of its own. `state.closing.begin()` ends
        all that waits for a client.

    Example:
        >>> app = create_app(Jobs(settings))  # doctest: +SKIP
    """
    settings, closing = jobs.settings, Closing()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        tidying = asyncio.create_task(_tidy(jobs))
        try:
            yield
        finally:
            tidying.cancel()
            with suppress(asyncio.CancelledError):
                await tidying
            await run_in_threadpool(jobs.close)

    app = FastAPI(
        title="sficonv",
        version=__version__,
        description="Judges whether the faces of images and videos look forged. A hint, not proof.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.state.closing = closing
    # the last one added sees a request first
    app.add_middleware(BodyLimits, settings=settings, closing=closing)
    app.add_middleware(Guard, token=settings.token)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=settings.hosts, www_redirect=False)
    app.add_middleware(SecurityHeaders)
    add_handlers(app, jobs)
    _add_scan(app, jobs, closing)
    _add_jobs(app, jobs)
    _add_report(app, jobs)
    _add_pages(app)
    return app


async def _tidy(jobs: Jobs) -> None:
    """Keep order, whatever fails on the way: the next time it may work."""
    while True:
        try:
            await run_in_threadpool(jobs.tidy)
        except (StoreError, OSError) as error:
            log.warning("old jobs could not be deleted yet: %s", error)
            await run_in_threadpool(jobs.mend, error)
        except Exception:
            log.exception("old jobs could not be deleted, which is tried again")
        await asyncio.sleep(jobs.settings.tidy_every)


async def _receive(request: Request, jobs: Jobs, id: str) -> tuple[Form, str]:
    """The form of a request, its file in its place, and whether that is an image or a video."""
    path = jobs.places.upload(id)
    form = await receive_form(request, path, jobs.settings.max_upload)
    try:
        return form, await run_in_threadpool(media_kind, path)
    except MediaError as error:
        raise HTTPException(415, str(error).removeprefix(f"{path}: ")) from error


async def _judged(request: Request, jobs: Jobs, closing: Closing, id: str, name: str) -> dict[str, Any]:
    """The result, unless the client leaves first: what it does not wait for need not be judged."""
    judging = asyncio.wrap_future(jobs.judge_image(jobs.places.upload(id), name))
    left = asyncio.ensure_future(request.receive())  # nothing else can come after the body
    either: set[asyncio.Future[Any]] = {judging, left}
    try:
        async with closing.patience(None):
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not judging.done():
            raise ClientDisconnect
        return judging.result()
    except (HTTPException, ClientDisconnect, asyncio.CancelledError):
        raise
    except Exception as error:
        raise HTTPException(422, reason(error, jobs.settings)) from error
    finally:
        judging.cancel()
        left.cancel()


async def _found(jobs: Jobs, id: str) -> Job:
    job = await run_in_threadpool(jobs.get, id)
    if job is None:
        raise HTTPException(404, "no such job: it never existed, or was deleted")
    return job


def _options(form: Form) -> FormFields:
    try:
        options = FormFields.model_validate(form.fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise HTTPException(422, f"{first['loc'][0]}: {first['msg']}") from error
    if options.end is not None and options.end <= options.start:
        raise HTTPException(422, "end must be later than start")
    return options


def _add_scan(app: FastAPI, jobs: Jobs, closing: Closing) -> None:
    settings = jobs.settings

    @app.get("/api/health", tags=["service"], responses=problems())
    async def health() -> Health:
        """Whether the service works, which detector it uses and what it allows."""
        return Health(
            status="ok",
            version=app.version,
            detector=jobs.detector,
            waiting=await run_in_threadpool(jobs.store.waiting),
            keep_hours=settings.keep_hours,
            max_upload=settings.max_upload,
            token_needed=bool(settings.token),
        )

    @app.post(
        "/api/scan",
        tags=["scan"],
        openapi_extra=form_with(),
        response_model=None,
        responses={200: {"model": ScanAnswer}, **problems(*UPLOADS)},
    )
    async def scan(request: Request) -> JSONResponse:
        """Judge one image and wait for the answer; nothing is kept.

        The answer has the fields of `sficonv scan --json`, among them `p_fake` and `verdict`. An image that
        cannot be read is answered with 422, the same fields, and the reason as `detail`; a video with 415.
        """
        with jobs.arriving() as id:
            form, kind = await _receive(request, jobs, id)
            if kind == "video":
                raise HTTPException(415, "this is a video: send it to /api/jobs")
            result = await _judged(request, jobs, closing, id, form.name or "file")
        if result["verdict"] == "error":
            return JSONResponse(result | {"detail": result["error"]}, 422)
        return JSONResponse(result)


def _add_jobs(app: FastAPI, jobs: Jobs) -> None:
    settings = jobs.settings

    @app.post(
        "/api/jobs",
        status_code=202,
        tags=["jobs"],
        openapi_extra=form_with(**FormFields.model_json_schema()["properties"]),
        responses=problems(*UPLOADS),
    )
    async def create_job(request: Request) -> JobView:
        """Hand in an image or a video; ask for its state at `/api/jobs/{id}`."""
        await run_in_threadpool(jobs.check_room)
        with jobs.arriving() as id:
            form, kind = await _receive(request, jobs, id)
            options = _options(form).model_dump(exclude_defaults=True)
            job = await run_in_threadpool(jobs.submit, id, form.name or "file", kind, options)
        return JobView(**view(job, settings))

    @app.get("/api/jobs", tags=["jobs"], responses=problems())
    async def list_jobs(
        limit: Annotated[int, Query(ge=1, le=200)] = 50, offset: Annotated[int, Query(ge=0, le=10**9)] = 0
    ) -> list[JobView]:
        """The jobs that are still kept, the newest first."""
        newest = await run_in_threadpool(jobs.newest, limit, offset)
        return [JobView(**view(job, settings)) for job in newest]

    @app.get("/api/jobs/{id}", tags=["jobs"], responses=problems(404))
    async def get_job(id: str) -> JobAnswer:
        """A job's state and, once it is done, the whole answer."""
        job = await _found(jobs, id)
        answer = await run_in_threadpool(jobs.store.answer, id)
        return JobAnswer(**view(job, settings), **(answer or {}))

    @app.post("/api/jobs/{id}/cancel", tags=["jobs"], responses=problems(404, 409))
    async def cancel_job(id: str) -> JobView:
        """Stop a job that waits or runs."""
        await _found(jobs, id)
        if not await run_in_threadpool(jobs.cancel, id):
            raise HTTPException(409, "the job has ended already")
        return JobView(**view(await _found(jobs, id), settings))

    @app.delete("/api/jobs/{id}", status_code=204, tags=["jobs"], responses=problems(404))
    async def delete_job(id: str) -> Response:
        """Stop a job if it runs, and delete it with its files."""
        await _found(jobs, id)
        await run_in_threadpool(jobs.delete, id)
        return Response(status_code=204)


def _add_report(app: FastAPI, jobs: Jobs) -> None:
    @app.get(
        "/api/jobs/{id}/report",
        tags=["jobs"],
        response_class=FileResponse,
        response_model=None,
        responses={200: {"content": {"text/html": {}}}, **problems(404, 409)},
    )
    async def report(id: str) -> FileResponse:
        """The HTML report of a job that is done: one file that can be kept and printed."""
        job = await _found(jobs, id)
        if job.state != "done":
            waits = job.state not in ENDED
            raise HTTPException(
                409, "not done yet" if waits else "there is no report: the job did not finish"
            )
        path = jobs.places.report(job.id)
        if not path.is_file():
            raise HTTPException(404, "the report is gone: its file was removed")
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
