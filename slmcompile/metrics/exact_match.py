"""Whether an answer says what the reference says, whole, in its words, or field by field."""

from slmcompile.metrics.metric import Metric

ENTRIES = (
    Metric(
        name="exact_match",
        title="Exact match",
        words="exact match",
        place=10,
        needs="text",
        program="slmcompile.scoring.exact_match:EXACT_MATCH",
        of_task=True,
        default_of=frozenset({"extraction", "generation", "summarisation"}),
    ),
    Metric(
        name="normalised_match",
        title="Normalised match",
        words="match of normalised answers",
        place=11,
        needs="text",
        program="slmcompile.scoring.normalised:NORMALISED_MATCH",
        of_task=True,
    ),
    Metric(
        name="field_f1",
        title="Field F1",
        words="F1 of the fields",
        place=12,
        needs="text",
        program="slmcompile.scoring.fields:FIELD_F1",
        of_task=True,
        default_of=frozenset({"extraction"}),
    ),
)
