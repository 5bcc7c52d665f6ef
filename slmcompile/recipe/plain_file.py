"""YAML files that are validated as they are, without Hydra: the policy, a plug-in's declaration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from slmcompile.console.errors import BadRecipeError
from slmcompile.recipe.yaml_file import YamlFile
from slmcompile.registry.section import Section

S = TypeVar("S", bound=Section)


def validated(files: Sequence[YamlFile], section: type[S]) -> S:
    """A section of the files' keys; of a key in several of them the last one's word counts.

    Raises:
        BadRecipeError: a key is unknown, missing or has a wrong value (exit 78).
    """
    values: dict[str, Any] = {}
    source: dict[str, YamlFile] = {}
    for file in files:
        values |= file.content
        source |= dict.fromkeys(file.content, file)

    def where(keys: tuple[str, ...]) -> str:
        file = source.get(keys[0]) or files[-1]
        known = (file.lines[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in file.lines)
        line = next(known, None)
        return file.shown if line is None else f"{file.shown}:{line}"

    try:
        return section.model_validate_json(json.dumps(values))
    except ValidationError as error:
        from slmcompile.recipe.validation import explained

        raise explained(error, values, where, {}, section) from error
    except (TypeError, ValueError) as error:
        shown = files[-1].shown if files else section.__name__
        raise BadRecipeError(f"{shown}: {error}", "use plain YAML values") from error
