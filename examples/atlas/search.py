"""A search index over names and docstrings: BM25F, computed here, asked here and in the page.

Words are split (``TemporaryFile``, ``as_completed``), stemmed lightly and counted in fields, where a name weighs more
than a summary and that more than the rest (S. Robertson et al., "Simple BM25 extension to multiple weighted fields",
CIKM 2004). All that doesn't depend on the question is worked out beforehand, so that a posting is one small integer and
the page's ``search.js`` does the same sums as `search` here. The stemmer's rules and the stop words are part of the
index, so that there is only one list of them.
"""

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from atlas.catalogue import Entry
from atlas.words import STEPS, STOP_WORDS, WORD, tokens

Index = dict[str, Any]

WEIGHTS = {"name": 6.0, "place": 1.0, "summary": 2.5, "body": 1.0}
"""What a word counts for in each field; ``place`` is the module (and class) that a name lies in."""

EVENNESS = {"name": 0.6, "place": 0.3, "summary": 0.5, "body": 0.75}
"""How far a field's length is discounted: BM25's b."""

SATURATION = 1.4
"""How soon more of the same word stops counting: BM25's k1."""

SCALE = 99
"""Postings are the saturated weight, 0 to 1, times this, as an integer."""

KINDS = ["module", "class", "function", "method", "constant"]

PREFIX = 0.6
"""What a word counts for when only its beginning was typed."""

MOST_EXPANSIONS = 40

EXACT = 12.0
"""Added when the question is the name itself."""


class Hit(NamedTuple):
    """One answer: ``kind`` is module, class, function, method or constant."""

    title: str
    kind: str
    module: str
    score: float


def build(entries: Sequence[Entry], prominence: Callable[[Entry], float]) -> Index:
    """Index these entries, for JSON and for `search`; ``prominence`` gives the factor for an entry's score."""
    places = sorted({entry.module for entry in entries})
    place = {name: number for number, name in enumerate(places)}
    fields = [entry_fields(entry) for entry in entries]
    split_compounds(fields)
    mean = {name: sum(len(f[name]) for f in fields) / max(len(fields), 1) or 1.0 for name in WEIGHTS}
    postings: dict[str, list[int]] = defaultdict(list)
    last: dict[str, int] = defaultdict(int)
    for number, field in enumerate(fields):
        weight: dict[str, float] = defaultdict(float)
        for name, words in field.items():
            norm = 1 - EVENNESS[name] + EVENNESS[name] * len(words) / mean[name]
            for word, count in Counter(words).items():
                weight[word] += WEIGHTS[name] * count / norm
        for word, value in weight.items():
            impact = round(SCALE * value / (value + SATURATION))
            if impact > 0:
                postings[word] += (number - last[word], impact)
                last[word] = number
    terms = sorted(postings)
    return {
        "steps": STEPS,
        "stop": sorted(STOP_WORDS),
        "scale": SCALE,
        "prefix": PREFIX,
        "exact": EXACT,
        "most": MOST_EXPANSIONS,
        "kind_names": KINDS,
        "module_names": places,
        "titles": [entry.title for entry in entries],
        "kinds": [KINDS.index(entry.kind) for entry in entries],
        "modules": [place[entry.module] for entry in entries],
        "prominence": [round(100 * prominence(entry)) for entry in entries],
        "terms": terms,
        "postings": [postings[term] for term in terms],
    }


def entry_fields(entry: Entry) -> dict[str, list[str]]:
    """An entry's words, by field; those of its docstring were read where that was read."""
    place, _, name = ("", "", entry.module) if entry.kind == "module" else entry.title.rpartition(".")
    return {"name": tokens(name), "place": tokens(place), "summary": list(entry.summary), "body": list(entry.body)}


def split_compounds(fields: Sequence[dict[str, list[str]]]) -> None:
    """Add the halves of names run together (zipfile, getattr) where both halves are words that the summaries use."""
    uses = Counter(word for field in fields for word in set(field["summary"]))
    common = {word for word, count in uses.items() if count >= 4 and len(word) > 2}
    for field in fields:
        for name in ("name", "place"):
            for word in list(field[name]):
                for cut in range(3, len(word) - 2):
                    if word not in common and word[:cut] in common and word[cut:] in common:
                        field[name] += (word[:cut], word[cut:])
                        break


def search(index: Index, query: str, limit: int = 20, kinds: Iterable[str] = KINDS) -> list[Hit]:
    """The best answers to a few words, best first; the last word may be unfinished. ``kinds`` keeps only some kinds."""
    scores: dict[int, float] = defaultdict(float)
    matched: Counter[int] = Counter()
    words = list(dict.fromkeys(tokens(query)))
    ending = WORD.findall(query)[-1].lower() if query[-1:].isalnum() and words else ""
    for word in words:
        best: dict[int, float] = {}
        for position, factor in expand(index["terms"], word, ending if word == words[-1] else ""):
            for number, value in weigh(index, position):
                best[number] = max(best.get(number, 0.0), value * factor)
        for number, value in best.items():
            scores[number] += value
            matched[number] += 1
    wanted = {index["kind_names"].index(kind) for kind in kinds}
    asked = query.strip().lower()
    found = []
    for number, score in scores.items():
        kind, title = index["kinds"][number], index["titles"][number]
        if kind in wanted:
            total = score * matched[number] / len(words) + exactness(title.lower(), asked, KINDS[kind]) * index["exact"]
            found.append((-total * index["prominence"][number] / 100, len(title), number))
    return [
        Hit(index["titles"][n], KINDS[index["kinds"][n]], index["module_names"][index["modules"][n]], -score)
        for score, _, n in sorted(found)[:limit]
    ]


def exactness(title: str, asked: str, kind: str) -> float:
    """1 when the question is this very name, 1/2 when it is the last part of it (of a method only 1/4), else 0."""
    if title == asked:
        return 1.0
    return (0.25 if kind == "method" else 0.5) if title.endswith("." + asked) else 0.0


def expand(terms: Sequence[str], word: str, ending: str) -> list[tuple[int, float]]:
    """The terms that a word of the question stands for: (position, what it counts for).

    Itself; what begins with ``ending``, when that is how the word stands there while it is being typed; and when it is
    no term itself, the longest term of four letters or more that it begins with.
    """
    at = bisect_left(terms, word)
    is_term = at < len(terms) and terms[at] == word
    found = [(at, 1.0)] if is_term else []
    if len(ending) > 1:
        position = bisect_left(terms, ending)
        while position < len(terms) and terms[position].startswith(ending) and len(found) < MOST_EXPANSIONS:
            if terms[position] != word:
                found.append((position, PREFIX))
            position += 1
    for length in range(len(word) - 1, 3, -1) if not is_term else ():
        shorter = bisect_left(terms, word[:length])
        if shorter < len(terms) and terms[shorter] == word[:length]:
            return [*found, (shorter, PREFIX)]
    return found


def weigh(index: Index, position: int) -> Iterable[tuple[int, float]]:
    """The entries that hold a term, each with its part of the score: rarity times saturated weight."""
    posting: list[int] = index["postings"][position]
    holders = len(posting) // 2
    rarity = math.log(1 + (len(index["titles"]) - holders + 0.5) / (holders + 0.5))
    number = 0
    for gap, impact in zip(posting[::2], posting[1::2], strict=True):
        number += gap
        yield number, rarity * impact / SCALE
