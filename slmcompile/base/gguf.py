"""A GGUF file becomes safetensors and a tokenizer, by transformers' own reader.

Weights are stored as float16. GGUF's block scales are float16 themselves and its values lie on a
grid of 4 to 8 bits, so float16 keeps them to 2e-4 relative (bfloat16: 1.3e-3) at half of
float32's size; a 4-bit grid's own step is a hundred times wider. Tensors that float16 cannot hold
are kept in float32.

All quirks of the GGUF path of transformers 5.23 and gguf 0.19 are worked around in this file.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slmcompile.console.errors import BadRecipeError
from slmcompile.console.quiet import quiet

_QUANTISATION = ("quantization_config", "_pre_quantization_dtype")


def convert_gguf(file: Path, out: Path) -> None:
    """Dequantises ``file`` into the Hugging Face layout in ``out``; deterministic.

    Raises:
        BadRecipeError: an architecture that transformers cannot read from GGUF.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet(), reading_once():
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
            model: Any = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.float32
            )
        except ValueError as error:
            raise BadRecipeError(
                f"model.source.member: transformers cannot read it: {error}",
                "name a model of the Llama, Mistral, Qwen, Phi or Gemma family",
            ) from error
        split_digits(tokenizer, pre_tokenizer_name(file))
    tokenizer.model_max_length = model.config.max_position_embeddings
    tokenizer.save_pretrained(out)
    # save_pretrained refuses while the loaded model still claims to be quantised, although its
    # weights have been dequantised (transformers 5.23, quantizers/quantizer_gguf.py).
    for key in _QUANTISATION:
        if hasattr(model.config, key):
            delattr(model.config, key)
    model.hf_quantizer = None
    model.is_quantized = False
    limit = torch.finfo(torch.float16).max
    if all(bool(weight.abs().max() < limit) for weight in model.parameters()):
        model = model.to(torch.float16)
        model.config.dtype = torch.float16
    with quiet():
        model.save_pretrained(out)


@contextmanager
def reading_once() -> Iterator[None]:
    """Lets transformers parse a GGUF file once instead of once per call.

    ``load_gguf_checkpoint`` builds a ``GGUFReader`` (4 s for a vocabulary of 49,152) for the
    tokenizer, the configuration and the weights, and a tensor name map for every module (397
    times, 5 s), all of them equal.
    """
    import gguf

    reader, names = gguf.GGUFReader, gguf.get_tensor_name_map
    module: Any = gguf
    module.GGUFReader = functools.lru_cache(maxsize=1)(reader)
    module.get_tensor_name_map = functools.lru_cache(maxsize=4)(names)
    try:
        yield
    finally:
        module.GGUFReader, module.get_tensor_name_map = reader, names


def pre_tokenizer_name(file: Path) -> str:
    """``tokenizer.ggml.pre``: which pre-tokenizer the model was trained with; may be empty."""
    import gguf

    field = gguf.GGUFReader(str(file)).fields.get("tokenizer.ggml.pre")
    return str(field.contents()) if field is not None else ""


def split_digits(tokenizer: Any, pre: str) -> None:
    """Restores the pre-tokenizer that splits digits one by one.

    transformers' converter for byte-level BPE ignores ``tokenizer.ggml.pre``; SmolLM's tokenizer
    separates each digit before the byte-level step, without which text such as two newlines
    before a digit becomes other tokens than those the model was trained on.
    """
    if pre not in {"smollm", "refact", "starcoder", "codeshell", "command-r"}:
        return
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
        ]
    )
