"""A desk of agents writes a guide to a subject, and a person has the last word.

The agents are plain functions over real text, the language reference that comes with Python; put a model behind any of
them and nothing else changes. A planner shares out the work, writers work side by side, a critic complains, and they go
round until it has nothing left to say. Then the flow waits for you, without a thread, for as long as it takes: "yes"
publishes, and anything else is a remark ("shorter", "longer", "without try", or one more word to look for) with which
the next edition begins.

    python examples/multi_agent.py
    python examples/multi_agent.py --journal desk.db generator      # killed while it waits? the same again goes on
    nerv waiting                                                    # who waits for whom, from another terminal
    nerv signal generator 'edition[0]/approve' yes                  # somebody else answers, whether it runs or not
    nerv plan examples/multi_agent.py                               # who works with whom

Without a terminal to ask at, it answers itself: first "shorter", then "yes".
"""

import argparse
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from nerv import Buffer, Event, Execution, Gate, Loop, Output, Param, TaskDef, Workflow, WorkflowManager

WRITERS = 5
"""How many work at a time, each on a section."""

ELSEWHERE = re.compile(r"\b(above|below|following|previous|next|[Ss]ee|section|example|PEP|this case)\b|:$")
"""Sentences that point at something which isn't there once they stand alone."""


class Brief(NamedTuple):
    """What is wanted: the words that it is about, how long it may be, and what mustn't be in it."""

    subject: tuple[str, ...]
    words: int = 260
    without: frozenset[str] = frozenset()
    unwanted: frozenset[str] = frozenset()


class Assignment(NamedTuple):
    """A writer's part: a page of the reference, and so many words."""

    page: str
    brief: Brief
    words: int


class Plan(NamedTuple):
    """What the planner has decided."""

    brief: Brief
    assignments: list[Assignment]


class Section(NamedTuple):
    """What a writer has written."""

    page: str
    sentences: list[str]


class Complaint(NamedTuple):
    """What the critic minds: a sentence or a page, and why."""

    about: str
    why: str


class Draft(NamedTuple):
    """How far it is."""

    brief: Brief
    sections: Sequence[Section] = ()
    complaints: Sequence[Complaint] = ()
    is_published: bool = False


# ---- the agents ------------------------------------------------------------------------------------------------------


def planner(draft: Draft) -> Plan:
    """Take in what was complained of, and choose the pages that say most about the subject."""
    brief = draft.brief
    for about, _ in draft.complaints:
        if about in pages():
            brief = brief._replace(without=brief.without | {about})
        else:
            brief = brief._replace(unwanted=brief.unwanted | {about})
    said = {page: mentions(text, brief.subject) for page, text in pages().items() if page not in brief.without}
    best = sorted((page for page in said if said[page]), key=lambda page: (-said[page], page))[:WRITERS]
    if not best:
        raise LookupError(f"the language reference says nothing (more) of {' and '.join(brief.subject)}")
    share = brief.words // len(best)
    return Plan(brief, [Assignment(page, brief, share) for page in best])


def writer(assignment: Assignment) -> Section:
    """Of one page the sentences that say most about the subject, as they stand there."""
    page, brief, words = assignment
    there = [one for one in dict.fromkeys(sentences(pages()[page])) if one not in brief.unwanted]
    usual = Counter(word for one in there for word in one.lower().split())
    best = sorted(
        range(len(there)),
        key=lambda place: (
            -mentions(there[place], brief.subject),
            -sum(usual[word] for word in there[place].lower().split()) / len(there[place].split()),
        ),
    )
    taken: list[int] = []
    for place in best:
        if mentions(there[place], brief.subject) and len(there[place].split()) <= words:
            taken.append(place)
            words -= len(there[place].split())
    return Section(page, [there[place] for place in sorted(taken)])


def critic(plan: Plan, sections: Sequence[Section]) -> Draft:
    """Read it as somebody who has nothing but this guide."""
    complaints: list[Complaint] = []
    seen: set[str] = set()
    for page, written in sections:
        if not written:
            complaints.append(Complaint(page, "says nothing"))
        elif seen.intersection(written):
            complaints.append(Complaint(page, "repeats another page"))
        else:
            complaints += [Complaint(one, "points elsewhere") for one in written if ELSEWHERE.search(one)]
        seen.update(written)
    return Draft(plan.brief, list(sections), complaints)


