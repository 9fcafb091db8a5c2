"""Writes the reference pages from the declarations: `make docs`.

Nothing on these pages is typed by hand, so nothing on them can be out of date; a test compares.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from research_eval.cli import app
from research_eval.config import json_schema
from research_eval.config.experiment import (
    OPTIMIZERS,
    SCHEDULES,
    ExperimentConfig,
    MatchedCost,
    Origin,
    TrainingParams,
)
from research_eval.explaining import RULES
from research_eval.knobs import Params
from research_eval.metrics import METRICS
from research_eval.parameters import Parameter, describe
from research_eval.registry import DATASETS_MAP, MODELS_MAP, ROUTERS_MAP
from research_eval.spec import DatasetParams, TransformerParams

REFERENCE = Path(__file__).parent / "reference"

NOTE = "<!-- Written by docs/generate.py; `make docs` writes it again. -->\n"

FIELD_COLUMNS = ("field", "type", "default", "legal", "searched", "meaning")


def pages() -> dict[str, str]:
    """Return the text of every page by its file name."""
    return {
        "config.md": _config_page(),
        "models.md": _models_page(),
        "datasets.md": _datasets_page(),
        "routers.md": _routers_page(),
        "metrics.md": _metrics_page(),
        "cli.md": _cli_page(),
        "findings.md": _findings_page(),
        "run.schema.json": json.dumps(json_schema(), indent=2) + "\n",
    }


def _config_page() -> str:
    return _page(
        "Configuration",
        "One experiment is one JSON object. Everything but the first three fields has a default; "
        "unknown fields are errors. A field marked *execution* decides how a run is carried out "
        "and not what comes out of it: it does not enter the configuration's hash.",
        _section("The top level", ExperimentConfig),
        "`model_params` are described in [models](models.md), `dataset_params` in "
        "[datasets](datasets.md).\n",
        *(_section(f"optimizer_params: {name}", params) for name, params in OPTIMIZERS.items()),
        *(_section(f"scheduler_params: {name}", params) for name, params in SCHEDULES.items()),
        _section("training_params", TrainingParams),
        _section("origin", Origin),
        _section("origin.match", MatchedCost),
    )


def _models_page() -> str:
    return _page(
        "Models",
        "`model_type` names one of these, or a class in a file: `./my_model.py:MyModel`.",
        _section("Every model", TransformerParams),
        *(
            _section(name, spec.params, TransformerParams, f"Version {spec.version}.")
            for name, spec in MODELS_MAP.items()
        ),
    )


def _datasets_page() -> str:
    return _page(
        "Data sets",
        "`dataset_name` names one of these, or a `DatasetSpec` in a file: `./my_data.py:DATA`.",
        _section("Every data set", DatasetParams),
        *(
            _section(
                name,
                spec.params,
                DatasetParams,
                f"`dataset_type` {spec.dataset_type}; for {' or '.join(spec.tasks)}. "
                f"Version {spec.version}.",
            )
            for name, spec in DATASETS_MAP.items()
        ),
    )


def _routers_page() -> str:
    rows = [
        (f"`{name}`", "learned" if spec.learned else "control, without gradient", _summary(spec))
        for name, spec in ROUTERS_MAP.items()
    ]
    return _page(
        "Routers",
        "`model_params.router` of `moe` names one of these, or a class in a file: "
        "`./my_router.py:MyRouter`.",
        _table(("router", "kind", "meaning"), rows),
    )


def _metrics_page() -> str:
    rows = [
        (
            f"`{metric.name}`",
            f"`{metric.history}`" if metric.history else "",
            metric.direction or "",
            metric.unit,
            metric.task or "",
            metric.meaning,
        )
        for metric in METRICS
    ]
    columns = ("metric", "points during training", "better", "unit", "task", "meaning")
    return _page("Metrics", "What a run records.", _table(columns, rows))


def _findings_page() -> str:
    rows = [
        (
            rule.title,
            f"`{rule.name}`",
            rule.evidence,
            rule.limit_in_words,
            rule.reason,
            rule.test,
        )
        for rule in RULES
    ]
    columns = ("finding", "name", "evidence", "told from", "why that threshold", "its command")
    return _page(
        "Findings",
        "What `research-eval explain` may find of the side that is behind, and of the other one. "
        "Where there are several seeds, a difference must also be larger than their noise.",
        _table(columns, rows),
    )


def _cli_page() -> str:
    command = typer.main.get_command(app)
    return _page("The command line", f"{command.help}", *_commands(command, "research-eval"))


def _commands(command: Any, path: str) -> Iterator[str]:
    """Yield a section for each command; a group's own options come before its commands."""
    rows = [
        (
            f"`{' '.join(param.opts) if param.param_type_name == 'option' else param.name}`",
            _value_of(param),
            ""
            if param.default in (None, False)
            else f"`{getattr(param.default, 'value', param.default)}`",
            " ".join((param.help or "").split()),
        )
        for param in command.params
    ]
    meaning = " ".join((command.help or "").split())
    yield f"## {path}\n\n{meaning}\n"
    if rows:
        yield _table(("option", "value", "default", "meaning"), rows)
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        yield from _commands(inner, f"{path} {name}")


def _value_of(param: Any) -> str:
    """Return what stands behind an option: a placeholder, the choices, or nothing for a flag."""
    kind = param.type_descriptor.annotation
    if getattr(param, "is_flag", False):
        return ""
    if param.metavar:
        return f"`{param.metavar}`"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(f"`{option.value}`" for option in kind)
    return getattr(kind, "__name__", "text").replace("str", "text")


def _page(title: str, introduction: str, *parts: str) -> str:
    return "\n".join([NOTE, f"# {title}\n", f"{introduction}\n", *parts])


def _section(
    title: str, params: type[Params], base: type[Params] | None = None, remark: str = ""
) -> str:
    """Return a heading, the meaning and a table of the fields that differ from those of `base`."""
    known = _parameters(base) if base else {}
    fields = [field for name, field in _parameters(params).items() if known.get(name) != field]
    shared = set(base.all_constraints()) if base else set()
    lines = [f"## {title}\n", f"{params.__doc__} {remark}".strip() + "\n"]
    lines += [f"{c.sentence()}.\n" for c in params.all_constraints() if c not in shared]
    aliases = params.all_aliases().items() - (base.all_aliases().items() if base else set())
    if aliases:
        read = ", ".join(f"`{alias}` as `{name}`" for alias, name in sorted(aliases))
        lines.append(f"Also read: {read}.\n")
    rows = [
        (
            f"`{field.name}`",
            field.type,
            f"`{field.default}`" if field.default else "",
            field.legal,
            field.searched,
            ("*Execution.* " if field.is_execution else "") + field.meaning,
        )
        for field in fields
    ]
    return "\n".join([*lines, _table(FIELD_COLUMNS, rows) if rows else "No further fields.\n"])


def _parameters(params: type[Params]) -> dict[str, Parameter]:
    return {each.name: each for each in describe(params.model_json_schema())}


def _summary(spec: Any) -> str:
    return str(spec.build.__doc__ or "").strip().partition("\n")[0]


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = tuple(columns)
    lines = [columns, ("---",) * len(columns), *rows]
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


if __name__ == "__main__":
    REFERENCE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
