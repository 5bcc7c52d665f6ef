"""What a kind is given to make its stages of, and what it says of a recipe's sections in a spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slmcompile.plans.canonical import digest
from slmcompile.plans.definition import Stage, found, stage_name
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
    """

    project: Project
    composed: Composed
    stages: list[Stage] = field(default_factory=list)
    _dumped: tuple[Recipe, dict[str, Any]] | None = field(default=None, init=False, repr=False)

    @property
    def recipe(self) -> Recipe:
        """The recipe itself."""
        return self.composed.recipe

    @property
    def values(self) -> dict[str, Any]:
        """The recipe as JSON values."""
        if self._dumped is None or self._dumped[0] is not self.recipe:
            self._dumped = self.recipe, self.recipe.model_dump(mode="json")
        return self._dumped[1]

    def of(self, kind: str) -> list[Stage]:
        """The stages of a kind that are made already."""
        return [stage for stage in self.stages if stage.kind == kind]

    def stage(self, kind: str, artifact: str = "", member: str = "") -> Stage:
        """The one stage of a kind, or that of an artifact, a member or both.

        Raises:
            KeyError: it is not made, or not yet.
        """
        return found(self.of(kind), kind, artifact, member)

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
    ) -> Stage:
        """A stage in a pipeline of its own, named by what it does: equal specs are one stage.

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
        member: str = "",
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
            member: whose it is, of a kind that has a stage for each member.
            files_of: single files that it reads beside them, and the stages that write them.
            more: other attributes of a ``Stage``.
        """
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

    def metrics(self, name: str) -> str:
        """Where a stage's DVC metrics file lies."""
        return f"pipelines/{self.composed.name}/metrics/{name}.json"

    def plots(self, name: str) -> str:
        """Where a stage's DVC plots file lies."""
        return f"pipelines/{self.composed.name}/plots/{name}.json"

    def _added(self, stage: Stage) -> Stage:
        self.stages.append(stage)
        return stage
