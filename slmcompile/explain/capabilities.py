"""What can be built: architecture × form of the adapter × provider, by the providers' own tables.

The tables are those that check 12 asks, so that a cell without a form is what it refuses. Knows
declarations alone; what this machine can do with a target says ``targets_here``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import get_args

from slmcompile.methods.method import Form
from slmcompile.providers import PROVIDERS
from slmcompile.providers.provider import Provider

_ANY = 100
"""Families from which on a provider takes what transformers opens, and is no list of its own."""
_INTRO = """# What each target builds

Written by `slmcompile targets --markdown` from the tables that check 12 (`exportable`) asks: a
cell that is empty is refused before anything is trained, and no adapter is ever left out of an
artifact in silence.

- **merged**: the adapter becomes part of the weights, which are rounded or quantised after it.
- **nodes**: what does not merge (a bottleneck adapter) is put into the graph, in fp32.
- **inputs**: the adapter stays in fp32 beside a base that was quantised alone; several share one
  folder.
"""


def forms(provider: Provider, family: str) -> tuple[Form, ...]:
    """How an adapter of a family can ship in a provider's artifacts; none where it builds none.

    Args:
        provider: of the table.
        family: ``model_type`` of a base model.
    """
    if family not in provider.architectures:
        return ()
    found: list[Form] = ["merged"]
    if family in provider.inserts_into:
        found.append("nodes")
    if family in provider.read_back:
        found.append("inputs")
    return tuple(found)


def families() -> tuple[str, ...]:
    """``model_type`` of every family that a provider lists by itself."""
    listed = (p.architectures for p in PROVIDERS.values() if len(p.architectures) < _ANY)
    return tuple(sorted({name for each in listed for name in each}))


def matrix() -> Mapping[str, Mapping[str, tuple[Form, ...]]]:
    """Forms by provider and family."""
    return {
        provider.name: {family: forms(provider, family) for family in families()}
        for provider in PROVIDERS.values()
    }


def markdown() -> str:
    """The page of the documentation."""
    return "\n".join([_INTRO, *_precisions(), "", *_table()]) + "\n"


def _precisions() -> Iterator[str]:
    yield "| `execution_provider` | runs it | `precision` |"
    yield "|---|---|---|"
    for provider in PROVIDERS.values():
        named = get_args(provider.section.model_fields["precision"].annotation)
        yield f"| `{provider.name}` | {provider.title} | {', '.join(named)} |"


def _table() -> Iterator[str]:
    """Providers that build the same in the same form share a column."""
    columns: dict[tuple[tuple[Form, ...], ...], list[str]] = {}
    for name, built in matrix().items():
        columns.setdefault(tuple(built.values()), []).append(name)
    yield f"| `model_type` | {' | '.join(', '.join(names) for names in columns.values())} |"
    yield "|---" * (len(columns) + 1) + "|"
    for place, family in enumerate(families()):
        cells = (", ".join(column[place]) for column in columns)
        yield f"| `{family}` | {' | '.join(cells)} |"
    for provider in PROVIDERS.values():
        if len(provider.architectures) >= _ANY:
            yield ""
            yield (
                f"`{provider.name}` builds all {len(provider.architectures)} that the locked"
                " transformers opens as a causal language model, merged."
            )
