"""For every prefix of what a journal was given, recovery gives what an uninterrupted run gives, and repeats nothing."""

from __future__ import annotations

from random import Random

import pytest

from nerv import JournalError, WorkerCrashedError, WorkflowStatus
from nerv.eventlog import TASK_COMPENSATED, TASK_COMPLETED
from nerv.journal.memory import MemoryJournal
from nerv.replay import Replay
from nerv.resuming import numbered
from nerv.states import COMPLETED
from nerv.testing import FaultyJournal
from tests.properties.recovering import (
    NAME,
    Death,
    Life,
    WrittenJournal,
    begun_after,
    committed,
    facts,
    hang,
    outcome,
    random_workflow,
)

DURABILITIES = ("strict", "group", "off")


def check_recovered(workflow, batches, seed, expected, **settings):
    """Go on from what was written, with more deaths on the way, and compare."""
    random = Random(f"deaths {seed} {len(batches)}")
    kept = list(batches)
    while True:
        journal = WrittenJournal(kept)
        if journal.execution(NAME) is None:
            return
        before, done = facts(journal), committed(journal, workflow)
        life = Life(workflow, journal, f"{seed} {random.random()}", **settings).start()
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


def explore(seed, durability, **settings):
    workflow = random_workflow(seed)
    expected = outcome(Life(workflow, None, seed).start().ended())
    journal = WrittenJournal()
    live = Life(workflow, journal, seed, durability=durability, **settings).start().ended()
    assert outcome(live) == expected
    assert outcome(journal_read(workflow, journal)) == expected
    for cut in range(1, len(journal.batches) + 1):
        check_recovered(workflow, journal.batches[:cut], seed, expected, durability=durability, **settings)


def journal_read(workflow, journal):
    """The execution as a later manager shows it."""
    life = Life(workflow, journal, 0)
    life.manager._keeping.workflows[workflow.name] = workflow
    return life.manager.execution(NAME)


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("seed", range(15))
def test_every_prefix_recovers(seed, durability):
    explore(seed, durability)


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("seed", range(8))
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


@pytest.mark.parametrize("seed", range(10))
def test_every_prefix_recovers_level_by_level(seed):
    explore(seed, "group", scheduling="levels")


# ---- what the scheduler knows ---------------------------------------------------------------------------------------


def known(scheduler):
    """What a scheduler knows of its tasks that must be the same after a replay."""
    open_tasks = [number for number, state in enumerate(scheduler.state) if state < COMPLETED]
    return {
        "states": bytes(scheduler.state),
        "attempts": list(scheduler.attempts),
        "counts": list(scheduler.counts),
        "unfinished": scheduler.unfinished,
        "missing": [max(0, scheduler.missing[number]) for number in open_tasks],
        "blame": dict(scheduler.blame),
        "failures": [scheduler.failures(number) for number in open_tasks],
        "undecided": {
            n: left for n, left in scheduler.undecided.items() if n in open_tasks and scheduler.missing[n] > 0
        },
    }


def replayed(life):
    """A scheduler brought to where the life's is, by its records alone."""
    live, manager = life.execution._live, life.manager
    twin = manager.new_live(life.workflow, {})
    manager._keeping.admission(twin).equip(twin)
    Replay(twin.scheduler, list(live.log.records), numbered(live.log.ids))
    return twin.scheduler


@pytest.mark.parametrize("failure_policy", ["continue", "fail_fast"])
@pytest.mark.parametrize("seed", range(20))
def test_what_is_replayed_is_what_was_live(seed, failure_policy):
    def look(life):
        scheduler = life.execution._live.scheduler
        if not scheduler.claimed:  # a claim is no fact
            assert known(replayed(life)) == known(scheduler)
        assert replayed(life).status is scheduler.status

    random = Random(seed)
    life = Life(random_workflow(seed), WrittenJournal(), seed, durability="strict", failure_policy=failure_policy)
    life.start().play(random.randint(0, 20), look=look)
    random.choice((life.execution.pause, life.execution.cancel, lambda: None))()
    life.play(random.randint(0, 20), look=look)
    life.execution.resume()
    life.ended(look=look)


# ---- what was asked of it -------------------------------------------------------------------------------------------


def next_life(workflow, life, seed, **settings):
    """The life after one that died just now."""
    return Life(workflow, WrittenJournal(life.journal.batches), f"next {seed}", **settings).start()


