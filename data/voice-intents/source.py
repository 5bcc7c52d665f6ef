"""Which sentence templates of home-assistant-intents are used, and how they are narrowed.

Knows nothing of fillers or rows: it yields the lines that make.py expands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import files
from typing import Any

PINNED = {"home-assistant-intents": "2026.10.27", "hassil": "3.12.1"}

SKIPPED_DOMAINS = {"valve", "script", "button", "binary_sensor", "person"}
SKIPPED_STATE_DOMAINS = {"switch", "lock", "person"}
SKIPPED_RESPONSES = {"all", "which", "how_many", "where", "one"}
"""Questions whose answer would be the same as that of the yes-or-no question."""

SKIPPED_SLOT_COMBINATIONS = re.compile(
    r"_seconds|seconds_(?!only)|command_|name_floor|name_state_area|floor_device_class|_state_floor|zone"
)
SKIPPED_SENTENCES = re.compile(
    r"\{name\} <light>|\{floor\}$"  # "desk light": is the name "desk" or "desk light"?
    r"|color_temperature"
    r"|^\[<the>\] (\{area\} )?\{name\}( <in> .*)?( on)?$"  # a bare name
    r"|\[<the>\] \{area\} \[to\] \{brightness\}\[\(\[ \]%\)\| percent\]$"  # percent of what?
    r"|\{name\} \[current\]|^how .* \{name\}$"  # "how hot is the thermostat"
    r"|^<clean> <here>$"  # of which room: only the microphone knows
)
"""Sentences left out: ambiguous, or not what anybody says."""

SENTENCE_EDITS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\[<all>\] \[<the>\]", "[<all>|<the>]"),
        (r"(?:<in>|\[<in>\]|\((?:in|of)\|on\)|in|of) \[<the>\] \{floor\}", "on the {floor}"),
        (r"\(in\|on\) \[<the>\] \{area\}", "in [<the>] {area}"),
        (r"\[(<(?:set|numeric_value_set|turn)>|activate|<in>|in|on|of|by|is)\]", r"\1"),
        (r"\[of \[the\]\]", "of the"),
        (r"\[on\|for\]", "on"),
        (r"\[to\] (\{(?:fan_speed|brightness|color)|\[the\] \{bri)", r"to \1"),
        (r"\[to\] (on|off)$", r"\1"),
        (r"\[\(\[ \]%\)\| percent\]|\[%\| percent\]", "[ percent]"),
        (r"\[\(\[ \]°\)\|\( degree\[s\]\)\]", "[ degrees]"),
        (r"\( \|-\)(hour|minute|second)\[s\]", r" \1"),
        (r"and \[a\] (\{timer_half:\w+\} \w+)\[s\]", r"and a \1s"),
        (r"(fan|timer|hour|minute|second)\[s\]", r"\1"),
        (r"\[floor\]", "floor"),
        (r"\[volume\]", "volume"),
        (r"(track|song)\|item", r"\1|song"),
        (r"\{area\} \[<the>\] \{name\}", "{area} {name}"),
        (r"\[a\|an\|the\|my\]", "[a|my]"),
        (r"^\(pause;(.*)\)$", r"pause \1"),
        (r"^\((\[<the>\] \{\w+\}(?: floor)?);volume (.*?)\)", r"\1 volume \2"),
        (r"^\{volume_step\}", "{volume_verb:volume_step}"),
        (r"^\[turn\] \{volume_step\}", "turn {volume_step}"),
        (r"\(music\|\[tv\] show\[s\]\|media \[player\[s\]\]\)", "(music|movie|show)"),
        (r"^stop \[playing\] \[(.*)\]$", r"stop (playing [\1]|\1)"),
        (r"go back \[(to the [^\]]*)\]", r"go back \1"),
        (r"\(previous\|last\) \[(<track>|\(song\|track\) ?)\]", r"(previous|last) \1 "),
        (r"\[how much\] time is left", "(how much time is|how much time|time) left"),
        (r"\[<the>\]", "[<the>|<the>]"),
    )
)
"""Optional words that speech does not leave out become fixed; spellings become a recogniser's."""

RULES = {
    "the": "(the|the|my)",
    "all": "all [of] the",
    "in": "in",
    "is": "is",
    "are_any": "are any",
    "everywhere": "(everywhere|in the whole house|all over the house)",
    "home": "house",
    "here": "(in here|here)",
    "light": "(light|lights|lights)",
    "turn": "(turn|switch)",
    "set": "(set|change|turn)",
    "numeric_value_set": "(set|change|turn (up|down)|increase|decrease)",
    "open": "(open|raise)",
    "close": "(close|lower|shut)",
    "what_is": "(what's|what is|tell me)",
    "how_is": "(how is|how's)",
    "track": "(song|track)",
    "media": "(music|movie|tv show|podcast|song)",
}
"""Expansion rules narrowed to everyday words; they replace the package's of the same name."""


