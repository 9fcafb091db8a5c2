r"""Compare ways to suggest configurations: on made-up spaces and on recorded runs.

    python benchmarks/suggest_replay.py     # 20 instances of each space, the table
    python benchmarks/suggest_replay.py --spaces moe --instances 4 --methods tpe,ours --no-table

A replay begins with 20 random configurations on record and asks ten times for six more. Regret is
the true loss of the configuration that looks best by then, above the lowest loss there is. Bars:
ours <= 0.6 x warm TPE in the geometric mean of the three spaces and <= 0.75 x in each, never above
random; on the table, where both may only propose its rows, <= 0.9 x of warm TPE's area under the
curve of normalised regret; nothing illegal, nothing twice, <= 0.2 s of CPU time per suggestion.

The table, `suggest_table.parquet`, holds every configuration of these runs with its final_val_loss
on a Markov chain of order 2; `--record` wrote it from their store:

    research-eval hpo --json benchmarks/suggest_table.json --study-name suggest_table \
      --model-type dense,moe,goe --sampler random --pruner none --objective final_val_loss:min \
      --search batch_size=16,32,64 --search model_params.embed_dim=16,32,64 \
      --search optimizer_params.lr=1e-4:3e-2 --n-trials 660 --db table.db
    # interrupted after 236 trials; the same of dense,moe with --seed 1, after 28
    research-eval suggest --db table.db --any-code --strategy random --model-type dense,moe \
      --n 360 --max-params 120k --seed 5 --output-dir rnd
    research-eval suggest --db table.db --any-code --strategy random --model-type dense \
      --n 110 --max-params 30k --seed 6 --output-dir rnd2
    research-eval run rnd/*.json rnd2/*.json --db table.db     # as many as there was time for
    python benchmarks/suggest_replay.py --record table.db

`original` is the rule of the framework that this one replaces: the best three, each twice, every
number times 1 +- 10 % and every option flipped now and then, on no scale and without repair.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from suggest_problems import INTEGERS, KNOBS, NOISE, SPACES, Instance, Knobs

from research_eval.hpo.space import Space
from research_eval.knobs import Choice
from research_eval.repair import check, mend
from research_eval.suggest.axes import Encoding, Point
from research_eval.suggest.evidence import Outcome, Tried
from research_eval.suggest.portfolio import Portfolio
from research_eval.suggest.search import Proposal
from research_eval.suggest.warm_tpe import warm_tpe

HISTORY, ROUNDS, BATCH = 20, 10, 6
TABLE = Path(__file__).with_name("suggest_table.parquet")
ARM = "made-up"
SPACE = {ARM: Space(KNOBS, INTEGERS)}

Method = Callable[[Portfolio, int], Iterator[Proposal]]


def legal(point: Point) -> Point:
    return Point(point.arm, mend(Knobs, point.params))


def original(search: Portfolio, seed: int) -> Iterator[Proposal]:
    rng = np.random.default_rng(seed)
    for parent in search.ranked[:3]:
        for _ in range(2):
            moved = {name: _changed(name, v, rng) for name, v in parent.point.params.items()}
            yield Proposal(Point(ARM, moved), "perturb")


def _changed(name: str, value: Any, rng: np.random.Generator) -> Any:
    knob = KNOBS[name]
    if isinstance(knob, Choice):
        return knob.options[rng.integers(len(knob.options))] if rng.random() < 0.3 else value
    moved = knob.nearest(value * (1 + rng.uniform(-0.1, 0.1)))
    return round(moved) if name in INTEGERS else moved


METHODS: dict[str, Method] = {
    "random": lambda search, _: search.random(BATCH),
    "original": original,
    "perturb": lambda search, _: search.perturb(BATCH, 2),
    "tpe": lambda search, seed: warm_tpe(search, BATCH, seed),
    "ours": lambda search, _: search.auto(BATCH),
}


class Length(NamedTuple):
    """Configurations on record at first, and rounds after that."""

    history: int
    rounds: int


@dataclass
class Replay:
    """One method on one landscape.

    Attributes:
        regrets: After the history, and after each round.
    """

    regrets: list[float] = field(default_factory=list)
    illegal: int = 0
    duplicates: int = 0
    suggestions: int = 0
    seconds: float = 0.0


@dataclass
class Record:
    """What is known in a replay: configurations by key, with what was observed and what is true."""

    tried: dict[object, Tried] = field(default_factory=dict)
    true: dict[object, float] = field(default_factory=dict)

    def add(self, point: Point, true: float, observed: float) -> None:
        key = point.key()
        before = self.tried[key].losses if key in self.tried else ()
        losses = () if math.isnan(true) else (*before, observed)
        outcome = Outcome.COMPLETED if losses else Outcome.DIVERGED
        self.tried[key] = Tried(point, outcome, losses)
        self.true[key] = true

    def best(self) -> float:
        """Return the true loss of what looks best."""
        known = [(tried.loss, key) for key, tried in self.tried.items() if tried.losses]
        return self.true[min(known, key=lambda pair: pair[0])[1]] if known else math.inf


def replay(
    instance: Instance, optimum: float, number: int, method: Method, length: Length
) -> Replay:
    """Return how a method does on an instance; all methods begin with the same history."""
    noise = np.random.default_rng([7, number])
    record, found = Record(), Replay()

    def observe(point: Point) -> None:
        true = instance.loss(point.params)
        record.add(point, true, true + noise.normal(0, NOISE))

    for each in Portfolio(SPACE, legal, [], seed=1000 + number).random(length.history):
        observe(each.point)
    found.regrets.append(record.best() - optimum)
    for turn in range(length.rounds):
        seed = 100 * number + turn
        start = time.process_time()
        search = Portfolio(SPACE, legal, [*record.tried.values()], seed=seed)
        proposals = [*method(search, seed)]
        found.seconds += time.process_time() - start
        for proposal in proposals:
            point = proposal.point
            found.suggestions += 1
            if check(Knobs, point.params):
                found.illegal += 1
                continue
            if point.key() in record.tried and proposal.source != "replicate":
                found.duplicates += 1
                continue
            observe(point)
        found.regrets.append(record.best() - optimum)
    return found


# ------------------------------------------------------------------------------ recorded runs


class Table:
    """Recorded runs of this project: what may be proposed, and what came of it."""

    def __init__(self, file: Path) -> None:
        import pandas as pd

        frame = pd.read_parquet(file)
        self.points = [
            Point(arm, json.loads(params))
            for arm, params in zip(frame["model_type"], frame["params"], strict=True)
        ]
        self.losses = frame["loss"].to_numpy()
        self.spaces = {arm: _space_of(arm, self.points) for arm in sorted(set(frame["model_type"]))}
        self.encoding = Encoding(self.spaces)
        self.rows = self.encoding.rows(self.points)

    def regret(self, places: Sequence[int]) -> float:
        """Return the loss of the best of some rows, 0 for the best and 1 for the median."""
        best, middle = np.nanmin(self.losses), np.nanmedian(self.losses)
        return float((np.nanmin(self.losses[[*places]]) - best) / (middle - best))

    def tried(self, places: Sequence[int]) -> list[Tried]:
        return [
            Tried(self.points[i], Outcome.DIVERGED)
            if math.isnan(self.losses[i])
            else Tried(self.points[i], Outcome.COMPLETED, (float(self.losses[i]),))
            for i in places
        ]


def record_table(database: str) -> None:
    """Write the table of all configurations in a store."""
    import pandas as pd

    from research_eval.store import Store
    from research_eval.suggest.past import Question, read_past

    with Store.open(database, mode="ro") as store:
        past = read_past(store, Question(any_code=True))
    rows = [
        {
            "model_type": past.arms[each.point.arm].model_type,
            "params": json.dumps(each.point.params, sort_keys=True),
            "loss": each.loss if each.outcome is Outcome.COMPLETED else math.nan,
            "seconds": each.seconds,
        }
        for each in past.tried
        if each.outcome is not Outcome.UNKNOWN
    ]
    pd.DataFrame(rows).to_parquet(TABLE, index=False, compression="zstd")
    print(f"{len(rows)} configurations written to {TABLE}")


def _space_of(arm: str, points: Sequence[Point]) -> Space:
    """Return the declared ranges of what an arm's rows hold."""
    from research_eval.config import validate
    from research_eval.hpo.space import space_of

    ours = next(point for point in points if point.arm == arm)
    base = {"experiment_name": "table", "model_type": arm, "dataset_name": "markov"}
    ranges = ["batch_size=16,32,64", "optimizer_params.lr=1e-4:3e-2"]
    ranges.append("model_params.embed_dim=16,32,64,128")
    space, issues = space_of(validate(base), arm, ranges)
    assert not issues
    return Space({p: space.knobs[p] for p in ours.params}, space.integers)


