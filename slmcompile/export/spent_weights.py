"""Lets an open model's weights go one by one, as a builder has no more use for them.

Knows which tensors the initialisers of an ``onnx_ir`` graph are made of, onnxruntime-genai 0.18's
that are made when they are asked for among them; knows nothing of what is done with them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any


class SpentWeights:
    """Parameters of a model by the initialisers that read them: each goes with its last reader.

    A parameter that no initialiser reads stays, and all do where it is not known what one is made
    of. What is let go of is empty afterwards, and the model computes nothing any more.
    """

    def __init__(self, model: Any, values: Mapping[str, Any]) -> None:
        """Looks at all of them.

        Args:
            model: a transformers model.
            values: by name the initialisers, ``onnx_ir.Value``, of the graph that is built of it.
        """
        self._parameters: defaultdict[int, list[Any]] = defaultdict(list)
        self._readers: defaultdict[int, set[str]] = defaultdict(set)
        self._places: dict[str, set[int]] = {}
        found = {name: _tensors(value.const_value) for name, value in values.items()}
        if None in found.values():
            return
        for parameter in model.parameters():
            self._parameters[_place(parameter)].append(parameter)
        for name, tensors in found.items():
            self._places[name] = {_place(tensor) for tensor in tensors or ()}
            for place in self._places[name]:
                self._readers[place].add(name)

    def let_go(self, name: str) -> None:
        """Of an initialiser that is read no more."""
        for place in self._places.get(name, ()):
            self._readers[place].discard(name)
            if not self._readers[place]:
                for parameter in self._parameters.pop(place, ()):
                    parameter.data = parameter.data.new_empty(0)


def _place(tensor: Any) -> int:
    """Where the memory begins that a tensor and its views share."""
    return int(tensor.untyped_storage().data_ptr())


def _tensors(value: Any) -> list[Any] | None:
    """Torch's, that a value is made of; None where that is not known."""
    import onnx_ir as ir
    import torch

    if not isinstance(value, ir.LazyTensor):
        return [value.raw] if isinstance(getattr(value, "raw", None), torch.Tensor) else []
    found = list(_in_closure(value._func))  # noqa: SLF001 - it says it nowhere else
    return found or None


def _in_closure(function: Any) -> Iterator[Any]:
    import torch

    for cell in function.__closure__ or ():
        if isinstance(cell.cell_contents, torch.Tensor):
            yield cell.cell_contents
