"""What is to be known of an optimizer before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Optimizer:
    """One optimizer.

    Attributes:
        name: as in ``train.optim``: the name that ``transformers.TrainingArguments`` has for it.
        program: ``package.module:name`` of ``(train, weights) -> torch.optim.Optimizer``, whose
            state is tensors alone; ``weights`` are the masters, fp32, each with its name as
            ``weight_name``.
        reads: keys of ``train`` that it reads beside ``learning_rate``; those that another
            optimizer reads and it does not have no effect beside it.
        state_bytes: what it keeps of a trained weight.
        packages: installed packages that its result depends on, beside torch.
        epoch: raised by hand when its numbers change.
    """

    name: str
    program: str
    reads: frozenset[str]
    state_bytes: float
    packages: tuple[str, ...] = ()
    epoch: int = 1
