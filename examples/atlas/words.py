"""Words, as the search index counts them: split, lower case, and cut down to what their relatives share."""

import re
from functools import cache

WORD = re.compile(r"[A-Za-z0-9]+")
PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

STEPS: list[list[tuple[str, str, int]]] = [
    [("sses", "ss", 2), ("ies", "y", 2), ("ss", "ss", 0), ("us", "us", 0), ("is", "is", 0), ("s", "", 3)],
    [("ly", "", 4)],
    [
        *[("ization", "iz", 3), ("ation", "at", 3), ("ion", "", 4), ("ing", "", 3), ("ed", "", 3), ("er", "", 4)],
        *[("or", "", 4), ("ment", "", 5), ("al", "", 5), ("able", "", 4)],
    ],
    [("e", "", 3)],
]
"""The stemmer: in each step the first suffix that fits, and leaves at least so many letters, is replaced."""

STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
        a an and are as at be been but by can do does for from has have how i if in into is it its me my no not of on or
        so some such that the their them then there these this to up use used using was we what when where which will
        with you your
        """,
    )
)


def stem(word: str) -> str:
    """Cut a lower-case word down to what its relatives share: compression, compressed, compresses -> compress."""
    if len(word) < 4 or not word.isalpha():
        return word
    for step in STEPS:
        for suffix, replacement, keep in step:
            if word.endswith(suffix) and len(word) - len(suffix) >= keep:
                word = word[: len(word) - len(suffix)] + replacement
                break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] in "bdgmnprt":
        word = word[:-1]
    return word


def tokens(text: str) -> list[str]:
    """The stems of a text's words, in order."""
    return [token for word in WORD.findall(text) for token in word_tokens(word)]


@cache
def word_tokens(word: str) -> tuple[str, ...]:
    """The stems of a word and, where it is put together, of its parts; stop words and single letters are left out."""
    parts = PART.findall(word)
    whole = [word] if len(parts) > 1 else []
    lower = (part.lower() for part in (*whole, *parts))
    return tuple(stem(part) for part in lower if len(part) > 1 and part not in STOP_WORDS)

