"""`reproduce`: the runs of a bundle carried out again, and compared."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from research_eval.cli._batch import Batch, OneRun
from research_eval.cli._crew import Crew, GpusOption, WorkersOption
from research_eval.cli._options import FormatOption, is_setting, split_commas
from research_eval.cli._progress import display
from research_eval.cli._render import Column, Format, note, number, print_rows, printable
from research_eval.cli.run import AgainOption
from research_eval.errors import ConfigError, RunError

if TYPE_CHECKING:
    from research_eval.jobs import Job
    from research_eval.reproduction import Bundle, Checked, Comparison, Difference, Original

SHOWN = ("final_val_f1", "final_test_f1", "final_val_loss", "final_test_loss")
"""Metrics of the table; JSON and CSV have all."""

BundleArgument = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="What `runs export` has written.")
]
SettingsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PATH=VALUE]...",
        help="How to carry runs out, for example training_params.num_threads=2.",
    ),
]
OnlyOption = Annotated[
    list[str] | None, typer.Option("--only", metavar="IDS", help="Only these runs.")
]
SeedsOption = Annotated[
    int | None, typer.Option("--seeds", min=1, help="At most so many runs of a configuration.")
]
TrustOption = Annotated[
    bool, typer.Option("--trust", help="Run the plug-ins that the bundle brings: programs.")
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FOLDER", help="Where all goes; by default BUNDLE_reproduced."
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check environment, code and data; run nothing.")
]


def reproduce(
    bundle: BundleArgument,
    settings: SettingsArgument = None,
    only: OnlyOption = None,
    seeds: SeedsOption = None,
    trust: TrustOption = False,
    output: OutputOption = None,
    workers: WorkersOption = 1,
    gpus: GpusOption = None,
    again: AgainOption = False,
    dry_run: DryRunOption = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Carry out the runs of a bundle again, and say whether the same comes out.

    Your own database is not touched. The same command continues what was interrupted.
    """
    from research_eval.allocator import tune_allocator

    tuned = tune_allocator()  # before torch loads
    crew = Crew.of(workers, gpus)
    wrong = [each for each in settings or () if not is_setting(each)]
    if wrong:
        raise typer.BadParameter(f"'{wrong[0]}' is no PATH=VALUE", param_hint="[PATH=VALUE]...")
    folder = output or Path(f"{bundle.stem}_reproduced")
    opened, checked = _looked_at(
        bundle, folder, settings or (), split_commas(only), seeds, trust=trust
    )
    if not dry_run:
        jobs, originals = _jobs(checked, opened, again=again)
        if jobs:
            note(tuned)
            place = _place(folder, settings or ())
            _carry_out(opened, jobs, originals, place, crew=crew, form=form)
    for each in checked:
        if each.problem is not None:
            raise each.problem


def _looked_at(
    path: Path,
    folder: Path,
    settings: Sequence[str],
    only: Sequence[str],
    seeds: int | None,
    *,
    trust: bool,
) -> tuple[Bundle, list[Checked]]:
    """Open the bundle, choose its runs and say what differs here."""
    from research_eval.reproduction import check, choose, differences, open_bundle, require_trust

    bundle = open_bundle(path, folder)
    originals = choose(bundle, only, seeds)
    groups = len({each.group for each in originals})
    kinds = "configuration" if groups == 1 else "configurations"
    note(
        f"bundle: {printable(path)}, {len(originals)} of {len(bundle.originals)} runs, "
        f"{groups} {kinds}, sha256 {bundle.sha256[:16]}"
    )
    for kind, count in bundle.left_out.items():
        note(f"not run again: {count} x {kind}")
    if not originals:
        raise ConfigError(f"{path} holds no completed run that could be run again")
    require_trust(originals, bundle, is_trusted=trust)
    with display() as shown:
        checked = check(originals, settings, OneRun("checking", shown))
    _say_environment(differences(originals))
    _say_threads(checked)
    _say_code(checked, bundle)
    _say_data(checked)
    return bundle, checked


# ------------------------------------------------------------------------------ what differs here


def _say_environment(found: Sequence[Difference]) -> None:
    if not found:
        note("environment: as recorded (python, packages, platform, hardware)")
        return
    rows = [
        {"what": each.what, "recorded": each.recorded, "here": each.here, "runs": each.runs}
        for each in found
    ]
    columns = [
        Column("what", "environment"),
        Column("recorded", "recorded"),
        Column("here", "here"),
        Column("runs", "runs", is_number=True),
    ]
    print_rows(rows, columns, Format.TABLE, stderr=True)
    note("another environment may change the last digits of results, or more")


def _say_threads(checked: Sequence[Checked]) -> None:
    for recorded, here in dict.fromkeys(each.threads for each in checked if each.problem is None):
        told = "not recorded" if recorded is None else f"{recorded} recorded"
        own = "as torch chooses" if here is None else f"{here} here"
        change = "" if recorded == here else "; another number may change the last digits"
        note(f"CPU threads: {told}, {own}{change}")


def _say_code(checked: Sequence[Checked], bundle: Bundle) -> None:
    able = [each for each in checked if each.problem is None]
    others = [each.original for each in able if not each.is_same_code]
    if able and not others:
        note("code: the source is what was recorded")
    for group in _by_group(others):
        changed = bundle.is_anonymous and group[0].plugins
        why = "; names were taken out of its plug-in" if changed else _recorded_by(group[0])
        note(f"code: the source of {_ids(group)} is not what was recorded{why}")


def _recorded_by(original: Original) -> str:
    """Return which version of the program made a run, as the end of a sentence."""
    packages = json.loads(original.record.env_details_json).get("packages", {})
    commit = original.record.git_commit
    where = f", in a checkout at {commit[:12]}" if commit else ""
    return printable(f", by research-eval {packages.get('research-eval')}{where}")


