"""Makes commands.jsonl: spoken commands for a home and the Home Assistant intent each one means.

The sentence templates are those of the home-assistant-intents package (source.py), filled with
the rooms, devices and shopping of one household (household.json). Run again, it writes the same
bytes:

    pip install home-assistant-intents==2026.10.27 hassil==3.12.1
    python data/voice-intents/make.py
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hassil.expression import (
    Alternative,
    Expression,
    Group,
    ListReference,
    Permutation,
    RuleReference,
    TextChunk,
)
from hassil.parse_expression import parse_sentence
from source import Line, check_versions, lines, load

HERE = Path(__file__).parent
HOME: Mapping[str, Any] = json.loads((HERE / "household.json").read_text(encoding="utf-8"))

ROWS = {
    "HassTurnOn": 195,
    "HassTurnOff": 185,
    "HassLightSet": 160,
    "HassGetState": 120,
    "HassClimateSetTemperature": 105,
    "HassClimateGetTemperature": 85,
    "HassFanSetSpeed": 95,
    "HassSetPosition": 100,
    "HassSetVolume": 100,
    "HassSetVolumeRelative": 120,
    "HassMediaNext": 75,
    "HassMediaPrevious": 80,
    "HassMediaPause": 75,
    "HassStartTimer": 130,
    "HassCancelTimer": 80,
    "HassIncreaseTimer": 95,
    "HassTimerStatus": 90,
    "HassShoppingListAddItem": 105,
    "HassVacuumCleanArea": 95,
}
"""Rows wanted of each intent; an intent whose sentences run out gives fewer."""

ROWS_PER_TEMPLATE = 3
"""A template is used for about so many rows, so that an intent is many wordings, not few."""

DRAWS_PER_LINE = 60
TRIES_PER_ROW = 8

SLOT_ORDER = (
    *("name", "area", "floor", "domain", "device_class", "item", "state"),
    *("brightness", "color", "temperature", "percentage", "position"),
    *("volume_level", "volume_step", "hours", "minutes", "seconds"),
    *("start_hours", "start_minutes", "start_seconds"),
)

POLITE = ("please {}", "{} please", "can you {}", "could you {}")
POLITE_SHARE = 0.12
COMMAND_VERB = re.compile(
    r"^(turn|switch|set|change|increase|decrease|open|close|raise|lower|shut|activate|deactivate"
    r"|lock|unlock|pause|stop|skip|play|replay|start|create|cancel|add|put|buy|get|order|clean"
    r"|vacuum|sweep|hoover|send|let|have|run|use|write|note|light up|illuminate)\b"
)

SAME_TEMPLATE = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\b(the|my|a|an|all( of)?|percent|degrees|current) ", ""),
        (r" (percent|degrees)$", ""),
        (r"\b(light|fan|blind)s\b", r"\1"),
        (r"\bswitch\b", "turn"),
        (r"\bwhat's\b", "what is"),
        (r"\bhow's\b", "how is"),
        (r"\btemp\b", "temperature"),
        (r"(\{(hours|minutes)\} and )?half (hour|minute)s?", "half {duration}"),
        (r"\{(hours|minutes|seconds)\} (hour|minute|second)s?", "{duration}"),
        (r"\{start_(hours|minutes|seconds)\} (hour|minute|second)s?", "{start_duration}"),
        (r"\{duration\} (and )?\{duration\}", "{duration}"),
    )
)
"""Differences that do not make another template: articles, units, plurals, contractions."""

Part = str | ListReference
T = TypeVar("T")


def pick(rng: random.Random, choices: Sequence[T]) -> T:
    """One of the choices; ``random()`` alone is promised to be the same in every Python."""
    return choices[int(rng.random() * len(choices))]


def expand(rng: random.Random, node: Expression, rules: Mapping[str, str]) -> Iterator[Part]:
    """One random expansion of a template: text, and references to lists, not yet filled."""
    if isinstance(node, TextChunk):
        yield node.original_text
    elif isinstance(node, ListReference):
        yield node
    elif isinstance(node, RuleReference):
        yield from expand(rng, parse_sentence(rules[node.rule_name]).expression, rules)
    elif isinstance(node, Alternative):
        yield from expand(rng, pick(rng, node.items), rules)
    elif isinstance(node, Permutation):
        items = list(node.items)
        while items:
            yield " "
            yield from expand(rng, items.pop(int(rng.random() * len(items))), rules)
            yield " "
    elif isinstance(node, Group):
        for item in node.items:
            yield from expand(rng, item, rules)
    else:
        raise TypeError(f"unknown expression: {node}")


def joined(parts: Iterable[str]) -> str:
    """Words with single spaces between them."""
    return " ".join("".join(parts).split())


def template_of(parts: Iterable[Part]) -> str:
    """What rows of one template have in common: wording with slots for fillers, no articles."""
    text = joined(
        part
        if isinstance(part, str)
        else "half"  # "an hour and a half" is another wording, not another number
        if part.list_name == "timer_half"
        else f"{{{part.slot_name}}}"
        for part in parts
    )
    for pattern, replacement in SAME_TEMPLATE:
        text = pattern.sub(replacement, text)
    return joined(text)


def fill(rng: random.Random, line: Line, parts: Sequence[Part]) -> tuple[str, dict[str, Any]]:
    """A sentence and its slots: every {list} of the expansion gets a filler that makes sense."""
    wanted = [part.list_name for part in parts if isinstance(part, ListReference)]
    name, area = pick_device(rng, line) if "name" in wanted else ("", "")
    if not area and "area" in wanted:
        area = pick(rng, HOME[room_list(line)])
    slots: dict[str, Any] = dict(line.slots)
    words: list[str] = []
    for part in parts:
        if isinstance(part, str):
            words.append(part)
            continue
        known = {"name": (name, name), "area": (area, area)}
        said, meant = known.get(part.list_name) or pick_filler(rng, part.list_name)
        words.append(said)
        slots[part.slot_name] = meant
    return spoken(joined(words), name), slots


def room_list(line: Line) -> str:
    """Which rooms make sense: timers are in some of them, windows in others."""
    if "Timer" in line.intent:
        return "rooms_with_timers"
    if "cover" in line.slots.values() or "cover_classes" in line.sentence:
        return "rooms_with_windows"
    return "rooms"


def pick_device(rng: random.Random, line: Line) -> tuple[str, str]:
    """A device of one of the line's domains, and a room that it may stand in."""
    devices = HOME["devices"]
    domain = pick(rng, [domain for domain in line.domains if domain in devices])
    name = pick(rng, list(devices[domain]))
    return name, pick(rng, devices[domain][name])


