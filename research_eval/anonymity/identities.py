"""What tells who made a run, and where: of this machine, and of records."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import subprocess
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from research_eval.metrics import METRICS
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

_PUBLIC_MAIL = frozenset(
    [
        "gmail.com", "outlook.com", "hotmail.com", "yahoo.com", "users.noreply.github.com",
        "proton.me", "icloud.com"
    ]
)  # fmt: skip
_TOLD_BEHIND = re.compile(r"(?<=\.py):\w+$|, tokenizer \S+$")
"""What records say behind a path: the name in a plug-in, the tokenizer of a file."""
_WORD = re.compile(r"[\w-]+$")
PLACES = ("path", "file")


@dataclass(frozen=True, slots=True)
class Identity:
    """Something that tells who or where, as it is written."""

    kind: Kind
    text: str


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
        kind = kind_of(name)
        for each in value if isinstance(value, list) else [value]:
            if not isinstance(each, str):
                continue
            if kind is not None:
                yield Identity(kind, each)
            elif re.match(r"(~?/|[A-Za-z]:\\).*[^/\\]$", each) and "\n" not in each:
                yield Identity("file", _TOLD_BEHIND.sub("", each))


def kind_of(path: str) -> Kind | None:
    """Return what the text in a field of this dotted path is as a whole, if it identifies."""
    return FIELDS.get(path.rpartition(".")[2].lower())


def vocabulary(runs: Iterable[RunRecord], identities: Iterable[Identity]) -> set[str]:
    """Return words that carry meaning: of models, data, parameters and metrics.

    Names that a user gave (of parameters of a plug-in, of metrics of a script) are such words only
    as far as they identify nobody.

    Args:
        runs: Records.
        identities: All that is known to identify.
    """
    own: set[str] = set()
    given: set[str] = set()
    for metric in METRICS:
        own.update(_words(metric.name), _words(metric.history or ""))
    for run in runs:
        own.update(n.lower() for n in (run.model_type, run.dataset_name) if n and _WORD.match(n))
        values = [v for name, v in run.params.items() if "." in name and isinstance(v, str)]
        for name in [*run.metrics, *run.params, *filter(_WORD.match, values)]:
            given.update(_words(name))
    parts = (part.text.lower() for each in identities for part in with_parts(each))
    return own | (given - set(parts))


def _words(name: str) -> list[str]:
    return re.split(r"[^a-z]+", name.lower())


def with_parts(identity: Identity) -> Iterator[Identity]:
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
    if kind in PLACES:
        home = re.match(r"(?:/home|/Users|[A-Za-z]:[\\/]+Users)[\\/]+([^\\/]+)", text)
        yield from [Identity("user", home.group(1))] if home else []
