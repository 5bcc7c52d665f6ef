"""What members of a group have learnt, kept until the whole group is done.

A member that has finished, or whose training a changed group does not touch, is not trained again:
its weights and record lie in its scratch folder, by its own identity. A plain recipe writes
straight into its output.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slmcompile.console.errors import CorruptError
from slmcompile.console.progress import Progress
from slmcompile.files import artifact
from slmcompile.state.scratch import FINISHED
from slmcompile.training.group import Member
from slmcompile.training.record import TrainingRecord, record_from_json

KIND = "learner"
_WEIGHTS = "weights"
_RECORD = "record.json"


def _folder(member: Member) -> Path:
    return member.scratch / FINISHED


def record(member: Member, progress: Progress) -> TrainingRecord | None:
    """Of a member that has finished before; None where it has not, or is alone.

    What is damaged is not used.
    """
    folder = _folder(member)
    if not member.name or not folder.is_dir():
        return None
    try:
        manifest = artifact.verify(folder)
        if manifest["kind"] != KIND or manifest.get("fingerprint") != member.identity:
            return None
        text = (folder / _RECORD).read_text(encoding="utf-8")
        found = record_from_json(json.loads(text))
    except (CorruptError, OSError, ValueError, TypeError, KeyError) as error:
        progress.say(f"{member.name}: {error}; it is trained again")
        return None
    progress.say(f"{member.name}: trained before, {found.steps} steps; taken as it is")
    return found


@contextmanager
def place_of(member: Member) -> Iterator[Path]:
    """Where its weights are written: whole or not at all."""
    if not member.name:
        yield member.out
        return
    with artifact.replacing(_folder(member), KIND, {}, member.identity) as part:
        (part / _WEIGHTS).mkdir()
        yield part / _WEIGHTS


def write_record(member: Member, record: TrainingRecord, weights: Path) -> None:
    """Keeps the record beside weights that ``place_of`` gave the place of."""
    if member.name:
        artifact.write_json(weights.parent / _RECORD, record.to_json())


def put_into_place(member: Member) -> None:
    """Copies a group's member to where the stage wants it; its checkpoints are of no use then."""
    if not member.name:
        return
    shutil.copytree(_folder(member) / _WEIGHTS, member.out, dirs_exist_ok=True)
    # It was wanted, so its time begins again.
    os.utime(_folder(member))
    for path in member.scratch.iterdir():
        if path != _folder(member):
            shutil.rmtree(path, ignore_errors=True)
