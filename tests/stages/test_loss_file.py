"""A loss that is code of the project trains as any other, and its faults are told as its own."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from slmcompile.console.errors import SlmcompileError, StageFailedError
from slmcompile.data.store import read_split
from slmcompile.losses.python import PythonLoss
from slmcompile.methods.lora import Lora
from slmcompile.models.merge import load_merged
from slmcompile.training import group
from tests.loss_files import python, write_loss
from tests.projects import REPOSITORY
from tests.stages.test_training import SHORT, Heard, digests, recipe, run
from tests.stages.tiny_training import make_base, make_data


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_loss(tmp_path)


def trained(project: Path, base: Path, data: Path, out: Path, keys: PythonLoss, **more: Any) -> Any:
    loss = keys.model_dump()
    return run(recipe(**{**SHORT, "loss": loss, **more}), base, data, out, project=project)


def test_a_loss_of_ones_own_trains_and_goes_on_to_the_same_bytes(
    base: Path, data: Path, project: Path
) -> None:
    keys = python("FirstCounts", factor=2.0)
    record = trained(project, base, data, project / "whole", keys)
    assert record.objective == "FirstCounts of losses/mine.py (factor 2.0)"
    assert record.train_loss_last < record.train_loss_first - 0.5
    first = record.curve[0]
    assert first.cross_entropy < first.loss < 2 * first.cross_entropy

    def stop_at_6(step: int, values: dict[str, float]) -> None:
        if step == 6:
            signal.raise_signal(signal.SIGTERM)

    config, cut = recipe(**SHORT, loss=keys.model_dump()), project / "cut"
    with pytest.raises(SlmcompileError):
        run(config, base, data, cut, project=project, on_log=stop_at_6)
    again = run(config, base, data, cut, project=project, progress=Heard())
    assert again.resumed_from == 6
    assert digests(cut) == digests(project / "whole")
    assert [p.loss for p in again.curve] == [p.loss for p in record.curve]
    assert [p.cross_entropy for p in again.curve] == [p.cross_entropy for p in record.curve]


BODY = """\
import torch
from torch.nn import functional


def Mine(**options):
    return loss


