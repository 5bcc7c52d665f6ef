"""What comes out of a container is opened by libraries, and gives them no code to run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slmcompile.console.errors import CorruptError
from slmcompile.stages.data_alone import require_data_alone

PEFT = {"auto_mapping": None, "megatron_config": None, "megatron_core": "megatron.core", "r": 4}


def _adapter(folder: Path, **changes: Any) -> Path:
    (folder / "adapter").mkdir()
    (folder / "adapter/adapter_config.json").write_text(json.dumps(PEFT | changes))
    (folder / "adapter/adapter_model.safetensors").touch()
    return folder


def test_an_adapter_is(tmp_path: Path) -> None:
    require_data_alone(_adapter(tmp_path))


@pytest.mark.parametrize(
    "changes",
    [
        {"megatron_config": {"a": 1}, "megatron_core": "antigravity"},
        {"auto_mapping": {"base_model_class": "system", "parent_library": "os"}},
        {"text_config": [{"auto_map": {"AutoModel": "a--b.C"}}]},
    ],
)
def test_a_configuration_that_asks_for_code_is_not(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(CorruptError, match=r"adapter_config.json: .* asks for code to be run"):
        require_data_alone(_adapter(tmp_path, **changes))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a": NaN}'])
def test_nor_is_one_that_nobody_can_read(tmp_path: Path, text: str) -> None:
    _adapter(tmp_path)
    (tmp_path / "adapter/adapter_config.json").write_text(text)
    with pytest.raises(CorruptError, match="no configuration that can be read"):
        require_data_alone(tmp_path)


@pytest.mark.parametrize("name", ["adapter_model.bin", "x/training_args.PT", "modeling_a.py"])
def test_a_pickle_or_a_program_is_not(tmp_path: Path, name: str) -> None:
    (_adapter(tmp_path) / "adapter/x").mkdir()
    (tmp_path / "adapter" / name).touch()
    with pytest.raises(CorruptError, match="a file of code, or a pickle"):
        require_data_alone(tmp_path)
