"""Values → YAML that reads back as the same values by the rules of ``yaml_file``.

PyYAML's own dumper leaves ``1e3`` as text without quotes, which Hydra's rules read as a number.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader


def dump_yaml(value: Any) -> str:
    """``value`` (dicts, lists, scalars) as YAML text, keys in their order."""
    return str(
        yaml.dump(value, Dumper=_dumper(), sort_keys=False, allow_unicode=True, width=1 << 20)
    )


@cache
def _dumper() -> type[yaml.SafeDumper]:
    class Dumper(yaml.SafeDumper):
        """Quotes what the loader would not read as text; repeats values instead of anchors."""

        yaml_implicit_resolvers = get_yaml_loader().yaml_implicit_resolvers

        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
            return True

    return Dumper


def as_written(value: Any) -> str:
    """A value on one line as a person wrote it in YAML, or nearly; for messages."""
    return repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
