"""Composed values → ``Recipe``; what pydantic finds wrong, in our words, with file and line.

All that is wrong is named at once, in the order of the files' lines, and each cause once: not the
key that is missing because it is misspelt, nor each of the keys that one reference brought.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from slmcompile.console.errors import BadRecipeError, all_of
from slmcompile.console.printable import shortened
from slmcompile.recipe.dump import as_written
from slmcompile.recipe.members import ADAPTERS, is_group, laid_out, where_given
from slmcompile.recipe.names import kinds_at, nested_group, section_at, suggest
from slmcompile.recipe.other_kind import key_of_another_kind
from slmcompile.recipe.overrides import is_override
from slmcompile.recipe.places import in_order, place
from slmcompile.recipe.schema import Recipe
from slmcompile.recipe.yaml_file import KeyPath

_MOST_EXPLAINED = 40
_UNKNOWN = "extra_forbidden"
_RANK = {_UNKNOWN: 0, "union_tag_not_found": 1, "union_tag_invalid": 1, "missing": 2}
# What a value must be, by pydantic's error type; {} takes names of the error's context.
_WORDS = {
    "bool_type": "must be true or false",
    "dict_type": "must be a section (key: value)",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be {ge:.10g} or more",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be {le:.10g} or less",
    "list_type": "must be a list",
    "literal_error": "must be {expected}",
    "missing": "is required and not given",
    "model_attributes_type": "must be a section (key: value)",
    "model_type": "must be a section (key: value)",
    "string_pattern_mismatch": "has characters that are not allowed here",
    "string_too_long": "must have {max_length} characters at most",
    "string_too_short": "must have {min_length} characters at least",
    "string_type": "must be text",
    "too_long": "must have {max_length} entries at most",
    "too_short": "must have {min_length} or more entries",
    "tuple_type": "must be a list",
    "union_tag_invalid": "{tag} is none of {expected_tags}",
    "union_tag_not_found": "has no type",
}


def validate(
    raw: dict[str, Any],
    origin: Callable[[KeyPath], str],
    through: Mapping[KeyPath, KeyPath],
    options: Callable[[str], list[str]],
) -> Recipe:
    """The typed recipe.

    Args:
        raw: the composed values, references followed.
        origin: ``file:line`` of a key path.
        through: for each value that was a reference, the key path it came from.
        options: the names that a group has to choose from.

    Raises:
        BadRecipeError: unknown key, missing value, wrong type (exit 78).
    """
    group = is_group(raw)
    if group and "data" in raw:
        raise BadRecipeError(
            f"{origin(('data',))}: data: each of the adapters has its own",
            f"take it out, or write it under {ADAPTERS}.NAME.data",
        )
    whole = laid_out(raw) if group else raw
    try:
        # Through JSON, where strict mode knows lists as tuples and integers as floats.
        return Recipe.model_validate_json(json.dumps(whole, allow_nan=True))
    except ValidationError as error:
        raise explained(error, raw, origin, through, options=options) from error


def _nothing_chosen(
    group: str, origin: Callable[[KeyPath], str], options: Callable[[str], list[str]]
) -> BadRecipeError:
    where = origin((group,))
    form = f"{group}=NAME instead" if is_override(where) else f"`- {group}: NAME` under `defaults`"
    return BadRecipeError(
        f"{where}: {group}: is required and not given",
        f"write {form}; there are {', '.join(options(group))}",
    )


def explained(
    invalid: ValidationError,
    raw: dict[str, Any],
    origin: Callable[[KeyPath], str],
    through: Mapping[KeyPath, KeyPath],
    model: type[BaseModel] = Recipe,
    options: Callable[[str], list[str]] | None = None,
) -> BadRecipeError:
    """What pydantic found wrong in a file of ``model``, in our words; else as ``validate``."""
    groups: dict[KeyPath, list[dict[str, Any]]] = {}
    for problem in _problems(invalid, raw):
        groups.setdefault(_keys(problem, raw), []).append(problem)
    unknown = {keys[:-1] for keys, (first, *_) in groups.items() if first["type"] == _UNKNOWN}
    within = {keys[:length] for keys in groups for length in range(len(keys))}
    groups = {
        keys: problems
        for keys, problems in groups.items()
        # What is missing may be called by the unknown name beside it; a list is no shorter than it
        # was given because an entry of it is wrong.
        if not (problems[0]["type"] == "missing" and keys[:-1] in unknown)
        and not (problems[0]["type"] == "too_short" and keys in within)
    }
    if len(groups) > _MOST_EXPLAINED:  # looking for near names takes its time
        first_ones = sorted(groups, key=lambda keys: place(f"{origin(keys)}: "))
        groups = {keys: groups[keys] for keys in first_ones[:_MOST_EXPLAINED]}
    causes: dict[tuple[str, KeyPath], tuple[int, BadRecipeError]] = {}
    for keys, problems in groups.items():
        problems.sort(key=_rank)
        first = problems[0]
        if options and first["type"] == "missing" and len(keys) == 1:
            error = _nothing_chosen(keys[0], origin, options)
        else:
            error = _explained(problems, keys, raw, origin, through, model)
        source = _source(keys, through)
        if source:
            cause = (first["type"] if first["type"] in _RANK else "", source)
        else:
            # Of what another type or method left behind the first is named, and all in its mend.
            cause = (error.what.partition(" does not read ")[0], ())
        causes.setdefault(cause, (_rank(first), error))
    ranked = sorted(causes.values(), key=lambda cause: cause[0])
    return all_of(in_order(error for _, error in ranked))


def _problems(invalid: ValidationError, raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What pydantic found, where a person wrote it."""
    found: list[dict[str, Any]] = [dict(problem) for problem in invalid.errors()]
    if not is_group(raw):
        return found
    once: dict[str, dict[str, Any]] = {}
    for problem in found:
        if problem["loc"][0] in {"data", "eval"}:
            continue  # the first adapter's, of which the same is said
        problem["loc"] = where_given(problem["loc"], raw)
        once.setdefault(f"{problem['loc']} {problem['type']}", problem)
    return list(once.values())


