"""What a person reads when a recipe is wrong: exactly two lines, where it is and how to mend it."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmcompile.errors import Exit, SlmcompileError
from slmcompile.pipeline.sync import compile_recipe
from slmcompile.project import Project
from slmcompile.recipe.names import paths_by_name
from slmcompile.recipe.peer_names import KEYS, SECTIONS
from tests.projects import make_project

ON = "defaults: [tiny, _self_]\n"

# A recipe `r` (or an empty text for `tiny` with `_self_`), overrides, and the two lines.
TABLE = [
    (
        ON + "train:\n  learning_rat: 1\n",
        "",
        "recipes/r.yaml:3: train.learning_rat: unknown key",
        "did you mean 'train.learning_rate'?",
    ),
    (
        ON + "train:\n  learning_rate: '2e-5'\n",
        "",
        "recipes/r.yaml:3: train.learning_rate: must be a number (given '2e-5')",
        "write it without quotes: 2e-5",
    ),
    (
        ON + "train:\n  learning_rate: fast\n",
        "",
        "recipes/r.yaml:3: train.learning_rate: must be a number (given 'fast')",
        "give a number…",
    ),
    (
        ON + "train:\n  seed: 1.5\n",
        "",
        "recipes/r.yaml:3: train.seed: must be a whole number (given 1.5)",
        "give a whole number…",
    ),
    (
        ON + "train:\n  lora: {r: 0}\n",
        "",
        "recipes/r.yaml:3: train.lora.r: must be 1 or more (given 0)",
        "give a value in that range",
    ),
    (
        ON + "train:\n  num_threads: many\n",
        "",
        "recipes/r.yaml:3: train.num_threads: must be a whole number or 'auto' (given 'many')",
        "give a whole number or 'auto': CPU threads; the same count gives the same bytes.",
    ),
    (
        ON + "train:\n  lr_scheduler_type: cosin\n",
        "",
        "recipes/r.yaml:3: train.lr_scheduler_type: must be 'linear', 'cosine'…",
        "did you mean 'cosine'?",
    ),
    (
        ON + "train: 5\n",
        "",
        "recipes/r.yaml:2: train: must be a section (key: value) (given 5)",
        "give a section (key: value)…",
    ),
    (
        ON + "train:\n  seed: ???\n",
        "",
        "recipes/r.yaml:3: train.seed: a value must be given (it is ???)",
        "write it in the recipe, or add train.seed=VALUE",
    ),
    (
        ON + "learning_rate: 1e-4\n",
        "",
        "recipes/r.yaml:2: learning_rate: unknown key",
        "here it is called train.learning_rate",
    ),
    (
        ON + "micro_batch_size: 4\n",
        "",
        "recipes/r.yaml:2: micro_batch_size: unknown key",
        "here it is called train.per_device_train_batch_size",
    ),
    (
        ON + "training_args:\n  learning_rate: 1e-4\n",
        "",
        "recipes/r.yaml:2: training_args: unknown key",
        "here training_args is called train, and training_args.learning_rate is…",
    ),
    (
        ON + "training_args:\n  lr: 1e-4\n",
        "",
        "recipes/r.yaml:2: training_args: unknown key",
        "here training_args is called train, and training_args.lr is train.learning_rate",
    ),
    (
        ON + "peft_config:\n  lora_rank: 8\n",
        "",
        "recipes/r.yaml:2: peft_config: unknown key",
        "here peft_config is called train.lora, and peft_config.lora_rank is train.lora.r",
    ),
    (
        ON + "train:\n  lora:\n    lora_rank: 8\n",
        "",
        "recipes/r.yaml:4: train.lora.lora_rank: unknown key",
        "here it is called train.lora.r",
    ),
    (
        ON + "trainn:\n  seed: 1\n",
        "",
        "recipes/r.yaml:2: trainn: unknown key",
        "did you mean 'train'?",
    ),
    (
        ON + "wandb_project: x\n",
        "",
        "recipes/r.yaml:2: wandb_project: unknown key",
        "here it is called track.project",
    ),
    (
        ON + "whatever_this_is: x\n",
        "",
        "recipes/r.yaml:2: whatever_this_is: unknown key",
        "keys here: data, description…",
    ),
    (
        ON + "data:\n  cutoff_len: 64\n",
        "",
        "recipes/r.yaml:3: data.cutoff_len: unknown key",
        "here it is called data.max_length",
    ),
    (
        ON + "model:\n  source: {type: cloud}\n",
        "",
        "recipes/r.yaml:3: model.source: has the type 'cloud', which is none of 'hub'…",
        "add `type:` with one of hub…",
    ),
    (
        ON + "model:\n  source: {type: hubb}\n",
        "",
        "recipes/r.yaml:3: model.source: has the type 'hubb', which is none of 'hub'…",
        "did you mean 'hub'?",
    ),
    (
        ON + "data:\n  template: {type: null}\n",
        "",
        "recipes/r.yaml:3: data.template: has the type 'None', which is none of 'text'…",
        "add `type:` with one of text…",
    ),
    (
        ON + "eval:\n  metrics: exact_match\n",
        "",
        "recipes/r.yaml:3: eval.metrics: must be a list (given 'exact_match')",
        "write [exact_match]",
    ),
    (
        ON + "eval:\n  metrics: [bleuu]\n",
        "",
        "recipes/r.yaml:3: eval.metrics.0: must be 'exact_match'…",
        "choose one of exact_match…",
    ),
    (
        ON + "eval:\n  metrics: [exact_mach]\n",
        "",
        "recipes/r.yaml:3: eval.metrics.0: must be 'exact_match'…",
        "did you mean 'exact_match'?",
    ),
    (
        ON + "gates:\n  - {metric: exact_match, min: high}\n",
        "",
        "recipes/r.yaml:3: gates.0.min: must be a number (given 'high')",
        "give a number…",
    ),
    (
        ON + "gates:\n  - {metric: exact_match, mim: 0.5}\n",
        "",
        "recipes/r.yaml:3: gates.0.mim: unknown key",
        "did you mean 'gates.0.min'?",
    ),
    (
        ON + "gates:\n  - exact_match\n",
        "",
        "recipes/r.yaml:3: gates.0: must be a section (key: value) (given 'exact_match')",
        "give a section (key: value)…",
    ),
    (
        ON + "target:\n  cpu-fp32: {precison: int8}\n",
        "",
        "recipes/r.yaml:3: target.cpu-fp32.precison: unknown key",
        "did you mean 'target.cpu-fp32.precision'?",
    ),
    (
        ON + "target:\n  new-one: {}\n",
        "",
        "recipes/r.yaml:3: target.new-one.precision: is required and not given",
        "add `target.new-one.precision`, one of fp32…",
    ),
    (
        ON + "target:\n  'CPU INT8': {precision: int8}\n",
        "",
        "recipes/r.yaml:3: target.CPU INT8: has characters that are not allowed here…",
        "it must match ^[a-z0-9][a-z0-9_-]{0,63}$",
    ),
    (
        ON + "train:\n  seed: ${train.sed}\n",
        "",
        "recipes/r.yaml:3: train.seed: ${train.sed} refers to no key",
        "did you mean ${train.seed}?",
    ),
    (
        ON + "train:\n  seed: ${data.task}\n",
        "",
        "recipes/r.yaml:3: train.seed: must be a whole number (given 'classification' by…",
        "give a whole number…",
    ),
    (
        ON + "train:\n  seed: ${data.seed}\ndata:\n  seed: ${train.seed}\n",
        "",
        "recipes/r.yaml:5: data.seed: the references form a loop: data.seed → train.seed…",
        "give one of them a value",
    ),
    (
        ON + "data:\n  name: x${train.lora}\n",
        "",
        "recipes/r.yaml:3: data.name: ${train.lora} is a section or a list, inside text",
        "refer to one value of it",
    ),
    (
        ON + "train:\n  seed: 1\n  seed: 2\n",
        "",
        "recipes/r.yaml:4: train.seed: duplicate key, first given on line 3",
        "drop one of the two",
    ),
    (
        ON + "train: {seed: [1,\n",
        "",
        "recipes/r.yaml:3: not YAML: did not find expected node content",
        "mend the YAML",
    ),
    (ON + "train:\n\tseed: 1\n", "", "recipes/r.yaml:3: a tab", "indent with spaces"),
    (
        ON + "1: 2\n",
        "",
        "recipes/r.yaml:2: the key '1' is not text to YAML",
        "write it in quotes: '1'",
    ),
    ("- a\n- b\n", "", "recipes/r.yaml:1: not a mapping of keys to values", "write `key: value`"),
    (
        "defaults: tiny\n",
        "",
        "recipes/r.yaml:1: defaults: not a list",
        "write `defaults:` and below it `- model: …`",
    ),
    (
        "defaults:\n  - tiny\n  - train: {lr: 1}\n",
        "",
        "recipes/r.yaml:3: defaults: train holds values and not an option",
        "name an option here and put values below, outside `defaults`",
    ),
    (
        "defaults:\n  - tiny\n  - model: 3\n",
        "",
        "recipes/r.yaml:3: defaults: model: an option's name is text (given 3)",
        'write it in quotes: "3"',
    ),
    (
        "defaults:\n  - tiny\n  - 3\n",
        "",
        "recipes/r.yaml:3: defaults: an entry is one group and its option",
        "name a group and an option, e.g. `- model: smollm2-135m`",
    ),
    (
        "defaults:\n  - tiny\n  - model: tiny-llama\n",
        "",
        "recipes/r.yaml:3: defaults: model is chosen already (recipes/tiny.yaml:…",
        "write `- override /model: tiny-llama` at the end of the list",
    ),
    (
        "defaults:\n  - model: tiny-llama\n  - model: smollm2-135m\n",
        "",
        "recipes/r.yaml:3: defaults: model is listed twice, first on line 2",
        "keep one of the two; several options go in one entry: `- target: [a, b]`",
    ),
    (
        "defaults:\n  - _self_\n  - tiny\n  - _self_\n",
        "",
        "recipes/r.yaml:4: defaults: _self_ is listed twice, first on line 2",
        "keep one of the two",
    ),
    (
        "defaults:\n  - tiny\n  - override model: tiny-lama\n",
        "",
        "recipes/r.yaml:3: no model is called 'tiny-lama'",
        "did you mean 'tiny-llama'?",
    ),
    (
        "defaults:\n  - tiny\n  - override /model: tiny-lama\n",
        "",
        "recipes/r.yaml:3: no model is called 'tiny-lama'",
        "did you mean 'tiny-llama'?",
    ),
    (
        "defaults:\n  - tiny\n  - override /modle: x\n",
        "",
        "recipes/r.yaml:3: defaults: /modle leaves the recipe's groups: no group has this name",
        "name a group and an option, e.g. `- model: smollm2-135m`",
    ),
    (
        "defaults:\n  - override /model: tiny-llama\n  - tiny\n",
        "",
        "recipes/r.yaml:3: defaults: tiny stands behind an `override` entry",
        "put the `override` entries at the end of the list",
    ),
    (
        "defaults:\n  - tny\n",
        "",
        "recipes/r.yaml:2: no recipe is called 'tny'",
        "did you mean 'tiny'?",
    ),
    (
        "defaults:\n  - modle: tiny-llama\n",
        "",
        "recipes/r.yaml:2: no group is called 'modle'",
        "did you mean 'model'?",
    ),
    (
        "defaults:\n  - model: ???\n",
        "",
        "recipes/r.yaml:2: defaults: model: an option must be chosen (it is ???)",
        "add model=NAME; there are smollm2-135m…",
    ),
    (
        "defaults:\n  - tiny\n  - overide model: x\n",
        "",
        "recipes/r.yaml:3: defaults: 'overide model' is not a group",
        "before a group only the words `override` and `optional` may stand",
    ),
    ("# nothing\n", "", "recipes/r.yaml: model: is required and not given", "add `model`…"),
    (
        "",
        "train.learning_rat=1",
        "override 'train.learning_rat=1': train.learning_rat: unknown key",
        "did you mean 'train.learning_rate'?",
    ),
    (
        "",
        "train.lr=1",
        "override 'train.lr=1': train.lr: unknown key",
        "here it is called train.learning_rate",
    ),
    ("", "lr=1", "override 'lr=1': lr: unknown key", "here it is called train.learning_rate"),
    (
        "",
        "train.learning_rate='2e-5'",
        "override \"train.learning_rate='2e-5'\": train.learning_rate: must be a number…",
        "write it without quotes: 2e-5",
    ),
    (
        "",
        "train.seed",
        "override 'train.seed': cannot be read as key=value",
        "write section.key=value",
    ),
    (
        "",
        "train.seed=1 train.seed=2",
        "override 'train.seed=2': train.seed is given twice",
        "drop this or 'train.seed=1'",
    ),
    (
        "",
        "train.seed=1,2",
        "override 'train.seed=1,2': a sweep is not one value",
        "give a single value, a list as key=[a,b], or text with commas in quotes",
    ),
    (
        "",
        "train.seed={a:",
        "override 'train.seed={a:': cannot be read as key=value",
        "put text with special characters in quotes: key='\"a, b: c\"'",
    ),
    (
        "",
        "model=tiny-lama",
        "override 'model=tiny-lama': no model is called 'tiny-lama'",
        "did you mean 'tiny-llama'?",
    ),
    (
        "",
        "modle=tiny-llama",
        "override 'modle=tiny-llama': modle: unknown key",
        "did you mean 'model'?",
    ),
    (
        "",
        "model=3",
        "override 'model=3': model takes the name of an option (given 3)",
        "write model=NAME; for one of its values model.key=value",
    ),
    (
        "",
        "+model=tiny-llama",
        "override '+model=tiny-llama': model is chosen already (recipes/tiny.yaml:…",
        "write model=tiny-llama",
    ),
    (
        "",
        "++model=tiny-llama",
        "override '++model=tiny-llama': ++ is for keys, not groups",
        "write + or nothing",
    ),
    (
        "",
        "~model=x",
        "override '~model=x': the recipe has no such choice of model",
        "name the option and package that its defaults list has",
    ),
    (
        "",
        "~train.sed",
        "override '~train.sed': train.sed is not there to be removed",
        "drop the override",
    ),
    (
        "",
        "~train.seed",
        "override '~train.seed': train.seed is not there to be removed",
        "drop the override",
    ),
    (
        "",
        "+train.lora.r=4",
        "override '+train.lora.r=4': train.lora.r has a value already (conf/train/tiny.yaml:…",
        "write train.lora.r=… without +",
    ),
    (
        "",
        "train.seed.x=1",
        "override 'train.seed.x=1': train.seed: must be a whole number",
        "give a whole number…",
    ),
    ("", "gates.3.min=1", "override 'gates.3.min=1': gates: must be a list", "give a list…"),
    (
        "",
        "train.lora=8",
        "override 'train.lora=8': train.lora: must be a section (key: value) (given 8)",
        "give a section (key: value)…",
    ),
    (
        "",
        "target=cpu-int9",
        "override 'target=cpu-int9': no target is called 'cpu-int9'",
        "did you mean 'cpu-int8'?",
    ),
    (
        "",
        "target={cpu-int8: {precision: fp64}}",
        "override 'target={cpu-int8: {precision: fp64}}': target.cpu-int8.precision: must be…",
        "did you mean 'fp32'?",
    ),
    ("", "a/b=c", "override 'a/b=c': no group is called 'a/b'", "keys are written a.b.c"),
    (
        "",
        "model@x=tiny-llama",
        "override 'model@x=tiny-llama': the recipe has no such choice of model",
        "name the option and package that its defaults list has",
    ),
    (
        "",
        "train.seed=${train.nothing}",
        "override 'train.seed=${train.nothing}': train.seed: ${train.nothing} refers to no key",
        "refer to a key that a file of the recipe gives; defaults have no line to refer to",
    ),
    ("", "~model", "override '~model': model: is required and not given", "add `model`…"),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(make_project(tmp_path_factory.mktemp("messages").resolve(), data=("tiny",)))


def failure(project: Project, text: str, *overrides: str) -> SlmcompileError:
    (project.recipes / "r.yaml").write_text(text or ON, encoding="utf-8")
    with pytest.raises(SlmcompileError) as caught:
        compile_recipe(project, "r", overrides)
    return caught.value


def reads(line: str, wanted: str) -> bool:
    """Whether a line is as wanted; what comes behind `…` grows with the schema."""
    return line.startswith(wanted[:-1]) if wanted.endswith("…") else line == wanted


@pytest.mark.parametrize(("text", "override", "what", "mend"), TABLE)
def test_a_wrong_recipe_is_answered_with_two_lines(
    project: Project, text: str, override: str, what: str, mend: str
) -> None:
    words = override.split(" ") if override.startswith("train.seed=1 ") else [override]
    error = failure(project, text, *filter(None, words))
    assert reads(error.what, what)
    assert reads(error.mend, mend)
    assert error.code == (Exit.REFUSED if "leaves" in what else Exit.BAD_RECIPE)


def test_a_value_through_a_group_a_reference_and_an_override_names_each_place(
    project: Project,
) -> None:
    group = project.conf / "train" / "odd.yaml"
    group.write_text("method: lora\nseed: ${data.license}\n", encoding="utf-8")
    text = "defaults: [tiny, {override /train: odd}, _self_]\n"
    error = failure(project, text, "data.license=mine")
    assert error.what == (
        "conf/train/odd.yaml:2: train.seed: must be a whole number"
        " (given 'mine' by ${data.license} of override 'data.license=mine')"
    )


def test_one_cause_is_named_and_not_what_follows_from_it(project: Project) -> None:
    text = ON + "train:\n  sead: 1\n  learning_rate: fast\nmodel:\n  source: {type: x}\n"
    assert failure(project, text).what == "recipes/r.yaml:3: train.sead: unknown key"


def test_a_group_of_the_package_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    project = Project(tmp_path.resolve())
    text = "defaults: [{train: tiny}, _self_]\nmodel: {name: '${train.method}', nme: x}\n"
    error = failure(project, text)
    assert error.what == "recipes/r.yaml:2: model.nme: unknown key"
    error = failure(project, "defaults: [{train: tinny}]\n")
    assert error.mend == "did you mean 'tiny'?"


def test_every_name_of_a_peer_leads_to_a_key_that_exists() -> None:
    known = {path for paths in paths_by_name().values() for path in paths}
    assert {path for path in (*KEYS.values(), *SECTIONS.values()) if path not in known} == set()