@pytest.mark.parametrize("failure_policy", ["continue", "fail_fast"])
@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("seed", range(10))
def test_a_cancel_that_was_kept_goes_on(seed, durability, failure_policy):
    settings = {"durability": durability, "failure_policy": failure_policy}
    workflow, random = random_workflow(seed), Random(seed)
    life = Life(workflow, WrittenJournal(), seed, **settings).start().play(random.randint(0, 15))
    if not life.execution.cancel("enough"):
        return
    assert "cancelling" in life.journal.load(NAME).facts or life.recorder.commit()
    life.play(random.randint(0, 5))
    begun = len(life.journal.load(NAME).records)
    following = next_life(workflow, life, seed, **settings)
    if following.execution.status.is_final:
        return
    execution = following.ended()
    is_whole = {status for status, _ in outcome(execution)[1].values()} == {"COMPLETED"}
    assert execution.status is (WorkflowStatus.COMPLETED if is_whole else WorkflowStatus.CANCELLED)
    tasks = begun_after(execution, begun)
    assert all(workflow.tasks[task].run_when == "all_finished" for task in tasks), "only cleanup starts"
    if not is_whole:
        check_undone(execution)


@pytest.mark.parametrize("seed", range(20))
def test_a_pause_that_was_kept_goes_on(seed):
    workflow, random = random_workflow(seed), Random(seed)
    life = Life(workflow, WrittenJournal(), seed).start().play(random.randint(0, 15))
    paused = life.execution.pause()
    life.recorder.commit()
    following = next_life(workflow, life, seed)
    if not paused:
        return
    before = len(following.execution.log)
    following.play()
    assert following.execution.status is WorkflowStatus.PAUSED
    assert not begun_after(following.execution, before)
    following.execution.resume()
    assert outcome(following.ended()) == outcome(Life(workflow, None, seed).start().ended())


def check_undone(execution):
    """Every completed task that can be undone was, once, the last completed first; cleanup only if it was so early."""
    records, tasks = execution.log.records, execution._live.tasks
    undone = [number for code, number, *_ in records if code == TASK_COMPENSATED]
    done = [number for code, number, *_ in records if code == TASK_COMPLETED and tasks[number].compensate is not None]
    done = [number for number in done if tasks[number].run_when != "all_finished" or number in undone]
    assert undone == done[::-1]


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("seed", range(12))
def test_what_was_undone_is_not_undone_again(seed, durability):
    workflow = random_workflow(seed, failing=0.4)
    journal = WrittenJournal()
    live = Life(workflow, journal, seed, durability=durability).start().ended()
    if live.status is not WorkflowStatus.FAILED:
        return
    check_undone(live)
    for cut in range(1, len(journal.batches)):
        following = Life(workflow, WrittenJournal(journal.batches[:cut]), f"{seed} {cut}", durability=durability)
        execution = following.start().ended()
        assert execution.status is WorkflowStatus.FAILED
        check_undone(execution)


# ---- what kills the process -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("seed", range(12))
def test_a_task_that_kills_the_process_fails_in_the_end_and_no_other_does(seed, durability):
    workflow = random_workflow(seed, failing=0.0)
    poison = Random(seed).choice(list(workflow.tasks))
    if workflow.tasks[poison].fn is hang or workflow.tasks[poison].cache is not None:
        return
    lives, journal = 0, WrittenJournal()
    while True:
        lives += 1
        assert lives < 12, "it doesn't end"
        settings = {"durability": durability, "max_recoveries": 3}
        life = Life(workflow, WrittenJournal(journal.batches), f"{seed} {lives}", **settings)
        life.poison = poison
        try:
            execution = life.start().ended()
        except Death:
            assert sum(life.called.values()) < 100
            journal = life.journal
            continue
        break
    assert isinstance(execution.failures[poison], WorkerCrashedError)
    assert set(execution.failures) == {poison}, "nobody else is to blame"
    assert lives > 3


# ---- at length ------------------------------------------------------------------------------------------------------


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(10))
def test_hundreds_of_random_workflows(part):
    for seed in range(1000 + part * 50, 1050 + part * 50):
        for durability in DURABILITIES:
            explore(seed, durability)
            explore(seed, durability, scheduling="levels")
            test_a_failure_at_every_single_write(seed, durability, torn=False)
            test_a_failure_at_every_single_write(seed, durability, torn=True)
            test_what_was_undone_is_not_undone_again(seed, durability)
            test_a_task_that_kills_the_process_fails_in_the_end_and_no_other_does(seed, durability)
            for failure_policy in ("continue", "fail_fast"):
                test_a_cancel_that_was_kept_goes_on(seed, durability, failure_policy)
        for failure_policy in ("continue", "fail_fast"):
            test_what_is_replayed_is_what_was_live(seed, failure_policy)
        test_a_pause_that_was_kept_goes_on(seed)
