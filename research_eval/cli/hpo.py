"""`hpo`: a search for the best configuration of each architecture."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from research_eval.cli._crew import Crew, GpusOption, WorkersOrNoneOption
from research_eval.cli._options import DbOption, FormatOption, split_commas
from research_eval.cli._progress import display
from research_eval.cli._render import Format, note
from research_eval.cli._study_plan import ranges_of, show_forecast, show_plan
from research_eval.cli._study_result import raise_if_nothing, show_result
from research_eval.cli._study_view import study_view
from research_eval.cli.run import find_place
from research_eval.hpo.names import DEFAULT_NAME, DEFAULT_TRIALS, PRUNERS, SAMPLERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from research_eval.hpo import StudySpec

REFERENCE = {
    "dataset_name": "parity",
    "epochs": 10,
    "batch_size": 64,
    "dataset_params": {"num_samples": 20_000, "seq_len": 16, "vocab_size": 8},
}
"""The base of a study that is given none: the setting at which all examples are compared."""

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}

_BASE = "The fixed part"
_SEARCH = "The search"
_WORK = "The work"


def _many(names: str, meaning: str, panel: str, metavar: str) -> Any:
    return typer.Option(names, metavar=metavar, help=meaning, rich_help_panel=panel)


def hpo(
    study_name: Annotated[
        str, typer.Option("--study-name", help="The same name continues a study.")
    ] = DEFAULT_NAME,
    n_trials: Annotated[
        int, typer.Option("--n-trials", help="Trials in total, over all architectures.")
    ] = DEFAULT_TRIALS,
    model_type: Annotated[
        list[str] | None,
        _many(
            "--model-type",
            "Architectures that share the trials equally. By default that of --json, else all.",
            _BASE,
            "NAMES",
        ),
    ] = None,
    json: Annotated[
        Path | None,
        _many("--json", "Configuration: what it sets is the same in all trials.", _BASE, "FILE"),
    ] = None,
    dataset_type: Annotated[
        str | None, _many("--dataset-type", "synthetic or real_world; is checked.", _BASE, "KIND")
    ] = None,
    dataset_name: Annotated[
        str | None, _many("--dataset-name", "By default parity.", _BASE, "NAME")
    ] = None,
    epochs: Annotated[int | None, _many("--epochs", "By default 10.", _BASE, "N")] = None,
    batch_size: Annotated[int | None, _many("--batch-size", "By default 64.", _BASE, "N")] = None,
    syn_num_samples: Annotated[
        int | None, _many("--syn-num-samples", "Generated training rows.", _BASE, "N")
    ] = None,
    syn_seq_len: Annotated[
        int | None, _many("--syn-seq-len", "Tokens in a generated row.", _BASE, "N")
    ] = None,
    syn_vocab_size: Annotated[
        int | None, _many("--syn-vocab-size", "Different generated tokens.", _BASE, "N")
    ] = None,
    rw_max_length: Annotated[
        int | None, _many("--rw-max-length", "Tokens at which texts are cut.", _BASE, "N")
    ] = None,
    rw_train_samples: Annotated[
        int | None, _many("--rw-train-samples", "Training rows of a real data set.", _BASE, "N")
    ] = None,
    rw_val_samples: Annotated[
        int | None, _many("--rw-val-samples", "Its validation rows.", _BASE, "N")
    ] = None,
    search: Annotated[
        list[str] | None,
        _many(
            "--search",
            "Change a range: low:high, low:high:log, low:high:step, a,b,c, one value to fix it, or "
            "the path alone to search what the fixed part sets. The name of an architecture in "
            "brackets behind model_params means only that one.",
            _SEARCH,
            "PATH=RANGE",
        ),
    ] = None,
    objective: Annotated[
        list[str] | None,
        _many(
            "--objective",
            "What is best, by default final_val_f1:max; several make a Pareto front.",
            _SEARCH,
            "METRIC:MAX|MIN",
        ),
    ] = None,
    constraint: Annotated[
        list[str] | None,
        _many("--constraint", "A limit, for example 'param_count<=5e6'.", _SEARCH, "LIMIT"),
    ] = None,
    sampler: Annotated[
        str, _many("--sampler", f"One of {', '.join(SAMPLERS)}.", _SEARCH, "NAME")
    ] = "auto",
    pruner: Annotated[
        str, _many("--pruner", f"One of {', '.join(PRUNERS)}.", _SEARCH, "NAME")
    ] = "auto",
    seed: Annotated[int, _many("--seed", "Of the sampling.", _SEARCH, "N")] = 0,
    seeds: Annotated[
        int, _many("--seeds", "Runs of each configuration; their mean counts.", _SEARCH, "N")
    ] = 1,
    share_budget: Annotated[
        bool,
        typer.Option(
            "--share-budget",
            help="One search over all architectures, which then says nothing about which is best.",
            rich_help_panel=_SEARCH,
        ),
    ] = False,
    confirm: Annotated[
        int,
        _many("--confirm", "Runs of each winner on fresh seeds after the search.", _SEARCH, "N"),
    ] = 0,
    workers: WorkersOrNoneOption = 1,
    gpus: GpusOption = None,
    timeout: Annotated[
        str | None,
        _many("--timeout", "Begin no trial after this time: 90, 30m, 2h.", _WORK, "TIME"),
    ] = None,
    storage: Annotated[
        str | None,
        _many(
            "--storage",
            "Copy finished trials to this Optuna storage too, for optuna-dashboard and the like.",
            _WORK,
            "URL",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show what is searched, and predict time, memory and disk; record nothing.",
            rich_help_panel=_WORK,
        ),
    ] = False,
    database: DbOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Search for the best configuration of each architecture; every trial is a recorded run.

    Without options: parity at the reference setting, all six architectures, 100 trials. The same
    command continues a study to its total.
    """
    from research_eval.allocator import tune_allocator
    from research_eval.hpo import StudySpec

    tuned = tune_allocator()  # before torch loads
    fields = {
        "dataset_type": dataset_type,
        "dataset_name": dataset_name,
        "epochs": epochs,
        "batch_size": batch_size,
    }
    data = {
        "num_samples": syn_num_samples,
        "seq_len": syn_seq_len,
        "vocab_size": syn_vocab_size,
        "max_length": rw_max_length,
        "train_samples": rw_train_samples,
        "val_samples": rw_val_samples,
    }
    spec = StudySpec(
        name=study_name,
        n_trials=n_trials,
        base=_base(json, fields, data),
        base_dir=Path.cwd() if json is None else json.resolve().parent,
        arms=tuple(split_commas(model_type)),
        search=tuple(search or ()),
        objectives=tuple(split_commas(objective)),
        constraints=tuple(split_commas(constraint)),
        sampler=sampler,
        pruner=pruner,
        seed=seed,
        seeds=seeds,
        share_budget=share_budget,
        confirm=confirm,
    )
    crew = Crew.of(workers, gpus)
    seconds = _parse_time(timeout)
    if dry_run:
        with display() as shown:
            show_forecast(spec, crew, shown, form)
        return
    note(tuned)
    _carry_out(spec, crew, seconds, database, form, storage)