def pick_filler(rng: random.Random, list_name: str) -> tuple[str, Any]:
    """What is said for a list, and the value that it means."""
    if list_name in HOME["numbers"]:
        number = pick(rng, HOME["numbers"][list_name])
        return str(number), -number if list_name == "volume_step_down" else number
    values = HOME["lists"][list_name]
    said = pick(rng, list(values))
    return said, values[said] if isinstance(values, Mapping) else said


def spoken(text: str, name: str) -> str:
    """Number and article agreement, which templates do not know about."""
    text = re.sub(r"\b1 (hour|minute|second)s\b", r"1 \1", text)
    text = re.sub(r"\b((?!1 )\d+) (hour|minute|second)\b(?! timer| and \d+ \w+ timer)",
                  r"\1 \2s", text)  # fmt: skip
    text = re.sub(r"\ba (?=(8|11|18)\b)", "an ", text)
    text = re.sub(r"\b((?:all(?: of)? the|are any) (?:\w+ ){0,2}(?:light|fan))\b", r"\1s", text)
    text = re.sub(rf"\b(the|my) ({'|'.join(HOME['devices']['scene'])})(?! scene)", r"\2", text)
    text = text.replace("every lights", "every light")
    if name.endswith("s"):
        text = re.sub(r"^is ", "are ", text).replace(f"{name} is ", f"{name} are ")
    return text


