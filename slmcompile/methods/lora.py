"""LoRA: a low-rank adapter on linear layers, over a frozen base."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import prod, sqrt
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
)

from slmcompile.methods.keys import MethodName, Train
from slmcompile.methods.method import Form, MemoryTerms, Method
from slmcompile.registry.section import Section
from slmcompile.shapes.architecture import EMBEDDINGS, Architecture, Trainable
from slmcompile.shapes.target_modules import leaf, matched, meant, most_specific, patterns_of

# A name as it stands in a model: no regular expression, which a recipe could let run for ever.
ModuleName = Annotated[str, StringConstraints(pattern=r"^[\w.-]+$", max_length=256)]
Names = Annotated[tuple[str, ...], Field(max_length=256)]
InitLora = Literal[True, "gaussian", "pissa", "olora", "loftq"]

QUANTISED_ONLY = frozenset({"loftq"})
"""Initial adapters that make up for the quantisation of the base."""

OF_THE_BASE = frozenset({"pissa", "olora", "loftq"})
"""Initial adapters that are taken out of the base, whose weights are others while it trains."""


class Lora(Section):
    """PEFT ``LoraConfig`` (Hu et al. 2021, arXiv:2106.09685)."""

    said_if_other: ClassVar[tuple[str, ...]] = (
        "exclude_modules",
        "layers_to_transform",
        "rank_pattern",
        "alpha_pattern",
        "use_dora",
        "init_lora_weights",
        "loraplus_lr_ratio",
    )

    r: int = Field(16, ge=1, le=4096, description="Rank of the adapter's matrices.")
    lora_alpha: float = Field(32.0, gt=0, description="The update is scaled by lora_alpha / r.")
    lora_dropout: float = Field(
        0.0, ge=0.0, lt=1.0, description="Dropout on the adapter's input, 0 to 1."
    )
    target_modules: Literal["all-linear"] | Names = Field(
        "all-linear",
        description="Layers that get an adapter: all-linear, or names (q_proj, …).",
    )
    exclude_modules: Names = Field(
        (), description="Layers that target_modules means and that get no adapter, by name."
    )
    layers_to_transform: (
        Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1, max_length=1024)]
        | None
    ) = Field(
        None,
        description="Numbers of the decoder layers that get adapters, from 0; null takes all, and"
        " what lies in no layer.",
    )
    modules_to_save: tuple[str, ...] = Field(
        (), max_length=256, description="Layers trained whole and saved beside the adapter."
    )
    rank_pattern: dict[ModuleName, Annotated[int, Field(ge=1, le=4096)]] = Field(
        default_factory=dict,
        max_length=256,
        description="Ranks of single layers: {name: rank}. Of several names that mean a layer the"
        " longest counts. Names are those of target_modules, not PEFT's regular expressions.",
    )
    alpha_pattern: dict[ModuleName, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        max_length=256,
        description="lora_alpha of single layers: {name: alpha}, as in rank_pattern.",
    )
    use_rslora: bool = Field(
        False, description="Scale by lora_alpha / √r instead (arXiv:2312.03732)."
    )
    use_dora: bool = Field(
        False,
        description="Also train the length of each row of an adapted weight, and let the adapter"
        " turn it alone (DoRA, arXiv:2402.09353): slower, and it ships merged.",
    )
    init_lora_weights: InitLora = Field(
        True,
        description="What the adapter begins as. true and gaussian: nothing, A random and B zero."
        " pissa: the weight's largest singular values (arXiv:2404.02948); olora: the start of its"
        " QR decomposition (arXiv:2406.01775); both are taken out of the base while it trains."
        " loftq, of qlora alone: what quantising the weight loses (arXiv:2310.08659). What is saved"
        " is always an adapter of the base as it was fetched, of twice the rank with these three.",
    )
    loraplus_lr_ratio: float | None = Field(
        None,
        ge=1,
        le=1024,
        description="Learning rate of the adapter's B matrices, as a multiple of learning_rate"
        " (LoRA+, arXiv:2402.12354); null trains both at one rate.",
    )

    @model_serializer(mode="wrap")
    def _as_given(self, rest: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the keys of variants that are not asked for: most adapters are plain."""
        found: dict[str, Any] = rest(self)
        for name in self.said_if_other:
            field = type(self).model_fields[name]
            if getattr(self, name) == field.get_default(call_default_factory=True):
                found.pop(name, None)
        return found

    def __hash__(self) -> int:
        """Of what in it can be hashed: a mapping cannot."""
        return hash((self.r, self.lora_alpha, self.target_modules, self.modules_to_save))

    def rank(self, name: str) -> int:
        """Of the adapter on a module, by its full name."""
        return most_specific(self.rank_pattern, name, self.r)

    def scale(self, name: str) -> float:
        """What the adapter's update on a module is multiplied by, as PEFT computes it."""
        rank, alpha = self.rank(name), most_specific(self.alpha_pattern, name, self.lora_alpha)
        return alpha / (sqrt(rank) if self.use_rslora else rank)


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
    names = adapted(lora, patterns(lora, model), model.layers, model.modules)
    adapter = sum(_weights(lora, name, *model.layers[name]) for name in names)
    return Trainable(tuple(names), adapter, _saved(lora, model), 0)


