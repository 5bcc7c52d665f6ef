"""How much of the reference's words an answer holds."""

from __future__ import annotations

from slmcompile.metrics.metric import Metric


def _rouge(kind: str, place: int) -> Metric:
    return Metric(
        name=f"rouge_{kind.lower()}",
        title=f"ROUGE-{kind}",
        words=f"ROUGE-{kind}",
        place=place,
        needs="text",
        program=f"slmcompile.scoring.overlap:ROUGE_{kind}",
        of_task=True,
        packages=("rouge-score",),
    )


ENTRIES = (
    Metric(
        name="bleu",
        title="BLEU",
        words="BLEU",
        place=40,
        needs="text",
        program="slmcompile.scoring.overlap:BLEU_CORPUS",
        high=100.0,
        of_task=True,
        digits=1,
        packages=("sacrebleu",),
    ),
    Metric(
        name="chrf",
        title="chrF",
        words="chrF",
        place=41,
        needs="text",
        program="slmcompile.scoring.overlap:CHRF",
        high=100.0,
        of_task=True,
        digits=1,
        packages=("sacrebleu",),
    ),
    _rouge("1", 50),
    _rouge("2", 51),
    _rouge("L", 52),
)
