"""The layers of a Llama and of what is built as one, as operations that the NPU has.

Keys and values of earlier tokens come in and those of the new ones go out, as integers, and where
they are kept is whoever runs the graph's. Positions that nothing may see are told by a mask of
integers: 65535 is seen, 0 is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slmcompile.export.qnn_net import Net
from slmcompile.inference.qnn_graphs import SEEN

HIDDEN = -1e4
"""What is added to a score that nothing may see, where nothing is rounded."""
_BELOW = 20.0
"""How far below all scores of a row one is that the mask hides: e^-20 of a probability."""


class SavedWeights:
    """Weights of a saved model by name, one at a time in fp32."""

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        self._files: dict[str, Any] = {}
        for path in sorted(folder.glob("*.safetensors")):
            file: Any = safe_open(path, framework="np")
            self._files |= dict.fromkeys(file.keys(), file)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def __getitem__(self, name: str) -> Any:
        return self._files[name].get_tensor(name).astype(np.float32)


@dataclass(frozen=True)
class Shape:
    """Sizes of a graph.

    Attributes:
        layers, heads, key_heads, head, width, vocabulary: of the model.
        context: tokens before and new ones.
        new: tokens that are read at once.
    """

    layers: int
    heads: int
    key_heads: int
    head: int
    width: int
    vocabulary: int
    context: int
    new: int

    @property
    def past(self) -> int:
        """Places for tokens before."""
        return self.context - self.new


def shape_of(config: Mapping[str, Any], context: int, new: int) -> Shape:
    """Of a model's configuration, for a context of so many tokens."""
    heads, width = config["num_attention_heads"], config["hidden_size"]
    return Shape(
        layers=config["num_hidden_layers"],
        heads=heads,
        key_heads=config.get("num_key_value_heads") or heads,
        head=config.get("head_dim") or width // heads,
        width=width,
        vocabulary=config["vocab_size"],
        context=context,
        new=new,
    )


