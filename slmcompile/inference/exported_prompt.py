"""What an exported folder's ``prompt.json`` says to the runtime that opens it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from slmcompile.console.errors import CorruptError
from slmcompile.data.control_tokens import ControlTokens


@dataclass(frozen=True)
class ExportedPrompt:
    """How a prompt begins, and which of its texts are control tokens.

    Attributes:
        prefix: ids before the prompt's own, which the runtimes' tokenizers do not put there.
        controls: texts of a prompt that are control tokens.
    """

    prefix: tuple[int, ...]
    controls: ControlTokens

    @cached_property
    def control_texts(self) -> dict[int, str]:
        """Texts of control tokens by id."""
        return {token: text for text, token in self.controls.ids.items()}

    def behind_prefix(self, ids: Sequence[int]) -> list[int]:
        """A prompt's ids behind the prefix, unless they begin with it already."""
        prefix = list(self.prefix)
        return list(ids) if list(ids[: len(prefix)]) == prefix else [*prefix, *ids]


def read_prompt(path: Path) -> ExportedPrompt:
    """What the file says; of no file neither prefix nor control tokens.

    Raises:
        CorruptError: it cannot be read (exit 74).
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        prefix = tuple(map(int, found.get("prefix_ids", ())))
        controls = {str(t): int(token) for t, token in found.get("control_tokens", {}).items()}
    except FileNotFoundError:
        return ExportedPrompt((), ControlTokens({}))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CorruptError(f"{path}: unreadable ({error})", "export it again") from error
    return ExportedPrompt(prefix, ControlTokens(controls))
