"""The form of an answer, whatever it says."""

from slmcompile.metrics.metric import Metric

ENTRIES = (
    Metric(
        name="valid_json",
        title="Valid JSON",
        words="valid JSON",
        place=90,
        needs="text",
        program="slmcompile.scoring.form:VALID_JSON",
        always="extraction",
    ),
    Metric(
        name="json_schema_valid",
        title="Schema validity",
        words="schema validity",
        place=91,
        needs="text",
        program="slmcompile.scoring.json_schema:JSON_SCHEMA_VALID",
        packages=("jsonschema",),
        file="json_schema",
        column="slmcompile.scoring.json_schema:open_column",
    ),
    Metric(
        name="cut_off",
        title="Cut off",
        words="answers cut off",
        place=92,
        needs="ending",
        program="slmcompile.scoring.form:CUT_OFF",
        higher_is_better=False,
        always="every",
        silent_at_zero=True,
    ),
)
