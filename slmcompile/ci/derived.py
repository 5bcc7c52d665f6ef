"""An approval with what it approves of, made anew from the head as it is now."""

from __future__ import annotations

from dataclasses import dataclass

from slmcompile.ci.authorise import Asked, authorise, require_approved
from slmcompile.ci.commit import result_of
from slmcompile.ci.git_remote import fetch, is_here
from slmcompile.ci.host import Host, PullRequest
from slmcompile.ci.proposal import Proposal
from slmcompile.ci.propose import propose
from slmcompile.files.revision import Revision
from slmcompile.recipe.project import Project


@dataclass(frozen=True)
class Approved:
    """What may be trained, and where it was asked for.

    The head of the proposal is the commit that was approved, also where its result has been pushed
    on top of it.
    """

    request: PullRequest
    proposal: Proposal

    @property
    def heads(self) -> frozenset[str]:
        """Commits that the pull request may be at for the approval to hold."""
        return frozenset({self.request.head, self.proposal.head})


def approved(ask: Asked, host: Host, project: Project, target: Revision) -> Approved:
    """What a comment approves of, as far as that can be known here.

    Args:
        ask: the comment, as its event has it.
        host: who is asked.
        project: of the repository, into which the head is fetched as objects if it has not got it.
        target: the target's tip.

    Raises:
        SlmcompileError: it is no approval, or not of what the head proposes (4, 64, 69, 77).
    """
    request = authorise(ask, host)
    if not is_here(project.root, request.head):
        fetch(project.root, f"refs/pull/{request.number}/head", request.head)
    head = Revision(project.root, f"#{request.number}", request.head)
    proposal = propose(project, head, target)
    before = result_of(head)
    if proposal.digest != ask.digest and before is not None:
        # A result does not void its own approval; what it holds is made again and compared.
        proposal = propose(project, before, target)
    require_approved(ask, proposal)
    return Approved(request, proposal)
