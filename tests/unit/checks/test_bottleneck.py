"""What is told of bottleneck adapters before anything is trained, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slmcompile.base.facts import ModelFacts
from slmcompile.console.errors import BadRecipeError
from slmcompile.estimate.memory import decoder_of, evaluation_memory, kept_for_backward
from slmcompile.estimate.peak import rows_of
from slmcompile.estimate.trainable import trainable
from slmcompile.facts.architecture import architecture, architecture_of
from slmcompile.facts.context import CheckContext
from slmcompile.methods.bottleneck import Bottleneck, fault_of
from slmcompile.methods.method import Fault
from slmcompile.providers import PROVIDERS
from slmcompile.recipe.project import Project
from slmcompile.shapes.sublayers import sublayers
from tests import toys
from tests.sections import train_section
from tests.unit.checks.judging import context, judged, make, model_facts

BOTTLENECK = ("train=bottleneck", "train.bottleneck.reduction_factor=4")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make(tmp_path_factory.mktemp("project"))


@pytest.mark.parametrize(("style", "adapters"), [("pfeiffer", 2), ("houlsby", 4)])
def test_the_weights_are_counted_from_shapes(project: Project, style: str, adapters: int) -> None:
    known = context(project, *BOTTLENECK, f"train.bottleneck.style={style}")
    found = judged(known, 26)
    # Width 64, bottleneck 16, two layers.
    count = adapters * (2 * 64 * 16 + 16 + 64)
    assert found.outcome == "proved"
    assert found.evidence.startswith(f"{count:,} parameters trained, ")


@pytest.mark.parametrize(
    ("override", "evidence", "hint"),
    [
        (
            "reduction_factor=65",
            "a reduction factor of 65 leaves nothing of the base model's width of 64",
            "set train.bottleneck.reduction_factor to 64 or less",
        ),
        ("leave_out=[0,2]", "layer 2 is to be left out of 2", "layers are counted from 0 to 1"),
        ("leave_out=[1,0]", "all 2 layers are left out", "keep at least one"),
    ],
)
def test_adapters_that_cannot_be_are_refused_before_training(
    project: Project, override: str, evidence: str, hint: str
) -> None:
    found = judged(context(project, "train=bottleneck", f"train.bottleneck.{override}"), 26)
    assert found.outcome == "refuted"
    assert (found.evidence, found.mend) == (evidence, hint)
    assert found.where.endswith(f"train.bottleneck.{override.partition('=')[0]}")


@pytest.mark.parametrize("factor", [1, 63, 64])
def test_a_bottleneck_of_any_width_down_to_one_is_proved(project: Project, factor: int) -> None:
    known = context(project, "train=bottleneck", f"train.bottleneck.reduction_factor={factor}")
    assert judged(known, 26).outcome == "proved"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("reduction_factor=0", "must be 1 or more"),
        ("non_linearity=swish", "must be 'relu', 'gelu', 'gelu_new', 'silu' or 'tanh'"),
        ("style=parallel", "must be 'houlsby' or 'pfeiffer'"),
        ("leave_out=[-1]", "must be 0 or more"),
        ("reduction_facter=8", "did you mean 'train.bottleneck.reduction_factor'"),
        ("mh_adapter=true", "train.bottleneck.style"),
    ],
)
def test_values_that_there_are_not_are_refused_while_composing(
    project: Project, override: str, said: str
) -> None:
    with pytest.raises(BadRecipeError) as caught:
        context(project, "train=bottleneck", f"++train.bottleneck.{override}")
    assert said in f"{caught.value.what} {caught.value.mend}"


def stored(*modules: str, width: int = 8) -> ModelFacts:
    """Facts of a model with one square weight in each of these modules, and an embedding."""
    shapes = {f"{name}.weight": (width, width) for name in (*modules, "model.embed_tokens")}
    return replace(model_facts(), tensors=shapes, dtypes=dict.fromkeys(shapes, "F32"))


BOTH = ("model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj")


@pytest.mark.parametrize(
    ("style", "modules", "why"),
    [
        ("houlsby", ("model.layers.0.conv", "model.layers.0.mlp.up"), "layer 0 has no self_attn"),
        ("pfeiffer", ("model.layers.0.conv", "model.layers.0.mlp.up"), None),
        ("pfeiffer", ("transformer.h.0.mlp.c_fc",), "no one stack of decoder layers"),
        ("pfeiffer", (*BOTH, "vision.layers.0.mlp.up"), "no one stack of decoder layers"),
        ("pfeiffer", ("model.layers.1.mlp.up",), "no one stack of decoder layers"),
        ("houlsby", BOTH, None),
    ],
)
def test_a_model_without_the_places_is_refused(
    project: Project, style: str, modules: tuple[str, ...], why: str | None
) -> None:
    known = context(project, *BOTTLENECK, f"train.bottleneck.style={style}")
    found = judged(known, 26, model=stored(*modules))
    assert found.outcome == ("proved" if why is None else "refuted")
    if why:
        assert found.evidence.startswith(f"there is no place for {style} adapters")
        assert found.evidence.endswith(why)
        assert found.where.endswith("train.bottleneck.style")


def test_a_model_of_experts_is_judged_when_it_is_built(project: Project) -> None:
    """Stored names may not be those of the modelling code."""
    facts = stored("model.layers.0.block.experts.0.w1")
    found = judged(context(project, *BOTTLENECK), 26, model=facts)
    assert (found.outcome, found.stage) == ("needs_probe", "tiny/train")
    named = stored("model.layers.0.mlp.experts.0.up", "model.layers.0.self_attn.o_proj", width=3)
    found = judged(context(project, *BOTTLENECK), 26, model=named)
    assert found.evidence.startswith("a reduction factor of 4 leaves nothing")


def test_a_width_that_no_embedding_tells_is_a_fault() -> None:
    fault = fault_of(Bottleneck(), BOTH, None)
    assert isinstance(fault, Fault)
    assert fault_of(Bottleneck(), ("model.layers.0.mlp",), 64) is None


def test_layers_are_sorted_by_number_and_not_by_name() -> None:
    names = [f"model.layers.{number}.mlp" for number in range(12)]
    assert [each["mlp"] for each in sublayers(sorted(names))] == names


def test_it_is_said_not_to_merge(project: Project) -> None:
    known = context(project, *BOTTLENECK, "target=[cpu-int4,cpu-fp32]")
    order = judged(known, 11)
    assert order.evidence == (
        "2 exports: the base quantised, then a bottleneck adapter in fp32 into the graph beside it;"
        " it does not merge"
    )
    shipped = judged(known, 12)
    assert "a bottleneck adapter, as fp32 nodes of the graph, as cpu" in shipped.evidence
    for found in (order, shipped):
        assert found.outcome == "proved"
        assert "merged" not in found.evidence


@pytest.mark.parametrize("family", ["phi", "gemma3_text", "gpt_oss"])
def test_a_family_whose_graph_is_not_known_is_refused_before_training(
    project: Project, family: str
) -> None:
    facts = model_facts(model_type=family)
    found = judged(context(project, *BOTTLENECK), 12, model=facts)
    assert found.outcome == "refuted"
    assert f"makes of {family!r} is not known" in found.evidence
    assert "train=lora" in found.mend
    assert found.where.endswith("train.method")
    assert judged(context(project), 12, model=facts).outcome == "proved"


def test_a_provider_that_puts_nothing_into_graphs_is_refused(tmp_path: Path) -> None:
    project = make(tmp_path)
    toys.add_groups(project.root)
    with toys.toys():
        found = judged(context(project, *BOTTLENECK, "target=[box]"), 12)
        assert found.outcome == "refuted"
        assert found.evidence.endswith("is not known (known: none)")
        assert judged(context(project, "target=[box]"), 12).outcome == "proved"


def test_families_with_places_are_families_that_are_built() -> None:
    for provider in PROVIDERS.values():
        assert provider.inserts_into <= provider.architectures.keys()
        assert bool(provider.inserter) == bool(provider.inserts_into)


def test_what_ships_beside_the_base_takes_its_room(project: Project) -> None:
    """Width by width: 4,224 weights an adapter, in four of them."""
    overrides = ("train.bottleneck.reduction_factor=1", "train.bottleneck.style=houlsby")
    known = context(project, "train=bottleneck", *overrides)
    merged = context(project)

    def exports(given: CheckContext) -> float:
        evidence = judged(given, 29).evidence
        return float(evidence.partition(" exports ")[2].partition(" MB")[0])

    beside = 4 * 4 * (2 * 64 * 64 + 64 + 64) / 1e6
    assert exports(known) - exports(merged) == pytest.approx(beside, abs=0.1)
    evaluated = [
        evaluation_memory(given.recipe.eval, given.recipe.train, model, decoder, rows)
        for given in (known, merged)
        for model in (architecture_of(given),)
        for decoder in (decoder_of(model) if model else None,)
        for rows in (rows_of(given.recipe, None),)
        if model and decoder
    ]
    assert evaluated[0].low - evaluated[1].low == pytest.approx(beside * 1e6)


def test_layers_below_the_lowest_adapter_keep_nothing(project: Project) -> None:
    model = architecture_of(context(project))
    assert model is not None
    decoder = decoder_of(model)
    assert decoder is not None

    def elements(*leave_out: int, checkpointing: bool = False, style: Any = "pfeiffer") -> float:
        settings = Bottleneck(reduction_factor=4, leave_out=leave_out, style=style)
        config = train_section(
            "bottleneck", bottleneck=settings, gradient_checkpointing=checkpointing
        )
        return kept_for_backward(config, model, decoder, 1, 1.0) / 4

    whole, upper, lower = elements(), elements(0), elements(1)
    # Each adapter keeps its input, 64 wide, and its bottleneck, 16 wide.
    assert upper == whole / 2
    assert whole - lower == 64 + 16
    assert elements(style="houlsby") - whole == 2 * (64 + 16)
    assert elements(checkpointing=True) - elements(0, checkpointing=True) == 64


def test_every_key_of_the_adapters_moves_training_and_nothing_before_it(project: Project) -> None:
    others = {
        "style": "houlsby",
        "reduction_factor": "8",
        "non_linearity": "silu",
        "leave_out": "[1]",
    }
    assert others.keys() == Bottleneck.model_fields.keys()
    overrides = ["", *(f"train.bottleneck.{key}={value}" for key, value in others.items())]
    plans = [
        context(project, "train=bottleneck", *([each] if each else [])).compiled
        for each in overrides
    ]
    assert len({plan.stage("train").spec_text() for plan in plans}) == len(plans)
    for kind in ("base", "data"):
        assert len({plan.stage(kind).spec_text() for plan in plans}) == 1


def test_left_out_layers_and_style_are_in_the_count(project: Project) -> None:
    model = architecture_of(context(project))
    assert model is not None
    one = Bottleneck(reduction_factor=4, leave_out=(0,))
    each = 2 * 64 * 16 + 16 + 64
    assert trainable(train_section("bottleneck", bottleneck=one), model).parameters == each
    empty = architecture({}, {}, {})
    assert trainable(train_section("bottleneck"), empty).parameters == 0
