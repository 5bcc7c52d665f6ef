"""Conversations to text by the tokenizer's chat template, in a child process with limits."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmcompile.console.errors import BadRecipeError, RefusedError, SlmcompileError
from slmcompile.data.chat_limits import ASKED_CHARACTERS, ASKED_REQUESTS, cpu_seconds
from slmcompile.data.control_tokens import strings
from slmcompile.data.tokenizer import Tokenizer
from slmcompile.machine.process import python_module

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """Messages, and whether the text ends with the generation prompt of an answer to come."""

    messages: Sequence[Message]
    open: bool
    tools: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A rendered text, or why the template refused the conversation."""

    text: str = ""
    error: str = ""


def template_text(tokenizer: Tokenizer, *, tools: bool) -> str:
    """The chat template for a conversation with or without tools, as transformers chooses it.

    Raises:
        BadRecipeError: the tokenizer has none for it (exit 78).
    """
    found = tokenizer.chat_template
    if isinstance(found, Mapping):
        named = {str(name): text for name, text in found.items() if isinstance(text, str) and text}
        if tools and "tool_use" in named:
            return named["tool_use"]
        if "default" in named:
            return named["default"]
        raise BadRecipeError(
            f"data.template: none of the tokenizer's chat templates ({', '.join(sorted(named))})"
            " is its default",
            "name one `default` in the model's tokenizer_config.json, or use type=text",
        )
    if not isinstance(found, str) or not found:
        raise BadRecipeError(
            "data.template: the tokenizer has no chat template",
            "use data.template.type=text, or an instruct model",
        )
    return found


def render_all(
    tokenizer: Tokenizer, requests: Sequence[Request], *, thinking: bool = False
) -> list[Outcome]:
    """Renders conversations by the tokenizer's chat template, some at a time.

    Each process has the limits of ``chat_limits`` for its own share, so that a large data set is no
    reason to refuse it.

    Args:
        tokenizer: whose template is used; ``tool_use`` where it has one and a request has tools.
        requests: what to render.
        thinking: the template's ``enable_thinking``. Without it reasoning families (Qwen 3,
            SmolLM 3) write an empty think block into the prompt, so that the trained answer is the
            answer alone.

    Raises:
        BadRecipeError: the tokenizer has no chat template (exit 78).
        RefusedError: the template used up its CPU time, memory or text (exit 77).
    """
    asked = {bool(each.tools) for each in requests} or {False}
    templates = {tools: template_text(tokenizer, tools=tools) for tools in asked}
    request = {
        "templates": [templates.get(False), templates.get(True)],
        "variables": _special_tokens(tokenizer) | {"enable_thinking": thinking},
    }
    outcomes: list[Outcome] = []
    for share in _shares(requests):
        conversations = [
            {"messages": list(each.messages), "open": each.open, "tools": each.tools or None}
            for each in share
        ]
        results = _ask_child(json.dumps(request | {"conversations": conversations}), len(share))
        outcomes += [Outcome(**result) for result in results]
    return outcomes


def _shares(requests: Sequence[Request]) -> Iterator[Sequence[Request]]:
    """The requests in order, as many together as one process is asked for."""
    start = characters = 0
    for number, each in enumerate(requests):
        longer = sum(map(len, strings([each.messages, each.tools or ()])))
        over = characters + longer > ASKED_CHARACTERS or number - start == ASKED_REQUESTS
        if over and number > start:
            yield requests[start:number]
            start, characters = number, 0
        characters += longer
    if start < len(requests):
        yield requests[start:]


def _special_tokens(tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        name: str(token)
        for name, token in tokenizer.special_tokens_map.items()
        if not isinstance(token, (list, dict))
    }


def _ask_child(request: str, rows: int) -> list[dict[str, str]]:
    package_root = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(
            filter(None, [package_root, os.environ.get("PYTHONPATH", "")])
        ),
        "OPENBLAS_NUM_THREADS": "1",  # its buffers for many threads would use up the address space
    }
    seconds = cpu_seconds(rows)
    try:
        done = subprocess.run(
            python_module("slmcompile.data.chat_child"),
            input=request,
            capture_output=True,
            encoding="utf-8",
            env=environment,
            timeout=20 * seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _over_limit(seconds) from error
    if done.returncode < 0 or done.returncode == os.EX_TEMPFAIL:
        raise _over_limit(seconds)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SlmcompileError(f"the chat template could not be rendered: {last}")
    results: list[dict[str, str]] = json.loads(done.stdout)
    return results


def _over_limit(seconds: int) -> RefusedError:
    return RefusedError(
        f"the model's chat template needs more than {seconds} CPU seconds or too much memory",
        "use data.template.type=text, or another model",
    )
