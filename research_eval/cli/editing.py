"""`runs tag`, `note`, `rename`, `delete`, `restore`: look after what is recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from research_eval.cli._options import DbOption
from research_eval.cli._render import note, printable
from research_eval.cli.runs import FilterOption, RunArgument

if TYPE_CHECKING:
    from research_eval.store import Store

_SHOWN_IDS = 10

Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Ids, beginnings of ids, names.")
]


def add_to(group: typer.Typer) -> None:
    """Add the commands to the group `runs`."""
    for command in (tag, note_down, rename, delete, restore):
        group.command("note" if command is note_down else command.__name__)(command)


@contextmanager
def writing(database: str | None, *, create: bool = False) -> Iterator[Store]:
    """Open the store that is meant for changes, or make it, and say where it is."""
    from research_eval.store import Store
    from research_eval.store.location import locate

    with Store.open(database or locate(create=create), create=create) as store:
        note(f"database: {printable(store.path or store.url)}")
        yield store


def tag(
    run: RunArgument,
    tags: Annotated[list[str], typer.Argument(metavar="TAG...", help="Labels of your choice.")],
    remove: Annotated[bool, typer.Option("--remove", help="Take them away again.")] = False,
    database: DbOption = None,
) -> None:
    """Label a run; `runs list --filter 'tag == "TAG"'` finds it."""
    with writing(database) as store:
        run_id = store.run(run).experiment_id
        store.tag(run_id, () if remove else tags, remove=tags if remove else ())
        now = store.run(run_id).tags
    note(f"run {run_id} has the tags: {printable(', '.join(now)) or 'none'}")


def note_down(
    run: RunArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A remark, in quotes.")],
    database: DbOption = None,
) -> None:
    """Write a remark beside a run; `runs show` shows it."""
    with writing(database) as store:
        run_id = store.run(run).experiment_id
        store.note(run_id, text)
    note(f"noted; research-eval runs show {run_id} shows it")


def rename(
    run: RunArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Any text.")],
    database: DbOption = None,
) -> None:
    """Give a run another name; its id stays."""
    with writing(database) as store:
        run_id = store.run(run).experiment_id
        store.rename(run_id, name)
    note(f"run {run_id} is now called {printable(name)}")


def delete(ids: Ids = None, condition: FilterOption = None, database: DbOption = None) -> None:
    """Put runs into the trash, from where `runs restore` brings them back."""
    with writing(database) as store:
        chosen = _chosen(store, ids, condition, deleted=False)
        store.delete(chosen)
    if not chosen:
        note("no run meets the condition; nothing was deleted")
        return
    note(
        f"{_counted(chosen)} now in the trash; research-eval runs restore {_named(chosen)} "
        f"brings {'it' if len(chosen) == 1 else 'them'} back, research-eval db gc frees the space"
    )


def restore(ids: Ids = None, condition: FilterOption = None, database: DbOption = None) -> None:
    """Take runs out of the trash; `runs list --deleted` shows what is in it."""
    with writing(database) as store:
        chosen = _chosen(store, ids, condition, deleted=True)
        store.restore(chosen)
    if not chosen:
        note("no run in the trash meets the condition")
        return
    note(f"{_counted(chosen)} back: {_named(chosen)}")


def _chosen(
    store: Store, ids: Sequence[str] | None, condition: str | None, *, deleted: bool
) -> list[str]:
    if bool(ids) == (condition is not None):
        raise typer.BadParameter("name runs, or choose them with --filter", param_hint="ID")
    if condition is None:
        found = [store.run(each, deleted=deleted).experiment_id for each in ids or ()]
        return list(dict.fromkeys(found))
    for sentence in store.unknown_names(condition):
        note(printable(sentence))
    records = store.runs(filter=condition, metrics=(), deleted=deleted)
    return [record.experiment_id for record in records]


def _counted(ids: Sequence[str]) -> str:
    return "1 run is" if len(ids) == 1 else f"{len(ids)} runs are"


def _named(ids: Sequence[str]) -> str:
    more = " ..." if len(ids) > _SHOWN_IDS else ""
    return " ".join(ids[:_SHOWN_IDS]) + more
