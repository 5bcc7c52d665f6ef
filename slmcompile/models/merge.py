"""Base model and what was trained become one model, in float32.

A merge into bf16 or quantised weights would round the adapter away; every artifact is therefore
merged in full precision first and rounded or quantised once, afterwards: merge, quantise, ONNX.
That holds for QLoRA too. Its quantised base is there in training alone: the adapter is merged into
the base that it was quantised from. A model of which all weights were trained is read as it is, and
an adapter that merges into no weights (a bottleneck's, for its non-linearity) stays a module.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slmcompile.console.errors import CorruptError, StageFailedError
from slmcompile.console.quiet import quiet
from slmcompile.machine.bitsandbytes_import import import_bitsandbytes
from slmcompile.machine.vector_maths import choose_kernels
from slmcompile.methods import METHODS
from slmcompile.methods.method import Method
from slmcompile.models.read_by_piece import read_by_piece
from slmcompile.registry.table import program

METHOD_FILE = "method.json"
"""Names the method of an adapter that is not in PEFT's format."""


def is_adapter(trained: Path) -> bool:
    """Whether a folder of trained weights is an adapter, and not a model of its own."""
    return not (trained / "config.json").is_file()


def load_merged(base: Path, trained: Path | None, over: Path | None = None) -> Any:
    """The transformers model as it was trained, float32, in eval mode.

    Args:
        base: base-model folder.
        trained: folder of an adapter, to be merged into the base, or put into it where it does not
            merge; or a model folder, which takes the base's place; or None for the base itself.
        over: folder of an ONNX graph of the base, whose weights the base then has, exactly; None
            for the base's own.

    Raises:
        CorruptError: the folder of trained weights is incomplete, or ``over`` is damaged.
        StageFailedError: the weights are not finite, or ``over`` is not of this base, or is asked
            for beside a model that takes the base's place.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from slmcompile.models.dequantised import put_into

    choose_kernels()
    adapter = trained if trained and is_adapter(trained) else None
    if over is not None and trained is not None and adapter is None:
        raise StageFailedError(
            f"{trained}: a model of which all weights were trained is over no ONNX graph",
            "train an adapter (train=lora), or over the base model itself",
        )
    with quiet():
        try:
            with read_by_piece():
                model: Any = AutoModelForCausalLM.from_pretrained(
                    base if adapter or trained is None else trained,
                    dtype=torch.float32,
                    trust_remote_code=False,
                    use_safetensors=True,
                    local_files_only=True,
                )
        except OSError as error:
            if adapter or trained is None:
                raise
            reason = str(error).strip().splitlines()[0]
            raise CorruptError(
                f"{trained}: not a trained model: {reason}", "train again"
            ) from error
        if over is not None:
            put_into(model, over)
        return (model if adapter is None else _applied(model, adapter)).eval()


def merges(trained: Path) -> bool:
    """Whether a folder of trained weights is an adapter that becomes a part of the base's own."""
    if not is_adapter(trained):
        return False
    return not (trained / METHOD_FILE).is_file() or "merged" in _method_of(trained).forms


def _applied(model: Any, adapter: Path) -> Any:
    """By the method that wrote the adapter; PEFT's own format names none."""
    if not (adapter / METHOD_FILE).is_file():
        return merged_by_peft(model, adapter)
    return program(_method_of(adapter).program).apply(model, adapter)


def _method_of(adapter: Path) -> Method:
    return METHODS[json.loads((adapter / METHOD_FILE).read_text(encoding="utf-8"))["method"]]


def merged_by_peft(model: Any, adapter: Path) -> Any:
    """Merges on one thread: hundreds of small products, whose sums then never depend on threads."""
    import torch

    import_bitsandbytes()
    from peft import PeftModel

    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (adapter / name).is_file():
            raise CorruptError(f"{adapter}: {name} is missing", "train again")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        wrapped: Any = PeftModel.from_pretrained(model, adapter)
        _untie(model)
        return wrapped.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise StageFailedError(
            f"{adapter}: the adapter does not merge: {error}", "train with a lower learning rate"
        ) from error
    finally:
        torch.set_num_threads(threads)


def _untie(model: Any) -> None:
    """Gives an output head that is the embedding again weights of its own, if one has an adapter.

    Merged into weights that both read, the adapter of one would change the other, which was trained
    without it.
    """
    from peft.tuners.lora import LoraLayer
    from torch.nn import Parameter

    both = [model.get_input_embeddings(), model.get_output_embeddings()]
    if None in both or not any(isinstance(each, LoraLayer) for each in both):
        return
    embedding, head = (e.get_base_layer() if isinstance(e, LoraLayer) else e for e in both)
    if head.weight is embedding.weight:
        head.weight = Parameter(head.weight.detach().clone(), requires_grad=False)
        model.config.tie_word_embeddings = False
