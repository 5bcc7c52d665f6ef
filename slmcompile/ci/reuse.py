"""Takes finished work out of stores before a run, and puts it there while one goes on.

Work goes by its fingerprint: of each stage, in order, it is computed from the spec and from the
manifests of what it reads, and looked up in the stores. What is found counts only where the
manifest names that work and all files have its SHA-256. No lock and no run-cache takes part.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from slmcompile.ci.checkpoints import Checkpoints
from slmcompile.ci.store import LARGEST, Store
from slmcompile.console.errors import CorruptError, MissingError, SlmcompileError
from slmcompile.files.artifact import MANIFEST, json_text, read_manifest, sha256_file, verify
from slmcompile.files.strict_json import decoder
from slmcompile.plans.artifacts import ADAPTERS
from slmcompile.plans.definition import Plan, Stage
from slmcompile.plans.kinds import KINDS
from slmcompile.recipe.project import Project
from slmcompile.state import finished
from slmcompile.state.scratch import alone, work_fingerprint
from slmcompile.state.state import is_folder_object

_FORMAT_VERSION = "1.0"
_READABLE = re.compile(r"1\.\d+")
Say = Callable[[str], None]


def name_of(fingerprint: str) -> str:
    """The file of a store in which a piece of work is written down."""
    return f"work/{fingerprint}.json"


@dataclass
class Found:
    """Work of a plan that was found finished.

    Attributes:
        fingerprints: of the work of stages, by address, as far as it can be known.
        stores: the store that each was found in, by address.
    """

    fingerprints: dict[str, str] = field(default_factory=dict)
    stores: dict[str, Store] = field(default_factory=dict)


def bring(
    project: Project,
    plan: Plan,
    stores: Sequence[Store],
    say: Say,
    kinds: Collection[str] = KINDS.keys(),
) -> Found:
    """Puts finished work of a plan where its stages will find it.

    Args:
        project: the tree of a run.
        plan: one of its recipes.
        stores: looked through in this order.
        say: told of what is damaged, and so not used.
        kinds: of the stages that are wanted; all by default.

    Raises:
        MissingError: a store does not answer (exit 69).
    """
    found = Found()
    manifests: dict[str, Mapping[str, Any]] = {}
    for stage in plan.stages():
        given = {role: manifests.get(path) for role, path in stage.inputs.items()}
        read = {role: each for role, each in given.items() if each is not None}
        unwanted = KINDS[stage.kind].constant or stage.kind not in kinds
        if unwanted or read.keys() != given.keys():
            continue
        fingerprint = work_fingerprint(stage.spec(), read, plan.files)
        found.fingerprints[stage.address] = fingerprint
        for store in stores:
            of = _taken(project, stage, fingerprint, store, say)
            if of:
                found.stores[stage.address] = store
                manifests |= of
                break
    return found


def _taken(
    project: Project, stage: Stage, fingerprint: str, store: Store, say: Say
) -> dict[str, Mapping[str, Any]]:
    """Manifests by path of a piece of work, and of its parts, that lies here now."""
    record = read_record(store, fingerprint, say)
    if record is None:
        return {}
    if store.pull([record["object"]]):
        say(f"{store.shown}: {stage.address}: objects are missing or damaged; it is not used")
        return {}
    if not finished.adopt(project, fingerprint, record):
        say(f"{store.shown}: {name_of(fingerprint)}: not a record; it is not used")
        return {}
    with finished.found(project, stage.kind, fingerprint, say) as done:
        if done is None:
            return {}
        if sha256_file(done.folder / MANIFEST) != record["manifest"]:
            say(f"{store.shown}: {stage.address}: is not what was recorded; it is not used")
            return {}
        parts = [path.parent for path in done.folder.glob(f"{ADAPTERS}/*/{MANIFEST}")]
        below = {f"{stage.out}/{ADAPTERS}/{path.name}": read_manifest(path) for path in parts}
        written = ((stage.metrics, done.texts.metrics), (stage.plots, done.texts.plots))
        texts = {
            path: alone(path.rpartition("/")[2], text.encode("utf-8"))
            for paths, of in written
            for path, text in zip(paths, of, strict=False)
        }
        return {stage.out: read_manifest(done.folder), **below, **texts}


def read_record(store: Store, fingerprint: str, say: Say) -> dict[str, Any] | None:
    """What a store says of a piece of work; None where it says nothing that can be used."""
    try:
        data = store.read(name_of(fingerprint))
        if data is None:
            return None
        record = decoder().decode(data.decode("utf-8"))
        json_text(record).encode("utf-8")  # a lone surrogate is no text
        known = _READABLE.fullmatch(record["format_version"])
        named = record["fingerprint"] == fingerprint and isinstance(record["manifest"], str)
        if known and named and is_folder_object(record["object"]):
            return dict(record)
    except (CorruptError, ValueError, LookupError, TypeError, RecursionError):
        pass
    say(f"{store.shown}: {name_of(fingerprint)}: not a record; it is not used")
    return None


class Sender:
    """Puts what a run has finished, and its checkpoints, into a store.

    Args:
        project: the tree of the run.
        plans: of its recipes.
        store: where to.
        sent: fingerprints of what is there.
    """

    def __init__(
        self, project: Project, plans: Sequence[Plan], store: Store, sent: Sequence[str] = ()
    ) -> None:
        self._project, self._store = project, store
        stages = {stage.address: stage for plan in plans for stage in plan.stages()}
        self._left = [each for each in stages.values() if not KINDS[each.kind].constant]
        self._sent = {*sent}
        self._checkpoints = Checkpoints(project, store)

    def send(self) -> None:
        """Sends what there is by now.

        Raises:
            MissingError: the store does not take it (exit 69).
        """
        self._left = [stage for stage in self._left if not self._sent_one(stage)]
        self._checkpoints.send()

    def _sent_one(self, stage: Stage) -> bool:
        record = finished.record_of(self._project, stage)
        if record is None:
            return False
        folder = self._project.root / stage.out
        with suppress(CorruptError):
            fingerprint = read_manifest(folder).get("fingerprint")
            if not isinstance(fingerprint, str):
                return False
            if fingerprint not in self._sent:
                verify(folder)
                self._store.push([record["object"]])
                write_record(self._store, fingerprint, record, sha256_file(folder / MANIFEST))
                self._sent.add(fingerprint)
            return True
        return False


def write_record(store: Store, fingerprint: str, record: Mapping[str, Any], manifest: str) -> None:
    """Writes down a piece of work whose objects are in a store.

    Raises:
        MissingError: the store does not take it (exit 69).
    """
    whole = {
        **record,
        "format_version": _FORMAT_VERSION,
        "fingerprint": fingerprint,
        "manifest": manifest,
    }
    data = json_text(whole).encode("utf-8")
    if len(data) > LARGEST:
        raise MissingError(f"{name_of(fingerprint)}: larger than {LARGEST} bytes", "plot less")
    store.write(name_of(fingerprint), data)


@contextmanager
def sending(sender: Sender, say: Say, every: float) -> Iterator[None]:
    """Sends every so many seconds while a block runs, and all that there is behind it.

    What the store does not take meanwhile is told and tried again.

    Raises:
        MissingError: it does not take it in the end (exit 69).
    """
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(every):
            try:
                sender.send()
            except SlmcompileError as error:
                say(f"{error.what}; trying again")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        sender.send()
