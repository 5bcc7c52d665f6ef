"""Rows of a data set of the Hugging Face hub, at one commit.

The only part of the data stage that uses a network. Runs no code of the data set: the ``datasets``
library dropped loading scripts in 4.0, and what it fetches here are data files at a pinned commit.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slmcompile.console.errors import BadDataError, MissingError, RefusedError
from slmcompile.data.rows import SourceRow
from slmcompile.data.source import Rows
from slmcompile.hub.commit import at_commit
from slmcompile.shapes.splits import SPLITS
from slmcompile.sources.of_data.hub import HubData


def read_hub(source: HubData, _project: Path, _roots: Sequence[str]) -> Rows:
    """Rows of every split that the source names, at its commit.

    Raises:
        MissingError, BadDataError, RefusedError: see ``read_split``.
    """
    source = at_commit(source)
    given = [split for split in SPLITS if split in source.splits]
    return Rows({split: read_split(source, source.splits[split]) for split in given})


def read_split(source: HubData, slice_: str) -> list[SourceRow]:
    """All rows of one split or slice of it (``train[:4096]``, ``train[10%:20%]``).

    Raises:
        MissingError: the hub cannot be reached or has no such data set (exit 69).
        BadDataError: the data set has no such split or configuration, or no rows (exit 65).
        RefusedError: the name is not one of a repository (exit 77).
    """
    if source.repo_id.count("/") != 1:
        # Without an owner `datasets` takes the name for one of its own loaders ("csv", "json").
        raise RefusedError(
            f"data.source.repo_id: {source.repo_id!r} is not owner/name",
            "write the repository's owner too",
        )
    name = f"{source.repo_id}@{(source.revision or '')[:12]}"
    table = _load(source, slice_, name)
    rows = [
        SourceRow(dict(row), f"{name} {slice_}: row {n}", columnar=True)
        for n, row in enumerate(table)
    ]
    if not rows:
        raise BadDataError(f"{name} {slice_}: no rows", "widen the slice in data.source.splits")
    return rows


def _load(source: HubData, slice_: str, name: str) -> Any:
    import datasets
    import httpx
    from huggingface_hub.errors import HfHubHTTPError

    datasets.disable_progress_bars()
    # It retries for 20 s and would print each attempt.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        builder = datasets.load_dataset_builder(
            # With this prefix a local folder of the same name is never taken for the data set.
            f"hf://datasets/{source.repo_id}",
            source.config_name,
            revision=source.revision,
        )
        _refuse_foreign_files(builder.config.data_files, source)
        builder.download_and_prepare()
        return builder.as_dataset(split=slice_)
    except (ConnectionError, TimeoutError, httpx.HTTPError, HfHubHTTPError) as error:
        raise MissingError(
            f"{name}: the hub cannot be reached ({type(error).__name__})",
            "check the network, or save the rows into a file and use data.source.type=file",
        ) from error
    except FileNotFoundError as error:  # also DatasetNotFoundError
        raise MissingError(
            f"{name}: the hub has no such data set or commit, or it is private",
            "correct data.source.repo_id and revision, or log in with `hf auth login`",
        ) from error
    except (ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadDataError(
            f"{name} {slice_}: {reason}", "correct data.source.splits or config_name"
        ) from error


def _refuse_foreign_files(data_files: Mapping[str, Sequence[str]] | None, source: HubData) -> None:
    """The data set's README may name any path or address as a data file, ``/etc/passwd`` too.

    datasets 5.2 refuses that itself; the releases before that we accept are not known to.
    """
    own = f"hf://datasets/{source.repo_id}@{source.revision}/"
    for files in (data_files or {}).values():
        for file in files:
            if not file.startswith(own) or ".." in file:
                raise RefusedError(
                    f"{source.repo_id}: its README takes data from {file!r}",
                    "use a data set that holds its own files",
                )