class Layers:
    """Writes a model into a graph.

    Args:
        net: the graph.
        weights: the model's.
        config: ``config.json``.
        shape: of the graph.
    """

    def __init__(
        self, net: Net, weights: SavedWeights, config: Mapping[str, Any], shape: Shape
    ) -> None:
        self._net, self._weights, self._config, self._shape = net, weights, config, shape
        self._deep = 0.0

    def write(self) -> None:
        """All of it: inputs, layers, logits."""
        net, shape = self._net, self._shape
        net.given("input_ids", [1, shape.new], np.int32)
        net.given("position_ids", [shape.new], np.int32)
        self._write_mask()
        self._write_turns()
        x = net.value("Gather", [self._embedding(), "input_ids"], "embedded", "embedding", axis=0)
        for layer in range(shape.layers):
            x = self._attention(x, layer)
            x = self._feed_forward(x, layer)
        x = self._normed(x, "normed", "model.norm.weight")
        tied = "lm_head.weight" not in self._weights
        head = "model.embed_tokens.weight" if tied else "lm_head.weight"
        net.value("MatMul", [x, net.matrix("head", lambda: self._weights[head])], "logits")
        size = [1, shape.new, shape.vocabulary]
        if net.rounds:
            net.gives("logits.integer", size, np.uint16)
        else:
            net.gives("logits", size, np.float32)

    def _write_mask(self) -> None:
        net, shape = self._net, self._shape
        size = [1, 1, shape.new, shape.context]
        if not net.rounds:
            net.given("mask", size, np.float32)
            return
        spans = [net.range_of(f"{layer}.scores") for layer in range(shape.layers)]
        self._deep = max(high - low for low, high in spans) + _BELOW
        net.given("attention_mask", size, np.uint16)
        net.read("attention_mask", "mask", np.float32(self._deep / SEEN), np.uint16(SEEN))

    def _write_turns(self) -> None:
        """Cosines and sines of the new tokens' positions, [1, 1, new, half of a head]."""
        net, shape = self._net, self._shape
        angles, stretch = _angles(self._config, shape)
        for name, of in (("cosine", np.cos), ("sine", np.sin)):
            table = net.table(f"{name}s", lambda of=of: stretch * of(angles))  # type: ignore[misc]
            found = net.value("Gather", [table, "position_ids"], f"{name}.here", table, axis=0)
            size = net.numbers(1, 1, shape.new, shape.head // 2)
            net.value("Reshape", [found, size], name, table)

    def _embedding(self) -> str:
        scale = self._shape.width**0.5 if self._config["model_type"] == "gemma" else 1.0
        return self._net.table(
            "embedding", lambda: scale * self._weights["model.embed_tokens.weight"]
        )

    def _normed(self, x: str, name: str, weight: str, times: float = 1.0) -> str:
        def scale() -> Any:
            found = self._weights[weight]
            return times * (found + 1.0 if self._config["model_type"] == "gemma" else found)

        inputs = [x, self._net.table(f"{name}.weight", scale)]
        epsilon = float(self._config["rms_norm_eps"])
        return self._net.value("RMSNormalization", inputs, name, axis=-1, epsilon=epsilon)

    def _linear(self, x: str, name: str, module: str, times: float = 1.0) -> str:
        """A linear layer, with its bias where it has one."""
        net, bias = self._net, f"{module}.bias"
        matrix = net.matrix(f"{name}.weight", lambda: times * self._weights[f"{module}.weight"])
        if bias not in self._weights:
            return net.value("MatMul", [x, matrix], name)
        product = net.value("MatMul", [x, matrix], f"{name}.product")
        added = net.table(f"{name}.bias", lambda: times * self._weights[bias])
        return net.value("Add", [product, added], name)

    def _attention(self, x: str, layer: int) -> str:
        net, shape, of = self._net, self._shape, f"model.layers.{layer}"
        h = self._normed(x, f"{layer}.before", f"{of}.input_layernorm.weight")
        softened = shape.head**-0.5
        queries = self._heads(h, f"{layer}.query", f"{of}.self_attn.q", shape.heads, softened)
        keys = self._heads(h, f"{layer}.key", f"{of}.self_attn.k", shape.key_heads)
        values = self._heads(h, f"{layer}.value", f"{of}.self_attn.v", shape.key_heads)
        if self._turns(layer):
            queries = self._turned(queries, f"{layer}.query.turned")
            keys = self._turned(keys, f"{layer}.key.turned")
        keys = self._with_past(keys, f"key.{layer}", turned=True)
        values = self._with_past(values, f"value.{layer}")
        shares = self._shares(queries, keys, layer)
        found = net.value("MatMul", [shares, values], f"{layer}.found")
        size = net.numbers(1, shape.heads, shape.new, shape.head)
        apart = net.value("Reshape", [found, size], f"{layer}.found.heads", found)
        back = net.value("Transpose", [apart], f"{layer}.found.rows", found, perm=[0, 2, 1, 3])
        size = net.numbers(1, shape.new, shape.heads * shape.head)
        joined = net.value("Reshape", [back, size], f"{layer}.found.joined", found)
        out = self._linear(joined, f"{layer}.attended", f"{of}.self_attn.o_proj")
        return net.value("Add", [x, out], f"{layer}.between")

    def _turns(self, layer: int) -> bool:
        """Whether positions are told to a layer's attention."""
        told = self._config.get("no_rope_layers")
        return not told or bool(told[layer])

    def _heads(self, x: str, name: str, module: str, heads: int, times: float = 1.0) -> str:
        """A projection by heads, [1, heads, new, head], normed where the model norms it."""
        net, shape = self._net, self._shape
        norm = f"{module}_norm.weight"
        normed = norm in self._weights
        y = self._linear(x, f"{name}.linear", f"{module}_proj", 1.0 if normed else times)
        size = net.numbers(1, shape.new, heads, shape.head)
        y = net.value("Reshape", [y, size], f"{name}.apart", y)
        if normed:
            y = self._normed(y, f"{name}.normed", norm, times)
        return net.value("Transpose", [y], name, y, perm=[0, 2, 1, 3])

    def _turned(self, x: str, name: str) -> str:
        """Rotated by position: both halves of each head, and put together again."""
        net, head = self._net, self._shape.head
        halves = []
        for part, (start, end) in enumerate(((0, head // 2), (head // 2, head))):
            cut = [x, net.numbers(start), net.numbers(end), net.numbers(3)]
            halves.append(net.value("Slice", cut, f"{name}.half.{part}", x))
        a, b = halves
        products = {
            way: net.value("Mul", list(pair), f"{name}.{way}")
            for way, pair in {
                "ac": (a, "cosine"),
                "bs": (b, "sine"),
                "bc": (b, "cosine"),
                "as": (a, "sine"),
            }.items()
        }
        left = net.value("Sub", [products["ac"], products["bs"]], f"{name}.left")
        right = net.value("Add", [products["bc"], products["as"]], f"{name}.right")
        return net.value("Concat", [left, right], name, axis=3)

    def _with_past(self, new: str, name: str, *, turned: bool = False) -> str:
        """Keys or values of all tokens, those before first; the new ones also go out.

        In 16 bits with a sign, around zero, which is the only form of 16 bits in which the NPU
        multiplies a value with another.
        """
        net, shape = self._net, self._shape
        before = [1, shape.key_heads, shape.past, shape.head]
        size = [1, shape.key_heads, shape.new, shape.head]
        past, present, order = f"past.{name}", f"present.{name}", [0, 1, 3, 2]
        if not net.rounds:
            net.given(past, before, np.float32)
            joined = net.node("Concat", [past, new], f"{name}.all", axis=2)
            across = f"{name}.across"
            return net.node("Transpose", [joined], across, perm=order) if turned else joined
        net.given(past, before, np.int16)
        scale, zero = net.signed_scale(new)
        rounded = net.rounded(new, present, scale, zero)
        net.gives(f"{present}.integer", size, np.int16)
        known = net.read(past, f"{name}.known", scale, zero)
        net.node("Concat", [known, rounded], f"{name}.all.exact", axis=2)
        found = net.rounded(f"{name}.all.exact", f"{name}.all", scale, zero)
        if not turned:
            return found
        net.node("Transpose", [found], f"{name}.across.exact", perm=order)
        return net.rounded(f"{name}.across.exact", f"{name}.across", scale, zero)

    def _shares(self, queries: str, keys: str, layer: int) -> str:
        """How much each new token takes of each, all heads of one key head below each other."""
        net, shape = self._net, self._shape
        group = shape.heads // shape.key_heads
        size = net.numbers(1, shape.key_heads, group * shape.new, shape.head)
        grouped = net.value("Reshape", [queries, size], f"{layer}.query.grouped", queries)
        scores = net.value("MatMul", [grouped, keys], f"{layer}.scores")
        size = net.numbers(1, shape.heads, shape.new, shape.context)
        apart = net.value("Reshape", [scores, size], f"{layer}.scores.heads", scores)
        name = f"{layer}.scores.masked"
        if net.rounds:
            low, high = net.range_of(scores)
            net.set_range(name, low - self._deep, high)
            net.value("Add", [apart, "mask"], name)
        else:
            net.node("Add", [apart, "mask"], name)
        found = net.value("Softmax", [name], f"{layer}.shares", axis=-1)
        size = net.numbers(1, shape.key_heads, group * shape.new, shape.context)
        return net.value("Reshape", [found, size], f"{layer}.shares.grouped", found)

    def _feed_forward(self, x: str, layer: int) -> str:
        net, of = self._net, f"model.layers.{layer}"
        h = self._normed(x, f"{layer}.after", f"{of}.post_attention_layernorm.weight")
        gate = self._linear(h, f"{layer}.gate", f"{of}.mlp.gate_proj")
        up = self._linear(h, f"{layer}.up", f"{of}.mlp.up_proj")
        opened = self._activated(gate, f"{layer}.opened")
        inner = net.value("Mul", [opened, up], f"{layer}.inner")
        out = self._linear(inner, f"{layer}.down", f"{of}.mlp.down_proj")
        return net.value("Add", [x, out], f"{layer}.out")

    def _activated(self, x: str, name: str) -> str:
        """SiLU by its definition; of GELU the exact one or its approximation by tanh."""
        kind = self._config.get("hidden_act", "silu")
        if kind == "silu":
            return self._net.value("Mul", [x, self._net.value("Sigmoid", [x], f"{name}.s")], name)
        way = "none" if kind == "gelu" else "tanh"
        return self._net.value("Gelu", [x], name, approximate=way)


def _angles(config: Mapping[str, Any], shape: Shape) -> tuple[Any, float]:
    """Angles of every position, [context, half of a head], and what their functions are times."""
    from transformers import AutoConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    known: Any = AutoConfig.for_model(**config)
    told = dict(known.rope_parameters)
    kind = told.get("rope_type", "default")
    if kind == "default":
        places = np.arange(0, shape.head, 2, dtype=np.float64) / shape.head
        turns, stretch = 1.0 / float(told["rope_theta"]) ** places, 1.0
    else:
        found, stretch = ROPE_INIT_FUNCTIONS[kind](known, "cpu")
        turns = found.numpy().astype(np.float64)
    return np.outer(np.arange(shape.context), turns), float(stretch)
