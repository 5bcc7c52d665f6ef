"""Conversations to text by the tokenizer's chat template, in a child process with limits."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmcompile.data.chat_limits import cpu_seconds
from slmcompile.data.tokenizer import Tokenizer
from slmcompile.errors import BadRecipeError, RefusedError, SlmcompileError
from slmcompile.process import python_module

Message = dict[str, str]

VARIABLES: dict[str, Any] = {"enable_thinking": False}
"""Template variables beside the messages. Reasoning families (Qwen 3, SmolLM 3) then write the
empty think block into the prompt, so that the trained answer is the answer alone."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages, and whether the text ends with the generation prompt of an answer to come."""

    messages: Sequence[Message]
    open: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """A rendered text, or why the template refused the conversation."""

    text: str = ""
    error: str = ""


def render_all(tokenizer: Tokenizer, conversations: Sequence[Conversation]) -> list[Outcome]:
    """Renders conversations by the tokenizer's chat template.

    Raises:
        BadRecipeError: the tokenizer has no chat template (exit 78).
        RefusedError: the template used up its CPU time or memory (exit 77).
    """
    if not isinstance(tokenizer.chat_template, str) or not tokenizer.chat_template:
        raise BadRecipeError(
            "data.template: the tokenizer has no chat template",
            "use data.template.type=text, or an instruct model",
        )
    request = {
        "template": tokenizer.chat_template,
        "variables": _special_tokens(tokenizer) | VARIABLES,
        "conversations": [
            {"messages": list(each.messages), "open": each.open} for each in conversations
        ],
    }
    return [Outcome(**result) for result in _ask_child(json.dumps(request), len(conversations))]


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
