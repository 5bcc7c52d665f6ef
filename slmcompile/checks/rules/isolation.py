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
    """Rows are never packed, and padding stands where causal attention cannot look.

    One example is one row of a batch, padded on the right (training/batches.py). So nothing but
    attention that looks both ways could reach what does not belong to the example.
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
    return proved("one example a row, no packing; padding is behind it and attention is causal")


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
