"""Writes a GGUF file from a saved model: names and format by the package gguf, types by llama.cpp.

A tensor at a time is in memory. Knows the settings of the families in ``providers/gguf.py``; what
llama.cpp would read otherwise than transformers does is refused here by name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from slmcompile.console.errors import StageFailedError
from slmcompile.export.gguf_tokenizer import add_tokenizer
from slmcompile.export.gguf_types import type_of
from slmcompile.files.artifact import saying_what_is_missing
from slmcompile.inference.gguf_file import FILE
from slmcompile.inference.llama_library import library
from slmcompile.providers.gguf import GgufTarget
from slmcompile.providers.llama_cpp import rope, unlike

_ARCH = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
_INTERLEAVED = {"llama"}
"""Whose rotary embedding turns neighbours in llama.cpp, and halves in transformers."""
_FILE_TYPES = {"f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0", "q4_k_m": "MOSTLY_Q4_K_M"}
_ROPE_FACTORS = "rope_freqs.weight"


def build(target: GgufTarget, model: Path, out: Path, _cache: Path) -> None:
    """Writes ``model.gguf`` into ``out``.

    Args:
        target: the precision.
        model: a saved model in fp32, with its tokenizer.
        out: an empty folder.

    Raises:
        StageFailedError: llama.cpp has no such setting, tensor or tokenizer (exit 1).
        MissingError: llama.cpp is not installed (exit 69).
    """
    import gguf

    library()
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    arch = _ARCH[config["model_type"]]
    writer = gguf.GGUFWriter(None, arch)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_file_type(gguf.LlamaFileType[_FILE_TYPES[target.precision]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_settings(writer, config)
    add_tokenizer(writer, model, config["vocab_size"])
    with saying_what_is_missing(out):
        _write(writer, target, model, config, out / FILE)


def _add_settings(writer: Any, config: Mapping[str, Any]) -> None:
    """The model's shape, as llama.cpp asks for it."""
    _require_known(config)
    heads = config["num_attention_heads"]
    head = _head(config)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(rope(config)["rope_theta"])


def _require_known(config: Mapping[str, Any]) -> None:
    """Refuses what llama.cpp would not compute as transformers does."""
    if what := unlike(config):
        raise StageFailedError(
            f"gguf: llama.cpp's {config['model_type']} has no {what}",
            "leave this target out: another one (target=[cpu-int8]) computes it as trained",
        )


def _head(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _write(
    writer: Any, target: GgufTarget, model: Path, config: Mapping[str, Any], to: Path
) -> None:
    """Header, settings, the list of tensors, and then each tensor in the list's order."""
    import gguf

    layers = config["num_hidden_layers"]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[_ARCH[config["model_type"]].upper()], layers)
    places: dict[str, tuple[str, Any, list[int]]] = {}
    shapes = dict(_shapes(model))
    tied = "lm_head.weight" not in shapes
    for source, shape in shapes.items():
        name = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise StageFailedError(
                f"gguf: llama.cpp has no place for the tensor {source}", "leave this target out"
            )
        places[name] = (source, type_of(target, name, shape, layers, tied=tied), shape)
    factors = _rope_factors(config)
    if factors is not None:
        writer.add_tensor_info(_ROPE_FACTORS, factors.shape, factors.dtype, factors.nbytes)
    for name, (_, kind, shape) in places.items():
        dtype = _dtype(kind)
        stored = gguf.quant_shape_to_byte_shape(shape, kind) if dtype.itemsize == 1 else shape
        writer.add_tensor_info(
            name, stored, dtype, math.prod(stored) * dtype.itemsize, raw_dtype=kind
        )
    writer.write_header_to_file(to)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if factors is not None:
        writer.write_tensor_data(factors)
    for name, tensor in _tensors(model, {s: n for n, (s, _, _) in places.items()}):
        source, kind, _ = places[name]
        writer.write_tensor_data(_stored(_turned(tensor, source, config), kind))
    writer.close()


def _rope_factors(config: Mapping[str, Any]) -> Any:
    """Of Llama 3's long contexts: what each frequency is divided by; None for no such."""
    if rope(config)["rope_type"] == "default":
        return None
    import numpy as np
    from transformers import AutoConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    model_type = config["model_type"]
    own = AutoConfig.for_model(model_type, **{k: v for k, v in config.items() if k != "model_type"})
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](own, "cpu")
    head = _head(config)
    plain = rope(config)["rope_theta"] ** -(np.arange(0, head, 2, dtype=np.float64) / head)
    return (plain / scaled.double().numpy()).astype(np.float32)


def _shapes(model: Path) -> Iterator[tuple[str, list[int]]]:
    from safetensors import safe_open

    for file in sorted(model.glob("*.safetensors")):
        with safe_open(file, "np") as opened:
            for name in sorted(opened.keys()):
                yield name, list(opened.get_slice(name).get_shape())


def _tensors(model: Path, names: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """Each tensor by its new name, in the order of ``_shapes``."""
    from safetensors import safe_open

    for file in sorted(model.glob("*.safetensors")):
        with safe_open(file, "np") as opened:
            for name in sorted(opened.keys()):
                yield names[name], opened.get_tensor(name)


def _turned(tensor: Any, source: str, config: Mapping[str, Any]) -> Any:
    """A projection whose outputs are rotated, with them in the order that llama.cpp rotates."""
    if _ARCH[config["model_type"]] not in _INTERLEAVED or ".self_attn." not in source:
        return tensor
    if ".q_proj." not in source and ".k_proj." not in source:
        return tensor
    halves = tensor.reshape(-1, 2, _head(config) // 2, *tensor.shape[1:])
    return halves.swapaxes(1, 2).reshape(tensor.shape)


def _stored(tensor: Any, kind: Any) -> Any:
    """A tensor's bytes in a type of llama.cpp's."""
    import numpy as np

    if kind.name in {"F32", "F16"}:
        return np.ascontiguousarray(tensor, dtype=_dtype(kind))
    import gguf

    rows = np.ascontiguousarray(tensor, dtype=np.float32)
    found = np.empty(gguf.quant_shape_to_byte_shape(rows.shape, kind), dtype=np.uint8)
    count, width = rows.shape
    library().ggml_quantize_chunk(
        int(kind), rows.ctypes.data, found.ctypes.data, 0, count, width, None
    )
    return found


def _dtype(kind: Any) -> Any:
    import numpy as np

    return np.dtype({"F32": np.float32, "F16": np.float16}.get(kind.name, np.uint8))
