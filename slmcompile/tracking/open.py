"""Opens the tracker that a recipe names."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from slmcompile.console.redact import redact, secrets_of
from slmcompile.machine.surroundings import less_online
from slmcompile.recipe.schema import Track
from slmcompile.tracking.guarded import GuardedTracker
from slmcompile.tracking.nothing import NoTracker
from slmcompile.tracking.protocol import TrackedRun, Tracker


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def open_tracker(
    settings: Track,
    *,
    run_name: str,
    group: str,
    job_type: str,
    config: Mapping[str, Any],
    folder: Path,
    warn: Callable[[str], None] = _to_stderr,
) -> Tracker:
    """The tracker of ``settings.type``; returns at once and never raises.

    Args:
        settings: the recipe's ``track`` section.
        run_name: the run's name, ``<recipe>/<stage>``.
        group: the plan's id; the runs of one plan stand together.
        job_type: the stage's kind.
        config: the effective configuration; secrets in it are hidden.
        folder: an ignored scratch folder that gets the tracker's files.
        warn: gets the one line that a broken tracker costs.
    """
    if settings.type == "none":
        return NoTracker()
    name = "TensorBoard" if settings.type == "tensorboard" else "W&B"
    if settings.type == "wandb":
        mode = less_online(settings.mode)
        if mode == "disabled":
            warn(f"note: {name}: switched off by WANDB_MODE or WANDB_DISABLED; nothing is recorded")
            return NoTracker()
        if mode != settings.mode:
            warn(
                f"note: {name}: recorded offline, as WANDB_MODE asks; `wandb sync` uploads it later"
            )
        settings = settings.model_copy(update={"mode": mode})
    clean: dict[str, Any] = redact(config, secrets_of(os.environ))
    run = TrackedRun(run_name, group, job_type, clean, folder)

    def opener() -> Tracker:
        folder.mkdir(parents=True, exist_ok=True)
        if settings.type == "tensorboard":
            from slmcompile.tracking.tensorboard_tracker import TensorboardTracker

            return TensorboardTracker(run)
        from slmcompile.tracking.wandb_tracker import WandbTracker

        return WandbTracker.open(settings, run, warn)

    return GuardedTracker(opener, name, warn)
