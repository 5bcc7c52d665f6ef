"""What a report shows fits the window that it is read in; by a browser, where one is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slmcompile.report.facts import Artifact, ReportFacts
from slmcompile.report.page import page
from tests.unit.test_report import against, sample

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

METRICS = {
    **dict.fromkeys(("exact_match", "normalised_match", "field_f1", "accuracy"), 0.888),
    **{f"{name}_ci": [0.853, 0.902] for name in ("exact_match", "field_f1", "accuracy")},
    "f1_macro": 0.871,
    "valid_json": 0.994,
    "perplexity": 1.023,
    "cut_off": 0.01,
}
"""Of a task whose answers are JSON, with all that a table has columns for."""

ASKS = """
<script>
const box = (e) => [e.getBoundingClientRect().left, e.getBoundingClientRect().right];
const all = [...document.querySelectorAll(".scroll")];
document.title = JSON.stringify({
  width: innerWidth,
  page: document.documentElement.scrollWidth,
  tables: all.map((e) => [...box(e), e.scrollWidth - e.clientWidth]),
});
</script>
"""


def facts() -> ReportFacts:
    """The most that a report of several targets has to show side by side."""
    targets = ("cpu-fp32", "cpu-int8", "cpu-int4")
    figures: dict[str, Any] = {
        "size_bytes": 538_000_000, "tokens_per_second": 138.2, "peak_memory_bytes": 1_860_000_000,
        "rows": 196, "metrics": METRICS,
    }  # fmt: skip
    artifacts = [
        Artifact("torch", "tuned", **figures),
        *(Artifact(name, "export", **figures, agreement=0.975) for name in targets),
        Artifact("base", "base", **figures),
        Artifact("nearest-neighbour", "baseline", metrics=METRICS),
        Artifact("tf-idf", "baseline", metrics=METRICS),
    ]
    others = (*targets, "base", "nearest-neighbour", "tf-idf")
    compared = [against(name, "torch", "exact_match", 11, 23) for name in others]
    return replace(sample(), artifacts=artifacts, comparisons=compared)


def laid_out(folder: Path, width: int) -> dict[str, Any]:
    """Where things are in a window so wide."""
    # The page itself runs no script, and so says nothing.
    asked, count = re.subn(r"<meta http-equiv[^>]*>", "", page(facts()))
    assert count == 1
    path = folder / "report.html"
    path.write_text(asked.replace("</body>", f"{ASKS}</body>"), encoding="utf-8")
    done = subprocess.run(
        [
            str(CHROMIUM), "--headless", "--disable-gpu", "--no-sandbox", "--dump-dom",
            f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900", path.as_uri(),
        ],
        text=True, capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None
    found: dict[str, Any] = json.loads(title[1])
    return found


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_no_table_is_cut_at_the_width_of_a_laptop(tmp_path: Path) -> None:
    found = laid_out(tmp_path, 1200)
    assert found["tables"]
    for left, right, hidden in found["tables"]:
        assert hidden <= 0
        assert (left >= 0, right <= found["width"]) == (True, True)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_on_a_phone_a_table_scrolls_and_the_page_does_not(tmp_path: Path) -> None:
    found = laid_out(tmp_path, 500)
    assert any(hidden > 0 for _, _, hidden in found["tables"])
    assert found["page"] <= found["width"]
