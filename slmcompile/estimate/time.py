"""What a run will cost: tokens, optimizer steps, FLOPs, memory, and time by earlier runs here.

Floating-point operations of training, N being the weights of the linear layers and P those of the
adapter (Kaplan et al., arXiv:2001.08361, section 2.1; embeddings are look-ups and attention's own
products are left out):

- forward 2·N a token; backward 2·N for the activations' gradients and, where the layer itself is
  trained, 2·N for the weights' gradients;
- so method full takes 6·N·tokens, lora and qlora (4·N + 6·P)·tokens;
- gradient checkpointing computes the forward once more: + 2·N·tokens;
- the output head, V·h weights, runs at trained tokens alone: 6·V·h of each for method full and
  4·V·h otherwise.

Time is never guessed: it is what stages took on this machine, by the journal. For training it is
an interval, from what the run nearest in tokens × weights took to that scaled by the two amounts.
Only what will run is counted. A stage that has never run here is named, and no total leaves it out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from slmcompile.estimate.earlier_runs import Work, earlier_runs, seconds_of
from slmcompile.estimate.peak import predict, shown
from slmcompile.estimate.steps import plan_steps
from slmcompile.estimate.trainable import trainable
from slmcompile.facts.architecture import architecture_of
from slmcompile.facts.context import CheckContext
from slmcompile.methods import METHODS
from slmcompile.metrics import METRICS
from slmcompile.plans.earlier import ROLE
from slmcompile.plans.kinds import KINDS
from slmcompile.shapes.architecture import Architecture
from slmcompile.shapes.interval import Interval, exactly, larger
from slmcompile.state.changes import Change

_NARROW = 1.5
"""High / low below which a time is shown as one."""

_NAMED = 3
"""Stages without a time that are named."""


@dataclass(frozen=True)
class Cost:
    """Figures of what will run; ``None`` where they are not known yet, or it does not run.

    Attributes:
        trains: whether anything is trained.
        at_most: whether training may stop before its last step, so that steps, tokens, operations
            and time are those of a run that does not.
        steps: optimizer steps.
        tokens: tokens trained on, padding left out.
        flops: of training.
        memory: peak resident bytes of the stages that hold the model.
        seconds: wall time of what will run and has run on this machine before, by that.
        unmeasured: stages that will run and never ran here.
        model: name of the base model.
        license: its licence.
        parameters: its weights, tied ones once.
    """

    trains: bool
    at_most: bool
    steps: int | None
    tokens: int | None
    flops: float | None
    memory: Interval | None
    seconds: Interval | None
    unmeasured: tuple[str, ...]
    model: str
    license: str
    parameters: int | None

    def to_json(self) -> dict[str, Any]:
        """Plain values; memory as ``[low, high]`` bytes, ``seconds`` the end of their range.

        Where a stage is unmeasured there is no end, and ``seconds`` is null.
        """
        memory = [int(self.memory.low), int(self.memory.high)] if self.memory else None
        most = self.seconds.high if self.seconds and not self.unmeasured else None
        return {
            "seconds": most,
            "seconds_range": [self.seconds.low, most] if self.seconds else None,
            "unmeasured": list(self.unmeasured),
            "at_most": self.at_most,
            "memory_bytes": memory,
            "steps": self.steps,
            "tokens": self.tokens,
            "flops": self.flops,
            "model": self.model,
            "license": self.license,
            "parameters": self.parameters,
        }


def cost_of(contexts: Sequence[CheckContext], changes: Sequence[Change]) -> Cost:
    """The cost of what ``changes`` will run, over all adapters of a recipe.

    Args:
        contexts: of each adapter, or that of a plain recipe.
        changes: of the whole recipe.
    """
    context = contexts[0]
    model = architecture_of(context)
    running = {change.stage.kind for change in changes if change.action == "run"}
    trained_by = {each.compiled.stage("train").address: each.member for each in contexts}
    by_stage = {
        change.stage.address: [each for each in contexts if each.member in names]
        for change in changes
        if (names := _learns(change, trained_by))
    }
    # Whoever is trained twice, over another base for a candidate, is there twice.
    learn = [each for of in by_stage.values() for each in of]
    of_each = [_tokens(each) for each in learn]
    tokens = _sum(of_each) if learn else None
    peaks = [found for each in contexts for found in _peaks(each, running)]
    parameters = model.parameters if model else context.recipe.model.parameters
    work = {
        address: _work(of, parameters, _sum([_tokens(each) for each in of]))
        for address, of in by_stage.items()
    }
    seconds, unmeasured = _time(context, changes, work)
    return Cost(
        trains=bool(learn),
        at_most=any(each.recipe.train.early_stopping_patience is not None for each in learn),
        steps=_sum([_most([_steps(each) for each in of]) for of in by_stage.values()])
        if learn
        else None,
        tokens=tokens,
        flops=_flops_of(learn, model, of_each) if model and learn else None,
        memory=larger(*peaks) if peaks else None,
        seconds=seconds,
        unmeasured=unmeasured,
        model=context.recipe.model.name,
        license=context.recipe.model.license,
        parameters=parameters,
    )


def _peaks(context: CheckContext, running: Collection[str]) -> list[Interval]:
    """Of the kinds of stages that will run, where their peaks can be told."""
    found = predict(context) if running else None
    return [of for kind, of in found.by_kind.items() if kind in running] if found else []


def _learns(change: Change, trained_by: Mapping[str, str]) -> set[str]:
    """The adapters that a stage trains; one without a name of a plain recipe."""
    stage = change.stage
    if change.action != "run" or stage.kind != "train":
        return set()
    if stage.artifact == ROLE:
        # What another recipe trains before is no training of this one's, unless it takes just that.
        return {trained_by[stage.address]} if stage.address in trained_by else set()
    return {*stage.config.get("members", [stage.member])} - {*change.kept}


def _sum(of_each: Sequence[int | None]) -> int | None:
    known = [each for each in of_each if each is not None]
    return sum(known) if len(known) == len(of_each) else None


def _most(of_each: Sequence[int | None]) -> int | None:
    """Adapters that are trained together make their steps at the same time."""
    known = [each for each in of_each if each is not None]
    return max(known) if len(known) == len(of_each) else None


def _flops_of(
    contexts: Sequence[CheckContext], model: Architecture, tokens: Sequence[int | None]
) -> float | None:
    known = [(context, of) for context, of in zip(contexts, tokens, strict=False) if of is not None]
    if len(known) < len(contexts):
        return None
    return sum(_flops(context, model, of) for context, of in known)


def _steps(context: CheckContext) -> int | None:
    train = context.recipe.train
    if context.data is None:
        return train.max_steps if train.max_steps > 0 else None
    return plan_steps(train, context.data.rows["train"]).max_steps


def _epochs(context: CheckContext) -> float | None:
    if context.data is None:
        return None
    schedule = plan_steps(context.recipe.train, context.data.rows["train"])
    return schedule.max_steps / schedule.steps_per_epoch


def _tokens(context: CheckContext, kind: str = "total") -> int | None:
    epochs = _epochs(context)
    if context.data is None or epochs is None:
        return None
    return round(epochs * int(context.data.report["tokens"]["train"][kind]))


def _flops(context: CheckContext, model: Architecture, tokens: int) -> float:
    train = context.recipe.train
    found = trainable(train, model)
    full = bool(found.whole)
    per_token = (6 if full else 4) * model.linear_parameters + 6 * found.adapter
    if train.gradient_checkpointing:
        per_token += 2 * model.linear_parameters
    head = max((rows * width for rows, width in model.others.values()), default=0)
    trained = _tokens(context, "trained") or 0
    return float(per_token) * tokens + (6.0 if full else 4.0) * head * trained


def _work(
    contexts: Sequence[CheckContext], parameters: int | None, tokens: int | None
) -> Work | None:
    """What training amounts to, as the journal writes it of earlier runs."""
    if parameters is None or tokens is None:
        return None
    full = METHODS[contexts[0].recipe.train.method].writes == "model"
    return Work(tokens, parameters, full, sum(_answers(each) for each in contexts))


def _answers(context: CheckContext) -> int:
    """What validations generate: of all their rows, whichever of them ask for an answer."""
    train, steps = context.recipe.train, _steps(context)
    metric = METRICS.get(train.metric_for_best_model)
    if metric is None or not metric.generates or context.data is None or steps is None:
        return 0
    rows = context.data.rows["validation"]
    asked = rows if train.eval_limit is None else min(rows, train.eval_limit)
    return asked * ceil(steps / train.eval_steps)


def _time(
    context: CheckContext, changes: Sequence[Change], work: Mapping[str, Work | None]
) -> tuple[Interval | None, tuple[str, ...]]:
    """Seconds of the stages that will run, and those that no earlier run tells anything about.

    Seconds are None where there are such stages alone.
    """
    entries = earlier_runs(context.project)
    base = context.compiled.stage("base").out
    total, unmeasured = exactly(0.0), []
    for change in changes:
        stage = change.stage
        if change.action != "run" or {*stage.config.get("members", ())} == {*change.kept} != set():
            continue  # of a training that takes all of its adapters as they are
        found = seconds_of(entries, stage, work.get(stage.address), base)
        if found is not None:
            total += found
        elif not KINDS[stage.kind].instant:
            unmeasured.append(stage.address)
    if unmeasured and not total.high:
        return None, tuple(unmeasured)
    return Interval(round(total.low, 1), round(total.high, 1)), tuple(unmeasured)


def cost_line(cost: Cost) -> str:
    """One line for a person.

    ``≈ 4 min on this machine, peak 2.1–2.9 GB; 1 200 steps, 512k tokens, 2.1e14 FLOPs;
    SmolLM2-135M-Instruct (Apache-2.0, 134.5 M parameters)``
    """
    peak = f", peak {shown(cost.memory)}" if cost.memory else ""
    work = []
    if cost.steps is not None:
        work.append(f"{cost.steps:,} steps".replace(",", " "))
    if cost.tokens is not None:
        work.append(f"{_short(cost.tokens)} tokens")
    if cost.flops is not None:
        work.append(f"{cost.flops:.1e} FLOPs".replace("e+", "e"))
    size = f", {_size(cost.parameters)} parameters" if cost.parameters else ""
    model = f"{cost.model} ({cost.license}{size})"
    unknown = "steps and tokens are known after data" if cost.trains else "nothing is trained"
    told = f"{'at most ' * (cost.at_most and bool(work))}{', '.join(work) or unknown}"
    return f"Cost: {_duration(cost)}{peak}; {told}; {model}."


def _duration(cost: Cost) -> str:
    if not cost.unmeasured and not (cost.seconds and cost.seconds.high):
        return "nothing of length to run"
    # By name, of which shared stages have one for each data set.
    stages = list(dict.fromkeys(address.rpartition("/")[2] for address in cost.unmeasured))
    more = f" and {len(stages) - _NAMED} more" if len(stages) > _NAMED else ""
    unknown = f"time of {', '.join(stages[:_NAMED])}{more} unknown here"
    if not cost.seconds:
        return unknown
    low, high = _length(cost.seconds.low), _length(cost.seconds.high)
    if stages:
        return f"at least {low} on this machine, {unknown}"
    if cost.at_most:
        return f"at most {high} on this machine"
    time = f"≈ {high}" if cost.seconds.high < _NARROW * cost.seconds.low else f"{low} to {high}"
    return f"{time} on this machine"


def _length(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _short(count: int) -> str:
    if count < 10_000:
        return str(count)
    return f"{count / 1e3:.0f}k" if count < 10_000_000 else f"{count / 1e6:.0f}M"


def _size(parameters: int) -> str:
    return f"{parameters / 1e9:.2f} B" if parameters >= 1e9 else f"{parameters / 1e6:.1f} M"
