"""What a plan derives of a random model is what the base stage then makes."""

from __future__ import annotations

from pathlib import Path

from slmcompile.base.facts import read_model_facts
from slmcompile.base.random_init import make_random
from slmcompile.console.progress import Silent
from slmcompile.sources.of_models.random import RandomModel, random_config, random_shapes


def test_derived_shapes_and_sizes_are_those_of_the_made_model(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("turn on the light\n" * 20, encoding="utf-8")
    source = RandomModel(
        type="random",
        tokenizer_text="text.txt",
        vocab_size=300,
        hidden_size=48,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
    )
    out = tmp_path / "base"
    out.mkdir()
    make_random(source, tmp_path, out, Silent())
    facts = read_model_facts(out, "base")
    assert facts is not None
    assert facts.tensors == random_shapes(source)
    assert set(facts.dtypes.values()) == {"F32"}
    for name, value in random_config(source).items():
        assert facts.config[name] == value
