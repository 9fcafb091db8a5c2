"""`hpo`: a search for the best configuration of each architecture."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from research_eval.allocator import tune_allocator
from research_eval.cli._crew import Crew, GpusOption, WorkersOrNoneOption
from research_eval.cli._options import DbOption, FormatOption, parse_time, split_commas
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

_FIELDS = ("dataset_type", "dataset_name", "epochs", "batch_size")
_DATA = {
    "syn_num_samples": "num_samples",
    "syn_seq_len": "seq_len",
    "syn_vocab_size": "vocab_size",
    "rw_max_length": "max_length",
    "rw_train_samples": "train_samples",
    "rw_val_samples": "val_samples",
}
"""The parameter of the data set behind each option of the original."""

_BASE = "The fixed part"
_SEARCH = "The search"
_WORK = "The work"


def _option(name: str, meaning: str, panel: str, metavar: str | None = None) -> Any:
    return typer.Option(name, help=meaning, rich_help_panel=panel, metavar=metavar)


NameOption = Annotated[str, typer.Option("--study-name", help="The same name continues a study.")]
TrialsOption = Annotated[
    int, typer.Option("--n-trials", help="Trials in total, over all architectures.")
]
ModelTypeOption = Annotated[
    list[str] | None,
    _option(
        "--model-type",
        "Architectures that share the trials equally. By default that of --json, else all.",
        _BASE,
        "NAMES",
    ),
]
JsonOption = Annotated[
    Path | None,
    _option("--json", "Configuration: what it sets is the same in all trials.", _BASE, "FILE"),
]
DatasetTypeOption = Annotated[
    str | None, _option("--dataset-type", "synthetic or real_world; is checked.", _BASE, "KIND")
]
DatasetNameOption = Annotated[
    str | None, _option("--dataset-name", "By default parity.", _BASE, "NAME")
]
EpochsOption = Annotated[int | None, _option("--epochs", "By default 10.", _BASE, "N")]
BatchSizeOption = Annotated[int | None, _option("--batch-size", "By default 64.", _BASE, "N")]
SynNumSamplesOption = Annotated[
    int | None, _option("--syn-num-samples", "Generated training rows.", _BASE, "N")
]
SynSeqLenOption = Annotated[
    int | None, _option("--syn-seq-len", "Tokens in a generated row.", _BASE, "N")
]
SynVocabSizeOption = Annotated[
    int | None, _option("--syn-vocab-size", "Different generated tokens.", _BASE, "N")
]
RwMaxLengthOption = Annotated[
    int | None, _option("--rw-max-length", "Tokens at which texts are cut.", _BASE, "N")
]
RwTrainSamplesOption = Annotated[
    int | None, _option("--rw-train-samples", "Training rows of a real data set.", _BASE, "N")
]
RwValSamplesOption = Annotated[
    int | None, _option("--rw-val-samples", "Its validation rows.", _BASE, "N")
]

SearchOption = Annotated[
    list[str] | None,
    _option(
        "--search",
        "Change a range: low:high, low:high:log, low:high:step, a,b,c, one value to fix it, or "
        "the path alone to search what the fixed part sets. The name of an architecture in "
        "brackets behind model_params means only that one.",
        _SEARCH,
        "PATH=RANGE",
    ),
]
ObjectiveOption = Annotated[
    list[str] | None,
    _option(
        "--objective",
        "What is best, by default final_val_f1:max, or final_val_loss:min for language modelling; "
        "several make a Pareto front.",
        _SEARCH,
        "METRIC:MAX|MIN",
    ),
]
ConstraintOption = Annotated[
    list[str] | None,
    _option("--constraint", "A limit, for example 'param_count<=5e6'.", _SEARCH, "LIMIT"),
]
SamplerOption = Annotated[
    str, _option("--sampler", f"One of {', '.join(SAMPLERS)}.", _SEARCH, "NAME")
]
PrunerOption = Annotated[str, _option("--pruner", f"One of {', '.join(PRUNERS)}.", _SEARCH, "NAME")]
SeedOption = Annotated[int, _option("--seed", "Of the sampling.", _SEARCH, "N")]
SeedsOption = Annotated[
    int, _option("--seeds", "Runs of each configuration; their mean counts.", _SEARCH, "N")
]
ShareBudgetOption = Annotated[
    bool,
    _option(
        "--share-budget",
        "One search over all architectures, which then says nothing about which is best.",
        _SEARCH,
    ),
]
ConfirmOption = Annotated[
    int,
    _option("--confirm", "Runs of each winner on fresh seeds after the search.", _SEARCH, "N"),
]
MatchOption = Annotated[
    str | None,
    _option(
        "--match",
        "Scale every configuration to this cost, for example active_params=5M, so that all "
        "architectures cost the same: params, active_params or flops.",
        _SEARCH,
        "AXIS=AMOUNT",
    ),
]
WarmStartOption = Annotated[
    str | None,
    _option(
        "--warm-start",
        "Earlier runs to learn from, as far as they lie in this space: a study, or a condition as "
        "for runs list. What they tried is not tried again.",
        _SEARCH,
        "STUDY|FILTER",
    ),
]

TimeoutOption = Annotated[
    str | None, _option("--timeout", "Begin no trial after this time: 90, 30m, 2h.", _WORK, "TIME")
]
StorageOption = Annotated[
    str | None,
    _option(
        "--storage",
        "Copy finished trials to this Optuna storage too, for optuna-dashboard and the like.",
        _WORK,
        "URL",
    ),
]
DryRunOption = Annotated[
    bool,
    _option(
        "--dry-run",
        "Show what is searched, and predict time, memory and disk; record nothing.",
        _WORK,
    ),
]


def hpo(
    study_name: NameOption = DEFAULT_NAME,
    n_trials: TrialsOption = DEFAULT_TRIALS,
    model_type: ModelTypeOption = None,
    json: JsonOption = None,
    dataset_type: DatasetTypeOption = None,
    dataset_name: DatasetNameOption = None,
    epochs: EpochsOption = None,
    batch_size: BatchSizeOption = None,
    syn_num_samples: SynNumSamplesOption = None,
    syn_seq_len: SynSeqLenOption = None,
    syn_vocab_size: SynVocabSizeOption = None,
    rw_max_length: RwMaxLengthOption = None,
    rw_train_samples: RwTrainSamplesOption = None,
    rw_val_samples: RwValSamplesOption = None,
    search: SearchOption = None,
    objective: ObjectiveOption = None,
    constraint: ConstraintOption = None,
    sampler: SamplerOption = "auto",
    pruner: PrunerOption = "auto",
    seed: SeedOption = 0,
    seeds: SeedsOption = 1,
    share_budget: ShareBudgetOption = False,
    confirm: ConfirmOption = 0,
    warm_start: WarmStartOption = None,
    match: MatchOption = None,
    workers: WorkersOrNoneOption = 1,
    gpus: GpusOption = None,
    timeout: TimeoutOption = None,
    storage: StorageOption = None,
    dry_run: DryRunOption = False,
    database: DbOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Search for the best configuration of each architecture; every trial is a recorded run.

    Without options: parity at the reference setting, all six architectures, 100 trials. The same
    command continues a study to its total.
    """
    tuned = tune_allocator()  # before torch loads
    spec = _spec(locals())
    crew = Crew.of(workers, gpus)
    seconds = parse_time(timeout, "--timeout")
    if dry_run:
        show_forecast(spec, crew, form)
        return
    note(tuned)
    _carry_out(spec, crew, seconds, database, form, storage)


