"""The program that renders chat templates, apart and with limits.

A chat template is a Jinja program that came with the model: it may loop or explode. It runs in a
process of its own with a CPU and a memory limit (``python -m slmcompile.data.chat_child``), which
reads one JSON request from standard input and writes one JSON list to standard output. Rendering
is transformers' own, so the text is what ``tokenizer.apply_chat_template`` gives.
"""

from __future__ import annotations

import json
import resource
import sys
from datetime import datetime, timezone
from typing import Any

from slmcompile.data.chat_limits import MAX_CHARACTERS, MEMORY_BYTES, cpu_seconds

CLOCK = datetime(2024, 7, 26, tzinfo=timezone.utc)
"""The date that templates see as today. Llama 3 writes the date into its system turn; a clock
would give other prompts, and other weights, every day. This is the date Llama 3 takes itself when
there is no clock."""


class _StoppedClock(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> _StoppedClock:
        return cls(CLOCK.year, CLOCK.month, CLOCK.day, tzinfo=tz)


def _limit(requests: int) -> None:
    seconds = cpu_seconds(requests)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def render(request: dict[str, Any]) -> list[dict[str, str]]:
    """Renders each conversation to ``{"text": …}`` or ``{"error": …}``."""
    from transformers.utils import chat_template_utils

    # transformers 5.23: `strftime_now` reads the module's `datetime`, and there is no option.
    chat_template_utils.datetime = _StoppedClock  # type: ignore[attr-defined]
    _limit(len(request["conversations"]))
    results: list[dict[str, str]] = []
    written = 0
    for conversation in request["conversations"]:
        try:
            rendered: Any = chat_template_utils.render_jinja_template(
                conversations=[conversation["messages"]],
                tools=conversation["tools"],
                chat_template=request["templates"][bool(conversation["tools"])],
                add_generation_prompt=conversation["open"],
                **request["variables"],
            )
            text: str = rendered[0][0]
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a template may raise anything
            results.append({"error": f"{type(error).__name__}: {error}"[:300]})
            continue
        written += len(text)
        if written > MAX_CHARACTERS:
            raise MemoryError
        results.append({"text": text})
    return results


def main() -> int:
    """Reads a request, writes the results; exit 75 when a limit was met."""
    request = json.load(sys.stdin)
    try:
        results = render(request)
        json.dump(results, sys.stdout)
    except MemoryError:
        return 75
    return 0


if __name__ == "__main__":
    sys.exit(main())
