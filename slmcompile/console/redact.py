"""Keeps secrets out of what is printed and of what trackers write.

Two rules, both on values and never on keys: a string that carries the value of a secret-looking
environment variable, and a string that has the shape of a well-known credential. A commit SHA or
a content hash is neither.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

HIDDEN = "[redacted]"
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|CONNECTION_?STRING"
    r"|(?:API|ACCESS|ACCOUNT|PRIVATE|SIGNING)_?KEY)(?:_|$)",
    re.IGNORECASE,
)
# Shorter values ("1", "test") occur in harmless text too often to be hidden by value.
_SHORTEST_SECRET = 8
_SECRET_SHAPES = re.compile(
    r"hf_[A-Za-z0-9]{20,}"  # Hugging Face
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}"  # GitHub
    r"|glpat-[\w-]{20,}"  # GitLab
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}"  # AWS
    r"|xox[abprs]-[\w-]{10,}"  # Slack
    r"|(?<![A-Za-z0-9])sk-[\w-]{20,}"  # OpenAI and others; not the end of a word (task-…)
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
    r"|(?<=://)[^\s/:@]+:[^\s/@]+(?=@)"  # user:password@ in a URL
)


def secrets_of(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Values of the environment variables whose name says that they are secret, longest first."""
    found = {
        value
        for name, value in environ.items()
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_SECRET
    }
    return tuple(sorted(found, key=lambda value: (-len(value), value)))


def redact(value: Any, secrets: Sequence[str]) -> Any:
    """A copy of a JSON-like ``value`` in which no string holds a secret."""
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
        return _SECRET_SHAPES.sub(HIDDEN, value)
    if isinstance(value, Mapping):
        return {str(key): redact(inner, secrets) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(inner, secrets) for inner in value]
    return value
