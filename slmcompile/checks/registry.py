"""A rule as data: what it prevents, how it judges, and the list of all rules.

Knows no rule by name but for the modules that hold them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from slmcompile.checks import rules
from slmcompile.console.errors import Exit

if TYPE_CHECKING:
    from slmcompile.facts.context import CheckContext

Outcome = Literal["proved", "refuted", "needs_probe"]

# What a rule reads: C config, H safetensors headers and model configuration, M the model on the
# meta device, T the tokenizer, D a scan of the data.
Needs = Literal["C", "H", "M", "T", "D"]


@dataclass(frozen=True)
class Verdict:
    """What a rule found.

    Attributes:
        outcome: ``proved``, ``refuted`` or ``needs_probe``.
        evidence: what was seen, one line with its figures.
        mend: how to mend it, one line; refuted ones only.
        where: ``file:line: key`` of the value at fault; refuted ones only.
        stage: address of the stage that will decide; ``needs_probe`` only.
        code: exit code, where it is not the rule's own.
    """

    outcome: Outcome
    evidence: str
    mend: str = ""
    where: str = ""
    stage: str = ""
    code: Exit | None = None


def proved(evidence: str) -> Verdict:
    """The rule holds."""
    return Verdict("proved", evidence)


def refuted(evidence: str, mend: str, where: str = "", code: Exit | None = None) -> Verdict:
    """The rule does not hold; ``where`` is ``context.at("train.lora.r")``."""
    return Verdict("refuted", evidence, mend, where, code=code)


def needs_probe(stage: str, evidence: str) -> Verdict:
    """It cannot be told yet; ``stage`` (``context.base_stage`` …) brings what is missing."""
    return Verdict("needs_probe", evidence, stage=stage)


@dataclass(frozen=True)
class Check:
    """One rule.

    Attributes:
        number: its number in the documentation.
        name: a stable word for programs (``target-modules-match``).
        prevents: the failure that it prevents, one sentence.
        needs: what it reads.
        code: exit code when it is refuted.
        warning: whether it only warns.
        of_plan: whether the compiled plan alone decides it, no file, machine or policy, so that
            its verdict on an unchanged plan can be remembered.
        judge: the function.
    """

    number: int
    name: str
    prevents: str
    needs: tuple[Needs, ...]
    code: Exit
    warning: bool
    of_plan: bool
    judge: Callable[[CheckContext], Verdict]


@dataclass(frozen=True)
class Finding:
    """A rule and what it found in a recipe."""

    check: Check
    verdict: Verdict

    @property
    def blocks(self) -> bool:
        """Whether a run must not begin."""
        return self.verdict.outcome == "refuted" and not self.check.warning

    @property
    def code(self) -> Exit:
        """Exit code of a run that it stops."""
        return self.verdict.code or self.check.code


_CHECKS: dict[int, Check] = {}


def check(
    number: int,
    name: str,
    prevents: str,
    *,
    needs: tuple[Needs, ...] = ("C",),
    code: Exit = Exit.BAD_RECIPE,
    warning: bool = False,
    of_plan: bool = False,
) -> Callable[[Callable[[CheckContext], Verdict]], Callable[[CheckContext], Verdict]]:
    """Registers a rule."""

    def register(judge: Callable[[CheckContext], Verdict]) -> Callable[[CheckContext], Verdict]:
        if number in _CHECKS:
            raise ValueError(f"check {number} is registered twice")
        _CHECKS[number] = Check(number, name, prevents, needs, code, warning, of_plan, judge)
        return judge

    return register


def all_checks() -> tuple[Check, ...]:
    """Every rule, by number."""
    _load_rules()
    return tuple(_CHECKS[number] for number in sorted(_CHECKS))


@cache
def _load_rules() -> None:
    for module in pkgutil.iter_modules(rules.__path__):
        importlib.import_module(f"{rules.__name__}.{module.name}")
