"""A comparison from the question to the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research_eval import provenance
from research_eval.analysis import Report, Request
from research_eval.analysis.analyzing import report_on
from research_eval.analysis.comparing import VERDICT_ALPHA
from research_eval.analysis.gathering import gather as gather_evidence
from research_eval.comparing.arms import Arms, gather
from research_eval.comparing.departures import VERSIONS, Records, departures
from research_eval.comparing.enough import power_in_words, shortfalls
from research_eval.comparing.names import REPORTS
from research_eval.comparing.plan import Plan
from research_eval.comparing.question import Question, require_enough
from research_eval.comparing.report import as_markdown, outputs_of
from research_eval.config import Experiment, load_text
from research_eval.errors import ConfigError
from research_eval.files import replace_file, require_writable
from research_eval.hpo import Study, StudyAudience, StudyResult, StudySpec
from research_eval.hpo.configurations import Configurations
from research_eval.hpo.remembering import recall
from research_eval.matching.cost import Cost, Counter
from research_eval.matching.target import Target, tolerance
from research_eval.prepare import components, prepare, prepare_with
from research_eval.records import RunStatus
from research_eval.registry import plugin_reference
from research_eval.spec import Task
from research_eval.store import Store
from research_eval.store.location import locate
from research_eval.training.progress import Nobody

SAMPLER, PRUNER = "random", "none"
"""Trials must be independent draws that run to their end, or the luck of a search is not known."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a comparison found.

    Attributes:
        plan: What was asked.
        report: The evidence with everything that was worked out and written.
        departures: What was done otherwise than planned, in sentences; empty if nothing.
        verdicts: A sentence for each contrast.
        study: What the search found.
        files: The plan, the pages to read, then everything else.
    """

    plan: Plan
    report: Report
    departures: tuple[str, ...]
    verdicts: tuple[str, ...]
    study: StudyResult
    files: tuple[Path, ...]

    @property
    def confirmed(self) -> int:
        """How many of the planned runs on fresh seeds are completed."""
        seeds = self.plan.question["confirmation_seeds"]
        return sum(
            run.seed in seeds and run.status is RunStatus.COMPLETED
            for trial in self.study.best.values()
            for run in trial.confirmed
        )

    @property
    def to_confirm(self) -> int:
        """How many were planned."""
        return len(self.plan.question["arms"]) * len(self.plan.question["confirmation_seeds"])


class Comparison:
    """A comparison that is ready to be carried out. Making one reads, solves and writes nothing.

    Args:
        question: What is asked.

    Attributes:
        arms: The candidate first.
        spec: The study that carries it out.
        costs: What each arm costs with everything that is searched at its default.
        plan: What will be written before the first run.

    Raises:
        ConfigError: With what is wrong with the arms, the ranges or the numbers.
        NoMatchError: If an arm cannot cost as much as the candidate.
        DataError: If the data cannot be had.
    """

    def __init__(self, question: Question) -> None:
        self.question = question
        Target.parse(f"{question.match}=1")  # an axis that is counted
        self.arms: Arms = gather(question.candidate, question.baselines)
        self._labels = tuple(arm.label for arm in self.arms.arms)
        require_enough(question, len(self._labels))
        self._dataset = prepare(self.arms.candidate, Nobody()).dataset
        self.target = self._target()
        self.problem = Configurations(self._spec())
        self.spec = self.problem.spec
        starts = {label: self._start(label) for label in self._labels}
        self.costs = {label: self._cost(start) for label, start in starts.items()}
        self.plan = self._plan(starts)

    # ------------------------------------------------------------------------------- preparation

    def _target(self) -> Target:
        """Return what the candidate costs as its file has it."""
        axis = Target.parse(f"{self.question.match}=1").axis
        counter = Counter(self.arms.candidate, self._dataset)
        return Target(axis, counter.on(axis, self.arms.candidate.config.model_params))

    def _spec(self) -> StudySpec:
        asked = self.question
        return StudySpec(
            name=asked.name or f"compare_{self._labels[0]}",
            n_trials=asked.n_trials,
            base=self.arms.common,
            base_dir=self.arms.candidate.base_dir,
            arms=self._labels,
            own={arm.label: arm.own for arm in self.arms.arms},
            search=asked.search,
            objectives=() if asked.objective is None else (asked.objective,),
            sampler=SAMPLER,
            pruner=PRUNER,
            seed=asked.sampling_seed,
            confirm=asked.seeds,
            match=f"{self.target.axis}={self.target.value:.12g}",
        )

    def _start(self, label: str) -> Experiment:
        """Return an arm at the cost of the candidate, with its defaults where it is searched."""
        made = self.problem.complete(label, {}, label)
        if made is None:
            raise ConfigError(
                f"{label} is not legal with what {self.question.candidate} fixes; free one of the "
                "related parameters with --search path"
            )
        return load_text(made.config_json, base_dir=self.spec.base_dir)

    def _cost(self, experiment: Experiment) -> Cost:
        return Counter(experiment, self._dataset).cost(experiment.config.model_params)

    def _plan(self, starts: Mapping[str, Experiment]) -> Plan:
        spec, first = self.spec, self.problem.first_seed
        hashes = {k: prepare_with(self._dataset, each).config_hash for k, each in starts.items()}
        self._require_different(hashes)
        candidate, *baselines = self._labels
        question = {
            "candidate": candidate,
            "arms": {arm.label: self._planned_arm(arm.label, hashes) for arm in self.arms.arms},
            "common": self.arms.common,
            "match": {
                "axis": self.target.axis,
                "target": self.target.value,
                "tolerance": tolerance(self.target.axis),
            },
            "objective": str(spec.parsed_objectives[0]),
            "margin": self.question.margin,
            "n_trials": spec.n_trials,
            "trials_of_each_arm": spec.n_trials // len(self._labels),
            "sampler": spec.sampler,
            "pruner": spec.pruner,
            "sampling_seed": spec.seed,
            "search_seeds": [*range(first, first + spec.seeds)],
            "confirmation_seeds": [*range(first + spec.seeds, first + spec.seeds + spec.confirm)],
            "contrasts": [[candidate, baseline] for baseline in baselines],
            "tests": ["Welch, of fresh seeds", "permutation, of trials"],
            "correction": "Holm",
            "alpha": VERDICT_ALPHA,
        }
        code = {label: self.problem.code_hash(label) for label in self._labels}
        return Plan.new(spec.name, question, {"packages": _versions(), "code": code})

    def _planned_arm(self, label: str, hashes: Mapping[str, str]) -> dict[str, Any]:
        arm = next(each for each in self.arms.arms if each.label == label)
        knobs = self.problem.spaces[label].knobs
        cost = self.costs[label]
        return {
            "source": arm.source,
            **arm.own,
            "config_hash": hashes[label],
            "cost": {
                "params": cost.params,
                "active_params": cost.active_params,
                "flops": cost.flops,
            },
            "searched": {path: knob.described() for path, knob in knobs.items()},
        }

    def _require_different(self, hashes: Mapping[str, str]) -> None:
        candidate, *baselines = self._labels
        for label in baselines:
            spaces = [self.problem.spaces[each].knobs for each in (candidate, label)]
            if hashes[label] == hashes[candidate] and spaces[0] == spaces[1]:
                raise ConfigError(
                    f"{candidate} and {label} are the same configuration, so there is nothing to "
                    "compare; a baseline that differs in a parameter is given as a file"
                )

    # -------------------------------------------------------------------------- before the runs

    @property
    def task(self) -> Task:
        """What the data is used for."""
        return self._dataset.task

    @property
    def plugins(self) -> tuple[str, ...]:
        """The plug-ins that arms name, by absolute path."""
        found: dict[str, None] = {}
        for label in self._labels:
            for _kind, name in components(self._start(label)):
                reference = plugin_reference(name, self.spec.base_dir)
                if reference is not None:
                    found[str(reference)] = None
        return tuple(found)

    @property
    def warnings(self) -> list[str]:
        """What the numbers of trials and seeds cannot show."""
        asked = self.plan.question
        contrasts = len(asked["contrasts"])
        return [
            *shortfalls(asked["trials_of_each_arm"], self.spec.confirm, contrasts),
            power_in_words(self.spec.confirm, contrasts),
        ]

    # -------------------------------------------------------------------------------- the runs

    def run(
        self,
        db: str | Path | None = None,
        *,
        workers: int | None = None,
        gpus: Sequence[int] = (),
        audience: StudyAudience | None = None,
        folder: Path = REPORTS,
    ) -> Outcome:
        """Carry out what is left, and write the report.

        Args:
            db: The store, by path or URL; by default the one that the commands would use.
            workers: See `hpo.Study.run`; likewise `gpus` and `audience`.
            gpus: See `hpo.Study.run`.
            audience: See `hpo.Study.run`.
            folder: Where a folder with the report is made.

        Raises:
            ConfigError: If something else was planned under this name.
            StoreError: If the store or the reports cannot be written.
            StoppedError: If a signal came; the same call continues.
        """
        require_writable(folder)
        url = db or locate(create=True)
        plan, path = self._agree(url)
        study = Study(self.spec, url, problem=self.problem)
        result = study.run(workers=workers, gpus=gpus, audience=audience)
        with Store.open(url, mode="ro") as store:
            found = departures(plan, self._records(store, result))
            report = self._report(store, plan, found, folder / self.spec.name)
        pages = [each for each in report.files if each.suffix == ".html"]
        page = folder / self.spec.name / "verdict.md"
        replace_file(page, as_markdown(plan, report))
        others = [each for each in report.files if each not in pages]
        section = report.section("contrasts")
        verdicts = section.sentences if section else ()
        files = (path, *pages, page, *others)
        return Outcome(plan, report, tuple(found), verdicts, result, files)

    def _agree(self, url: str | Path) -> tuple[Plan, Path]:
        """Return the plan in force, written if there is none yet, and where it is."""
        with Store.open(url, create=True) as store:
            path = store.artifact_dir.parent / f"{self.spec.name}_plan.json"
            runs = len(store.study_runs(self.spec.name))
        plan = Plan.read(path)
        if plan is not None:
            plan.require_same(self.plan, path)
            return plan, path
        if runs:
            raise ConfigError(
                f"study {self.spec.name} has {runs} runs, but there is no plan of a comparison at "
                f"{path}; choose another --study-name"
            )
        self.plan.write(path)
        return self.plan, path

    def _records(self, store: Store, result: StudyResult) -> Records:
        (study,) = store.studies(self.spec.name)
        book = recall(study, store.study_runs(self.spec.name))
        deleted = store.runs(deleted=True, metrics=())
        return Records(
            trials=tuple(book.trials[number] for number in sorted(book.trials)),
            winners=book.best(),
            deleted=sum(run.study == self.spec.name for run in deleted),
            closed=result.closed,
            spec_json=study.spec_json,
        )

    def _report(self, store: Store, plan: Plan, found: Sequence[str], folder: Path) -> Report:
        asked = plan.question
        candidate, *baselines = asked["arms"]
        request = Request(
            datasets=(self.problem.data[1],),
            goal=asked["objective"],
            study=self.spec.name,
            candidate=candidate,
            baselines=tuple(baselines),
            margin=asked["margin"],
        )
        evidence = gather_evidence(store, self.problem.data[1], request)
        return report_on(evidence, outputs_of(plan, found), folder, command=self.question.command)


def _versions() -> dict[str, Any]:
    found: Any = provenance.environment()["packages"]
    return {name: found.get(name) for name in VERSIONS}


def compare(
    candidate: str | Path,
    baselines: Sequence[str],
    *,
    db: str | Path | None = None,
    workers: int | None = None,
    gpus: Sequence[int] = (),
    audience: StudyAudience | None = None,
    folder: Path = REPORTS,
    **asked: Any,
) -> Outcome:
    """Compare an idea with baselines at equal cost, tuned equally, confirmed on fresh seeds.

        found = research_eval.compare("mine.json", ["dense", "moe"], n_trials=30, seeds=5)
        print(found.verdicts)

    Called again it continues. The contract of a plug-in is not checked here:
    `research-eval check ./mine.py:Mine` does.

    Args:
        candidate: See `Question`; likewise `baselines` and all in `asked`.
        baselines: See `Question`.
        db: See `Comparison.run`; likewise `workers`, `gpus`, `audience`, `folder`.
        workers: See `Comparison.run`.
        gpus: See `Comparison.run`.
        audience: See `Comparison.run`.
        folder: See `Comparison.run`.
        **asked: The other fields of `Question`: `match`, `n_trials`, `seeds`, ...

    Raises:
        ResearchEvalError: As `Comparison` and its `run` do.
    """
    fields: dict[str, Any] = {
        name: tuple(each) if isinstance(each, list) else each for name, each in asked.items()
    }
    question = Question(candidate=Path(candidate), baselines=tuple(baselines), **fields)
    return Comparison(question).run(
        db, workers=workers, gpus=gpus, audience=audience, folder=folder
    )
