"""What a recipe can get wrong in a variant of LoRA is refused where it stands, before any run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slmcompile.console.errors import BadRecipeError
from slmcompile.execution.sync import compile_recipe
from slmcompile.methods.lora import Lora
from slmcompile.recipe.project import Project
from tests.sections import train_section
from tests.unit.checks.judging import context, judged, make

LORA = "train.lora"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make(tmp_path_factory.mktemp("project"))


@pytest.mark.parametrize(
    ("override", "evidence", "mend"),
    [
        ("layers_to_transform=[0,2]", "'2' is no layer", "write numbers from 0 to 1"),
        ("exclude_modules=[k_prj]", "'k_prj' matches no layer", "did you mean 'k_proj'?"),
        ("exclude_modules=[lm_head]", "'lm_head' matches no layer", "write whole names: down_proj"),
        ("exclude_modules=[mlp]", "'mlp' matches no layer", "write whole names"),
        ("rank_pattern={q_prj: 4}", "'q_prj' matches no layer that gets", "did you mean 'q_proj'?"),
        ("alpha_pattern={mlp.q_proj: 4.0}", "'mlp.q_proj' matches no layer", "did you mean"),
    ],
)
def test_a_name_that_means_nothing_is_refuted_at_its_key(
    project: Project, override: str, evidence: str, mend: str
) -> None:
    found = judged(context(project, f"++{LORA}.{override}"), 8)
    assert found.outcome == "refuted"
    assert evidence in found.evidence
    assert mend in found.mend
    assert found.where.endswith(f"{LORA}.{override.partition('=')[0]}")


def test_a_rank_for_a_layer_that_is_excluded_is_refuted(project: Project) -> None:
    given = context(
        project, f"++{LORA}.exclude_modules=[q_proj]", f"++{LORA}.rank_pattern={{q_proj: 4}}"
    )
    found = judged(given, 8)
    assert (found.outcome, found.where.rpartition(".")[2]) == ("refuted", "rank_pattern")


def test_excluding_every_layer_is_refuted(project: Project) -> None:
    given = context(
        project,
        f"++{LORA}.target_modules=[q_proj,v_proj]",
        f"++{LORA}.exclude_modules=[q_proj,v_proj]",
    )
    found = judged(given, 8)
    assert found.outcome == "refuted"
    assert "exclude_modules leaves none" in found.evidence
    assert judged(given, 26).outcome == "needs_probe"


def test_coverage_counts_what_is_left_out(project: Project) -> None:
    given = context(
        project, f"++{LORA}.layers_to_transform=[1]", f"++{LORA}.exclude_modules=[k_proj]"
    )
    assert "k_proj 0/2" in judged(given, 8).evidence
    assert "43% of 14 linear layers; low coverage" in judged(given, 8).evidence


def test_the_rank_of_each_layer_is_held_to_its_layer(project: Project) -> None:
    large = judged(context(project, f"++{LORA}.rank_pattern={{k_proj: 33}}"), 26)
    assert large.outcome == "refuted"
    assert "rank 33 exceeds the smallest dimension of model.layers.0.self_attn.k_proj" in (
        large.evidence
    )
    assert large.where.endswith(f"{LORA}.rank_pattern")
    # 64 is too much for the keys and not for the others.
    kept = context(project, f"{LORA}.r=64", f"++{LORA}.rank_pattern={{k_proj: 8, v_proj: 8}}")
    assert judged(kept, 26).outcome == "proved"
    assert "ranks 8 to 64" in judged(kept, 26).evidence
    assert judged(context(project, f"{LORA}.r=64"), 26).outcome == "refuted"


def test_loftq_needs_a_base_in_4_bits(project: Project) -> None:
    found = judged(context(project, f"++{LORA}.init_lora_weights=loftq"), 38)
    assert found.outcome == "refuted"
    assert "train=qlora" in found.mend
    assert found.where.endswith(f"{LORA}.init_lora_weights")
    quantised = context(project, "train=qlora", f"++{LORA}.init_lora_weights=loftq")
    assert judged(quantised, 38).evidence.startswith("loftq on 14 layers")


@pytest.mark.parametrize("first", ["pissa", "olora"])
def test_nothing_is_taken_out_of_a_head_that_is_the_embedding(project: Project, first: str) -> None:
    head = f"{LORA}.target_modules=[lm_head,q_proj]"
    found = judged(context(project, head, f"++{LORA}.init_lora_weights={first}"), 38)
    assert found.outcome == "refuted"
    assert "lm_head, whose weights are the input embedding too" in found.evidence
    assert judged(context(project, head), 38).outcome == "proved"
    assert judged(context(project, f"++{LORA}.init_lora_weights={first}"), 38).outcome == "proved"
    assert judged(context(project, "train=full"), 38).outcome == "proved"


def test_an_unusual_scale_of_one_layer_and_an_unusual_ratio_are_warned_of(project: Project) -> None:
    one = judged(context(project, f"++{LORA}.alpha_pattern={{q_proj: 1000.0}}"), 31)
    assert one.outcome == "refuted"
    assert "of q_proj is an unusual scale" in one.evidence
    assert one.where.endswith("alpha_pattern")
    ratio = judged(context(project, f"++{LORA}.loraplus_lr_ratio=200"), 31)
    assert ratio.outcome == "refuted"
    assert ratio.where.endswith("loraplus_lr_ratio")
    usual = judged(context(project, f"++{LORA}.loraplus_lr_ratio=16"), 31)
    assert "B at 16 times the rate" in usual.evidence


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("init_lora_weights=eva", "must be true, 'gaussian', 'pissa'"),
        ("init_lora_weights=false", "init_lora_weights: must be"),
        ("rank_pattern={q_proj: 0}", "1 or more"),
        ("rank_pattern={'(a+)+$': 4}", "rank_pattern"),
        ("layers_to_transform=[]", "layers_to_transform"),
        ("layers_to_transform=[-1]", "0 or more"),
        ("loraplus_lr_ratio=0.5", "1 or more"),
    ],
)
def test_a_value_that_a_key_cannot_have_is_refused_where_it_stands(
    project: Project, override: str, says: str
) -> None:
    with pytest.raises(BadRecipeError) as caught:
        compile_recipe(project, "tiny", [f"++{LORA}.{override}"])
    assert says in caught.value.what
    assert f"{LORA}.{override.partition('=')[0]}" in caught.value.what


def test_a_spec_holds_a_variant_only_where_it_is_asked_for(project: Project) -> None:
    def spec(*overrides: str) -> Any:
        return compile_recipe(project, "tiny", overrides).stage("train").config["lora"]

    assert not set(Lora.said_if_other) & spec().keys()
    assert set(Lora.said_if_other) & spec(f"++{LORA}.use_dora=true").keys() == {"use_dora"}
    written_out = {f"++{LORA}.{key}={value}" for key, value in DEFAULTS.items()}
    assert spec(*sorted(written_out)) == spec()


DEFAULTS = {
    "exclude_modules": "[]",
    "layers_to_transform": "null",
    "rank_pattern": "{}",
    "alpha_pattern": "{}",
    "use_dora": "false",
    "init_lora_weights": "true",
    "loraplus_lr_ratio": "null",
}


def test_the_longest_name_counts_in_whatever_order_they_stand() -> None:
    names = {"q_proj": 4, "layers.1.self_attn.q_proj": 6, "self_attn.q_proj": 5}
    for order in (names, dict(reversed(names.items()))):
        lora = Lora(r=8, rank_pattern=order)
        assert lora.rank("model.layers.1.self_attn.q_proj") == 6
        assert lora.rank("model.layers.0.self_attn.q_proj") == 5
        assert lora.rank("model.layers.0.cross.q_proj") == 4
        assert lora.rank("model.layers.0.mlp.up_proj") == 8
    assert hash(Lora(rank_pattern=names)) == hash(Lora(rank_pattern=dict(names)))


def test_memory_counts_what_a_variant_holds(project: Project, tmp_path: Path) -> None:
    from slmcompile.estimate.trainable import trainable
    from slmcompile.facts.architecture import architecture_of
    from slmcompile.methods import METHODS

    model = architecture_of(context(project))
    assert model is not None
    terms = METHODS["lora"].memory
    plain = train_section(lora=Lora(r=4))
    dora = train_section(lora=Lora(r=4, use_dora=True))
    rows = sum(out for out, _ in model.linears.values())
    assert terms.kept_in_all(plain, model) == 4 * 14
    assert terms.kept_in_all(dora, model) == 4 * 14 + 2 * rows
    assert trainable(dora, model).adapter - trainable(plain, model).adapter == rows
    begun = train_section(lora=Lora(r=4, init_lora_weights="pissa"))
    assert terms.beside(begun, model) == 4 * trainable(begun, model).adapter
    assert terms.beside(plain, model) == 0


@pytest.mark.parametrize(
    "alone", [{"use_dora": True}, {"init_lora_weights": "pissa"}, {"init_lora_weights": "olora"}]
)
def test_what_others_over_the_base_would_feel_is_trained_alone(alone: dict[str, Any]) -> None:
    from slmcompile.methods import METHODS

    assert (
        METHODS["lora"]
        .alone(train_section(lora=Lora(**alone)))
        .startswith(f"train.lora.{next(iter(alone))}")
    )
    beside = Lora(init_lora_weights="gaussian", rank_pattern={"q_proj": 4}, loraplus_lr_ratio=4.0)
    assert METHODS["lora"].alone(train_section(lora=beside)) == ""
