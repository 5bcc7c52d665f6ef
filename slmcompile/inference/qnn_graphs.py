"""The two graphs of a folder for Qualcomm's neural processor, and what they keep of a text.

Where there is no such processor, either the CPU provider runs the graphs that were compiled, or the
vendor's simulator runs what was made of them; which of both, the folder says. A graph is opened
when it is first asked. Keys and values lie here, as the integers that graphs give and take.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from slmcompile.console.errors import CorruptError, MissingError
from slmcompile.inference.protocol import Ran
from slmcompile.inference.qnn_runtime import devices, is_npu, on_cpu, on_qnn
from slmcompile.providers.qnn import FACTS, ROUNDED

SEEN = 65535
"""Of a mask, a position that is seen; 0 is one that is not."""


@dataclass(frozen=True)
class Told:
    """What ``qnn.json`` says.

    Attributes:
        layers, key_heads, head, vocab_size: of the model.
        context_length: tokens that prompt and answer may have together.
        sequence_length: tokens that are read at once.
        logits_scale, logits_zero: what a step of the logits is worth, and which integer is zero.
        htp_arch: generation of the processor.
        answered_by: ``cpu`` or ``simulator``, where there is no such processor.
        stops: ids that end an answer.
    """

    layers: int
    key_heads: int
    head: int
    vocab_size: int
    context_length: int
    sequence_length: int
    logits_scale: float
    logits_zero: int
    htp_arch: int
    answered_by: str
    stops: tuple[int, ...]


def open_graphs(
    folder: Path,
    threads: int | None = None,
    *,
    spinning: bool = True,
    answered_by: str = "",
) -> Graphs:
    """The graphs of a folder, whoever runs them here.

    Args:
        folder: may lie anywhere.
        threads: of the CPU provider; None leaves the choice to it.
        spinning: whether its idle threads wait busily.
        answered_by: ``cpu`` or ``simulator``; by default what the folder says.

    Raises:
        CorruptError: the folder says nothing of its graphs (exit 74).
        MissingError: the simulator is to answer and is not installed (exit 69).
    """
    try:
        found = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        found = {name: found[name] for name in Told.__dataclass_fields__}
        told = Told(**{**found, "stops": tuple(map(int, found["stops"]))})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"{folder / FACTS}: cannot be read", "export it again") from error
    return Graphs(folder, told, _ran(answered_by or told.answered_by), threads, spinning=spinning)


def _ran(answered_by: str) -> Ran:
    """Who runs it on this machine; the processor is a part of ARM chips alone."""
    simulated = answered_by == "simulator"
    if simulated or platform.machine().lower() in {"aarch64", "arm64"}:
        try:
            if any(map(is_npu, devices())):
                return "verified"
        except MissingError:
            if simulated:
                raise
    return "simulated" if simulated else "emulated"


class Graphs:
    """A model as a function of token ids.

    Attributes:
        told: its shapes.
        ran: who runs it.
    """

    def __init__(
        self, folder: Path, told: Told, ran: Ran, threads: int | None, *, spinning: bool
    ) -> None:
        """See ``open_graphs``, which reads what this takes."""
        self.told, self.ran = told, ran
        self._folder, self._threads, self._spinning = folder, threads, spinning

    @cached_property
    def _prefill(self) -> Any:
        return self._opened("prefill")

    @cached_property
    def _decode(self) -> Any:
        return self._opened("decode")

    def _opened(self, name: str) -> Any:
        path = self._folder / f"{name}.onnx"
        rounded = self._folder / ROUNDED / path.name
        try:
            if self.ran == "emulated":
                return on_cpu(rounded, self._threads, spinning=self._spinning)
            return on_qnn(path, self.told.htp_arch, {}, threads=self._threads)
        except MissingError:
            raise
        except Exception as error:  # onnxruntime's own have no base but this
            reason = str(error).splitlines()[0] if str(error) else repr(error)
            raise CorruptError(
                f"{path}: onnxruntime cannot open it: {reason}", "export it again"
            ) from error

    def steps(self, prompt: Sequence[int], most: int) -> Iterator[int]:
        """Greedy tokens behind a prompt, whether they are stop tokens or not."""
        most = min(most, self.told.context_length - len(prompt))
        if most < 1:
            return
        past = _Past(self.told)
        for found in self._read(prompt, past):
            last = found
        for count in range(1, most + 1):
            token = int(last[-1].argmax())
            yield token
            if count < most:
                last = past.follow(self._decode, [token], 1)

    def logits(self, ids: Sequence[int]) -> Any:
        """Behind each of these tokens, float32 [tokens, vocabulary]."""
        import numpy as np

        return self._exact(np.concatenate(list(self._read(ids, _Past(self.told)))))

    def logits_of_both(self, ids: Sequence[int]) -> Any:
        """The same, but that the last token is read by the graph that reads one."""
        import numpy as np

        past = _Past(self.told)
        read = list(self._read(ids[:-1], past))
        return self._exact(np.concatenate([*read, past.follow(self._decode, ids[-1:], 1)]))

    def _read(self, ids: Sequence[int], past: _Past) -> Iterator[Any]:
        """Integers that stand for the logits behind tokens, as many at once as the graph reads."""
        at_once = self.told.sequence_length
        for start in range(0, len(ids), at_once):
            yield past.follow(self._prefill, ids[start : start + at_once], at_once)

    def _exact(self, integers: Any) -> Any:
        """The logits that integers stand for."""
        import numpy as np

        found = integers.astype(np.float32) - self.told.logits_zero
        return found * np.float32(self.told.logits_scale)


class _Past:
    """Keys and values of the tokens of one text that have been read."""

    def __init__(self, told: Told) -> None:
        """None are."""
        import numpy as np

        size = (1, told.key_heads, told.context_length, told.head)
        names = [f"{part}.{n}" for n in range(told.layers) for part in ("key", "value")]
        self._kept = {name: np.zeros(size, np.int16) for name in names}
        self._context, self._length = told.context_length, 0

    def follow(self, graph: Any, ids: Sequence[int], at_once: int) -> Any:
        """Reads tokens by a graph of ``at_once``, and keeps their keys and values.

        Returns:
            uint16 [tokens, vocabulary], what stands for the logits behind each.
        """
        import numpy as np

        start, count, places = self._length, len(ids), self._context - at_once
        mask = np.zeros((1, 1, at_once, self._context), np.uint16)
        mask[..., :start] = SEEN
        mask[..., places:] = np.tri(at_once, dtype=np.uint16) * np.uint16(SEEN)
        given = {
            "input_ids": np.array([[*ids, *[0] * (at_once - count)]], np.int32),
            "position_ids": np.arange(start, start + at_once).clip(max=self._context - 1)
            .astype(np.int32),
            "attention_mask": mask,
            **{f"past.{name}": kept[:, :, :places] for name, kept in self._kept.items()},
        }  # fmt: skip
        names = [f"present.{name}.integer" for name in self._kept]
        logits, *present = graph.run(["logits.integer", *names], given)
        for kept, new in zip(self._kept.values(), present, strict=True):
            kept[:, :, start : start + count] = new[:, :, :count]
        self._length += count
        return logits[0, :count]
