"""Which validation is the best, and when training stops for want of a better one.

As ``transformers.EarlyStoppingCallback`` has it: the best is the best by any difference, a tie is
the earlier one's; patience is used up by validations that are not better than the best before them
by more than the threshold. Knows values; knows nothing of how they are measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slmcompile.metrics import METRICS

if TYPE_CHECKING:
    from slmcompile.methods.keys import Train

LOSS = "loss"
"""What ``metric_for_best_model`` calls the validation loss; no metric is called so."""


@dataclass(frozen=True)
class BestBy:
    """What decides.

    Attributes:
        metric: ``loss``, or a metric's name.
        patience: validations in a row without a better one after which training stops; None trains
            to the end.
        threshold: what a better one has to be better by.
    """

    metric: str = LOSS
    patience: int | None = None
    threshold: float = 0.0

    @property
    def higher_is_better(self) -> bool:
        """Which way is better."""
        return self.metric != LOSS and METRICS[self.metric].higher_is_better

    @property
    def words(self) -> str:
        """What it is called in a sentence."""
        return "validation loss" if self.metric == LOSS else METRICS[self.metric].words

    def is_better(self, value: float, best: float | None, by: float = 0.0) -> bool:
        """Whether a value is better than the best so far by more than ``by``."""
        if best is None:
            return True
        return (value - best if self.higher_is_better else best - value) > by

    def waited(self, value: float, best: float | None, before: int) -> int:
        """Validations in a row without a better one, this one included.

        Args:
            value: of this validation.
            best: of all before it; None where it is the first.
            before: what this returned of the one before it, 0 of none.
        """
        return 0 if self.is_better(value, best, self.threshold) else before + 1

    def is_over(self, waited: int) -> bool:
        """Whether patience is used up."""
        return self.patience is not None and waited >= self.patience

    def can_stop(self, max_steps: int, eval_steps: int) -> bool:
        """Whether patience can be used up before the last step.

        The first validation is always better than none.
        """
        return self.patience is not None and (max_steps - 1) // eval_steps > self.patience


def best_by(train: Train) -> BestBy:
    """What decides in a recipe."""
    return BestBy(
        train.metric_for_best_model, train.early_stopping_patience, train.early_stopping_threshold
    )


def stopped_sentence(by: BestBy, step: int, planned: int, best: float, best_step: int) -> str:
    """Says when and why training stopped early.

    Args:
        by: what decided.
        step: the last step that was made.
        planned: the last that would have been made.
        best: the best value.
        best_step: its step.
    """
    margin = f" by more than {by.threshold:g}" if by.threshold else ""
    many = f"{by.patience} validation{'' if by.patience == 1 else 's'}"
    return (
        f"Training stopped early, at step {step} of {planned}: {many} in a row did not improve"
        f" {by.words}{margin}; the best is {best:.4g}, of step {best_step}."
    )
