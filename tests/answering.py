"""The ``answer`` and ``score`` stages, run by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slmcompile.console.progress import Silent
from slmcompile.stages import answer, score
from slmcompile.stages.context import Context, Result

ASKED = {
    "limit": None, "seed": 0, "labelled": False, "max_new_tokens": 4, "batch_size": 4,
    "num_threads": 1, "precision": "fp32",
}  # fmt: skip
SCORED = {
    "metrics": ["exact_match", "accuracy", "perplexity"], "task": "generation", "label": None,
    "label_steps": [], "labelled": False,
}  # fmt: skip


def _context(folder: Path, name: str, config: dict[str, Any], inputs: dict[str, Path]) -> Context:
    out = folder / "made" / name
    out.mkdir(parents=True)
    of_cpu = {"info": {"execution_provider": "cpu"}}
    manifests = {role: of_cpu for role in inputs if role == "export"}
    return Context(
        project=folder, stage=f"x/{name}", config=config, inputs=inputs, manifests=manifests,
        out=out, scratch=folder, fingerprint="", runtime={}, progress=Silent(),
    )  # fmt: skip


def answered(folder: Path, artifact: str, inputs: dict[str, Path], **changes: Any) -> Path:
    """What an artifact answers."""
    config = {"artifact": artifact, **ASKED, **changes}
    context = _context(folder, f"answer-{artifact}", config, inputs)
    answer.run(context)
    return context.out


def scored(
    folder: Path,
    data: Path,
    answers: dict[str, Path],
    beside: dict[str, Path] | None = None,
    **changes: Any,
) -> tuple[Result, Path]:
    """What those answers are worth, by artifact; and the folder. ``beside`` are other inputs."""
    inputs = {"data": data} | {f"answer-{name}": path for name, path in answers.items()}
    inputs |= beside or {}
    context = _context(folder, "score", {**SCORED, **changes}, inputs)
    return score.run(context), context.out
