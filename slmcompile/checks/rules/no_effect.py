"""Check 18: two options of which one leaves the other without effect."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from slmcompile.checks.precedence import contradicts
from slmcompile.checks.registry import Verdict, check, proved, refuted
from slmcompile.console.errors import BadDataError
from slmcompile.data.formats import format_of
from slmcompile.facts.context import CheckContext
from slmcompile.losses.keys import WeightedKeys
from slmcompile.losses.python import PythonLoss
from slmcompile.methods.early_stopping import LOSS
from slmcompile.methods.keys import Train
from slmcompile.methods.lora import Lora
from slmcompile.optimizers import OPTIMIZERS
from slmcompile.providers.keys import Target
from slmcompile.recipe.data_parts import OneSource
from slmcompile.recipe.schema import Data, Gate, Recipe, Track
from slmcompile.shapes.splits import SPLITS
from slmcompile.shapes.target_modules import matches
from slmcompile.sources.of_data.file import FileData

_ALL = frozenset(SPLITS)


@dataclass(frozen=True)
class Pair:
    """An option without effect beside another.

    Attributes:
        section: dotted key of the section that holds both; ``*`` stands for every name there.
        option: key that has no effect.
        by: key that takes it away.
        when: whether it does, given the section.
        reason: why.
    """

    section: str
    option: str
    by: str
    when: Callable[[Any], bool]
    reason: str


def _given(data: Data) -> frozenset[str]:
    """Splits that every source of the task brings; the others are taken from their rows."""
    every = [part.splits for part in data.parts if part.counted]
    return frozenset.intersection(*every)


def _stated(data: Data | OneSource, key: str) -> bool:
    """Whether a key of file data is not at its default."""
    source = data.source
    field = FileData.model_fields[key]
    return isinstance(source, FileData) and getattr(source, key) != field.default


def _formats(data: Data | OneSource) -> set[str]:
    """Of the files; empty where an ending says none, as another rule says."""
    source = data.source
    if not isinstance(source, FileData):
        return set()
    try:
        paths = [path for files in source.paths.values() for path in files]
        return {format_of(path, source.format) for path in paths}
    except BadDataError:
        return set()


def _adapted_and_whole(lora: Lora) -> bool:
    if isinstance(lora.target_modules, str):
        return False
    return any(
        matches(target, whole) for target in lora.target_modules for whole in lora.modules_to_save
    )


def _two_bars(recipe: Recipe) -> bool:
    seen = [bar for gate in recipe.gates for bar in _bars(gate)]
    return len(seen) > len(set(seen))


def _bars(gate: Gate) -> Iterator[tuple[str | None, str, str, str]]:
    for bar in ("min", "max", "max_drop"):
        if getattr(gate, bar) is not None:
            yield gate.source, gate.metric, gate.artifact, bar


def _short(train: Train, cadence: int) -> bool:
    return 0 < train.max_steps < cadence


def _all_ones(train: Train) -> bool:
    """Whether every class that is named counts what the others count."""
    loss = train.loss
    return isinstance(loss, WeightedKeys) and set(loss.class_weights.values()) == {1.0}


def _one_row_batches(train: Train) -> bool:
    batch = isinstance(train.loss, PythonLoss) and train.loss.sees == "batch"
    return batch and train.per_device_train_batch_size == 1


def _not_int4(target: Target) -> bool:
    return "int4_block_size" in type(target).model_fields and target.precision != "int4"


def _no_int4(target: Target) -> bool:
    return _not_int4(target) and target.precision != "mixed"


def _not_mixed(target: Target) -> bool:
    return "bits_per_weight" in type(target).model_fields and target.precision != "mixed"


def _no_schema_asked(recipe: Recipe) -> bool:
    asked = {*recipe.eval.metrics, recipe.train.metric_for_best_model}
    return recipe.eval.json_schema is not None and "json_schema_valid" not in asked


def _decides_nothing(train: Train) -> bool:
    asked = train.load_best_model_at_end or train.early_stopping_patience is not None
    return train.metric_for_best_model != LOSS and not asked


def _not_wandb(track: Track) -> bool:
    return track.type != "wandb"


def _of_sources() -> Iterator[Pair]:
    """What sources leave without effect, however the recipe writes them."""
    for by, of in (("source", "the source brings"), ("sources", "all sources bring")):
        every = f"{of} all splits"
        for split in ("validation", "test"):
            when = partial(_brings, by, frozenset({split}))
            yield Pair("data", f"split.{split}", by, when, f"{of} a {split} split")
        yield Pair("data", "split.strategy", by, partial(_brings, by, _ALL), every)
        yield Pair("data", "split.by", by, partial(_by_unread, by), every)
        reason = f"it is the seed of the split and of samples: {every}, and no sample is taken"
        yield Pair("", "data.seed", f"data.{by}", partial(_seed_unread, by), reason)
    for section in ("data", "data.sources.*"):
        reason = "no file of the source is CSV"
        yield Pair(section, "source.delimiter", "source.path", _no_csv, reason)
        reason = "Parquet has an encoding of its own"
        yield Pair(section, "source.encoding", "source.path", _no_text, reason)


def _brings(by: str, splits: frozenset[str], data: Data) -> bool:
    return bool(getattr(data, by)) and splits <= _given(data)


def _by_unread(by: str, data: Data) -> bool:
    return data.split.by is not None and _brings(by, _ALL, data)


def _seed_unread(by: str, recipe: Recipe) -> bool:
    mixed = any(part.weight is not None or part.replay is not None for part in recipe.data.parts)
    sampled = recipe.eval.limit is not None or recipe.train.eval_limit is not None
    return _brings(by, _ALL, recipe.data) and not sampled and not mixed


def _no_csv(data: Data | OneSource) -> bool:
    return _stated(data, "delimiter") and not _formats(data) & {"csv"}


def _no_text(data: Data | OneSource) -> bool:
    return _stated(data, "encoding") and _formats(data) == {"parquet"}


PAIRS: tuple[Pair, ...] = (
    *_of_sources(),
    Pair(
        "train", "num_train_epochs", "max_steps", lambda train: train.max_steps > 0,
        "max_steps alone says how long training is",
    ),
    Pair(
        "train", "warmup_ratio", "lr_scheduler_type",
        lambda train: train.lr_scheduler_type == "constant" and train.warmup_ratio > 0,
        "constant has no warm-up; constant_with_warmup has",
    ),
    Pair(
        "train", "lr_scheduler_type", "warmup_ratio",
        lambda train: train.lr_scheduler_type == "constant_with_warmup" and not train.warmup_ratio,
        "without warm-up it is constant",
    ),
    Pair(
        "train", "group_by_length", "per_device_train_batch_size",
        lambda train: train.group_by_length and train.per_device_train_batch_size == 1,
        "a batch of one row has no padding to save",
    ),
    Pair(
        "train", "eval_steps", "max_steps", lambda train: _short(train, train.eval_steps),
        "training ends before the first of these validations",
    ),
    Pair(
        "train", "save_steps", "max_steps", lambda train: _short(train, train.save_steps),
        "training ends before the first checkpoint",
    ),
    Pair(
        "train", "load_best_model_at_end", "eval_steps",
        lambda train: train.load_best_model_at_end and 0 < train.max_steps <= train.eval_steps,
        "the one validation is at the last step, so the last model is the best",
    ),
    Pair(
        "train", "loss.class_weights", "loss.class_weights", _all_ones,
        "every weight is 1, which rows without one have too",
    ),
    Pair(
        "train", "loss.sees", "per_device_train_batch_size", _one_row_batches,
        "a batch of one row has no other rows for a loss to see",
    ),
    Pair(
        "train", "metric_for_best_model", "load_best_model_at_end", _decides_nothing,
        "the last weights are kept whatever it says, unless train.early_stopping_patience is given",
    ),
    Pair(
        "train", "early_stopping_threshold", "early_stopping_patience",
        lambda train: train.early_stopping_threshold > 0 and train.early_stopping_patience is None,
        "there is no patience that it could use up",
    ),
    Pair(
        "train", "eval_limit", "metric_for_best_model",
        lambda train: train.eval_limit is not None and train.metric_for_best_model == LOSS,
        "the loss is over all rows of the split",
    ),
    Pair(
        "train.lora", "target_modules", "modules_to_save", _adapted_and_whole,
        "a layer that is trained whole needs no adapter",
    ),
    Pair(
        "train.lora", "loraplus_lr_ratio", "loraplus_lr_ratio",
        lambda lora: lora.loraplus_lr_ratio == 1,
        "at a ratio of 1 both matrices train at one rate, as they do without it",
    ),
    Pair(
        "data", "split.by", "split.strategy",
        lambda data: data.split.by is not None and data.split.strategy == "random",
        "a random split looks at no column",
    ),
    Pair(
        "data", "normalize_labels", "task",
        lambda data: bool(data.normalize_labels) and not data.labelled,
        "the task has no labels, unless data.label names them",
    ),
    Pair(
        "", "eval.json_schema", "eval.metrics", _no_schema_asked,
        "json_schema_valid alone reads it",
    ),
    Pair(
        "target.*", "int4_algo_config", "precision", _not_int4, "only int4 is quantised that way",
    ),
    Pair(
        "target.*", "int4_block_size", "precision", _no_int4, "only weights of 4 bits have these",
    ),
    Pair(
        "target.*", "bits_per_weight", "precision", _not_mixed, "only mixed chooses by it",
    ),
    Pair(
        "target.*", "int4_is_symmetric", "precision", _not_int4, "only int4 is quantised that way",
    ),
    Pair("track", "project", "type", _not_wandb, "only W&B has projects"),
    Pair("track", "mode", "type", _not_wandb, "only W&B has modes"),
    Pair("track", "tags", "type", _not_wandb, "only W&B has tags"),
    Pair(
        "", "gates", "gates", _two_bars,
        "two bars of one kind for the same metric and artifact: only the stricter one counts",
    ),
)  # fmt: skip
"""Every pair that is known, one row each, but for those that tables give."""


def _of_optimizers() -> Iterator[Pair]:
    """Keys of ``train`` that some optimizer reads and the one that is chosen does not."""
    for key in sorted({key for entry in OPTIMIZERS.values() for key in entry.reads}):
        yield Pair("train", key, "optim", partial(_unread, key), "the optimizer does not read it")


def _unread(key: str, train: Train) -> bool:
    return key not in OPTIMIZERS[train.optim].reads


@check(
    18,
    "no-option-voided",
    "an option that somebody wrote down has no effect, and they believe it has",
    of_plan=True,
)
def no_option_voided(context: CheckContext) -> Verdict:
    """Only what a person stated: a group's default that a recipe goes past is no mistake."""
    looked = 0
    for pair in (*PAIRS, *_of_optimizers()):
        for prefix, section in _sections(context.recipe, pair.section):
            looked += 1
            option, by = f"{prefix}{pair.option}", f"{prefix}{pair.by}"
            if pair.when(section) and contradicts(context, option, by):
                alone = option == by
                beside = "" if alone else f" beside {by}={_value(section, pair.by)}"
                return refuted(
                    f"without effect{beside}: {pair.reason}",
                    f"change {option}, or remove it"
                    if alone
                    else f"remove {option}, or change {by}",
                    context.at(option),
                )
    return proved(f"{looked} pairs of options looked at, none voids what was stated")


def _sections(recipe: Recipe, section: str) -> Iterator[tuple[str, Any]]:
    """Every section of that name that the recipe has, with the start of its keys."""
    found: list[tuple[str, Any]] = [("", recipe)]
    for part in section.split(".") if section else ():
        if part == "*":
            found = [
                (f"{prefix}{name}.", below)
                for prefix, value in found
                for name, below in (
                    value.items() if isinstance(value, Mapping) else enumerate(value or ())
                )
            ]
        else:
            found = [(f"{prefix}{part}.", getattr(value, part, None)) for prefix, value in found]
    yield from ((prefix, value) for prefix, value in found if value is not None)


def _value(section: Any, path: str) -> str:
    for part in path.split("."):
        section = getattr(section, part)
    if isinstance(section, tuple) and section and isinstance(section[0], OneSource):
        return f"[{', '.join(one.name for one in section)}]"
    if isinstance(section, tuple):
        return f"[{', '.join(map(str, section))}]"
    return getattr(section, "type", None) or str(section)
