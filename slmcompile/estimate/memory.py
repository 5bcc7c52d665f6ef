"""Peak resident memory of training and of evaluation, as an interval, from shapes alone.

What a run holds is counted exactly: weights, gradients, masters and moments, the best weights so
far, and the tensors that autograd keeps for backward (their list, by layer, is in
``_kept_by_a_layer``; it is what torch's ``saved_tensors_hooks`` count). What cannot be counted are
the libraries and the holes that the allocator leaves; these factors are measured, on glibc's
malloc in fp32 (``benchmarks/memory_prediction.py`` measures again). None of them is wider than
1.5, so no sum is.

Knows sizes; knows nothing of recipes' files, devices or verdicts.
"""

from __future__ import annotations

from dataclasses import dataclass

from slmcompile.base.facts import size_in
from slmcompile.estimate.trainable import unmerged
from slmcompile.inference.batching import MOST_ROWS, SCORE_BYTES
from slmcompile.losses import LOSSES
from slmcompile.machine.process import GIVEN_BACK
from slmcompile.methods import METHODS
from slmcompile.methods.keys import Train
from slmcompile.methods.lora import LoraTrain
from slmcompile.optimizers import OPTIMIZERS
from slmcompile.recipe.schema import Eval
from slmcompile.shapes.architecture import Architecture, Trainable
from slmcompile.shapes.interval import Interval, exactly, larger
from slmcompile.shapes.sizes import LOGITS_AT_ONCE, SHORT_ROW, WIDE_AT_ONCE

MB = 1 << 20
LIBRARIES = Interval(480 * MB, 710 * MB)
"""Python, torch, transformers and PEFT, with the pages of their code that a run touches."""
EVALUATION_LIBRARIES = Interval(410 * MB, 610 * MB)
"""The same without what only training touches."""
KEPT = Interval(0.93, 1.27)
"""Resident bytes for a byte that autograd keeps for backward."""
KEPT_SMALL = Interval(1.2, 1.75)
"""The same where activations are of blocks that malloc keeps when they are freed."""
KEPT_SMALL_AFTER = Interval(0.5, 1.0)
"""What of it is still there when backward ends."""
MAPPED = Interval(0.8, 1.05)
"""Pages of the weights' file in memory while they are copied to another dtype, as a share of it."""
COPIES = Interval(2.0, 3.0)
"""Copies of the fp32 logits at once."""
SHAPES = Interval(250 * MB, 340 * MB)
"""What oneDNN's compiled operations, and the holes between them, come to once many shapes have gone
through in bf16: ``MANY`` steps on rows of varied lengths. In fp32 torch multiplies by MKL."""
MANY = 20
STAYS = 0.4
"""Share of what generating takes that comes on top of what reading the weights took, at most."""
STATE = Interval(1.0, 1.06)
"""Resident bytes for a byte of the optimizer's."""


@dataclass(frozen=True)
class Rows:
    """What goes through the model; lengths in tokens.

    Attributes:
        longest: row of the longest batch, prompt and answer.
        trained: trained tokens of such a row.
        prompt: a prompt.
        train: rows of the train split; None where not known.
        test: rows that are evaluated; None where not known.
        answered: rows that a validation asks or scores for its metric; None where not known.
        varied: whether rows differ in length.
    """

    longest: Interval
    trained: Interval
    prompt: Interval
    train: int | None
    test: int | None
    varied: bool = False
    answered: int | None = None


@dataclass(frozen=True)
class Decoder:
    """Sizes of a decoder's layers, from ``config.json``."""

    layers: int
    hidden: int
    wide: int
    heads: int
    key_heads: int
    width: int
    vocabulary: int


def decoder_of(model: Architecture) -> Decoder | None:
    """The sizes; None if the configuration does not name them as Llama and its kin do."""
    config = model.config
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")
    layers, hidden, heads, vocabulary = (size_in(config, name) for name in names)
    if layers is None or hidden is None or heads is None or vocabulary is None:
        return None
    usual = {
        "intermediate_size": 4 * hidden,
        "num_key_value_heads": heads,
        "head_dim": hidden // heads,
    }
    wide, key_heads, width = (
        size if config.get(name) is None else size_in(config, name) for name, size in usual.items()
    )
    if wide is None or key_heads is None or width is None:
        return None
    return Decoder(layers, hidden, wide, heads, key_heads, width, vocabulary)


