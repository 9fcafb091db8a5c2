"""Replaces what identifies in text, JSON, programs and records, and keeps an account."""

from __future__ import annotations

import ast
import html
import io
import json
import re
import tokenize
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from html.entities import codepoint2name
from itertools import accumulate
from typing import Any
from urllib.parse import quote

from research_eval.anonymity.identities import (
    PLACES,
    Identity,
    Kind,
    identities_here,
    identities_of,
    kind_of,
    vocabulary,
    with_parts,
)
from research_eval.records import RunRecord

PREFIX = "anon"
SHORTEST_WORD = 4
COMMON_WORDS = frozenset(
    [
        "admin", "administrator", "build", "code", "colab", "data", "default", "docker", "example",
        "github", "gitlab", "guest", "home", "jovyan", "local", "localdomain", "localhost", "main",
        "model", "models", "nobody", "project", "projects", "research", "research-eval",
        "research_eval", "root", "runner", "server", "system", "test", "tests", "train", "training",
        "ubuntu", "unknown", "user", "users", "vscode", "work", "worker",
    ]
)  # fmt: skip
NEEDED_PACKAGES = frozenset(
    [
        "alembic", "datasets", "huggingface-hub", "matplotlib", "numpy", "optuna", "pandas",
        "psutil", "pyarrow", "pydantic", "pydantic-core", "research-eval", "rich", "safetensors",
        "scipy", "sqlalchemy", "tokenizers", "torch", "transformers", "triton", "typer",
    ]
)  # fmt: skip
_TEXT_FIELDS = (
    "experiment_id", "experiment_name", "project", "model_type", "dataset_name", "group", "parent",
    "study", "git_commit", "git_diff", "hardware", "host", "error",
)  # fmt: skip
_JSON_FIELDS = ("full_config_json", "env_details_json", "config_schema_json", "argv")
_PUBLIC_SITES = ("arxiv.org", "doi.org", "json-schema.org", "w3.org", "pytorch.org", "python.org",
                 "matplotlib.org", "localhost", "127.0.0.1")  # fmt: skip
_SYSTEM = ("/usr/", "/bin/", "/lib/", "/lib64/", "/etc/", "/dev/", "/proc/", "/sys/")
_LANDMARKS = ("site-packages", "dist-packages", "research_eval")
_NAME_OF_FILE = re.compile(r"(python[\d.]*|research-eval|.*\.[A-Za-z]\w{0,11})$")

_SEGMENT = r"""[^\s/\\"'<>|:;,()\[\]{}=*?&`$#]+"""
_SHAPES = rf"""
(?P<data>data:[\w/+.-]+;base64,[A-Za-z0-9+/=]+)
|(?P<url>\b[a-z][a-z0-9+.-]*://[^\s"'<>\\]+|\bgit@[\w.-]+:[\w./~-]+)
|(?P<email>(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[a-z]{{2,}}(?![\w(\[]))
|(?P<windows>(?<![A-Za-z])[A-Za-z]:[\\/]+(?:Users[\\/]+[^\\/:*?"<>|\n]+|{_SEGMENT})
  (?:[\\/]+{_SEGMENT})+)
|(?P<quoted>(?<=["'])/(?!/)[^"'\n/<>]+/[^"'\n<>]+(?=["']))
|(?P<posix>(?<![\w.#<)\]}}/+\-*~&;])(?:~[\w.-]*/|/(?!/){_SEGMENT}/){_SEGMENT}(?:/{_SEGMENT})*
  |/(?:home|Users)/{_SEGMENT}(?:/{_SEGMENT})*)
"""


@dataclass(slots=True)
class Removed:
    """What was removed of one kind.

    Attributes:
        things: What was removed, by its placeholder.
        count: How often one was put in.
        example: Where the first of them stood.
    """

    kind: Kind
    things: dict[str, str] = field(default_factory=dict)
    count: int = 0
    example: str = ""


