"""Compiles the graphs of a folder and asks the simulator; a process of its own, started in it.

What the vendor's compiler writes depends on what its process has done before, and on the path that
a graph is opened by: so both are the same every time.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slmcompile.inference.qnn_runtime import PROVIDER, on_qnn
from slmcompile.machine.process import signal_on_parent_death
from slmcompile.providers.qnn import GRAPHS, ROUNDED


def main(asked: str, answer: str) -> int:
    """Reads a request, compiles what lies in the current folder, writes what it found."""
    import signal

    signal_on_parent_death(signal.SIGKILL)
    request = json.loads(Path(asked).read_text(encoding="utf-8"))
    nodes = {name: _compile(name, request["htp_arch"]) for name in GRAPHS}
    whole = all(set(by_provider) == {PROVIDER} for by_provider in nodes.values())
    simulated = _simulated(request["rows"]) if whole else None
    found = {"sdk": _sdk(), "nodes": nodes, "simulator": simulated}
    Path(answer).write_text(json.dumps(found), encoding="utf-8")
    return 0


def _compile(name: str, arch: int) -> dict[str, dict[str, int]]:
    """Writes ``NAME.onnx`` and ``NAME_qnn.bin``; nodes by the provider that takes them."""
    session = on_qnn(
        f"{ROUNDED}/{name}.onnx",
        arch,
        {
            "ep.context_enable": "1",
            "ep.context_embed_mode": "0",
            "ep.context_file_path": f"{name}.onnx",
            "session.record_ep_graph_assignment_info": "1",
        },
        threads=1,
    )
    found: dict[str, Counter[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        counts = found.setdefault(part.ep_name, Counter())
        counts.update(node.op_type for node in part.get_nodes())
    return {provider: dict(sorted(counts.items())) for provider, counts in sorted(found.items())}


def _sdk() -> str:
    """The version of the vendor's compiler, which it writes into what it makes."""
    import onnx

    compiled = onnx.load(f"{GRAPHS[0]}.onnx", load_external_data=False).graph.node
    told = {each.name: each.s for node in compiled for each in node.attribute}
    return str(told.get("ep_sdk_version", b"").decode())


def _simulated(rows: Sequence[Sequence[int]]) -> dict[str, Any] | None:
    """What was compiled against what it was compiled from: the next tokens of these rows.

    Of each row the last token is read by the graph that reads one, so that both are held.
    """
    if not rows:
        return None
    import numpy as np

    from slmcompile.inference.qnn_graphs import open_graphs

    ours = open_graphs(Path(), 1, answered_by="simulator")
    theirs = open_graphs(Path(), 1, answered_by="cpu")
    agreed = positions = 0
    divergence = 0.0
    for ids in rows:
        p = _log_softmax(theirs.logits_of_both(ids))
        q = _log_softmax(ours.logits_of_both(ids))
        divergence += float((np.exp(p) * (p - q)).sum())
        agreed += int((p.argmax(-1) == q.argmax(-1)).sum())
        positions += len(ids)
    return {
        "rows": len(rows),
        "tokens": positions,
        "top1_agreement": _rounded(agreed / positions),
        "mean_kl": _rounded(max(divergence, 0.0) / positions),
    }


def _log_softmax(logits: Any) -> Any:
    import numpy as np

    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
