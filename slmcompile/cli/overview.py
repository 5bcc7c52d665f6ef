"""The overview page: every recipe with its headline metrics, from what report stages left."""

from __future__ import annotations

import json
from typing import Any

from slmcompile.files.artifact import write_text
from slmcompile.recipe.project import Project
from slmcompile.report.overview import overview
from slmcompile.state import finished


def write_overview(project: Project) -> str:
    """Writes ``outputs/overview.html`` and ``.md``; returns the HTML's project-relative path."""
    finished.release(project)  # the last stage that plain `dvc repro` runs
    html, markdown = overview([each for name in project.names() for each in _told(project, name)])
    write_text(project.root / "outputs" / "overview.md", markdown)
    write_text(project.root / "outputs" / "overview.html", html)
    return "outputs/overview.html"


def _told(project: Project, name: str) -> list[dict[str, Any]]:
    """What is known of a recipe, or of each of its adapters: all that its report says.

    Of one without a report its name alone.
    """
    path = project.root / "outputs" / name / "report" / "summary.json"
    if not path.is_file():
        return [{"name": name}]
    summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if "members" not in summary:
        return [summary | {"report": f"{name}/report/report.html"}]
    return [
        own | {"name": f"{name} / {member}", "report": f"{name}/report/{member}/report.html"}
        for member, own in summary["members"].items()
    ]
