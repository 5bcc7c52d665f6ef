"""Names that columns of data sets have, and what they are for; in small letters."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ASKING = _words(
    "prompt instruction question query input text sentence utterance message comment review"
    " request command ticket tweet post email article document dialogue code source_text"
)
ANSWERING = _words(
    "completion response answer output label labels target reply summary highlights category class"
    " intent sentiment tone topic emotion stars rating headline"
)
LABELS = _words("label labels category class intent sentiment tone topic emotion stars rating")
"""Of those that answer, what says which of a few classes a row is."""

SHORT_OF = _words("summary highlights headline title tldr")
"""What says the same in fewer words."""

TEXTS = _words("text content body document article passage paragraph code markdown")
"""What may be plain text, where nothing answers it."""

QUESTIONS = ("instruction", "question", "query", "prompt")
"""What asks for a reply, and is no text that has a label."""

REPLIES = _words("completion response answer output reply")
"""What replies to one of these, whatever labels stand beside it."""

BEFORE = ("context", "passage", "background")
"""What a question is about, which is read first."""

BEHIND = ("input",)
"""What an instruction is about, which is read behind it (Alpaca)."""

NEEDED = _words("choices options history premise hypothesis schema")
"""Without these a question cannot be answered; how they stand in it is a person's choice."""

ABOUT = _words(
    "id idx index key uuid guid url link lang language locale source split fold date time timestamp"
    " created_at updated_at license author user user_id meta metadata version"
)
"""What says something about a row and is neither question nor answer, unless somebody says so."""

KNOWN = ASKING | ANSWERING | TEXTS | NEEDED | ABOUT | {*BEFORE, *BEHIND}
