"""A base model without adapters, as a target holds it: what is trained over and shipped beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slmcompile.console.progress import Progress
from slmcompile.export.built import build_plain, sizes, write_tokenizer
from slmcompile.models.dequantised import put_into
from slmcompile.models.merge import load_merged
from slmcompile.providers.keys import Target


def quantize(
    target: Target, base: Path, over: Path | None, out: Path, scratch: Path, progress: Progress
) -> dict[str, Any]:
    """Writes into ``out`` a folder that ``onnxruntime_genai.Model`` opens.

    Args:
        target: execution provider and precision.
        base: base-model folder.
        over: an ONNX base of this one whose weights it gets, in place of the base's own.
        out: an empty folder.
        scratch: an empty folder for intermediate files; emptied afterwards.
        progress: told each step.

    Returns:
        facts for the manifest: precision, execution_provider, size_bytes, weights_bytes, and
        ``relative_error``, the Frobenius norm of what the weights have lost over their own.

    Raises:
        StageFailedError: the builder refuses, or its graph holds other weights than these (exit 1).
    """
    progress.say(f"building ONNX for {target.execution_provider} {target.precision}, base alone")
    model = load_merged(base, None, over)
    build_plain(target, model, base, out, scratch)
    write_tokenizer(target, base, out)
    lost = put_into(model, out)
    made_from = "the base's" if over is None else "those that are trained over"
    progress.say(f"its weights are {lost:.2%} off {made_from}")
    return {
        "execution_provider": target.execution_provider,
        "precision": target.precision,
        "relative_error": float(f"{lost:.6g}"),
        **sizes(out),
    }
