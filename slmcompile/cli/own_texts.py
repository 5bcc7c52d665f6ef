"""The files that ``init --data`` and ``new`` write: a recipe, its groups and a README, as texts.

Each says what was guessed and how to change it. Knows nothing of where files lie or whether they
are there.
"""

from __future__ import annotations

import json
import re
from typing import Any

from slmcompile.cli.own_data import OwnData
from slmcompile.console.printable import printable, shortened
from slmcompile.data.asked import form
from slmcompile.data.csv_rows import delimiter_name
from slmcompile.data.guess import Guess
from slmcompile.data.rows import listed
from slmcompile.metrics import METRICS
from slmcompile.recipe.dump import dump_yaml
from slmcompile.recipe.schema_files import editor_line

_PLAIN = re.compile(r"[^\W\d]\w*(?:[ -]\w+)*")
"""Names of columns that stand in a template as they are."""
_BY_WORDS = ("rouge_l", "chrf")
"""Beside the default metrics where an answer may be right in other words."""
_LABELS = 8
_TRIAL_CONTEXT = 4096


def how_read(data: OwnData) -> str:
    """The files and their form, in words: ``data/x.csv: CSV with semicolons, 30 rows``."""
    first = data.files[0].read
    name = {"csv": "CSV", "json": "JSON", "jsonl": "JSON Lines", "parquet": "Parquet"}[first.format]
    ways = [f"{name} with {delimiter_name(first.delimiter)}" if first.delimiter else name]
    ways += [first.encoding] if first.encoding not in {None, "utf-8"} else []
    ways += [first.compression] if first.compression else []
    more = f" and {len(data.files) - 1} more" if len(data.files) > 1 else ""
    return f"{data.files[0].path}{more}: {', '.join(ways)}; {data.guess.rows:,} rows"


def what_for(guess: Guess) -> list[str]:
    """What was guessed, in sentences."""
    roles = guess.roles
    if roles.messages:
        lines = [f"conversations in {roles.messages}: {guess.task}"]
    elif roles.text:
        lines = [f"plain text in {roles.text}: all of it is trained, nothing is asked"]
    else:
        asked = " and ".join(roles.prompt)
        lines = [f"{guess.task}: prompt from {asked}, answer from {roles.answer}"]
    if guess.labels:
        shown = ", ".join(shortened(label, 24) for label, _ in guess.labels[:_LABELS])
        more = ", …" if len(guess.labels) > _LABELS else ""
        lines.append(f"{len(guess.labels)} different answers: {shown}{more}")
    unused = [name for name in roles.unused if not (roles.messages and name == "tools")]
    if unused:
        lines.append(f"not used: {listed(unused)}")
    return [printable(line) for line in lines]


def metrics_of(guess: Guess) -> tuple[str, ...]:
    """What is measured: what the schema takes of the task, and overlap where words may differ."""
    asks, labelled = not guess.roles.text, guess.task == "classification"
    found = [
        name
        for name, metric in METRICS.items()
        if metric.by_default_of(guess.task, labelled=labelled, asks=asks)
    ]
    return (*(_BY_WORDS if asks and guess.task in {"generation", "summarisation"} else ()), *found)


def data_group(data: OwnData, name: str) -> str:
    """``conf/data/NAME.yaml``."""
    guess = data.guess
    template, columns = _template(guess)
    lines = [
        editor_line("conf/data").rstrip(),
        f"# {printable(how_read(data))}.",
        *(f"# {line[0].upper()}{line[1:]}." for line in what_for(guess)),
        "# Guessed, and yours to change; every key is explained by `slmcompile schema --docs`.",
        _yaml({"name": name}),
        "license: unknown  # SPDX identifier, for reports and model cards",
        _yaml({"task": guess.task, "source": data.source}),
    ]
    lines += [_yaml({"columns": columns})] if columns else []
    # In double quotes, where line ends are seen.
    lines += [
        "template:",
        *(f"  {key}: {json.dumps(text, ensure_ascii=False)}" for key, text in template.items()),
    ]
    lines += [f"normalize_labels: [{', '.join(guess.normalize)}]"] if guess.normalize else []
    lines += _lengths(guess)
    if any("spells" in note for note in guess.notes):
        lines += ["# special_tokens: text  # takes what rows spell of control tokens as text"]
    if not data.splits:
        lines += _split(guess, columns)
    return "\n".join(lines) + "\n"


def _template(guess: Guess) -> tuple[dict[str, str], dict[str, str]]:
    """The template, and names of columns in it that are others in the file."""
    roles = guess.roles
    if roles.messages:
        return {"type": "messages", "column": roles.messages}, {}
    names = {name: name for name in (*roles.prompt, roles.answer, roles.text) if name}
    stand_in = {**dict.fromkeys(roles.prompt, "prompt"), roles.answer: "answer", roles.text: "text"}
    for name in names:
        if not _PLAIN.fullmatch(name):
            number = roles.prompt.index(name) if name in roles.prompt else 0
            names[name] = f"{stand_in[name]}_{number + 1}"
    columns = {new: old for old, new in names.items() if new != old}
    if roles.text:
        return {"type": "completion", "text": f"{{{names[roles.text]}}}"}, columns
    user = "\n\n".join(f"{{{names[name]}}}" for name in roles.prompt)
    return {"type": "chat", "user": user, "assistant": f"{{{names[roles.answer]}}}"}, columns


