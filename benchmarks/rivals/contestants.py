"""Who is compared, in which environment, by which program, and what a reader must know of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Contestant:
    """One way to train the adapter.

    Attributes:
        name: shown in tables.
        program: module of this package that trains.
        environment: names the pins in ``peers/``; empty for this tree's own.
        package: on PyPI, whose version is told; empty for slmcompile.
        notes: what is its own about it.
        options: see its program.
    """

    name: str
    program: str
    environment: str
    package: str
    notes: str
    options: Mapping[str, Any] = field(default_factory=dict)


CONTESTANTS: dict[str, Contestant] = {
    "ours": Contestant(
        "slmcompile", "with_ours", "", "", "rows of like length in a batch, no padding"
    ),
    "trainer": Contestant(
        "transformers.Trainer + PEFT",
        "with_trainer",
        "trainer",
        "peft",
        "batches padded to their longest row, bf16 by autocast",
    ),
    "trl": Contestant(
        "TRL SFTTrainer",
        "with_trl",
        "trl",
        "trl",
        "its defaults: completions alone are trained, activations are recomputed",
    ),
    "trl-packed": Contestant(
        "TRL SFTTrainer, packing",
        "with_trl",
        "trl",
        "trl",
        "whole rows packed into pieces of one length without padding, activations kept",
        {"packing": True, "gradient_checkpointing": False},
    ),
    "trl-padding-free": Contestant(
        "TRL SFTTrainer, padding-free",
        "with_trl",
        "trl",
        "trl",
        "all rows of a batch laid behind one another without padding, activations kept",
        {"padding_free": True, "gradient_checkpointing": False},
    ),
    "olive": Contestant(
        "Olive finetune",
        "with_olive",
        "olive",
        "olive-ai",
        "rows joined and cut to one length, prompts trained too, activations recomputed (its"
        " default), dropout 0.05",
    ),
    "olive-kept": Contestant(
        "Olive finetune, activations kept",
        "with_olive",
        "olive",
        "olive-ai",
        "as before with `--gradient_checkpointing false`",
        {"more": ["--gradient_checkpointing", "false"]},
    ),
}


def chosen(names: str) -> dict[str, Contestant]:
    """The contestants of a list of keys with commas.

    Raises:
        ValueError: a key that is none.
    """
    found = {}
    for name in names.split(","):
        if name not in CONTESTANTS:
            raise ValueError(f"{name} is none of {', '.join(CONTESTANTS)}")
        found[name] = CONTESTANTS[name]
    return found
