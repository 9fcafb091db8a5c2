"""From past runs to configurations that `run` accepts, each with the reason why."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from research_eval.config import Experiment, config_hash, load_text
from research_eval.config.moving import seen_from
from research_eval.errors import ConfigError, DataError, Issue, did_you_mean
from research_eval.files import replace_file, safe_name
from research_eval.matching.cost import Counter
from research_eval.prepare import prepare
from research_eval.quantities import number
from research_eval.records import RunRecord, leaves
from research_eval.store import Store
from research_eval.suggest.axes import Point
from research_eval.suggest.names import STRATEGIES
from research_eval.suggest.past import SECONDS, Past, Question, read_past
from research_eval.suggest.portfolio import Portfolio
from research_eval.suggest.search import Proposal
from research_eval.suggest.warm_tpe import warm_tpe
from research_eval.training.progress import Watcher

_VARIATION = re.compile(r"_var\d+_[0-9a-f]{8}$")
LONGEST_NAME = 150

_NEEDED = {"perturb": 1, "gp": 2, "tpe": 2}
"""Finished configurations without which a strategy can do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for.

    Attributes:
        strategy: One of `STRATEGIES`.
        top_n: How many of the best configurations are varied.
        variations: Of each; the two together are how many suggestions there are by default.
        n: How many suggestions.
        magnitude: Size of a perturbation, as a share of a range.
        max_params: Most parameters that a suggestion may have.
        budget: Seconds that all suggestions together may take.
        seed: Of chance.
    """

    strategy: str = "auto"
    top_n: int = 3
    variations: int = 2
    n: int | None = None
    magnitude: float = 0.1
    max_params: float | None = None
    budget: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Name every mistake at once.

        Raises:
            ConfigError: If something is out of range.
        """
        issues = [
            Issue(name, f"must be 1 or more, but is {value}")
            for name in ("top_n", "variations", "n")
            if (value := getattr(self, name)) is not None and value < 1
        ]
        if not 0 < self.magnitude <= 1:
            told = f"must be above 0 and at most 1, but is {self.magnitude}"
            issues.append(Issue("perturbation_magnitude", told))
        for name in ("max_params", "budget"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                issues.append(Issue(name, f"must be above 0, but is {value:g}"))
        if self.seed < 0:
            issues.append(Issue("seed", f"must be 0 or more, but is {self.seed}"))
        if self.strategy not in STRATEGIES:
            told = f"unknown '{self.strategy}'; {did_you_mean(self.strategy, STRATEGIES)}"
            issues.append(Issue("strategy", told))
        if issues:
            raise ConfigError("suggestions cannot be made", issues)

    @property
    def count(self) -> int:
        """How many suggestions are wanted."""
        return self.top_n * self.variations if self.n is None else self.n


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A configuration to run.

    Attributes:
        name: Of the experiment, and of the file.
        model_type: Its architecture.
        kind: How it was found; "replicate" is another seed of what was run.
        config: The whole configuration, as JSON values.
        parent: Id of the run that it was derived from, or is most similar to.
        changed: What differs from the parent, by dotted path.
        mean: The metric that is expected, None without a model; likewise `sd`.
        probability: That it is better than the best.
        seconds: Wall time that is expected.
        distance: To the most similar configuration on record, in ranges.
        repairs: What was changed to make it legal.
        reason: Why it is suggested.
    """

    name: str
    model_type: str
    kind: str
    config: dict[str, Any]
    parent: str | None
    changed: Mapping[str, Any]
    mean: float | None
    sd: float | None
    probability: float | None
    seconds: float | None
    distance: float | None
    repairs: tuple[str, ...]
    reason: str


class Suggester:
    """Makes suggestions from what is on record.

    Args:
        store: Where the runs are.
        question: Which of them count.
        request: What is asked for.
        watcher: Is told what takes long.

    Raises:
        ConfigError: If something is named that is not there.
        DataError: If there is nothing to learn from.
    """

    def __init__(
        self, store: Store, question: Question, request: Request, watcher: Watcher
    ) -> None:
        self.past: Past = read_past(store, question)
        self._request = request
        self._watcher = watcher
        if request.budget is not None and not any(each.seconds for each in self.past.tried):
            raise DataError("no finished run tells how long one takes, so --budget says nothing")
        self._recorded = _hashes(store, self.past)
        self._made: dict[object, tuple[str, tuple[str, ...]]] = {}
        self._counters: dict[str, Counter] = {}
        self._seeds: dict[object, set[int]] = {}
        self._search = Portfolio(
            {name: arm.space for name, arm in self.past.arms.items()},
            lambda point: self.past.arms[point.arm].mend(point),
            self.past.tried,
            accept=self._accept,
            seed=request.seed,
            magnitude=request.magnitude,
            top_n=request.top_n,
            budget=request.budget,
        )

    def suggestions(self) -> list[Suggestion]:
        """Return what to run next, at most as many as are asked for.

        Raises:
            DataError: If the strategy needs a run that completed, and there is none.
        """
        request, search = self._request, self._search
        least, finished = _NEEDED.get(request.strategy, 0), len(search.ranked)
        if finished < least:
            raise DataError(
                f"--strategy {request.strategy} needs {least} or more finished configurations "
                f"with {self.past.objective.name}, but there are {finished}; auto and random need "
                "none"
            )
        ways: dict[str, Callable[[], Iterator[Proposal]]] = {
            "auto": lambda: search.auto(request.count),
            "gp": lambda: search.model(request.count),
            "tpe": lambda: warm_tpe(search, request.count, request.seed),
            "random": lambda: search.random(request.count),
            "perturb": lambda: search.perturb(request.count, request.variations),
        }
        found = ways[request.strategy]()
        return [self._suggestion(each, place) for place, each in enumerate(found, start=1)]

    # ---------------------------------------------------------------------------- one suggestion

    def _accept(self, point: Point) -> bool:
        """Return whether a point may be suggested: legal, new, and not too large."""
        arm = self.past.arms[point.arm]
        candidate = arm.configurations.complete(arm.model_type, point.params, "suggestion")
        if candidate is None or dict(candidate.params) != dict(point.params):
            return False
        base_dir = arm.recorded[-1].experiment.base_dir
        experiment = load_text(candidate.config_json, base_dir=base_dir)
        identity = config_hash(experiment)
        if identity in self._recorded or not self._is_small(point.arm, experiment):
            return False
        self._recorded.add(identity)
        self._made[point.key()] = candidate.config_json, candidate.repairs
        return True

    def _is_small(self, arm: str, experiment: Experiment) -> bool:
        limit = self._request.max_params
        if limit is None:
            return True
        if arm not in self._counters:
            prepared = prepare(experiment, self._watcher)
            self._counters[arm] = Counter(prepared.experiment, prepared.dataset)
        return self._counters[arm].on("params", experiment.config.model_params) <= limit

    def _suggestion(self, proposal: Proposal, place: int) -> Suggestion:
        arm = self.past.arms[proposal.point.arm]
        parent = self._parent(proposal)
        text, repairs = self._made.get(proposal.point.key(), ("", ()))
        if proposal.source == "replicate":
            tree, changed = self._another_seed(proposal.point)
        else:
            tree = json.loads(text)
            changed = _changed(tree, parent, [*arm.space.knobs])
        base_dir = arm.recorded[-1].experiment.base_dir
        identity = config_hash(load_text(json.dumps(tree), base_dir=base_dir))
        original = _VARIATION.sub("", parent.experiment_name if parent else arm.model_type)
        name = f"{original[:LONGEST_NAME]}_var{place}_{identity[:8]}"
        mean = None if proposal.mean is None else self.past.sign * proposal.mean
        reason = self._reason(proposal, parent)
        made = Suggestion(
            name=name,
            model_type=arm.model_type,
            kind=proposal.source,
            config={},
            parent=parent.experiment_id if parent else None,
            changed=changed,
            mean=mean,
            sd=proposal.sd,
            probability=proposal.probability,
            seconds=proposal.seconds,
            distance=proposal.distance,
            repairs=repairs,
            reason=reason,
        )
        tree |= {"experiment_name": name, "origin": self._origin(made)}
        return replace(made, config=tree)

    def _parent(self, proposal: Proposal) -> RunRecord | None:
        if proposal.parent is None:
            return None
        runs = self.past.runs[proposal.parent.point.key()]
        return next(run for run in runs if run.experiment_id == proposal.parent.run)

    def _another_seed(self, point: Point) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a configuration that was run, with the lowest seed that it was not run with."""
        runs = self.past.runs[point.key()]
        used = self._seeds.setdefault(point.key(), {run.seed or 0 for run in runs})
        seed = next(each for each in range(len(used) + 1) if each not in used)
        used.add(seed)
        return {**json.loads(runs[-1].full_config_json), "seed": seed}, {"seed": seed}

    def _origin(self, made: Suggestion) -> dict[str, Any]:
        metric = self.past.objective.name
        prediction = {
            metric: made.mean,
            f"{metric}_sd": made.sd,
            "probability_better": made.probability,
            SECONDS: made.seconds,
        }
        return {
            "kind": "replicate" if made.kind == "replicate" else "suggestion",
            "parent": made.parent,
            "changed": dict(made.changed),
            "prediction": {name: value for name, value in prediction.items() if value is not None},
            "repairs": list(made.repairs),
            "reason": made.reason,
        }

    def _reason(self, proposal: Proposal, parent: RunRecord | None) -> str:
        from_run = f" {parent.experiment_id}" if parent else ""
        why = {
            "model": "the model expects the most improvement here",
            "exploit": f"the variation of run{from_run} that the model expects to be best",
            "explore": "promising, and of that the model knows the least",
            "perturb": f"a variation of run{from_run}, one of the best",
            "random": "drawn from the whole space",
            "spread": "fills the space evenly, since little is known yet",
            "tpe": "drawn by TPE that has learnt from all runs",
            "replicate": "another seed: which of the best two is better is not known yet",
        }[proposal.source]
        if proposal.mean is None or proposal.sd is None or proposal.probability is None:
            return why
        return (
            f"{why}: {self.past.objective.name} {number(self.past.sign * proposal.mean)} "
            f"± {number(proposal.sd)} expected, better than the best with probability "
            f"{proposal.probability:.2f}"
        )

    def learnt_from(self) -> list[str]:
        """Return lines that say what was learnt from, and what was not."""
        past = self.past
        models = sorted({arm.model_type for arm in past.arms.values()})
        known = "1 configuration" if len(past.tried) == 1 else f"{len(past.tried)} configurations"
        lines = [f"learnt from {known} of {', '.join(models)} on {past.data}, for {past.objective}"]
        held = {path: value for arm in past.arms.values() for path, value in arm.held.items()}
        free = {path for arm in past.arms.values() for path in arm.space.knobs}
        kept = [f"{path}={json.dumps(v)}" for path, v in held.items() if path not in free]
        if kept:
            lines.append(f"kept as in all runs: {', '.join(kept)}")
        return [*lines, *past.left_out]


def _hashes(store: Store, past: Past) -> set[str]:
    """Return the identities of all that is recorded with the present code and data."""
    newest = [arm.recorded[-1].run for arm in past.arms.values()]
    return {
        run.config_hash
        for like in newest
        for run in store.find(data_hash=like.data_hash, code_hash=like.code_hash)
        if run.config_hash is not None
    }


def _changed(
    tree: Mapping[str, Any], parent: RunRecord | None, paths: Sequence[str]
) -> dict[str, Any]:
    """Return what was searched and differs from the parent."""
    values = dict(leaves(tree))
    before = parent.params if parent else {}
    return {path: values[path] for path in paths if values.get(path) != before.get(path)}


def write_files(suggestions: Sequence[Suggestion], past: Past, folder: Path) -> list[Path]:
    """Write each suggestion as a file that `run` accepts, none by half.

    What a configuration names relative to the folder of its parent is named from the new one.

    Raises:
        StoreError: If the folder cannot be written.
    """
    bases = {arm.model_type: arm.recorded[-1].experiment for arm in past.arms.values()}
    paths = []
    for each in suggestions:
        tree = seen_from(each.config, bases[each.model_type].base_dir, folder)
        path = folder / f"{safe_name(each.name)}.json"
        replace_file(path, json.dumps(tree, indent=2) + "\n")
        paths.append(path)
    return paths
