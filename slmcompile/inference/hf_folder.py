"""An exported folder in the hub's layout, opened by transformers as anybody would open it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slmcompile.console.errors import CorruptError
from slmcompile.console.quiet import quiet
from slmcompile.inference.exported_prompt import ExportedPrompt, read_prompt
from slmcompile.inference.merged import ReadByTokenizers, require_no_adapter
from slmcompile.inference.protocol import Ran
from slmcompile.inference.torch_model import TorchModel, stop_ids


def load(
    folder: Path,
    threads: int | None = None,
    *,
    spinning: bool = True,  # noqa: ARG001 - torch's threads do not wait busily
    adapter: Path | None = None,
) -> HfModel:
    """Opens an exported folder with ``AutoModelForCausalLM`` and ``AutoTokenizer``.

    Args:
        folder: weights, configuration and tokenizer; may lie anywhere.
        threads: torch's threads in this process from now on; None leaves them.
        spinning: of other runtimes.
        adapter: there is none that is not merged.

    Raises:
        CorruptError: transformers cannot open it (exit 74).
        BadRecipeError: an adapter is asked for (exit 78).
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    require_no_adapter(adapter)
    if threads is not None:
        torch.set_num_threads(threads)
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet():
            model: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype="auto", use_safetensors=True, **local
            )
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, **local)
        return HfModel(
            model,
            stop_ids(folder),
            tokenizer.backend_tokenizer,
            read_prompt(folder / "prompt.json"),
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise CorruptError(
            f"{folder}: transformers cannot open it: {reason}", "export it again"
        ) from error


class HfModel(ReadByTokenizers, TorchModel):
    """``ExportedModel`` over transformers."""

    ran: Ran = "verified"

    def __init__(
        self, model: Any, stops: frozenset[int], tokenizer: Any, prompt: ExportedPrompt
    ) -> None:
        """See ``load``, which opens what this takes."""
        ReadByTokenizers.__init__(self, tokenizer, prompt)
        TorchModel.__init__(self, model, stops)

    @property
    def stops(self) -> frozenset[int]:
        """Ids that end an answer."""
        return self._stops

    @property
    def context(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self._context

    def logits(self, sequences: Sequence[Sequence[int]]) -> Any:
        """Logits at every position of sequences of one length, float32 [rows, positions, vocab]."""
        import torch

        ids = torch.tensor(sequences, device=self._device)
        with torch.inference_mode():
            return self._model(input_ids=ids, use_cache=False).logits.float().numpy()
