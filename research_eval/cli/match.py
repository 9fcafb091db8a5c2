"""`match`: the configuration of another architecture that costs the same."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from research_eval.cli._options import FormatOption
from research_eval.cli._progress import display
from research_eval.cli._render import Column, Format, note, print_rows, printable, to_json, write
from research_eval.quantities import amount

if TYPE_CHECKING:
    from research_eval.matching.arms import Match


ConfigArgument = Annotated[Path, typer.Argument(metavar="CONFIG", help="The given configuration.")]
ToOption = Annotated[
    str,
    typer.Option(metavar="MODEL", help="The other architecture, or ./file.py:Name beside CONFIG."),
]
OnOption = Annotated[
    str,
    typer.Option(
        metavar="AXIS", help="What is to be equal: params, active_params, flops or step_time."
    ),
]
SettingsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PATH=VALUE]...",
        help="What the other one is to have, for example model_params.num_experts=16.",
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="By default NAME_as_MODEL.json beside CONFIG."),
]
StepTimeOption = Annotated[
    bool, typer.Option(help="Measure steps of both, also where they need not be equal.")
]


def match(
    config: ConfigArgument,
    to: ToOption,
    on: OnOption,
    settings: SettingsArgument = None,
    output: OutputOption = None,
    step_time: StepTimeOption = True,
    form: FormatOption = Format.TABLE,
) -> None:
    """Write the configuration of another architecture that costs as much as a given one.

    Costs are equal within 1 %, step times within 5 %. Data, optimizer, training and every parameter
    that both architectures have are carried over; the fields that the other one's SPEC.scale names
    are moved: the feed-forward's width, then the model's.
    """
    from research_eval.allocator import tune_allocator

    tune_allocator()  # before torch loads; steps are timed as runs are carried out
    from research_eval.cli._batch import OneRun
    from research_eval.config import load_file
    from research_eval.matching.arms import match as matched

    given = load_file(config)
    with display() as shown:
        watcher = OneRun(given.config.experiment_name, shown)
        found = matched(given, to, on, settings=settings or (), timed=step_time, watcher=watcher)
    path = _write(found, config, output)
    if form is Format.JSON:
        write(to_json(_document(found, path)))
    else:
        print_rows(_rows(found), _columns(found), form)
    _tell(found, config, path)


def _document(found: Match, path: Path) -> dict[str, Any]:
    changed, repairs = _changed(found)
    return {
        "path": str(path),
        "axis": found.axis,
        "set": changed,
        "repairs": repairs,
        "carried": found.carried,
        "costs": _rows(found),
    }


def _changed(found: Match) -> tuple[dict[str, Any], list[str]]:
    """Return what was set, by dotted path, and what had to be made legal."""
    origin = found.made.config.origin
    return ({}, []) if origin is None else (origin.changed, origin.repairs)


def _tell(found: Match, config: Path, path: Path) -> None:
    changed, repairs = _changed(found)
    others = [
        name for name in changed if name != "model_type" and not name.startswith("model_params.")
    ]
    but = f", but not {printable(', '.join(others))}" if others else ""
    note(f"carried over: data, optimizer, training{but}; of the model {', '.join(found.carried)}")
    if repairs:
        note(f"not legal there, so changed: {printable(', '.join(repairs))}")
    note(f"set: {printable(', '.join(f'{k}={json.dumps(v)}' for k, v in changed.items()))}")
    note(f"written: {printable(path)}")
    files = " ".join(shlex.quote(printable(each)) for each in (config, path))
    note(f"next: research-eval run {files} --seeds 5")


def _rows(found: Match) -> list[dict[str, Any]]:
    from research_eval.matching.target import AXES, WORDS, tolerance

    given, made = found.costs
    rows = []
    for axis in AXES:
        one, other = getattr(given, axis), getattr(made, axis)
        if one is None or other is None:
            continue
        ratio = other / one
        rows.append(
            {
                "axis": axis,
                "cost": WORDS[axis],
                "given": one,
                "made": other,
                "ratio": ratio,
                "equal": abs(ratio - 1) <= tolerance(axis),
                "asked": axis == found.axis,
            }
        )
    return rows


def _columns(found: Match) -> tuple[Column, ...]:
    return (
        Column("cost", "cost"),
        Column("given", found.given.config.experiment_name, amount, is_number=True),
        Column("made", found.made.config.experiment_name, amount, is_number=True),
        Column("ratio", "ratio", "{:.3f}".format, is_number=True),
        Column("equal", "", lambda equal: "equal" if equal else "not equal"),
    )


def _write(found: Match, config: Path, output: Path | None) -> Path:
    """Write the configuration that was made, and return where.

    Raises:
        ConfigError: If another file is there, or it would not find its files.
        StoreError: If it cannot be written.
    """
    from research_eval.errors import ConfigError
    from research_eval.files import write_once
    from research_eval.matching.arms import file_name, files_beside

    path = output or config.with_name(file_name(found.made))
    tree = found.made.config.model_dump(mode="json", by_alias=True, exclude_unset=True)
    text = f"{to_json(tree)}\n"
    named = files_beside(found.made)
    if named and path.resolve().parent != found.made.base_dir.resolve():
        raise ConfigError(
            f"{config} names {', '.join(named)} relative to its folder, so that the new file must "
            f"be in {config.parent} too; choose another --output"
        )
    write_once(path, text)
    return path
