"""The fields of an experiment that belong to no model and no data set."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints

from research_eval.knobs import EXECUTION, Choice, LogUniform, Params, Pluggable, Uniform
from research_eval.spec import DatasetParams, DatasetType, TransformerParams

TRAINING_VERSION = 1
"""Raised when the same training parameters come to mean another training."""

Name = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")
]


class OptimizerParams(Params):
    """Base of the optimizers' parameters."""

    name: str
    """Which optimizer."""

    lr: Annotated[float, Field(gt=0), LogUniform(1e-4, 1e-2)] = 1e-3
    """Peak learning rate."""

    weight_decay: Annotated[float, Field(ge=0), LogUniform(1e-4, 1e-1)] = 0.01
    """Decoupled weight decay; norms, biases and other vectors are never decayed."""

    grad_clip_norm: Annotated[float | None, Field(gt=0), Uniform(0.5, 2.0, step=0.5)] = 1.0
    """Gradients are scaled down to this global norm; null leaves them."""


class AdamWParams(OptimizerParams):
    """AdamW (Loshchilov and Hutter 2019, algorithm 2)."""

    name: Literal["adamw"] = "adamw"
    """Which optimizer."""

    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of the running mean of gradients."""

    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the running mean of squared gradients."""


class SGDParams(OptimizerParams):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    """Which optimizer."""

    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of the velocity; 0 switches momentum off."""


class SchedulerParams(Params):
    """Base of the learning-rate schedules' parameters."""

    name: str
    """Which schedule."""


class NoScheduleParams(SchedulerParams):
    """A constant learning rate."""

    name: Literal["none"] = "none"
    """Which schedule."""


class WarmupParams(SchedulerParams):
    """What the schedules with a warm-up share."""

    warmup_factor: Annotated[float, Field(ge=0, le=1), Uniform(0.0, 0.2, step=0.05)] = 0.1
    """Share of all steps over which the rate rises linearly to its peak."""

    min_factor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Rate at the end, as a share of the peak."""


class CosineWarmupParams(WarmupParams):
    """Linear warm-up, then half a cosine down to the final rate."""

    name: Literal["cosine_warmup"] = "cosine_warmup"
    """Which schedule."""


class LinearWarmupParams(WarmupParams):
    """Linear warm-up, then a straight line down to the final rate."""

    name: Literal["linear_warmup"] = "linear_warmup"
    """Which schedule."""


OPTIMIZERS: dict[str, type[OptimizerParams]] = {"adamw": AdamWParams, "sgd": SGDParams}
SCHEDULES: dict[str, type[SchedulerParams]] = {
    "none": NoScheduleParams,
    "cosine_warmup": CosineWarmupParams,
    "linear_warmup": LinearWarmupParams,
}


class TrainingParams(Params):
    """How training, evaluation and selection are carried out."""

    max_steps: Annotated[int | None, Field(ge=1)] = None
    """Number of optimizer steps; overrides `epochs`."""

    grad_accum_steps: Annotated[int, Field(ge=1)] = 1
    """Batches whose gradients are added up for one optimizer step."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the matrix products; auto is bf16 on a GPU that has it, fp32 elsewhere."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$"), EXECUTION] = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1, or mps."""

    num_threads: Annotated[int | None, Field(ge=1), EXECUTION] = None
    """CPU threads of torch; null leaves torch's choice. The same number gives the same bits."""

    eval_every: Literal["epoch"] | Annotated[int, Field(ge=1)] = "epoch"
    """When to look at the validation split: after each epoch, or every so many steps."""

    max_eval_batches: Annotated[int | None, Field(ge=1)] = None
    """Batches of a periodic evaluation; null takes all. The final one always takes all."""

    monitor: Annotated[str | None, Field(pattern=r"^val_\w+:(min|max)$")] = None
    """Metric and direction that select weights; null is val_f1:max for classification and
    val_loss:min for language modelling."""

    select: Literal["best", "last"] = "best"
    """Which weights the run hands over: the best by `monitor`, or the last."""

    early_stopping_patience: Annotated[int | None, Field(ge=1)] = None
    """Evaluations without improvement of `monitor` after which training ends; null never ends."""

    keep_checkpoints: Annotated[Literal["none", "best", "last", "both"], EXECUTION] = "best"
    """Which weights are kept as files."""

    log_every: Annotated[int, Field(ge=1), EXECUTION] = 50
    """Steps over which training metrics are averaged into one recorded point."""

    stop_on_collapse: bool = False
    """Whether training ends as COLLAPSED when a rule about experts is broken; else it is only
    flagged beside the scores."""

    compile: Annotated[bool, EXECUTION] = False
    """Whether the model is compiled with torch.compile."""


