"""What a rule may look at. Facts that are not there yet are ``None``, never guessed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from slmcompile.base.facts import ModelFacts
from slmcompile.data.report_facts import DataFacts
from slmcompile.machine.device import Device
from slmcompile.plans.definition import Plan, stage_name
from slmcompile.recipe.policy import Policy
from slmcompile.recipe.project import Project
from slmcompile.recipe.schema import Recipe


@dataclass(frozen=True)
class CheckContext:
    """One recipe and everything known about it now.

    Attributes:
        project: the project.
        name: the recipe's name.
        recipe: the recipe, defaults materialised.
        device: the machine that will run it.
        plan: the compiled plan; ``None`` in the ``check`` stage, where rules that need only the
            plan have been judged already.
        model: facts of the base model; ``None`` before they can be read.
        data: facts of the tokenized rows; ``None`` before the ``data`` stage has run.
        origins: ``file:line`` by dotted key.
        deep: what ``plan --deep`` could not do, empty where it did all; ``None`` unless asked.
        policy: what recipes may use; the built-in one restricts nothing.
        pending: kinds of stages that will run; ``None`` where that is not known, so any may.
        untouched: whether no stage will run or be restored.
        member: which adapter's, of a recipe with several.
        trained_with: the contexts of the adapters that are trained together with it.
    """

    project: Project
    name: str
    recipe: Recipe
    device: Device
    plan: Plan | None = None
    model: ModelFacts | None = None
    data: DataFacts | None = None
    origins: Mapping[str, str] = field(default_factory=dict)
    deep: str | None = None
    policy: Policy = field(default_factory=Policy)
    pending: frozenset[str] | None = None
    untouched: bool = False
    member: str = ""
    trained_with: tuple[CheckContext, ...] = ()

    @property
    def compiled(self) -> Plan:
        """The plan, of a rule that the ``check`` stage does not judge."""
        if self.plan is None:
            raise ValueError("a rule that needs more than the recipe must do without the plan")
        return self.plan

    def idle(self, *kinds: str) -> bool:
        """Whether no stage of these kinds will run, so that what they would need is no matter."""
        return self.pending is not None and not self.pending & {*kinds}

    @property
    def base_stage(self) -> str:
        """Address of the stage that brings ``model``."""
        return self.plan.stage("base").address if self.plan else "base"

    @property
    def data_stage(self) -> str:
        """Address of the stage that brings ``data``."""
        return self.plan.stage("data").address if self.plan else "data"

    @property
    def check_stage(self) -> str:
        """Address of the stage that judges again, before training."""
        return f"{self.name}/{stage_name('check', member=self.member)}"

    @cached_property
    def stated(self) -> Mapping[str, Sequence[str]]:
        """``file:line`` of a dotted key and of all below it, by the key."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for known, origin in self.origins.items():
            parts = known.split(".")
            for length in range(1, len(parts) + 1):
                found[".".join(parts[:length])].append(origin)
        return found

    def at(self, key: str) -> str:
        """``file:line: key``, as messages show it; the nearest section above where key is unset."""
        parts = key.split(".")
        for length in range(len(parts), 0, -1):
            origin = self.origins.get(".".join(parts[:length]))
            if origin:
                return f"{origin}: {key}"
        return f"recipes/{self.name}.yaml: {key}"
