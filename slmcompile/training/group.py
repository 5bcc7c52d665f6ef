"""Opens a base model once and puts in what each member of a group trains.

Knows a folder for each of its inputs and outputs; knows nothing of stages, DVC or trackers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from slmcompile.console.errors import StageFailedError
from slmcompile.data.store import Row
from slmcompile.losses import LOSSES
from slmcompile.methods import METHODS
from slmcompile.methods.keys import Train
from slmcompile.models.base_model import DTYPES, checkpoint_activations
from slmcompile.models.dequantised import put_into
from slmcompile.registry.table import program
from slmcompile.training import hot_path
from slmcompile.training.batches import read_rows
from slmcompile.training.flat_attention import rows_are_apart
from slmcompile.training.layout import Layout
from slmcompile.training.learner import Learner
from slmcompile.training.master_weights import MasterWeights
from slmcompile.training.methods.protocol import ALONE, MethodProgram
from slmcompile.training.session import Session
from slmcompile.training.task_metric import Answering, TaskMetric


@dataclass(frozen=True)
class Member:
    """What is trained over a base, alone or beside others.

    Attributes:
        name: empty in a plain recipe.
        config: its train section; those of a group agree in all that the base is opened by.
        data: train.parquet and validation.parquet.
        out: existing empty folder; written only when all training has succeeded.
        scratch: checkpoints, and in a group its finished weights; survives kills.
        identity: fingerprint of its work; a checkpoint that carries another is refused.
        project: folder that code of the recipe lies in.
        answering: how its validation split is answered, where that decides which weights are best.
        begins: weights that its method wrote before, from which training begins; None for those
            that the method attaches.
    """

    name: str
    config: Train
    data: Path
    out: Path
    scratch: Path
    identity: str
    project: Path = Path()
    answering: Answering | None = None
    begins: Path | None = None

    @property
    def adapter(self) -> str:
        """Its adapter's name in the model: PEFT's layers have attributes that no name may be."""
        return f"member_{self.name}" if self.name else ALONE


@dataclass(frozen=True)
class Group:
    """Members over a base model that is open.

    Attributes:
        method: what they are trained by.
        members: by name.
        base: folder of the base model.
        model: the base model with what is trained in it.
        session: of their learners.
        fast_paths: how many modules run each of this package's fused forms.
    """

    method: MethodProgram
    members: Mapping[str, Member]
    base: Path
    model: Any
    session: Session
    fast_paths: Mapping[str, int]

    def write(self, learner: Learner, out: Path) -> None:
        """Writes the learner's best weights, or its last where the best are not asked for."""
        weights = learner.best or learner.weights.tensors()
        adapter = self.members[learner.member].adapter
        self.method.write(self.model, weights, self.base, out, adapter)


def open_group(
    members: Sequence[Member],
    base: Path,
    device: torch.device,
    *,
    isolated: bool = False,
    over: Path | None = None,
) -> Group:
    """Rows, model, what is trained and optimizers, as they are before the first step.

    With ``over`` the base has the weights that this folder's graph multiplies with, in the
    precision that it is computed in.

    Raises:
        BadDataError: rows that cannot be trained (exit 65).
        BadRecipeError: a module name that the base model does not have (exit 78).
        CorruptError: the base model cannot be read (exit 74).
        StageFailedError: a loss of whole batches over a model that takes row by row, or code of
            the project that cannot be executed (exit 1).
    """
    common = members[0].config
    method: MethodProgram = program(METHODS[common.method].program)
    base_model = method.open(common, base, device)
    if len(members) > 1:
        _require_no_dropout(base_model)
    if over is not None:
        put_into(base_model, over)
    vocabulary = base_model.get_input_embeddings().weight.shape[0]
    longest = getattr(base_model.config, "max_position_embeddings", None)
    read = partial(read_rows, vocab_size=vocabulary, max_positions=longest)
    rows = {
        each.name: (read(each.data, "train"), read(each.data, "validation")) for each in members
    }
    if common.gradient_checkpointing:
        checkpoint_activations(base_model)
    model, trained = _attach(method, base_model, members)
    weights = {name: MasterWeights(own, DTYPES[common.precision]) for name, own in trained.items()}
    for each in members:
        if each.begins is not None:
            own = list(weights[each.name].masters)
            weights[each.name].load(method.read(model, own, each.begins, each.adapter))
    layout = Layout()
    adapters = {each.name: each.adapter for each in members}
    fast_paths = hot_path.install(base_model, layout, adapters, common.seed)
    apart = rows_are_apart(base_model, layout, members[0].name, device)
    if not apart:
        _require_single_rows(members)
    session = Session(
        base_model,
        [_learner(each, base, weights[each.name], *rows[each.name]) for each in members],
        device,
        layout,
        adapters,
        isolated=isolated,
        by_row=not apart,
    )
    fast_paths["fused_head"] = int(session.fused_head)
    return Group(method, {m.name: m for m in members}, base, model, session, fast_paths)


def _require_no_dropout(model: Any) -> None:
    """Refuses dropout of the base's own, which draws for the rows of all adapters at once.

    What one learns would depend on who is beside it. Asked before adapters are attached, which have
    theirs by row.
    """
    drawn = {
        **{key: value for key, value in model.config.to_dict().items() if key.endswith(_DROPOUT)},
        **{name: m.p for name, m in model.named_modules() if isinstance(m, torch.nn.Dropout)},
    }
    for name, share in drawn.items():
        if isinstance(share, float) and share > 0:
            raise StageFailedError(
                f"train: the base model has a dropout of its own ({name} {share:g}), which draws"
                " for all adapters at once",
                "set train.together=false, so that each has a training of its own",
            )


_DROPOUT = ("dropout", "pdrop")
"""How transformers' configurations end the names of such keys."""


def _require_single_rows(members: Sequence[Member]) -> None:
    """That no loss is of several rows, where each has a forward pass of its own."""
    for each in members:
        if LOSSES[each.config.loss.type].whole_batch(each.config.loss):
            raise StageFailedError(
                "train: this base model's attention cannot tell rows apart, so each has a pass of"
                " its own and a loss of the whole batch would see one row",
                "choose another train.loss, or another base model",
            )


def _learner(
    member: Member,
    base: Path,
    weights: MasterWeights,
    train_rows: Sequence[Row],
    validation_rows: Sequence[Row],
) -> Learner:
    answering = member.answering
    metric = TaskMetric(answering, validation_rows, base) if answering else None
    return Learner(
        member.name,
        member.config,
        weights,
        train_rows,
        validation_rows,
        member.project,
        metric,
    )


def _attach(
    method: MethodProgram, model: Any, members: Sequence[Member]
) -> tuple[Any, dict[str, dict[str, torch.nn.Parameter]]]:
    """The model with what everybody trains in it, and each one's parameters by name."""
    taken: set[int] = set()
    own: dict[str, set[int]] = {}
    for each in members:
        # So that nobody's first weights depend on who was there before.
        torch.manual_seed(each.config.seed)
        model = method.attach(model, each.config, each.adapter)
        own[each.name] = {id(p) for p in model.parameters() if p.requires_grad} - taken
        taken |= own[each.name]
    named = dict(model.named_parameters())
    for parameter in named.values():
        # Attaching one freezes those before it.
        parameter.requires_grad_(id(parameter) in taken)
    return model, {
        member: {name: p for name, p in named.items() if id(p) in ids}
        for member, ids in own.items()
    }