CostAxis = Literal["params", "active_params", "flops", "step_time"]
"""What two configurations can cost the same of: parameters, those that work on a token, forward
FLOPs per token, or seconds of a training step."""


class MatchedCost(Params):
    """On which axis a configuration costs the same as another one, and how exactly."""

    axis: CostAxis
    """What is equal."""

    target: Annotated[float, Field(gt=0)]
    """The cost that was asked for."""

    reached: Annotated[float, Field(gt=0)]
    """The cost that it has."""

    error: float
    """`reached` over `target`, minus 1."""

    @classmethod
    def of(cls, axis: CostAxis, target: float, reached: float) -> MatchedCost:
        """Return the match with its error."""
        return cls(axis=axis, target=target, reached=reached, error=reached / target - 1)


class Origin(Params):
    """Where a configuration came from. Recorded, never part of its identity."""

    kind: Literal["suggestion", "replicate", "study", "match", "sweep"]
    """What made it; a replicate is a suggestion to run the parent with another seed."""

    parent: str | None = None
    """Experiment id, study or group that it was derived from, or the hash of a configuration."""

    changed: dict[str, Any] = Field(default_factory=dict)
    """Fields that differ from the parent, by dotted path, with their new values."""

    prediction: dict[str, float] = Field(default_factory=dict)
    """Metrics that were predicted for it."""

    repairs: list[str] = Field(default_factory=list)
    """Values that were changed to make it legal, as path=value."""

    reason: str = ""
    """Why it was proposed, in words."""

    match: MatchedCost | None = None
    """The cost that it was made to have."""

    arm: str | None = None
    """What its study calls the arm that it belongs to, if not by the architecture."""


class ExperimentConfig(Params):
    """One experiment: which model on which data, trained how.

    The types of `model_params`, `dataset_params`, `optimizer_params` and `scheduler_params`
    follow from `model_type`, `dataset_name` and the two `name` fields.
    """

    schema_ref: Annotated[str | None, Field(alias="$schema"), EXECUTION] = None
    """Address of a JSON Schema, for editors."""

    experiment_name: Annotated[Name, EXECUTION]
    """What you call it; need not be unique."""

    project: Annotated[Name, EXECUTION] = "default"
    """Experiments that belong together."""

    tags: Annotated[list[Name], EXECUTION] = Field(default_factory=list)
    """Words to find it by."""

    model_type: Annotated[str, Pluggable("model")]
    """A registered model, or ./file.py:Name."""

    dataset_type: Annotated[DatasetType | None, EXECUTION] = None
    """Kind of the data set; follows from its name and is only checked."""

    dataset_name: Annotated[str, Pluggable("dataset")]
    """A registered data set, or ./file.py:Name."""

    epochs: Annotated[int, Field(ge=1)] = 10
    """Passes over the training split."""

    batch_size: Annotated[int, Field(ge=1), Choice(32, 64, 128)] = 64
    """Rows per batch."""

    seed: Annotated[int, Field(ge=0, le=2**31 - 1), EXECUTION] = 0
    """Governs initialisation, data order, dropout and routing noise; seeds pool."""

    dataset_params: DatasetParams = Field(default_factory=DatasetParams)
    """Parameters of the data set."""

    model_params: TransformerParams = Field(default_factory=TransformerParams)
    """Parameters of the model."""

    optimizer_params: OptimizerParams = Field(default_factory=AdamWParams)
    """Parameters of the optimizer."""

    scheduler_params: SchedulerParams = Field(default_factory=CosineWarmupParams)
    """Parameters of the learning-rate schedule."""

    training_params: TrainingParams = Field(default_factory=TrainingParams)
    """How training is carried out."""

    origin: Annotated[Origin | None, EXECUTION] = None
    """Where this configuration came from."""

    moved: ClassVar[dict[str, str]] = {
        "optimizer_params.aux_loss_coeff": "model_params.aux_loss_weight"
    }
