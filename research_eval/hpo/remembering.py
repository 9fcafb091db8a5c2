"""What a study was asked, in the store: so that a changed question is noticed and said."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from research_eval.errors import ConfigError
from research_eval.hpo.book import Book
from research_eval.hpo.problem import Problem
from research_eval.hpo.spec import StudySpec
from research_eval.hpo.warm_start import Known, find_known
from research_eval.records import RunRecord
from research_eval.store import Store
from research_eval.store.studies import StudyRecord

VERSION = 1


def remember(
    store: Store, spec: StudySpec, problem: Problem, book: Book, say: Callable[[str], None]
) -> list[Known]:
    """Record what is asked, and mark the trials that answer another question as history.

    Trials stay in the table whatever happens; samplers learn only from those that lie in the
    present space and were made with the present fixed part.

    Returns:
        What earlier runs tell the samplers: found once and kept, so that a study that is continued
        goes on as if it had not been stopped.

    Raises:
        ConfigError: If the study is about other data, so that its scores cannot be compared, or
            no run is of use for the warm start.
        StoreError: If it cannot be written.
    """
    now = _asked(spec, problem)
    before: dict[str, Any] = {}
    for record in store.studies(spec.name):
        before = json.loads(record.spec_json)
    if before:
        _refuse_other_data(before, now, spec.name)
        begun = book.next_number
        now["since"] = dict(before["since"])
        for arm in now["fixed"]:
            if before["fixed"].get(arm) != now["fixed"][arm]:
                now["since"][arm] = begun
                if arm in before["fixed"] and begun:
                    say(f"{arm}: what is fixed has changed; its earlier trials are kept as history")
        now["history"] = before.get("history", [])
        now["earlier"] = before["earlier"]
        if before["spaces"] != now["spaces"]:
            now["earlier"] = [*before["earlier"], {"until": begun, "spaces": before["spaces"]}]
            for line in _changes(before["spaces"], now["spaces"]):
                say(f"the space has changed: {line}; trials outside of it are kept as history")
    _set_aside(book, now["since"])
    _warm_up(store, spec, problem, before, now)
    known = [_known(each) for each in now["known"]]
    if known:
        counts = ", ".join(f"{n} of {arm}" for arm, n in Counter(k.arm for k in known).items())
        say(f"warm start from {now['asked']['warm_start']}: {counts} are known and not tried again")
    if now != before:
        store.save_study(spec.name, json.dumps(now, sort_keys=True))
    return known


def _warm_up(
    store: Store, spec: StudySpec, problem: Problem, before: dict[str, Any], now: dict[str, Any]
) -> None:
    """Find what earlier runs tell, unless it was found when the same was asked before."""
    asked, earlier = now["asked"], before.get("asked", {})
    if spec.warm_start is None:  # said once, it need not be said again
        asked["warm_start"] = earlier.get("warm_start")
    names = ("warm_start", "objectives", "constraints")
    if asked["warm_start"] is None:
        now["known"] = []
    elif all(asked[name] == earlier.get(name) for name in names):
        now["known"] = before["known"]
    else:
        found = find_known(store, replace(spec, warm_start=asked["warm_start"]), problem)
        now["known"] = json.loads(json.dumps([asdict(each) for each in found]))


def _known(told: Mapping[str, Any]) -> Known:
    return Known(told["arm"], told["params"], tuple(told["values"]), tuple(told["excess"]))


def _asked(spec: StudySpec, problem: Problem) -> dict[str, Any]:
    plain = asdict(spec)
    plain["base_dir"] = str(spec.base_dir)
    spaces = {
        arm: {path: knob.described() for path, knob in space.knobs.items()}
        for arm, space in problem.spaces.items()
    }
    fixed = {arm: problem.fixed_part(arm) for arm in problem.spaces}
    asked = {
        "version": VERSION,
        "asked": plain,
        "data": list(problem.data),
        "spaces": spaces,
        "fixed": fixed,
        "since": dict.fromkeys(fixed, 0),
        "history": [],
        "earlier": [],
    }
    plain_json: dict[str, Any] = json.loads(json.dumps(asked))
    return plain_json


def _refuse_other_data(before: dict[str, Any], now: dict[str, Any], name: str) -> None:
    def data_of(told: dict[str, Any]) -> list[Any]:
        bases = [each.get("base", {}) for each in told["fixed"].values()]
        return [told["data"], *(base.get("dataset_params", {}) for base in bases[:1])]

    if data_of(before) != data_of(now):
        raise ConfigError(
            f"study {name} is about {json.dumps(data_of(before))}, not "
            f"{json.dumps(data_of(now))}, so scores could not be compared; choose another "
            "--study-name"
        )


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    lines = []
    for arm in sorted({*before, *now}):
        old, new = before.get(arm, {}), now.get(arm, {})
        paths = sorted(path for path in {*old, *new} if old.get(path) != new.get(path))
        if paths:
            lines.append(f"{arm}: {', '.join(paths)}")
    return lines


def recall(record: StudyRecord, runs: Iterable[RunRecord]) -> Book:
    """Return a recorded study with its trials; neither Optuna nor the models are needed.

    Args:
        record: The study.
        runs: All of its runs, oldest first.
    """
    told = json.loads(record.spec_json)
    lists = {name: tuple(each) for name, each in told["asked"].items() if isinstance(each, list)}
    folder = Path(told["asked"]["base_dir"])
    book = Book(StudySpec(**{**told["asked"], **lists, "base_dir": folder}))
    book.read(runs)
    _set_aside(book, told["since"])
    for number in told.get("history", ()):
        book.set_aside(number)
    return book


def remember_history(store: Store, book: Book) -> None:
    """Record which trials are history, for readers without samplers to tell them.

    Args:
        store: Where the study is.
        book: With every finished trial learned from or set aside.
    """
    (record,) = store.studies(book.spec.name)
    told = json.loads(record.spec_json)
    history = sorted(number for number, entry in book.entries.items() if entry.is_history)
    if history != told["history"]:
        store.save_study(book.spec.name, json.dumps(told | {"history": history}, sort_keys=True))


def _set_aside(book: Book, since: Mapping[str, int]) -> None:
    """Set aside the trials that were made with another fixed part."""
    for number, entry in book.entries.items():
        if number < since.get(entry.candidate.arm, 0):
            book.set_aside(number)
