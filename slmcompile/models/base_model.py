"""Opens a base model for training: safetensors from a folder, no code from it, nothing printed.

For QLoRA (arXiv:2305.14314) its linear layers are quantised while they are read. That model is
trained over and thrown away: what ships is merged into the full-precision base (export/merge.py).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from slmcompile.console.errors import CorruptError
from slmcompile.machine.bitsandbytes_import import import_bitsandbytes
from slmcompile.methods.keys import Precision
from slmcompile.methods.qlora import Quantization

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


def load_base_model(
    base: Path,
    precision: Precision,
    device: torch.device,
    quantization: Quantization | None = None,
) -> Any:
    """The causal language model of a folder in the hub's layout, on ``device``.

    Attention is left to transformers' own choice for the family. With ``quantization`` every
    linear layer but the output head is held in 4 bits; the rest is in ``precision``.

    Raises:
        CorruptError: the folder does not hold a model that transformers can open (exit 74).
    """
    import_libraries()
    from transformers import AutoModelForCausalLM

    in_4_bits = _in_4_bits(quantization, precision, device) if quantization else {}
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            base,
            dtype=DTYPES[precision],
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            **in_4_bits,
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CorruptError(
            f"{base}: not a base model that transformers can open: {reason}",
            "remove the folder and run the recipe again; the base stage will be rebuilt",
        ) from error

    if quantization:
        _keep_one_layout(model)
        return model
    return model.to(device)


def _in_4_bits(
    quantization: Quantization, precision: Precision, device: torch.device
) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` that quantise where the loop computes."""
    from transformers import BitsAndBytesConfig

    stated = quantization.bnb_4bit_compute_dtype
    config = BitsAndBytesConfig(  # type: ignore[no-untyped-call]  # untyped in transformers
        load_in_4bit=True,
        bnb_4bit_quant_type=quantization.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=quantization.bnb_4bit_use_double_quant,
        bnb_4bit_compute_dtype=getattr(torch, stated) if stated else DTYPES[precision],
    )
    return {"quantization_config": config, "device_map": {"": str(device)}}


def _keep_one_layout(model: Any) -> None:
    """Keeps a validation from repacking the weights that training goes on with.

    On a CPU with AVX-512 BF16 a 4-bit layer in eval mode turns its weights for good into a layout
    whose product has no gradient (bitsandbytes 0.50): every step after the first validation would
    train on wrong gradients, in silence.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def checkpoint_activations(model: Any) -> None:
    """Keeps only the layers' inputs for backward and computes the rest again (arXiv:1604.06174)."""
    with warnings.catch_warnings():
        # transformers 5.23 has renamed the method, which versions before it do not know.
        warnings.simplefilter("ignore", FutureWarning)
        model.gradient_checkpointing_enable({"use_reentrant": False})


def import_libraries() -> None:
    """Imports what training needs, without the libraries' own progress bars and notices.

    transformers 5.23 draws a bar while it reads weights.
    """
    import_bitsandbytes()
    import peft  # noqa: F401
    from transformers.utils import logging as transformers_logging

    disable: Callable[[], None] = transformers_logging.disable_progress_bar
    disable()
