"""Files: the log and the artifacts of a run, and the reports of `analyze`."""

from __future__ import annotations

import mimetypes
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.responses import FileResponse, Response

from research_eval.dashboard.answers import ProblemError
from research_eval.dashboard.asking import Ask
from research_eval.dashboard.site import Site

LOG = "run.log"
TAIL_BYTES = 64 * 1024
MAX_REPORT_FILES = 500

_SHOWN = {".html", ".png", ".svg", ".txt", ".md"}
"""What a browser may show; anything else is saved."""

_REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:"


def log(site: Site, ask: Ask) -> dict[str, Any]:
    """Return the end of a run's log."""
    run = site.run(ask.part("run"))
    ask.check()
    path = inside(site.store.artifact_dir / run.experiment_id, LOG)
    if path is None:
        return {"text": "", "bytes": 0, "from": 0}
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - TAIL_BYTES)
        file.seek(start)
        text = file.read(TAIL_BYTES).decode("utf-8", "replace")
    if start:
        text = text.partition("\n")[2]
    return {"text": text, "bytes": size, "from": start}


def artifact(site: Site, ask: Ask) -> Response:
    """Return a file that a run registered, to be saved and never shown."""
    run, name = site.run(ask.part("run")), ask.part("path")
    ask.check()
    listed = {each.path for each in site.store.artifacts(run.experiment_id)}
    path = inside(site.store.artifact_dir, name) if name in listed else None
    if path is None:
        raise ProblemError(404, f"run {run.experiment_id} has no file '{name}' here")
    return _saved(path)


def _saved(path: Path) -> Response:
    return FileResponse(path, media_type="application/octet-stream", filename=path.name)


def reports(site: Site, ask: Ask) -> dict[str, Any]:
    """Return the files of the folder of reports, newest first."""
    ask.check()
    found: list[dict[str, Any]] = []
    for folder, folders, names in os.walk(site.reports):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            path = inside(site.reports, Path(folder, name).relative_to(site.reports).as_posix())
            if path is not None and not name.startswith("."):
                facts = path.stat()
                shown = path.relative_to(site.reports.resolve()).as_posix()
                found.append({"path": shown, "bytes": facts.st_size, "modified": facts.st_mtime})
    found.sort(key=lambda file: (-file["modified"], file["path"]))
    return {"folder": str(site.reports), "files": found[:MAX_REPORT_FILES], "of": len(found)}


def report(site: Site, ask: Ask) -> Response:
    """Return a file of a report: HTML without scripts and in a sandbox, pictures as they are."""
    name = ask.part("path")
    ask.check()
    path = inside(site.reports, name)
    if path is None:
        raise ProblemError(404, f"there is no file '{name}' in the folder of reports")
    if path.suffix not in _SHOWN:
        return _saved(path)
    kind = mimetypes.guess_type(path.name)[0] or "text/plain"
    headers = {
        "Content-Security-Policy": _REPORT_POLICY,
        "Cache-Control": "no-cache",
        "Content-Disposition": f"inline; filename*=utf-8''{quote(path.name)}",
    }
    return FileResponse(path, media_type=kind, headers=headers)


def inside(folder: Path, name: str) -> Path | None:
    """Return a plain file below a folder; None for anything else, links that lead out included."""
    if "\0" in name:
        return None
    root = folder.resolve()
    try:
        path = (root / name).resolve(strict=True)
    except (OSError, RuntimeError):
        return None
    return path if path.is_relative_to(root) and path.is_file() else None