def _rank(problem: Mapping[str, Any]) -> int:
    return _RANK.get(problem["type"], len(_RANK))


def _source(keys: KeyPath, through: Mapping[KeyPath, KeyPath]) -> KeyPath | None:
    """The key that a reference at ``keys``, or above, took."""
    found = (through.get(keys[:length]) for length in range(len(keys), 0, -1))
    return next((source for source in found if source), None)


def _explained(
    problems: list[dict[str, Any]],
    keys: KeyPath,
    raw: dict[str, Any],
    origin: Callable[[KeyPath], str],
    through: Mapping[KeyPath, KeyPath],
    model: type[BaseModel],
) -> BadRecipeError:
    """What is wrong at one key."""
    first = problems[0]
    # What is wrong with the type of a section stands where that is written.
    at = (*keys, "type") if first["type"] == "union_tag_invalid" else keys
    where = f"{origin(at)}: {'.'.join(at) or 'recipe'}"
    parent = section_at(model, keys[:-1], raw)
    route = _route(keys, origin, through)
    if first["type"] == _UNKNOWN:
        if route:
            return BadRecipeError(
                f"{where}: unknown key, brought{route}", "refer to single values and not a section"
            )
        if error := key_of_another_kind(keys, raw, origin):
            return error
        mend = nested_group(keys, origin(keys))
        mend = mend or (parent and suggest(keys[-1], parent, keys[:-1], first.get("input"))) or ""
        return BadRecipeError(f"{where}: unknown key", mend or "remove the key")
    # The members of a union complain one by one about the same value: one sentence for all.
    same = [p for p in problems if p["type"] not in _RANK] or [first]
    said = list(dict.fromkeys(_sentence(problem) for problem in same))
    given = first.get("input")
    hidden = first["type"] in _RANK or isinstance(given, dict)
    value = "" if hidden else f" (given {shortened(as_written(given))}{route})"
    message = " or ".join([said[0], *(one.removeprefix("must be ") for one in said[1:])])
    return BadRecipeError(
        f"{where}: {message}{value}", _mend(same, keys, raw, parent, origin(keys))
    )


def _sentence(problem: dict[str, Any]) -> str:
    words = _WORDS.get(problem["type"])
    if words is None:
        return str(problem["msg"][0].lower() + problem["msg"][1:])
    context = dict(problem.get("ctx", {}))
    if "tag" in context:
        context["tag"] = shortened(as_written(problem["input"]["type"]))
    if "expected" in context:  # pydantic's words are Python's, a recipe's are YAML's
        context["expected"] = re.sub(r"^True\b", "true", context["expected"])
    return words.format(**context)