def _carry_out(
    spec: StudySpec,
    crew: Crew,
    seconds: float | None,
    database: str | None,
    form: Format,
    storage: str | None,
) -> None:
    from research_eval.hpo import Study

    study = Study(spec, find_place(database))
    if sys.stderr.isatty():
        show_plan(spec, ranges_of(study.spaces))
    with study_view(spec.name) as view:
        result = study.run(
            workers=crew.workers or None,
            gpus=crew.gpus,
            timeout=seconds,
            audience=view,
            storage=storage,
        )
    show_result(spec, result, form, is_new=view.num_started > 0)
    raise_if_nothing(result)


def _base(file: Path | None, fields: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fixed part: a file, or the reference setting, with options laid over it."""
    from research_eval.config import read_tree

    given = {name: value for name, value in data.items() if value is not None}
    named = {name: value for name, value in fields.items() if value is not None}
    base: dict[str, Any] = dict(REFERENCE) if file is None else read_tree(file)
    if named.get("dataset_name", base.get("dataset_name")) != base.get("dataset_name"):
        base.pop("dataset_params", None)  # they are those of another data set
    params = base.get("dataset_params", {})
    if isinstance(params, dict) and given:  # else the configuration says what is wrong with it
        base["dataset_params"] = {**params, **given}
    return {**base, **named}


def _parse_time(text: str | None) -> float | None:
    """Return seconds, as in 90, 90s, 30m, 2h or 1d.

    Raises:
        typer.BadParameter: If it cannot be read so, or is no time at all.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not seconds:
        raise typer.BadParameter(
            f"write a time as in 90, 30m or 2h, not '{text}'", param_hint="--timeout"
        )
    return seconds
