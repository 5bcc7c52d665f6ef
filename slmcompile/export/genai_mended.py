"""Families whose models onnxruntime-genai 0.18's builder gets wrong, mended by a class of our own.

- SmolLM3 has layers without positions. The builder takes the rotation out of their attention and
  then asks for an input that only a rotation outside of it needs: KeyError ``position_ids``.
- Gemma 3 has other rotations in layers with a window. transformers 5 keeps both by the kind of
  layer, the builder reads one: KeyError ``rope_type``. It also gives the windowed layers the
  stretch of the others.
- Mistral and Phi-3 attend within a window in every layer and list no kinds of layers, which the
  builder takes for layers without one: other logits from the window's length on.

Each goes when the builder's own makes the same graph; ``tests/stages/test_families.py`` tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def mended(builder: ModuleType) -> Iterator[None]:
    """Puts the classes in place of the builder's for as long as it builds.

    Args:
        builder: ``onnxruntime_genai.models.builder``.
    """
    given = {name: getattr(builder, name) for name in _MENDED}
    try:
        for name, mend in _MENDED.items():
            setattr(builder, name, mend(given[name]))
        yield
    finally:
        for name, kind in given.items():
            setattr(builder, name, kind)


def _smollm3(given: Any) -> Any:
    class SmolLM3(given):  # type: ignore[misc]  # untyped in onnxruntime-genai
        def make_attention_qk_rope(self, layer_id: int, **names: Any) -> tuple[str, str]:
            """No names of caches where a layer rotates nothing."""
            if not self.no_rope_layers[layer_id]:
                return "", ""
            found: tuple[str, str] = super().make_attention_qk_rope(layer_id, **names)
            return found

    return SmolLM3


def _gemma3(given: Any) -> Any:
    class Gemma3(given):  # type: ignore[misc]  # untyped in onnxruntime-genai
        def make_config_init(self, config: Any) -> None:
            """The rotation of full attention in front, and the base of the other beside it."""
            super().make_config_init(config)
            rotations = getattr(config, "rope_parameters", None) or {}
            if "full_attention" in rotations:
                config.rope_local_base_freq = rotations["sliding_attention"]["rope_theta"]
                config.rope_parameters = dict(rotations["full_attention"])
                config.rope_theta = config.rope_parameters["rope_theta"]

        def make_rotary_embedding_multi_cache(self) -> None:
            """A cache for full attention, and one for windows, which are not stretched."""
            stretch = self.rope_attrs["rescale_factors"]
            for kind, theta, factor in (
                ("global", self.rope_attrs["theta"], stretch),
                ("local", self.rope_local_theta, 1),
            ):
                names = {f"{part}_cache_name": f"{part}_cache_{kind}" for part in ("cos", "sin")}
                for part in ("cos", "sin"):
                    setattr(self, f"{part}_cache_{kind}_name", names[f"{part}_cache_name"])
                self.rope_attrs.update(create_caches=True, theta=theta, rescale_factors=factor)
                # Past the builder's own Gemma 3, which looks up the names that are made here.
                super(given, self).make_rotary_embedding_caches(**names)

    return Gemma3


def _windowed(given: Any) -> Any:
    class Windowed(given):  # type: ignore[misc]  # untyped in onnxruntime-genai
        def make_config_init(self, config: Any) -> None:
            """A window is one of all layers where nothing says of which."""
            super().make_config_init(config)
            if getattr(config, "sliding_window", None) and not getattr(config, "layer_types", None):
                config.layer_types = ["sliding_attention"] * config.num_hidden_layers

    return Windowed


_MENDED = {
    "SmolLM3Model": _smollm3,
    "Gemma3Model": _gemma3,
    "MistralModel": _windowed,
    "Phi3MiniModel": _windowed,
    "Phi3MiniLongRoPEModel": _windowed,
}
