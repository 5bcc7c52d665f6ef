"""Writes commands.jsonl: made-up commands and the one word each means. Ours, Apache-2.0."""

import json
from itertools import product
from pathlib import Path

VERBS = {
    "on": ["turn on", "switch on", "start", "enable"],
    "off": ["turn off", "switch off", "stop", "disable"],
    "up": ["turn up", "raise", "increase", "boost"],
    "down": ["turn down", "lower", "decrease", "reduce"],
}
THINGS = ["lamp", "heater", "fan", "radio", "screen", "pump", "oven", "blind", "alarm", "music"]
FORMS = ["{verb} the {thing}", "please {verb} the {thing}", "{verb} my {thing} now"]

rows = [
    {"text": form.format(verb=verb, thing=thing), "label": label}
    for label, verbs in VERBS.items()
    for verb, thing, form in product(verbs, THINGS, FORMS)
]
Path(__file__).with_name("commands.jsonl").write_text(
    "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
)
