"""Makes messages.jsonl: short messages, and whether people found each one negative or positive.

The messages and their ratings are those of the tweets that come with VADER (Hutto & Gilbert 2014).
Run again, it writes the same bytes:

    pip download --no-binary :all: --no-deps vaderSentiment==3.3.2 -d DOWNLOADS
    python data/tone/make.py DOWNLOADS/vaderSentiment-3.3.2.tar.gz
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import html
import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

HERE = Path(__file__).parent

SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
"""Of vaderSentiment-3.3.2.tar.gz."""
INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
TWEETS = "hutto_ICWSM_2014/tweets_GroundTruth.txt"
RATINGS = "hutto_ICWSM_2014/tweets_anonDataRatings.txt"

CUT = 0.5
"""Means from -CUT to CUT, of a scale from -4 to 4, are neutral."""
ROWS = 2000
SAME = 0.6
"""Two messages that share this part of their words are one message and a variant of it."""
FEWEST_WORDS = 3

LEFT_OUT = {
    "strong swearing, slurs and sex": (
        r"f+[u*&]+c*k|fck|fuk|\bf\*|\bwtf\b|stfu|\bshit|bullshit|\bsh[*!]t|bitch|cunt|asshole"
        r"|\bwhore|slut|\bcock\b|\bdicks?\b|dicking|pussy|\btits?\b|\bboobs?\b|wanker|bastard"
        r"|\bass\b|\bgag if|douche|\bnigg|\bfag|retard|\bporn|\bsex|naked|nude|prostitut|fondl"
        r"|\bwang\b"
    ),
    "killing and other crimes": (
        r"\bkill(s|ed|er|ings?)?\b|murder|suicide|\brap(e|ed|ist)\b|terroris|hitler|\bnazi"
        r"|bin lad[ei]n|#obl\b"
    ),
    "religion, origin and sexual orientation": (
        r"\bmuslim|\bislam|\bjews?\b|jewish|\bchristian|\bhindu|\bjesus|\bgays?\b|lesbian"
        r"|same-sex|#prop ?8|white people|black (kid|actor|lover)|\barabs?\b|\bmexicans?\b"
        r"|\basians?\b|immigrant"
    ),
    "ways to reach a person, and where one is": (
        r"\d{3}[-. ]\d{3,4}|[a-z]@|\bi'm at (?!the\b)|\bi'm at .*http"
        r"|\d+ \w+( \w+)* (st|ave|rd|blvd|hwy)\b"
    ),
}
"""Messages that match are left out, with why; small letters."""

OTHER_LANGUAGES = frozenset({928, 929, 1954, 2680, 3276, 3400, 3517, 3789, 3791, 4135})
"""Found by reading all those of which most words do not occur in VADER's films and newspapers."""


@dataclass(frozen=True)
class Message:
    """A tweet with what its raters said on the average, from -4 to 4."""

    number: int
    rating: float
    text: str

    @property
    def tone(self) -> str:
        """The label."""
        return tone(self.rating)

    @property
    def words(self) -> frozenset[str]:
        """What tells it from others: its words, and neither case, signs nor who is spoken to."""
        bare = re.sub(r"@user|\blink\b", "", self.text.lower())
        return frozenset(re.findall(r"[a-z0-9']+", bare))


def tone(rating: float) -> str:
    """The class of a mean rating."""
    if abs(rating) <= CUT:
        return "neutral"
    return "positive" if rating > 0 else "negative"


def read(sdist: Path) -> tuple[list[str], list[str]]:
    """Lines of the tweets and of every rater's rating of them.

    Raises:
        SystemExit: it is another file than the data was made of.
    """
    content = sdist.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise SystemExit(f"{sdist}: its SHA-256 is not {SHA256}\ndownload vaderSentiment==3.3.2")
    with tarfile.open(fileobj=io.BytesIO(content)) as outer:
        inner = _member(outer, INNER)
    with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
        tweets, ratings = (
            _member(archive, name).decode("utf-8").splitlines() for name in (TWEETS, RATINGS)
        )
    return tweets, ratings


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    found = archive.extractfile(name)
    if found is None:
        raise SystemExit(f"{name}: no file in the archive")
    return found.read()


