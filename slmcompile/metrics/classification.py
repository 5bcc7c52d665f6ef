"""Labels against labels."""

from slmcompile.metrics.metric import Metric

ENTRIES = (
    Metric(
        name="accuracy",
        title="Accuracy",
        words="accuracy",
        place=20,
        needs="label",
        program="slmcompile.scoring.classification:ACCURACY",
        of_task=True,
    ),
    Metric(
        name="f1_macro",
        title="F1 (macro)",
        words="macro F1",
        place=21,
        needs="label",
        program="slmcompile.scoring.classification:F1_MACRO",
        of_task=True,
    ),
)