def training_memory(
    train: Train,
    model: Architecture,
    decoder: Decoder,
    found: Trainable,
    rows: Rows,
    steps: int,
    answering: Interval | None = None,
) -> Interval:
    """Bytes at the peak of the train stage.

    Args:
        train: the recipe's section.
        model: the base model.
        decoder: its sizes.
        found: what is trained.
        rows: lengths.
        steps: optimizer steps of the run.
        answering: what a validation takes to measure a metric (``validation_answers``).
    """
    terms = METHODS[train.method].memory
    batch = _at_most(train.per_device_train_batch_size, rows.train)
    longest = rows.longest
    small = batch * longest.high * decoder.hidden * _item(train) < GIVEN_BACK
    kept = Interval(
        kept_for_backward(train, model, decoder, batch, longest.low),
        kept_for_backward(train, model, decoder, batch, longest.high),
    )
    state, gradients = _trained_state(train, found, steps), _gradients(train, found)
    weights = exactly(terms.base(train, model) + terms.beside(train, model))
    trained = exactly(batch) * rows.trained
    forward = (
        exactly(state - gradients) * STATE
        + kept * (KEPT_SMALL if small else KEPT)
        + _logits(train, decoder, trained, found)
    )
    backward = exactly(state) * STATE + _embedding_gradient(decoder, found)
    if small or _runs_whole(train, model, longest.high):
        backward += kept * KEPT_SMALL_AFTER
    between = exactly(state - gradients) * STATE + (answering or exactly(0))
    left = weights + larger(forward, backward, between) + _shapes(train, rows, steps)
    left += exactly(model.stored_bytes) * terms.left_by_loading
    read_as = terms.read_as(train)
    copied = model.stored_bytes if read_as is None else model.converted_bytes(read_as)
    return LIBRARIES + larger(left, weights + exactly(copied) * MAPPED)


def _at_most(batch: int, rows: int | None) -> int:
    return batch if rows is None else max(1, min(batch, rows))


def _shapes(section: Train | Eval, rows: Rows, batches: int | None) -> Interval:
    if section.precision != "bf16" or not rows.varied:
        return exactly(0)
    return SHAPES if batches is not None and batches >= MANY else Interval(0, SHAPES.high)


def _item(train: Train) -> int:
    return 4 if train.precision == "fp32" else 2


def _trained_state(train: Train, found: Trainable, steps: int) -> float:
    """Bytes beside the base model: what the optimizer keeps, the gradient, and the best weights.

    Masters and gradient are fp32; in bf16 the copies that are computed with, and
    their gradient, come on top. Masters of the base's own weights are those weights themselves.
    """
    count = found.parameters
    masters = 4 * (count - found.whole)
    copies = 4 * count if train.precision == "bf16" else 0
    best = 4 * count if train.load_best_model_at_end and steps > train.eval_steps else 0
    kept = (4 + OPTIMIZERS[train.optim].state_bytes) * count
    return masters + kept + copies + best


def _gradients(train: Train, found: Trainable) -> float:
    """Bytes of that state that are not there before the first backward pass of a step."""
    if train.gradient_accumulation_steps > 1:
        return 0.0
    return found.parameters * (4 if train.precision == "fp32" else 6)


def _embedding_gradient(decoder: Decoder, found: Trainable) -> Interval:
    """Bytes of the trained embedding's gradient before it is added to that of a tied head."""
    whole = 4.0 * decoder.vocabulary * decoder.hidden if found.whole else 0.0
    return exactly(whole) * Interval(1.0, 2.0)


def kept_for_backward(
    train: Train, model: Architecture, decoder: Decoder, batch: int, longest: float
) -> float:
    """Bytes that autograd keeps for backward at the longest batch.

    They are of every layer that backward reaches; with checkpointing of one, and the inputs of the
    others.
    """
    terms = METHODS[train.method].memory
    through, adapted = terms.reached(train, decoder.layers)
    whole = _runs_whole(train, model, longest)
    per_token = (_kept_by_a_whole_layer if whole else _kept_by_a_frozen_layer)(decoder)
    added = _added(train, decoder)
    in_all = terms.kept_in_all(train, model)
    if whole:
        # What the last norm reads is of no layer then.
        in_all += decoder.hidden + 2
    if longest <= SHORT_ROW:
        per_token += decoder.heads * longest
    if train.gradient_checkpointing:
        elements = through * decoder.hidden + per_token + added + in_all / max(1, adapted)
    else:
        elements = through * per_token + adapted * added + in_all
    return elements * batch * longest * _item(train)


def _kept_by_a_layer(train: Train, decoder: Decoder) -> float:
    """Elements a token: those of a frozen layer, and what the method adds."""
    return _kept_by_a_frozen_layer(decoder) + _added(train, decoder)


def _kept_by_a_frozen_layer(decoder: Decoder) -> float:
    """Elements a token: what each operation keeps in the forms that training runs.

    Two residual streams and two normed ones; queries, keys, values and the attention's result;
    gate, up and their product. The probabilities of short rows come on top.
    """
    queries, keys = decoder.heads * decoder.width, decoder.key_heads * decoder.width
    return 4 * decoder.hidden + 2 * queries + 2 * keys + 3 * decoder.wide


def _kept_by_a_whole_layer(decoder: Decoder) -> float:
    """The same of the two functions of ``training/whole_layer.py``.

    Both residual streams and the lengths of their tokens; queries, keys, values and the attention's
    result; gate and up.
    """
    queries, keys = decoder.heads * decoder.width, decoder.key_heads * decoder.width
    return 2 * decoder.hidden + 2 * queries + 2 * keys + 2 * decoder.wide + 2


