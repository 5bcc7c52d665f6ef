"""Metrics against known values and against scikit-learn, and baselines that learn."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmcompile.data.labels import label_of
from slmcompile.data.store import Row
from slmcompile.metrics import METRICS
from slmcompile.plans.kinds import KINDS
from slmcompile.recipe.schema import Eval
from slmcompile.registry.table import program
from slmcompile.scoring.baselines import LINEAR, NEAREST, predict_baselines
from slmcompile.scoring.classification import (
    ACCURACY,
    F1_LOWEST,
    F1_MACRO,
    F1_MICRO,
    PRECISION_MACRO,
    PRECISION_MICRO,
    RECALL_MACRO,
    RECALL_MICRO,
    LabelScores,
    label_scores,
)
from slmcompile.scoring.confidence import wilson
from slmcompile.scoring.exact_match import is_correct
from slmcompile.scoring.perplexity import perplexity
from slmcompile.scoring.score import OF_LABELS, measure_of, score, wanted_metrics

labels = st.sampled_from(["on", "off", "set"])
answers = st.lists(st.tuples(st.none() | labels | st.just("other"), labels), min_size=1)


@pytest.mark.parametrize(
    ("prediction", "right"),
    [
        ('{"a": 1, "b": [true]}', True),
        ('\n{"b":[true],"a":1.0} ', True),
        ('{"a": 1, "b": [1]}', False),
        ('{"a": 1}', False),
        ('{"a": "1", "b": [true]}', False),
        ('{"a": 1, "b": [true]} and more', False),
        ('{"a": 1, "b": [true]', False),
        ("", False),
        ("[" * 100_000, False),
        ('{"a": NaN, "b": [true]}', False),
    ],
)
def test_extraction_compares_json_values(prediction: str, right: bool) -> None:
    assert is_correct("extraction", prediction, '{"a": 1, "b": [true]}') is right


def test_other_tasks_compare_stripped_text() -> None:
    assert is_correct("classification", " on\n", "on")
    assert not is_correct("classification", "On", "on")
    assert not is_correct("generation", '{"a":1}', '{"a": 1}')


@pytest.mark.parametrize(
    ("answer", "key", "label"),
    [
        (" on ", None, "on"),
        ('{"intent": "on"}', "intent", "on"),
        ('{"intent": 3}', "intent", "3"),
        ('{"intent": null}', "intent", None),
        ('{"name": "x"}', "intent", None),
        ("on", "intent", None),
        ('["intent"]', "intent", None),
        ('{"intent": "on"', "intent", None),
    ],
)
def test_labels_are_found_in_answers_or_missing(
    answer: str, key: str | None, label: str | None
) -> None:
    assert label_of(answer, key) == label


def test_a_known_score() -> None:
    references = ['{"intent": "on", "name": "a"}', '{"intent": "on", "name": "b"}'] * 2
    references[3] = '{"intent": "off", "name": "b"}'
    predictions = [
        '{"name": "a", "intent": "on"}',  # right
        '{"intent": "on", "name": "c"}',  # right label
        "what?",  # no JSON
        '{"intent": "on", "name": "b"}',  # wrong label
    ]
    rows = [
        {
            "compared": prediction,
            "reference": reference,
            "correct": is_correct("extraction", prediction, reference),
            "schema_valid": prediction.startswith("{"),
            "label": label_of(reference, "intent"),
            "predicted_label": label_of(prediction, "intent"),
        }
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    found = score(rows, METRICS.values())
    assert found["exact_match"] == 0.25
    assert found["accuracy"] == 0.5
    assert found["valid_json"] == found["json_schema_valid"] == 0.75
    # on: precision 2/3, recall 2/3; off: 0
    assert found["f1_macro"] == pytest.approx(1 / 3)
    assert found["exact_match_ci"] == pytest.approx([0.0456, 0.6994], abs=1e-4)
    assert "perplexity" not in found
    asked = wanted_metrics(["accuracy"], "extraction")
    assert score(rows, asked).keys() == {
        "accuracy",
        "accuracy_ci",
        "valid_json",
        "valid_json_ci",
    }
    assert [m.name for m in wanted_metrics(["accuracy"], "generation")] == ["accuracy", "cut_off"]


def labelled(predictions: Sequence[str | None], references: Sequence[str]) -> list[dict[str, Any]]:
    """Rows that hold labels alone."""
    return [
        {"predicted_label": prediction, "label": reference}
        for prediction, reference in zip(predictions, references, strict=True)
    ]


def accuracy(predictions: Sequence[str | None], references: Sequence[str]) -> float:
    """The share of right labels."""
    return ACCURACY.value(labelled(predictions, references))


@settings(deadline=None)
@given(answers)
def test_f1_and_accuracy_are_those_of_scikit_learn(pairs: list[tuple[str | None, str]]) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    predictions, references = [p for p, _ in pairs], [r for _, r in pairs]
    spelled = ["<none>" if p is None else p for p in predictions]
    rows, labels = labelled(predictions, references), sorted(set(references))
    for measure, function, average in (
        (F1_MACRO, sklearn.f1_score, "macro"),
        (PRECISION_MACRO, sklearn.precision_score, "macro"),
        (RECALL_MACRO, sklearn.recall_score, "macro"),
    ):
        wanted = function(references, spelled, average=average, labels=labels, zero_division=0)
        assert measure.value(rows) == pytest.approx(wanted)
    # An answer without a label is no label that was named wrongly.
    every = sorted({*labels, *(p for p in predictions if p is not None)})
    for measure, function in (
        (F1_MICRO, sklearn.f1_score),
        (PRECISION_MICRO, sklearn.precision_score),
        (RECALL_MICRO, sklearn.recall_score),
    ):
        wanted = function(references, spelled, average="micro", labels=every, zero_division=0)
        assert measure.value(rows) == pytest.approx(wanted)
    each = sklearn.f1_score(references, spelled, average=None, labels=labels, zero_division=0)
    assert F1_LOWEST.value(rows) == pytest.approx(min(each))
    assert ACCURACY.value(rows) == pytest.approx(sklearn.accuracy_score(references, spelled))


def test_each_label_has_its_own_scores() -> None:
    """The most frequent first; a label that is only named is none of the references'."""
    found = label_scores(labelled(["a", "a", "b", None, "c"], ["a", "a", "a", "b", "b"]))
    # a: named twice, rightly twice, of three. b: named once, wrongly.
    assert found == [
        LabelScores("a", 3, 1.0, pytest.approx(2 / 3), pytest.approx(0.8)),
        LabelScores("b", 2, 0.0, 0.0, 0.0),
    ]
    assert [each.label for each in label_scores(labelled([None] * 3, ["c", "b", "b"]))] == [
        "b",
        "c",
    ]