def replay_table(table: Table, number: int, name: str) -> list[float]:
    """Return normalised regret after the history and each round, rows only."""
    rng = np.random.default_rng([11, number])
    seen = [*map(int, rng.choice(len(table.points), HISTORY, replace=False))]
    curve = [table.regret(seen)]
    for turn in range(ROUNDS):
        left = np.setdiff1d(np.arange(len(table.points)), seen)
        search = Portfolio(table.spaces, lambda point: point, table.tried(seen), seed=turn)
        if name == "random":
            chosen = rng.choice(left, BATCH, replace=False)
        elif name == "ours":
            chosen = left[search.choose([table.points[i] for i in left], BATCH)]
        else:
            chosen = _nearest(table, warm_tpe(search, BATCH, 100 * number + turn), left)
        seen += [*map(int, chosen)]
        curve.append(table.regret(seen))
    return curve


def _nearest(table: Table, proposals: Iterator[Proposal], left: Sequence[int]) -> list[int]:
    """Return the row of the same arm that is closest to each proposal, none of them twice."""
    free = [*map(int, left)]
    chosen = []
    for proposal in proposals:
        row = table.encoding.rows([proposal.point])[0]
        same = [i for i in free if table.points[i].arm == proposal.point.arm] or free
        nearest = min(same, key=lambda i: float(((table.rows[i] - row) ** 2).sum()))
        free.remove(nearest)
        chosen.append(nearest)
    return chosen


