"""The keys of ``train`` that every method has; a method's own stand beside its declaration."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from slmcompile.losses import LOSSES
from slmcompile.losses.cross_entropy import CrossEntropy
from slmcompile.losses.keys import LossKeys
from slmcompile.methods import METHODS
from slmcompile.methods.early_stopping import LOSS
from slmcompile.metrics import METRICS
from slmcompile.optimizers import OPTIMIZERS
from slmcompile.registry.markers import ByName, NameIn
from slmcompile.registry.scalars import Identifier
from slmcompile.registry.section import Section, Seed, cosmetic

Precision = Literal["fp32", "bf16"]
MethodName = Annotated[
    str, NameIn(METHODS), Field(description="What is trained: all weights, or what of an adapter.")
]
OptimizerName = Annotated[str, NameIn(OPTIMIZERS), Field(description="Optimizer.")]
AnyLoss = Annotated[LossKeys, ByName(LOSSES, "type", default="cross_entropy", apart=True)]
"""The section of the loss that ``type`` names, with its keys and no others."""

BestMetric = Annotated[str, NameIn(METRICS, also=(LOSS,))]

SAID_IF_OTHER = (
    *("metric_for_best_model", "early_stopping_patience", "early_stopping_threshold"),
    *("eval_limit", "continue_from", "loss", "over", "together", "isolated"),
)
"""Keys that JSON values hold only where they are not at their default."""


class Train(Section):
    """Fine-tuning; names and defaults follow ``transformers.TrainingArguments``."""

    method: MethodName
    precision: Precision = Field(
        "fp32", description="Floating-point type of the base weights and activations."
    )
    loss: AnyLoss = Field(
        CrossEntropy(),
        description="What is minimised over the trained tokens. The loss of a validation is cross"
        " entropy whatever it is.",
    )
    learning_rate: float = Field(2e-4, gt=0, le=1, description="Peak learning rate.")
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = Field(
        "linear", description="Shape of the learning rate over the steps."
    )
    warmup_ratio: float = Field(
        0.03, ge=0, lt=1, description="Share of the steps in which the learning rate rises."
    )
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay of AdamW.")
    optim: OptimizerName = "adamw_torch"
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="Decay of AdamW's mean of gradients.")
    adam_beta2: float = Field(
        0.999, ge=0, lt=1, description="Decay of AdamW's mean of squared gradients."
    )
    adam_epsilon: float = Field(1e-8, gt=0, description="Added to AdamW's denominator.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    num_train_epochs: float = Field(
        1.0, gt=0, le=1000, description="Passes over the training split."
    )
    max_steps: Literal[-1] | Annotated[int, Field(ge=1)] = Field(
        -1, description="Overrides num_train_epochs; -1 leaves it to them."
    )
    per_device_train_batch_size: int = Field(
        8, ge=1, le=4096, description="Rows a forward pass in training."
    )
    per_device_eval_batch_size: int = Field(
        8, ge=1, le=4096, description="Rows a forward pass in validation."
    )
    gradient_accumulation_steps: int = Field(
        1, ge=1, le=4096, description="Forward passes an optimizer step."
    )
    group_by_length: bool = Field(True, description="Batches of like length, in random order.")
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass: less memory, more time."
    )
    eval_steps: int = Field(50, ge=1, description="Optimizer steps between validations.")
    continue_from: Identifier | None = Field(
        None,
        description="Another recipe, from whose trained weights training begins: an adapter of the"
        " same shape over the same base, or all weights where both train all. They are those of the"
        " recipe's file, without overrides; where they are not there, they are trained first.",
    )
    over: Identifier | None = Field(
        None,
        description="A target of the recipe, over whose base an adapter is trained: it learns on"
        " the very weights that the target multiplies with, and stands beside them, so that what"
        " ships is what was trained. null trains over the base at full precision.",
    )
    load_best_model_at_end: bool = Field(
        True, description="Keep the weights of the best validation, not the last."
    )
    metric_for_best_model: BestMetric = Field(
        LOSS,
        description="Which validation is the best: that of the lowest loss, or the best by a metric"
        " over answers to the validation split. They are generated at each validation as eval says,"
        " by the model as it trains: in train.precision and, of qlora, over the base in 4 bits.",
    )
    early_stopping_patience: int | None = Field(
        None,
        ge=1,
        description="Training stops after this many validations in a row that do not improve"
        " metric_for_best_model; null trains to the end.",
    )
    early_stopping_threshold: float = Field(
        0.0,
        ge=0,
        description="A validation counts as better where metric_for_best_model moves by more than"
        " this, in the metric's own unit.",
    )
    eval_limit: int | None = Field(
        None,
        ge=1,
        description="Rows of the validation split that metric_for_best_model is measured on, a"
        " sample as eval.limit takes it; null takes all. The loss is always over all.",
    )
    seed: Seed = Field(0, description="Seed of initial adapters, order and dropout.")
    num_threads: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        "auto", description="CPU threads; the same count gives the same bytes."
    )
    together: bool = Field(
        True,
        description="Of a recipe with adapters: all in one pass over the base. false gives each a"
        " training of its own.",
    )
    isolated: bool = Field(
        False,
        description="Of adapters that are trained together: each has a forward pass of its own, so"
        " that its bytes do not depend on who else is there. Slower.",
    )
    save_steps: int = cosmetic(50, "Optimizer steps between checkpoints.", ge=1)
    save_total_limit: int = cosmetic(2, "Checkpoints kept.", ge=1, le=100)
    logging_steps: int = cosmetic(5, "Optimizer steps between progress lines.", ge=1)

    @model_serializer(mode="wrap")
    def _as_given(self, rest: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what is not asked for: a spec that says nothing of it stays as it was."""
        found: dict[str, Any] = rest(self)
        fields = type(self).model_fields
        unsaid = {k for k in SAID_IF_OTHER if getattr(self, k) == fields[k].default}
        return {key: value for key, value in found.items() if key not in unsaid}