@settings(deadline=None)
@given(answers)
def test_the_scores_of_labels_are_those_of_scikit_learn(
    pairs: list[tuple[str | None, str]],
) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    predictions, references = [p for p, _ in pairs], [r for _, r in pairs]
    found = label_scores(labelled(predictions, references))
    wanted = sklearn.precision_recall_fscore_support(
        references,
        ["<none>" if p is None else p for p in predictions],
        labels=[each.label for each in found],
        zero_division=0,
    )
    ours = [(each.precision, each.recall, each.f1, each.support) for each in found]
    assert ours == [pytest.approx(each) for each in zip(*wanted, strict=True)]
    assert {each.label for each in found} == set(references)
    mean = sum(each.f1 for each in found) / len(found)
    assert mean == pytest.approx(F1_MACRO.value(labelled(predictions, references)))


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(1, 50))
def test_the_interval_holds_the_share_and_narrows_with_rows(right: int, rows: int) -> None:
    share = min(right, rows) / rows
    low, high = wilson(share, rows)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    wide = wilson(share, rows * 10)
    assert wide[1] - wide[0] < high - low


def test_the_interval_of_known_shares() -> None:
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_perplexity_of_known_likelihoods() -> None:
    assert perplexity(10 * math.log(1 / 7), 10) == pytest.approx(7)
    assert perplexity(-1e9, 1) == math.inf
    with pytest.raises(ValueError, match="no tokens"):
        perplexity(0.0, 0)