def _weights(lora: Lora, name: str, rows: int, width: int) -> int:
    """Two matrices, and in DoRA a length for each row of what the layer computes."""
    lengths = width if leaf(name) in EMBEDDINGS else rows
    return lora.rank(name) * (rows + width) + (lengths if lora.use_dora else 0)


def adapted(
    lora: Lora, patterns: Iterable[str], layers: Iterable[str], modules: Iterable[str]
) -> list[str]:
    """Full names of the layers that get an adapter, sorted.

    Args:
        lora: the section.
        patterns: its ``target_modules``, resolved.
        layers: names of all layers that can carry an adapter.
        modules: names of all modules.
    """
    whole = matched(modules, lora.modules_to_save)
    found = meant(layers, patterns, lora.exclude_modules, lora.layers_to_transform)
    # PEFT puts no adapter on what is saved whole, nor on anything inside it.
    return sorted(name for name in found if not _within(name, whole))


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


def kept(train: LoraTrain, model: Architecture) -> float:
    """The low-rank activation of every adapted layer; in DoRA the results of both its parts too."""
    lora = train.lora
    names = adapter_weights(lora, model).adapted
    layers = [(lora.rank(name), model.linears[name][0]) for name in names if name in model.linears]
    return sum(rank + (2.0 * rows if lora.use_dora else 0.0) for rank, rows in layers)


def reached(train: LoraTrain, layers: int) -> tuple[int, int]:
    """From the lowest layer with an adapter up, where it is said by number."""
    numbers = train.lora.layers_to_transform
    if numbers is None or train.lora.modules_to_save:
        return layers, layers
    found = [number for number in numbers if number < layers]
    return (layers - min(found), len(found)) if found else (0, 0)


def beside(train: LoraTrain, model: Architecture) -> float:
    """The initial adapter, where it is subtracted in the end; DoRA's copies of the largest weight.

    DoRA multiplies A by B over the identity, adds the weight and takes the length of the rows: four
    matrices of the layer's shape or smaller at once, of one layer at a time (peft 0.21).
    """
    lora, found = train.lora, adapter_weights(train.lora, model)
    first = 4.0 * found.adapter if lora.init_lora_weights in OF_THE_BASE else 0.0
    if not lora.use_dora:
        return first
    largest = max((prod(model.layers[name]) for name in found.adapted), default=0)
    return first + 4.0 * largest * (4 if train.precision == "fp32" else 2)


def details(train: Mapping[str, Any]) -> list[str]:
    """``rank 16``, and what is not usual about it."""
    lora = train.get("lora") or {}
    rank, first = lora.get("r"), lora.get("init_lora_weights", True)
    told = []
    if isinstance(rank, int):
        ranks = sorted({rank, *lora.get("rank_pattern", {}).values()})
        told.append(f"rank {rank}" if len(ranks) == 1 else f"rank {ranks[0]}–{ranks[-1]}")
    if lora.get("use_dora"):
        told.append("DoRA")
    if first is not True:
        told.append(f"begun as {_BEGINNINGS.get(first, first)}")
    if ratio := lora.get("loraplus_lr_ratio"):
        told.append(f"B at {ratio:g} times the rate")
    return told


_BEGINNINGS = {"gaussian": "Gaussian noise", "pissa": "PiSSA", "olora": "OLoRA", "loftq": "LoftQ"}


FORMS: frozenset[Form] = frozenset({"merged", "inputs"})


def alone(train: LoraTrain) -> str:
    """Adapters beside each other leave the base as it is."""
    if reason := _changes_base(train):
        return reason
    if train.lora.use_dora:
        # Its layers run PEFT's own forward, whose bytes are other than those of the grouped one.
        return "train.lora.use_dora computes its layers in another way, for the others too"
    return ""


def _changes_base(train: LoraTrain) -> str:
    """What of the base it changes, in words; empty where it leaves it as it is."""
    if train.lora.modules_to_save:
        return "train.lora.modules_to_save trains layers of the base model"
    if train.lora.target_modules != "all-linear" and any(
        name.rpartition(".")[2] in EMBEDDINGS for name in train.lora.target_modules
    ):
        return "train.lora.target_modules names the embedding"
    if train.lora.init_lora_weights in OF_THE_BASE:
        return f"train.lora.init_lora_weights {train.lora.init_lora_weights} changes the base model"
    return ""


def only_merged(train: LoraTrain) -> str:
    """Beside a base stand two thin matrices a layer. DoRA also scales what they are beside."""
    if train.lora.use_dora:
        return "train.lora.use_dora scales the rows of the base's weights"
    return _changes_base(train)


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
        memory=MemoryTerms(kept_in_all=kept, beside=beside, reached=reached),
        details=details,
        alone=alone,
        forms=FORMS,
        only_merged=only_merged,
    ),
)
