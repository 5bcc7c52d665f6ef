"""The plan as data: pipelines, their stages, and what each stage reads and writes.

A ``Stage`` is everything that ``slmcompile exec`` and the DVC emitter need; neither looks at a
recipe. Paths are relative to the project and written with ``/``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from slmcompile.plans.artifacts import ADAPTERS
from slmcompile.plans.canonical import digest
from slmcompile.plans.kinds import KINDS
from slmcompile.plans.names import (
    content_names,
    identity_of_member,
    named_entry,
    named_files,
    names_of_member,
    without_names,
)

T = TypeVar("T")

SPEC_SCHEMA = 1
_DIGITS = re.compile(r"[0-9a-f]{8}")


def shared_stage(pipeline: str) -> str:
    """The stage of a shared pipeline, ``answer-base`` of ``answer-base-1a2b3c4d``; else empty."""
    name, _, digits = pipeline.rpartition("-")
    kind = KINDS.get(name.partition("-")[0])
    return name if kind and kind.shared and _DIGITS.fullmatch(digits) else ""


OF_MEMBER = "--"
"""Stands before a member's name in the name of a stage, and so in the name of no artifact."""


def one_or_all(paths: tuple[str, ...]) -> str | list[str] | None:
    """A spec's way to write its metrics or plots files: none, the one, or a list."""
    return (paths[0] if paths else None) if len(paths) < 2 else list(paths)


def all_of(written: str | list[str] | None) -> tuple[str, ...]:
    """The same, read."""
    return () if written is None else (written,) if isinstance(written, str) else tuple(written)


