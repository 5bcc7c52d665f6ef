"""An exported GGUF file in llama.cpp: the runtime that ships is the one that is measured.

Tokens, texts and stops are llama.cpp's own. Prompts are answered one at a time, so ``batch_size``
says nothing here, and the context is as long as what is asked needs.
"""

from __future__ import annotations

import codecs
import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from slmcompile.console.errors import CorruptError, StageFailedError
from slmcompile.inference.exported_prompt import ExportedPrompt, read_prompt
from slmcompile.inference.llama_library import library
from slmcompile.inference.merged import Merged, require_no_adapter
from slmcompile.inference.one_by_one import OneByOne
from slmcompile.inference.protocol import Ran
from slmcompile.machine.process import thread_count

FILE = "model.gguf"
_STEP = 256
"""Lengths of contexts: a longer prompt opens another one."""


def load(
    folder: Path,
    threads: int | None = None,
    *,
    spinning: bool = True,  # noqa: ARG001 - llama.cpp's threads end with each product
    adapter: Path | None = None,
) -> GgufModel:
    """Opens an exported folder.

    Args:
        folder: holds ``model.gguf`` and ``prompt.json``; may lie anywhere.
        threads: of llama.cpp; None for the physical cores.
        spinning: of other runtimes.
        adapter: there is none that is not merged.

    Raises:
        CorruptError: llama.cpp cannot open it (exit 74).
        BadRecipeError: an adapter is asked for (exit 78).
        MissingError: llama.cpp is not installed (exit 69).
    """
    require_no_adapter(adapter)
    lib = library()
    path = folder / FILE
    opened = None
    if path.is_file():
        opened = lib.llama_model_load_from_file(
            str(path).encode(), lib.llama_model_default_params()
        )
    if not opened:
        raise CorruptError(f"{path}: llama.cpp cannot open it", "export it again")
    prompt = read_prompt(folder / "prompt.json")
    return GgufModel(lib, opened, thread_count("auto") if threads is None else threads, prompt)


class GgufModel(Merged, OneByOne):
    """``ExportedModel`` over llama.cpp."""

    ran: Ran = "verified"

    def __init__(self, lib: Any, model: Any, threads: int, prompt: ExportedPrompt) -> None:
        """See ``load``, which opens what this takes; closed with the object."""
        super().__init__(prompt)
        self._lib, self._model, self._threads = lib, model, threads
        self._vocab = lib.llama_model_get_vocab(model)
        self._size: int = lib.llama_vocab_n_tokens(self._vocab)
        self._opened: Any = None
        self._room = 0
        self._stops = frozenset(
            token for token in range(self._size) if lib.llama_vocab_is_eog(self._vocab, token)
        )

    def __del__(self) -> None:
        """llama.cpp's memory is not Python's."""
        with suppress(AttributeError):
            if self._opened:
                self._lib.llama_free(self._opened)
            self._lib.llama_model_free(self._model)

    @property
    def stops(self) -> frozenset[int]:
        """Ids that end an answer, as llama.cpp ends it."""
        return self._stops

    @property
    def context(self) -> int:
        """Tokens that prompt and answer may have together."""
        return int(self._lib.llama_model_n_ctx_train(self._model))

    def encode(self, prompt: str | Sequence[str]) -> list[int]:
        """Token ids of a prompt, whole or in pieces, behind the prefix, which is not doubled."""
        pieces = (prompt,) if isinstance(prompt, str) else prompt
        return self._prompt.behind_prefix([i for piece in pieces for i in self._ids(piece)])

    def _ids(self, text: str) -> list[int]:
        raw = text.encode()
        room = (ctypes.c_int32 * (len(raw) + 8))()
        found = self._lib.llama_tokenize(self._vocab, raw, len(raw), room, len(room), False, True)
        return list(room[:found])

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, control tokens by their texts, as the torch model's answers are."""
        return b"".join(map(self._piece, ids)).decode("utf-8", "replace")

    def _piece(self, token: int) -> bytes:
        room = ctypes.create_string_buffer(256)
        size = self._lib.llama_token_to_piece(self._vocab, token, room, len(room), 0, True)
        if size < 0:
            room = ctypes.create_string_buffer(-size)
            size = self._lib.llama_token_to_piece(self._vocab, token, room, len(room), 0, True)
        return room.raw[:size]

    def pieces(self) -> Callable[[int], str]:
        """See ``ExportedModel.pieces``: a letter of several tokens comes with its last."""
        text = codecs.getincrementaldecoder("utf-8")("replace")
        return lambda token: text.decode(self._piece(token))

    def steps(self, prompt: Sequence[int], most: int) -> Iterator[int]:
        """See ``OneByOne.steps``."""
        most = min(most, self.context - len(prompt))
        if most < 1:
            return
        self._start(len(prompt) + most)
        following: Sequence[int] = prompt
        at = 0
        for _ in range(most):
            token = int(self._decoded(following, at, every=False)[-1].argmax())
            yield token
            at += len(following)
            following = [token]

    def logits(self, sequences: Sequence[Sequence[int]]) -> Any:
        """Logits at every position of sequences of one length, float32 [rows, positions, vocab]."""
        import numpy as np

        found = []
        for ids in sequences:
            self._start(len(ids))
            found.append(self._decoded(ids, 0, every=True))
        return np.stack(found)

    def _start(self, length: int) -> None:
        """An empty context with room for so many tokens."""
        if length > self._room:
            if self._opened:
                self._lib.llama_free(self._opened)
            asked = self._lib.llama_context_default_params()
            asked.n_ctx = asked.n_batch = self._room = -(-length // _STEP) * _STEP
            self._opened = self._lib.llama_init_from_model(self._model, asked)
            if not self._opened:
                raise StageFailedError(
                    f"llama.cpp opens no context of {self._room} tokens", "free some memory"
                )
            self._lib.llama_set_n_threads(self._opened, self._threads, self._threads)
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._opened), True)

    def _decoded(self, ids: Sequence[int], at: int, *, every: bool) -> Any:
        """Logits behind tokens that stand at a position: of each, or of the last alone."""
        import numpy as np

        batch = self._lib.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for place, token in enumerate(ids):
                batch.token[place], batch.pos[place] = token, at + place
                batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
                batch.logits[place] = every or place == len(ids) - 1
            failed = self._lib.llama_decode(self._opened, batch)
        finally:
            self._lib.llama_batch_free(batch)
        if failed:
            raise StageFailedError(f"llama.cpp does not decode ({failed})", "export it again")
        shape = (len(ids) if every else 1, self._size)
        return np.ctypeslib.as_array(self._lib.llama_get_logits(self._opened), shape).copy()