def _mend(
    problems: list[dict[str, Any]],
    keys: KeyPath,
    raw: dict[str, Any],
    parent: type[BaseModel] | None,
    where: str,
) -> str:
    first = problems[0]
    given = first.get("input")
    context = first.get("ctx", {})
    near = [
        word
        for problem in problems
        for word in _quoted(str(problem.get("ctx", {}).get("expected", "")))
    ]
    if "mend" in context:  # a rule of the schema's own
        return str(context["mend"])
    if first["type"].startswith("union_tag"):
        return _mend_type(first, list(kinds_at(keys, raw)[1]))
    sections = first["type"] == "tuple_type" and kinds_at((*keys, "0"), raw)[1]
    if (
        isinstance(given, str)
        and not sections
        and (better := _mend_text(given, first["type"], near))
    ):
        return better
    entry = bool(keys) and keys[-1].isdigit()
    if first["type"] == "string_type" and (
        isinstance(given, bool | int | float) or (given is None and entry)
    ):
        quoted = f'"{as_written(given)}"'
        # The shell takes one pair of quotes away; what is in a list is not set by itself.
        if is_override(where) and not any(key.isdigit() for key in keys):
            quoted = f"'{'.'.join(keys)}={quoted}'"
        return f"write it in quotes: {quoted}"
    if first["type"] == "string_pattern_mismatch":
        return f"it must match {context.get('pattern')}"
    if first["type"].startswith(("greater_than", "less_than")):
        return "give a value in that range"
    field = parent.model_fields.get(keys[-1]) if parent and keys else None
    described = f": {field.description}" if field is not None and field.description else ""
    if first["type"] == "missing":
        choices = get_args(field.annotation) if field and _is_literal(field.annotation) else ()
        one_of = f", one of {', '.join(map(str, choices))}" if choices else described
        return f"add `{'.'.join(keys)}`{one_of}"
    if near and len(near) > 1:
        return f"choose one of {', '.join(near)}"
    wanted = " or ".join(re.sub("^must (be|have) ", "", _sentence(one)) for one in problems)
    return f"give {wanted}{described}"


def _mend_text(given: str, problem: str, near: list[str]) -> str:
    """A mend for a value that is text and should be something else."""
    if problem in {"float_type", "int_type"} and _is_number(given):
        # A number that begins with a zero is text to YAML.
        number = re.sub(r"^([+-]?)0+(?=\d)", r"\1", given.strip())
        return f"write it without quotes: {number}"
    close = get_close_matches(given[:64], near, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    listed = problem in {"tuple_type", "list_type"} and len(given) < 64
    return f"write [{given}]" if listed else ""


def _mend_type(problem: dict[str, Any], known: list[str]) -> str:
    close = get_close_matches(str(problem.get("ctx", {}).get("tag", ""))[:64], known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    how = "choose" if "tag" in problem.get("ctx", {}) else "add `type:` with"
    return f"{how} one of {', '.join(known)}" if known else "add `type:`"


def _route(
    keys: KeyPath, origin: Callable[[KeyPath], str], through: Mapping[KeyPath, KeyPath]
) -> str:
    for length in range(len(keys), 0, -1):
        source = through.get(keys[:length])
        if source:
            full = (*source, *keys[length:])
            return f" by ${{{'.'.join(full)}}} of {origin(full)}"
    return ""


def _quoted(text: str) -> list[str]:
    return [part for index, part in enumerate(text.split("'")) if index % 2]


def _is_literal(annotation: Any) -> bool:
    return get_origin(annotation) is Literal


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _keys(problem: dict[str, Any], raw: Any) -> KeyPath:
    """Pydantic's location without the tags of unions: what the person wrote."""
    loc: tuple[int | str, ...] = problem["loc"]
    keys: list[str] = []
    current = raw
    tag = None  # pydantic puts a union's tag right behind the key that holds the union
    for position, part in enumerate(loc):
        if part == tag and not (isinstance(current, dict) and part in current):
            tag = None
            continue
        known, below = _descend(current, part)
        last = position == len(loc) - 1
        default = "mend" in problem.get("ctx", {})  # beside a key that was given
        if not known and not (last and (default or problem["type"] == "missing")):
            continue
        current = below if known else current
        tag = current.get("type") if isinstance(current, dict) else None
        keys.append(str(part))
    return tuple(keys)


def _descend(value: Any, part: int | str) -> tuple[bool, Any]:
    if isinstance(value, dict) and part in value:
        return True, value[part]
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return True, value[part]
    return False, None