@dataclass(frozen=True)
class Stage:
    """One step: a spec and input folders in, one output folder out.

    Attributes:
        pipeline: name of the generated pipeline it lies in (``quickstart``, ``base-1a2b3c4d``).
        name: its name there (``train``, ``evaluate-cpu-int8``).
        kind: which of ``KINDS`` it is.
        config: the typed subset of the recipe that it reads, defaults materialised.
        packages: versions of the packages that change its numbers.
        reads: where its config lies in the recipe: dotted key there, by dotted key here; of several
            that fit the longest counts.
        epochs: of the table entries that it uses, those that are above 1.
        inputs: output folders of other stages, by role.
        input_stages: the stages (``pipeline/name``) that make those folders, by role.
        files: project files that it reads.
        names: dotted keys of ``config`` that say where such files lie; what they are called is no
            part of the stage's identity, what is in them is.
        after: outputs of stages that must have passed before it begins and that it does not read;
            no part of its identity. By path, the stage (``pipeline/name``) that makes it.
        out: its output folder.
        metrics: its DVC metrics files.
        plots: its DVC plots files.
    """

    pipeline: str
    name: str
    kind: str
    config: Mapping[str, Any]
    packages: Mapping[str, str]
    inputs: Mapping[str, str] = field(default_factory=dict)
    input_stages: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    after: Mapping[str, str] = field(default_factory=dict)
    out: str = ""
    metrics: tuple[str, ...] = ()
    plots: tuple[str, ...] = ()
    reads: Mapping[str, str] = field(default_factory=dict)
    epochs: Mapping[str, int] = field(default_factory=dict)

    @property
    def artifact(self) -> str:
        """What it makes or measures, of a kind that has a stage for each; else empty."""
        return self._told_apart[0]

    @property
    def role(self) -> str:
        """What it is to the stages that read it: its name without a member's."""
        return stage_name(self.kind, self.artifact)

    @property
    def member(self) -> str:
        """Which member of a group it is of; empty in a plain recipe, whose one has no name."""
        return self._told_apart[1]

    @property
    def _told_apart(self) -> tuple[str, str]:
        whole = self.name.removeprefix(self.kind)
        # No member's name begins with a dash or has two, and no artifact's has two.
        artifact, told, member = whole.rpartition(OF_MEMBER)
        return (artifact if told else whole).removeprefix("-"), member if told else ""

    def recipe_key(self, key: str) -> str:
        """The recipe's key for a dotted key of ``config``, which a person can edit."""
        fit = [own for own in self.reads if not own or key == own or key.startswith(f"{own}.")]
        if not fit:
            return key
        own = max(fit, key=len)
        rest = key.removeprefix(own).removeprefix(".")
        return ".".join(part for part in (self.reads[own], rest) if part)

    def seen_by(self, member: str) -> Stage:
        """As it is to one adapter, whose recipe is a plain one: its keys are read from there.

        Of a stage for all adapters what concerns the others is left out.
        """
        config, reads, names = self.config, self.reads, self.names
        if "members" in config:
            beside = {k: v for k, v in config.items() if k not in {"members", "depends"}}
            config = {**beside, **config["members"][member]}
            within = f"members.{member}"
            reads = {
                own.removeprefix(within).removeprefix("."): key
                for own, key in reads.items()
                if own in beside or f"{own}.".startswith(f"{within}.")
            }
            names = tuple(
                name.removeprefix(f"{within}.") for name in names if name.startswith(f"{within}.")
            )
        above = f"adapters.{member}."
        reads = {own: key.removeprefix(above) for own, key in reads.items()}
        return replace(
            self,
            config=config,
            reads=reads,
            names=names,
            inputs=of_member(self.inputs, member),
            input_stages=of_member(self.input_stages, member),
        )

    def key_of(self, path: str) -> str:
        """The recipe's key that names a file which it reads; empty of others."""
        found = dict(named_files(self.config, self.names, (path,)))
        return self.recipe_key(found[path]) if path in found else ""

    def source_of(self, path: str) -> str:
        """Which of several sources a file is of, by its name; empty where there is one."""
        found = dict(named_files(self.config, self.names, (path,)))
        return named_entry(self.config, found[path]) if path in found else ""

    @property
    def address(self) -> str:
        """``pipeline/name``, as people and messages write it."""
        return f"{self.pipeline}/{self.name}"

    @property
    def spec_path(self) -> str:
        """Where its spec file is committed."""
        return f"pipelines/{self.pipeline}/plan/{self.name}.json"

    @property
    def command(self) -> str:
        """The constant text that DVC hands to a shell; nothing of a recipe's values is in it."""
        return f"slmcompile exec {self.spec_path}"

    @property
    def outs(self) -> tuple[str, ...]:
        """Every path that it writes."""
        return tuple(path for path in (self.out, *self.metrics, *self.plots) if path)

    @property
    def deps(self) -> tuple[str, ...]:
        """Every path that DVC watches for it."""
        read = (*self.files, *self.inputs.values())
        return (self.spec_path, *dict.fromkeys(read), *self.after)

    def identity(self) -> dict[str, Any]:
        """What its result depends on, short of the bytes of its inputs."""
        return {
            "schema": SPEC_SCHEMA,
            "kind": self.kind,
            "epoch": KINDS[self.kind].epoch,
            **({"epochs": dict(self.epochs)} if self.epochs else {}),
            "config": without_names(self.config, self.names),
            "packages": dict(self.packages),
        }

    def spec(self) -> dict[str, Any]:
        """Its spec file: the identity and where things lie."""
        read = {"files": list(self.files), "names": list(self.names)} if self.files else {}
        return {
            **self.identity(),
            **read,
            "config": dict(self.config),
            "stage": self.address,
            "inputs": dict(self.inputs),
            "out": self.out,
            "metrics": one_or_all(self.metrics),
            "plots": one_or_all(self.plots),
        }

    def spec_text(self) -> str:
        """The bytes of the spec file; canonical, and readable in a pull request."""
        return json.dumps(self.spec(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _of_adapter(
    stage: Stage, member: str, inputs: Mapping[str, str], files: Mapping[str, str]
) -> str:
    """SHA-256 of what one adapter of a training depends on, whoever is beside it."""
    own = stage.config["members"][member]
    names, read = names_of_member(stage.config, stage.names, stage.files, member)
    told = [[name, files[path]] for path, name in content_names(own, names, read)]
    return digest(
        {
            **identity_of_member(stage.identity(), member),
            **({"files": told} if told else {}),
            "inputs": of_member(inputs, member),
        }
    )


def of_member(by_role: Mapping[str, T], member: str) -> dict[str, T]:
    """What is everybody's, and one member's under the role that it has in a plain recipe."""
    ending = f"{OF_MEMBER}{member}"
    return {
        role.removesuffix(ending): value
        for role, value in by_role.items()
        if OF_MEMBER not in role or role.endswith(ending)
    }


def stage_name(kind: str, artifact: str = "", member: str = "") -> str:
    """What a stage is called in its pipeline: ``answer-cpu-int8--intents``."""
    name = f"{kind}-{artifact}" if artifact else kind
    return f"{name}{OF_MEMBER}{member}" if member else name


def found(stages: Iterable[Stage], kind: str, artifact: str, member: str) -> Stage:
    """The stage of that name, of whichever pipeline.

    Raises:
        KeyError: there is none.
    """
    name = stage_name(kind, artifact, member)
    for stage in stages:
        if stage.name == name:
            return stage
    raise KeyError(name)


def with_all_they_read(addresses: Iterable[str], stages: Iterable[Stage]) -> set[str]:
    """Addresses of stages, of the stages that they read, of those that these read, and so on."""
    by_address = {each.address: each for each in stages}
    found: set[str] = set()
    left = [*addresses]
    while left:
        address = left.pop()
        if address not in found and address in by_address:
            found.add(address)
            left += by_address[address].input_stages.values()
    return found


@dataclass(frozen=True)
class Pipeline:
    """One generated folder ``pipelines/<name>``.

    Attributes:
        name: folder name.
        stages: in an order in which they can run.
        sources: project files that its ``plan`` stage is made from (empty for shared pipelines).
        runtime: settings that cannot change a result (cadence of logs and checkpoints, tracking).
        folders: folders in which globs look for files: one more there makes another plan.
    """

    name: str
    stages: tuple[Stage, ...]
    sources: tuple[str, ...] = ()
    runtime: Mapping[str, Any] | None = None
    folders: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Plan:
    """A compiled recipe.

    Attributes:
        recipe: its name.
        overrides: the overrides it was composed with.
        shared: pipelines that other recipes may use too (``base`` and ``data``).
        own: the recipe's own pipeline.
        origins: where each recipe key came from (``file:line``), by dotted key.
        effective: the whole recipe, defaults materialised.
        files: SHA-256 of every project file that a stage reads, by path.
        members: of a recipe with adapters, the addresses of each one's stages and of those that it
            shares, by what they are called without its name.
        member: whose view it is; empty for all of a recipe.
    """

    recipe: str
    overrides: tuple[str, ...]
    shared: tuple[Pipeline, ...]
    own: Pipeline
    origins: Mapping[str, str]
    effective: Mapping[str, Any]
    files: Mapping[str, str]
    members: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    member: str = ""

    def __repr__(self) -> str:
        told = " ".join([self.recipe, *self.overrides])
        return f"<Plan {self.plan_id} of {told}: {sum(1 for _ in self.stages())} stages>"

    @property
    def pipelines(self) -> tuple[Pipeline, ...]:
        """All pipelines, shared ones first."""
        return (*self.shared, self.own)

    def stages(self) -> Iterator[Stage]:
        """All stages, every one behind its inputs."""
        for pipeline in self.pipelines:
            yield from pipeline.stages

    def of(self, kind: str) -> list[Stage]:
        """The stages of a kind, in plan order."""
        return [stage for stage in self.stages() if stage.kind == kind]

    def stage(self, kind: str, artifact: str = "", member: str = "") -> Stage:
        """The one stage of a kind, or that of an artifact, a member or both.

        Raises:
            KeyError: there is none.
        """
        of_member = self.members.get(member or self.member)
        if of_member is None:
            return found(self.of(kind), kind, artifact, member)
        address = of_member[stage_name(kind, artifact)]
        return next(stage for stage in self.stages() if stage.address == address)

    @property
    def views(self) -> dict[str, Plan]:
        """The plan of each adapter as that of a plain recipe, by name; of a plain one itself."""
        if not self.members or self.member:
            return {self.member: self}
        # Whoever only runs a stage does without the schema.
        from slmcompile.recipe.members import origins_of, recipes, typed

        whole = typed(dict(self.effective))
        origins = {tuple(key.split(".")): at for key, at in self.origins.items()}
        stages = {
            name: tuple(
                stage.seen_by(name) for stage in self.own.stages if stage.address in own.values()
            )
            for name, own in self.members.items()
        }
        shared = [pipeline.stages[0] for pipeline in self.shared]
        needed = {
            name: with_all_they_read(own.values(), (*shared, *stages[name]))
            for name, own in self.members.items()
        }
        return {
            name: replace(
                self,
                shared=tuple(p for p in self.shared if p.stages[0].address in needed[name]),
                own=replace(self.own, stages=stages[name]),
                origins={
                    ".".join(keys): at for keys, at in origins_of(origins, whole, name).items()
                },
                effective=recipes(whole)[name].model_dump(mode="json"),
                member=name,
            )
            for name in self.members
        }

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of what each stage's result depends on, by address.

        Made of the stage's identity, the hashes of the files it reads and the fingerprints of its
        inputs; never of paths, time, host or cosmetic settings.
        """
        found: dict[str, str] = {}
        parts: dict[str, str] = {}  # of outputs of which others read but a part, by path
        for stage in self.stages():
            inputs = {
                role: parts.get(stage.inputs[role], found[address])
                for role, address in stage.input_stages.items()
            }
            found[stage.address] = digest(
                {
                    **stage.identity(),
                    "files": [
                        [name, self.files[path]]
                        for path, name in content_names(stage.config, stage.names, stage.files)
                    ],
                    "inputs": inputs,
                }
            )
            if stage.kind == "train" and "members" in stage.config:
                for member in stage.config["members"]:
                    part = _of_adapter(stage, member, inputs, self.files)
                    parts[f"{stage.out}/{ADAPTERS}/{member}"] = part
        return found

    @property
    def plan_id(self) -> str:
        """Twelve hex digits that name this plan; groups a recipe's runs in a tracker.

        Stages that only pass or fail are left out: what comes out is the same under another policy.
        """
        found = self.fingerprints()
        made = [stage for stage in self.stages() if not KINDS[stage.kind].constant]
        return digest({stage.address: found[stage.address] for stage in made})[:12]
