"""An exported folder in onnxruntime-genai: the runtime that ships is the one that is measured."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from slmcompile.console.errors import CorruptError
from slmcompile.data.store import Row
from slmcompile.inference.batching import (
    decoded_together,
    padded_right,
    similar_length,
    until_stop,
)
from slmcompile.inference.exported_prompt import read_prompt
from slmcompile.inference.likelihood import log_likelihood
from slmcompile.inference.onnx_adapters import setter
from slmcompile.inference.protocol import Generated, Ran
from slmcompile.inference.runs_here import runs_here
from slmcompile.inference.widened import in_bfloat16, widen
from slmcompile.plans.artifacts import prompt_file
from slmcompile.providers.accelerators import IN_CONFIG

NO_TOKEN = -1
"""Stands in for ``pad_token_id``. onnxruntime-genai 0.18 takes trailing ids equal to it for
padding and predicts from the token before them, also in a batch of one; many models have pad =
eos, which a prompt may end with. No prompt ends with -1, and where it is fed, as padding or to a
finished row, ONNX's Gather reads it as the last row of the embedding, which nothing attends to."""

_GREEDY = {
    "do_sample": False,
    "num_beams": 1,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "early_stopping": True,
}


def load(
    folder: Path,
    threads: int | None = None,
    *,
    spinning: bool = True,
    adapter: Path | None = None,
) -> OnnxModel:
    """Opens an exported folder.

    Args:
        folder: holds ``genai_config.json``, ``model.onnx`` and the tokenizer; may lie anywhere.
        threads: threads of the session; None leaves the choice to onnxruntime.
        spinning: idle threads wait busily, onnxruntime's default; off where torch computes
            in turn with it, which would otherwise get half of the cores.
        adapter: the ``.onnx_adapter`` to answer with; None is what the graph has by itself.

    Raises:
        CorruptError: onnxruntime-genai cannot open it, or the adapter is damaged.
        BadRecipeError: the adapter is none of this graph's.
    """
    import onnxruntime_genai as og

    try:
        described = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))["model"]
        options: dict[str, Any] = {}
        if threads is not None:
            options |= {"intra_op_num_threads": threads, "inter_op_num_threads": 1}
        if not spinning:
            options["session.intra_op.allow_spinning"] = "0"
        overlay = {"model": {"pad_token_id": NO_TOKEN, "decoder": {"session_options": options}}}
        stops = described["eos_token_id"]
        sizes = {size: int(described[size]) for size in ("context_length", "vocab_size")}
        ends = frozenset([stops] if isinstance(stops, int) else stops)
        wanted = described["decoder"]["session_options"].get("provider_options", [])
        ran = _ran(wanted, folder)
        if ran == "generated":
            with tempfile.TemporaryDirectory(prefix="slmcompile-widened-") as wide:
                widen(folder, Path(wide))
                model = og.Model(_config(Path(wide), overlay, ran))
                tokenizer = og.Tokenizer(model)  # before what it reads is gone
        else:
            model, tokenizer = og.Model(_config(folder, overlay, ran)), None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorruptError(
            f"{folder}: onnxruntime-genai cannot open it: {reason}", "export it again"
        ) from error
    return OnnxModel(
        model,
        stops=ends,
        context=sizes["context_length"],
        vocab_size=sizes["vocab_size"],
        folder=folder,
        adapter=adapter,
        ran=ran,
        tokenizer=tokenizer,
    )


def _config(folder: Path, overlay: Mapping[str, Any], ran: Ran) -> Any:
    import onnxruntime_genai as og

    config = og.Config(str(folder))
    config.overlay(json.dumps(overlay))
    if ran != "verified":
        config.clear_providers()  # what is left is the CPU's
    return config


def _ran(wanted: Sequence[Mapping[str, Any]], folder: Path) -> Ran:
    """Whether a folder's own provider runs it here, or the CPU's in its place, or none."""
    named = [name for each in wanted for name in each]
    if all(runs_here(IN_CONFIG.get(name, name)) for name in named):
        return "verified"
    return "generated" if in_bfloat16(folder) else "emulated"


