"""Opens a base model for training: safetensors from a folder, no code from it, nothing printed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from slmcompile.errors import CorruptError
from slmcompile.recipe.schema import Precision

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


def load_base_model(base: Path, precision: Precision) -> Any:
    """The causal language model of a folder in the hub's layout.

    Attention is left to transformers' own choice for the family.

    Raises:
        CorruptError: the folder does not hold a model that transformers can open (exit 74).
    """
    _quiet()
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(
            base,
            dtype=DTYPES[precision],
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CorruptError(
            f"{base}: not a base model that transformers can open: {reason}",
            "remove the folder and run the recipe again; the base stage will be rebuilt",
        ) from error


def _quiet() -> None:
    """Keeps the libraries' own progress bars and import notices from the user.

    transformers 5.23 draws a bar while it reads weights; bitsandbytes 0.50 (which PEFT imports
    where it is installed) warns that the optional ``kernels`` package is missing. That package
    would fetch native code from a hub, so its absence is meant.
    """
    from transformers.utils import logging as transformers_logging

    disable: Callable[[], None] = transformers_logging.disable_progress_bar
    disable()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
