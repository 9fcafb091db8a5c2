"""The frame of the text data sets: what can be set, where they come from, what is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field

from research_eval.datasets import _cache
from research_eval.datasets._rows import Fields
from research_eval.datasets._sources import HubFolder, content_hash, find_data
from research_eval.datasets._tokenizers import TokenizerChoice
from research_eval.datasets._vocabulary import TextVocabulary
from research_eval.knobs import EXECUTION, is_execution_only
from research_eval.spec import (
    Dataset,
    DatasetParams,
    DatasetSpec,
    LoadContext,
    Task,
)

VERSION = 1
"""Raised when the same text and parameters come to be prepared in another way."""


class TextParams(DatasetParams):
    """How text is read, divided and tokenised."""

    path: Annotated[str | None, EXECUTION] = None
    """File or folder to read, relative to the configuration; null looks in the folder that
    RESEARCH_EVAL_DATA names, then on the Hugging Face hub."""

    tokenizer: str = "byte"
    """`byte` (UTF-8 bytes, nothing to download), a folder with a `transformers` tokenizer,
    relative to the configuration, or a name in the mirror's `tokenizers` or on the hub."""

    max_length: Annotated[int, Field(ge=2)] = 256
    """Tokens of a row that the model reads."""

    train_samples: Annotated[int | None, Field(ge=1)] = None
    """Use at most so many training rows, chosen by `data_seed` evenly over the classes (or
    domains); null uses all."""

    val_samples: Annotated[int | None, Field(ge=1)] = None
    """Use at most so many validation rows; null uses all."""

    test_samples: Annotated[int | None, Field(ge=1)] = None
    """Use at most so many test rows; null uses all."""

    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training data that becomes the validation split where there is none."""

    def samples(self, split: str) -> int | None:
        """Return the most rows wanted of a split."""
        wanted = {
            "train": self.train_samples,
            "validation": self.val_samples,
            "test": self.test_samples,
        }
        return wanted[split]


class LanguageParams(TextParams):
    """How text is read, divided, tokenised and packed for next-token prediction."""

    packing: Literal["documents", "lines"] = "documents"
    """Pack documents into full rows, or put each line of more than 30 characters into a row."""

    unscored_id: Annotated[int | None, Field(ge=0)] = None
    """Token id that is read but neither learned nor scored; null scores all. 0 repeats the
    GNN-MoE repositories, whose padding left out the token `!` of GPT-2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSource:
    """What sets one text data set apart.

    Attributes:
        hub: Where it is published; None if it exists as local files only.
        fields: The columns that hold text, class, domain and group.
        test_fraction: Share of the training data that becomes the test split if there is none.
        documents: Joins the rows of a split to documents; None if each row is a document.
    """

    name: str
    task: Task
    hub: HubFolder | None = None
    fields: Fields = field(default_factory=Fields)
    test_fraction: float = 0.0
    documents: Callable[[Sequence[str]], list[str]] | None = None

    def identity(self) -> dict[str, Any]:
        """Return what decides how files are turned into rows."""
        return {
            "name": self.name,
            "task": self.task,
            "fields": asdict(self.fields),
            "test_fraction": self.test_fraction,
        }


def text_spec(source: TextSource, params: type[TextParams]) -> DatasetSpec:
    """Return the spec of a published text data set."""
    return DatasetSpec(
        name=source.name,
        dataset_type="real_world",
        params=params,
        load=partial(load_text, source),
        vocabulary=text_vocabulary,
        tasks=(source.task,),
        version=VERSION,
    )


def load_text(source: TextSource, params: TextParams, context: LoadContext) -> Dataset:
    """Return a text data set, from the cache if it was prepared before.

    Raises:
        DataError: If the data or the tokenizer cannot be had or cannot be used.
    """
    place = find_data(source.name, params.path, source.hub, context)
    tokenizer = TokenizerChoice.find(params.tokenizer, context)
    settings = {
        name: getattr(params, name)
        for name, info in type(params).model_fields.items()
        if not is_execution_only(info)
    }
    identity = [VERSION, _cache.LAYOUT, source.identity(), settings, content_hash(place.path)]
    text = json.dumps([*identity, tokenizer.fingerprint], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    file = context.cache_dir / f"{source.name}-{key}.safetensors"

    dataset = _cache.read(file, context.say)
    if dataset is None:
        from research_eval.datasets._prepare import prepare

        dataset = prepare(source, params, place, tokenizer.load(), context)
        if dataset.counts:
            context.say("; ".join(f"{what}: {n:,}" for what, n in dataset.counts.items()))
        _cache.write(file, dataset, context.say)
    return replace(dataset, source=f"{place.described}, tokenizer {tokenizer}")


def text_vocabulary(params: LanguageParams, context: LoadContext) -> TextVocabulary:
    """Return what the ids of a text data set for next-token prediction stand for.

    Raises:
        DataError: If the tokenizer cannot be had or cannot be used.
    """
    tokenizer = TokenizerChoice.find(params.tokenizer, context).load()
    return TextVocabulary(tokenizer, are_packed=params.packing == "documents")
