"""`runs export`, `import`: runs to a file and back, and from other trackers."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from research_eval.cli._anonymity import show_removed
from research_eval.cli._options import DbOption, split_commas
from research_eval.cli._render import note, printable, size
from research_eval.cli.editing import writing
from research_eval.cli.runs import FilterOption, reading
from research_eval.errors import ConfigError, did_you_mean
from research_eval.records import ArtifactKind

if TYPE_CHECKING:
    from research_eval.store import Store
    from research_eval.store.importing import Imported

_SHOWN_IDS = 10


class Source(StrEnum):
    """Whose records are imported."""

    BUNDLE = "bundle"
    MLFLOW = "mlflow"
    TENSORBOARD = "tensorboard"
    TRACKIO = "trackio"
    WANDB = "wandb"


class ExportFormat(StrEnum):
    """What runs are exported as."""

    BUNDLE = "bundle"
    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"
    MLFLOW = "mlflow"


def add_to(group: typer.Typer) -> None:
    """Add the commands to the group `runs`."""
    group.command("export")(export)
    group.command("import")(import_runs)


RunsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="As for show; else --filter.")
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to.")
]
WithOption = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        metavar="KINDS",
        help="Files to put into a bundle: checkpoints, predictions, reports, ..., or all; the "
        "sources of plug-ins always travel.",
    ),
]
ExportFormatOption = Annotated[
    ExportFormat,
    typer.Option(
        "--format",
        help="A bundle has everything; mlflow writes a SQLite file of MLflow; the others are a "
        "table of runs x metrics.",
    ),
]

AnonymousOption = Annotated[
    bool,
    typer.Option("--anonymous", help="Take out who made the runs and where, and list it."),
]


def export(
    runs: RunsArgument = None,
    output: OutputOption = None,
    condition: FilterOption = None,
    wanted: WithOption = None,
    anonymous: AnonymousOption = False,
    form: ExportFormatOption = ExportFormat.BUNDLE,
    database: DbOption = None,
) -> None:
    """Write runs into one file, to keep or to send; `runs import` takes a bundle in without loss.

    The parents of the chosen runs come along.
    """
    if output is None:
        raise typer.BadParameter("name the file to write", param_hint="--output")
    if not runs and condition is None:
        raise typer.BadParameter("name runs, or choose them with --filter", param_hint="[ID]...")
    if wanted and form is not ExportFormat.BUNDLE:
        raise typer.BadParameter("only a bundle carries files", param_hint="--with")
    if anonymous and form is not ExportFormat.BUNDLE:
        raise typer.BadParameter("only a bundle can be anonymous", param_hint="--anonymous")
    from research_eval.store.copying import take_in_waiting
    from research_eval.store.location import locate

    kinds = ["plugin", *_kinds(split_commas(wanted))]  # a run means nothing without its source
    take_in_waiting(database or locate(create=False))
    with reading(database) as store:
        ids = _chosen(store, runs or [], condition)
        if not ids:
            note("no run meets the condition; nothing was written")
            raise typer.Exit(2)
        if form is ExportFormat.BUNDLE:
            _write_bundle(store, ids, kinds, output, anonymous=anonymous)
        elif form is ExportFormat.MLFLOW:
            _write_mlflow(store, ids, output)
        else:
            _write_table(store, ids, output, form)


def _chosen(store: Store, names: Sequence[str], condition: str | None) -> list[str]:
    ids = [store.run(name).experiment_id for name in names]
    if condition is not None:
        meeting = [run.experiment_id for run in store.runs(filter=condition, metrics=())]
        ids = [run for run in ids if run in set(meeting)] if names else meeting
    return list(dict.fromkeys(ids))


def _write_bundle(
    store: Store,
    ids: Sequence[str],
    kinds: Sequence[ArtifactKind],
    output: Path,
    *,
    anonymous: bool,
) -> None:
    from research_eval.store.anonymous import anonymizer_of
    from research_eval.store.bundle import plan_export, write_bundle

    plan = plan_export(store, ids, kinds)
    parents = f" ({len(plan.parents)} of them parents of others)" if plan.parents else ""
    files = f"{len(plan.files)} files, {size(plan.file_bytes)}" if plan.files else "no files"
    note(f"{len(plan.ids)} runs{parents} with {plan.rows:,} rows and {files}")
    anonymizer = anonymizer_of(store, plan.ids) if anonymous else None
    written = write_bundle(store, plan, output, anonymizer)
    if anonymizer is not None:
        show_removed(anonymizer)
    note(f"wrote {printable(output)}, {size(written)}")
    note(f"next: research-eval reproduce {printable(output)}")


def _write_mlflow(store: Store, ids: Sequence[str], output: Path) -> None:
    try:
        from research_eval.adapters.mlflow import export as export_to_mlflow
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"exporting to MLflow needs {error.name}, which is not installed: "
            "pip install mlflow-skinny"
        ) from error
    in_order = sorted(ids, key=lambda run: store.run(run).id)  # parents before children
    done = export_to_mlflow(store, in_order, f"sqlite:///{output.resolve()}")
    note(f"wrote {done.runs} runs with {done.points:,} points to {printable(output)}")
    if done.skipped:
        note(f"{done.skipped} were there already")
    for name, allowed in done.renamed.items():
        note(f"'{printable(name)}' is called '{printable(allowed)}' there, as MLflow demands")
    if done.shortened:
        note(f"{done.shortened} parameters were cut to the 6,000 characters that MLflow keeps")
    note(f"next: mlflow ui --backend-store-uri sqlite:///{printable(output)}")


def _write_table(store: Store, ids: Sequence[str], output: Path, form: ExportFormat) -> None:
    from research_eval.store.flat import FlatFormat, write_flat

    chosen = set(ids)
    records = [run for run in store.runs() if run.experiment_id in chosen]
    rows, columns = write_flat(records, output, cast("FlatFormat", form.value))
    note(f"wrote {printable(output)}: {rows} runs, {columns} columns")


def _kinds(words: Sequence[str]) -> list[ArtifactKind]:
    """Return the kinds that are meant, in singular or plural."""
    known: dict[str, ArtifactKind] = {}
    for kind in get_args(ArtifactKind):
        known |= {kind: kind, f"{kind}s": kind}
    if "all" in words:
        return list(get_args(ArtifactKind))
    for word in words:
        if word not in known:
            hint = did_you_mean(word, [*get_args(ArtifactKind), "all"])
            raise typer.BadParameter(f"'{word}' is no kind of file; {hint}", param_hint="--with")
    return [known[word] for word in words]


def import_runs(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="A bundle; with --from, a tracker's file or folder."),
    ],
    source: Annotated[
        Source, typer.Option("--from", help="Whose records they are; a bundle is our own.")
    ] = Source.BUNDLE,
    as_new: Annotated[
        bool,
        typer.Option("--as-new", help="Give new ids to runs whose ids mean other runs here."),
    ] = False,
    database: DbOption = None,
) -> None:
    """Take runs in, also those of other trackers: all of them or none, and none twice."""
    if source is Source.BUNDLE:
        done = _import_bundle(path, as_new, database)
    else:
        done = _import_from(source.value, path, as_new, database)
    note(f"took in {len(done.ids)} runs with {done.rows:,} rows, read back and compared")
    if done.skipped:
        note(f"{len(done.skipped)} were here already, just so: {_some(done.skipped)}")
    for old, new in done.ids.items():
        if old != new:
            note(f"run {printable(old)} is here as {printable(new)}")
    if done.ids:
        note(f"next: research-eval runs show {next(iter(done.ids.values()))}")


def _import_bundle(path: Path, as_new: bool, database: str | None) -> Imported:
    from research_eval.store.bundle import check_bundle
    from research_eval.store.importing import import_bundle

    check_bundle(path)
    with writing(database, create=True) as store:
        return import_bundle(store, path, as_new=as_new)


def _import_from(tracker: str, path: Path, as_new: bool, database: str | None) -> Imported:
    from research_eval.importers.taking import find, import_found

    found = find(tracker, path)
    note(f"read {len(found.runs)} runs of {tracker} in {printable(path)}")
    for kind, number in found.left_out.items():
        note(f"left out: {number:,} {kind}")
    with writing(database, create=True) as store:
        return import_found(found, store, as_new=as_new)


def _some(ids: Sequence[str]) -> str:
    more = ", ..." if len(ids) > _SHOWN_IDS else ""
    return printable(", ".join(ids[:_SHOWN_IDS])) + more
