"""What tells who made a run, and where, replaced by placeholders; only the standard library.

Two kinds of rules work together. Identities that are known (the names of host and user, folders,
the git author, remotes: of this machine, and of every record) are replaced wherever they stand as a
word. Shapes that identify (absolute paths, e-mail addresses, URLs) are replaced whether known or
not. The same thing always gets the same placeholder, which is legal in a file name, in JSON, in
HTML and in the source of a program: `anon_user_1`.

A name that is a short or a common word (`root`, `ana`, or a user called `moe`) is replaced only
where it can mean nothing else: in a path, in an address, and as the value of a field like `user`.
"""

from __future__ import annotations

import getpass
import html
import io
import json
import os
import re
import socket
import subprocess
import sys
import tokenize
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from research_eval.records import RunRecord, leaves

Kind = Literal[
    "host",
    "user",
    "person",
    "email",
    "team",
    "path",
    "file",
    "url",
    "project",
    "commit",
    "package",
]
"""A path is a folder, of which nothing stays; of a file its name stays."""


PREFIX = "anon"
FIELDS: Mapping[str, Kind] = {
    **dict.fromkeys(("user", "username", "user_name", "userid", "login", "logname"), "user"),
    **dict.fromkeys(("author", "authors", "maintainer", "contact"), "person"),
    **dict.fromkeys(("email", "e_mail"), "email"),
    **dict.fromkeys(("host", "hostname", "host_name", "nodename", "fqdn"), "host"),
    **dict.fromkeys(("entity", "team", "organization", "organisation", "affiliation"), "team"),
    **dict.fromkeys(("base_dir", "directory", "cwd", "conda_prefix"), "path"),
    **dict.fromkeys(("remote", "git_remote", "tracking_uri"), "url"),
    **dict.fromkeys(("git_commit", "commit"), "commit"),
    "executable": "file",
    "project": "project",
}
"""What the text in a field of such a name is, as a whole, in any record or configuration."""

SHORTEST_WORD = 4
COMMON_WORDS = frozenset(
    [
        "admin", "administrator", "build", "colab", "default", "docker", "github", "gitlab",
        "guest", "home", "jovyan", "localhost", "localdomain", "local", "main", "nobody",
        "research", "research-eval", "research_eval", "root", "runner", "server", "system",
        "test", "tests", "ubuntu", "unknown", "user", "users", "vscode", "worker", "data",
        "code", "work", "project", "projects", "model", "models", "train", "training",
        "example"
    ]
)  # fmt: skip
_PUBLIC_MAIL = frozenset(
    [
        "gmail.com", "outlook.com", "hotmail.com", "yahoo.com", "users.noreply.github.com",
        "proton.me", "icloud.com"
    ]
)  # fmt: skip
_PUBLIC_SITES = ("arxiv.org", "doi.org", "json-schema.org", "w3.org", "pytorch.org", "python.org",
                 "matplotlib.org", "localhost", "127.0.0.1")  # fmt: skip
_SYSTEM = ("/usr/", "/bin/", "/lib/", "/lib64/", "/etc/", "/dev/", "/proc/", "/sys/")
_LANDMARKS = ("site-packages", "dist-packages", "research_eval")
_PLACES = ("path", "file")
_NAME_OF_FILE = re.compile(r"(python[\d.]*|research-eval|.*\.[A-Za-z]\w{0,11})$")

_SEGMENT = r"""[^\s/\\"'<>|:;,()\[\]{}=*?&`$#]+"""
_SHAPES = rf"""
(?P<data>data:[\w/+.-]+;base64,[A-Za-z0-9+/=]+)
|(?P<url>\b[a-z][a-z0-9+.-]*://[^\s"'<>\\]+|\bgit@[\w.-]+:[\w./~-]+)
|(?P<email>(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[a-z]{{2,}}(?![\w(\[]))
|(?P<windows>(?<![A-Za-z])[A-Za-z]:[\\/]+{_SEGMENT}(?:[\\/]+{_SEGMENT})+)
|(?P<quoted>(?<=["'])/(?!/)[^"'\n/<>]+/[^"'\n<>]+(?=["']))
|(?P<posix>(?<![\w.#<)\]}}/+\-*~&;])(?:~[\w.-]*/|/(?!/){_SEGMENT}/){_SEGMENT}(?:/{_SEGMENT})*
  |/(?:home|Users)/{_SEGMENT}(?:/{_SEGMENT})*)
"""


@dataclass(frozen=True, slots=True)
class Identity:
    """Something that tells who or where, as it is written."""

    kind: Kind
    text: str


@dataclass(slots=True)
class Removed:
    """What was removed of one kind.

    Attributes:
        things: Placeholders by what they stand for.
        count: How often one was put in.
        example: Where the first of them stood.
    """

    kind: Kind
    things: dict[str, str]
    count: int = 0
    example: str = ""


