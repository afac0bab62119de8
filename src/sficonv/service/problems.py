"""What the service answers when something goes wrong: a status that is documented, and the reason as JSON."""

from __future__ import annotations

import logging
from typing import NamedTuple

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from sficonv.service.jobs import Jobs, TooBusyError
from sficonv.service.store import StoreError, Trouble, disk_is_full

log = logging.getLogger(__name__)


class Refusal(NamedTuple):
    """A status and the reason."""

    status: int
    detail: str


def refusal(error: StoreError | OSError) -> Refusal:
    """What to answer when the database or the folder of the service fails."""
    if isinstance(error, OSError) and not disk_is_full(error):
        return Refusal(503, f"the service cannot use its folder ({error.strerror}); try again")
    trouble = error.trouble if isinstance(error, StoreError) else Trouble.FULL
    return Refusal(507 if trouble is Trouble.FULL else 503, trouble.value)


def add_handlers(app: FastAPI, jobs: Jobs) -> None:
    """Answer with a reason whatever is raised on the way.

    Args:
        app: The application.
        jobs: Asked to mend its folder when that is the reason.
    """

    @app.exception_handler(TooBusyError)
    async def too_busy(request: Request, error: TooBusyError) -> Response:
        return JSONResponse({"detail": str(error)}, 429, {"Retry-After": "5"})

    @app.exception_handler(StoreError)
    @app.exception_handler(OSError)
    async def folder_fails(request: Request, error: StoreError | OSError) -> Response:
        log.warning("%s %s: %s", request.method, request.url.path, error)
        await run_in_threadpool(jobs.mend, error)
        answer = refusal(error)
        return JSONResponse({"detail": answer.detail}, answer.status, {"Retry-After": "5"})

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return JSONResponse({"detail": f"{first['loc'][-1]}: {first['msg']}"}, 422)

    @app.exception_handler(405)
    async def wrong_method(request: Request, error: HTTPException) -> Response:
        # the router names the methods of the first route of this address only
        known = {
            method
            for route in app.routes
            if route.matches(request.scope)[0] is Match.PARTIAL
            for method in getattr(route, "methods", ())
        }
        return JSONResponse({"detail": "method not allowed here"}, 405, {"Allow": ", ".join(sorted(known))})

    @app.exception_handler(ClientDisconnect)
    async def left(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody is there to read it

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return JSONResponse({"detail": "an error of the service itself; its log says more"}, 500)
