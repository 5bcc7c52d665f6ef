"""What the graphs of a finished folder are made of: opsets, and operators by domain.

For its manifest, so that who ships it sees what a runtime has to know. Reads no weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_PLAIN = "ai.onnx"
"""The domain that ONNX writes as nothing."""


def graphs(folder: Path) -> dict[str, Any]:
    """By file: ``opset``, version by domain; ``operators``, count by domain and type.

    Args:
        folder: of an export; one without ONNX graphs has none.
    """
    return {
        path.relative_to(folder).as_posix(): _graph(path) for path in sorted(folder.rglob("*.onnx"))
    }


def _graph(path: Path) -> dict[str, Any]:
    import onnx

    model = onnx.load(path, load_external_data=False)
    found: dict[str, Counter[str]] = {}
    for node in _nodes(model.graph):
        found.setdefault(node.domain or _PLAIN, Counter())[node.op_type] += 1
    return {
        "opset": {each.domain or _PLAIN: each.version for each in model.opset_import},
        "operators": {domain: dict(sorted(counts.items())) for domain, counts in found.items()},
    }


def _nodes(graph: Any) -> Iterable[Any]:
    """Of a graph, and of those in its nodes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for below in (attribute.g, *attribute.graphs):
                yield from _nodes(below)
