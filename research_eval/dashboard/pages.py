"""HTML, styles and scripts: a shell for each page, which scripts fill from the API."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

from research_eval.dashboard.answers import ProblemError, tagged

NAVIGATION = (
    ("/runs", "Runs"),
    ("/studies", "Studies"),
    ("/reports", "Reports"),
    ("/help", "Help"),
)

_STATIC = files("research_eval.dashboard") / "static"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".txt": "text/plain", ".md": "text/plain"}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that pages load, compressed once."""

    body: bytes
    compressed: bytes
    media_type: str


class Assets:
    """All styles and scripts, read once: no request reaches the file system.

    Attributes:
        version: Hash of all of them; it stands in their addresses, so that browsers keep them.
    """

    def __init__(self) -> None:
        digest = hashlib.blake2b(digest_size=6)
        self._files: dict[str, Asset] = {}
        sources = {name: file.read_bytes() for name, file in _walk(_STATIC)}
        # One request less: the style of the charts is served with that of the pages.
        sources["style.css"] = sources["vendor/uPlot.min.css"] + sources["style.css"]
        for name, body in sorted(sources.items()):
            digest.update(name.encode() + body)
            suffix = name[name.rfind(".") :]
            kind = _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "text/plain"
            self._files[name] = Asset(body, gzip.compress(body, 9, mtime=0), kind)
        self.version = digest.hexdigest()

    def answer(self, request: Request) -> Response:
        """Return a file, which a browser may keep for ever under its address.

        Raises:
            ProblemError: If there is none of this name, or of this version.
        """
        found = self._files.get(request.path_params["path"])
        if found is None or request.path_params["version"] != self.version:
            raise ProblemError(404, "there is no such file; load the page anew")
        headers = {
            "Cache-Control": "public, max-age=31536000, immutable",
            "Vary": "Accept-Encoding",
        }
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(found.body, headers=headers, media_type=found.media_type)
        headers["Content-Encoding"] = "gzip"
        return Response(found.compressed, headers=headers, media_type=found.media_type)


def _walk(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        else:
            yield f"{prefix}{entry.name}", entry


class Pages:
    """The HTML of every page.

    Args:
        assets: What they load.
        location: Of the store, as its owner reads it.
    """

    def __init__(self, assets: Assets, location: str) -> None:
        self._environment = Environment(
            loader=PackageLoader("research_eval.dashboard"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._shared = {"version": assets.version, "navigation": NAVIGATION, "location": location}

    def answer(self, request: Request, page: str, title: str) -> Response:
        """Return a page.

        Args:
            request: Parts of its path are handed to the script.
            page: Name of the template, and of the script if it has one.
            title: Of the window.
        """
        template = self._environment.get_template(f"{page}.html")
        parts = {name: str(part) for name, part in request.path_params.items()}
        path = request.url.path
        html = template.render(self._shared, page=page, title=title, parts=parts, path=path)
        return tagged(request, html.encode("utf-8", "replace"), "text/html")