def editor(draft: Draft, answer: str) -> Draft:
    """Publish it, or begin another edition with the person's remark."""
    answer, brief = answer.strip().lower(), draft.brief
    if answer in ("yes", "y"):
        return draft._replace(is_published=True)
    if answer in ("shorter", "longer"):
        return Draft(brief._replace(words=brief.words * (2 if answer == "shorter" else 6) // 4))
    if answer.startswith("without "):
        return Draft(brief._replace(without=brief.without | {answer.removeprefix("without ")}))
    return Draft(brief._replace(subject=(*brief.subject, answer)))


def is_accepted(draft: Draft) -> bool:
    return not draft.complaints


def is_published(draft: Draft) -> bool:
    return draft.is_published


# ---- what they read --------------------------------------------------------------------------------------------------


def pages() -> dict[str, str]:
    """The language reference, by the words that `help("...")` knows its pages by."""
    from pydoc_data.topics import topics

    return dict(topics)


def sentences(text: str) -> Iterator[str]:
    """The whole sentences of a page: no headings, grammar or code."""
    for paragraph in re.split(r"\n[ \t]*\n", text):
        if paragraph[:1].isupper() and "\n*" not in paragraph and "\n=" not in paragraph and "::=" not in paragraph:
            plain = re.sub(r"(?<=\w)-\s+", "-", " ".join(paragraph.split()).replace("*", ""))
            yield from (one for one in re.split(r"(?<=[.!?:])\s+(?=[A-Z“\"])", plain) if len(one.split()) > 4)


def mentions(text: str, subject: Sequence[str]) -> int:
    """How often a text speaks of the subject."""
    return sum(len(re.findall(rf"\b{re.escape(word)}", text, re.IGNORECASE)) for word in subject)


# ---- how they work together ------------------------------------------------------------------------------------------

_ROUND = Workflow(
    "round",
    [
        TaskDef("planner", planner, args=(Param("item"),)),
        Buffer("writer", Output("planner").attribute("assignments"), writer),
        TaskDef("critic", critic, args=(Output("planner"), Output("writer").attribute("values"))),
    ],
)
_EDITION = Workflow(
    "edition",
    [
        Loop("round", _ROUND, until=is_accepted, value=Param("item"), max_iterations=30),
        Gate("approve", "Publish it? (yes, or a remark)", dependencies=["round"]),
        TaskDef("editor", editor, args=(Output("round"), Output("approve"))),
    ],
)
desk = Workflow("desk", [Loop("edition", _EDITION, until=is_published, value=Param("draft"), max_iterations=20)])


# ---- what is printed -------------------------------------------------------------------------------------------------


def guide(draft: Draft) -> str:
    """The guide."""
    parts = [f"A guide to {' and '.join(draft.brief.subject)}"]
    for page, written in draft.sections:
        parts.append(textwrap.fill(f"{page.upper()}. {' '.join(written)}", 100))
    return textwrap.indent("\n\n".join(parts), "    ")


def told(event: Event) -> str | None:
    """What an event means to somebody who looks over their shoulders."""
    if event.task_id is None or event.type != "TASK_COMPLETED":
        return None
    where, _, who = str(event.task_id).rpartition("/")
    result = event.data["result"]
    if who == "planner":
        edition, number = (int(one) + 1 for one in re.findall(r"\d+", where))
        head = f"edition {edition}, round {number}"
        return f"{head:20}planner   {', '.join(one.page for one in result.assignments)}; {result.brief.words} words"
    if who == "writer":
        count = sum(len(one.split()) for section in result for one in section.sentences)
        return f"{'':20}writers   {len(result)} of them, side by side: {count} words"
    if who == "critic":
        kinds = Counter(why for _, why in result.complaints).items()
        complaints = ", ".join(f"{count} x {why}" for why, count in kinds)
        return f"{'':20}critic    {complaints or 'nothing to complain of'}"
    return None


def follow(execution: Execution, ask: Callable[[int], str]) -> bool:
    """Tell what happens, and have each question answered. False: nobody would answer."""
    asked = 0
    for event in execution.events(follow=True):
        line = told(event)
        if line:
            print(line)
        if event.type == "TASK_WAITING" and str(event.task_id).endswith("/approve"):
            asked += 1
            for one in execution.waiting():
                if one.task_id != event.task_id:  # this one was answered before we were killed, or by somebody else
                    continue
                print(
                    f"\n{guide(execution[one.task_id.replace('approve', 'round')])}\n\n{one.prompt} ",
                    end="",
                    flush=True,
                )
                try:
                    answer = ask(asked)
                except EOFError:
                    return False
                execution.signal(one.task_id, answer)
    return True


def by_itself(asked: int) -> str:
    """The answer where there is nobody to ask."""
    answer = "shorter" if asked == 1 else "yes"
    print(answer, end="\n\n")
    return answer


def main() -> int:
    """Have a guide written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("subject", nargs="?", default="exception")
    parser.add_argument("--journal", metavar="FILE", help="survive a kill: started again, it goes on")
    parser.add_argument("--ask", action="store_true", help="read answers from stdin though it is no terminal")
    given: Any = parser.parse_args()
    draft = Draft(Brief((given.subject,)))
    kept = {"execution_id": given.subject} if given.journal else {}
    ask = (lambda _: input()) if given.ask or sys.stdin.isatty() else by_itself
    with WorkflowManager(journal=given.journal) as manager:
        execution = manager.start(desk, {"draft": draft}, **kept)
        if not follow(execution, ask):
            print(f"\nNobody answered. It waits in {given.journal}." if given.journal else "\nNobody answered.")
            return 1
        execution.wait()
        if execution.failures:
            sys.exit(f"Given up: {next(iter(execution.failures.values()))}")
        print(f"Published, by {len(execution.sequence)} tasks.")
        return 0


if __name__ == "__main__":
    sys.exit(main())