def _runs_whole(train: Train, model: Architecture, longest: float) -> bool:
    """Whether the layers run as two functions each; families are those that have been tried."""
    lora = train.lora if isinstance(train, LoraTrain) and train.method == "lora" else None
    return bool(
        lora
        and longest <= SHORT_ROW
        and str(model.config.get("model_type")) in _WHOLE
        and not (lora.use_dora or lora.lora_dropout or lora.modules_to_save)
    )


_WHOLE = frozenset({"llama", "mistral", "qwen2"})


def _added(train: Train, decoder: Decoder) -> float:
    return METHODS[train.method].memory.kept(train, decoder.hidden)


def _logits(train: Train, decoder: Decoder, trained: Interval, found: Trainable) -> Interval:
    """Bytes of the head's products over the trained tokens.

    A frozen head runs a chunk of positions at a time and holds their logits, which their gradient
    overwrites, and a few of them in fp32; a trained one, and one whose loss is of whole batches,
    hold logits, probabilities and their gradient at once.
    """
    whole = LOSSES[train.loss.type].whole_batch(train.loss)
    if found.whole or found.saved or whole:
        return exactly(4.0 * decoder.vocabulary) * trained * COPIES
    most = max(1, LOGITS_AT_ONCE // decoder.vocabulary)
    chunk = Interval(min(trained.low, most), min(trained.high, most))
    few = max(decoder.vocabulary, WIDE_AT_ONCE)
    return exactly(float(_item(train)) * decoder.vocabulary) * chunk + exactly(4.0 * few) * COPIES


def evaluation_memory(
    evaluation: Eval, train: Train, model: Architecture, decoder: Decoder, rows: Rows
) -> Interval:
    """Bytes at the peak of ``answer-torch``.

    Weights in fp32, an adapter that does not merge beside the base's, and the largest of reading
    them, generating and scoring; some pages of the weights' file stay resident while it generates.
    """
    method = METHODS[train.method]
    weights = 4.0 * (model.parameters + unmerged(train, model))
    own = method.writes == "model"
    copied = 0 if own else model.converted_bytes("F32")
    loading = exactly(copied) * MAPPED
    if evaluation.precision == "bf16":
        loading = larger(loading, exactly(weights / 2))
    layer = 4.0 * _kept_by_a_layer(train, decoder)
    generating = _generating(evaluation, train, decoder, rows.prompt, rows.test, 4)
    scoring = _scoring(decoder, rows, rows.test)
    # Scoring comes after generating, whose room the allocator may not have given back, and runs a
    # layer of one batch too.
    both = Interval(
        max(generating.low, scoring.low),
        generating.high + scoring.high + layer * rows.longest.high,
    )
    rest = Interval(max(loading.low, both.low), max(loading.high + STAYS * both.high, both.high))
    return EVALUATION_LIBRARIES + weights + rest + _shapes(evaluation, rows, rows.test)


def validation_answers(
    evaluation: Eval, train: Train, decoder: Decoder, rows: Rows, *, generates: bool
) -> Interval:
    """Bytes that a validation takes for its metric, on top of what stands between two steps."""
    if generates:
        item = _item(train)
        return _generating(evaluation, train, decoder, rows.prompt, rows.answered, item)
    return _scoring(decoder, rows, rows.answered)


def _generating(
    evaluation: Eval,
    train: Train,
    decoder: Decoder,
    prompt: Interval,
    rows: int | None,
    item: int,
) -> Interval:
    """Bytes of keys and values, and of a layer of the prompts, in a type of ``item`` bytes.

    One prompt at least, at most a whole batch of the longest.
    """
    most = _at_most(min(evaluation.batch_size, MOST_ROWS), rows)
    cache = 2.0 * item * decoder.key_heads * decoder.width * decoder.layers
    layer = item * _kept_by_a_layer(train, decoder)
    return Interval(
        cache * prompt.low,
        most * ((cache + layer) * prompt.high + cache * evaluation.max_new_tokens) * 1.25,
    )


def _scoring(decoder: Decoder, rows: Rows, count: int | None) -> Interval:
    """Bytes of the logits of scored rows, one at least, at most a whole batch of the longest."""
    scored = Interval(
        _scored(decoder, 1, rows.longest.low, rows.trained.low),
        _scored(decoder, count, rows.longest.high, rows.trained.high),
    )
    return scored * COPIES


def _scored(decoder: Decoder, rows: int | None, longest: float, trained: float) -> float:
    """Bytes of the logits of the largest batch of scored rows (``inference/batching.py``)."""
    budget = max(1, SCORE_BYTES // (4 * decoder.vocabulary))
    batch = _at_most(max(1, min(MOST_ROWS, int(budget // longest))), rows)
    return 4.0 * decoder.vocabulary * batch * trained
