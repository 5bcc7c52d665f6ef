"""An exported folder in the hub's layout, opened by transformers as anybody would open it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slmcompile.console.errors import CorruptError
from slmcompile.console.quiet import quiet
from slmcompile.inference.exported_prompt import ExportedPrompt, read_prompt
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
        CorruptError: transformers cannot open it, or it has adapters that it cannot have.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if adapter is not None:
        raise CorruptError(f"{adapter}: a merged model has no adapters", "export it again")
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


class HfModel(TorchModel):
    """``ExportedModel`` over transformers."""

    ran: Ran = "verified"

    def __init__(
        self, model: Any, stops: frozenset[int], tokenizer: Any, prompt: ExportedPrompt
    ) -> None:
        """See ``load``, which opens what this takes."""
        super().__init__(model, stops)
        self._tokenizer = tokenizer
        self._prompt = prompt
        self.controls = prompt.controls
        self.control_texts: Mapping[int, str] = prompt.control_texts

    def with_adapter(self, adapter: Path | None) -> HfModel:
        """The same model: there is no adapter that is not merged.

        Raises:
            CorruptError: one is asked for.
        """
        if adapter is not None:
            raise CorruptError(f"{adapter}: a merged model has no adapters", "export it again")
        return self

    @property
    def stops(self) -> frozenset[int]:
        """Ids that end an answer."""
        return self._stops

    @property
    def context(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self._context

    def encode(self, prompt: str | Sequence[str]) -> list[int]:
        """Token ids of a prompt, whole or in pieces, behind the prefix, which is not doubled."""
        pieces = (prompt,) if isinstance(prompt, str) else prompt
        encode = self._tokenizer.encode
        ids = [i for piece in pieces for i in encode(piece, add_special_tokens=False).ids]
        return self._prompt.behind_prefix(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, control tokens by their texts, as the torch model's answers are."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def pieces(self) -> Callable[[int], str]:
        """See ``ExportedModel.pieces``."""
        from tokenizers.decoders import DecodeStream

        stream = DecodeStream(skip_special_tokens=False)
        return lambda token: stream.step(self._tokenizer, token) or ""

    def logits(self, sequences: Sequence[Sequence[int]]) -> Any:
        """Logits at every position of sequences of one length, float32 [rows, positions, vocab]."""
        import torch

        ids = torch.tensor(sequences, device=self._device)
        with torch.inference_mode():
            return self._model(input_ids=ids, use_cache=False).logits.float().numpy()
