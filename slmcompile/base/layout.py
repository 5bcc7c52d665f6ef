"""What a base-model folder must hold, whatever its source, and the facts read off it.

The folder is the Hugging Face layout: ``config.json``, ``*.safetensors``, ``tokenizer.json``,
``tokenizer_config.json``, ``generation_config.json``. Everything is read as data (JSON and
safetensors headers): no model code runs and no weight is loaded.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from slmcompile.console.errors import BadRecipeError, CorruptError, RefusedError
from slmcompile.console.printable import shortened
from slmcompile.files.artifact import write_json

ALLOWED = ("*.json", "*.safetensors", "tokenizer.model", "*.txt", "*.jinja")
"""File names that a source may contribute, at the top level only: no code, no pickle."""

CHAT_TEMPLATES = "additional_chat_templates"
"""Folder of named chat templates (``tool_use.jinja``), the only one that is taken too."""

_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
MAX_CONFIG = 2 << 20
"""Largest configuration that is read, bytes: Gemma 3's tokenizer_config.json has 1.2 million."""
_MAX_HEADERS = 4 << 20
"""Largest index, and largest sum of a model's safetensors headers, bytes: room for 33,000
tensors."""
_MOST_ELEMENTS = 1 << 40
_MOST_AXES = 8
_HEAD = "lm_head.weight"
_MACHINE_KEYS = ("_name_or_path", "_model_name_or_path", "name_or_path", "is_local")
_LOADING_KEYS = (*_MACHINE_KEYS, "local_files_only")


def refuse_unsafe(names: list[str], where: str) -> None:
    """Refuses a model whose weights exist only as pickles, by the names of its files.

    Raises:
        RefusedError: pickled weights and no safetensors beside them.
        BadRecipeError: no weights at all.
    """
    if any(name.endswith(".safetensors") for name in names):
        return
    if any(name.endswith(_PICKLED) for name in names):
        raise RefusedError(
            f"{where}: its weights are pickles only, which run code when they are loaded",
            "name a model with safetensors weights",
        )
    raise BadRecipeError(f"{where}: holds no *.safetensors", "name a model with its weights")


def refuse_code(config: dict[str, Any], where: str) -> None:
    """Refuses a configuration that asks for code of its own (``auto_map``)."""
    if "auto_map" in config:
        raise RefusedError(
            f"{where}: auto_map asks for code from the model's folder to be run",
            "name a model that transformers supports by itself",
        )


def complete(folder: Path, where: str) -> dict[str, Any]:
    """Checks a folder, makes its JSON independent of the machine, and returns its facts.

    ``generation_config.json`` is written if it is missing; either way its ``eos_token_id`` then
    includes the tokenizer's stop token, so that every runtime stops where training stops.

    Returns:
        architecture, parameters (tied weights once), dtype, context_length, vocab_size,
        eos_token_ids.
    """
    config = _read(folder / "config.json", where)
    refuse_code(config, f"{where}/config.json")
    _one_form_of_chat_template(folder, where)
    if config.get("quantization_config"):
        raise BadRecipeError(
            f"{where}: its weights are quantised; adapters merge into full-precision weights only",
            "name the model that it was quantised from",
        )
    _write_without(folder / "config.json", config, _MACHINE_KEYS)
    tokenizer = _read(folder / "tokenizer_config.json", where)
    refuse_code(tokenizer, f"{where}/tokenizer_config.json")
    _write_without(folder / "tokenizer_config.json", tokenizer, _LOADING_KEYS)
    stop = _stop_token_id(folder, tokenizer, where)
    shapes = tied_once(weight_headers(folder, where), config)
    dtypes: Counter[str] = Counter()
    for entry in shapes.values():
        dtypes[entry["dtype"]] += prod(entry["shape"])
    return {
        "architecture": next(iter(_list(config.get("architectures"))), config.get("model_type")),
        "parameters": dtypes.total(),
        "dtype": dtypes.most_common(1)[0][0],
        "context_length": config.get("max_position_embeddings"),
        "vocab_size": config.get("vocab_size"),
        "eos_token_ids": _stop_where_trained(folder, config, stop),
    }


def _one_form_of_chat_template(folder: Path, where: str) -> None:
    """Writes a processor's ``chat_template.json`` as ``chat_template.jinja``, which all read."""
    old, new = folder / "chat_template.json", folder / "chat_template.jinja"
    if old.is_file() and not new.exists():
        template = _read(old, where).get("chat_template")
        if isinstance(template, str):
            new.write_text(template, encoding="utf-8", newline="")


def weight_headers(folder: Path, where: str) -> dict[str, dict[str, Any]]:
    """Every stored tensor's name with its ``dtype`` and ``shape``, from the safetensors headers.

    Raises:
        RefusedError: pickled weights only, or an index that leads out of the folder.
        BadRecipeError: no weights at all.
        CorruptError: not safetensors, a tensor without a dtype or a shape that could be, or a file
            of the index is missing.
    """
    found: dict[str, dict[str, Any]] = {}
    left = _MAX_HEADERS
    for path in _weight_files(folder, where):
        header, length = _header(path, left)
        found |= header
        left -= length
    return found