def _say_data(checked: Sequence[Checked]) -> None:
    able = [each.original for each in checked if each.problem is None]
    if able:
        names = sorted({f"{each.record.dataset_name}" for each in able})
        note(f"data: the fingerprint of {printable(', '.join(names))} is what was recorded")
    problems: dict[str, list[Original]] = {}
    for each in checked:
        if each.problem is not None:
            problems.setdefault(str(each.problem), []).append(each.original)
    if not able and len(problems) == 1:
        return  # it is the error that ends the command
    for problem, originals in problems.items():
        note(f"cannot be reproduced here: {_ids(originals)}: {printable(problem)}")


def _by_group(originals: Sequence[Original]) -> list[list[Original]]:
    groups: dict[tuple[str | None, ...], list[Original]] = {}
    for each in originals:
        groups.setdefault(each.group, []).append(each)
    return list(groups.values())


def _ids(originals: Sequence[Original]) -> str:
    return printable(", ".join(each.record.experiment_id for each in originals))


# ------------------------------------------------------------------------------ running, judging


def _place(folder: Path, settings: Sequence[str]) -> Path:
    """Return where runs are recorded; those that are carried out otherwise have their own place."""
    from research_eval.files import safe_name

    name = "_".join(["reproduced", *sorted(settings)])
    return folder / f"{safe_name(name)}.db"


def _carry_out(
    bundle: Bundle,
    jobs: Sequence[Job],
    originals: Sequence[Sequence[Original]],
    place: Path,
    *,
    crew: Crew,
    form: Format,
) -> None:
    from research_eval import executors

    crew = crew.at_most(len(jobs))
    batch = Batch(jobs)
    note(f"database: {printable(place)}")
    try:
        with display() as batch.display:
            if crew == Crew():
                executors.run_here(jobs, place, batch)
            else:
                executors.run_in_workers(jobs, place, batch, workers=crew.workers, gpus=crew.gpus)
    finally:
        comparisons = _comparisons(bundle, batch, originals)
        _show(comparisons, form)
    batch.raise_if_incomplete()
    _conclude(comparisons, place)


def _jobs(
    checked: Sequence[Checked], bundle: Bundle, *, again: bool
) -> tuple[list[Job], list[list[Original]]]:
    """Return what is to be done, and the recorded runs that each job repeats."""
    from research_eval.jobs import Job

    repeated: dict[tuple[str, Path, int], list[Original]] = {}
    for each in checked:
        if each.problem is None:
            key = (each.config_json, each.original.base_dir, each.original.record.seed or 0)
            repeated.setdefault(key, []).append(each.original)
    jobs = [
        Job(text, base_dir, seed, f"{bundle.path.name}: {originals[0].record.experiment_id}", again)
        for (text, base_dir, seed), originals in repeated.items()
    ]
    return jobs, list(repeated.values())


def _comparisons(
    bundle: Bundle, batch: Batch, originals: Sequence[Sequence[Original]]
) -> list[Comparison]:
    from research_eval.records import RunStatus
    from research_eval.reproduction import compare, seed_spreads

    spreads = seed_spreads(bundle.originals)
    return [
        comparison
        for index, result in sorted(batch.results.items())
        if result.record is not None and result.record.status is RunStatus.COMPLETED
        for original in originals[index]
        for comparison in compare(original, result.record, spreads)
    ]


def _show(comparisons: Sequence[Comparison], form: Format) -> None:
    if not comparisons:
        return
    rows = [_row(each) for each in comparisons if form is not Format.TABLE or each.metric in SHOWN]
    columns = [
        Column("run", "run", is_fixed=True),
        Column("seed", "seed", str, is_number=True, is_optional=True),
        Column("metric", "metric", is_fixed=True),
        Column("recorded", "recorded", number, is_number=True),
        Column("obtained", "obtained", number, is_number=True),
        Column("difference", "difference", _signed, is_number=True),
        Column("limit", "spread", number, is_number=True),
        Column("verdict", "verdict", is_fixed=True),
    ]
    print_rows(rows, columns, form)


def _row(each: Comparison) -> dict[str, Any]:
    recorded, obtained = each.values
    return {
        "run": each.original.experiment_id,
        "obtained_run": each.obtained.experiment_id,
        "experiment_name": each.original.experiment_name,
        "seed": each.original.seed,
        "metric": each.metric,
        "recorded": recorded,
        "obtained": obtained,
        "difference": each.difference,
        "limit": each.limit,
        "verdict": each.verdict,
    }


def _signed(value: float) -> str:
    return "0" if value == 0 else f"{value:+.2g}"


def _conclude(comparisons: Sequence[Comparison], place: Path) -> None:
    """Say in a line what came out.

    Raises:
        RunError: If a score is missing or lies outside of the spread of seeds.
    """
    counts = Counter(each.verdict for each in comparisons)
    note(f"of {len(comparisons)} scores: " + ", ".join(f"{n} {name}" for name, n in counts.items()))
    if counts["not equal"]:
        note(
            "not equal: the spread of seeds is not known, since the bundle has fewer than 3 seeds "
            "of these configurations"
        )
    for verdict, what in (("missing", "missing"), ("outside", "outside of the spread of seeds")):
        runs = {each.original.experiment_id for each in comparisons if each.verdict == verdict}
        if runs:
            raise RunError(
                f"{len(runs)} runs have scores {what}: {', '.join(sorted(runs))}; "
                f"see research-eval runs list --db {place}"
            )
    note(f"next: research-eval runs list --db {printable(place)}")
