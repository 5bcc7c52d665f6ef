"""Training that diverged, as an error."""

from __future__ import annotations

from slmcompile.console.errors import StageFailedError


class NotFiniteError(StageFailedError):
    """A figure is NaN or infinite.

    Attributes:
        found: which, at which step.
        rate: the learning rate of that step.
    """

    def __init__(self, member: str, found: str, rate: float) -> None:
        whose = f"train: {member}" if member else "train"
        super().__init__(
            f"{whose}: {found}: training diverged at learning rate {rate:.3g}",
            "lower train.learning_rate or train.max_grad_norm, or raise train.warmup_ratio",
        )
        self.found, self.rate = found, rate
