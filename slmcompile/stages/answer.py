"""``answer``: one artifact answers the test prompts, as it ships, and nothing is judged.

The torch model, every export and the baselines go through this one program: the same prompts, the
same greedy decoding. What the answers are worth is ``score``'s, so that another metric asks nobody
again.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slmcompile.data.sample import sample
from slmcompile.data.store import Row, open_split
from slmcompile.files.artifact import write_json, write_text
from slmcompile.inference.answers import Decode, ask, decoder, lines
from slmcompile.inference.protocol import LanguageModel
from slmcompile.machine.device import cpu_name
from slmcompile.machine.process import thread_count
from slmcompile.plans.artifacts import BASELINES, LINEAR
from slmcompile.plans.kinds.quantize import OVER
from slmcompile.scoring.baselines import answers_of_labels, predict_baselines
from slmcompile.stages.context import Context, Result
from slmcompile.stages.lineage import require_trained_over
from slmcompile.training.outputs import trained_weights

SPEED_TOKENS = 32
"""Tokens decoded, one prompt at a time, to measure speed."""

ANSWERS = "answers.jsonl"
MEASURED = "measured.json"

LEFT_OUT = "left_out"
"""Key under which it stands why a candidate was not built."""


def run(context: Context) -> Result:
    """Writes what ``config["artifact"]`` answers to the test split, or to ``limit`` rows of it.

    A ``measure`` stage asks the validation split, and of a candidate that was left out nothing.
    """
    config = context.config
    if (reason := left_out(context.manifests.get("export", {}))) is not None:
        write_text(context.out / ANSWERS, "")
        write_json(context.out / MEASURED, {"format_version": "1.0", LEFT_OUT: reason})
        return Result()
    every = open_split(context.inputs["data"], config.get("split", "test"))
    rows = sample(every, config["limit"], config["seed"], labelled=config["labelled"])
    measured: dict[str, Any] = {}
    if config["artifact"] == BASELINES:
        answers = _baselines(context, rows)
    else:
        answers, measured = _model(context, rows)
    written = [json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers]
    write_text(context.out / ANSWERS, "".join(written))
    write_json(context.out / MEASURED, {"format_version": "1.0", **measured})
    return Result()


def left_out(manifest: Mapping[str, Any]) -> str | None:
    """Why a candidate was not built, by its manifest; None of one that was, and of any export."""
    reason: str | None = manifest.get("info", {}).get(LEFT_OUT)
    return reason


def _model(context: Context, rows: Sequence[Row]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Answers with the log-likelihood of each row's reference, and how the model ran.

    Plain text asks nothing, and what is there against forgetting is not judged by answers: of such
    rows there is the likelihood alone.
    """
    config = context.config
    threads = thread_count(config["num_threads"])
    model, decode, size = _load(context, threads)
    asked = [row for row in rows if row.asked]
    context.progress.begin("sentence", len(asked))
    answers = ask(
        model,
        asked,
        decode,
        config["max_new_tokens"],
        config["batch_size"],
        context.progress.step,
    )
    context.progress.end()
    told = lines(rows, answers, model.log_likelihood(rows))
    found = [{"artifact": config["artifact"], **line} for line in told]
    if not config.get("timed", True):
        return found, {"size_bytes": size}
    timed = (asked or rows)[0]
    ran = getattr(model, "ran", "verified")
    if ran != "verified":
        # Speed and memory of another processor would say nothing of the one it is for.
        return found, {"size_bytes": size, "ran": ran}
    measured = {
        "tokens_per_second": model.decode_speed(timed.prompt_ids, SPEED_TOKENS),
        "peak_memory_bytes": _peak_memory(),
        "size_bytes": size,
        "machine": f"{cpu_name()}, {threads} thread{'' if threads == 1 else 's'}",
    }
    return found, measured


def _load(context: Context, threads: int) -> tuple[LanguageModel, Decode, int]:
    """The model, its own decoder, and its size on disk in bytes."""
    config, inputs = context.config, context.inputs
    if "export" in inputs:
        from slmcompile.inference.exported import open_exported, provider_of
        from slmcompile.inference.onnx_adapters import chosen

        folder = inputs["export"]
        provider = provider_of(context.manifests["export"], folder)
        adapter = chosen(folder, config.get("adapter", ""))
        exported = open_exported(provider, folder, threads, adapter=adapter)
        return exported, exported.decode, _size(folder)
    from slmcompile.inference import torch_model
    from slmcompile.models.merge import is_adapter

    base = inputs["base"]
    trained = None
    if "train" in inputs:
        require_trained_over(context)
        trained = trained_weights(inputs["train"])
    model = torch_model.load(base, trained, threads, config["precision"], inputs.get(OVER))
    beside = [base, inputs.get(OVER)] if trained is None or is_adapter(trained) else []
    return model, decoder(base), sum(_size(part) for part in [*beside, trained] if part)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _baselines(context: Context, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Both answer in full, but TF-IDF names a label alone where that is not the whole answer."""
    train = open_split(context.inputs["data"], "train").asked()
    rows = [row for row in rows if row.asked]
    whole = answers_of_labels(train)
    found: list[dict[str, Any]] = []
    for name, texts in predict_baselines(train, rows).items():
        key: str = "text"
        answers: Iterable[str] = texts
        if name == LINEAR and whole is None:
            key = "label"
        elif name == LINEAR and whole is not None:
            answers = [whole[label] for label in texts]
        found += _lines(name, key, rows, answers)
    return found


def _lines(
    artifact: str, key: str, rows: Sequence[Row], answers: Iterable[str]
) -> list[dict[str, Any]]:
    pairs = zip(rows, answers, strict=True)
    return [{"artifact": artifact, "id": row.id, key: answer} for row, answer in pairs]


def _peak_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