def templates(rng: random.Random, source: Iterable[Line], rules: Mapping[str, str]
              ) -> dict[str, list[tuple[Line, list[Part]]]]:  # fmt: skip
    """Expansions of an intent's lines, by template; source lines take turns in the order."""
    found: list[list[tuple[str, Line, list[Part]]]] = []
    for line in source:
        expression = parse_sentence(line.sentence).expression
        draws = [list(expand(rng, expression, rules)) for _ in range(DRAWS_PER_LINE)]
        found.append([(template_of(parts), line, parts) for parts in draws])
    grouped: dict[str, list[tuple[Line, list[Part]]]] = {}
    for turn in range(DRAWS_PER_LINE):
        for draws_of_line in found:
            template, line, parts = draws_of_line[turn]
            grouped.setdefault(template, []).append((line, parts))
    return grouped


def rows_of(intent: str, rng: random.Random, source: Iterable[Line], rules: Mapping[str, str]
            ) -> list[dict[str, str]]:  # fmt: skip
    """Rows of one intent: its templates take turns until there are enough."""
    wanted = ROWS[intent]
    grouped = templates(rng, source, rules)
    chosen = list(grouped.items())[: wanted // ROWS_PER_TEMPLATE]
    meaning: dict[str, str] = {}
    rows: dict[str, dict[str, str]] = {}
    for _ in range(wanted):
        for template, expansions in chosen:
            for _ in range(TRIES_PER_ROW):
                row = drawn(rng, intent, template, expansions)
                text, said = row["text"], row["answer"]
                if meaning.setdefault(text, said) != said:
                    raise SystemExit(f"two meanings: {text!r}: {said} and {meaning[text]}")
                if text not in rows and len(rows) < wanted:
                    rows[text] = row
                    break
    return list(rows.values())


def drawn(rng: random.Random, intent: str, template: str,
          expansions: Sequence[tuple[Line, Sequence[Part]]]) -> dict[str, str]:  # fmt: skip
    """A row of a template: one of its expansions, filled at random and sometimes polite."""
    text, slots = fill(rng, *pick(rng, expansions))
    if rng.random() < POLITE_SHARE and COMMAND_VERB.match(text):
        text = pick(rng, POLITE).format(text)
    return {
        "text": text,
        "answer": answer(intent, slots),
        "intent": intent,
        "template": f"{intent}: {template}",
    }


def answer(intent: str, slots: Mapping[str, Any]) -> str:
    """The compact JSON that the model must emit; slots in one fixed order."""
    ordered = {slot: slots[slot] for slot in SLOT_ORDER if slot in slots}
    if len(ordered) != len(slots):
        raise ValueError(f"{intent}: slots without a place in SLOT_ORDER: {slots.keys()}")
    return json.dumps({"intent": intent, **ordered}, separators=(",", ":"))


def make(seed: int) -> list[dict[str, str]]:
    """All rows, in an order that mixes the intents. No text occurs twice."""
    intents, rules = load()
    rows: dict[str, dict[str, str]] = {}
    for intent in ROWS:
        rng = random.Random(f"{seed}/{intent}")
        for row in rows_of(intent, rng, lines(intents, intent), rules):
            other = rows.setdefault(row["text"], row)
            if other is not row:
                raise SystemExit(
                    f"two meanings: {row['text']!r}: {row['intent']}, {other['intent']}"
                )
    order = random.Random(f"{seed}/order")
    return [row for _, row in sorted((order.random(), row) for row in rows.values())]


def write(rows: Sequence[Mapping[str, str]], out: Path) -> None:
    """Writes rows as JSON lines, and says how many there are."""
    with out.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    print(f"{len(rows)} rows, {len({row['template'] for row in rows})} templates")


def main() -> None:
    """Writes commands.jsonl beside this script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "commands.jsonl")
    arguments = parser.parse_args()
    check_versions()
    write(make(arguments.seed), arguments.out)


if __name__ == "__main__":
    main()