class Anonymizer:
    """Replaces what identifies, the same thing by the same placeholder, and keeps an account.

    Args:
        identities: What is known to identify.
        keep: Words that mean something here, for example names of models and metrics; a name that
            is one of them counts as a common word.
    """

    def __init__(self, identities: Iterable[Identity], keep: Iterable[str] = ()) -> None:
        self._kept = COMMON_WORDS | {word.lower() for word in keep}
        self._removed: dict[Kind, Removed] = {}
        self._placeholders: dict[tuple[Kind, str], str] = {}
        self._known: dict[str, Identity] = {}
        self._folders: set[str] = set()
        for identity in identities:
            for each in with_parts(identity):
                self._learn(each)
        spellings = {
            spelling: identity
            for text, identity in self._known.items()
            for spelling in _spellings(text)
        }
        self._by_spelling = {spelling.casefold(): each for spelling, each in spellings.items()}
        by_length = sorted(spellings, key=len, reverse=True)
        places = [s for s in by_length if spellings[s].kind in PLACES]
        words = [s for s in by_length if spellings[s].kind not in PLACES]
        in_names = [s.capitalize() for s in words if s.isalpha() and s.isascii()]
        known_words = (
            rf"(?<![^\W_])(?:{_any(words)})(?![^\W_])"
            rf"|(?-i:(?:(?<![^\W_])|(?<=[a-z0-9]))(?:{_any(in_names)})(?=[A-Z]|(?![^\W_])))"
        )
        known_places = rf"(?:{_any(places)})(?![\w-])(?:/{_SEGMENT})*"
        self._words = re.compile(known_words, re.IGNORECASE)
        self._all = re.compile(
            rf"(?P<place>{known_places})|{_SHAPES}|(?P<word>{known_words})",
            re.IGNORECASE | re.VERBOSE,
        )
        self._in_bytes = re.compile(
            rf"(?<![A-Za-z0-9])(?:{_any(by_length)})(?![A-Za-z0-9])|/(?:home|Users)/\w+/".encode(),
            re.IGNORECASE,
        )

    @classmethod
    def of(cls, runs: Iterable[RunRecord], more: Iterable[Identity] = ()) -> Anonymizer:
        """Return one that knows this machine, what records say of theirs, and more if given."""
        runs = list(runs)
        identities = [*identities_here(), *more]
        identities += [identity for run in runs for identity in identities_of(run)]
        return cls(identities, vocabulary(runs, identities))

    @property
    def account(self) -> list[Removed]:
        """What was removed so far, by kind."""
        return sorted((each for each in self._removed.values() if each.count), key=lambda r: r.kind)

    # ------------------------------------------------------------------------------ replacing

    def text(self, text: str, where: str = "") -> str:
        """Return a text without what identifies.

        Args:
            text: Anything but JSON and programs, see `tree` and `source`.
            where: What to call its place in the account.
        """
        return self._all.sub(lambda match: self._replacement(match, where), text)

    def source(self, text: str, where: str = "") -> str:
        """Return a Python program without what identifies, which computes what it did.

        Shapes count only in its comments and strings: `q@k.t` is no address. Of its names those
        change that it gives itself, since the others belong to what it imports.
        """
        try:
            tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
            own = _own_names(ast.parse(text))
        except (tokenize.TokenError, SyntaxError):
            return self.text(text, where)
        starts = [0, *accumulate(len(line) for line in io.StringIO(text))]
        told, done = [], 0
        for token in tokens:
            begin, end = (starts[row - 1] + column for row, column in (token.start, token.end))
            if token.type == tokenize.NAME and token.string in own:
                changed = self._only_words(token.string, where)
            elif tokenize.tok_name[token.type] in ("COMMENT", "STRING", "FSTRING_MIDDLE"):
                changed = self.text(text[begin:end], where)
            else:
                continue
            told += [text[done:begin], changed]
            done = end
        return "".join([*told, text[done:]])

    def tree(self, value: Any, where: str = "", name: str = "") -> Any:
        """Return nested JSON values without what identifies, in keys and values.

        Args:
            value: JSON values.
            where: What to call its place in the account.
            name: Of the field that holds it.
        """
        if isinstance(value, dict):
            if name == "installed":
                value = self._known_packages(value, where)
            return {
                self.text(key, where): self.tree(inner, where, key) for key, inner in value.items()
            }
        if isinstance(value, list):
            return [self.tree(inner, where, name) for inner in value]
        if not isinstance(value, str):
            return value
        return self.field(name, value, where)

    def field(self, name: str, value: str, where: str = "") -> str:
        """Return the text of a field; of one that identifies, like `user`, a placeholder."""
        kind = kind_of(name)
        at = f"{where}.{name}".strip(".") if name else where
        if kind is None or not value or (kind, value) == ("project", "default"):
            return self.text(value, at)
        if kind in PLACES:
            return self._path(value, at)
        return value if value.startswith(f"{PREFIX}_") else self._put(kind, value, at)

    def json(self, text: str, where: str = "") -> str:
        """Return JSON text without what identifies; what is no JSON is text."""
        try:
            tree = json.loads(text)
        except ValueError:
            return self.text(text, where)
        return json.dumps(self.tree(tree, where), ensure_ascii=False)

    def record(self, run: RunRecord) -> RunRecord:
        """Return the record of a run without what identifies."""
        at = run.experiment_id
        changes: dict[str, Any] = {
            name: self.field(name, value, f"{name} of {at}")
            for name in _TEXT_FIELDS
            if isinstance(value := getattr(run, name), str)
        }
        for name in _JSON_FIELDS:
            value = getattr(run, name)
            changes[name] = value and self.json(value, f"{name} of {at}")
        changes["tags"] = tuple(self.text(tag, f"tags of {at}") for tag in run.tags)
        changes["notes"] = tuple(
            replace(each, text=self.text(each.text, f"notes of {at}")) for each in run.notes
        )
        changes["flags"] = {
            self.text(name, at): self.text(reason, f"flags of {at}")
            for name, reason in run.flags.items()
        }
        changes["metrics"] = {self.text(name, at): each for name, each in run.metrics.items()}
        return replace(run, **changes)

    def left_in(self, content: bytes) -> list[str]:
        """Return what identifies in bytes that cannot be changed, for example of a picture."""
        found = {match.decode(errors="replace") for match in self._in_bytes.findall(content)}
        return sorted(found)

    # ------------------------------------------------------------------------------ inside

    def _learn(self, identity: Identity) -> None:
        text = identity.text
        if identity.kind in PLACES:
            text = text.rstrip("/\\")
            if len(re.findall(r"[/\\]+[^/\\]+", text)) > 1 and not f"{text}/".startswith(_SYSTEM):
                self._known.setdefault(text, identity)
            if identity.kind == "path":
                self._folders.add(text.casefold())
        elif len(text) >= SHORTEST_WORD and text.lower() not in self._kept:
            self._known.setdefault(text, identity)

    def _only_words(self, text: str, where: str) -> str:
        return self._words.sub(lambda match: self._word(match.group(), where), text)

    def _replacement(self, match: re.Match[str], where: str) -> str:
        found, shape = match.group(), match.lastgroup
        if shape == "data":
            return found
        if shape == "word":
            return self._word(found, where)
        if shape == "email":
            return self._put("email", found, where)
        if shape == "url":
            return self._url(found, where)
        return self._path(found, where)

    def _word(self, found: str, where: str) -> str:
        identity = self._by_spelling.get(found.casefold(), Identity("person", found))
        return self._put(identity.kind, identity.text, where)

    def _url(self, found: str, where: str) -> str:
        address = found.rstrip(".,;:!?)]}")
        site = re.sub(r"^\w+://(?:[^@/]*@)?", "", address).partition("/")[0].partition(":")[0]
        if any(site == each or site.endswith(f".{each}") for each in _PUBLIC_SITES):
            return self._only_words(found, where)
        return self._put("url", address, where) + found[len(address) :]

    def _path(self, found: str, where: str) -> str:
        """Keep the last name of a file, and what lies inside a package; the rest goes."""
        path = found.rstrip("/\\.,;!")
        rest = found[len(path) :]
        if known := self._by_spelling.get(path.casefold()):
            path = known.text
        if path.startswith(_SYSTEM):
            return self._only_words(found, where)
        names = re.split(r"[/\\]+", path)
        for landmark in _LANDMARKS:
            if landmark in names[1:-1]:
                place = names.index(landmark, 1)
                break
        else:
            is_file = _NAME_OF_FILE.match(names[-1]) and path.casefold() not in self._folders
            place = len(names) - 1 if is_file else len(names)
        folder = "/".join(names[:place]) or "/"
        inside = [self._only_words(name, where) for name in names[place:]]
        return "/".join([self._put("path", folder, where), *inside]) + rest

    def _known_packages(self, installed: dict[str, str], where: str) -> dict[str, str]:
        """Leave out packages that this program does not need: one's own would say whose it is."""
        kept = {name: v for name, v in installed.items() if name in NEEDED_PACKAGES}
        for name in installed.keys() - kept.keys():
            self._put("package", name, where)
        return kept

    def _put(self, kind: Kind, text: str, where: str) -> str:
        removed = self._removed.setdefault(kind, Removed(kind))
        number = len(removed.things) + 1
        placeholder = self._placeholders.setdefault(
            (kind, text.casefold()), f"{PREFIX}_{kind}_{number}"
        )
        removed.things.setdefault(placeholder, text)
        removed.count += 1
        removed.example = removed.example or where
        return placeholder


def _own_names(program: ast.Module) -> set[str]:
    """Return the names that a program defines: of functions, classes, variables, attributes."""
    names: set[str | None] = set()
    for node in ast.walk(program):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.arg():
                names.add(node.arg)
            case ast.alias():
                names.add(node.asname)
            case ast.Name(ctx=ast.Store()):
                names.add(node.id)
            case ast.Attribute(ctx=ast.Store()):
                names.add(node.attr)
    return {name for name in names if name}


def _spellings(text: str) -> set[str]:
    """Return how a text may be written: in JSON, in HTML, in a URL, with split-up accents."""
    plain = {text, unicodedata.normalize("NFD", text), text.replace("\\", "/")}
    return plain | {
        spelling
        for each in plain
        for spelling in (
            json.dumps(each)[1:-1],
            html.escape(each),
            html.escape(each).encode("ascii", "xmlcharrefreplace").decode(),
            each.translate({code: f"&{name};" for code, name in codepoint2name.items()}),
            quote(each),
            quote(each, safe=""),
            each.replace("\\", "\\\\"),
        )
    }


def _any(texts: Iterable[str]) -> str:
    escaped = [re.escape(text) for text in texts]
    return "|".join(escaped) or r"(?!)"
