"""Everything that the author of a model, a router or a data set must know.

A model is a *body*: a module that maps hidden states to hidden states. Embedding, positions,
head, loss, optimizer, data order and evaluation are shared by all models, so that a comparison
compares only the body. A data set is a function that returns tensors.
"""

from research_eval.spec.data import (
    IGNORED_LABEL,
    Dataset,
    DatasetParams,
    DatasetSpec,
    DatasetType,
    LoadContext,
    Split,
    Task,
    Vocabulary,
    data_fingerprint,
)
from research_eval.spec.model import (
    INIT_STD,
    BodyContext,
    BodyCost,
    BodyInput,
    BodyOutput,
    ModelSpec,
    TransformerParams,
)
from research_eval.spec.past import Past
from research_eval.spec.reports import AuxLoss, CouplingRecord, PathRecord, RoutingRecord
from research_eval.spec.router import RouterContext, RouterInput, RouterOutput, RouterSpec

__all__ = [
    "IGNORED_LABEL",
    "INIT_STD",
    "AuxLoss",
    "BodyContext",
    "BodyCost",
    "BodyInput",
    "BodyOutput",
    "CouplingRecord",
    "Dataset",
    "DatasetParams",
    "DatasetSpec",
    "DatasetType",
    "LoadContext",
    "ModelSpec",
    "Past",
    "PathRecord",
    "RouterContext",
    "RouterInput",
    "RouterOutput",
    "RouterSpec",
    "RoutingRecord",
    "Split",
    "Task",
    "TransformerParams",
    "Vocabulary",
    "data_fingerprint",
]
