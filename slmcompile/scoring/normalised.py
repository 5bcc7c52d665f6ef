"""Whether an answer says the same words as the reference, whatever their case and punctuation."""

from __future__ import annotations

import re
import string

from slmcompile.scoring.measures import Share

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normal(text: str) -> str:
    """Small letters, no punctuation, no English articles, single spaces.

    As SQuAD's ``normalize_answer`` (Rajpurkar et al. 2016, arXiv:1606.05250, evaluate-v1.1.py).
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


NORMALISED_MATCH = Share(lambda row: normal(str(row["compared"])) == normal(str(row["reference"])))