def _spec(given: Mapping[str, Any]) -> StudySpec:
    """Return the study that the options ask for.

    Args:
        given: Every option by the name of its argument.
    """
    from research_eval.hpo import StudySpec

    file: Path | None = given["json"]
    same = (
        "n_trials",
        "sampler",
        "pruner",
        "seed",
        "seeds",
        "share_budget",
        "confirm",
        "warm_start",
        "match",
    )
    return StudySpec(
        name=given["study_name"],
        base=_base(file, given),
        base_dir=Path.cwd() if file is None else file.resolve().parent,
        arms=tuple(split_commas(given["model_type"])),
        search=tuple(given["search"] or ()),
        objectives=tuple(split_commas(given["objective"])),
        constraints=tuple(split_commas(given["constraint"])),
        **{name: given[name] for name in same},
    )


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
        show_plan(study.spec, ranges_of(study.spaces))
    with study_view(spec.name) as view:
        result = study.run(
            workers=crew.workers or None,
            gpus=crew.gpus,
            timeout=seconds,
            audience=view,
            storage=storage,
        )
    show_result(study.spec, result, form, is_new=view.num_started > 0)
    raise_if_nothing(result)


def _base(file: Path | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fixed part: a file, or the reference setting, with options laid over it."""
    from research_eval.config import read_tree

    named = {name: given[name] for name in _FIELDS if given[name] is not None}
    data = {name: given[option] for option, name in _DATA.items() if given[option] is not None}
    base: dict[str, Any] = dict(REFERENCE) if file is None else read_tree(file)
    if named.get("dataset_name", base.get("dataset_name")) != base.get("dataset_name"):
        base.pop("dataset_params", None)  # they are those of another data set
    params = base.get("dataset_params", {})
    if isinstance(params, dict) and data:  # else the configuration says what is wrong with it
        base["dataset_params"] = {**params, **data}
    return {**base, **named}
