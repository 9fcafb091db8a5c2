"""The file that pins what a paper shows: run by run what was recorded, file by file what came out.

It names no place on any machine, so that it can lie beside the tables in the paper's repository.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from research_eval.analysis.evidence import Evidence, LeftOut, dataset_of
from research_eval.analysis.question import Question
from research_eval.analysis.rendering import Page, Rendered
from research_eval.anonymity import Anonymizer
from research_eval.errors import ConfigError, StoreError
from research_eval.records import RunRecord

if TYPE_CHECKING:
    from research_eval.store import Store

LOCK_FILE = "paper.lock.json"
LIBRARIES = ("research-eval", "matplotlib", "numpy", "pandas", "scipy")
"""What decides on the bytes besides the records."""

UNSEEN = frozenset(
    {"id", "heartbeat", "pid", "notes", "tags", "deleted", "stop_requested", "unacknowledged"}
)
"""Fields of a record that no report shows, so that they may change."""

MAX_TOLD = 10
"""Runs or files that an error names."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PinnedRun(_Strict):
    """A run as it was recorded.

    Attributes:
        value: Of the metric that decides; None if it has none that is finite.
        sha256: Of everything that a report can show of it.
    """

    status: str
    value: float | None
    sha256: str


class PinnedData(_Strict):
    """What is pinned of one data set.

    Attributes:
        dataset: Its name in the report.
        question: What was asked.
        left_out: Reason, count and remedy of the runs that did not count.
        runs: By id, in the order in which they counted; likewise `evaluations`.
        studies: sha256 of what each study was asked, by the id of its first run: the name of a
            study may say whose it is.
        files: sha256 of each file that was written, by its name.
    """

    dataset: str
    question: dict[str, Any]
    left_out: list[tuple[str, int, str]]
    runs: dict[str, PinnedRun]
    evaluations: dict[str, PinnedRun]
    studies: dict[str, str]
    files: dict[str, str]


