"""Check 30: the base model's licence is known, and the policy allows what the recipe uses."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from slmcompile.checks.registry import Verdict, check, needs_probe, proved, refuted
from slmcompile.checks.rules.licences import is_known, nearest
from slmcompile.console.errors import Exit
from slmcompile.facts.architecture import architecture_of
from slmcompile.facts.context import CheckContext
from slmcompile.losses import LOSSES
from slmcompile.plans.kinds import KINDS
from slmcompile.plans.names import named_files
from slmcompile.recipe.policy import FILE, within_roots

_UNKNOWN = frozenset({"", "unknown", "other", "none", "noassertion", "tbd"})


@check(
    30,
    "allowed",
    "a product that its base model's licence, or the project's own policy, forbids",
    needs=("C", "H"),
    code=Exit.REFUSED,
)
def allowed(context: CheckContext) -> Verdict:
    """Code of the project, licence, owner, places of the data, and size.

    The licence is a fact for people, no part of a spec; the ``check`` stage judges size alone, and
    code, as nothing else stands between a plain ``dvc repro`` and its execution.
    """
    refused = _code(context)
    if refused is not None:
        return refused
    if context.plan is not None:
        for verdict in (_licence(context), *_owners(context), _roots(context)):
            if verdict is not None:
                return verdict
    return _size(context)


def _code(context: CheckContext) -> Verdict | None:
    loss = context.recipe.train.loss
    key = LOSSES[loss.type].code
    if not key:
        return None
    path = posixpath.normpath(getattr(loss, key))
    if path in map(posixpath.normpath, context.policy.code):
        return None
    return refuted(
        f"{path}: a run would execute this file, and the policy's code does not name it",
        f"if you have read it and trust it, write code: [{path}] into {FILE}",
        context.at(f"train.loss.{key}"),
    )


def _licence(context: CheckContext) -> Verdict | None:
    licence = context.recipe.model.license
    where = context.at("model.license")
    if licence.strip().casefold() in _UNKNOWN:
        return refuted(
            "the base model's licence is not known",
            "write its SPDX identifier, as on the model's card: license: Apache-2.0",
            where,
            Exit.BAD_RECIPE,
        )
    if not is_known(licence):
        close = nearest(licence)
        return refuted(
            f"{licence!r} is no licence that SPDX or the hub knows",
            f"did you mean {close!r}?"
            if close
            else "write its SPDX identifier, the hub's name (llama3.2), or LicenseRef-NAME for any"
            " other",
            where,
            Exit.BAD_RECIPE,
        )
    permitted = context.policy.licenses
    if permitted is not None and licence.casefold() not in {each.casefold() for each in permitted}:
        return refuted(
            f"the licence {licence} is none of the policy's",
            f"choose a model under {', '.join(permitted) or 'no licence at all'} ({FILE})",
            where,
        )
    return None


def _owners(context: CheckContext) -> Iterator[Verdict]:
    """Of all that the plan fetches: also each of several sources, and those of earlier recipes."""
    permitted = context.policy.hub_organisations
    plan = context.plan
    if permitted is None or plan is None:
        return
    for stage in plan.stages():
        for key, repository in _repositories(stage.config if KINDS[stage.kind].fetches else {}):
            owner, slash, _ = repository.partition("/")
            if not slash or owner.casefold() not in {each.casefold() for each in permitted}:
                whence = ", ".join(permitted) or "a file, a folder or a package"
                yield refuted(
                    f"{repository}: its owner is none of the policy's hub_organisations",
                    f"take it from {whence} ({FILE})",
                    context.at(stage.recipe_key(key)),
                )


def _repositories(config: Any, above: str = "") -> Iterator[tuple[str, str]]:
    """Dotted key and name of every repository of the hub that a stage's config names."""
    if isinstance(config, Mapping):
        if "repo_id" in config:
            yield f"{above}repo_id", str(config["repo_id"])
        for key, below in config.items():
            yield from _repositories(below, f"{above}{key}.")
    elif isinstance(config, list | tuple):
        for number, below in enumerate(config):
            yield from _repositories(below, f"{above}{number}.")


def _roots(context: CheckContext) -> Verdict | None:
    plan, code = context.plan, {*map(posixpath.normpath, context.policy.code)}
    for stage in plan.stages() if plan else ():
        for path, name in named_files(stage.config, stage.names, stage.files):
            # Code is named file by file; the roots are those of data.
            if path not in code and not within_roots(context.policy, context.project, path):
                roots = ", ".join(context.policy.data_roots or ())
                return refuted(
                    f"{path}: outside the policy's data_roots",
                    f"move it into {roots or 'a declared root'} ({FILE})",
                    context.at(stage.recipe_key(name)),
                )
    return None


def _size(context: CheckContext) -> Verdict:
    """The declared size can refute; only the weights' own headers can prove."""
    policy, model = context.policy, context.recipe.model
    stated, facts = model.parameters, context.model
    most = policy.max_parameters
    where = context.at("model.parameters" if stated else "model.source")
    if facts is not None and stated is not None and stated != facts.parameters:
        return refuted(
            f"model.parameters says {stated:,}, the weights have {facts.parameters:,}",
            f"write parameters: {facts.parameters}, or leave it out",
            where,
            Exit.BAD_RECIPE,
        )
    parameters = facts.parameters if facts else stated
    if most is not None and parameters is not None and parameters > most:
        return refuted(
            f"{parameters:,} parameters, and the policy's max_parameters is {most:,}",
            f"choose a smaller model ({FILE})",
            where,
        )
    weights = architecture_of(context) if facts is not None else None
    if weights and policy.max_bytes is not None and weights.stored_bytes > policy.max_bytes:
        return refuted(
            f"{weights.stored_bytes:,} bytes of weights, and the policy's max_bytes is"
            f" {policy.max_bytes:,}",
            f"choose a smaller model ({FILE})",
            where,
        )
    bounded = most is not None or policy.max_bytes is not None
    if bounded and facts is None:
        return needs_probe(context.base_stage, "the size of the weights is not known yet")
    size = f", {parameters:,} parameters" if parameters else ""
    licence = model.license if context.plan is not None else "size"
    return proved(f"{licence}{size}, within the policy")
