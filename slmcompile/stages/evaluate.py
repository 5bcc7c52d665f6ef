"""``evaluate``: one artifact answers the test prompts and is measured, as it ships.

The torch model, every export and the baselines go through this one program: the same prompts, the
same greedy decoding, the same metrics.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmcompile.data.labels import label_of
from slmcompile.data.normal_label import normal_answer
from slmcompile.data.sample import sample
from slmcompile.data.store import Row, read_split
from slmcompile.files.artifact import write_json, write_text
from slmcompile.inference.protocol import LanguageModel
from slmcompile.machine.process import thread_count
from slmcompile.metrics.metric import Metric, Needs
from slmcompile.plans.artifacts import LINEAR
from slmcompile.scoring.baselines import answers_of_labels, predict_baselines
from slmcompile.scoring.exact_match import is_correct
from slmcompile.scoring.score import OF_ANSWERS, OF_LABELS, score, wanted_metrics
from slmcompile.stages.context import Context, Result
from slmcompile.training.outputs import trained_weights

SPEED_TOKENS = 64
"""Tokens decoded, one prompt at a time, to measure speed."""

OF_THE_MACHINE = frozenset({"tokens_per_second", "peak_memory_bytes", "size_bytes"})
"""Measurements of a runtime; they stay in the output folder."""


def run(context: Context) -> Result:
    """Measures ``config["artifact"]`` on the test split, or on ``limit`` rows of it."""
    config = context.config
    test = read_split(context.inputs["data"], "test")
    rows = sample(test, config["limit"], config["seed"], labelled=config["labelled"])
    measured = _baselines(context, rows) if _of_baselines(context) else _model(context, rows)
    over = {"rows": len(rows), "test_rows": len(test)}
    if config["labelled"]:
        over |= {
            f"{of}labels": len({row.label for row in part})
            for of, part in (("", rows), ("test_", test))
        }
    beside = {
        **over,
        "turns": sum(row.trained_turns for row in rows),
        "references": len({row.completion for row in rows}),
    }
    artifacts = {name: {**beside, **found.metrics} for name, found in measured.items()}
    write_json(context.out / "metrics.json", {"format_version": "1.1", "artifacts": artifacts})
    lines = [
        json.dumps({"artifact": name, **record}, ensure_ascii=False) + "\n"
        for name, found in measured.items()
        for record in found.records
    ]
    write_text(context.out / "predictions.jsonl", "".join(lines))
    scores = {name: _comparable(found.metrics) for name, found in measured.items()}
    flat = scores if _of_baselines(context) else scores[config["artifact"]]
    return Result(metrics={"format_version": "2.0", **over, **flat})


@dataclass(frozen=True)
class _Measured:
    """One artifact's metrics, and what it answered to each row."""

    metrics: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]


def _of_baselines(context: Context) -> bool:
    return bool(context.config["artifact"] == "baselines")


def _comparable(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What compares between revisions: no interval, and nothing of the machine or the moment."""
    return {
        name: value
        for name, value in metrics.items()
        if not name.endswith("_ci") and name not in OF_THE_MACHINE
    }


def _model(context: Context, rows: Sequence[Row]) -> dict[str, _Measured]:
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
    records = [
        _record(context, row, decode(answer.ids)) | {"cut_off": answer.cut_off}
        for row, answer in zip(rows, answers, strict=True)
    ]
    wanted = _wanted(context)
    known: tuple[Needs, ...] = (*OF_ANSWERS, "ending")
    if any(metric.needs == "likelihood" for metric in wanted):
        known += ("likelihood",)
        scored = model.log_likelihood(rows)
        for record, (log_likelihood, tokens) in zip(records, scored, strict=True):
            record |= {"log_likelihood": log_likelihood, "tokens": tokens}
    values: dict[str, Any] = {**score(records, wanted, known)}
    values["tokens_per_second"] = model.decode_speed(rows[0].prompt_ids, SPEED_TOKENS)
    values["peak_memory_bytes"] = _peak_memory()
    values["size_bytes"] = size
    return {str(config["artifact"]): _Measured(values, records)}


def _load(context: Context) -> tuple[LanguageModel, Callable[[list[int]], str], int]:
    """The model, its own decoder, and its size on disk in bytes."""
    config, inputs = context.config, context.inputs
    threads = thread_count(config["num_threads"])
    if "export" in inputs:
        from slmcompile.inference import onnx_model

        exported = onnx_model.load(inputs["export"], threads=threads)
        return exported, exported.decode, _size(inputs["export"])
    from slmcompile.data.tokenizer import load_tokenizer
    from slmcompile.inference import torch_model
    from slmcompile.models.merge import is_adapter

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


def _baselines(context: Context, rows: Sequence[Row]) -> dict[str, _Measured]:
    """Both are measured whole, but for TF-IDF where a label is not the whole answer."""
    train = read_split(context.inputs["data"], "train")
    whole = answers_of_labels(train)
    found: dict[str, _Measured] = {}
    for name, texts in predict_baselines(train, rows).items():
        if name == LINEAR and whole is None:
            records = [_label_record(row, label) for row, label in zip(rows, texts, strict=True)]
            found[name] = _Measured(score(records, _wanted(context), OF_LABELS), records)
            continue
        answers = [whole[label] for label in texts] if name == LINEAR and whole else texts
        records = [_record(context, row, text) for row, text in zip(rows, answers, strict=True)]
        found[name] = _Measured(score(records, _wanted(context)), records)
    return found


def _record(context: Context, row: Row, text: str) -> dict[str, Any]:
    """One answer beside its reference. ``compared`` is the answer with its label normalised."""
    config = context.config
    compared = normal_answer(text, config["label"], config["label_steps"])
    return {
        "id": row.id,
        "prompt": row.prompt,
        "reference": row.completion,
        "prediction": text,
        "compared": compared,
        "correct": is_correct(config["task"], compared, row.completion),
        "label": row.label,
        "predicted_label": label_of(compared, config["label"]),
    }


def _label_record(row: Row, label: str) -> dict[str, Any]:
    """One answer that is a label alone."""
    return {
        "id": row.id,
        "prompt": row.prompt,
        "reference": row.completion,
        "prediction": label,
        "compared": label,
        "correct": label == row.label,
        "label": row.label,
        "predicted_label": label,
    }


def _wanted(context: Context) -> list[Metric]:
    return wanted_metrics(context.config["metrics"], context.config["task"])


def _peak_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
