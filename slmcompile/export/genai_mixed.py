"""Lets onnxruntime-genai 0.18's builder give every node of a graph its own width.

The builder has a width for single nodes (``QuantConfig`` overrides, which ``k_quant_mixed`` is made
of), named before there is a node, and no block size for them. So each node is told here where the
builder has them all and is about to quantise: by its name, both. An embedding that is tied reads
the head's weights, and is told with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from slmcompile.console.errors import StageFailedError
from slmcompile.export.mixture import Mixture
from slmcompile.models.graph_products import nodes_of, products
from slmcompile.models.graph_weights import open_graph
from slmcompile.shapes.blocks import block_of

_HEAD = "/lm_head/MatMul"
_TOLD = ("make_quant_init", "make_embedding_lookup", "to_nbits")


@contextmanager
def mixed(builder: ModuleType, mixture: Mixture | None) -> Iterator[None]:
    """Changes the builder's class of models for as long as it builds; None leaves it as it is.

    Args:
        builder: ``onnxruntime_genai.models.builder``.
        mixture: how wide each matrix is.
    """
    if mixture is None:
        yield
        return
    # The builder imports its own modules by other names than the package has for them.
    model = next(kind for kind in builder.LlamaModel.__mro__ if kind.__name__ == "Model")
    bits = {node: own for module, own in mixture.bits.items() for node in nodes_of(module)}
    given = {name: getattr(model, name) for name in _TOLD}

    def told_of_head(self: Any, config: Any) -> None:
        given["make_quant_init"](self, config)
        self.matmul_mixed_precision["last_matmul"] = f"int{bits[_HEAD]}"

    def in_blocks_of_head(self: Any, *arguments: Any) -> Any:
        known: Mapping[str, Any] = self.quant_attrs
        own = block_of(self.hidden_size, bits[_HEAD], mixture.block)
        self.quant_attrs = {**known, "matmul_block_size": own}
        try:
            return given["make_embedding_lookup"](self, *arguments)
        finally:
            self.quant_attrs = known

    def told_of_all(self: Any) -> Any:
        self.int4_customized_weight_config = _config(self.model, bits, mixture.block)
        return given["to_nbits"](self)

    told: tuple[Any, ...] = (told_of_head, in_blocks_of_head, told_of_all)
    try:
        for name, method in zip(_TOLD, told, strict=True):
            setattr(model, name, method)
        yield
    finally:
        for name, method in given.items():
            setattr(model, name, method)


def _config(model: Any, bits: Mapping[str, int], block: int) -> dict[str, dict[str, int]]:
    """Width and block size by a node's name, of those that multiply with weights."""
    found = {}
    for node in model.graph:
        if node.op_type == "MatMul" and node.inputs[1].const_value is not None:
            width = int(node.inputs[1].const_value.shape[0])
            if node.name not in bits:
                raise StageFailedError(
                    f"the builder's graph has a product {node.name!r} that is of no known module",
                    "report it with the model's architecture, or choose another precision",
                )
            own = bits[node.name]
            found[node.name] = {"bits": own, "group_size": block_of(width, own, block)}
    return found


def require_widths(mixture: Mixture, shapes: Mapping[str, tuple[int, int]], folder: Path) -> None:
    """That a graph that was built so is as wide as it was to be.

    Raises:
        StageFailedError: the builder made something else of it (exit 1).
    """
    for name, parts in products(open_graph(folder), shapes).items():
        found = {part.node.attributes["bits"].as_int() for part in parts}
        if found != {mixture.bits[name]}:
            raise StageFailedError(
                f"the builder's graph has {sorted(found)} bits for {name} and not"
                f" {mixture.bits[name]}",
                "report it with the model's architecture",
            )
