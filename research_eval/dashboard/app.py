"""Which address answers what. Every route answers GET and HEAD, and none changes anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from research_eval.dashboard.answers import ProblemError, json_answer, problem_answer, problem_of
from research_eval.dashboard.api import curves, experts, files, runs, studies
from research_eval.dashboard.asking import Ask
from research_eval.dashboard.guard import Admission, Guard
from research_eval.dashboard.live import Doorbell
from research_eval.dashboard.pages import Assets, Pages
from research_eval.dashboard.site import Site
from research_eval.errors import ResearchEvalError

API = "/api/v1"

Handler = Callable[[Site, Ask], Any]
Endpoint = Callable[[Request], Awaitable[Response]]

ANSWERS: dict[str, Handler] = {
    "/meta": runs.about,
    "/runs": runs.listed,
    "/groups": runs.grouped,
    "/compare": runs.compared,
    "/runs/{run}": runs.one,
    "/runs/{run}/log": files.log,
    "/runs/{run}/experts": experts.overview,
    "/runs/{run}/experts/{name}": experts.array,
    "/series": curves.series,
    "/series/later": curves.later,
    "/groups/series": curves.group_series,
    "/studies": studies.listed,
    "/studies/{study:path}": studies.one,
    "/importance": studies.importance,
    "/reports": files.reports,
}
"""What answers in JSON, by address below `/api/v1`."""

FILES: dict[str, Handler] = {
    f"{API}/runs/{{run}}/files/{{path:path}}": files.artifact,
    "/reports/{path:path}": files.report,
}

PAGES = {
    "/runs": ("runs", "Runs"),
    "/runs/{run}": ("run", "Run"),
    "/runs/{run}/experts": ("experts", "Experts"),
    "/compare": ("compare", "Compare"),
    "/studies": ("studies", "Studies"),
    "/studies/{study:path}": ("study", "Study"),
    "/reports": ("reports", "Reports"),
    "/help": ("help", "Help"),
}
"""Template and title by address."""


def create_app(site: Site, doorbell: Doorbell, admission: Admission | None = None) -> ASGIApp:
    """Return the application.

    Args:
        site: What it shows.
        doorbell: Rings when that has changed.
        admission: Who may ask; by default this machine.
    """
    assets = Assets()
    pages = Pages(assets, site.store.info().location)

    async def static(request: Request) -> Response:
        return assets.answer(request)

    async def first(_request: Request) -> Response:
        return RedirectResponse("/runs")

    async def events(request: Request) -> Response:
        Ask(request).check()
        if doorbell.is_full:
            raise ProblemError(
                503, "too many pages listen already; this one asks from time to time"
            )
        headers = {"Cache-Control": "no-store"}
        if request.method == "HEAD":
            return Response(headers=headers, media_type="text/event-stream")
        return StreamingResponse(doorbell.events(), headers=headers, media_type="text/event-stream")

    routes = [
        Route("/", first),
        *(Route(API + path, _json_of(handler, site)) for path, handler in ANSWERS.items()),
        Route(f"{API}/runs.csv", _csv_of(site)),
        Route(f"{API}/events", events),
        *(Route(path, _page_of(pages, *page)) for path, page in PAGES.items()),
        *(Route(path, _file_of(handler, site)) for path, handler in FILES.items()),
        Route("/static/{version}/{path:path}", static),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)],
        exception_handlers={
            ProblemError: _tell_problem,
            ResearchEvalError: _tell_error,
            HTTPException: _tell_http,
            Exception: _tell_defect,
        },
    )
    return Guard(app, admission or Admission())


def _json_of(handler: Handler, site: Site) -> Endpoint:
    async def answer(request: Request) -> Response:
        return await run_in_threadpool(lambda: json_answer(request, handler(site, Ask(request))))

    return answer


def _csv_of(site: Site) -> Endpoint:
    async def answer(request: Request) -> Response:
        return await run_in_threadpool(runs.exported, request, site, Ask(request))

    return answer


def _file_of(handler: Handler, site: Site) -> Endpoint:
    async def answer(request: Request) -> Response:
        found: Response = await run_in_threadpool(handler, site, Ask(request))
        return found

    return answer


def _page_of(pages: Pages, page: str, title: str) -> Endpoint:
    async def answer(request: Request) -> Response:
        return pages.answer(request, page, title)

    return answer


async def _tell_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return problem_answer(error)


async def _tell_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ResearchEvalError)
    return problem_answer(problem_of(error))


async def _tell_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = "there is nothing under this address" if error.status_code == 404 else error.detail
    return problem_answer(ProblemError(error.status_code, detail))


async def _tell_defect(_request: Request, error: Exception) -> Response:
    told = f"this is a defect of research-eval: {type(error).__name__}"
    return problem_answer(ProblemError(500, told))
