"""Check 10: no example sees another one, nor the padding behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slmcompile.checks.registry import Verdict, check, needs_probe, proved, refuted
from slmcompile.facts.context import CheckContext
from slmcompile.sources import described_by

_ENCODERS = frozenset({
    "bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie",
    "megatron-bert", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer",
    "xlm-roberta", "xlm-roberta-xl", "xmod",
})  # fmt: skip
"""Families that look both ways unless ``is_decoder`` is set (transformers 5.23)."""


@check(
    10,
    "examples-isolated",
    "an example is trained on padding or on another example, and nobody notices",
    needs=("C", "H"),
)
def examples_isolated(context: CheckContext) -> Verdict:
    """Every row attends within itself alone, whatever stands beside it in a batch.

    Rows lie one behind the other; positions begin anew in each, attention is computed row by row
    with padding where causal attention cannot look (training/flat_attention.py), and a model that
    mixes rows otherwise gets them one at a time. So nothing but attention that looks both ways
    could reach what does not belong to the example.
    """
    if context.model is None:
        told = described_by(context.recipe.model.source)
        if told is None:
            return needs_probe(context.base_stage, "whether the model's attention is causal")
        config, where = told.config, "model.source"
    else:
        config, where = context.model.config, context.model.where
    if why := _looks_ahead(config):
        return refuted(
            f"{where}: {why}, so an example would see the padding behind it and its own answer",
            "name a causal language model",
            context.at("model.source"),
        )
    return proved("each row attends within itself, and attention is causal")


def _looks_ahead(config: Mapping[str, Any]) -> str:
    """Why a model's attention, or that of its text part, is not causal; empty where it is."""
    for part in (config.get("text_config"), config):
        if not isinstance(part, Mapping):
            continue
        if part.get("is_encoder_decoder"):
            return "it is an encoder and a decoder"
        # Gemma: true or "all"; "vision" means between the patches of an image alone.
        if part.get("use_bidirectional_attention") in (True, "all"):
            return "its attention looks both ways (use_bidirectional_attention)"
        if str(part.get("model_type")) in _ENCODERS and not part.get("is_decoder"):
            return f"{part['model_type']} is an encoder (is_decoder is not set)"
    return ""
