"""The form of answers: whether they are JSON, and whether they ended by themselves."""

from __future__ import annotations

from slmcompile.data.labels import parse_json
from slmcompile.scoring.measures import Share

VALID_JSON = Share(lambda row: parse_json(str(row["compared"]).strip())[0])
"""One JSON value and nothing else (RFC 8259)."""

CUT_OFF = Share(lambda row: bool(row["cut_off"]))
"""Ended at its limit and not at a stop token."""