def identities_here() -> list[Identity]:
    """Return what identifies this machine, its user, and the checkout around the working folder."""
    found = [Identity("host", name) for name in {socket.gethostname(), os.uname().nodename}]
    users = {os.environ.get(name, "") for name in ("USER", "LOGNAME", "SUDO_USER")}
    with suppress(OSError, KeyError):  # no such user in a container
        users.add(getpass.getuser())
    found += [Identity("user", name) for name in users]
    places = [os.environ.get(name, "") for name in ("CONDA_PREFIX", "VIRTUAL_ENV")]
    places += [str(Path.home()), str(Path.cwd()), sys.prefix]
    found += [Identity("path", place) for place in places]
    found.append(Identity("file", sys.executable))
    found += [Identity("person", name) for name in _git("config", "--get-all", "user.name")]
    found += [Identity("email", mail) for mail in _git("config", "--get-all", "user.email")]
    found += [Identity("url", line.split()[1]) for line in _git("remote", "-v") if line.split()[1:]]
    return found


def _git(*arguments: str) -> list[str]:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, errors="replace", timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines()


def identities_of(run: RunRecord) -> list[Identity]:
    """Return what a record says of its machine, its user and its place."""
    told = {"host": run.host, "git_commit": run.git_commit, "project": run.project}
    trees = (told, json.loads(run.env_details_json), json.loads(run.full_config_json))
    return [identity for tree in trees for identity in identities_in(tree)]


def identities_in(tree: Mapping[str, Any]) -> Iterator[Identity]:
    """Yield what identifies in the fields of nested JSON values."""
    for name, value in leaves(tree):
        kind = _kind_of(name)
        for each in value if isinstance(value, list) else [value]:
            if not isinstance(each, str):
                continue
            if kind is not None:
                yield Identity(kind, each)
            elif re.match(r"(~?/|[A-Za-z]:\\).*[^/\\]$", each) and "\n" not in each:
                yield Identity("file", re.sub(r"(\.py):\w+$", r"\1", each))


