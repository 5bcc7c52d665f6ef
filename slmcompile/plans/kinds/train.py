"""``train``: base weights and tokenized rows become an adapter, or a model of its own.

Adapters of one recipe are trained in one stage, in one pass over the base they share, unless
``train.together`` says that each has its own. A candidate of ``target.T.train_over`` has one more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slmcompile.losses import LOSSES
from slmcompile.methods import METHODS
from slmcompile.optimizers import OPTIMIZERS
from slmcompile.plans.answered_validation import answered_validation
from slmcompile.plans.budgets import auto_targets, candidate_name
from slmcompile.plans.definition import Stage, stage_name
from slmcompile.plans.earlier import again, earlier
from slmcompile.plans.installed import versions
from slmcompile.plans.kinds.kind import Kind
from slmcompile.plans.kinds.quantize import OVER, trained_over
from slmcompile.plans.sections import typed
from slmcompile.plans.taken import refuse_other_weights

if TYPE_CHECKING:
    from slmcompile.methods.keys import Train
    from slmcompile.plans.making import Making


def plan(making: Making) -> None:
    """One stage; one each of adapters that are not trained together or that others train."""
    members = dict(making.members)
    for name in making.composed.taken:
        _of_another(members.pop(name))
    if not members:
        return
    if "" in members or not making.composed.whole.train.together:
        for view in members.values():
            _alone(view)
    else:
        _together(making, members)
    for name, target in auto_targets(making.composed.whole).items():
        for label in target.trained_for:
            built = candidate_name(name, label)
            _alone(making, built, {OVER: making.stage("quantize", built)})


def _alone(making: Making, artifact: str = "", over: Mapping[str, Stage] | None = None) -> None:
    """The adapter, or one more that is trained for one artifact over its own base."""
    check, of = making.stage("check"), asked(making)
    name = stage_name("train", artifact, making.member)
    making.add(
        "train",
        of.config,
        of.reads,
        of.packages,
        {**of.inputs, **(over or {})},
        artifact=artifact,
        metrics=(making.metrics(name),),
        plots=(making.plots(name),),
        files=of.files,
        names=of.names,
        epochs=of.epochs,
        # Its order alone: an edit that reruns the checks and passes them must not retrain.
        after={check.out: check.address},
    )


def _of_another(making: Making) -> None:
    """The other recipe's training once more, in a pipeline that recipes share.

    What executes code of the project is this recipe's own: nothing else would come behind the check
    of the policy, which stands in no shared pipeline.
    """
    refuse_other_weights(making)
    if LOSSES[making.recipe.train.loss.type].code:
        _alone(making)
    else:
        making.known["train"] = again(making, asked(making))


@dataclass(frozen=True)
class Asked:
    """What a training of one's own depends on: parts of a ``Stage``, but for its inputs."""

    config: dict[str, Any]
    reads: dict[str, str]
    packages: dict[str, str]
    inputs: dict[str, Stage]
    files: tuple[str, ...]
    names: tuple[str, ...]
    epochs: dict[str, int]


def asked(making: Making) -> Asked:
    """Of a recipe whose base and data stages are made."""
    train, answers = making.recipe.train, answered_validation(making)
    files, imported = _code(making)
    return Asked(
        config=section(making) | dict(answers.config),
        reads={"": "train", **answers.reads},
        packages=versions(*_packages(train), *imported) | dict(answers.packages),
        inputs={
            "base": making.stage("base"),
            "data": making.stage("data"),
            **trained_over(making),
            **earlier(making),
        },
        files=tuple(dict.fromkeys((*files.values(), *answers.files))),
        names=(*files, *answers.names),
        epochs=_epochs(train) | dict(answers.epochs),
    )


def _together(making: Making, members: dict[str, Making]) -> None:
    of = {name: asked(view) for name, view in members.items()}
    checks = [view.stage("check") for view in members.values()]
    making.add(
        "train",
        {
            "members": {name: each.config for name, each in of.items()},
            # Of the stage's packages and epochs those of each, as it would have them alone.
            "depends": {
                name: {"packages": sorted(each.packages), "epochs": sorted(each.epochs)}
                for name, each in of.items()
            },
            "isolated": making.composed.whole.train.isolated,
        },
        {
            f"members.{name}.{own}".removesuffix("."): f"adapters.{name}.{key}"
            for name, each in of.items()
            for own, key in each.reads.items()
        }
        | {"isolated": "train.isolated"},
        {package: known for each in of.values() for package, known in each.packages.items()},
        {
            "base": making.stage("base"),
            **trained_over(making),
            **{f"data--{name}": each.inputs["data"] for name, each in of.items()},
        },
        metrics=(making.metrics("train"),),
        plots=tuple(making.plots(f"train--{name}") for name in members),
        files=tuple(dict.fromkeys(path for each in of.values() for path in each.files)),
        names=tuple(f"members.{name}.{key}" for name, each in of.items() for key in each.names),
        epochs={entry: epoch for each in of.values() for entry, epoch in each.epochs.items()},
        after={check.out: check.address for check in checks},
    )


def _packages(train: Train) -> list[str]:
    """Installed packages that what a member learns depends on."""
    entries = (METHODS[train.method], OPTIMIZERS[train.optim], LOSSES[train.loss.type])
    return [package for entry in entries for package in entry.packages]


def _epochs(train: Train) -> dict[str, int]:
    return {
        **METHODS.raised(train.method),
        **OPTIMIZERS.raised(train.optim),
        **LOSSES.raised(train.loss.type),
    }


def _code(making: Making) -> tuple[dict[str, str], tuple[str, ...]]:
    """The project's code that a loss is, by its key, and the installed packages that it imports."""
    loss = making.recipe.train.loss
    key = LOSSES[loss.type].code
    if not key:
        return {}, ()
    # Beside the project's files lies the policy, which whoever only runs a stage does without.
    from slmcompile.plans.project_files import inside
    from slmcompile.plans.python_file import imported_packages

    values = loss.model_dump()
    where = f"{making.composed.origin(('train', 'loss', key))}: train.loss.{key}"
    path = inside(making.project, values[key], where)
    imported = imported_packages(making.project, path, values["name"], values["options"], where)
    return {f"loss.{key}": path}, imported


def section(making: Making) -> dict[str, Any]:
    """What a member's training reads of its recipe."""
    values = making.values["train"]
    # How adapters are trained beside each other, which is no matter to one alone; and the name of
    # a recipe or a target, whose weights are an input.
    left = {"together", "isolated", "continue_from", "over"}
    alone = {key: value for key, value in values.items() if key not in left}
    return typed(making.recipe.train, alone)


ENTRIES = (
    Kind(
        name="train",
        verb="train",
        place=40,
        program="slmcompile.stages.train:run",
        plan=plan,
        epoch=4,
        shared=True,
        outdated="of an earlier model",
    ),
)
