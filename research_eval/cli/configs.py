"""`runs config`: the configuration of a recorded run, as a file to run again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from research_eval.cli._options import DbOption
from research_eval.cli._render import note, printable, to_json, write
from research_eval.cli.runs import RunArgument, reading
from research_eval.errors import ConfigError

if TYPE_CHECKING:
    from research_eval.records import RunRecord

OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write to this file, not to stdout."),
]
ByOption = Annotated[
    str | None, typer.Option(metavar="METRIC:MAX|MIN", help="For best: best by what?")
]


def add_to(group: typer.Typer) -> None:
    """Add the command to the group `runs`."""
    group.command("config")(config)


def config(
    run: RunArgument,
    output: OutputOption = None,
    by: ByOption = None,
    database: DbOption = None,
) -> None:
    """Write the configuration of a run, with every default, as a file to run, match or search.

    Plug-ins and data files are named as they are seen from its folder. Run unchanged it is found
    to be recorded already.
    """
    from research_eval.files import write_once

    with reading(database) as store:
        record = store.run(run, by=by)
    text = to_json(_tree(record, Path.cwd() if output is None else output.parent))
    if output is None:
        write(text)
        return
    write_once(output, f"{text}\n")
    note(f"next: research-eval run {shlex.quote(printable(output))}")


def _tree(record: RunRecord, folder: Path) -> Any:
    """Return the configuration as it is seen from a folder.

    Raises:
        ConfigError: If the run has none that could be run.
    """
    from research_eval.config.moving import seen_from

    if record.config_hash is None or record.run_type == "evaluation":
        what = "is an evaluation" if record.run_type == "evaluation" else "is of another program"
        raise ConfigError(
            f"run {record.experiment_id} {what}, so it has no configuration that could be run"
        )
    tree = json.loads(record.full_config_json)
    tree.pop("origin", None)  # a file that is changed has another one
    base_dir = Path(json.loads(record.env_details_json).get("base_dir", "."))
    return seen_from(tree, base_dir, folder)