def _kind_of(path: str) -> Kind | None:
    return FIELDS.get(path.rpartition(".")[2].lower())


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
        self._known: dict[str, Identity] = {}
        self._folders: set[str] = set()
        for identity in identities:
            for each in _parts(identity):
                self._learn(each)
        spellings = {
            spelling: identity
            for text, identity in self._known.items()
            for spelling in _spellings(text)
        }
        self._by_spelling = {spelling.lower(): each for spelling, each in spellings.items()}
        by_length = sorted(spellings, key=len, reverse=True)
        places = [s for s in by_length if spellings[s].kind in _PLACES]
        words = [s for s in by_length if spellings[s].kind not in _PLACES]
        known_words = rf"(?<![^\W_])(?:{_any(words)})(?![^\W_])"
        known_places = rf"(?:{_any(places)})(?![\w-])(?:/{_SEGMENT})*"
        self._words = re.compile(known_words, re.IGNORECASE)
        self._all = re.compile(
            rf"(?P<place>{known_places})|{_SHAPES}|(?P<word>{known_words})",
            re.IGNORECASE | re.VERBOSE,
        )
        self._in_binary = re.compile(
            b"|".join(re.escape(s.encode()) for s in by_length) + rb"|/(?:home|Users)/\w+/"
            if by_length
            else rb"/(?:home|Users)/\w+/"
        )

    @classmethod
    def of(cls, runs: Iterable[RunRecord]) -> Anonymizer:
        """Return one that knows this machine and everything that records say of theirs."""
        identities, keep = identities_here(), set[str]()
        for run in runs:
            identities += identities_of(run)
            keep.update(vocabulary(run))
        return cls(identities, keep)

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

        Shapes count only in its comments and strings: `q@k.t` is no address.
        """
        try:
            tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
        except (tokenize.TokenError, SyntaxError):
            return self.text(text, where)
        lines = text.splitlines(keepends=True)
        starts = [0]
        for line in lines:
            starts.append(starts[-1] + len(line))
        told, end = [], 0
        names = {"COMMENT", "STRING", "FSTRING_MIDDLE"}
        for token in tokens:
            if tokenize.tok_name[token.type] in names:
                begin = starts[token.start[0] - 1] + token.start[1]
                told.append(self._only_words(text[end:begin], where))
                end = starts[token.end[0] - 1] + token.end[1]
                told.append(self.text(text[begin:end], where))
        return "".join([*told, self._only_words(text[end:], where)])

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
        kind = _kind_of(name)
        at = f"{where}.{name}".strip(".") if name else where
        if kind is None or not value or (kind, value) == ("project", "default"):
            return self.text(value, at)
        if kind in _PLACES:
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
            for name in _TEXTS
            if isinstance(value := getattr(run, name), str)
        }
        for name in _TREES:
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
        return replace(run, **changes)

    def left_in(self, content: bytes) -> list[str]:
        """Return what identifies in bytes that cannot be changed, for example of a picture."""
        found = {match.decode(errors="replace") for match in self._in_binary.findall(content)}
        return sorted(found)

    # ------------------------------------------------------------------------------ inside

    def _learn(self, identity: Identity) -> None:
        text = identity.text
        if identity.kind in _PLACES:
            text = text.rstrip("/\\")
            if len(re.findall(r"[/\\]+[^/\\]+", text)) > 1 and not f"{text}/".startswith(_SYSTEM):
                self._known.setdefault(text, identity)
            if identity.kind == "path":
                self._folders.add(text.lower())
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
        identity = self._by_spelling[found.lower()]
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
        if known := self._by_spelling.get(path.lower()):
            path = known.text
        if path.startswith(_SYSTEM):
            return self._only_words(found, where)
        names = re.split(r"[/\\]+", path)
        for landmark in _LANDMARKS:
            if landmark in names[1:-1]:
                place = names.index(landmark, 1)
                break
        else:
            is_file = _NAME_OF_FILE.match(names[-1]) and path.lower() not in self._folders
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
        removed = self._removed.setdefault(kind, Removed(kind, {}))
        placeholder = removed.things.setdefault(
            text.lower(), f"{PREFIX}_{kind}_{len(removed.things) + 1}"
        )
        removed.count += 1
        removed.example = removed.example or where
        return placeholder


NEEDED_PACKAGES = frozenset(
    [
        "research-eval", "torch", "transformers", "datasets", "numpy", "safetensors",
        "tokenizers", "huggingface-hub", "scipy", "pandas", "pyarrow", "matplotlib",
        "sqlalchemy", "alembic", "pydantic", "pydantic-core", "typer", "rich", "psutil",
        "optuna", "triton"
    ]
)  # fmt: skip
_TEXTS = ("experiment_id", "experiment_name", "project", "model_type", "dataset_name", "group",
          "parent", "study", "git_commit", "git_diff", "hardware", "host", "error")  # fmt: skip
_TREES = ("full_config_json", "env_details_json", "config_schema_json", "argv")


def vocabulary(run: RunRecord) -> set[str]:
    """Return words of a record that carry meaning: of models, data, parameters and metrics."""
    names = [*run.metrics, *run.params, run.model_type or "", run.dataset_name or ""]
    choices = [value for value in run.params.values() if isinstance(value, str)]
    plain = [text for text in choices if re.fullmatch(r"[\w-]+", text)]
    identifying = {each.text.lower() for each in identities_of(run) if each.kind != "project"}
    words = {word.lower() for name in [*names, *plain] for word in re.split(r"[^A-Za-z]+", name)}
    whole = {name.lower() for name in (run.model_type, run.dataset_name) if name}
    return (words - identifying) | whole


def _parts(identity: Identity) -> Iterator[Identity]:
    """Yield an identity, and what else it tells: the domain of a host, the owner in a URL."""
    kind, text = identity.kind, unicodedata.normalize("NFC", identity.text.strip())
    yield Identity(kind, text)
    if kind == "host" and "." in text:
        name, _, domain = text.partition(".")
        yield Identity("host", name)
        yield from [Identity("host", domain)] if "." in domain else []
    if kind == "email" and "@" in text:
        name, _, domain = text.partition("@")
        yield Identity("user", name)
        yield from [] if domain.lower() in _PUBLIC_MAIL else [Identity("host", domain)]
    if kind == "person":
        yield from (Identity("person", text.replace(" ", mark)) for mark in "._-" if " " in text)
        yield from (Identity("person", part) for part in text.split()[-1:] if " " in text)
    if kind == "url":
        names = re.split(r"[/:]+", re.sub(r"^\w+://", "", text).removesuffix(".git"))[1:]
        yield from (Identity("team", name) for name in names if not name.isdecimal())
    if kind in _PLACES:
        home = re.match(r"(?:/home|/Users|[A-Za-z]:[\\/]+Users)[\\/]+([^\\/]+)", text)
        yield from [Identity("user", home.group(1))] if home else []


def _spellings(text: str) -> set[str]:
    """Return how a text may be written: in JSON, in HTML, in a URL, with split-up accents."""
    plain = {text, unicodedata.normalize("NFD", text), text.replace("\\", "/")}
    return plain | {
        spelling
        for each in plain
        for spelling in (
            json.dumps(each)[1:-1],
            html.escape(each),
            quote(each),
            quote(each, safe=""),
            each.replace("\\", "\\\\"),
        )
    }


def _any(texts: Iterable[str]) -> str:
    escaped = [re.escape(text) for text in texts]
    return "|".join(escaped) or r"(?!)"
