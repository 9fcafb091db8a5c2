"""`datasets`: which there are, their parameters, and whether one keeps its promises."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from research_eval.cli._options import FormatOption
from research_eval.cli._render import (
    Column,
    Format,
    note,
    print_rows,
    print_sections,
    printable,
)
from research_eval.cli.catalog import first_line, print_parameters

if TYPE_CHECKING:
    from research_eval.data_report import DataReport


class _ShowByDefault(TyperGroup):
    """A group in which a word that is no command is what `show` is to show."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None:
            args = ["show", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(cls=_ShowByDefault)


@app.callback(invoke_without_command=True)
def datasets(context: typer.Context, form: FormatOption = Format.TABLE) -> None:
    """List the data sets; `datasets NAME` lists the parameters of one."""
    from research_eval.registry import DATASETS_MAP

    if context.invoked_subcommand is not None:
        if form is not Format.TABLE:
            raise typer.BadParameter("stands behind the name", param_hint="--format")
        return
    rows = [
        {
            "name": name,
            "dataset_type": spec.dataset_type,
            "tasks": list(spec.tasks),
            "meaning": first_line(spec.params),
            "version": spec.version,
        }
        for name, spec in DATASETS_MAP.items()
    ]
    columns = (
        Column("name", "data set", is_fixed=True),
        Column("dataset_type", "type"),
        Column("tasks", "task", " or ".join),
        Column("meaning", "meaning"),
    )
    print_rows(rows, columns, form)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A data set, or ./file.py:Name.")],
    form: FormatOption = Format.TABLE,
) -> None:
    """Show the parameters of one; `show` may be left out."""
    from research_eval.registry import DATASETS_MAP

    print_parameters(DATASETS_MAP, name, form)


@app.command()
def check(
    name: Annotated[
        str, typer.Argument(metavar="NAME | PATH", help="A data set, a file or a folder.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PARAMETER=VALUE]...", help="Its parameters."),
    ] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Load one and show sizes, balance, duplicates, leakage and what trivial models score."""
    from research_eval.config import validate
    from research_eval.data_report import report
    from research_eval.prepare import cache_dir
    from research_eval.registry import DATASETS_MAP
    from research_eval.spec import LoadContext

    is_file = name not in DATASETS_MAP and Path(name).exists()
    path = {"dataset_params": {"path": str(Path(name).resolve())}} if is_file else {}
    experiment = validate(
        {
            "experiment_name": "check",
            "model_type": "dense",
            "dataset_name": "files" if is_file else name,
            **path,
        },
        overrides=[f"dataset_params.{setting}" for setting in settings or ()],
    )
    context = LoadContext(experiment.base_dir, cache_dir(), lambda line: note(printable(line)))
    params = experiment.config.dataset_params
    _print_report(report(experiment.dataset.load(params, context)), form)


def _print_report(found: DataReport, form: Format) -> None:
    splits = {split.name: asdict(split) for split in found.splits}
    for split in splits.values():
        del split["name"]
        rows = split.pop("class_rows")
        split |= {f"rows of {label}": n for label, n in zip(found.label_names, rows, strict=True)}
    trivial = {
        "majority class": dict(found.majority),
        "bag of words": dict(found.bag_of_words),
        "token frequencies": {} if found.unigram_loss is None else {"loss": found.unigram_loss},
        "the true process": {} if found.loss_floor is None else {"loss": found.loss_floor},
    }
    sections = {
        "data set": {
            "task": found.task,
            "source": found.source,
            "fingerprint": found.fingerprint,
            "vocab_size": found.vocab_size,
            "used_vocab": found.used_vocab,
            "unseen_share": found.unseen_share,
        },
        **splits,
        "rows in two splits": found.shared_rows,
        "done on loading": found.counts,
        "scores on validation without a model": {k: v for k, v in trivial.items() if v},
    }
    print_sections(sections, form)
