"""An exported folder in OpenVINO, on the CPU, as it ships.

Keys and values are a state of the request, which begins empty, grows with every call, and is put
into another order by ``beam_idx``: so rows that have stopped leave the batch.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from slmcompile.console.errors import CorruptError
from slmcompile.data.store import Row
from slmcompile.inference.batching import (
    decoded_together,
    padded_left,
    padded_right,
    similar_length,
    until_stop,
)
from slmcompile.inference.exported_prompt import ExportedPrompt, read_prompt
from slmcompile.inference.likelihood import log_likelihood
from slmcompile.inference.merged import ReadByTokenizers, require_no_adapter
from slmcompile.inference.openvino_runtime import openvino, openvino_genai
from slmcompile.inference.protocol import Generated, Ran
from slmcompile.providers.openvino import MODEL, TOKENIZER


def load(
    folder: Path,
    threads: int | None = None,
    *,
    spinning: bool = True,  # noqa: ARG001 - openvino's threads do not wait busily
    adapter: Path | None = None,
) -> OpenVinoModel:
    """Opens an exported folder.

    Computed is in fp32 on every machine: left to itself the runtime rounds to bfloat16 where the
    processor has that, and the same folder would answer differently.

    Args:
        folder: graph, weights, configuration and tokenizer; may lie anywhere.
        threads: of the runtime; None leaves the choice to it.
        spinning: of other runtimes.
        adapter: there is none that is not merged.

    Raises:
        MissingError: openvino is not installed (exit 69).
        CorruptError: the folder cannot be opened (exit 74).
        BadRecipeError: an adapter is asked for (exit 78).
    """
    from tokenizers import Tokenizer

    require_no_adapter(adapter)
    ov, genai = openvino(), openvino_genai()
    options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        settings = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
        stops = settings["eos_token_id"]
        ends = frozenset([stops] if isinstance(stops, int) else map(int, stops))
        sizes = int(config["max_position_embeddings"]), int(config["vocab_size"])
        pieces = Tokenizer.from_buffer((folder / "tokenizer.json").read_bytes())
        for name in TOKENIZER:
            (folder / name).stat()  # it would open without, and fail when it is asked
        tokenizer = genai.Tokenizer(str(folder), INFERENCE_NUM_THREADS=1)
        compiled = ov.Core().compile_model(str(folder / MODEL), "CPU", options)
    except Exception as error:  # tokenizers raises Exception itself
        reason = next((line for line in str(error).splitlines() if line.strip()), repr(error))
        raise CorruptError(
            f"{folder}: openvino cannot open it: {reason}", "export it again"
        ) from error
    prompt = read_prompt(folder / "prompt.json")
    return OpenVinoModel(
        compiled, tokenizer, pieces, prompt, stops=ends, context=sizes[0], vocab=sizes[1]
    )


class OpenVinoModel(ReadByTokenizers):
    """``ExportedModel`` over OpenVINO."""

    ran: Ran = "verified"

    def __init__(
        self,
        compiled: Any,
        tokenizer: Any,
        pieces: Any,
        prompt: ExportedPrompt,
        *,
        stops: frozenset[int],
        context: int,
        vocab: int,
    ) -> None:
        """See ``load``, which opens what this takes."""
        super().__init__(pieces, prompt)
        self._compiled = compiled
        self._own = tokenizer
        self._stops = stops
        self._context = context
        self._vocab = vocab

    @property
    def stops(self) -> frozenset[int]:
        """Ids that end an answer."""
        return self._stops

    @property
    def context(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self._context

    def encode(self, prompt: str | Sequence[str]) -> list[int]:
        """See ``ExportedModel.encode``."""
        pieces = (prompt,) if isinstance(prompt, str) else prompt
        ids: list[int] = []
        for piece in pieces:
            read = self._own.encode(piece, add_special_tokens=False)
            ids += read.input_ids.data[0].tolist()
        return self._prompt.behind_prefix(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """See ``ExportedModel.decode``."""
        return str(self._own.decode(list(ids), skip_special_tokens=False))

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        batch_size: int,
        on_progress: Callable[[int], None],
    ) -> list[Generated]:
        """See ``LanguageModel.generate``."""
        answers = [Generated([], cut_off=True) for _ in prompts]
        done = 0
        lengths = [len(prompt) for prompt in prompts]
        room = self._context - (max_new_tokens + 1)
        for batch in decoded_together(lengths, batch_size, room, self._vocab):
            found = self._greedy([prompts[i] for i in batch], max_new_tokens + 1)
            for index, ids in zip(batch, found, strict=True):
                answers[index] = until_stop(ids, self._stops, max_new_tokens)
            done += len(batch)
            on_progress(done)
        return answers

    def _greedy(self, prompts: Sequence[Sequence[int]], most: int) -> list[list[int]]:
        """Tokens of each prompt up to its stop token, with it."""
        answers: list[list[int]] = [[] for _ in prompts]
        request = _Request(self._compiled, prompts)
        alive = list(range(len(prompts)))
        for _ in range(min(most, self._context - max(map(len, prompts)))):
            tokens = request.logits[:, -1].argmax(-1).tolist()
            for row, token in zip(alive, tokens, strict=True):
                answers[row].append(token)
            keep = [place for place, token in enumerate(tokens) if token not in self._stops]
            alive = [alive[place] for place in keep]
            if not alive:
                break
            request.follow(keep, [tokens[place] for place in keep])
        return answers

    def logits(self, sequences: Sequence[Sequence[int]]) -> Any:
        """See ``ExportedModel.logits``."""
        return _Request(self._compiled, sequences).logits.copy()

    def log_likelihood(
        self, rows: Sequence[Row], on_progress: Callable[[int], None] | None = None
    ) -> list[tuple[float, int]]:
        """See ``LanguageModel.log_likelihood``."""
        found, done = [(0.0, 0)] * len(rows), 0
        for batch in similar_length([len(row.input_ids) for row in rows], self._vocab):
            for index, scored in zip(batch, self._score([rows[i] for i in batch]), strict=True):
                found[index] = scored
            done += len(batch)
            if on_progress is not None:
                on_progress(done)
        return found

    def _score(self, rows: Sequence[Row]) -> Iterator[tuple[float, int]]:
        request = _Request(self._compiled, padded_right([row.input_ids for row in rows], 0))
        for place, row in enumerate(rows):
            yield log_likelihood(request.logits[place], row.labels)

    def decode_speed(self, prompt: Sequence[int], tokens: int) -> float:
        """See ``LanguageModel.decode_speed``; a stop token does not end the timing."""
        self._timed(prompt, tokens)
        return statistics.median(self._timed(prompt, tokens) for _ in range(3))

    def _timed(self, prompt: Sequence[int], tokens: int) -> float:
        request = _Request(self._compiled, [prompt])
        count = min(tokens, self._context - len(prompt))
        start = time.perf_counter()
        for _ in range(count):
            request.follow([0], request.logits[:, -1].argmax(-1).tolist())
        return count / (time.perf_counter() - start)

    def stream(self, prompt_ids: Sequence[int], max_new_tokens: int) -> Iterator[int]:
        """See ``LanguageModel.stream``."""
        request = _Request(self._compiled, [prompt_ids])
        for count in range(1, min(max_new_tokens, self._context - len(prompt_ids)) + 1):
            token = int(request.logits[0, -1].argmax())
            if token in self._stops:
                return
            yield token
            if count < max_new_tokens and len(prompt_ids) + count < self._context:
                request.follow([0], [token])


class _Request:
    """Rows that are read together, and what has been read of them so far.

    Attributes:
        logits: of the last tokens that were given, [rows, new tokens, vocabulary]; the runtime's
            own memory, until the next are.
    """

    def __init__(self, compiled: Any, prompts: Sequence[Sequence[int]]) -> None:
        """Reads the prompts, which are padded on the left."""
        import numpy as np

        self._request = compiled.create_infer_request()
        ones = [[1] * len(prompt) for prompt in prompts]
        self._mask = np.asarray(padded_left(ones, 0), dtype=np.int64)
        positions = (self._mask.cumsum(1) - 1).clip(min=0)
        ids = np.asarray(padded_left(prompts, 0), dtype=np.int64)
        self._read(ids, positions, np.arange(len(prompts), dtype=np.int32))

    def follow(self, keep: Sequence[int], tokens: Sequence[int]) -> None:
        """Reads one token of each row that goes on, by its place among those before."""
        import numpy as np

        kept = np.asarray(keep, dtype=np.int32)
        more = np.ones((len(kept), 1), dtype=np.int64)
        self._mask = np.concatenate([self._mask[kept], more], axis=1)
        positions = self._mask.sum(1, keepdims=True) - 1
        self._read(np.asarray(tokens, dtype=np.int64)[:, None], positions, kept)

    def _read(self, ids: Any, positions: Any, rows: Any) -> None:
        self._request.infer(
            {
                "input_ids": ids,
                "attention_mask": self._mask,
                "position_ids": positions,
                "beam_idx": rows,
            }
        )
        self.logits = self._request.get_tensor("logits").data
