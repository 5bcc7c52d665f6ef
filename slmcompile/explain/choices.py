"""What a target is going to be chosen among, what each candidate costs, and what is asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slmcompile.checks.rules.budget import estimated
from slmcompile.estimate.build_memory import export_memory
from slmcompile.estimate.earlier_runs import Entries, earlier_runs, seconds_of
from slmcompile.estimate.memory import decoder_of
from slmcompile.estimate.peak import rows_of, shown
from slmcompile.estimate.trainable import trainable
from slmcompile.facts.architecture import architecture_of
from slmcompile.facts.context import CheckContext
from slmcompile.plans.budgets import auto_targets, candidate_name, resolved
from slmcompile.providers import PROVIDERS
from slmcompile.providers.keys import Budget, Target
from slmcompile.shapes.interval import Interval


@dataclass(frozen=True)
class Candidate:
    """One of those that are chosen among.

    Attributes:
        name: in the recipe, or the provider's.
        weights_mb: by the model's shapes; None before they are known.
        memory: peak resident bytes of building it; None likewise.
        seconds: of building and measuring it, by earlier runs here; None where there are none.
        left_out: why it is not built; empty where it is.
        trained_over: the candidate over whose base it has a training of its own; else empty.
    """

    name: str
    weights_mb: float | None
    memory: Interval | None
    seconds: float | None
    left_out: str = ""
    trained_over: str = ""


@dataclass(frozen=True)
class Choice:
    """A target whose precision is chosen, of one adapter."""

    target: str
    member: str
    budget: Budget
    candidates: tuple[Candidate, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; memory as ``[low, high]`` bytes."""
        return {
            "target": self.target,
            "member": self.member or None,
            "budget": self.budget.model_dump(mode="json"),
            "candidates": [
                {
                    "name": each.name,
                    "weights_mb": each.weights_mb and round(each.weights_mb, 1),
                    "memory_bytes": each.memory and [int(each.memory.low), int(each.memory.high)],
                    "seconds": each.seconds,
                    "left_out": each.left_out or None,
                    "trained_over": each.trained_over or None,
                }
                for each in self.candidates
            ],
        }


def choices_of(contexts: Mapping[str, CheckContext]) -> tuple[Choice, ...]:
    """Every target of every adapter whose precision is chosen."""
    found = []
    for member, context in contexts.items():
        entries = earlier_runs(context.project)
        for name, target in auto_targets(context.recipe).items():
            budget = resolved(context.recipe, target)
            if budget is not None:
                candidates = tuple(_candidates(context, entries, name, target))
                found.append(Choice(name, member, budget, candidates))
    return tuple(found)


def _candidates(
    context: CheckContext, entries: Entries, name: str, target: Target
) -> list[Candidate]:
    model = architecture_of(context)
    decoder = decoder_of(model) if model is not None else None
    sizes = estimated(target, model) if model is not None else {}
    found = []
    for label, each in target.among.items():
        own = label in target.trained_for
        over = str(target.train_over) if own else ""
        seconds = _seconds(context, entries, candidate_name(name, label), own=own)
        if model is None or label in sizes:
            memory = None
            if model is not None and decoder is not None:
                adapter = trainable(context.recipe.train, model).adapter
                rows = rows_of(context.recipe, context.data)
                memory = export_memory(
                    each, model, adapter, decoder.vocabulary, rows, builds=not own
                )
            found.append(Candidate(label, sizes.get(label), memory, seconds, trained_over=over))
        else:
            fault = PROVIDERS[target.execution_provider].fault(each, model)
            found.append(Candidate(label, None, None, None, fault[1] if fault else ""))
    return found


def _seconds(context: CheckContext, entries: Entries, built: str, *, own: bool) -> float | None:
    """Of its two stages, and its own training; None where one of them has not run here."""
    plan, total = context.compiled, 0.0
    for kind in (*(("quantize", "train") if own else ()), "candidate", "measure"):
        stage = plan.stage(kind, built, "" if plan.member else context.member)
        took = seconds_of(entries, stage, None, plan.stage("base").out)
        if took is None:
            return None
        total += took.high
    return round(total, 1)


def choice_lines(choices: tuple[Choice, ...]) -> list[str]:
    """A line of what is asked, and one a candidate."""
    lines = []
    for choice in choices:
        budget = choice.budget
        whose = f" of {choice.member}" if choice.member else ""
        rows = f"at most {budget.limit} rows" if budget.limit else "all rows"
        bars = f"{budget.metric} at most {budget.max_drop:g} worse than torch's"
        if budget.max_size is not None:
            bars += f", at most {budget.max_size:g} MB"
        if budget.min_tokens_per_s is not None:
            bars += f", at least {budget.min_tokens_per_s:g} tokens/s (a measurement of the"
            bars += " machine that runs it: another may choose otherwise)"
        lines.append(
            f"Choice: {choice.target}{whose} will be the smallest of {len(choice.candidates)}"
            f" candidates, by {rows} of validation: {bars}."
        )
        width = max(len(each.name) for each in choice.candidates)
        lines += [f"  {each.name.ljust(width)}  {_told(each)}" for each in choice.candidates]
    return lines


def _told(candidate: Candidate) -> str:
    if candidate.left_out:
        return f"left out: {candidate.left_out}"
    parts = [f"one more training, over {candidate.trained_over}"] if candidate.trained_over else []
    if candidate.weights_mb is not None:
        parts.append(f"≈ {candidate.weights_mb:.3g} MB of weights")
    if candidate.memory is not None:
        parts.append(f"peak {shown(candidate.memory)}")
    parts.append(
        "time unknown here" if candidate.seconds is None else f"≈ {candidate.seconds:.0f} s here"
    )
    return ", ".join(parts)
