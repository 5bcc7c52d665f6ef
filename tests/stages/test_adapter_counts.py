"""What a plan counts and chooses is what PEFT trains, over random sections and families."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from slmcompile.console.errors import BadRecipeError
from slmcompile.estimate.trainable import trainable
from slmcompile.methods.lora import Lora, adapted, patterns
from slmcompile.methods.unmatched import unmatched
from slmcompile.models.adapter import attach
from slmcompile.shapes.architecture import Architecture
from slmcompile.shapes.target_modules import leaf
from tests.family_folders import FAMILIES, architecture_of_folder, make_family
from tests.sections import train_section
from tests.stages.tiny_training import make_tokenizer

SECTIONS_A_FAMILY = 6


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, tokenizer = tmp_path_factory.mktemp("families"), make_tokenizer()
    return {family: make_family(family, folder / family, tokenizer) for family in FAMILIES}


def random_lora(draw: random.Random, model: Architecture) -> Lora:
    """A section of any of its keys, whose names are names of the model."""
    layers = sorted(model.layers if draw.random() < 0.3 else model.linears)
    leaves = sorted({leaf(name) for name in layers})

    def some(names: list[str], most: int) -> list[str]:
        return draw.sample(names, min(len(names), draw.randint(0, most)))

    def values(make: Any) -> dict[str, Any]:
        return {name: make() for name in {*some(leaves, 2), *some(layers, 2)}}

    target: Any = "all-linear" if draw.random() < 0.5 else (*some(leaves, 4), draw.choice(leaves))
    return Lora(
        r=draw.randint(1, 12),
        lora_alpha=draw.choice([8.0, 0.5]),
        target_modules=target,
        exclude_modules=tuple(some([*leaves, *layers], 2)),
        layers_to_transform=draw.choice([None, (0,), (1,), (0, 1)]),
        modules_to_save=tuple(some(["embed_tokens", "norm", "lm_head"], 1)),
        rank_pattern=values(lambda: draw.randint(1, 20)),
        alpha_pattern=values(lambda: draw.choice([4.0, 7.5])),
        use_rslora=draw.random() < 0.5,
        use_dora=draw.random() < 0.5,
        init_lora_weights=draw.choice([True, "gaussian"]),
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_the_plan_counts_and_chooses_what_peft_trains(
    folders: dict[str, Path], family: str
) -> None:
    model, draw = architecture_of_folder(folders[family]), random.Random(family)
    compared = 0
    while compared < SECTIONS_A_FAMILY:
        lora = random_lora(draw, model)
        given = AutoModelForCausalLM.from_pretrained(folders[family], dtype=torch.float32)
        faulty = unmatched(lora, patterns(lora, model), model.layers, model.modules)
        if faulty:
            with pytest.raises(BadRecipeError, match=f"train.lora.{faulty.key}: '{faulty.given}'"):
                attach(given, lora)
            continue
        names = adapted(lora, patterns(lora, model), model.layers, model.modules)
        if not names:
            continue
        trained = attach(given, lora)
        count = sum(p.numel() for p in trained.parameters() if p.requires_grad)
        found = trainable(train_section(lora=lora), model)
        assert found.parameters == count, lora
        inside = {
            name: module
            for name, module in trained.get_base_model().named_modules()
            if hasattr(module, "lora_A")
        }
        assert sorted(inside) == names == list(found.adapted), lora
        for name, module in inside.items():
            assert module.r["default"] == lora.rank(name), (name, lora)
            assert module.scaling["default"] == pytest.approx(lora.scale(name)), (name, lora)
        compared += 1
