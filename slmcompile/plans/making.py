"""What a kind is given to make its stages of, and what it says of a recipe's sections in a spec."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from slmcompile.plans.artifacts import ADAPTERS
from slmcompile.plans.canonical import digest
from slmcompile.plans.definition import Stage, stage_name
from slmcompile.recipe.compose import Composed
from slmcompile.recipe.project import Project
from slmcompile.recipe.schema import Recipe


@dataclass
class Making:
    """A recipe on its way to a plan.

    Attributes:
        project: the project.
        composed: the recipe as it was composed, its globs followed.
        stages: what is made already, every stage behind its inputs.
        group: of which this is one member's view; None for all of a recipe.
        known: the stages of this view by what they are called without a member's name.
    """

    project: Project
    composed: Composed
    stages: list[Stage] = field(default_factory=list)
    group: Making | None = None
    known: dict[str, Stage] = field(default_factory=dict)
    _drafts: list[Stage] | None = field(default=None, init=False, repr=False)
    _dumped: tuple[Recipe, dict[str, Any]] | None = field(default=None, init=False, repr=False)

    @property
    def recipe(self) -> Recipe:
        """The recipe itself."""
        return self.composed.recipe

    @property
    def member(self) -> str:
        """Whose view it is; empty for all of a recipe."""
        return self.composed.member

    @cached_property
    def members(self) -> dict[str, Making]:
        """A view for each adapter, whose recipe is a plain one; of a plain recipe itself."""
        views = self.composed.members
        if list(views) == [""]:
            return {"": self}
        return {name: Making(self.project, view, self.stages, self) for name, view in views.items()}

    @property
    def values(self) -> dict[str, Any]:
        """The recipe as JSON values."""
        whole = self.composed.whole
        if self._dumped is None or self._dumped[0] is not whole:
            self._dumped = whole, whole.model_dump(mode="json")
        return self._dumped[1]

    def of(self, kind: str) -> list[Stage]:
        """The stages of a kind that are made already; in a view, its own and the shared."""
        above = self.group.known if self.group else {}
        return [stage for stage in (above | self.known).values() if stage.kind == kind]

    def stage(self, kind: str, artifact: str = "") -> Stage:
        """The one stage of a kind, or that of an artifact; in a member's view its own.

        Raises:
            KeyError: it is not made, or not yet.
        """
        name = stage_name(kind, artifact)
        return self.known[name] if name in self.known or not self.group else self.group.known[name]

    def add_shared(
        self,
        kind: str,
        config: dict[str, Any],
        reads: Mapping[str, str],
        packages: dict[str, str],
        inputs: Mapping[str, Stage],
        files: tuple[str, ...] = (),
        names: tuple[str, ...] = (),
        artifact: str = "",
        epochs: Mapping[str, int] | None = None,
        *,
        measured: bool = False,
    ) -> Stage:
        """A stage in a pipeline of its own, named by what it does: equal specs are one stage.

        One that is ``measured`` has metrics and plots there.

        The folder's name, unlike the identity, depends on where the files lie: what is in them is
        not known to whoever reads the recipe alone, and two recipes with the same keys may have
        others.
        """
        outs = {role: made.out for role, made in inputs.items()}
        name = stage_name(kind, artifact)
        pipeline = f"{name}-{digest([kind, config, packages, outs])[:8]}"
        return self._added(
            Stage(
                pipeline=pipeline,
                name=name,
                kind=kind,
                config=config,
                reads=reads,
                packages=packages,
                inputs=outs,
                input_stages={role: made.address for role, made in inputs.items()},
                files=files,
                names=names,
                out=f"outputs/{pipeline}",
                epochs=epochs or {},
                metrics=(f"pipelines/{pipeline}/metrics/{kind}.json",) if measured else (),
                plots=(f"pipelines/{pipeline}/plots/{kind}.json",) if measured else (),
            )
        )

    def add(
        self,
        kind: str,
        config: dict[str, Any],
        reads: Mapping[str, str],
        packages: dict[str, str],
        inputs: Mapping[str, Stage],
        artifact: str = "",
        files_of: Mapping[str, tuple[str, Stage]] | None = None,
        **more: Any,
    ) -> Stage:
        """A stage of the recipe's own pipeline.

        Args:
            kind: its kind.
            config: what it reads of the recipe.
            reads: where that lies in the recipe.
            packages: versions by name.
            inputs: stages whose output folders it reads, by role.
            artifact: what it makes or measures, of a kind that has a stage for each.
            files_of: single files that it reads beside them, and the stages that write them.
            more: other attributes of a ``Stage``.
        """
        # A draft is a part of one stage for all members.
        member = "" if self._drafts is not None else self.member
        recipe, name = self.composed.name, stage_name(kind, artifact, member)
        read = {role: (made.out, made) for role, made in inputs.items()} | dict(files_of or {})
        return self._added(
            Stage(
                pipeline=recipe,
                name=name,
                kind=kind,
                config=config,
                reads=reads,
                packages=packages,
                inputs={role: path for role, (path, _) in read.items()},
                input_stages={role: made.address for role, (_, made) in read.items()},
                **{"out": f"outputs/{recipe}/{name}", **more},
            )
        )

    @property
    def of_recipe(self) -> str:
        """The recipe's name, and a member's behind it; no recipe is called so, with a point."""
        return ".".join(filter(None, (self.composed.name, self.member)))

    def trained(self, artifact: str = "") -> dict[str, tuple[str, Stage]]:
        """What its train stage trained, as an input: one of a group's has a part of the output.

        Or what was trained for one artifact alone.
        """
        stage = self.stage("train", artifact)
        grouped = "members" in stage.config
        return {"train": (f"{stage.out}/{ADAPTERS}/{self.member}" if grouped else stage.out, stage)}

    def training(self) -> tuple[str, Stage]:
        """The record of its training, as an input: each member has its own."""
        stage = self.stage("train")
        own = self.plots(f"train--{self.member}" if self.member else "train")
        return own if own in stage.plots else stage.plots[0], stage

    def draft(self, plan: Callable[[Making], None]) -> Stage:
        """The one stage that ``plan`` adds to a member's view, without adding it."""
        self._drafts = []
        try:
            plan(self)
            (stage,) = self._drafts
        finally:
            self._drafts = None
        return stage

    def join(self, kind: str, of_members: Mapping[str, Stage]) -> None:
        """One stage that does for each member what a stage of its own would do."""

        def union(values: Iterable[Iterable[Any]]) -> tuple[Any, ...]:
            return tuple(dict.fromkeys(each for found in values for each in found))

        parts = of_members.items()
        drafts = of_members.values()
        self._added(
            Stage(
                pipeline=self.composed.name,
                name=kind,
                kind=kind,
                config={"members": {name: dict(part.config) for name, part in parts}},
                reads={
                    ".".join(filter(None, ("members", name, own))): _of_adapter(name, key)
                    for name, part in parts
                    for own, key in part.reads.items()
                },
                packages={k: v for part in drafts for k, v in part.packages.items()},
                inputs=_by_member({name: part.inputs for name, part in parts}),
                input_stages=_by_member({name: part.input_stages for name, part in parts}),
                files=union(part.files for part in drafts),
                names=tuple(f"members.{name}.{key}" for name, part in parts for key in part.names),
                out=next(iter(drafts)).out,
                metrics=union(part.metrics for part in drafts),
                epochs={k: v for part in drafts for k, v in part.epochs.items()},
            )
        )

    def metrics(self, name: str) -> str:
        """Where a stage's DVC metrics file lies."""
        return f"pipelines/{self.composed.name}/metrics/{name}.json"

    def plots(self, name: str) -> str:
        """Where a stage's DVC plots file lies."""
        return f"pipelines/{self.composed.name}/plots/{name}.json"

    def _added(self, stage: Stage) -> Stage:
        """One that another member has made as well stands there once."""
        if self._drafts is not None:
            self._drafts.append(stage)
            return stage
        stage = next((each for each in self.stages if each == stage), stage)
        if stage not in self.stages:
            self.stages.append(stage)
        self.known[stage.role] = stage
        return stage


def _by_member(found: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """By role and member, ``data--tone``."""
    return {
        stage_name(role, member=name): value
        for name, of_member in found.items()
        for role, value in of_member.items()
    }


def _of_adapter(member: str, key: str) -> str:
    """A key of a member's recipe in the recipe that has it among its adapters."""
    section = key.partition(".")[0]
    return f"adapters.{member}.{key}" if section in {"data", "eval", "train"} else key