def _lengths(guess: Guess) -> list[str]:
    if guess.roles.text:
        longer = "A longer text becomes several rows."
    elif guess.too_long:
        longer = f"About {guess.too_long} rows may be longer, and are dropped and counted."
    else:
        longer = "A longer row ends the data stage, which names it."
    found = [
        f"# Tokens a row, guessed from {guess.longest:,} characters of the longest: roughly.",
        f"# {longer}",
        f"max_length: {guess.max_length}",
    ]
    return [*found, "too_long: drop"] if guess.too_long else found


def _split(guess: Guess, columns: dict[str, str]) -> list[str]:
    if guess.stratified:
        by = next((new for new, old in columns.items() if old == guess.roles.answer), None)
        return [
            "# Each answer in the same share of every split. Rows that belong together (one",
            "# customer, one document) are kept together by strategy: group, by: COLUMN.",
            _yaml({"split": {"strategy": "stratified", "by": by or guess.roles.answer}}),
        ]
    return [
        "# Rows that belong together (one customer, one document) are kept together by",
        "# strategy: group, by: COLUMN.",
        "split:\n  strategy: random",
    ]


def eval_group(data: OwnData, name: str) -> str:
    """``conf/eval/NAME.yaml``."""
    guess = data.guess
    lines = [
        editor_line("conf/eval").rstrip(),
        f"# What is measured of {name}, on rows that were never trained on.",
        f"metrics: [{', '.join(metrics_of(guess))}]",
    ]
    if guess.roles.text:
        return "\n".join([*lines, "baselines: false  # nobody is asked", ""])
    lines += [
        "# Tokens an answer may have, guessed from characters. Too few cut answers off.",
        f"max_new_tokens: {guess.max_new_tokens}",
    ]
    if guess.limit is not None:
        lines += [
            "# Of the test rows, a seeded sample: answering is what takes time. null takes all.",
            f"limit: {guess.limit}",
        ]
    return "\n".join([*lines, ""])


def trial_model(text: str) -> str:
    """``conf/model/trial.yaml``."""
    return "\n".join([
        editor_line("conf/model").rstrip(),
        "# About 0.1 million random parameters, to see in a minute or two that everything fits",
        "# together: `slmcompile run RECIPE model=trial train=tiny`. It learns next to nothing.",
        "name: trial",
        "license: Apache-2.0",
        "source:",
        "  type: random",
        f"  {_yaml({'tokenizer_text': text})}",
        f"  max_position_embeddings: {_TRIAL_CONTEXT}",
        "",
    ])  # fmt: skip


def recipe(name: str, group: str, guess: Guess | None) -> str:
    """``recipes/NAME.yaml``; without a guess for data that a group already describes."""
    metric, lowest = _bar(guess)
    epochs = "1" if guess is None else str(guess.epochs)
    lacks = "" if guess is None or not guess.needs else f"  # writes no {', '.join(guess.needs)}"
    why = "" if guess is None or guess.epochs == 1 else f"  # {guess.rows:,} rows are few"
    return "\n".join([
        editor_line("recipes").rstrip(),
        "# Yours to change. What would run, and why: `slmcompile plan " + name + "`.",
        "defaults:",
        f"  - model: smollm2-135m{lacks}",
        f"  - data: {group}",
        "  - train: lora",
        f"  - eval: {group}",
        "  - target: [cpu-int4]",
        "  - track: none  # wandb, tensorboard",
        "  - _self_",
        "",
        "train:",
        "  over: cpu-int4  # learns over the weights that ship: the name of a target, or null",
        f"  num_train_epochs: {epochs}{why}",
        "",
        "# Bars that a run must pass, or it ends with exit 3. Look first at what is measured, then",
        "# say what is good enough, and how much the export may lose against the trained model.",
        "# gates:",
        f"#   - {{metric: {metric}, {lowest}}}",
        f"#   - {{metric: {metric}, artifact: cpu-int4, max_drop: 0.03}}",
        "",
    ])  # fmt: skip


def _bar(guess: Guess | None) -> tuple[str, str]:
    if guess is not None and guess.roles.text:
        return "bits_per_byte", "max: 1.0"
    first = {"classification": ("accuracy", "min: 0.8"), "summarisation": ("rouge_l", "min: 0.3")}
    return first.get(guess.task if guess else "", ("exact_match", "min: 0.6"))


def readme(name: str, group: str, data: OwnData) -> str:
    """``README.md`` of a new project."""
    guess = data.guess
    asked = "" if guess.roles.text else f"{_generate(name, guess)}   # ask what came out\n"
    told = "\n".join(f"- {line}" for line in [printable(how_read(data)), *what_for(guess)])
    return f"""\
# {name}

A small language model, fine-tuned by slmcompile.

{told}

```sh
slmcompile plan {name}      # what a run would do, and why; runs nothing
slmcompile run {name} model=trial train=tiny   # does all fit? a model of random weights
slmcompile run {name}       # train, measure, export, measure again as exported
{asked}```

| file | what |
|---|---|
| `recipes/{name}.yaml` | the recipe: model, training, targets, gates |
| `conf/data/{group}.yaml` | the rows: columns, template, split, lengths |
| `conf/eval/{group}.yaml` | what is measured |
| `pipelines/` | generated, and committed; what comes out lies in `outputs/`, which is not |

`slmcompile new NAME --data FILE` adds a recipe for other data, `slmcompile schema --docs`
explains every key.
"""


def _generate(name: str, guess: Guess) -> str:
    """How to ask the model, with the names that columns have in the template."""
    named = {old: new for new, old in _template(guess)[1].items()}
    columns = [named.get(column, column) for column in guess.roles.prompt] or ["messages"]
    return printable(form(columns, f"slmcompile generate {name}"))


def _yaml(values: dict[str, Any]) -> str:
    return dump_yaml(values).rstrip("\n")
