"""What a model must beat: the nearest training prompt, and a linear classifier on TF-IDF.

Both take seconds on a CPU, are deterministic and use nothing but the training rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slmcompile.data.store import Row
from slmcompile.plans.artifacts import LINEAR, NEAREST
from slmcompile.scoring.tfidf import Floats, Vocabulary, dense, fit

_STEPS = 150
_C = 10.0
_CONSTANT = 0.2
"""Small, or the constant alone would set the curvature, and so a ten times smaller step."""
_MATRIX_ELEMENTS = 48_000_000
_MOST_LABELS = 1000


def predict_baselines(train_rows: Sequence[Row], test_rows: Sequence[Row]) -> dict[str, list[str]]:
    """Answers of the baselines for the test rows.

    Returns:
        ``nearest-neighbour``: whole completions, each that of the nearest training prompt by
        TF-IDF cosine. ``tf-idf``: labels (not completions), by multinomial logistic regression;
        left out where labels are not classes (one, more than 1,000, or most occur once).
    """
    prompts = [row.prompt for row in train_rows]
    questions = [row.prompt for row in test_rows]
    nearest = _nearest(prompts, questions)
    found = {NEAREST: [train_rows[number].completion for number in nearest]}
    labels = [row.label for row in train_rows]
    if 1 < len(set(labels)) <= min(_MOST_LABELS, len(labels) // 2):
        found[LINEAR] = _linear(prompts, labels, questions)
    return found


def answers_of_labels(train_rows: Sequence[Row]) -> dict[str, str] | None:
    """The answer that goes with each label; None where a label is not the whole answer.

    It is where no label has two answers in training: whoever names the label has then said it all.
    """
    answers: dict[str, str] = {}
    for row in train_rows:
        if answers.setdefault(row.label, row.completion).strip() != row.completion.strip():
            return None
    return answers


def _nearest(prompts: Sequence[str], questions: Sequence[str]) -> list[int]:
    """Index of the training prompt with the largest cosine; the first of equals.

    Walks an inverted index (term → rows that have it), so that memory grows with the text and
    not with rows times terms.
    """
    vocabulary = fit(prompts)
    rows_of: dict[int, list[int]] = {}
    weights_of: dict[int, list[float]] = {}
    for row, prompt in enumerate(prompts):
        for term, weight in vocabulary.vector(prompt).items():
            rows_of.setdefault(term, []).append(row)
            weights_of.setdefault(term, []).append(weight)
    lists = {
        term: (np.asarray(rows_of.pop(term)), np.asarray(weights_of.pop(term)))
        for term in list(rows_of)
    }
    best = []
    for question in questions:
        cosines = np.zeros(len(prompts))
        for term, weight in vocabulary.vector(question).items():
            rows, weights = lists[term]
            cosines[rows] += weight * weights
        best.append(int(cosines.argmax()))
    return best


def _linear(prompts: Sequence[str], labels: Sequence[str], questions: Sequence[str]) -> list[str]:
    names = sorted(set(labels))
    vocabulary = fit(prompts, limit=max(64, _MATRIX_ELEMENTS // len(prompts)))
    features = _features(vocabulary, prompts)
    targets = np.zeros((len(labels), len(names)), dtype=np.float32)
    targets[np.arange(len(labels)), [names.index(label) for label in labels]] = 1.0
    weights = _fit_logistic(features, targets)
    scores = _features(vocabulary, questions) @ weights
    return [names[number] for number in scores.argmax(axis=1)]


def _features(vocabulary: Vocabulary, texts: Sequence[str]) -> Floats:
    """TF-IDF and a constant, shape [texts, terms + 1]."""
    matrix = dense([vocabulary.vector(text) for text in texts], len(vocabulary.idf) + 1)
    matrix[:, -1] = _CONSTANT
    return matrix


def _fit_logistic(features: Floats, targets: Floats) -> Floats:
    """Multinomial logistic regression with an L2 penalty, full batch, weights [terms + 1, labels].

    Minimises mean cross-entropy + |W|² / (2 C rows) by accelerated gradient descent (Nesterov
    1983) with step 1 / L, where L bounds the curvature: half the largest eigenvalue of XᵀX / rows
    (Böhning 1992) plus the penalty's.
    """
    rows = len(features)
    penalty = np.float32(1.0 / (_C * rows))
    step = 1.0 / (0.5 * _largest_eigenvalue(features) / rows + penalty)
    weights: Floats = np.zeros((features.shape[1], targets.shape[1]), dtype=np.float32)
    ahead = weights
    momentum = 1.0
    for _ in range(_STEPS):
        logits = features @ ahead
        logits -= logits.max(axis=1, keepdims=True)
        shares = np.exp(logits)
        shares /= shares.sum(axis=1, keepdims=True)
        gradient = features.T @ (shares - targets) / np.float32(rows) + penalty * ahead
        updated = ahead - np.float32(step) * gradient
        following = (1.0 + (1.0 + 4.0 * momentum * momentum) ** 0.5) / 2.0
        ahead = updated + np.float32((momentum - 1.0) / following) * (updated - weights)
        weights, momentum = updated, following
    return weights


def _largest_eigenvalue(features: Floats) -> float:
    """Of XᵀX, by power iteration from a fixed start, with a margin for what it misses."""
    vector: Floats = np.ones(features.shape[1], dtype=np.float32)
    value = 1.0
    for _ in range(30):
        vector = features.T @ (features @ vector)
        value = float(np.linalg.norm(vector))
        vector = vector / np.float32(value)
    return 1.05 * value
