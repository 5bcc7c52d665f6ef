"""A composed recipe with the lock's commits in place of branches and tags. Asks nobody."""

from __future__ import annotations

from dataclasses import replace

from slmcompile.hub.commit import is_commit, settled
from slmcompile.lock.file import Lock, lock_name, read_lock
from slmcompile.lock.references import hub_key
from slmcompile.recipe.compose import Composed
from slmcompile.recipe.project import Project
from slmcompile.sources.keys import HubKeys, SourceKeys


def pin(project: Project, composed: Composed) -> Composed:
    """``composed`` with every hub revision that the lock knows replaced by its commit.

    A revision that the lock does not know stays as it is, for check 23 to refute. A recipe that
    took a commit from the lock is made from the lock file too.

    Raises:
        CorruptError: the lock file is not one (exit 74).
    """
    composed = _with_others(project, composed)
    whole = composed.whole
    rows = {
        name: [part.source for part in view.recipe.data.parts]
        for name, view in composed.members.items()
    }
    if all(settled(source) for each in ([whole.model.source], *rows.values()) for source in each):
        return composed
    lock = read_lock(project, composed.name)
    if lock is None:
        return composed
    model = whole.model.model_copy(update={"source": _locked(whole.model.source, lock)})
    pinned = composed.with_data(
        {
            name: view.recipe.data.with_sources([_locked(source, lock) for source in rows[name]])
            for name, view in composed.members.items()
        }
    )
    pinned = replace(pinned, whole=pinned.whole.model_copy(update={"model": model}))
    if pinned.whole == whole:
        return composed
    return replace(pinned, files=(*composed.files, project.root / lock_name(composed.name)))


def _with_others(project: Project, composed: Composed) -> Composed:
    """With the recipes that it goes on from or takes adapters of as their own locks pin them."""
    earlier = pin(project, composed.earlier) if composed.earlier else None
    taken = {name: pin(project, each) for name, each in composed.taken.items()}
    if (earlier, taken) == (composed.earlier, composed.taken):
        return composed
    others = [*([earlier] if earlier else []), *taken.values()]
    files = dict.fromkeys((*composed.files, *(path for each in others for path in each.files)))
    found = replace(composed, earlier=earlier, taken=taken, files=tuple(files))
    if not taken:
        return found
    # Its rows are those of the recipe that trains it, whatever this one's lock says.
    data = {name: view.recipe.data for name, view in composed.members.items()}
    return found.with_data(data | {name: each.recipe.data for name, each in taken.items()})


def _locked(source: SourceKeys, lock: Lock) -> SourceKeys:
    if not isinstance(source, HubKeys) or is_commit(source.revision):
        return source
    kind, _, commit = lock.entries.get(hub_key(source), "").partition(":")
    return source.model_copy(update={"revision": commit}) if kind == "commit" else source
