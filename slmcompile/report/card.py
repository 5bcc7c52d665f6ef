"""The model card of one exported artifact, with the metadata header of the Hugging Face hub.

The header follows https://huggingface.co/docs/hub/model-cards: ``license``, ``base_model``,
``pipeline_tag``, ``library_name``, ``tags`` and measured results as ``model-index``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from slmcompile.data.asked import example, written
from slmcompile.metrics import METRICS
from slmcompile.providers import PROVIDERS
from slmcompile.providers.provider import Shown
from slmcompile.registry.table import program
from slmcompile.report.facts import Artifact, ReportFacts, measured_on
from slmcompile.report.findings import (
    baseline_sentences,
    beside_sentence,
    cut_off_sentence,
    export_sentence,
    rounding_sentence,
    same_reference_sentence,
)
from slmcompile.report.frontier import chosen_keys
from slmcompile.report.inert import block, code, prose
from slmcompile.report.markdown import artifact_rows, grid
from slmcompile.report.method import fine_tuned, licence, made_one, trained_by
from slmcompile.report.shown_data import shown_data
from slmcompile.report.snippets import Ask, Snippet
from slmcompile.report.text import count, is_number, number, scientific, visible

_REPOSITORY = re.compile(r"^[\w.-]+/[\w.-]+$")
_FLOATS = {"fp32", "bf16", "fp16", "f16"}
_LICENSE = re.compile(r"^[a-z0-9][a-z0-9.-]*$")


def card(facts: ReportFacts, export: Artifact) -> str:
    """``README.md`` of one export: what it is, how to run it, how good it is, what it is not."""
    title = f"# {prose(facts.title)}, {prose(export.name)}"
    parts = [
        _header(facts, export),
        title,
        _about(facts, export),
        _usage(facts, export),
        _figures(facts, export),
        _data(facts),
        _limits(facts, export),
        _hashes(facts, export),
    ]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _target(facts: ReportFacts, export: Artifact) -> Mapping[str, Any]:
    return chosen_keys(facts, export.name)


def _provider(target: Mapping[str, Any]) -> str:
    name = str(target.get("execution_provider", ""))
    return PROVIDERS[name].title if name in PROVIDERS else name


def _shown(facts: ReportFacts, export: Artifact) -> Shown:
    """What its runtime says of itself; onnxruntime-genai's of a provider that is gone."""
    name = str(_target(facts, export).get("execution_provider", ""))
    return PROVIDERS[name if name in PROVIDERS else "cpu"].shown


def _header(facts: ReportFacts, export: Artifact) -> str:
    target, train = _target(facts, export), facts.recipe.get("train", {})
    precision = str(target.get("precision", ""))
    header: dict[str, Any] = dict(_license(facts.model_license))
    base = _base_repository(facts)
    if base:
        header["base_model"] = base
        header["base_model_relation"] = "finetune" if precision in _FLOATS else "quantized"
    shown = _shown(facts, export)
    provider = target.get("execution_provider")
    named = [*shown.tags, facts.task, train.get("method"), precision, provider]
    header |= {
        "pipeline_tag": "text-generation",
        "library_name": shown.library,
        "tags": list(dict.fromkeys(tag for tag in named if tag)),
        "model-index": [{"name": visible(facts.title), "results": [_results(facts, export)]}],
    }
    text = yaml.safe_dump(header, sort_keys=False, allow_unicode=False, width=96)
    return f"---\n{text}---"


def _license(name: str) -> dict[str, str]:
    lowered = name.lower()
    if lowered == "unknown":
        return {"license": "unknown"}
    if _LICENSE.match(lowered):
        return {"license": lowered}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", lowered).strip("-")}


def _base_repository(facts: ReportFacts) -> str | None:
    source = facts.recipe.get("model", {}).get("source", {})
    candidate = source.get("repo_id") or facts.model_name
    return candidate if _REPOSITORY.match(candidate) else None


def _results(facts: ReportFacts, export: Artifact) -> dict[str, Any]:
    metrics = [
        {"type": key, "name": metric.title, "value": round(value, 4)}
        for key, metric in METRICS.items()
        if (value := export.metric(key)) is not None
    ]
    return {
        "task": {"type": "text-generation"},
        "dataset": {"name": visible(facts.data_name), "type": visible(facts.name), "split": "test"},
        "metrics": metrics,
    }


def _about(facts: ReportFacts, export: Artifact) -> str:
    target = _target(facts, export)
    provider = _provider(target)
    form = " ".join(part for part in (provider, str(target.get("precision", ""))) if part)
    detail = f" ({prose(form)})" if form else ""
    train = facts.recipe.get("train", {})
    became = made_one(train, export.name, target)
    sentence = (
        f"{prose(facts.model_name)} {prose(fine_tuned(train))} on {prose(facts.data_name)} for "
        f"{prose(facts.task)}, {became}{_shown(facts, export).form}{detail}."
    )
    told = (prose(facts.description), sentence, prose(trained_by(facts.trained_by)))
    return "\n\n".join(filter(None, told))


