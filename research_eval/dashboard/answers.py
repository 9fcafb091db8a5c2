"""Answers: JSON with an ETag, CSV, and problems as RFC 9457 has them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.requests import Request
from starlette.responses import Response

from research_eval.errors import FilterError, ResearchEvalError
from research_eval.store.engine import BusyError

_DIGITS = 6
"""Significant ones that a drawn number has: a screen has no more than four."""

_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")


class ProblemError(Exception):
    """An answer that is an error.

    Attributes:
        status: Of HTTP.
        detail: What was asked, what is true, and what to do.
        extra: Further members, for example the position of a mistake.
    """

    def __init__(self, status: int, detail: str, **extra: object) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.extra = extra


def problem_of(error: ResearchEvalError) -> ProblemError:
    """Return what an error of this package is to someone who asked over HTTP."""
    if isinstance(error, FilterError):
        text, position = error.excerpt()
        return ProblemError(400, str(error), position=error.position, excerpt=[text, position])
    if isinstance(error, BusyError):
        return ProblemError(503, str(error))
    return ProblemError({2: 400, 3: 404}.get(error.exit_code, 503), str(error))


def problem_answer(problem: ProblemError) -> Response:
    """Return a problem as `application/problem+json` (RFC 9457)."""
    status = HTTPStatus(problem.status)
    told = {"type": "about:blank", "title": status.phrase, "status": status.value}
    body = json.dumps(told | {"detail": problem.detail} | problem.extra)
    headers = {"Cache-Control": "no-store"}
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = "GET, HEAD"
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "2"
    return Response(body, status, headers, "application/problem+json")


def json_answer(request: Request, value: object) -> Response:
    """Return a value as JSON, or 304 if the asker has just that already."""
    body = json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return tagged(request, body.encode("utf-8", "replace"), "application/json")


def tagged(request: Request, body: bytes, media_type: str, **headers: str) -> Response:
    """Return a body with an ETag of its content, or 304."""
    tag = f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    kept = {"ETag": tag, "Cache-Control": "no-cache"} | headers
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=kept)
    return Response(body, headers=kept, media_type=media_type)


def plain(value: object) -> Any:
    """Return a value as JSON can hold it; NaN and infinities become their names."""
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    if isinstance(value, Iterable):
        return [plain(inner) for inner in value]
    return str(value)


def drawn(values: npt.NDArray[np.floating[Any]]) -> list[float | None]:
    """Return numbers to draw, with as many digits as can be seen; NaN becomes null."""
    return [None if v != v else float(f"{v:.{_DIGITS}g}") for v in values.tolist()]


def csv_answer(request: Request, name: str, header: Sequence[str], rows: Iterable[Any]) -> Response:
    """Return rows as a file that a spreadsheet may open: no cell of text is a formula."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(_cell, header))
    writer.writerows([_cell(value) for value in row] for row in rows)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return tagged(request, out.getvalue().encode("utf-8", "replace"), "text/csv", **headers)


def _cell(value: object) -> str:
    found = plain(value)
    if isinstance(found, str):
        return f"'{found}" if isinstance(value, str) and found.startswith(_FORMULA_SIGNS) else found
    return "" if found is None else json.dumps(found, ensure_ascii=False)
