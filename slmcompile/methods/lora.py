"""LoRA: a low-rank adapter on linear layers, over a frozen base."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import prod
from typing import Annotated, Any, Literal

from pydantic import Field

from slmcompile.methods.keys import MethodName, Train
from slmcompile.methods.method import MemoryTerms, Method
from slmcompile.registry.section import Section
from slmcompile.shapes.architecture import EMBEDDINGS, Architecture, Trainable
from slmcompile.shapes.target_modules import matched, patterns_of


class Lora(Section):
    """PEFT ``LoraConfig`` (Hu et al. 2021, arXiv:2106.09685)."""

    r: int = Field(16, ge=1, le=4096, description="Rank of the adapter's matrices.")
    lora_alpha: float = Field(32.0, gt=0, description="The update is scaled by lora_alpha / r.")
    lora_dropout: float = Field(
        0.0, ge=0.0, lt=1.0, description="Dropout on the adapter's input, 0 to 1."
    )
    target_modules: Literal["all-linear"] | Annotated[tuple[str, ...], Field(max_length=256)] = (
        Field(
            "all-linear",
            description="Layers that get an adapter: all-linear, or names (q_proj, …).",
        )
    )
    modules_to_save: tuple[str, ...] = Field(
        (), max_length=256, description="Layers trained whole and saved beside the adapter."
    )
    use_rslora: bool = Field(
        False, description="Scale by lora_alpha / √r instead (arXiv:2312.03732)."
    )


class LoraTrain(Train):
    """A low-rank adapter is trained, the base model stays as it is."""

    method: MethodName = "lora"
    lora: Lora = Field(Lora(), description="The adapter's shape.")


def trainable(train: LoraTrain, model: Architecture) -> Trainable:
    """Counts the weights; an adapter of rank r on a layer [out, in] has r·(out + in)."""
    return adapter_weights(train.lora, model)


@lru_cache(maxsize=64)
def adapter_weights(lora: Lora, model: Architecture) -> Trainable:
    """Many checks ask, and many recipes train the same adapter."""
    whole = matched(model.modules, lora.modules_to_save)
    meant = matched(model.layers, patterns(lora, model))
    # PEFT puts no adapter on what is saved whole, nor on anything inside it.
    adapted = sorted(name for name in meant if not _within(name, whole))
    adapter = sum(lora.r * sum(model.layers[name]) for name in adapted)
    return Trainable(tuple(adapted), adapter, _saved(lora, model), 0)


def patterns(lora: Lora, model: Architecture) -> list[str]:
    """``target_modules`` as training hands them to PEFT."""
    return patterns_of(lora.target_modules, model.linears, model.others)


def _saved(lora: Lora, model: Architecture) -> int:
    """A tied head gets weights of its own. PEFT 0.21 goes by how names end: by ``norm``, all."""
    whole = {name for name in model.modules if name.endswith(lora.modules_to_save)}
    heads = {f"{name}.weight": shape for name, shape in model.tied_head.items()}
    weights = {**model.shapes, **heads}
    return sum(prod(shape) for name, shape in weights.items() if _within(name, whole))


def _within(name: str, modules: Iterable[str]) -> bool:
    """Whether it is one of the modules or lies in one."""
    return any(f"{name}.".startswith(f"{module}.") for module in modules)


def kept(train: LoraTrain, _hidden: int) -> float:
    """The low-rank activation of every adapted layer."""
    return 7.0 * train.lora.r


def details(train: Mapping[str, Any]) -> list[str]:
    """``rank 16``."""
    rank = (train.get("lora") or {}).get("r")
    return [f"rank {rank}"] if isinstance(rank, int) else []


def alone(train: LoraTrain) -> str:
    """Adapters beside each other leave the base as it is."""
    if train.lora.modules_to_save:
        return "train.lora.modules_to_save trains layers of the base model"
    if train.lora.target_modules != "all-linear" and any(
        name.rpartition(".")[2] in EMBEDDINGS for name in train.lora.target_modules
    ):
        return "train.lora.target_modules names the embedding"
    return ""


USUAL_RATE = (1e-5, 5e-3)
"""6e-5 to 5e-4 in LoRA and QLoRA (arXiv:2106.09685, appendix D; arXiv:2305.14314, appendix B); ten
times the rate of full fine-tuning at their best (Schulman et al. 2025, "LoRA Without Regret"), so
some thousandths for the smallest models."""

ENTRIES = (
    Method(
        name="lora",
        title="LoRA",
        section=LoraTrain,
        program="slmcompile.training.methods.lora:LORA",
        writes="adapter",
        packages=("torch", "transformers", "peft"),
        usual_rate=USUAL_RATE,
        trainable=trainable,
        memory=MemoryTerms(kept=kept),
        details=details,
        alone=alone,
    ),
)
