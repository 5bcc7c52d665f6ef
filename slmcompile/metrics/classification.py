"""Labels against labels."""

from __future__ import annotations

from slmcompile.metrics.metric import Metric

_DEFAULTS = frozenset({"accuracy", "f1_macro"})


def _of_labels(name: str, title: str, words: str, place: int, program: str) -> Metric:
    return Metric(
        name=name,
        title=title,
        words=words,
        place=place,
        needs="label",
        program=f"slmcompile.scoring.classification:{program}",
        of_task=True,
        default_of=frozenset({"labelled"} if name in _DEFAULTS else ()),
    )


ENTRIES = (
    _of_labels("accuracy", "Accuracy", "accuracy", 20, "ACCURACY"),
    _of_labels("f1_macro", "F1 (macro)", "macro F1", 21, "F1_MACRO"),
    _of_labels("f1_micro", "F1 (micro)", "micro F1", 22, "F1_MICRO"),
    _of_labels("f1_lowest", "F1 (lowest label)", "the lowest label's F1", 23, "F1_LOWEST"),
    _of_labels("precision_macro", "Precision (macro)", "macro precision", 24, "PRECISION_MACRO"),
    _of_labels("precision_micro", "Precision (micro)", "micro precision", 25, "PRECISION_MICRO"),
    _of_labels("recall_macro", "Recall (macro)", "macro recall", 26, "RECALL_MACRO"),
    _of_labels("recall_micro", "Recall (micro)", "micro recall", 27, "RECALL_MICRO"),
)