def tied_once(
    headers: dict[str, dict[str, Any]], config: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The headers without an output head that is stored although it is tied to the embedding.

    transformers 5.23 ties them only where their values are equal too, which no header says.
    """
    others = {name: entry for name, entry in headers.items() if name != _HEAD}
    tied = config.get("tie_word_embeddings") is True and _HEAD in headers
    same = tied and any(entry["shape"] == headers[_HEAD]["shape"] for entry in others.values())
    return others if same else headers


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _read(path: Path, where: str, limit: int = MAX_CONFIG) -> dict[str, Any]:
    try:
        if path.stat().st_size > limit:
            raise CorruptError(
                f"{where}/{path.name}: larger than {limit} bytes", "name another model"
            )
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadRecipeError(
            f"{where}: holds no {path.name}", "name a model in the Hugging Face layout"
        ) from None
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{where}/{path.name}: not JSON ({error})", "fetch it anew") from error
    if not isinstance(value, dict):
        raise CorruptError(f"{where}/{path.name}: not a JSON object", "fetch it anew")
    return value


def _write_without(path: Path, value: dict[str, Any], keys: tuple[str, ...]) -> None:
    if value.keys() & set(keys):
        write_json(path, {key: item for key, item in value.items() if key not in keys})


def _weight_files(folder: Path, where: str) -> list[Path]:
    """The safetensors files, an index's names checked to be plain names that exist."""
    paths = sorted(folder.glob("*.safetensors"))
    refuse_unsafe([path.name for path in folder.iterdir()], where)
    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = _read(index, where, _MAX_HEADERS).get("weight_map", {})
        if not isinstance(files, dict) or not all(isinstance(n, str) for n in files.values()):
            raise CorruptError(
                f"{where}/{index.name}: weight_map does not name a file for each tensor",
                "fetch it anew",
            )
        for name in sorted(set(files.values())):
            if Path(name).name != name:
                raise RefusedError(
                    f"{where}/{index.name}: {name!r} leads out of the folder", "name another model"
                )
            if not (folder / name).is_file():
                raise CorruptError(f"{where}: {name} of the index is missing", "fetch it anew")
    return paths


def _header(path: Path, most: int) -> tuple[dict[str, dict[str, Any]], int]:
    """Names, dtypes and shapes of a safetensors file, and the header's bytes, ``most`` of them.

    The format is that of https://github.com/huggingface/safetensors.
    """
    with path.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else most + 1
        if length > most:
            raise CorruptError(f"{path.name}: not a safetensors file", "fetch it anew")
        try:
            header: dict[str, dict[str, Any]] = json.loads(stream.read(length))
            header.pop("__metadata__", None)
        except (ValueError, RecursionError, AttributeError, TypeError) as error:
            raise CorruptError(f"{path.name}: not a safetensors file", "fetch it anew") from error
    for name, entry in header.items():
        if not _is_tensor(entry):
            raise CorruptError(
                f"{path.name}: {shortened(name)!r} has no dtype or no shape that a tensor can have",
                "fetch it anew",
            )
    return header, length


def _is_tensor(entry: Any) -> bool:
    """Whether a header's entry has a dtype and a shape; JSON may hold anything in their place."""
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        return False
    shape = entry.get("shape")
    return (
        isinstance(shape, list)
        and len(shape) <= _MOST_AXES
        and all(type(size) is int and 0 <= size < _MOST_ELEMENTS for size in shape)
        and prod(shape) < _MOST_ELEMENTS
    )


def _stop_token_id(folder: Path, tokenizer_config: dict[str, Any], where: str) -> int:
    """Id of the tokenizer's ``eos_token``, which ends every trained answer."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise BadRecipeError(
            f"{where}: holds no tokenizer.json", "name a model with a fast tokenizer"
        )
    token = tokenizer_config.get("eos_token")
    if isinstance(token, dict):
        token = token.get("content")
    found = None
    if token and isinstance(token, str):
        found = Tokenizer.from_file(str(path)).token_to_id(token)
    if found is None:
        raise BadRecipeError(
            f"{where}: its tokenizer has no eos_token, so an answer could never end",
            "name a model whose tokenizer_config.json sets eos_token",
        )
    return int(found)


def _stop_where_trained(folder: Path, config: dict[str, Any], stop: int) -> list[int]:
    """Makes ``generation_config.json`` stop at ``stop`` too; returns all ids that end an answer."""
    path = folder / "generation_config.json"
    generation: dict[str, Any] = {}
    if path.is_file():
        generation = _read(path, folder.name)
    else:
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        generation = {key: config[key] for key in names if config.get(key) is not None}
    known = generation.get("eos_token_id")
    ids = [known] if isinstance(known, int) else [*_list(known)]
    if stop not in ids:
        ids.append(stop)
    if not path.is_file() or ids != ([known] if isinstance(known, int) else known):
        generation["eos_token_id"] = ids[0] if len(ids) == 1 else ids
        write_json(path, generation)
    return ids
