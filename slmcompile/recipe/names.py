"""What a key is called here, when a person writes the name another tool gives it."""

from __future__ import annotations

from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

# Other tools' names, each mapped to the path that says the same here.
PEERS = {
    "micro_batch_size": "train.per_device_train_batch_size",
    "batch_size": "train.per_device_train_batch_size",
    "train_batch_size": "train.per_device_train_batch_size",
    "eval_batch_size": "train.per_device_eval_batch_size",
    "num_epochs": "train.num_train_epochs",
    "epochs": "train.num_train_epochs",
    "n_epochs": "train.num_train_epochs",
    "lr": "train.learning_rate",
    "lr_scheduler": "train.lr_scheduler_type",
    "optimizer": "train.optim",
    "grad_accum": "train.gradient_accumulation_steps",
    "lora_r": "train.lora.r",
    "lora_rank": "train.lora.r",
    "rank": "train.lora.r",
    "alpha": "train.lora.lora_alpha",
    "dropout": "train.lora.lora_dropout",
    "lora_target": "train.lora.target_modules",
    "lora_target_modules": "train.lora.target_modules",
    "lora_modules_to_save": "train.lora.modules_to_save",
    "cutoff_len": "data.max_length",
    "sequence_len": "data.max_length",
    "max_seq_length": "data.max_length",
    "max_seq_len": "data.max_length",
    "base_model": "model.source",
    "model_name_or_path": "model.source",
    "datasets": "data.source",
    "val_set_size": "data.split.validation",
    "val_size": "data.split.validation",
    "report_to": "track.type",
    "targets": "target",
    "metrics": "eval.metrics",
    "bf16": "train.precision",
    "fp16": "train.precision",
}


def suggest(unknown: str, model: type[BaseModel], at: tuple[str, ...]) -> str:
    """A mend line for an unknown key ``unknown`` in the section at ``at``."""
    fields = list(model.model_fields)
    close = get_close_matches(unknown, fields, n=1, cutoff=0.7)
    if not close and unknown in PEERS:
        return f"here it is called {PEERS[unknown]}"
    close = close or get_close_matches(unknown, fields, n=1, cutoff=0.5)
    if close:
        return f"did you mean {'.'.join((*at, close[0]))!r}?"
    return f"keys here: {', '.join(sorted(fields))}"


def section_at(model: type[BaseModel], keys: tuple[str, ...], raw: Any) -> type[BaseModel] | None:
    """The section type that holds the value at ``keys``; ``raw`` decides tagged unions."""
    current: type[BaseModel] | None = model
    value = raw
    position = 0
    while current is not None and position < len(keys):
        field = current.model_fields.get(keys[position])
        if field is None:
            return None
        value = value.get(keys[position]) if isinstance(value, dict) else None
        annotation: Any = field.annotation
        position += 1
        choices = _sections(annotation)
        if not choices and get_origin(_plain(annotation)) in {dict, tuple}:
            position += 1  # a mapping or list of sections: its key carries no type
            value = _child(value, keys[position - 1]) if position <= len(keys) else None
            choices = _sections(get_args(_plain(annotation))[-1 if _is_map(annotation) else 0])
        current = _chosen(choices, value)
    return current


def _child(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return value.get(key)
    if isinstance(value, list) and key.isdigit() and int(key) < len(value):
        return value[int(key)]
    return None


def _plain(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _is_map(annotation: Any) -> bool:
    return get_origin(_plain(annotation)) is dict


def _sections(annotation: Any) -> list[type[BaseModel]]:
    annotation = _plain(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in {Union, UnionType}:
        return [section for part in get_args(annotation) for section in _sections(part)]
    return []


def _chosen(choices: list[type[BaseModel]], value: Any) -> type[BaseModel] | None:
    if len(choices) == 1:
        return choices[0]
    tag = value.get("type") if isinstance(value, dict) else None
    for choice in choices:
        if tag in get_args(choice.model_fields["type"].annotation):
            return choice
    return None
