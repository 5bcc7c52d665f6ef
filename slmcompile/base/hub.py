"""A base model of the Hugging Face hub, at one commit.

Uses the hub's own cache (``HF_HOME``), so that an interrupted download goes on where it stopped;
what lands in the artifact is a copy.
"""

from __future__ import annotations

import json
import shutil
from fnmatch import fnmatch
from pathlib import Path

from slmcompile.base.layout import ALLOWED, CHAT_TEMPLATES, refuse_code, refuse_unsafe
from slmcompile.console.progress import Progress
from slmcompile.hub.commit import at_commit
from slmcompile.hub.errors import hub_errors
from slmcompile.sources.of_models.hub import HubModel


def fetch_hub(source: HubModel, _project: Path, out: Path, progress: Progress) -> str:
    """Downloads the repository's allowed top-level files at ``revision`` into ``out``.

    Names and configuration are looked at before any weight is downloaded.

    Raises:
        RefusedError: ``auto_map`` or pickled weights only.
        BadRecipeError: no such repository or commit.
        MissingError: the hub is out of reach, or the repository is gated for this user.
    """
    from huggingface_hub import HfApi, hf_hub_download

    source = at_commit(source)
    full = f"{source.repo_id}@{source.revision}"
    where = full[: len(source.repo_id) + 13]
    progress.say(f"fetching {where} from the hub")
    with hub_errors(
        where, correct="model.source", instead="use a model from a package or a folder"
    ):
        # One request that is not retried for half a minute, as listing the tree would be.
        found = HfApi().model_info(source.repo_id, revision=source.revision).siblings or []
        names = sorted(each.rfilename for each in found)
        top = [name for name in names if "/" not in name]
        refuse_unsafe(top, where)
        wanted = [name for name in top if any(fnmatch(name, each) for each in ALLOWED)]
        wanted.sort(key=lambda name: (not name.endswith("config.json"), name))
        wanted += [
            n for n in names if n.rpartition("/")[0] == CHAT_TEMPLATES and n.endswith(".jinja")
        ]
        for name in wanted:
            cached = hf_hub_download(source.repo_id, name, revision=source.revision)
            (out / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(cached, out / name)
            if name.endswith("config.json"):
                refuse_code(json.loads((out / name).read_text("utf-8")), f"{where}/{name}")
    return full
