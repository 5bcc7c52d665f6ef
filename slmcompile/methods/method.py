"""What is to be known of a train method before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from slmcompile.shapes.architecture import Architecture, Trainable
from slmcompile.shapes.interval import Interval, exactly

if TYPE_CHECKING:
    from slmcompile.methods.keys import Train


def frozen_base(train: Train, model: Architecture) -> float:
    """Bytes of a base that is only read: in the precision that it is computed in."""
    return model.parameters * (4 if train.precision == "fp32" else 2)


def read_in_precision(train: Train) -> str:
    """The safetensors dtype that a base which is only read is opened in."""
    return "F32" if train.precision == "fp32" else "BF16"


@dataclass(frozen=True)
class MemoryTerms:
    """What a method adds to, or takes from, the memory of training; see ``estimate.memory``.

    Attributes:
        base: bytes of the base model as it is trained over.
        read_as: safetensors dtype that the base is opened in; None where all of it is converted.
        kept: elements a token and layer that autograd keeps beside those of the frozen decoder,
            given the width of the residual stream.
        kept_in_all: the same of all layers together, by their shapes.
        beside: bytes of what stands beside the base, the trained weights and their optimizer.
        left_by_loading: bytes that opening leaves behind, as a share of the file.
        reached: of so many layers, those that backward goes through (below the lowest that is
            trained it keeps nothing) and those that keep what ``kept`` counts.
    """

    base: Callable[[Any, Architecture], float] = frozen_base
    read_as: Callable[[Any], str | None] = read_in_precision
    kept: Callable[[Any, int], float] = lambda _train, _hidden: 0.0
    kept_in_all: Callable[[Any, Architecture], float] = lambda _train, _model: 0.0
    beside: Callable[[Any, Architecture], float] = lambda _train, _model: 0.0
    left_by_loading: Interval = field(default_factory=lambda: exactly(0))
    reached: Callable[[Any, int], tuple[int, int]] = lambda _train, layers: (layers, layers)


Form = Literal["merged", "inputs", "nodes"]
"""How an adapter ships: in the base's own weights; beside them, as inputs of the graph that are
chosen at run time; or beside them as nodes of it."""


@dataclass(frozen=True)
class Fault:
    """What keeps a method from training a model.

    Attributes:
        key: below ``train``, the key that asks for it.
        what: one line, what is wrong.
        hint: one line, how to mend it.
        by_name: whether it is told from the names of stored weights, which are not those of the
            modelling code where that joins experts.
    """

    key: str
    what: str
    hint: str
    by_name: bool = False


@dataclass(frozen=True)
class Method:
    """One way to fine-tune.

    Attributes:
        name: as in ``train.method``.
        title: as in reports and model cards.
        section: its keys of ``train``, and no others.
        program: ``package.module:name`` of a ``training.methods.protocol.MethodProgram``.
        writes: ``adapter``, which stands beside the base, or ``model``, all weights.
        packages: installed packages that its result depends on.
        usual_rate: learning rates at which runs are known to go well, with their source beside it.
        trainable: which weights it moves, counted from shapes.
        memory: its terms of the memory of training.
        details: what to tell of a section beside the title (``rank 16``), from its plain values.
        base_held_in: given a train section as JSON values, the 4-bit type that the base has while
            it trains and nowhere else, as in ``NF4``; empty where it has none.
        made_one: what becomes of it before an export, as in ``merged and ``.
        alone: why, by its section, it cannot be trained beside others over one base; empty where
            it can.
        forms: how an adapter ships; nothing is asked of a method that writes a model.
        only_merged: why, by its section, what it trains can only ship merged; empty where it can
            stand in floating point beside a base that it leaves as it is.
        fault: what keeps it from training a model, told from shapes alone.
        epoch: raised when its numbers change.
    """

    name: str
    title: str
    section: type[Train]
    program: str
    writes: Literal["adapter", "model"]
    packages: tuple[str, ...]
    usual_rate: tuple[float, float]
    trainable: Callable[[Any, Architecture], Trainable]
    memory: MemoryTerms
    details: Callable[[Mapping[str, Any]], list[str]] = lambda _: []
    base_held_in: Callable[[Mapping[str, Any]], str] = lambda _train: ""
    made_one: str = "merged and "
    alone: Callable[[Any], str] = lambda _: "its program trains one at a time over the base"
    forms: frozenset[Form] = frozenset({"merged"})
    only_merged: Callable[[Any], str] = lambda _: "what is trained becomes part of its weights"
    fault: Callable[[Any, Architecture], Fault | None] = lambda _train, _model: None
    epoch: int = 1
