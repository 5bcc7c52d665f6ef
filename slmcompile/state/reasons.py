"""Why a stage does not stay as it is: reasons, and those that follow from two specs of a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from slmcompile.console.printable import printable
from slmcompile.plans.artifacts import ASKED_BY, TUNED
from slmcompile.plans.definition import OF_MEMBER, Plan, Stage, shared_stage
from slmcompile.plans.earlier import ROLE
from slmcompile.plans.kinds import KINDS
from slmcompile.plans.kinds.quantize import BASE_ALONE, OVER
from slmcompile.recipe.continued import KEY
from slmcompile.recipe.members import ADAPTERS, SECTIONS, TAKEN_FROM
from slmcompile.state.short_values import short_pair
from slmcompile.state.specs import differences

Cause = Literal[
    "failed",
    "first_run",
    "key",
    "package",
    "epoch",
    "file",
    "input",
    "output",
    "edited",
    "cache",
    "other_work",
    "command",
]


@dataclass(frozen=True)
class Reason:
    """Why a stage does not stay as it is.

    Attributes:
        cause: a stable word for programs.
        subject: the key, package, file, input or output; what a failed stage said; empty for a
            spec that is not known.
        old: what it was, where that is known.
        new: what it is; for a failed stage, how to mend it.
        where: ``file:line`` of a key, or of the one that names a file of several sources.
        source: of a file, the name of its source where there are several.
    """

    cause: Cause
    subject: str = ""
    old: Any = None
    new: Any = None
    where: str = ""
    source: str = ""

    def sentence(self) -> str:
        """One phrase for a person."""
        return printable(self._sentence())

    @property
    def of_source(self) -> str:
        """`` (source polite)``: of a file whose source is one of several."""
        return f" (source {self.source})" if self.source else ""

    @property
    def adapter(self) -> str:
        """The adapter that a recipe has and had not, or the other way round; else empty."""
        above, _, name = self.subject.partition(".")
        other = self.cause != "key" or above != "adapters" or "." in name
        return "" if other or (self.old is None) == (self.new is None) else name

    def _sentence(self) -> str:
        values = " → ".join(short_pair(self.old, self.new))
        match self.cause:
            case "first_run" | "command":
                return _ALONE[self.cause]
            case "failed":
                return f"failed here: {self.subject}"
            case "key":
                return self._of_key(values)
            case "package":
                return f"package {self.subject} {values}"
            case "epoch":
                return f"slmcompile's own code for {self.subject} changed (epoch {values})"
            case "file":
                return f"{self.subject}{self.of_source} changed"
            case "input":
                return f"input {self.subject} changed"
            case "output" | "edited" | "cache" | "other_work":
                return f"output {self.subject} {_OUTPUT[self.cause]}"

    def _of_key(self, values: str) -> str:
        if not self.subject:
            return "its spec changed (what it ran from is not known)"
        if self.adapter:
            return f"adapter {self.adapter} {'joins' if self.old is None else 'leaves'}"
        return f"{self.subject} {values}"


_ALONE: Mapping[str, str] = {
    "first_run": "has not run here",
    "command": "its command changed",
}
_OUTPUT: Mapping[str, str] = {
    "output": "is missing",
    "edited": "is not as it was written",
    "cache": "is here, its cache object is missing",
    "other_work": "is of other work than dvc.lock says",
}


def file_reason(plan: Plan, stage: Stage, path: str, old: str | None, new: str | None) -> Reason:
    """That a file changed, and of several sources which one it is of."""
    source = stage.source_of(path)
    where = plan.origins.get(stage.key_of(path), "") if source else ""
    return Reason("file", path, old, new, where, source)


Said = Callable[[str], str | None]
"""The name that the recipe gave at a dotted key before; None where that is not known."""


def spec_reasons(plan: Plan, stage: Stage, old: Mapping[str, Any], said: Said) -> list[Reason]:
    """What differs between the spec that a stage has and an earlier one of its kind."""
    if _of_earlier(stage) and (another := _another_earlier(plan, said)):
        return [another]  # of another recipe: nobody has edited what differs
    found = identity_reasons(plan, stage, old, stage.spec())
    known = {reason.subject for reason in found}
    others = (
        *_earlier_reasons(plan, stage, old, said),
        *_base_reasons(plan, stage, old),
        *_artifact_reasons(plan, stage, old),
    )
    return [*found, *(each for each in others if each.subject not in known)]


def _of_earlier(stage: Stage) -> bool:
    """Whether it is of the recipe that this one goes on from, and not of this one."""
    return bool(stage.reads) and all(key.startswith(f"{KEY}.") for key in stage.reads.values())


def _earlier_reasons(
    plan: Plan, stage: Stage, old: Mapping[str, Any], said: Said
) -> Iterator[Reason]:
    """The key that says which recipe training goes on from; it too is in no config."""
    before, now = old.get("inputs", {}), plan.effective["train"].get("continue_from")
    where = plan.origins.get(KEY, "")
    if ROLE in before and ROLE in stage.inputs:
        if another := _another_earlier(plan, said):
            yield another
    elif ROLE in before:
        # Where no name is known there is still that of the folder.
        yield Reason("key", KEY, said(KEY) or str(before[ROLE]).rpartition("/")[2], now, where)
    elif ROLE in stage.inputs:
        yield Reason("key", KEY, None, now, where)


def _another_earlier(plan: Plan, said: Said) -> Reason | None:
    """That it is another recipe now than it was, where that is known."""
    then, now = said(KEY), plan.effective["train"].get("continue_from")
    if then is None or then == now:
        return None
    return Reason("key", KEY, then, now, plan.origins.get(KEY, ""))


def _base_reasons(plan: Plan, stage: Stage, old: Mapping[str, Any]) -> Iterator[Reason]:
    """The key by which a stage reads a quantised base that it did not read, or no more.

    It is in no config: what it names is an input.
    """
    before = old.get("inputs", {})
    if KINDS[stage.kind].whole_recipe:
        return  # it has the keys themselves
    if (OVER in before) != (OVER in stage.inputs):
        key = "train.over"
        then, now = (_target_of(inputs.get(OVER)) for inputs in (before, stage.inputs))
    elif (BASE_ALONE in before) != (BASE_ALONE in stage.inputs):
        key = f"target.{stage.artifact}.adapters"
        then = "beside" if BASE_ALONE in before else None
        now = plan.effective["target"].get(stage.artifact, {}).get("adapters")
    else:
        return
    yield Reason("key", key, then, now, where=plan.origins.get(key, ""))


def _target_of(base: Any) -> str | None:
    """The target whose base lies in a folder; None of no folder."""
    if not isinstance(base, str):
        return None
    return shared_stage(base.rpartition("/")[2]).removeprefix("quantize-")


def _artifact_reasons(plan: Plan, stage: Stage, old: Mapping[str, Any]) -> Iterator[Reason]:
    """Keys by which there are other artifacts than before, of a stage that reads them all."""
    before = old.get("inputs", {})
    told: set[str] = set()
    for role in sorted(before.keys() ^ stage.inputs.keys()):
        kind, _, rest = role.partition("-")
        artifact, _, member = rest.partition(OF_MEMBER)
        now = role in stage.inputs
        stays = all(_has_member(config, member) for config in (old.get("config", {}), stage.config))
        if artifact in told or (member and not stays):
            continue  # said of another adapter, or an adapter has come or gone, which is said
        told.add(artifact)
        if artifact in ASKED_BY:
            key: str = ASKED_BY[artifact]
            yield Reason("key", key, not now, now, where=plan.origins.get(key, ""))
        elif kind == "answer" and artifact != TUNED:
            key, target = f"target.{artifact}", plan.effective["target"].get(artifact)
            where = plan.origins.get(key, "")
            yield Reason("key", key, None if now else {}, target, where=where)


def _has_member(config: Mapping[str, Any], member: str) -> bool:
    members = config.get("members")
    return isinstance(members, Mapping) and member in members


def identity_reasons(
    plan: Plan, stage: Stage, old: Mapping[str, Any], new: Mapping[str, Any]
) -> list[Reason]:
    """Epoch, packages and keys that differ between two identities of one stage."""
    reasons: list[Reason] = []
    if old.get("epoch") != new["epoch"]:
        reasons.append(Reason("epoch", stage.kind, old.get("epoch"), new["epoch"]))
    for name, pair in differences(old.get("epochs", {}), new.get("epochs", {})).items():
        # Of an entry that its table has not raised no spec says that it is at 1, nor of one that it
        # does not use: where only one of the two names it, a key is why.
        entry = name.rpartition(" ")[2]
        if _mentions(old.get("config", {}), entry) == _mentions(new["config"], entry):
            reasons.append(Reason("epoch", name, pair[0] or 1, pair[1] or 1))
    packages = differences(old.get("packages", {}), new["packages"])
    config = differences(old.get("config", {}), new["config"])
    # Which packages are whose, of a training of several adapters, is told by what changed them.
    config = {key: pair for key, pair in config.items() if not key.startswith("depends.")}
    if stage.kind == "report":  # it lists the versions that made what it reports on
        listed = [key for key in config if key.startswith("packages.")]
        packages |= {key.removeprefix("packages."): config.pop(key) for key in listed}
        if len(config) > 1:  # what they changed says more
            config.pop("overrides", None)
    reasons += [Reason("package", name, *pair) for name, pair in packages.items()]
    for key, pair in config.items():
        section, _, name = key.partition(".")
        whole = section == "members" and "." not in name and None in pair
        named = f"{ADAPTERS}.{name}" if whole else _as_given(plan, stage, stage.recipe_key(key))
        reasons.append(Reason("key", named, *pair, where=plan.origins.get(named, "")))
    return reasons


def _as_given(plan: Plan, stage: Stage, key: str) -> str:
    """A key as a person finds it: what a stage reads of one adapter's recipe is below that."""
    owners = (name for name, own in plan.members.items() if stage.address in own.values())
    owner, section = next(owners, ""), key.partition(".")[0]
    if plan.member or not owner or section not in SECTIONS or "members" in stage.config:
        return key
    below = f"{ADAPTERS}.{owner}.{key}"
    in_common = TAKEN_FROM not in plan.effective[ADAPTERS][owner] and key in plan.origins
    return key if in_common and below not in plan.origins else below


def _mentions(values: Any, text: str) -> bool:
    """Whether a text is one of the values below."""
    if isinstance(values, Mapping):
        return any(_mentions(below, text) for below in values.values())
    if isinstance(values, list | tuple):
        return any(_mentions(below, text) for below in values)
    return bool(values == text)