# -------------------------------------------------------------------------------------- reports


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--spaces", default=",".join(SPACES))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--instances", type=int, default=20)
    parser.add_argument("--history", type=int, default=HISTORY)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--table", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--made-up", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--record", metavar="DB", help="write the table anew from a store")
    asked = parser.parse_args()
    if asked.record:
        record_table(asked.record)
        return
    length = Length(asked.history, asked.rounds)
    names = asked.methods.split(",")
    if asked.made_up:
        _report_made_up(asked.spaces.split(","), names, asked.instances, length)
    if asked.table:
        _report_table(Table(TABLE), asked.instances)


def _report_made_up(
    spaces: Sequence[str], names: Sequence[str], instances: int, length: Length
) -> None:
    early_turn = min(3, length.rounds)
    print(
        f"space    method     regret after {early_turn} rounds -> {length.rounds}"
        "   illegal   twice   CPU s/suggestion"
    )
    ratios = []
    for space in spaces:
        cases = [Instance(space, number) for number in range(instances)]
        optima = [case.optimum() for case in cases]
        last: dict[str, list[float]] = {}
        for name in names:
            pairs = zip(cases, optima, itertools.count())
            found = [replay(case, best, n, METHODS[name], length) for case, best, n in pairs]
            last[name] = [each.regrets[-1] for each in found]
            early = float(np.mean([each.regrets[early_turn] for each in found]))
            low, high = _interval(last[name])
            count = sum(each.suggestions for each in found)
            print(
                f"{space:8} {name:10} {early:.3f} -> {np.mean(last[name]):.3f} "
                f"[{low:.3f}, {high:.3f}]"
                f"   {sum(each.illegal for each in found):5}"
                f"   {sum(each.duplicates for each in found):5}"
                f"   {sum(each.seconds for each in found) / count:.4f}",
                flush=True,
            )
        if {"ours", "tpe"} <= set(names):
            ratios.append(_compare(space, last))
    if len(ratios) > 1:
        print(f"geometric mean of ours / tpe: {math.exp(np.mean(np.log(ratios))):.3f}")


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """Return a 95 % t-interval of the mean."""
    half = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return float(np.mean(values) - half), float(np.mean(values) + half)


def _compare(space: str, last: Mapping[str, Sequence[float]]) -> float:
    ours_, theirs = np.array(last["ours"]), np.array(last["tpe"])
    ratio = float(ours_.mean() / theirs.mean())
    p = stats.wilcoxon(ours_, theirs).pvalue
    print(
        f"{space:8} ours / tpe {ratio:.3f}, better in {(ours_ < theirs).sum()} of {len(ours_)}, "
        f"Wilcoxon p = {p:.1e}"
    )
    return ratio


def _report_table(table: Table, instances: int) -> None:
    print(
        f"\n{len(table.points)} recorded runs of {', '.join(table.spaces)}: mean normalised regret"
    )
    areas = {}
    for name in ("random", "tpe", "ours"):
        start = time.process_time()
        curves = np.array([replay_table(table, number, name) for number in range(instances)])
        seconds = (time.process_time() - start) / (instances * ROUNDS * BATCH)
        areas[name] = curves.mean(axis=1)
        low, high = _interval(areas[name])
        print(
            f"{name:8} area {areas[name].mean():.4f} [{low:.4f}, {high:.4f}]   "
            f"after 3 rounds {curves[:, 3].mean():.4f}, after 10 {curves[:, -1].mean():.4f}   "
            f"CPU s/suggestion {seconds:.4f}",
            flush=True,
        )
    for other in ("tpe", "random"):
        ratio = areas["ours"].mean() / areas[other].mean()
        low, high = _interval(areas["ours"] - areas[other])
        print(f"ours / {other}: {ratio:.3f}; difference of areas, paired, [{low:.4f}, {high:.4f}]")


if __name__ == "__main__":
    main()