@dataclass(frozen=True)
class Line:
    """One sentence template with what its block says about it.

    Attributes:
        intent: Home Assistant's name of the intent.
        sentence: the template, in hassil's notation.
        domains: domains that a {name} in it may come from; empty means that it has none.
        slots: slots whose value the sentence implies (``{"domain": "light"}``).
    """

    intent: str
    sentence: str
    domains: tuple[str, ...] = ()
    slots: Mapping[str, str] = field(default_factory=dict)


def _own(intent: str, *sentences: str, domains: tuple[str, ...] = (), **slots: str) -> list[Line]:
    return [Line(intent, sentence, domains, slots) for sentence in sentences]


OWN_LINES = [
    *_own(
        "HassShoppingListAddItem",
        "(buy|get|order) [some|more] {shopping_list_item:item}",
        "(we|i) need [to buy] {shopping_list_item:item}",
        "we (are|ran) out of {shopping_list_item:item}",
        "we are running low on {shopping_list_item:item}",
        "(remind me|remember) to (buy|get) {shopping_list_item:item}",
        "don't forget [to buy] {shopping_list_item:item}",
        "(write|note) [down] {shopping_list_item:item} on the (shopping|grocery) list",
        "{shopping_list_item:item} on the (shopping|grocery) list",
        "shopping list add {shopping_list_item:item}",
        "(pick up|grab) {shopping_list_item:item} (at|from) the (store|supermarket)",
        "(add {shopping_list_item:item} to|put {shopping_list_item:item} on) the grocery list",
    ),
    *_own(
        "HassVacuumCleanArea",
        "(hoover|sweep) [<the>|<the>] {area} [with [<the>|<the>] {name}]",
        "send [<the>|<the>] {name} to [<the>|<the>] {area}",
        "(let|have) [<the>|<the>] {name} (clean|do) [<the>|<the>] {area}",
        "(run|use) [<the>|<the>] {name} in [<the>|<the>] {area}",
        "[<the>|<the>] {area} (floor|carpet) needs (cleaning|vacuuming)",
        "do a quick clean of [<the>|<the>] {area} [with [<the>|<the>] {name}]",
        domains=("vacuum",),
    ),
    *_own(
        "HassGetState",
        "did (i|we) leave [<the>|<the>] {name} {on_off_states:state}",
        "(check|tell me) (if|whether) [<the>|<the>] {name} is {on_off_states:state}",
        "do you know if [<the>|<the>] {name} is {on_off_states:state}",
        domains=("light", "switch", "fan"),
    ),
    *_own(
        "HassGetState",
        "did (i|we) leave [<the>|<the>] {name} {lock_states:state}",
        "(check|tell me) (if|whether) [<the>|<the>] {name} is {lock_states:state}",
        "do you know if [<the>|<the>] {name} is {lock_states:state}",
        domains=("lock",),
    ),
    *_own(
        "HassGetState",
        "are there any lights {on_off_states:state} in [<the>|<the>] {area}",
        "did (i|we) leave any lights {on_off_states:state} in [<the>|<the>] {area}",
        "(check|tell me) (if|whether) any lights are {on_off_states:state} in [<the>|<the>] {area}",
        "are the [{area}] lights {on_off_states:state}",
        domain="light",
    ),
]
"""Templates of our own for intents of which the package has only a handful."""


def check_versions() -> None:
    """Ends with a message unless the packages are those that commands.jsonl was made with."""
    for package, wanted in PINNED.items():
        if version(package) != wanted:
            raise SystemExit(
                f"{package} {version(package)} is installed, the data was made with {wanted}\n"
                f"pip install {' '.join(f'{name}=={pin}' for name, pin in PINNED.items())}"
            )


def load() -> tuple[dict[str, Any], dict[str, str]]:
    """The package's English intents, and its expansion rules with ours on top."""
    text = (files("home_assistant_intents") / "data" / "en.json").read_text(encoding="utf-8")
    english = json.loads(text)
    return english["intents"], {**english["expansion_rules"], **RULES}


def _is_used(block: Mapping[str, Any]) -> bool:
    domains = set(block.get("requires_context", {}).get("domain", ()))
    state_of = block.get("slots", {}).get("domain")
    asks = block["response"] in {"any", "one_yesno"}
    return not (
        domains & SKIPPED_DOMAINS
        or block["response"] in SKIPPED_RESPONSES
        or (asks and state_of in SKIPPED_STATE_DOMAINS)
        or SKIPPED_SLOT_COMBINATIONS.search(block["metadata"]["slot_combination"])
    )


def _edited(sentence: str) -> str:
    for pattern, replacement in SENTENCE_EDITS:
        sentence = pattern.sub(replacement, sentence)
    return sentence


def lines(intents: Mapping[str, Any], intent: str) -> Iterator[Line]:
    """The sentence templates of one intent that are used, edited, in the package's order."""
    for block in filter(_is_used, intents[intent]["data"]):
        domains = tuple(block.get("requires_context", {}).get("domain", ()))
        for sentence in block["sentences"]:
            if not SKIPPED_SENTENCES.search(sentence):
                yield Line(intent, _edited(sentence), domains, block.get("slots", {}))
    yield from (line for line in OWN_LINES if line.intent == intent)