def normal(text: str) -> str:
    """One line: people are @user, addresses are `link`, entities are their characters."""
    text = html.unescape(text)
    text = re.sub(r"@anonymous\b", "@user", text)
    text = re.sub(r"(https?:\S*|\b(www\.|bit\.ly/|pic\.twitter\.com/|youtu\.be/)\S+)", "link", text)
    return " ".join(text.split())


def marks_of(ratings: Iterable[str]) -> dict[int, list[int]]:
    """Every rater's mark of each message, by its number."""
    split = (line.split("\t", 3) for line in ratings)
    return {int(number): ast.literal_eval(listed) for number, _, _, listed in split}


def messages(
    tweets: Iterable[str], marks: Mapping[int, Sequence[int]], why_not: Counter[str]
) -> Iterator[Message]:
    """Those whose mean is that of their marks, made normal; of about 200 the two files differ."""
    for line in tweets:
        number, rating, text = line.split("\t", 2)
        if abs(float(rating) - mean(marks[int(number)])) > 0.01:
            why_not["another mean than its marks have"] += 1
        else:
            yield Message(int(number), float(rating), normal(text))


def kept(found: Iterable[Message], why_not: Counter[str]) -> Iterator[Message]:
    """Those that may be used; why the others may not is counted."""
    for message in found:
        reason = next(
            (why for why, pattern in LEFT_OUT.items() if re.search(pattern, message.text.lower())),
            "",
        )
        if message.number in OTHER_LANGUAGES:
            reason = "other languages"
        elif len(message.words) < FEWEST_WORDS:
            reason = f"fewer than {FEWEST_WORDS} different words"
        if reason:
            why_not[reason] += 1
        else:
            yield message


def different(found: Iterable[Message], why_not: Counter[str]) -> Iterator[Message]:
    """The first of messages that say nearly the same (Jaccard similarity of their words).

    VADER's authors wrote variants of some tweets ("STUPID rain!!!"); two of them in two splits
    would be a leak.
    """
    before: list[frozenset[str]] = []
    having: dict[str, list[int]] = {}
    for message in found:
        words = message.words
        shared = Counter(place for word in words for place in having.get(word, ()))
        if any(
            count >= SAME * (len(words) + len(before[place]) - count)
            for place, count in shared.items()
        ):
            why_not["nearly the same as another"] += 1
            continue
        for word in words:
            having.setdefault(word, []).append(len(before))
        before.append(words)
        yield message


def sample(found: Sequence[Message]) -> list[Message]:
    """As many as are wanted, by a hash of their numbers, so that all tones keep their shares."""
    return sorted(
        found, key=lambda each: hashlib.sha256(f"tone {each.number}".encode()).hexdigest()
    )[:ROWS]


def agreement(rows: Iterable[Message], marks: Mapping[int, Sequence[int]]) -> float:
    """How often the mean of every second rater gives the tone that the mean of the others gives.

    It says how sure labels are: each half has half as many raters as the label has.
    """
    halves = [(marks[each.number][::2], marks[each.number][1::2]) for each in rows]
    return mean(tone(mean(one)) == tone(mean(other)) for one, other in halves)


def main() -> None:
    """Writes messages.jsonl and says what is in it and what is not."""
    parser = argparse.ArgumentParser(description="Makes messages.jsonl.")
    parser.add_argument("sdist", type=Path, help="vaderSentiment-3.3.2.tar.gz")
    tweets, ratings = read(parser.parse_args().sdist)
    marks = marks_of(ratings)
    why_not: Counter[str] = Counter()
    usable = list(different(kept(messages(tweets, marks, why_not), why_not), why_not))
    rows = sample(usable)
    with (HERE / "messages.jsonl").open("w", encoding="utf-8", newline="\n") as file:
        for each in rows:
            row = {
                "id": each.number,
                "text": each.text,
                "tone": each.tone,
                "rating": round(each.rating, 2),
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    for why, count in why_not.most_common():
        print(f"left out: {count:5} {why}")
    print(f"usable:   {len(usable):5} {dict(Counter(each.tone for each in usable))}")
    print(f"written:  {len(rows):5} {dict(Counter(each.tone for each in rows))}")
    near = sum(abs(abs(each.rating) - CUT) <= 0.2 for each in rows)
    print(f"within 0.2 of a cut: {near}")
    print(f"raters agree: {agreement(rows, marks):.3f}")


if __name__ == "__main__":
    main()
