"""What a pull request would change, as a document, and the digest that an approver repeats.

Whoever shows a document computes its digest anew: one that was made up has another digest than the
commits that it speaks of. A document that is read may be a stranger's, so every text, list and
number in it has a bound. Knows nothing of git and of how it is shown.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, TypeAdapter

from slmcompile.console.errors import CorruptError, StaleError
from slmcompile.files.strict_json import decoder
from slmcompile.plans.canonical import digest
from slmcompile.plans.kinds import KINDS
from slmcompile.recipe.limits import is_bounded
from slmcompile.registry.scalars import Identifier, ProjectPath, Sha256

FORMAT_VERSION = "1.0"
LARGEST = 4 << 20
"""Bytes of a document."""

_ANEW = "plan anew with `slmcompile ci plan`"
MOST_RECIPES = 1000
"""Recipes of a document."""
NO_BAR = "none"
"""In the place of a bar that was not there, or is not there any more."""

_DEEPEST = 12
_MOST_VALUES = 150_000
_LONGEST = 1000

Text = Annotated[str, StringConstraints(max_length=_LONGEST)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,127}$")]
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]
Code = Annotated[int, Field(ge=1, le=143)]
_Version = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z.+-]{1,64}$")]


def _kind(name: str) -> str:
    if name not in KINDS:
        raise ValueError("no kind of stage")
    return name


@dataclass(frozen=True)
class KeyEntry:
    """A key of the effective recipe that differs; values as people read them."""

    key: Text
    old: Text
    new: Text
    where: Text = ""


@dataclass(frozen=True)
class StageEntry:
    """A stage that differs.

    Attributes:
        stage: its name within the recipe.
        kind: as in plans.
        status: what became of it.
        reasons: what differs in it; empty where only what it reads does.
        old: fingerprint at the base.
        new: fingerprint at the head.
    """

    stage: Name
    kind: Annotated[str, AfterValidator(_kind)]
    status: Literal["added", "removed", "changed"]
    reasons: Annotated[tuple[Text, ...], Field(max_length=200)]
    old: Sha256 | None
    new: Sha256 | None


@dataclass(frozen=True)
class CodeEntry:
    """A file of code of the project that a run would execute."""

    path: ProjectPath
    sha256: Sha256
    changed: bool


@dataclass(frozen=True)
class Problem:
    """Why something cannot be planned or may not be run, and what mends it."""

    what: Text
    hint: Text
    code: Code


@dataclass(frozen=True)
class RecipeEntry:
    """One recipe that the pull request touches.

    Attributes:
        recipe: its name.
        status: what became of it; ``refused`` where it does not compile.
        effective: SHA-256 of the whole effective recipe at the head.
        bars: keys of gates that differ.
        keys: all other keys that differ.
        stages: those that differ.
        rows: whether the rows that are trained on and tested with differ.
        measured: whether how answers are made or measured differs.
        executes: code of the project that it would execute.
        problem: why it does not compile.
    """

    recipe: Identifier
    status: Literal["added", "removed", "changed", "refused"]
    effective: Sha256 | None = None
    bars: Annotated[tuple[KeyEntry, ...], Field(max_length=100)] = ()
    keys: Annotated[tuple[KeyEntry, ...], Field(max_length=2000)] = ()
    stages: Annotated[tuple[StageEntry, ...], Field(max_length=512)] = ()
    rows: bool = False
    measured: bool = False
    executes: Annotated[tuple[CodeEntry, ...], Field(max_length=256)] = ()
    problem: Problem | None = None


@dataclass(frozen=True)
class Judged:
    """What a check refuted of a recipe, on the machine that made the document.

    ``code`` is what a run would end with; 0 of a warning.
    """

    recipe: Identifier
    check: Name
    evidence: Text
    hint: Text
    code: Annotated[int, Field(ge=0, le=143)]


_Amount = Annotated[int, Field(ge=0, lt=1 << 62)]


@dataclass(frozen=True)
class Forecast:
    """What the training of a recipe may take, by what the target has published.

    Attributes:
        recipe: its name.
        stages: how many differ.
        finished: those of them whose work is finished at the target.
        stated: whether the head brings the statement of this very work: it was trained.
        seconds: how long the training of the target's recipe took.
        tokens: that it would train on, where that is known.
        memory: bytes at the most, where that is known.
    """

    recipe: Identifier
    stages: _Amount
    finished: _Amount
    stated: bool = False
    seconds: Annotated[float, Field(ge=0, le=1e9)] | None = None
    tokens: _Amount | None = None
    memory: _Amount | None = None


@dataclass(frozen=True)
class Proposal:
    """What a pull request would change.

    Attributes:
        tool: version of slmcompile.
        head: the commit that it proposes.
        base: the commit that it is compared with.
        recipes: those that it touches, by name.
        unchanged: how many others there are.
        refused: what else it changes that keeps it from being trained.
        policy: the commit whose policy it was judged by. Not in the digest.
        judged: what checks refute or warn of. Not in the digest, as machines differ.
        forecast: what it may take. Not in the digest, as the target goes on.
    """

    tool: _Version
    head: Commit
    base: Commit
    recipes: Annotated[tuple[RecipeEntry, ...], Field(max_length=MOST_RECIPES)]
    unchanged: Annotated[int, Field(ge=0, le=100_000)]
    refused: Annotated[tuple[Problem, ...], Field(max_length=200)]
    policy: Commit
    judged: Annotated[tuple[Judged, ...], Field(max_length=2000)] = ()
    forecast: Annotated[tuple[Forecast, ...], Field(max_length=MOST_RECIPES)] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of all that an approver says yes to."""
        content = asdict(self)
        for beside in ("policy", "judged", "forecast"):
            del content[beside]
        return digest({"format_version": FORMAT_VERSION, **content})

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All that keeps it from being trained."""
        found = (entry.problem for entry in self.recipes)
        judged = (Problem(each.evidence, each.hint, each.code) for each in self.judged if each.code)
        return (*self.refused, *(problem for problem in found if problem), *judged)


_PROPOSAL = TypeAdapter(Proposal)


def to_json(proposal: Proposal) -> dict[str, Any]:
    """The document; ``digest`` stands in it for programs, and is not read back."""
    return {"format_version": FORMAT_VERSION, "digest": proposal.digest, **asdict(proposal)}


def read(data: bytes, shown: str) -> Proposal:
    """A document that anybody may have written.

    Args:
        data: its bytes, at most one more than ``LARGEST``.
        shown: what messages call it.

    Raises:
        CorruptError: it is none, or larger than any (exit 74).
        StaleError: written in a format that this version does not know (exit 4).
    """
    if len(data) > LARGEST:
        raise CorruptError(f"{shown}: larger than {LARGEST} bytes", _ANEW)
    try:
        content = decoder().decode(data.decode("utf-8"))
        version = str(content["format_version"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise CorruptError(f"{shown}: not a proposal", _ANEW) from error
    if version.partition(".")[0] != FORMAT_VERSION.partition(".")[0]:
        raise StaleError(
            f"{shown}: format {version[:20]}; this version reads {FORMAT_VERSION}", _ANEW
        )
    if not is_bounded(content, _DEEPEST, _MOST_VALUES):
        raise CorruptError(f"{shown}: too deep, or too much", _ANEW)
    try:
        # Of a key that stands there twice the last counts, for what is shown and for the digest.
        proposal = _PROPOSAL.validate_json(json.dumps(content), strict=True)
    except ValueError as error:
        raise CorruptError(f"{shown}: not a proposal", _ANEW) from error
    names = [entry.recipe for entry in proposal.recipes]
    if names != sorted({*names}):
        raise CorruptError(f"{shown}: recipes that are not in order, or twice", _ANEW)
    return proposal
