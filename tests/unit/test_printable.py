"""Text from people we do not know shows itself when it is printed, whatever it holds."""

from __future__ import annotations

import json

from slmcompile.console.printable import json_text, printable

EVERY = "".join(map(chr, range(0x110000)))


def test_every_character_there_is_comes_out_as_one_that_shows() -> None:
    shown = printable(EVERY)
    assert shown.isprintable()
    assert "é" in shown
    assert "→" in shown
    # Assigned to nothing, and a space that looks like one.
    assert printable("a\U0003fffdb\u00a0c") == r"a\ud8bf\udffdb\u00a0c"


def test_programs_read_the_same_out_of_json() -> None:
    # Of surrogates two that stand side by side are one character.
    whole = "".join(each for each in EVERY if not "\ud800" <= each <= "\udfff")
    text = json_text({"text": whole})
    assert json.loads(text) == {"text": whole}
    assert text.replace("\n", "").isprintable()
