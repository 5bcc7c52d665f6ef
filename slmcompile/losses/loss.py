"""What is to be known of a loss before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slmcompile.losses.keys import LossKeys


@dataclass(frozen=True)
class Loss:
    """One thing that training can minimise over the trained tokens.

    Validation measures cross entropy whatever is minimised: which step is best, and when to stop,
    is then judged the same way under every loss, where no metric decides it.

    Attributes:
        name: as in ``train.loss.type``.
        place: behind which others it is listed.
        section: its keys of ``train.loss``, and no others.
        program: ``package.module:name`` of a ``slmcompile.training.losses.program.LossProgram``.
        words: a loss in a few words for reports and model cards, from its section's plain values.
        code: its key that names a Python file of the project, which ``exec`` alone executes; empty
            where it names none.
        whole_batch: whether its program holds the logits of a whole batch at once, and not of a
            chunk of positions.
        packages: installed packages that its result depends on, beside torch.
        epoch: raised by hand when its numbers change.
    """

    name: str
    place: int
    section: type[LossKeys]
    program: str
    words: Callable[[Mapping[str, Any]], str]
    code: str = ""
    whole_batch: Callable[[Any], bool] = lambda _: False
    packages: tuple[str, ...] = ()
    epoch: int = 1