class Lock(_Strict):
    """See the module.

    Attributes:
        made_with: Versions.
        command: What made it first.
        paper_width: Inches.
    """

    format: Literal[1] = 1
    made_with: dict[str, str]
    command: str
    paper_width: float
    is_anonymous: bool
    data: list[PinnedData]

    @classmethod
    def of(
        cls,
        evidence: Sequence[Evidence],
        rendered: Sequence[Rendered],
        page: Page,
        anonymizer: Anonymizer | None,
    ) -> Lock:
        """Return what pins a report.

        Args:
            evidence: The runs as they are recorded, data set by data set.
            rendered: What is written of them.
            page: With a command and a width.
            anonymizer: What has cleaned the files, None if nothing has.
        """
        command = page.command or ""
        return cls(
            made_with=_versions(),
            command=command if anonymizer is None else anonymizer.text(command, LOCK_FILE),
            paper_width=page.paper_width or 0.0,
            is_anonymous=anonymizer is not None,
            data=[_pinned(*each) for each in zip(evidence, rendered, strict=True)],
        )

    @classmethod
    def read(cls, path: Path) -> Lock:
        """Read a lock.

        Raises:
            ConfigError: If there is none, or it is none.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            told = f"{where}: {first['msg']}" if where else first["msg"]
            raise ConfigError(
                f"{path} is no lock of version 1 that analyze --paper wrote: {told}"
            ) from None

    def text(self) -> str:
        """Return it as JSON."""
        return f"{self.model_dump_json(indent=2)}\n"

    @property
    def page(self) -> Page:
        """What was written."""
        return Page(command=self.command, paper_width=self.paper_width)

    def evidence(self, store: Store) -> list[Evidence]:
        """Return the pinned runs as evidence.

        Raises:
            StoreError: If some are missing, or are not what they were.
        """
        known = {run.experiment_id: run for run in store.runs()}
        specs = {study.name: _digest(study.spec_json) for study in store.studies()}
        _require_unchanged(self.data, known, specs, store)
        return [
            Evidence(
                dataset=dataset_of(known[next(iter(data.runs))]) if data.runs else data.dataset,
                question=Question(**data.question | _tuples(data.question)),
                runs={name: known[name] for name in data.runs},
                left_out=tuple(LeftOut(*each) for each in data.left_out),
                evaluations=tuple(known[name] for name in data.evaluations),
                reader=store,
                artifact_dir=store.artifact_dir,
            )
            for data in self.data
        ]

    def require_same(self, rendered: Iterable[Rendered]) -> None:
        """Check that the files are what they were.

        Raises:
            ConfigError: If not.
        """
        asked = {name: digest for data in self.data for name, digest in data.files.items()}
        found = {name: digest for each in rendered for name, digest in _digests(each).items()}
        other = sorted(n for n in asked.keys() | found.keys() if asked.get(n) != found.get(n))
        if not other:
            return
        here = _versions()
        versions = [
            f"{name} was {self.made_with.get(name)} and is {version}"
            for name, version in here.items()
            if self.made_with.get(name) != version
        ]
        why = (
            f"{'; '.join(versions)}: with those versions they come out"
            if versions
            else "the runs and the versions are those of the lock, so files of the runs "
            "(predictions) or the source of this package were changed, or the lock was"
        )
        raise ConfigError(
            f"{len(other)} of {len(asked.keys() | found.keys())} files would have other bytes: "
            f"{_few(other)}; {why}. Nothing was written; a new lock: analyze --paper"
        )


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def _digest(content: str | bytes) -> str:
    return sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def _digests(rendered: Rendered) -> dict[str, str]:
    contents = rendered.contents.items()
    return {name: _digest(content) for name, content in contents if content is not None}


def _tuples(question: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) for name, value in question.items() if isinstance(value, list)}


def _pinned(evidence: Evidence, rendered: Rendered) -> PinnedData:
    metric = evidence.question.metric
    first: dict[str | None, str] = {}
    for run in evidence.runs.values():
        first.setdefault(run.study, run.experiment_id)
    return PinnedData(
        dataset=rendered.evidence.dataset,
        question=asdict(rendered.evidence.question),
        left_out=[(each.reason, each.count, each.remedy) for each in evidence.left_out],
        runs={name: _pin(run, metric) for name, run in evidence.runs.items()},
        evaluations={run.experiment_id: _pin(run, metric) for run in evidence.evaluations},
        studies={
            first[study.name]: _digest(study.spec_json)
            for study in evidence.reader.studies()
            if study.name in first
        },
        files=_digests(rendered),
    )


def _pin(run: RunRecord, metric: str) -> PinnedRun:
    told = {each.name: getattr(run, each.name) for each in fields(run) if each.name not in UNSEEN}
    value = run.value(metric)
    is_finite = value is not None and abs(value) < float("inf")
    return PinnedRun(
        status=str(run.status),
        value=value if is_finite else None,
        sha256=_digest(json.dumps(told, sort_keys=True, default=str)),
    )


def _require_unchanged(
    pinned: Iterable[PinnedData],
    known: Mapping[str, RunRecord],
    specs: Mapping[str, str],
    store: Store,
) -> None:
    gone, changed, studies = [], [], []
    total = 0
    for data in pinned:
        for name, pin in (data.runs | data.evaluations).items():
            total += 1
            if name not in known:
                gone.append(name)
            elif (now := _pin(known[name], data.question["metric"])) != pin:
                changed.append(f"{name} ({_change(pin, now)})")
        studies += [
            name
            for name, digest in data.studies.items()
            if name in known and specs.get(known[name].study or "") != digest
        ]
    trash = {run.experiment_id for run in store.runs(deleted=True, metrics=())} if gone else set()
    deleted = [name for name in gone if name in trash]
    missing = [name for name in gone if name not in trash]
    problems = [
        (deleted, "in the trash (research-eval runs restore ID)"),
        (missing, "not in this database"),
        (changed, "changed since"),
        (studies, "of a study that was asked for something else since, or is gone"),
    ]
    told = [f"{what}: {_few(names)}" for names, what in problems if names]
    if told:
        raise StoreError(
            f"the lock pins {total} runs, and not all are there as they were; "
            f"{'; '.join(told)}. Nothing was written"
        )


def _change(then: PinnedRun, now: PinnedRun) -> str:
    if then.status != now.status:
        return f"was {then.status}, is {now.status}"
    if then.value != now.value:
        return f"was {then.value}, is {now.value}"
    return "its record"


def _few(names: Sequence[str]) -> str:
    more = len(names) - MAX_TOLD
    return ", ".join(names[:MAX_TOLD]) + (f" and {more} more" if more > 0 else "")
