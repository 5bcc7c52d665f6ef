"""A transformers model as a graph of OpenVINO with a state, traced once for every length.

The graph's inputs are those that openvino-genai gives: ``input_ids``, ``attention_mask`` over all
tokens so far, ``position_ids``, and ``beam_idx``, which says whose keys and values each row goes on
with. The masks are ours: transformers makes them by the lengths of the example that is traced.

A padded place sees itself and nothing else sees it, so that no row of a mask is empty: what a
softmax makes of that differs between runtimes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from slmcompile.inference.openvino_runtime import openvino
from slmcompile.providers.openvino import MASK_BY_LAYER

GIVEN = ("input_ids", "attention_mask", "position_ids")
_BATCH, _PAST, _NEW = 2, 3, 4
"""Sizes of the example; none is 1, which would be taken for one that is repeated."""


def stateful(model: Any) -> Any:
    """The graph of a causal language model.

    Args:
        model: of transformers, in fp32, whose every layer keeps keys and values; its weights are
            shared with the graph.
    """
    ov = openvino()
    shapes = _kept(model)
    past = [torch.zeros(_BATCH, heads, _PAST, width) for heads, width in shapes]
    with torch.inference_mode():
        graph = ov.convert_model(_WithMasks(model).eval(), example_input=(*_example(), *past))
    layers = len(shapes) // 2
    places = [f"{layer}.{part}" for layer in range(layers) for part in ("key", "value")]
    _name(graph.inputs, [*GIVEN, *(f"past_key_values.{place}" for place in places)])
    _name(graph.outputs, ["logits", *(f"present.{place}" for place in places)])
    given, kept = graph.get_parameters()[:3], graph.get_parameters()[3:]
    for parameter in given:
        parameter.set_partial_shape(ov.PartialShape([-1, -1]))
        parameter.set_element_type(ov.Type.i64)
    for parameter, (heads, width) in zip(kept, shapes, strict=True):
        parameter.set_partial_shape(ov.PartialShape([-1, heads, -1, width]))
    graph.validate_nodes_and_infer_types()
    _keep(ov, graph, kept, places, shapes)
    return graph


def _example() -> tuple[Any, ...]:
    ids = torch.ones(_BATCH, _NEW, dtype=torch.long)
    seen = torch.ones(_BATCH, _PAST + _NEW, dtype=torch.long)
    return ids, seen, torch.arange(_PAST, _PAST + _NEW).repeat(_BATCH, 1)


def _kept(model: Any) -> list[tuple[int, int]]:
    """Heads and width of each layer's keys and values, in turn, as the model itself makes them."""
    from transformers import DynamicCache

    cache = DynamicCache()
    with torch.inference_mode():
        model(input_ids=torch.ones(1, 1, dtype=torch.long), past_key_values=cache, use_cache=True)
    return [(int(part.shape[1]), int(part.shape[3])) for part in _parts(cache)]


def _parts(cache: Any) -> list[Any]:
    """Keys and values of each layer in turn."""
    return [part for layer in cache.layers for part in (layer.keys, layer.values)]


def _name(ports: Sequence[Any], names: Sequence[str]) -> None:
    for port, name in zip(ports, names, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)


class _WithMasks(nn.Module):
    """The model as a function of tensors alone: keys and values come in and go out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Any, attention_mask: Any, position_ids: Any, *past: Any) -> Any:
        """Logits, and keys and values of all tokens so far."""
        from transformers import DynamicCache

        cache = DynamicCache()
        cache.layers = list(_layers(past))
        found = self.model(
            input_ids=input_ids,
            attention_mask=self._masks(input_ids.shape[1], attention_mask),
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
        )
        return (found.logits, *_parts(cache))

    def _masks(self, new: Any, seen: Any) -> Any:
        """What is added to attention's scores, [rows, 1, new, all], as the architecture takes it.

        All layers keep everything, also those with a window, which their mask cuts.
        """
        config = self.model.config
        total = seen.shape[1]
        back = (torch.arange(new) + (total - new))[:, None] - torch.arange(total)[None, :]
        own = (back == 0)[None]
        known = seen[:, None, :].bool()
        causal = (back >= 0)[None] & known | own
        window = getattr(config, "sliding_window", None)
        within = causal if window is None else causal & (back < window)[None]
        if config.model_type not in MASK_BY_LAYER:
            return _added(within)
        return {"full_attention": _added(causal), "sliding_attention": _added(within)}


def _layers(past: Sequence[Any]) -> Iterator[Any]:
    """Layers of a cache that hold these keys and values, and grow."""
    from transformers.cache_utils import DynamicLayer

    make: Any = DynamicLayer
    for keys, values in zip(past[::2], past[1::2], strict=True):
        layer = make()
        layer.dtype, layer.device, layer.is_initialized = keys.dtype, keys.device, True
        layer.keys, layer.values = keys, values
        yield layer


def _added(seen: Any) -> Any:
    lowest = torch.finfo(torch.float32).min
    return torch.zeros(seen.shape).masked_fill(~seen, lowest)[:, None]


def _keep(
    ov: Any,
    graph: Any,
    kept: Sequence[Any],
    places: Sequence[str],
    shapes: Sequence[tuple[int, int]],
) -> None:
    """Keys and values stay in the runtime, from one call to the next, and begin empty."""
    from openvino._offline_transformations import apply_make_stateful_transformation

    make = ov.opset13
    rows = make.parameter([-1], ov.Type.i32, name="beam_idx")
    rows.output(0).get_tensor().set_names({"beam_idx"})
    graph.add_parameters([rows])
    for parameter in kept:
        readers = parameter.output(0).get_target_inputs()
        chosen = make.gather(parameter, rows, make.constant(0, ov.Type.i64))
        for reader in readers:
            reader.replace_source_output(chosen.output(0))
    graph.validate_nodes_and_infer_types()
    pairs = {f"past_key_values.{place}": f"present.{place}" for place in places}
    apply_make_stateful_transformation(graph, pairs)
    sizes = make.shape_of(graph.input("input_ids"), "i64")
    batch = make.gather(sizes, make.constant([0], ov.Type.i64), make.constant(0, ov.Type.i64))
    nothing = make.constant(0.0, ov.Type.f32)
    read = [op for op in graph.get_ops() if op.get_type_name() == "ReadValue"]
    by_variable = {
        f"past_key_values.{p}present.{p}": s for p, s in zip(places, shapes, strict=True)
    }
    for op in read:
        heads, width = by_variable[op.get_attributes()["variable_id"]]
        rest = make.constant([heads, 0, width], ov.Type.i64)
        empty = make.broadcast(nothing, make.concat([batch, rest], 0))
        op.set_arguments([empty.output(0)])
    graph.validate_nodes_and_infer_types()