def test_every_metric_says_how_it_is_computed_and_which_way_is_better() -> None:
    for name, metric in METRICS.items():
        assert metric.name == name
        measure = measure_of(metric)
        assert callable(measure.value)
        assert callable(measure.interval)
        assert callable(measure.difference)
        assert metric.file in {"", *Eval.model_fields}
        assert set(metric.stages) <= set(KINDS)
        assert not metric.column or callable(program(metric.column))
    assert all(metric.low < metric.high for metric in METRICS.values())
    lower = [name for name, metric in METRICS.items() if not metric.higher_is_better]
    assert lower == ["perplexity", "bits_per_byte", "cut_off"]


# --- baselines ---------------------------------------------------------------------------------

VERBS = {"on": ("turn on", "start", "switch on"), "off": ("turn off", "stop", "kill")}
VERBS |= {"set": ("set", "change", "move"), "ask": ("what is", "tell me about", "how is")}


def sentences(count: int, seed: int) -> list[Row]:
    """Commands in a template; one label in ten is wrong, so that no method is perfect."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        label = chance.choice(sorted(VERBS))
        device = chance.choice(("lamp", "fan", "heating", "radio", "door", "clock"))
        room = chance.choice(("kitchen", "office", "hall", "attic"))
        text = f"{chance.choice(VERBS[label])} the {device} in the {room}"
        if chance.random() < 0.1:
            label = chance.choice(sorted(VERBS))
        prompt = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
        found.append(Row(number, prompt, f"{label} {device}", label, [1], [1, 2], [-100, 2]))
    return found


def test_the_linear_baseline_is_as_good_as_scikit_learns() -> None:
    text = pytest.importorskip("sklearn.feature_extraction.text")
    linear = pytest.importorskip("sklearn.linear_model")
    train, test = sentences(500, 0), sentences(300, 1)
    vectors = text.TfidfVectorizer(ngram_range=(1, 2))
    model = linear.LogisticRegression(C=10, max_iter=1000)
    model.fit(vectors.fit_transform([row.prompt for row in train]), [row.label for row in train])
    references = [row.label for row in test]
    theirs = accuracy(
        list(model.predict(vectors.transform([row.prompt for row in test]))), references
    )
    ours = accuracy(predict_baselines(train, test)[LINEAR], references)
    assert theirs > 0.8
    assert abs(ours - theirs) <= 0.03


def test_the_nearest_neighbour_is_scikit_learns_by_cosine() -> None:
    text = pytest.importorskip("sklearn.feature_extraction.text")
    train, test = sentences(200, 2), sentences(60, 3)
    vectors = text.TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+")
    known = vectors.fit_transform([row.prompt for row in train])
    cosines = (vectors.transform([row.prompt for row in test]) @ known.T).toarray()
    theirs = [train[n].completion for n in cosines.argmax(axis=1)]
    ours = predict_baselines(train, test)[NEAREST]
    assert sum(a == b for a, b in zip(ours, theirs, strict=True)) >= 0.9 * len(test)
    assert predict_baselines(train, train[:1])[NEAREST] == [train[0].completion]


def test_baselines_give_the_same_answers_each_time() -> None:
    train, test = sentences(100, 4), sentences(40, 5)
    assert predict_baselines(train, test) == predict_baselines(train, test)


def test_labels_that_are_no_classes_get_no_linear_baseline() -> None:
    rows = [Row(n, f"say {n}", str(n), str(n), [1], [1, 2], [-100, 2]) for n in range(20)]
    assert predict_baselines(rows, rows[:3]) == {NEAREST: ["0", "1", "2"]}


def test_labels_alone_are_scored_against_labels() -> None:
    rows = labelled(["on", "off", None], ["on", "on", "off"])
    found = score(rows, METRICS.values(), OF_LABELS)
    assert found["accuracy"] == pytest.approx(1 / 3)
    of_labels = {name for name, metric in METRICS.items() if metric.needs == "label"}
    assert found.keys() == {"accuracy_ci", *of_labels}
