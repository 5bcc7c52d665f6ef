"""``choose``: the candidates' answers to validation rows become a frontier, and one is chosen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slmcompile.console.errors import GateFailedError
from slmcompile.data.store import open_split
from slmcompile.files.artifact import write_json
from slmcompile.metrics import METRICS
from slmcompile.plans.artifacts import TUNED
from slmcompile.plans.budgets import OF_CANDIDATE
from slmcompile.plans.definition import OF_MEMBER
from slmcompile.plans.plugins import require_planned
from slmcompile.providers.keys import Budget
from slmcompile.recipe.project import Project
from slmcompile.scoring.choice import MB, Figures, chosen, figures, judged
from slmcompile.scoring.records import Asked, beside, columns_of, records
from slmcompile.stages.answer import ANSWERS, LEFT_OUT, MEASURED
from slmcompile.stages.choice import FRONTIER
from slmcompile.stages.context import Context, Result


def run(context: Context) -> Result:
    """Writes the frontier and who was chosen.

    Raises:
        GateFailedError: no candidate holds the budget (exit 3); what each misses stands beside.
    """
    config = context.config
    budget = Budget.model_validate_json(json.dumps(config["budget"]))
    answered = {role: _read(context.inputs[role]) for role in _roles(context.inputs)}
    out = {_name(role): of[LEFT_OUT] for role, (of, _) in answered.items() if LEFT_OUT in of}
    rows = _records(context, budget, {role: lines for role, (_, lines) in answered.items()})
    metric = METRICS[str(budget.metric)]
    torch = figures(TUNED, rows[TUNED], answered[TUNED][0], metric)
    found = judged(
        [
            figures(_name(role), rows[role], measured, metric, rows[TUNED])
            for role, (measured, _) in answered.items()
            if role != TUNED and LEFT_OUT not in measured
        ],
        budget,
    )
    best = chosen(found)
    for each in found:
        context.progress.say(f"{each.name}: {'; '.join(each.misses) or 'holds the budget'}")
    for name, why in out.items():
        context.progress.say(f"{name}: left out, {why}")
    if best is None:
        raise _none_holds(_target(context.stage), found, out)
    own = config["candidates"][best.name].get("adapters") == "beside"
    why = _reason(best, found, budget, len(rows[TUNED]), own=own)
    context.progress.say(why)
    machine = answered[f"{OF_CANDIDATE}{best.name}"][0].get("machine")
    write_json(
        context.out / FRONTIER,
        {
            "format_version": "1.0",
            "budget": config["budget"],
            "rows": len(rows[TUNED]),
            "chosen": best.name,
            "reason": why,
            "torch": asdict(torch),
            "candidates": [
                {**asdict(each), "keys": config["candidates"][each.name]} for each in found
            ],
            "left_out": out,
            **({"machine": machine} if machine else {}),
        },
    )
    return Result(metrics=_comparable(best, found, torch, metric.name), plots=_plotted(found))


def _target(stage: str) -> str:
    """Of which target it is, by its name, which is no part of what it writes."""
    return stage.partition("/")[2].removeprefix("choose-").partition(OF_MEMBER)[0]


def _roles(inputs: Iterable[str]) -> list[str]:
    return [TUNED, *sorted(role for role in inputs if role.startswith(OF_CANDIDATE))]


def _name(role: str) -> str:
    return role.removeprefix(OF_CANDIDATE)


def _read(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What was measured of whoever answered, and the answers."""
    measured: dict[str, Any] = json.loads((folder / MEASURED).read_text(encoding="utf-8"))
    with (folder / ANSWERS).open(encoding="utf-8") as stream:
        return measured, [json.loads(line) for line in stream]


def _records(
    context: Context, budget: Budget, answers: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, list[dict[str, Any]]]:
    """Every answer beside its reference, of the rows that are of the task."""
    config = context.config
    metric = METRICS[str(budget.metric)]
    require_planned(Project(context.project), config.get("plugins", {}))
    columns = columns_of([metric], beside([metric], context.project, config, context.inputs))
    rows = open_split(context.inputs["data"], "validation").by_id()
    asked = Asked(config["task"], config["label"], config["label_steps"])
    return {
        role: [
            record
            for record in records(lines, rows, asked, [column for _, column in columns])
            if rows[record["id"]].counted
        ]
        for role, lines in answers.items()
    }


def _none_holds(target: str, found: Sequence[Figures], out: Mapping[str, str]) -> GateFailedError:
    told = [f"{each.name}: {'; '.join(each.misses)}" for each in found]
    told += [f"{name}: left out: {why}" for name, why in out.items()]
    return GateFailedError(
        f"target.{target}: none of {len(found)} candidates holds its budget",
        f"ask for less, or list other candidates under target.{target}.candidates; nothing was"
        " written, and what was measured is kept",
        also=[GateFailedError(line) for line in told],
    )


def _reason(
    best: Figures, found: Sequence[Figures], budget: Budget, rows: int, *, own: bool
) -> str:
    """The choice in a sentence."""
    hold = sum(not each.misses for each in found)
    bars = [f"{budget.metric} no more than {budget.max_drop:g} worse than torch's"]
    if budget.max_size is not None:
        bars.append(f"no more than {budget.max_size:g} MB")
    if budget.min_tokens_per_s is not None:
        bars.append(f"{budget.min_tokens_per_s:g} tokens/s or more")
    smallest = "the only one" if hold == 1 else f"the smallest of the {hold}"
    return (
        f"{best.name} is chosen: of {len(found)} candidates it is {smallest} with"
        f" {', '.join(bars)}, by {rows} validation rows ({best.size_bytes / MB:.4g} MB,"
        f" {budget.metric} {best.value:.4g}, {_against(best.drop or 0.0)})"
        f"{'; its adapter was trained over that base and stands beside it' * own}"
    )


def _against(drop: float) -> str:
    if not drop:
        return "as torch's"
    return f"{abs(drop):.4g} {'worse' if drop > 0 else 'better'} than torch's"


def _comparable(
    best: Figures, found: Sequence[Figures], torch: Figures, metric: str
) -> dict[str, Any]:
    """What compares between revisions: nothing of the machine, and no interval."""

    def told(of: Figures) -> dict[str, Any]:
        return {"size_bytes": of.size_bytes, metric: of.value, "nll": of.nll}

    return {
        "format_version": "1.0",
        "chosen": best.name,
        TUNED: told(torch),
        "candidates": {each.name: told(each) for each in found},
    }


def _plotted(found: Sequence[Figures]) -> dict[str, Any]:
    return {
        "candidates": [
            {"candidate": of.name, "size_mb": of.size_bytes / MB, "nll": of.nll, "value": of.value}
            for of in found
        ]
    }
