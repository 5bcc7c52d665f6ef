"""A harder extraction task than the quickstart's: orders in a customer's own words to nested JSON.

Writes into PROJECT a data set made from a seed and the recipe `orders` over SmolLM2-135M. A message
names who orders, one to three items with a number and a unit, when and where to, and may ask for
haste; the answer lists the items as objects, writes numbers as digits and the day as ISO 8601, of
which the message gives words ("the 3rd of March", "2027", "a dozen", "two boxes"). Split by the
wording of its sentences, so that a test message is put together as none of training is. Names,
products and cities occur in training; quantities, days and combinations need not.

    python benchmarks/order_extraction.py PROJECT --rows 800
    cd PROJECT && slmcompile run orders
    python benchmarks/quantisation_frontier.py PROJECT orders
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmcompile.cli.init import init

REPOSITORY = Path(__file__).parent.parent
PEOPLE = (
    "Ana Prado", "Lena Vogt", "Tom Hale", "Mika Sato", "Ines Rocha", "Paul Adler", "Sara Lind",
    "Omar Haddad", "Nora Berg", "Luis Mora", "Kate Dunn", "Ivo Maric", "Rita Gomes", "Jan Novak",
    "Eva Costa", "Hugo Faria", "Mina Park", "Noel Quinn", "Dora Szabo", "Alan Reyes",
)  # fmt: skip
CITIES = (
    "Porto", "Leeds", "Turin", "Bergen", "Lyon", "Graz", "Malmo", "Braga", "Ghent", "Bonn",
    "Cork", "Vilnius", "Split", "Tampere", "Seville", "Delft",
)  # fmt: skip
PRODUCTS = (
    "hex bolts", "copper pipes", "door hinges", "paint rollers", "drill bits", "work gloves",
    "wood screws", "ceiling lamps", "wall plugs", "hose clamps", "tile spacers", "sanding discs",
    "cable ties", "paint brushes", "pipe fittings", "shelf brackets",
)  # fmt: skip
UNITS = {"piece": "pieces", "box": "boxes", "pack": "packs", "crate": "crates", "pallet": "pallets"}
WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 8: "eight", 10: "ten", 12: "a dozen",
         20: "twenty", 24: "two dozen", 50: "fifty", 100: "a hundred"}  # fmt: skip
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September",
          "October", "November", "December")  # fmt: skip
OPENINGS = (
    "Hello, this is {who}.", "{who} here.", "Good morning, my name is {who}.",
    "Hi, {who} speaking.", "I am {who} and would like to order.", "Order for {who}:",
    "Please note an order by {who}.",
)  # fmt: skip
WISHES = (
    "We need {items}.", "Please send {items}.", "I would like {items}.", "Could you ship {items}?",
    "Put me down for {items}.", "What we want is {items}.",
    "Our site has run out, so {items} please.",
)  # fmt: skip
PLACES = (
    "Deliver to {where} by {day}.", "It has to be in {where} on {day}.", "To {where}, {day}.",
    "By {day} at the latest, to our yard in {where}.", "The address is in {where}, the day {day}.",
    "{day} would suit us, in {where}.",
)  # fmt: skip
HASTE = ("This is urgent.", "We are in a hurry.", "Top priority, please.")
CALM = ("", "No rush.", "Thank you.", "Take your time.")
RECIPE = """\
# Orders in a customer's own words to nested JSON.
defaults:
  - model: smollm2-135m
  - train: lora
  - eval: structured
  - target: [cpu-int8]
  - _self_

data:
  name: orders
  license: CC0-1.0
  task: extraction
  source: {type: file, path: data/orders/orders.jsonl}
  template:
    type: text
    prompt: "<|im_start|>user\\n{text}<|im_end|>\\n<|im_start|>assistant\\n"
    completion: "{answer}"
  label: city
  max_length: 256
  split: {strategy: group, by: wording, validation: 0.1, test: 0.1}

eval:
  precision: bf16
  max_new_tokens: 160

train:
  learning_rate: 2e-3
  per_device_train_batch_size: 8
  num_train_epochs: 1
"""


@dataclass(frozen=True)
class Order:
    """A message, what it says, and the wording of it."""

    text: str
    answer: dict[str, Any]
    wording: str


def number_text(rng: random.Random, number: int) -> str:
    """A number as people write it: in words where there are some, for half of them."""
    return WORDS[number] if number in WORDS and rng.random() < 0.5 else str(number)


def day_text(rng: random.Random, year: int, month: int, day: int) -> str:
    """A day in one of four ways."""
    name = MONTHS[month - 1]
    ending = {1: "st", 2: "nd", 3: "rd"}.get(0 if day in (11, 12, 13) else day % 10, "th")
    nth = f"{day}{ending}"
    return rng.choice((
        f"{day} {name} {year}", f"{name} {nth}, {year}", f"the {nth} of {name} {year}",
        f"{day:02d}.{month:02d}.{year}",
    ))  # fmt: skip


def item(rng: random.Random, product: str) -> tuple[str, dict[str, Any]]:
    """An item as it is asked for, and as it is noted."""
    unit = rng.choice(list(UNITS))
    number = rng.choice([*WORDS, rng.randrange(2, 400), rng.randrange(2, 400)])
    said = number_text(rng, number)
    text = f"{said} {product}" if unit == "piece" else f"{said} {UNITS[unit]} of {product}"
    return text, {"product": product, "quantity": number, "unit": unit}


def listed(texts: Sequence[str]) -> str:
    """Several as one says them."""
    return texts[0] if len(texts) == 1 else ", ".join(texts[:-1]) + " and " + texts[-1]


def order(rng: random.Random) -> Order:
    """One order; the wording is which sentences it is made of, in which order."""
    who, where = rng.choice(PEOPLE), rng.choice(CITIES)
    year, month, day = rng.choice((2027, 2028)), rng.randrange(1, 13), rng.randrange(1, 29)
    items = [item(rng, product) for product in rng.sample(PRODUCTS, rng.choice((1, 2, 2, 3)))]
    urgent = rng.random() < 0.3
    sentences = [
        rng.choice(WISHES), rng.choice(PLACES), rng.choice(HASTE if urgent else CALM)
    ]  # fmt: skip
    rng.shuffle(sentences)
    sentences.insert(0, rng.choice(OPENINGS))
    wording = " ".join(each for each in sentences if each)
    text = wording.format(
        who=who,
        where=where,
        day=day_text(rng, year, month, day),
        items=listed([said for said, _ in items]),
    )
    answer = {
        "customer": who,
        "items": [noted for _, noted in items],
        "city": where,
        "day": f"{year}-{month:02d}-{day:02d}",
        "urgent": urgent,
    }
    return Order(text[0].upper() + text[1:], answer, wording)


def main() -> None:
    """Writes the data and the recipe."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    root: Path = given.project
    shutil.copytree(REPOSITORY / "conf", root / "conf", dirs_exist_ok=True)
    rng = random.Random(given.seed)
    lines = []
    for _ in range(given.rows):
        made = order(rng)
        answer = json.dumps(made.answer, separators=(",", ":"))
        lines.append(
            json.dumps({"text": made.text, "answer": answer, "wording": made.wording}) + "\n"
        )
    (root / "data/orders").mkdir(parents=True, exist_ok=True)
    (root / "data/orders/orders.jsonl").write_text("".join(lines), encoding="utf-8")
    (root / "recipes").mkdir(exist_ok=True)
    (root / "recipes/orders.yaml").write_text(RECIPE, encoding="utf-8")
    if not (root / "dvc.yaml").exists():
        init(folder=root)


if __name__ == "__main__":
    main()
