"""The tracker of a stage, as the recipe asks; the runs of one plan form a group."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from slmcompile.recipe.schema import Track
from slmcompile.stages.context import Context
from slmcompile.tracking.open import open_tracker
from slmcompile.tracking.protocol import Tracker

FOLDER = ".slmcompile/track"
"""Where trackers write, relative to the project."""


def stage_tracker(context: Context, job_type: str, config: Mapping[str, Any]) -> Tracker:
    """Opens a run for a stage. Its settings come from beside the spec: they change no result."""
    recipe = context.stage.split("/")[0]
    return open_tracker(
        Track.model_validate_json(json.dumps(context.runtime.get("track", {}))),
        run_name=context.stage,
        group=f"{recipe}-{context.runtime.get('plan_id', 'unplanned')}",
        job_type=job_type,
        config=config,
        folder=context.project / FOLDER,
        warn=context.progress.say,  # DVC keeps a stage's standard error to itself
    )
