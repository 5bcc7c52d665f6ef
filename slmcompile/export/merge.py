"""Base model plus adapter becomes one set of weights, in float32.

A merge into bf16 or quantised weights would round the adapter away; every artifact is therefore
merged in full precision first and rounded or quantised once, afterwards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slmcompile.errors import CorruptError, StageFailedError
from slmcompile.inference.quiet import quiet


def load_merged(base: Path, adapter: Path | None) -> Any:
    """The transformers model with the adapter (if any) merged in, float32, in eval mode.

    Raises:
        CorruptError: the adapter folder is incomplete.
        StageFailedError: merged weights are not finite.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(
            base, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
        )
        return (model if adapter is None else _merged(model, adapter)).eval()


def _merged(model: Any, adapter: Path) -> Any:
    """Merges on one thread: hundreds of small products, whose sums then never depend on threads."""
    import torch
    from peft import PeftModel

    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (adapter / name).is_file():
            raise CorruptError(f"{adapter}: {name} is missing", "train again")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        wrapped: Any = PeftModel.from_pretrained(model, adapter)
        return wrapped.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise StageFailedError(
            f"{adapter}: the adapter does not merge: {error}", "train with a lower learning rate"
        ) from error
    finally:
        torch.set_num_threads(threads)