def _usage(facts: ReportFacts, export: Artifact) -> str:
    """How it is asked: by the command where a person can type values, and by its own runtime."""
    rows = sorted(facts.predictions.get(export.name, ()), key=lambda row: not row.correct)
    typed = facts.prompt.get("text") is not None
    found = example(facts.prompt, [row.prompt for row in rows]) if typed else None
    values = found[1] if found else dict.fromkeys(facts.prompt.get("columns", ["text"]), "hello")
    whole = rows[0].prompt if rows else ""
    parts = ["## How to run it"]
    if typed:
        whose = f" --adapter {facts.member}" if facts.member else ""
        asked = f"{facts.name}{whose} --target {export.name}"
        command = f"slmcompile generate {asked} {written(values)}"
        parts.append(block(command, "sh"))
    snippet = _snippet(facts, export, values if typed else None, whole)
    parts += [snippet.lead, block(snippet.text, snippet.language)]
    if found or (rows and not typed):
        parts.append(f"It answers {code(rows[found[0] if found else 0].prediction)}.")
    controls = facts.prompt.get("control_tokens", {})
    if typed and controls and not snippet.keeps_text:
        token = code(next(iter(controls)))
        parts.append(
            f"A value that spells a control token of the model (such as {token}) is read as one "
            "here; `slmcompile generate` keeps it text."
        )
    return "\n\n".join(part.strip("\n") for part in parts)


def _snippet(
    facts: ReportFacts, export: Artifact, values: Mapping[str, str] | None, whole: str
) -> Snippet:
    """How it is run by its own runtime; ``values`` as in ``Ask``."""
    write: Callable[[Ask], Snippet] = program(_shown(facts, export).usage)
    return write(
        Ask(
            prompt=facts.prompt,
            values=values,
            whole=whole,
            folder=export.path or export.name,
            adapter=export.adapter or "",
            name=facts.member or ("adapter" if export.adapter else facts.name),
            longest=facts.recipe.get("eval", {}).get("max_new_tokens", 256),
        )
    )


def _figures(facts: ReportFacts, export: Artifact) -> str:
    compared = [export, *facts.of_kind("tuned", "base", "baseline")]
    rows = measured_on(export) or "held-out rows"
    lead = f"Measured on this export as it ships, on {rows}; the others are for comparison."
    return f"## How good it is\n\n{lead}\n\n{artifact_rows(facts, compared)}"


def _data(facts: ReportFacts) -> str:
    data = shown_data(facts.data_report)
    rows = ", ".join(f"{prose(split)} {count(n)}" for split, n in data.rows.items())
    counted = f" Rows: {rows}." if rows else ""
    return f"## Data\n\n{prose(facts.data_name)}, {prose(licence(facts.data_license))}.{counted}"


def _limits(facts: ReportFacts, export: Artifact) -> str:
    sentences = [
        cut_off_sentence(facts, export),
        same_reference_sentence(facts),
        *baseline_sentences(facts),
        export_sentence(facts, export),
        rounding_sentence(facts),
        beside_sentence(facts, export),
    ]
    limits = [prose(sentence) for sentence in sentences if sentence]
    if export.ran == "emulated":
        provider = PROVIDERS[_target(facts, export)["execution_provider"]]
        limits.insert(
            0,
            f"Emulated: its answers were measured by the CPU provider on this very graph, not on"
            f" {prose(provider.title)}; speed and memory there are not known. It runs there by"
            f" {prose(provider.install)}.",
        )
    if export.ran == "simulated":
        provider = PROVIDERS[_target(facts, export)["execution_provider"]]
        limits.insert(
            0,
            f"Simulated: its answers were measured by the vendor's simulator of"
            f" {prose(provider.title)} on what was compiled for it; speed and memory there are not"
            " known.",
        )
    if export.ran == "generated":
        provider = PROVIDERS[_target(facts, export)["execution_provider"]]
        limits.insert(
            0,
            f"Generated: its answers were measured by the CPU provider on these weights in"
            f" fp32, not in bfloat16 on {prose(provider.title)}; rounding, speed and memory there"
            f" are not known. It runs there by {prose(provider.install)}.",
        )
    length = facts.recipe.get("data", {}).get("max_length")
    if length:
        limits.append(f"Trained on rows of at most {count(length)} tokens.")
    exact = export.metric("exact_match")
    if exact is not None:
        low, high = export.interval("exact_match") or (exact, exact)
        bounds = f" (95 %: {1 - high:.1%} to {1 - low:.1%})" if low < high else ""
        limits.append(f"{1 - exact:.1%} of held-out answers are not exactly right{bounds}.")
    limits.append("Measured on data like its training data; elsewhere it may do worse.")
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _hashes(facts: ReportFacts, export: Artifact) -> str:
    rows = (
        [["SHA-256 of the manifest", code(visible(facts.hashes[export.name]))]]
        if export.name in facts.hashes
        else []
    )
    if facts.continued_from:
        rows.append(["Training went on from the work", code(visible(facts.continued_from))])
    if facts.trained_over:
        rows.append(["Trained over the base of the work", code(visible(facts.trained_over))])
    few = export.parity.get("rows")
    on = f", on {count(few)} rows" if few else ""
    distance = export.parity.get("max_abs_logit_diff")
    if is_number(distance):
        rows.append([f"Largest logit difference to the fine-tuned model{on}", scientific(distance)])
    agreement = export.parity.get("top1_agreement")
    if is_number(agreement):
        same = f"Same next token as the fine-tuned model, given the reference{on}"
        rows.append([same, number(agreement, 4)])
    rows += [[prose(name), code(v)] for name, v in sorted(facts.packages.items())]
    table = grid(["What", "Value"], rows, [False, False])
    return f"## Provenance\n\n{table}" if table else ""
