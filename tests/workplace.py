"""A project that a test works in as a person would, and what ran in it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from slmcompile.files import artifact
from slmcompile.recipe.project import Project
from slmcompile.state import journal
from tests.projects import slmcompile


class Workplace:
    """A project and a note of how much of its journal has been read."""

    def __init__(self, root: Path, recipe: str = "tiny") -> None:
        self.root = root
        self.recipe = recipe
        self._seen = 0

    def ran(self) -> set[str]:
        """Names of the stages that were executed since the last call."""
        entries = [entry["stage"] for entry in journal.read(Project(self.root))]
        fresh, self._seen = entries[self._seen :], len(entries)
        assert len(fresh) == len(set(fresh)), "a stage ran twice"
        return {address.split("/")[1] for address in fresh}

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = slmcompile(self.root, *words, check=False)
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def plan(self, *words: str) -> dict[str, str]:
        """Action by stage name, as ``plan --json`` says."""
        stages = json.loads(self.run("plan", self.recipe, *words, "--json").stdout)["stages"]
        return {stage["stage"].split("/")[1]: stage["action"] for stage in stages}

    def metrics(self, artifact_name: str) -> dict[str, Any]:
        path = self.root / "pipelines" / self.recipe / "metrics" / f"{artifact_name}.json"
        measured: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return measured

    def adapter(self) -> str:
        path = self.root / "outputs" / "tiny" / "train" / "adapter" / "adapter_model.safetensors"
        return artifact.sha256_file(path)