class OnnxModel:
    """``ExportedModel`` over onnxruntime-genai."""

    def __init__(
        self,
        model: Any,
        *,
        stops: frozenset[int],
        context: int,
        vocab_size: int,
        folder: Path,
        adapter: Path | None,
        ran: Ran,
        tokenizer: Any = None,
    ) -> None:
        """See ``load``, which opens what this takes."""
        self.ran: Ran = ran
        self._model = model
        self._stops = stops
        self._context = context
        self._vocab = vocab_size
        self._folder = folder
        self._set_adapter = setter(model, folder, adapter) if adapter else None
        # How a prompt begins is the adapter's: each may have been trained behind another template.
        rendered = folder / prompt_file(adapter.stem if adapter else "")
        self._prompt = read_prompt(rendered)
        self.controls = self._prompt.controls
        self.control_texts: Mapping[int, str] = self._prompt.control_texts
        self._tokenizer = tokenizer
        self._decoder: Any = None

    def with_adapter(self, adapter: Path | None) -> OnnxModel:
        """The same model, open once, with another adapter or with what the graph has by itself.

        Raises:
            CorruptError: the adapter is damaged.
            BadRecipeError: it is none of this graph's.
        """
        return OnnxModel(
            self._model,
            stops=self._stops,
            context=self._context,
            vocab_size=self._vocab,
            folder=self._folder,
            adapter=adapter,
            ran=self.ran,
            tokenizer=self._tokenizer,
        )

    @property
    def tokenizer(self) -> Any:
        """The folder's own tokenizer (``onnxruntime_genai.Tokenizer``)."""
        if self._tokenizer is None:
            import onnxruntime_genai as og

            self._tokenizer = og.Tokenizer(self._model)
        return self._tokenizer

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
        ids = [int(token) for piece in pieces for token in self.tokenizer.encode(piece)]
        return self._prompt.behind_prefix(ids)  # onnxruntime-genai 0.18 itself puts no BOS there

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, control tokens by their texts, as the torch model's answers are read.

        By the folder's own ``tokenizer.json``: onnxruntime-genai 0.18's decoder leaves special
        tokens out and ends at the first NUL or byte that is no UTF-8, which a model that is not
        sure of a letter writes; the rest of the answer would be lost.
        """
        if self._decoder is None:
            from tokenizers import Tokenizer

            self._decoder = Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        return str(self._decoder.decode(list(ids), skip_special_tokens=False))

    def pieces(self) -> Callable[[int], str]:
        """See ``ExportedModel.pieces``."""
        stream = self.tokenizer.create_stream()
        return lambda token: str(stream.decode(token))

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
            length = lengths[batch[-1]]
            new = min(max_new_tokens + 1, self._context - length)
            done += len(batch)
            if new > 0:
                found = self._greedy([prompts[i] for i in batch], length + new)
                for index, ids in zip(batch, found, strict=True):
                    answers[index] = until_stop(ids, self._stops, max_new_tokens)
            on_progress(done)
        return answers

    def _greedy(self, prompts: Sequence[Sequence[int]], max_length: int) -> list[list[int]]:
        """Tokens of each prompt, step by step: ``get_sequence`` has no stop token.

        The padding is ``NO_TOKEN``, which onnxruntime-genai knows as such: its mask ends before it,
        the first token follows each prompt's own last, and the next ones take its place.
        """
        generator = self._generator(padded_right(prompts, NO_TOKEN), max_length)
        steps: list[list[int]] = []
        while not generator.is_done():
            generator.generate_next_token()
            steps.append(generator.get_next_tokens().tolist())
        return [list(ids) for ids in zip(*steps, strict=True)]

    def _generator(
        self, sequences: Sequence[Sequence[int]], max_length: int, **search: float
    ) -> Any:
        """A greedy generator that has read ``sequences``, which are of one length."""
        import numpy as np
        import onnxruntime_genai as og

        params = og.GeneratorParams(self._model)
        params.set_search_options(
            batch_size=len(sequences), max_length=max_length, **{**_GREEDY, **search}
        )
        generator = og.Generator(self._model, params)
        if self._set_adapter is not None:
            self._set_adapter(generator)
        generator.append_tokens(np.asarray(sequences, dtype=np.int32))
        return generator

    def logits(self, sequences: Sequence[Sequence[int]]) -> Any:
        """Logits at every position of sequences of one length, float32 [rows, positions, vocab]."""
        import numpy as np

        length = len(sequences[0])
        found = self._generator(sequences, min(length + 1, self._context)).get_output("logits")
        return np.asarray(found, dtype=np.float32)

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
        logits = self.logits(padded_right([row.input_ids for row in rows], 0))
        for place, row in enumerate(rows):
            yield log_likelihood(logits[place], row.labels)

    def decode_speed(self, prompt: Sequence[int], tokens: int) -> float:
        """See ``LanguageModel.decode_speed``; a stop token does not end the timing."""
        self._timed(prompt, tokens)
        return statistics.median(self._timed(prompt, tokens) for _ in range(3))

    def _timed(self, prompt: Sequence[int], tokens: int) -> float:
        length = min(len(prompt) + tokens + 1, self._context)
        generator = self._generator([prompt], length, min_length=length)
        generator.generate_next_token()
        count, start = 0, time.perf_counter()
        while not generator.is_done():
            generator.generate_next_token()
            count += 1
        return count / (time.perf_counter() - start)

    def stream(self, prompt_ids: Sequence[int], max_new_tokens: int) -> Iterator[int]:
        """See ``LanguageModel.stream``."""
        length = min(len(prompt_ids) + max_new_tokens, self._context)
        if length <= len(prompt_ids):
            return
        generator = self._generator([prompt_ids], length)
        while not generator.is_done():
            generator.generate_next_token()
            token = int(generator.get_next_tokens()[0])
            if token in self._stops:
                return
            yield token
