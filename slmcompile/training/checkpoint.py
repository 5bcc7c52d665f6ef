"""Checkpoints that are whole or not there, and that are never resumed from in part.

A checkpoint is written into a hidden folder, every file is synced, the manifest (size and SHA-256
of each) comes last, and the folder is renamed to ``step-00000100``. Resuming takes the newest
valid one by step number, never by file time. One that is damaged is set aside under the suffix
``.damaged`` and said aloud. Tensors are safetensors and the rest is JSON: nothing is unpickled.

Knows folders and tensors; knows nothing of models or optimizers.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmcompile.console.errors import CorruptError
from slmcompile.console.progress import Progress
from slmcompile.files.artifact import saying_what_is_missing, verify, write_json, write_manifest

if TYPE_CHECKING:
    import torch

KIND = "checkpoint"
STATE_FILE = "state.json"
TENSOR_FILES = ("weights", "best", "optimizer", "rng")
_NAME = re.compile(r"^step-(\d{8})$")
_PART = re.compile(r"^\.(step-\d{8})\.part$")


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run needs to go on as if nothing had happened.

    Attributes:
        step: optimizer steps done.
        state: JSON values: counters, curve, scheduler, generators.
        tensors: by file: ``weights`` (fp32 masters), ``best`` (the best of them so far, may be
            empty), ``optimizer``, ``rng``.
    """

    step: int
    state: dict[str, Any]
    tensors: dict[str, dict[str, torch.Tensor]]


class CheckpointFolder:
    """The checkpoints of one run.

    Args:
        folder: owned by the run; made if missing.
        identity: fingerprint that every checkpoint carries.
        limit: checkpoints kept.
        progress: told what was set aside.
    """

    def __init__(self, folder: Path, identity: str, limit: int, progress: Progress) -> None:
        self._folder = folder
        self._identity = identity
        self._limit = limit
        self._progress = progress
        with saying_what_is_missing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint; ``retain`` drops what is beyond the limit.

        Raises:
            MissingError: the disk is full or the folder cannot be written (exit 69); earlier
                checkpoints are intact.
        """
        from safetensors.torch import save_file

        final = self._folder / f"step-{checkpoint.step:08d}"
        part = self._folder / f".{final.name}.part"
        with saying_what_is_missing(part):
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            try:
                for name in TENSOR_FILES:
                    # Straight from the tensors: of all weights, bytes in between would double
                    # the memory that the run takes.
                    save_file(_plain(checkpoint.tensors[name]), part / f"{name}.safetensors")
                    _sync(part / f"{name}.safetensors")
                write_json(part / STATE_FILE, checkpoint.state)
                info = {"identity": self._identity, "step": checkpoint.step}
                write_manifest(part, KIND, info)
                _sync(part)
                if final.exists():
                    shutil.rmtree(final)
                part.rename(final)
            except Exception:  # safetensors raises its own for a full disk
                shutil.rmtree(part, ignore_errors=True)
                raise
            _sync(self._folder)

    def newest(
        self, wanted: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> Checkpoint | None:
        """The newest valid checkpoint, or None; damaged ones are set aside.

        Args:
            wanted: whether one of this state will do; others are passed over.

        Raises:
            CorruptError: a valid checkpoint belongs to another run (exit 74).
        """
        for path in list(self._folder.iterdir()):
            if match := _PART.match(path.name):
                self._set_aside(path, match.group(1), "was not written to its end")
        for path in reversed(self._step_folders()):
            try:
                found = self._load(path)
                if wanted(found.state):
                    return found
            except _ForeignCheckpointError:
                raise
            except (CorruptError, KeyError, TypeError) as error:
                why = error.what if isinstance(error, CorruptError) else "its manifest is damaged"
                self._set_aside(path, path.name, why)
        return None

    def _step_folders(self) -> list[Path]:
        """Checkpoint folders by step number, oldest first."""
        return sorted(path for path in self._folder.iterdir() if _NAME.match(path.name))

    def _load(self, path: Path) -> Checkpoint:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        manifest = verify(path)
        info = manifest["info"]
        expected = {STATE_FILE, *(f"{name}.safetensors" for name in TENSOR_FILES)}
        if manifest["kind"] != KIND or set(manifest["files"]) != expected:
            raise CorruptError(f"{path}: not all files of a checkpoint are there")
        if info["identity"] != self._identity:
            raise _ForeignCheckpointError(
                f"{path}: belongs to run {info['identity']}, not to {self._identity}",
                f"remove {self._folder} and run again",
            )
        if path.name != f"step-{info['step']:08d}":
            raise CorruptError(f"{path}: holds step {info['step']}")
        try:
            state: dict[str, Any] = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
            tensors = {name: load_file(path / f"{name}.safetensors") for name in TENSOR_FILES}
        except (ValueError, OSError, SafetensorError) as error:
            raise CorruptError(f"{path}: unreadable ({error})") from error
        return Checkpoint(info["step"], state, tensors)

    def _set_aside(self, path: Path, name: str, why: str) -> None:
        aside = self._folder / f"{name}.damaged"
        if aside.exists():
            shutil.rmtree(aside)
        path.rename(aside)
        self._progress.say(f"checkpoint {name} set aside as {aside.name}: {why}")

    def retain(self) -> None:
        """Drops the oldest checkpoints beyond the limit."""
        for path in self._step_folders()[: -self._limit]:
            shutil.rmtree(path, ignore_errors=True)


class _ForeignCheckpointError(CorruptError):
    """A whole checkpoint of another run: not damage, so it is neither used nor set aside."""


def _plain(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _sync(path: Path) -> None:
    """Waits until the disk has a file's bytes or a folder's entries."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
