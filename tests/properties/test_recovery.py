"""For every prefix of what a journal was given, recovery gives what an uninterrupted run gives, and repeats nothing."""

from __future__ import annotations

from random import Random

import pytest

from nerv import JournalError, WorkflowStatus
from nerv.journal.memory import MemoryJournal
from nerv.testing import FaultyJournal
from tests.properties.recovering import (
    NAME,
    Life,
    WrittenJournal,
    begun_after,
    committed,
    facts,
    outcome,
    random_workflow,
)

DURABILITIES = ("strict", "group", "off")


def check_recovered(workflow, batches, seed, expected, durability):
    """Go on from what was written, with more deaths on the way, and compare."""
    random = Random(f"deaths {seed} {len(batches)}")
    kept = list(batches)
    while True:
        journal = WrittenJournal(kept)
        if journal.execution(NAME) is None:
            return
        before, done = facts(journal), committed(journal, workflow)
        life = Life(workflow, journal, f"{seed} {random.random()}", durability=durability).start()
        if random.random() < 0.5:
            life.play(random.randint(0, 30))
        else:
            life.ended()
        after = facts(journal)
        assert after[: len(before)] == before, "no committed event is missing or renumbered"
        assert not done & begun_after(life.execution, len(before)), "what was committed doesn't start again"
        assert not done & life.called.keys(), "nor is it called"
        if life.execution.status.is_final and len(after) == len(life.execution.log):
            break
        kept = journal.batches[: random.randint(len(kept), len(journal.batches))]
    assert outcome(life.execution) == expected


def explore(seed, durability):
    workflow = random_workflow(seed)
    expected = outcome(Life(workflow, None, seed).start().ended())
    journal = WrittenJournal()
    live = Life(workflow, journal, seed, durability=durability).start().ended()
    assert outcome(live) == expected
    assert outcome(journal_read(workflow, journal)) == expected
    for cut in range(1, len(journal.batches) + 1):
        check_recovered(workflow, journal.batches[:cut], seed, expected, durability)


def journal_read(workflow, journal):
    """The execution as a later manager shows it."""
    life = Life(workflow, journal, 0)
    life.manager._keeping.workflows[workflow.name] = workflow
    return life.manager.execution(NAME)


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("seed", range(30))
def test_every_prefix_recovers(seed, durability):
    explore(seed, durability)


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("seed", range(15))
def test_a_failure_at_every_single_write(seed, durability, torn):
    workflow = random_workflow(seed)
    expected = outcome(Life(workflow, None, seed).start().ended())
    journal = WrittenJournal()
    Life(workflow, journal, seed, durability=durability).start().ended()
    for fail_at in range(1, len(journal.batches) + 1):
        inner = MemoryJournal()
        faulty = FaultyJournal(inner, fail_at=fail_at, torn=torn)
        life = Life(workflow, faulty, seed, durability=durability)
        if fail_at == 1:  # that it begins is written before anything runs
            with pytest.raises(JournalError):
                life.start()
            assert not life.called
            continue
        execution = life.start().ended()
        assert execution.status is WorkflowStatus.FAILED
        assert isinstance(execution.error, JournalError)
        inner.release()
        if inner.execution(NAME) is None:
            continue
        before, done = facts(inner), committed(inner, workflow)
        again = Life(workflow, inner, seed + 1, durability=durability).start()
        assert outcome(again.ended()) == expected
        assert facts(inner)[: len(before)] == before
        assert not done & again.called.keys()
