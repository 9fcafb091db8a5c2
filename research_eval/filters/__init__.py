"""The language that chooses runs, sorts them and names what to show of them.

    model_type == "moe" and model_params.top_k >= 2 and metrics.final_val_f1.max > 0.9
    status in ["COMPLETED", "LOST"] and not tag == "paper"
    experiment_name contains "abl" and metrics."val/loss".min is not null

A field is a column of the run (`model_type`), a parameter by its dotted path
(`model_params.top_k`; one without a dot is written `params.lr`), a metric
(`metrics.NAME` for the last value, or `.min`, `.max`, `.count`, `.nonfinite`), or what people and
checks attached: `tag`, `note`, `flag`. Names with other characters than letters, digits and `_`
stand in quotes.

A condition is true or false, nothing between: a comparison with a value that the run does not
have, or that is NaN, is false, and `!=` is the exact opposite of `==`. `is null` holds where there
is no value to compare. A tag, note or flag equals something if any of the run's does.

This package knows the grammar and the types; `store` turns the result into SQL.
"""

from __future__ import annotations

from research_eval.filters.parser import parse_fields, parse_filter, parse_sort
from research_eval.filters.tree import (
    All,
    Column,
    Comparison,
    Condition,
    Either,
    Field,
    Label,
    Metric,
    Not,
    Param,
    SortKey,
    Value,
    columns,
    fields_of,
    value_of,
)

__all__ = [
    "All",
    "Column",
    "Comparison",
    "Condition",
    "Either",
    "Field",
    "Label",
    "Metric",
    "Not",
    "Param",
    "SortKey",
    "Value",
    "columns",
    "fields_of",
    "parse_fields",
    "parse_filter",
    "parse_sort",
    "value_of",
]
