"""Names are not content: which part of a path is in a stage's identity, and which is not."""

from __future__ import annotations

from slmcompile.plans.names import content_names, without_names


def test_only_the_ending_of_a_file_is_content() -> None:
    config = {"source": {"type": "file", "path": "data/a.v2.JSONL", "format": "auto"}, "seed": 1}
    assert without_names(config, ["source.path"]) == {
        "source": {"type": "file", "path": ".jsonl", "format": "auto"},
        "seed": 1,
    }
    assert config["source"] == {"type": "file", "path": "data/a.v2.JSONL", "format": "auto"}


def test_each_split_keeps_its_file_and_a_list_its_length() -> None:
    config = {
        "source": {"files": {"train": "a/b.csv.gz", "test": "c.csv"}, "path": ["x.json", "y"]}
    }
    names = ["source.files.train", "source.files.test", "source.path", "source.nothing", "no.such"]
    assert without_names(config, names) == {
        "source": {"files": {"train": ".csv.gz", "test": ".csv"}, "path": [".json", ""]}
    }


def test_a_file_of_a_folder_is_known_by_its_place_in_it() -> None:
    config = {"source": {"path": "models/mine"}}
    files = ["models/mine/config.json", "models/mine/sub/a.bin", "models/mine2/b.json"]
    assert content_names(config, ["source.path"], files) == [
        ("models/mine/config.json", "config.json"),
        ("models/mine/sub/a.bin", "sub/a.bin"),
        ("models/mine2/b.json", ".json"),
    ]