"""
ONE = "def loss(z, y, p):\n    return "


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (f"{ONE}z.nope\n", "mine.py:10: Mine: AttributeError: "),
        (f"{ONE}1.0\n", "mine.py:9: Mine: returned a float, not a tensor"),
        (f"{ONE}z.sum()\n", "mine.py:9: Mine: returned a loss of shape [], not ["),
        (f"{ONE}z.sum(1).double()\n", "returned a loss in torch.float64 on cpu, not torch"),
        (f"{ONE}z.sum(1) * float('nan')\n", "returned nan for trained token 0 of row 0"),
        (f"{ONE}z.sum(1).detach()\n", "mine.py:9: Mine: returned a loss without a gradient"),
        (f"{ONE}torch.ones(len(z), requires_grad=True)\n", "does not depend on the logits"),
        (f"{ONE}(z * 0).sum(1).abs() ** 0.5\n", "a loss whose gradient is not finite"),
        (f"{ONE}z.sum(1) - z.sum()\n", "depend on the logits of other positions"),
        ("def loss(z, y, p):\n    raise SystemExit(3)\n", "mine.py:10: Mine: SystemExit: 3"),
        ("loss = 3\n", "Mine(…) is a int and cannot be called"),
        ("loss = torch.nn.Linear(3, 3)\n", "has parameters of its own, which nothing would"),
        ("1 / 0\n", "mine.py:9: Mine: ZeroDivisionError: division by zero"),
        ("Mine = 3\n", "Mine cannot be called"),
        ("def Mine():\n    return loss\n", "TypeError: Mine() got an unexpected keyword"),
        ("def loss(z, y):\n    return z\n", "TypeError: loss() takes 2 positional arguments"),
    ],
)
def test_what_is_wrong_with_the_code_is_told_with_file_and_line(
    base: Path, data: Path, project: Path, code: str, says: str
) -> None:
    write_loss(project, BODY + code)
    with pytest.raises(StageFailedError) as caught:
        trained(project, base, data, project / "out", python("Mine", one=1))
    assert caught.value.what.startswith("train: losses/mine.py")
    assert says in caught.value.what
    assert "\n" not in caught.value.what


def test_what_the_code_does_to_logits_or_to_torch_is_not_in_the_cross_entropy_that_is_told(
    base: Path, data: Path, project: Path
) -> None:
    keys = python("Together", "batch")
    plain = trained(project, base, data, project / "plain", keys, max_steps=1)
    writes = "torch.set_grad_enabled(False)\n\ndef loss(z, y, p):\n    z.mul_(0.5)\n"
    returns = "    losses = z.logsumexp(1) - z.mean(1)\n    torch.set_grad_enabled(False)\n"
    write_loss(project, BODY + writes + returns + "    return losses\n")
    keys = python("Mine", "batch")
    record = trained(project, base, data, project / "writes", keys, max_steps=1)
    assert record.curve[0].cross_entropy == plain.curve[0].cross_entropy


def test_a_gradient_of_a_batch_that_is_not_finite_is_the_codes_fault_too(
    base: Path, data: Path, project: Path
) -> None:
    write_loss(project, BODY + f"{ONE}(z * 0).sum(1).abs() ** 0.5\n")
    with pytest.raises(StageFailedError, match=r"mine.py:9: Mine: returned a loss whose gradient"):
        trained(project, base, data, project / "out", python("Mine", "batch"))


def test_a_diverged_training_is_no_fault_of_the_code(base: Path, data: Path, project: Path) -> None:
    wild = {"learning_rate": 1.0, "lr_scheduler_type": "constant", "warmup_ratio": 0.0}
    wild |= {"max_steps": 400, "lora": Lora(lora_alpha=1e30)}
    with pytest.raises(StageFailedError, match=r"training diverged at learning rate 1"):
        trained(project, base, data, project / "out", python("FirstCounts"), **wild)


def test_the_code_finds_no_other_file_of_the_project(
    base: Path, data: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by the folders that Python looks in, and not when it is called either."""
    (project / "beside.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(project))
    write_loss(project, BODY + "def loss(z, y, p):\n    import beside\n    return z.sum(1)\n")
    with pytest.raises(StageFailedError, match=r"mine.py:10: Mine: ModuleNotFoundError"):
        trained(project, base, data, project / "out", python("Mine"))


def test_a_loss_of_a_batch_is_refused_over_a_model_that_takes_row_by_row(
    base: Path, data: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "rows_are_apart", lambda *_: False)
    with pytest.raises(StageFailedError, match="a loss of the whole batch would see one row"):
        trained(project, base, data, project / "out", python("Together", "batch"))
    assert trained(project, base, data, project / "rows", python("FirstCounts")).steps == 12


def test_the_example_of_the_documentation_pulls_answers_of_one_label_together(
    base: Path, data: Path, project: Path
) -> None:
    """Trained by the file as it is printed there, beside the same training by cross entropy."""
    page = (REPOSITORY / "docs" / "losses.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```python\n(# losses/pairs.py\n.*?)```", page, flags=re.DOTALL)
    write_loss(project, text)
    config: dict[str, Any] = {
        "max_steps": 40,
        "eval_steps": 100,
        "precision": "fp32",
        "lr_scheduler_type": "constant",
        "gradient_accumulation_steps": 1,
        "per_device_train_batch_size": 16,
    }
    keys = python("Pairs", "batch", margin=1.0, share=4.0)
    pairs = trained(project, base, data, project / "pairs", keys, **config)
    plain = run(recipe(**{**SHORT, **config}), base, data, project / "plain")
    assert pairs.curve[-1].cross_entropy < pairs.curve[0].cross_entropy - 3, "it learns to answer"
    assert pairs.train_loss_first > plain.train_loss_first, "and minimises more than that"
    found = [_contrast(base, data, project / name / "adapter") for name in ("pairs", "plain")]
    assert found[0] < 0.8 * found[1]


def _contrast(base: Path, data: Path, adapter: Path) -> float:
    """Mean over pairs of rows that training never saw of what the example minimises."""
    model = load_merged(base, adapter)
    rows = read_split(data, "validation")
    with torch.no_grad():
        logits = [model(input_ids=torch.tensor([row.prompt_ids])).logits[0, -1] for row in rows]
    answers = torch.softmax(torch.stack(logits), -1)
    distances = torch.cdist(answers, answers)
    alike = torch.tensor([[one.label == other.label for other in rows] for one in rows])
    return float(torch.where(alike, distances**2, (1 - distances).clamp(min=0) ** 2).mean())
