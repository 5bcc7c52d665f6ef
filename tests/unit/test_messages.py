"""What a person reads when a recipe is wrong: exactly two lines, where it is and how to mend it."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmcompile.console.errors import Exit, SlmcompileError
from slmcompile.console.terminal import tell
from slmcompile.execution.sync import compile_recipe
from slmcompile.recipe.names import paths_by_name
from slmcompile.recipe.other_tools import ABSENT, DIFFERS, KEYS, SECTIONS
from slmcompile.recipe.project import Project
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
        ON + "train:\n  num_threads: 0\n",
        "",
        "recipes/r.yaml:3: train.num_threads: must be 1 or more or 'auto' (given 0)",
        "give a value in that range",
    ),
    (
        ON + "device: {memory_gb: 1e300}\n",
        "",
        "recipes/r.yaml:2: device.memory_gb: must be 1000000 or less (given 1e+300)",
        "give a value in that range",
    ),
    (
        "",
        "model.source.num_key_value_heads=3",
        "override 'model.source.num_key_value_heads=3': model.source.num_key_value_heads: must"
        " divide num_attention_heads, 4 (given 3)",
        "give a divisor of 4, or change num_attention_heads",
    ),
    (
        "",
        "model.source.hidden_size=66",
        "override 'model.source.hidden_size=66': model.source.hidden_size: must be a multiple of 8"
        " for each of 4 heads (given 66)",
        "give a multiple of 32, or change num_attention_heads",
    ),
    (
        "",
        "model.source.num_attention_heads=1",
        "conf/model/tiny-llama.yaml:6: model.source.num_key_value_heads: must divide…",
        "give a divisor of 1, or change num_attention_heads",
    ),
    (
        ON + "data:\n  split:\n    validation: 0.6\n    test: 0.6\n",
        "",
        "recipes/r.yaml:5: data.split.test: must leave rows to train on beside a validation of 0.6"
        " (given 0.6)",
        "let validation and test add to less than 1",
    ),
    (
        ON + "data:\n  split: {strategy: group, by: null}\n",
        "",
        "recipes/r.yaml:3: data.split.by: must name a column where the strategy is group…",
        "name the column of the groups",
    ),
    (
        ON + "data:\n  source: {path: null, files: {test: data/tiny/commands.jsonl}}\n",
        "",
        "recipes/r.yaml:3: data.source.files: has no train split",
        "add `train`; validation and test are taken from it if missing",
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
        "keys here: adapters, data, default_gates…",
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
        "recipes/r.yaml:3: model.source.type: 'cloud' is none of 'hub'…",
        "choose one of hub…",
    ),
    (
        ON + "model:\n  source: {type: hubb}\n",
        "",
        "recipes/r.yaml:3: model.source.type: 'hubb' is none of 'hub'…",
        "did you mean 'hub'?",
    ),
    (
        ON + "data:\n  template: {type: null}\n",
        "",
        "recipes/r.yaml:3: data.template.type: null is none of 'text'…",
        "choose one of text…",
    ),
    (
        ON + "eval:\n  metrics: exact_match\n",
        "",
        "recipes/r.yaml:3: eval.metrics: must be a list (given 'exact_match')",
        "write [exact_match]",
    ),
    (
        ON + "eval:\n  metrics: [mauve]\n",
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
        "add `target.new-one.precision`, one of auto, fp32…",
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
        "recipes/r.yaml:3: no option of model is called 'tiny-lama'",
        "did you mean 'tiny-llama'?",
    ),
    (
        "defaults:\n  - tiny\n  - override /model: tiny-lama\n",
        "",
        "recipes/r.yaml:3: no option of model is called 'tiny-lama'",
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
    (
        "# nothing\n",
        "",
        "recipes/r.yaml: model: is required and not given",
        "write `- model: NAME` under `defaults`; there are smollm2-135m…",
    ),
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
        "override 'model=tiny-lama': no option of model is called 'tiny-lama'",
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
        "name the option and package that its defaults list has: model: tiny-llama (recipes/tiny…",
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
        "override 'target=cpu-int9': no option of target is called 'cpu-int9'",
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
        "name the option and package that its defaults list has: model: tiny-llama (recipes/tiny…",
    ),
    (
        "",
        "train.seed=${train.nothing}",
        "override 'train.seed=${train.nothing}': train.seed: ${train.nothing} refers to no key",
        "refer to a key that a file of the recipe gives; defaults have no line to refer to",
    ),
    (
        "",
        "~model",
        "override '~model': model: is required and not given",
        "write model=NAME instead; there are smollm2-135m…",
    ),
    (
        "",
        "target=[]",
        "override 'target=[]': target: is required and not given",
        "write target=NAME instead; there are cpu-auto, cpu-fp32…",
    ),
    *(
        (
            "",
            f"~target{value}",
            f"override '~target{value}': ~ takes nothing out of a list of options…",
            "write the list to keep…",
        )
        for value in ("", "=cpu-fp32", "=[cpu-fp32]")
    ),
    (
        "",
        "target=[cpu-int8,cpu-int8]",
        "override 'target=[cpu-int8,cpu-int8]': 'cpu-int8' is listed twice",
        "keep one of the two",
    ),
    (
        "defaults:\n  - tiny\n  - override /target: [cpu-int8, cpu-int8]\n",
        "",
        "recipes/r.yaml:3: defaults: target: 'cpu-int8' is listed twice",
        "keep one of the two",
    ),
    (
        "",
        "seed=3",
        "override 'seed=3': seed: unknown key",
        "write the one that is meant: model.source.seed, data.seed or train.seed",
    ),
    (
        "",
        "data.path=x",
        "override 'data.path=x': data.path: unknown key",
        "here it is called data.source.path",
    ),
    (
        "",
        "data.template.type=chat",
        "override 'data.template.type=chat': data.template.type: chat does not read prompt, which…",
        "add '~data.template.prompt' '~data.template.completion'",
    ),
    (
        ON + "data:\n  source: {type: hub, repo_id: a/b, splits: {}}\n",
        "",
        "recipes/r.yaml:3: data.source.type: hub does not read path, which conf/data/tiny-comman…",
        "write a data group with the type hub, conf/data/NAME.yaml, and choose `- data: NAME`…",
    ),
    (
        "",
        "model.source.path=foo",
        "override 'model.source.path=foo': model.source.path: unknown key for the type random…",
        "remove it; it belongs to the type folder",
    ),
    (
        ON + "train: ${data}\n",
        "",
        "recipes/r.yaml:2: train.name: unknown key, brought by ${data.name} of conf/data/tiny-co…",
        "refer to single values and not a section",
    ),
    (
        ON + "train: {method: full}\n",
        "",
        "recipes/r.yaml:2: train.method: full does not read lora, which conf/train/tiny.yaml:4…",
        "choose `- train: full` in `defaults` instead",
    ),
    (
        ON + "train: {quantization: {bnb_4bit_quant_type: nf4}}\n",
        "",
        "recipes/r.yaml:2: train.quantization: the method lora does not read it (conf/train/tiny…",
        "remove it, or choose `- train: qlora` in `defaults`",
    ),
    (
        "",
        "description=null",
        "override 'description=null': description: must be text (given null)",
        "give text: One sentence for the report and the model card.",
    ),
    (
        "",
        "model.name=true",
        "override 'model.name=true': model.name: must be text (given true)",
        "write it in quotes: 'model.name=\"true\"'",
    ),
    (
        ON + "model:\n  name: 5\n",
        "",
        "recipes/r.yaml:3: model.name: must be text (given 5)",
        'write it in quotes: "5"',
    ),
    (
        "",
        "train=null",
        "override 'train=null': train takes the name of an option (given null)",
        "write train=NAME; for one of its values train.key=value",
    ),
    (
        "",
        "train..seed=1",
        "override 'train..seed=1': 'train..seed' is not a key",
        "write section.key=value",
    ),
    (
        "",
        "train.max_steps=0",
        "override 'train.max_steps=0': train.max_steps: must be -1 or 1 or more (given 0)",
        "give -1 or 1 or more…",
    ),
    (
        ON + "train:\n  num_train_epochs: 010\n",
        "",
        "recipes/r.yaml:3: train.num_train_epochs: 010 is not a decimal number (YAML 1.1 reads 8)",
        "write 8, or '010' in quotes if it is text",
    ),
    (
        ON + "train:\n  seed: 1:30\n",
        "",
        "recipes/r.yaml:3: train.seed: 1:30 is not a decimal number (YAML 1.1 reads 90)",
        "write 90, or '1:30' in quotes if it is text",
    ),
    (
        ON + "train:\n  seed: 09\n",
        "",
        "recipes/r.yaml:3: train.seed: must be a whole number (given '09')",
        "write it without quotes: 9",
    ),
    (
        ON + "train:\n  group_by_length: yes\n",
        "",
        "recipes/r.yaml:3: train.group_by_length: yes is not true or false (YAML 1.1 reads true)",
        "write true, or 'yes' in quotes if it is text",
    ),
    (
        "",
        "data.source.path=data/tiny/comands.jsonl",
        "override 'data.source.path=data/tiny/comands.jsonl': data.source.path: data/tiny/comand…",
        "did you mean 'data/tiny/commands.jsonl'?",
    ),
    (
        "",
        "data.source.path=data/tiny",
        "override 'data.source.path=data/tiny': data.source.path: data/tiny: a folder and not a…",
        "name its files: data/tiny/*.jsonl",
    ),
    (
        "",
        "data.source.files={train: data/tiny/commands.jsonl}",
        "override 'data.source.files={train: data/tiny/commands.jsonl}': data.source.files: there…",
        "keep one of the two; data.source.path=null takes the path away",
    ),
    (
        ON + "data:\n  steps:\n    - {column: label}\n",
        "",
        "recipes/r.yaml:4: data.steps.0: has no type",
        "add `type:` with one of drop, keep",
    ),
    (
        ON + "data:\n  steps:\n    - {type: kep}\n",
        "",
        "recipes/r.yaml:4: data.steps.0.type: 'kep' is none of 'drop', 'keep'",
        "did you mean 'keep'?",
    ),
    (
        ON + "data:\n  steps:\n    - {type: keep, column: label, values: [1]}\n",
        "",
        "recipes/r.yaml:4: data.steps.0.values.0: must be text (given 1)",
        'write it in quotes: "1"',
    ),
    (
        "",
        "data.steps=[{type: keep, column: label, values: [1]}]",
        "override 'data.steps=[{type: keep, column: label, values: [1]}]': data.steps.0.values.0:…",
        'write it in quotes: "1"',
    ),
    (
        "",
        "+target.a--b={execution_provider: cpu, precision: fp32}",
        "override '+target.a--b={execution_provider: cpu, precision: fp32}': target.a--b: a name…",
        "choose a name without it: a-b",
    ),
    (
        "",
        "data.source.type=fle",
        "override 'data.source.type=fle': data.source.type: 'fle' is none of 'file', 'hub'",
        "did you mean 'file'?",
    ),
    (
        "",
        "data.steps=keep",
        "override 'data.steps=keep': data.steps: must be a list (given 'keep')",
        "give a list: What is done with the rows before…",
    ),
    (
        ON + "data:\n  steps:\n    - {type: keep, column: label, values: [null]}\n",
        "",
        "recipes/r.yaml:4: data.steps.0.values.0: must be text (given null)",
        'write it in quotes: "null"',
    ),
    (
        "",
        "data.steps=[{type: keep, column: label, values: []}]",
        "override 'data.steps=[{type: keep, column: label, values: []}]': data.steps.0.values: mu…",
        "give 1 or more entries…",
    ),
    (
        "",
        "data.steps=[{type: keep, colum: label, values: [a]}]",
        "override 'data.steps=[{type: keep, colum: label, values: [a]}]': data.steps.0.colum: unk…",
        "did you mean 'data.steps.0.column'?",
    ),
]

# A key, and what is said of it.
NAMES = [
    ("lora_target", "here it is called train.lora.target_modules: all is all-linear"),
    ("warmup_steps", "here it is called train.warmup_ratio: a share of the steps…"),
    ("evals_per_epoch", "here it is called train.eval_steps: steps between validations…"),
    ("global_batch_size", "here it is called train.per_device_train_batch_size: times…"),
    ("load_in_4bit", "choose train=qlora…"),
    ("use_dora", "here it is called train.lora.use_dora"),
    ("lora_use_dora", "here it is called train.lora.use_dora"),
    ("pissa_init", "here it is called train.lora.init_lora_weights: true is pissa"),
    ("train.lora.loftq_config", "remove it: train.lora.init_lora_weights=loftq quantises…"),
    ("train.packing", "not supported here…"),
    ("train.ddp_timeout", "not supported here…"),
    ("passes", "not supported here…"),
    ("train.learning_rat", "did you mean 'train.learning_rate'?"),
    ("train.lora.alpa", "here it is called train.lora.lora_alpha"),
    ("targt_modules", "here it is called train.lora.target_modules"),
    ("train.fallback", "keys here: adam_beta1…"),
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
    data = "a folder and not" in what or "comand" in override
    bad = Exit.BAD_DATA if data and "files" not in override else Exit.BAD_RECIPE
    assert error.code == (Exit.REFUSED if "leaves" in what else bad)


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


def all_of(error: SlmcompileError) -> list[tuple[str, str]]:
    return [(each.what, each.mend) for each in (error, *error.also)]


def test_all_that_is_wrong_is_named_at_once_in_the_order_of_lines(project: Project) -> None:
    text = ON + (
        "train:\n  sead: 1\n  learning_rate: fast\nmodel:\n  source: {type: x}\n"
        "eval: {metrics: [mauve], limit: 0}\ngates:\n  - {metric: exact_match, min: high}\n"
    )
    error = failure(project, text, "train.sed=2")
    assert [what.partition(": must")[0] for what, _ in all_of(error)] == [
        "recipes/r.yaml:3: train.sead: unknown key",
        "recipes/r.yaml:4: train.learning_rate",
        "recipes/r.yaml:6: model.source.type: 'x' is none of 'hub', 'folder', 'package', 'random'",
        "recipes/r.yaml:7: eval.metrics.0",
        "recipes/r.yaml:7: eval.limit",
        "recipes/r.yaml:9: gates.0.min",
        "override 'train.sed=2': train.sed: unknown key",
    ]
    assert all(mend for _, mend in all_of(error))
    assert [each["what"] for each in error.to_json()["also"]] == [each.what for each in error.also]


@pytest.mark.parametrize(
    ("text", "overrides", "causes"),
    [
        (ON + "target:\n  new: {precison: fp32}\n", [], 1),  # and so the precision is missing
        (ON + "train: ${data}\n", [], 1),  # which has a dozen keys
        ("", ["data.template.type=chat"], 1),  # which two keys are not for and two others are
        (ON + "train: {seed: '${data.license}'}\ndata: {seed: '${data.license}'}\n", [], 1),
        (ON + "train: {method: full}\n", [], 1),
        (ON + "train: {num_threads: many}\n", [], 1),  # neither a number nor 'auto'
        (ON + "model: {nme: x, licens: y}\n", [], 2),
    ],
)
def test_one_cause_is_named_once_and_not_what_follows_from_it(
    project: Project, text: str, overrides: list[str], causes: int
) -> None:
    assert len(all_of(failure(project, text, *overrides))) == causes


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("train:\n  seed: 010\n  group_by_length: yes\n  seed: 2\n", [3, 4, 5]),
        ("train:\n  seed: ???\n  learning_rate: ${a.b}\n  max_steps: ${train.seed}\n", [3, 4]),
        ("train:\n  seed: ${data.seed}\ndata:\n  seed: ${train.seed}\ndescription: ???\n", [5, 6]),
        (
            "gates:\n  - {metric: perplexity, artifact: cpu-fp23, max: 1}\n"
            "  - {metric: perplexity}\ndata:\n  source: {path: data/no.jsonl}\n",
            [3, 4, 6],
        ),
    ],
)
def test_of_what_no_schema_sees_all_is_named_too(
    project: Project, text: str, lines: list[int]
) -> None:
    error = failure(project, ON + text)
    assert [int(what.split(":")[1]) for what, _ in all_of(error)] == lines


def test_of_very_many_errors_the_first_are_told(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    error = failure(project, ON + "".join(f"key_{number}: 1\n" for number in range(30)))
    assert len(all_of(error)) == 30
    many = failure(project, ON + "".join(f"key_{number}: 1\n" for number in range(3000)))
    assert len(all_of(many)) == 40
    assert tell(error) == Exit.BAD_RECIPE
    said = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("error: ") for line in said) == 20
    assert said[-1] == "and more"


@pytest.mark.parametrize(
    ("content", "what", "mend"),
    [
        (
            "train:\n  seed: 1\n",
            "conf/train/mine.yaml:1: train.train: unknown key",
            "take train: out of the file, whose keys are train's, or begin it with # @package"
            " _global_",
        ),
        (
            "seed: 1\neval:\n  limit: 3\n",
            "conf/train/mine.yaml:2: train.eval: unknown key",
            "begin the file with # @package _global_, so that its keys are the recipe's and not"
            " train's",
        ),
    ],
)
def test_a_group_file_nested_in_a_name_of_its_own_is_explained(
    project: Project, content: str, what: str, mend: str
) -> None:
    group = project.conf / "train" / "mine.yaml"
    group.write_text(content, encoding="utf-8")
    text = "defaults: [tiny, {override /train: mine}, _self_]\n"
    error = failure(project, text)
    assert (error.what, error.mend) == (what, mend)
    mended = "# @package _global_\ntrain: {method: lora, seed: 1}\neval: {limit: 3}\n"
    group.write_text(mended, encoding="utf-8")
    plan = compile_recipe(project, "r")
    assert (plan.effective["train"]["seed"], plan.effective["eval"]["limit"]) == (1, 3)


def test_a_group_of_the_package_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    project = Project(tmp_path.resolve())
    text = "defaults: [{train: tiny}, _self_]\nmodel: {name: '${train.method}', nme: x}\n"
    error = failure(project, text)
    assert error.what == "recipes/r.yaml:2: model.nme: unknown key"
    error = failure(project, "defaults: [{train: tinny}]\n")
    assert error.mend == "did you mean 'tiny'?"


@pytest.mark.parametrize(("key", "mend"), NAMES)
def test_a_typing_error_is_found_and_a_guess_does_not_mislead(
    project: Project, key: str, mend: str
) -> None:
    assert reads(failure(project, "", f"{key}=1").mend, mend)


@pytest.mark.parametrize(
    "overrides",
    [
        ("data.template.type=chat", "~data.template.prompt", "~data.template.completion",
         "data.template.user='{text}'", "data.template.assistant='{label}'"),
        ("train.method=full", "~train.lora"),
        ("data.source.files={train: data/tiny/commands.jsonl}", "data.source.path=null"),
        ("model.name=\"5\"",),
    ],
)  # fmt: skip
def test_a_mend_works_when_it_is_followed(project: Project, overrides: tuple[str, ...]) -> None:
    compile_recipe(project, "tiny", overrides)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("train.lora.r=8", "train.lora={r: 4}"),
        ("train={seed: 3}", "train.seed=4"),
        ("gates=[{metric: exact_match, min: 0}]", "gates.0.min=1"),
    ],
)
def test_one_key_in_two_spellings_is_given_twice(project: Project, first: str, second: str) -> None:
    for words in ((first, second), (second, first)):
        error = failure(project, "", *words)
        assert error.what.startswith(f"override {words[1]!r}: ")
        assert error.what.endswith(" is given twice")
    compile_recipe(project, "tiny", ["train=lora", "train.seed=4", "train={lora: {r: 4}}"])


def test_every_name_of_a_peer_leads_to_a_key_that_exists() -> None:
    known = {path for paths in paths_by_name().values() for path in paths}
    assert {path for path in (*KEYS.values(), *SECTIONS.values()) if path not in known} == set()
    assert DIFFERS.keys() <= KEYS.keys()
    assert not ABSENT.keys() & (KEYS.keys() | SECTIONS.keys() | paths_by_name().keys())
