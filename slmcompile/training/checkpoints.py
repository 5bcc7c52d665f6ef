"""The checkpoints of all learners of a group: written at the same step of the run, found again so.

Each learner has a folder of its own, by its own identity, so that a group with another member in
it goes on from what the others have. In an unchanged group all go on from the same moment: what
stands in one batch is then what stood there before the interruption, to the byte. One that had
diverged by then stays out of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from slmcompile.console.progress import Progress
from slmcompile.plans.canonical import digest
from slmcompile.training import diverged
from slmcompile.training.checkpoint import Checkpoint, CheckpointFolder
from slmcompile.training.clock import Clock
from slmcompile.training.group import Group, Member
from slmcompile.training.learner import Learner
from slmcompile.training.record import TrainRuntime


class Checkpoints:
    """Checkpoints of the learners of a session.

    Args:
        group: who trains.
        members: all of the group, those who have finished before included.
        runtime: how often, and how many are kept.
        progress: told what was resumed from or set aside.

    Attributes:
        cut: steps of the run in this group: a learner's own in a plain recipe.
        resumed_from: step of the checkpoint that a learner went on from, by member.
    """

    def __init__(
        self, group: Group, members: Sequence[Member], runtime: TrainRuntime, progress: Progress
    ) -> None:
        self._session = group.session
        self._every = runtime.save_steps
        self._progress = progress
        self._group = digest(sorted(each.identity for each in members))
        self._folders = {
            name: CheckpointFolder(
                member.scratch, member.identity, runtime.save_total_limit, progress
            )
            for name, member in group.members.items()
        }
        self._scratch = {name: member.scratch for name, member in group.members.items()}
        self._noted: set[str] = set()
        self._saved = 0
        self.cut = 0
        self.resumed_from: dict[str, int | None] = dict.fromkeys(group.members)

    @property
    def are_due(self) -> bool:
        """Whether it is time for some."""
        return self.cut % self._every == 0

    def resume(self, clock: Clock) -> None:
        """Goes on from the newest checkpoints.

        Raises:
            CorruptError: one belongs to another run (exit 74).
        """
        learners = self._session.learners
        found = {each.member: self._folders[each.member].newest() for each in learners}
        out = self._diverged(learners)
        cuts = [self._cut_of(each) for member, each in found.items() if member not in out]
        if all(cut is not None for cut in cuts):
            self.cut = self._saved = min(cut for cut in cuts if cut is not None)
            for learner in learners:
                self._to_the_cut(learner, found, out.get(learner.member))
        else:
            self._to_the_beginning(found)
        spent = (0.0, 0.0)
        for learner in learners:
            checkpoint = found[learner.member]
            if checkpoint is None:
                continue
            self._session.restore(learner, checkpoint)
            self.resumed_from[learner.member] = checkpoint.step
            spent = max(spent, (learner.state.cpu_seconds, learner.state.wall_seconds))
            whose = f"{learner.member}: " if learner.member else ""
            self._progress.say(f"{whose}going on from the checkpoint at step {checkpoint.step}")
        clock.add(*spent)

    def _diverged(self, learners: Sequence[Learner]) -> dict[str, diverged.Diverged]:
        """Those who have, by name; nobody where all have: there is no one to go on without them."""
        noted = {
            each.member: diverged.noted(self._scratch[each.member], self._group, each.member)
            for each in learners
        }
        out = {member: found for member, found in noted.items() if found}
        return out if len(out) < len(learners) else {}

    def _to_the_cut(
        self,
        learner: Learner,
        found: dict[str, Checkpoint | None],
        out: diverged.Diverged | None,
    ) -> None:
        """Takes the checkpoint of the common moment, or none of who had diverged by then.

        Where a damaged one is missing there, the newest stays: nobody begins anew for that.
        """
        member = learner.member
        if out and out.cut <= self.cut:
            learner.failed, found[member] = out.error, None
            self._noted.add(member)
        elif self._cut_of(found[member]) != self.cut:
            found[member] = self._folders[member].newest(self._is_of_the_cut) or found[member]

    def _to_the_beginning(self, found: dict[str, Checkpoint | None]) -> None:
        """Takes nothing of this group's first moment, of which not all have a checkpoint.

        Of a later one some are damaged: there everybody goes on from what is there, for who began
        anew would give up more than was done between two moments.
        """
        cuts = {member: self._cut_of(checkpoint) or 0 for member, checkpoint in found.items()}
        if max(cuts.values()) > self._every:
            return
        for member, cut in cuts.items():
            if cut:
                found[member] = self._folders[member].newest(self._is_of_another_group)

    def _is_of_another_group(self, state: dict[str, object]) -> bool:
        return state["group"] != self._group

    def _cut_of(self, checkpoint: Checkpoint | None) -> int | None:
        """When in the run of this very group it was written; None of another group's."""
        if checkpoint is None or checkpoint.state["group"] != self._group:
            return None
        return int(checkpoint.state["cut"])

    def _is_of_the_cut(self, state: dict[str, object]) -> bool:
        return state["group"] == self._group and state["cut"] == self.cut

    def save(self, clock: Clock) -> None:
        """Writes one of every learner that has not failed, if there was a step since the last.

        What is too old is dropped when all of them stand, so that there is always a moment of
        which every learner has one.

        Raises:
            MissingError: the disk is full or a folder cannot be written (exit 69).
        """
        if self.cut == self._saved:
            return
        learners = [each for each in self._session.learners if not each.failed]
        for learner in self._session.learners:
            if learner.failed and learner.member and learner.member not in self._noted:
                folder = self._scratch[learner.member]
                diverged.note(folder, self._group, self.cut, learner.failed)
                self._noted.add(learner.member)
        for learner in learners:
            self._save(learner, clock)
        for learner in learners:
            self._folders[learner.member].retain()
        self._saved = self.cut

    def _save(self, learner: Learner, clock: Clock) -> None:
        checkpoint = self._session.checkpoint(learner, clock.cpu(), clock.wall())
        state = {**checkpoint.state, "group": self._group, "cut": self.cut}
        self._folders[learner.member].save(replace(checkpoint, state=state))
