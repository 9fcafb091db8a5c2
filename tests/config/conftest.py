import textwrap
from pathlib import Path
from typing import Any

import pytest

PLUGIN = '''
from typing import Annotated, ClassVar

from pydantic import Field

from research_eval.knobs import EXECUTION, AtMost, Choice, Pluggable
from research_eval.spec import DatasetParams, DatasetSpec, ModelSpec, TransformerParams


class TinyParams(TransformerParams):
    """A model with experts."""

    num_experts: Annotated[int, Field(ge=2), Choice(4, 8)] = 8
    """Experts per layer."""

    top_k: Annotated[int, Field(ge=1), Choice(1, 2)] = 2
    """Experts chosen per token."""

    aux_loss_weight: Annotated[float, Field(ge=0)] = 0.01
    """Weight of the balance loss."""

    router: Annotated[str, Pluggable("router")] = "softmax"
    """A registered router, or ./file.py:Name."""

    constraints: ClassVar = (AtMost("top_k", "num_experts"),)
    aliases: ClassVar = {"num_experts_per_layer": "num_experts"}


class CountingParams(DatasetParams):
    """Numbers in a row."""

    length: Annotated[int, Field(ge=1)] = 16
    """Numbers per row."""

    path: Annotated[str | None, EXECUTION] = None
    """Where they are."""


MODEL = ModelSpec(name="tiny", params=TinyParams, build=lambda params, context: None)
NEWER = ModelSpec(name="tiny", params=TinyParams, build=lambda params, context: None, version=2)
PLAIN = ModelSpec(name="plain", params=TransformerParams, build=lambda params, context: None)
DATA = DatasetSpec(
    name="counting",
    dataset_type="synthetic",
    params=CountingParams,
    load=lambda params, context: None,
    tasks=("classification",),
)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a plug-in file that holds two models and a data set."""
    (tmp_path / "tiny.py").write_text(textwrap.dedent(PLUGIN))
    return tmp_path


@pytest.fixture
def legal() -> dict[str, Any]:
    """The smallest legal configuration."""
    return {
        "experiment_name": "first",
        "model_type": "./tiny.py:MODEL",
        "dataset_name": "./tiny.py:DATA",
    }
