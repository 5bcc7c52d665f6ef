"""``evaluate``: one artifact answers the test prompts and is measured, as it ships.

The torch model, every export and the baselines go through this one program: the same prompts, the
same greedy decoding, the same metrics.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slmcompile.artifact import write_json, write_text
from slmcompile.data.store import Row, read_split
from slmcompile.inference.protocol import LanguageModel
from slmcompile.metrics.baselines import LINEAR, predict_baselines
from slmcompile.metrics.normal_label import normal_answer
from slmcompile.metrics.perplexity import perplexity
from slmcompile.metrics.score import is_correct, score, score_labels
from slmcompile.process import thread_count
from slmcompile.stages.context import Context, Result
from slmcompile.stages.trained import trained_weights

SPEED_TOKENS = 64
"""Tokens decoded, one prompt at a time, to measure speed."""


def run(context: Context) -> Result:
    """Measures ``config["artifact"]`` on the test split."""
    rows = read_split(context.inputs["data"], "test")[: context.config["limit"]]
    artifact = str(context.config["artifact"])
    if artifact == "baselines":
        measured, predictions = _baselines(context, rows)
    else:
        values, answers = _model(context, rows)
        measured, predictions = {artifact: values}, {artifact: answers}
    metrics = {"format_version": "1.0", "artifacts": measured}
    write_json(context.out / "metrics.json", metrics)
    write_text(context.out / "predictions.jsonl", _lines(context, rows, predictions))
    return Result(metrics=metrics)


def _model(context: Context, rows: Sequence[Row]) -> tuple[dict[str, Any], list[str]]:
    config = context.config
    model, decode, size = _load(context)
    context.progress.begin("sentence", len(rows))
    answers = model.generate(
        [row.prompt_ids for row in rows],
        config["max_new_tokens"],
        config["batch_size"],
        context.progress.step,
    )
    context.progress.end()
    texts = [decode(ids) for ids in answers]
    values = _score(context, rows, texts)
    if "perplexity" in config["metrics"]:
        values["perplexity"] = perplexity(*model.log_likelihood(rows))
    values["tokens_per_second"] = model.decode_speed(rows[0].prompt_ids, SPEED_TOKENS)
    values["peak_memory_bytes"] = _peak_memory()
    values["size_bytes"] = size
    return values, texts


def _load(context: Context) -> tuple[LanguageModel, Callable[[list[int]], str], int]:
    """The model, its own decoder, and its size on disk in bytes."""
    config, inputs = context.config, context.inputs
    threads = thread_count(config["num_threads"])
    if "export" in inputs:
        from slmcompile.inference import onnx_model

        exported = onnx_model.load(inputs["export"], threads=threads)
        return exported, exported.decode, _size(inputs["export"])
    from slmcompile.data.tokenizer import load_tokenizer
    from slmcompile.export.merge import is_adapter
    from slmcompile.inference import torch_model

    base = inputs["base"]
    trained = trained_weights(inputs["train"]) if "train" in inputs else None
    model = torch_model.load(base, trained, threads, config["precision"])
    tokenizer = load_tokenizer(base)

    def decode(ids: list[int]) -> str:
        return str(
            tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )

    parts = [base] if trained is None or is_adapter(trained) else []
    return model, decode, sum(_size(part) for part in [*parts, trained] if part)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _baselines(
    context: Context, rows: Sequence[Row]
) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    """Nearest neighbour answers whole; TF-IDF names a label alone and is measured by labels."""
    train = read_split(context.inputs["data"], "train")
    predictions = predict_baselines(train, rows)
    measured: dict[str, dict[str, Any]] = {}
    for name, texts in predictions.items():
        if name == LINEAR:
            labels = [row.label for row in rows]
            scores = score_labels(texts, labels, _wanted(context))
            measured[name] = {"rows": len(rows), **scores}
        else:
            measured[name] = _score(context, rows, texts)
    return measured, predictions


def _score(context: Context, rows: Sequence[Row], texts: Sequence[str]) -> dict[str, Any]:
    config, references = context.config, [row.completion for row in rows]
    answers = [_compared(context, text) for text in texts]
    scores = score(config["task"], config["label"], answers, references, _wanted(context))
    return {"rows": len(rows), **scores}


def _compared(context: Context, text: str) -> str:
    """An answer with its label written as the references are."""
    config = context.config
    return normal_answer(text, config["label"], config["label_steps"])


def _wanted(context: Context) -> list[str]:
    """Metrics of answers; perplexity is one of models."""
    return [name for name in context.config["metrics"] if name != "perplexity"]


def _lines(context: Context, rows: Sequence[Row], predictions: Mapping[str, Sequence[str]]) -> str:
    lines: list[str] = []
    for artifact, texts in predictions.items():
        for row, text in zip(rows, texts, strict=True):
            if artifact == LINEAR:
                correct = text == row.label
            else:
                correct = is_correct(
                    context.config["task"], _compared(context, text), row.completion
                )
            record = {
                "artifact": artifact,
                "id": row.id,
                "prompt": row.prompt,
                "reference": row.completion,
                "prediction": text,
                "correct": correct,
            }
            lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    return "".join(lines)


def _peak_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
