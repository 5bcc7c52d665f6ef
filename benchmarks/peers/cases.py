"""One small fine-tuning job and ten ways to break it, each in one place.

Knows no tool: ``peers.tools`` writes the job as each tool's own configuration.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Job:
    """What is asked of every tool: LoRA, two optimizer steps, chat rows, a local base model.

    Attributes:
        base: folder of the base model, one of those that ``peers.inputs`` makes.
        rows: JSON Lines file without its ending, one of those that ``peers.inputs`` makes.
        decay_key: how the weight decay's key is spelt; optional everywhere, so that no tool can
            notice the misspelt key by missing the right one.
        batch_size: as the user typed it.
        target_modules: as in PEFT.
        rank: of LoRA.
        max_length: tokens a row.
        target: a device or an execution provider, by whatever key the tool has for one.
    """

    base: str = "base"
    rows: str = "rows"
    decay_key: str = "weight_decay"
    batch_size: str = "2"
    target_modules: tuple[str, ...] = ("q_proj", "v_proj")
    rank: int = 4
    max_length: int = 256
    target: str = "cpu"


@dataclass(frozen=True)
class Case:
    """A job and what is wrong with it.

    Attributes:
        number: 0 is the control, which nothing is wrong with.
        name: what kind of defect.
        defect: the one difference from the control.
        job: the broken job.
        culprit: regular expression; a message that matches it names the defect.
    """

    number: int
    name: str
    defect: str
    job: Job
    culprit: str = ""


CONTROL = Job()

CASES: tuple[Case, ...] = (
    Case(0, "control", "none: every tool must accept it", CONTROL),
    Case(
        1,
        "unknown key",
        "`weight_decay` is spelt `wieght_decay`",
        replace(CONTROL, decay_key="wieght_decay"),
        "wieght_decay",
    ),
    Case(
        2,
        "wrong type",
        "the batch size is the word `two`",
        replace(CONTROL, batch_size="two"),
        "batch_size|'two'",
    ),
    Case(
        3,
        "missing column",
        "the rows have `conversation` where the job reads `messages`",
        replace(CONTROL, rows="rows-without-messages"),
        "messages",
    ),
    Case(
        4,
        "no such target module",
        "of the two target modules `v_proj` is spelt `v_prj`",
        replace(CONTROL, target_modules=("q_proj", "v_prj")),
        "v_prj",
    ),
    Case(
        5,
        "over-long rank",
        "rank 512, where the targeted matrices are 64 × 64 and 32 × 64",
        replace(CONTROL, rank=512),
        r"\brank\b|lora_r|\br\b.*512|train\.lora\.r",
    ),
    Case(
        6,
        "wrong label mask",
        "the base's chat template opens an answer with `<|im_start|>model` and asks for one with "
        "`<|im_start|>assistant`: a prompt's text is not the start of the trained text",
        replace(CONTROL, base="base-two-headers"),
        "template|generation prompt|mask",
    ),
    Case(
        7,
        "bad template",
        "the base's chat template has a loop that is never closed",
        replace(CONTROL, base="base-open-loop"),
        "[Tt]emplate|endfor",
    ),
    Case(
        8,
        "unknown target",
        "the device or execution provider is `npux`",
        replace(CONTROL, target="npux"),
        "npux",
    ),
    Case(
        9,
        "too large for the device",
        "the base's weights alone take more memory than the process may have",
        replace(CONTROL, base="base-too-large"),
        "[Mm]emory|allocate",
    ),
    Case(
        10,
        "all labels masked",
        "8 tokens a row at most: every prompt alone is longer, no token of any answer is left",
        replace(CONTROL, max_length=8),
        "max_length|sequence_len|longer|too long|label|[Dd]rop|no samples",
    ),
)
