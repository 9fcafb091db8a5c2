"""Anyone's own text: a CSV, TSV, JSON, JSONL, Parquet or text file, or a folder of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from research_eval.datasets._rows import Fields
from research_eval.datasets._text import (
    VERSION,
    LanguageParams,
    TextSource,
    load_text,
    text_vocabulary,
)
from research_eval.spec import Dataset, DatasetSpec, LoadContext, Task


class FilesParams(LanguageParams):
    """Your own CSV, TSV, JSON, JSONL, Parquet or text file, or a folder of them, at `path`."""

    task: Task = "classification"
    """Predict the label of each row, or every next token."""

    text_field: str = "text"
    """Column with the text; a text file has the one column `text` and one row."""

    label_field: str = "label"
    """Column with the class; not read for language modelling."""

    domain_field: str | None = None
    """Column with the domain of each row, for the study of specialisation; null for none."""

    group_field: str | None = None
    """Column whose equal values must stay in one split, for example an author; null for none."""

    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the training data that becomes the test split where there is none; 0 for none."""


def load(params: FilesParams, context: LoadContext) -> Dataset:
    """Read the file or folder at `params.path`."""
    is_labelled = params.task == "classification"
    source = TextSource(
        name="files",
        task=params.task,
        fields=Fields(
            text=params.text_field,
            label=params.label_field if is_labelled else None,
            domain=params.domain_field,
            group=params.group_field,
        ),
        test_fraction=params.test_fraction,
    )
    return load_text(source, params, context)


SPEC = DatasetSpec(
    name="files",
    dataset_type="real_world",
    params=FilesParams,
    load=load,
    vocabulary=text_vocabulary,
    tasks=("classification", "language_modeling"),
    version=VERSION,
)
