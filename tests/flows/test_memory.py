"""A fed flow holds what it must: lanes that ended long ago are folded into counts, and what is counted stays exact."""

import subprocess
import sys
import threading
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerv import (
    ANY,
    Buffer,
    Expand,
    Flow,
    Loop,
    MemoryJournal,
    OnSignal,
    Output,
    ResultUnavailableError,
    RetryPolicy,
    TaskDef,
    UnknownIdError,
    Wait,
    WorkflowManager,
    WorkflowStatus,
)
from nerv.progress.tally import Tally
from nerv.sparse import Sparse
from tests.flows.helpers import FED, again, odd_fails, same
from tests.handshake import PATIENCE, eventually
from tests.rig import Rig


def at_the_second_try(ctx, m):
    if m % 3 and ctx.attempt == 1:
        raise OSError(m)
    return m


def grow(m):
    return Expand([TaskDef(f"x{i}", same, args=(i,)) for i in range(m % 4)])


def wait(m):
    return Wait(seconds=m % 5) if m % 2 else m


def is_small(m):
    return m < 5


SOON = RetryPolicy(2, initial_interval=1.0, jitter=0.0)
SHAPES = {
    "direct": FED.then(same).then(again),
    "buffered": FED.buffer().then(same).then(again),
    "limited": FED.buffer(2).then(same).then(again),
    "both": FED.then(same).buffer(3).then(again).collect().then(TaskDef("last", same)),
    "failing": FED.buffer(2).then(odd_fails).then(again),
    "failing on a wire": FED.then(odd_fails).then(again),
    "retried": FED.buffer(2).then(TaskDef("tried", at_the_second_try, retry_policy=SOON)).then(again),
    "waiting": FED.buffer(3).then(wait).then(again),
    "gated": FED.buffer().then(same).gate("gate", timeout=50, on_timeout="skip").then(again),
    "growing": FED.buffer(2).then(grow).then(again),
    "routed": FED.then(same).when(is_small).then(again).end_when().then(TaskDef("last", same)),
    "looping": FED.buffer(2).then(Loop("loop", lambda m: m + 2, lambda m: m > 6, value=0, max_iterations=9)),
    "fanning": FED.buffer(2).then(same).then(Buffer("fan", [3, 4, 5], odd_fails, on_item_error="collect")),
    "parallel": FED.buffer(2).then_parallel("two", same, odd_fails).then(again),
}


class Run:
    """One run of a flow under a schedule drawn from a seed; the same whatever it keeps. Who looks on reads in jumps."""

    def __init__(self, flow, messages, pauses, keep, *, seed=0, watched=True):
        self.heard, self.followed = [], []
        with Rig(seed, keep=keep, history_limit=0, workers=3) as rig:
            if watched:
                rig.manager.event_bus.subscribe(ANY, lambda event: self.heard.append(event.seq), execution="x")
            self.execution = execution = rig.manager.start(flow.build(), execution_id="x")
            followed = iter(execution.events(follow=True)) if watched else iter(())
            for i, (message, pause) in enumerate(zip(messages, pauses, strict=True)):
                execution.send(message)
                if message % 3 == 1:
                    execution.signal(f"gate[{i}]", message)
                for _ in range(pause):
                    rig.pools.step()
                if pause > 3 and watched:
                    rig.manager.event_bus.flush(execution.log, PATIENCE)
                    self.followed += [told(next(followed)) for _ in range(len(self.followed), len(execution.log))]
            rig.go(until=40)
            execution.close()
            rig.go()
            self.followed += map(told, followed)
            assert execution.wait(PATIENCE)


def told(event):
    data = {key: repr(value) for key, value in event.data.items()}
    return event.seq, event.type, event.task_id, event.timestamp, event.attempt, data


def became(execution, task_id):
    one = execution.task(task_id)
    return one.status, repr(one.result), repr(one.error), one.attempts, one.started_at, one.completed_at, one.metadata


@given(
    st.sampled_from(list(SHAPES)),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 8)), min_size=1, max_size=25),
    st.integers(0, 3),
    st.integers(0, 99),
)
def test_what_is_kept_changes_nothing_that_is_counted(shape, steps, keep, seed):
    messages, pauses = zip(*steps, strict=True)
    less, more = (Run(SHAPES[shape], messages, pauses, kept, seed=seed) for kept in (keep, 1000))
    small, big = less.execution, more.execution

    assert small.status is big.status
    assert small.result == big.result == len(messages)
    assert small.project("progress") == big.project("progress")
    assert small.project("workflow_status") == big.project("workflow_status")
    assert small._live.scheduler.counts == big._live.scheduler.counts
    assert small.state["task_count"] == big.state["task_count"] == len(big.state["tasks"])

    at_hand = list(small.project("task_status"))
    assert set(small.state["tasks"]) == set(at_hand) <= set(big.state["tasks"])
    assert small.project("task_status").items() <= big.project("task_status").items()
    for name in ("completed_tasks", "failed_tasks", "running_tasks"):
        assert list(small.project(name)) == [one for one in big.project(name) if one in at_hand]
    assert repr(dict(small.results)) == repr({one: value for one, value in big.results.items() if one in at_hand})
    assert list(small.failures) == [one for one in big.failures if one in at_hand]
    assert small.sequence == [one for one in big.sequence if one in at_hand]
    for one in big.state["tasks"]:
        if one in at_hand:
            assert became(small, one) == became(big, one)
            assert status_of(small, one) == status_of(big, one)
        else:
            assert status_of(small, one) == "folded"
            with pytest.raises(ResultUnavailableError, match="folded into the counts"):
                small.task(one)

    events = list(map(told, small.events()))
    everything = list(map(told, big.events()))
    assert events == [one for one in everything if one[0] in {seq for seq, *_ in events}]
    assert less.followed == more.followed == everything
    assert less.heard == more.heard == list(range(1, len(everything) + 1))


def status_of(execution, task_id):
    try:
        return repr(execution[task_id])
    except ResultUnavailableError as error:
        return "folded" if "folded" in str(error) else str(error)
    except ValueError as error:
        return repr(error)


@given(st.sampled_from(list(SHAPES)), st.lists(st.integers(0, 9), min_size=1, max_size=25), st.integers(0, 3))
def test_every_moment_at_hand_is_what_it_was(shape, messages, keep):
    pauses = [5] * len(messages)
    small, big = (Run(SHAPES[shape], messages, pauses, kept, watched=False).execution for kept in (keep, 1000))
    first, last = small.log.page.first, len(small.log)
    project = small._projector.project
    for seq in range(first, last + 1):
        progress = project("progress", execution="x", until=seq)
        assert progress == big._projector.project("progress", execution="x", until=seq)
        tasks, before = small.at(seq)["tasks"], big.at(seq)["tasks"]
        assert tasks.items() <= before.items()
    for a, b in ((first, last), (last, first)):
        assert small._projector.diff("x", a, b).items() <= big._projector.diff("x", a, b).items()
    for seq in range(first):
        with pytest.raises(ValueError, match=f"from {first}"):
            small.at(seq)
    with pytest.raises(ValueError, match=f"no event {last + 1}"):
        small.at(last + 1)


# ---- what is held ---------------------------------------------------------------------------------------------------


def sizes(execution):
    """How much is held, by what holds it."""
    live = execution._live
    scheduler, log, wires = live.scheduler, live.log, live.wires
    parts = [live, scheduler, scheduler.families, scheduler.suspensions, scheduler.waits, scheduler.lanes, wires]
    parts += [live.admission.policing, log, log.page]
    held = {f"{type(part).__name__}.{name}": value for part in parts if part for name, value in fields_of(part)}
    held |= {f"tasks of {number}": brood.indexed for number, brood in scheduler.families.broods.items()}
    return {name: size(value) for name, value in held.items() if hasattr(value, "__len__") and value is not log}


def fields_of(part):
    names = vars(part) if hasattr(part, "__dict__") else type(part).__slots__
    return [(name, getattr(part, name)) for name in names if hasattr(part, name)]


def size(value):
    return value.size if isinstance(value, Sparse) else len(value)


class Mail:
    """A hook that notes what it hears."""

    def __init__(self):
        self.heard = []

    def on_intent(self, *, lane_id, from_id, to_id, payload_type, payload):
        self.heard.append((lane_id, to_id))
        return to_id

    def on_dispatched(self, entry_id):
        """Nothing to note."""

    def on_acknowledged(self, entry_id):
        self.heard.append(entry_id)

    def on_failed(self, entry_id, error):
        self.heard.append(entry_id)

    def on_lane_complete(self, lane_id):
        self.heard.append(lane_id)


def once(m):
    """Items that can be taken once, out of reach of who counts results."""
    return [map(str, range(m % 3))]


ITERATING = FED.buffer(2).then(once).then(Buffer("fan", Output("once")[0], same))


@pytest.mark.parametrize("shape", [*SHAPES, "iterating"])
def test_what_is_held_depends_on_keep_and_not_on_how_many_messages_there_were(shape):
    with Rig(keep=5, history_limit=0, dispatch_hooks=[Mail()]) as rig:
        execution = rig.manager.start(SHAPES.get(shape, ITERATING).build())
        for i in range(500):
            execution.send(i % 10)
            if shape == "gated":
                execution.signal(f"gate[{i}]", i)
            rig.go(until=rig.now + 20)
        held = sizes(execution)
        assert held.pop("Live.logs") == 0
        assert held.pop("Page.seqs") <= 180  # at most 10 lanes of 18 records
        assert max(held.values()) <= 180, held
        execution.close()
        rig.go()
        assert execution.result == 500


@pytest.mark.parametrize("durability", ["strict", "group", "off"])
def test_with_a_journal_what_is_forgotten_was_written(durability):
    journal, room = MemoryJournal(), threading.Semaphore(10)

    def last(_):
        room.release()

    flow = FED.buffer(2).then(grow).then(TaskDef("last", last))
    with WorkflowManager(workers=2, keep=5, history_limit=0, journal=journal, durability=durability) as manager:
        execution = manager.start(flow.build(), execution_id="x")
        for i in range(300):
            assert room.acquire(timeout=PATIENCE)
            execution.send(i)
        with manager.engine.lock:
            held = sizes(execution) | {f"Kept.{name}": len(value) for name, value in fields_of(execution._live.kept)
                                       if hasattr(value, "__len__")}  # fmt: skip
        assert max(held.values()) <= 400, held  # of some 3,000 records and 1,050 tasks
        with pytest.raises(ResultUnavailableError, match="the journal has its events"):
            execution["last[0]"]
        execution.close()
        assert execution.wait(PATIENCE)
        events = list(journal.events("x"))
        assert [event.seq for event in events] == list(range(1, len(execution.log) + 1))
        results = {event.task_id: event.data["result"] for event in events if event.type == "TASK_COMPLETED"}
        assert [results[f"last[{i}]"] for i in range(300)] == [None] * 300


def test_twenty_thousand_messages_through_a_buffer_and_two_steps():
    most, room = {}, threading.Semaphore(50)

    def last(m):
        room.release()
        return m

    flow = FED.buffer(max_parallel=8).then(same).then(TaskDef("last", last))
    with WorkflowManager(workers=4, keep=100, history_limit=10) as manager:
        execution = manager.start(flow.build())
        for i in range(20_000):
            assert room.acquire(timeout=PATIENCE)
            execution.send(i)
            if i % 1000 == 999:
                with manager.engine.lock:
                    most = {name: max(size, most.get(name, 0)) for name, size in sizes(execution).items()}
        execution.close()
        assert execution.wait(PATIENCE)
    assert execution.result == 20_000
    assert execution.status is WorkflowStatus.COMPLETED
    assert execution.project("progress")["completed"] == 40_003
    assert len(execution.log) == 100_010
    # 100 lanes that are kept, 50 on their way, a few whose events the history may show; twice that; 5 records each
    assert max(most.values()) <= 2 * (100 + 50 + 10) * 5 + 20, most


FOREVER = """
import threading
from nerv import Flow, Manual, TaskDef, WorkflowManager

room = threading.Semaphore(200)

def last(m):
    room.release()

def rss():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

flow = Flow("f").triggered_by(Manual()).buffer(max_parallel=8).then(str).then(TaskDef("last", last))
with WorkflowManager(workers=4) as manager:
    execution = manager.start(flow.build())
    for i in range(1_000_000):
        room.acquire()
        execution.send(i)
        if i in (100_000, 999_999):
            print(rss())
    execution.close()
    execution.wait()
print(execution.result)
print(execution.project("progress")["completed"])
"""


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_million_messages_through_a_buffer_and_two_steps():
    done = subprocess.run([sys.executable, "-c", FOREVER], capture_output=True, text=True, timeout=3500, check=True)
    before, after, result, completed = map(int, done.stdout.split())
    assert (result, completed) == (1_000_000, 2_000_003)
    assert after - before < 8_000  # kB


# ---- who holds what up ----------------------------------------------------------------------------------------------


def sent(rig, execution, messages):
    for message in messages:
        execution.send(message)
        rig.go(until=rig.now)


def test_a_lane_that_hangs_keeps_nobody_else():
    with Rig(keep=2, history_limit=0) as rig:
        execution = rig.manager.start(FED.buffer().then(same).gate("gate").then(again).build())
        execution.send("first")
        for i in range(1, 200):
            execution.send(i)
            execution.signal(f"gate[{i}]", i)
            rig.go(until=rig.now)
        assert len(execution.log.records) < 60
        assert execution["same[0]"] == "first"
        assert [one.task_id for one in execution.waiting() if one.task_id.startswith("gate")] == ["gate[0]"]
        execution.signal("gate[0]", "open")
        execution.close()
        rig.go()
        assert execution["again[0]"] == "open"
        assert execution.project("progress")["completed"] == 604


def test_a_handler_that_hangs_is_given_every_event_in_the_end():
    heard, go_on = [], threading.Event()

    def handler(event):
        assert go_on.wait(PATIENCE)
        heard.append((event.seq, event.task_id, event.data.get("result")))

    with Rig(keep=0, history_limit=0) as rig:
        rig.manager.event_bus.subscribe("TASK_COMPLETED", handler)
        execution = rig.manager.start(FED.then(same).build())
        sent(rig, execution, range(50))
        assert len(execution.log.records) == len(execution.log)
        go_on.set()
        assert rig.manager.event_bus.flush(execution.log, PATIENCE)
        sent(rig, execution, [50])
        assert len(execution.log.records) < 10
        execution.close()
        rig.go()
        assert execution.wait(PATIENCE)
    assert [one[1:] for one in heard if one[1].startswith("same[")] == [(f"same[{i}]", i) for i in range(51)]
    assert [seq for seq, *_ in heard] == sorted(seq for seq, *_ in heard)


class SlowJournal(MemoryJournal):
    """Writes while its gate is open."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    def write(self, batch, *, sync=True):
        assert self.gate.wait(PATIENCE)
        super().write(batch, sync=sync)


def test_a_lane_isnt_forgotten_before_it_is_written():
    journal = SlowJournal()
    with WorkflowManager(workers=2, keep=0, history_limit=0, journal=journal) as manager:
        execution = manager.start(FED.buffer().then(same).build(), execution_id="x")
        execution.pause()
        for i in range(50):
            execution.send(i)
        journal.gate.clear()
        manager.engine.resume(execution._live)
        eventually(lambda: execution.project("progress")["completed"] == 50)
        assert len(execution.log.records) == len(execution.log)
        journal.gate.set()
        execution.close()
        assert execution.wait(PATIENCE)
        assert [event.seq for event in journal.events("x")] == list(range(1, len(execution.log) + 1))


def test_who_follows_holds_events_until_they_go_away():
    with Rig(keep=0, history_limit=0) as rig:
        execution = rig.manager.start(FED.then(same).build())
        followed = iter(execution.events(follow=True))
        assert next(followed).seq == 1
        sent(rig, execution, range(20))
        assert len(execution.log.records) == len(execution.log)
        assert [next(followed).seq for _ in range(40)] == list(range(2, 42))
        sent(rig, execution, [20])
        assert len(execution.log.records) < 40
        assert execution.log.page.first <= 41
        followed.close()
        sent(rig, execution, [21])
        assert len(execution.log.records) < 10
        assert [event.seq for event in execution.events()] == list(execution.log.page.seqs)
        execution.close()
        rig.go()


def test_a_lane_that_is_folded_before_send_returns_has_its_id():
    with Rig(keep=0, history_limit=0) as rig:
        execution = rig.manager.start(SHAPES["buffered"].build())
        live = execution._live

        def run():  # as another thread might, as soon as the lock is free
            live.on_change.remove(run)
            rig.go()

        ids = set()
        for i in range(3):
            live.on_change.append(run)
            ids.add(execution.send(i))
            assert live.is_folded(f"same[{i}]")
    assert len(ids) == 3


def test_a_live_view_that_comes_late_counts_what_was_folded_and_nothing_twice():
    with Rig(keep=0, history_limit=0) as rig:
        execution = rig.manager.start(FED.buffer().then(odd_fails).build())
        for i in range(20):
            execution.send(i)
            rig.go()
        assert execution.log.page.dropped
        tally = Tally(execution.log)
        for sent in (20, 21, 21):
            tally.read()
            assert (tally.done, tally.total, tally.ended["failed"]) == (sent, sent + 2, 10)
            assert tally.seen == len(execution.log)
            if sent == 20:
                execution.send(20)
                rig.go()


def test_what_may_have_to_be_undone_is_remembered():
    undone = []
    flow = FED.then(TaskDef("done", same, compensate=undone.append)).then(odd_fails)
    with Rig(keep=0, history_limit=0) as rig:
        execution = rig.manager.start(flow.build())
        sent(rig, execution, range(20))
        assert len(execution.log.records) == len(execution.log)
        execution.cancel()
        rig.go()
        assert execution.status is WorkflowStatus.CANCELLED
        assert undone == list(range(20))[::-1]


def test_cleanup_of_folded_lanes_is_forgotten_beside_what_may_be_undone():
    cleanup = TaskDef("cleanup", list, run_when="all_finished")
    flow = FED.buffer().then(TaskDef("undoable", odd_fails, compensate=same)).then(cleanup)
    with Rig(keep=0, history_limit=0) as rig:
        execution = rig.manager.start(flow.build())
        for _ in range(50):
            execution.send(1)
            rig.go()
        assert len(execution._live.scheduler.saga._cleanup) < 5
        execution.send(2)
        rig.go()
        execution.cancel()
        rig.go()
        assert execution.status is WorkflowStatus.CANCELLED
        assert execution.project("progress").total == 51 * 2 + 3


def test_what_completed_without_an_undo_is_forgotten_beside_it():
    flow = FED.then(odd_fails).then(TaskDef("done", same, compensate=same))
    with Rig(keep=0, history_limit=0) as rig:
        execution = rig.manager.start(flow.build())
        sent(rig, execution, [0, *[1] * 100])
        assert execution["done[0]"] == 0
        assert len(execution.log.records) < 60
        execution.close()
        rig.go()
        assert execution.project("progress")["failed"] == 100


# ---- what is said of what was forgotten -----------------------------------------------------------------------------


@pytest.fixture
def folded():
    """An execution in which all lanes but the last are folded, and what somebody held on to."""
    contexts = []

    def keep_context(ctx, m):
        contexts.append(ctx)
        return m

    with Rig(keep=1, history_limit=0) as rig:
        execution = rig.manager.start(FED.then(TaskDef("step", keep_context)).build())
        execution.send("a")
        rig.go(until=rig.now)
        held = execution.state, execution.task("step[0]"), list(execution.events())
        sent(rig, execution, "bc")
        yield execution, contexts, held


def test_a_folded_lane_says_what_became_of_it(folded):
    execution, contexts, _ = folded
    with pytest.raises(ResultUnavailableError, match=r"'step\[0\]'.*folded into the counts.*`keep`"):
        execution["step[0]"]
    with pytest.raises(ResultUnavailableError, match=r"'step\[0\]'.*folded into the counts"):
        execution.task("step[0]")
    with pytest.raises(UnknownIdError, match=r"no task 'step\[3\]'"):
        execution["step[3]"]
    with pytest.raises(ResultUnavailableError, match="folded into the counts"):
        contexts[0].lane_id
    assert execution.reprioritize("step[0]", 3) is False
    assert execution.logs("step[0]") == []
    assert "step[0]" not in execution.results


def test_what_somebody_holds_stays_what_it_was(folded):
    _, _, (state, result, events) = folded
    assert state["tasks"]["step[0]"]["status"].name == "COMPLETED"
    assert dict(state["tasks"])["step[0]"]["attempts"] == 1
    assert result.result == "a"
    assert [event.task_id for event in events if event.task_id and "[" in event.task_id] == ["step[0]"] * 2
    assert next(event.data["ids"] for event in events if event.type == "TASKS_ADDED") == ["step[0]"]


def test_the_history_shows_its_events_whatever_is_forgotten():
    with Rig(keep=0, history_limit=40) as rig:
        execution = rig.manager.start(FED.then(same).build())
        sent(rig, execution, range(100))
        assert len(execution.log.records) < 120
        shown = rig.manager.event_bus.get_history(limit=1000)
        assert [event.seq for event in shown] == list(range(len(execution.log), len(execution.log) - 40, -1))
        assert [event.data["result"] for event in shown if event.type == "TASK_COMPLETED"] == list(range(99, 85, -1))
        execution.close()
        rig.go()


def test_every_signal_of_a_name_is_forgotten_with_its_message():
    with Rig(keep=0, history_limit=0) as rig:
        execution = rig.manager.start(Flow("f").triggered_by(OnSignal("go")).then(same).build())
        for i in range(50):
            execution.signal("go", i)
            rig.go(until=rig.now)
        assert len(execution.log.records) < 10
        assert max(sizes(execution).values()) < 20
        execution.close()
        rig.go()
        assert execution.result == 50


def test_hooks_hear_of_a_lane_s_end_once_behind_its_last_delivery():
    mail = Mail()
    with Rig(keep=0, history_limit=0, dispatch_hooks=[mail]) as rig:
        execution = rig.manager.start(FED.then(same).then(odd_fails).then(again).build())
        lanes = []
        for i in range(4):
            lanes.append(execution.send(i))
            rig.go(until=rig.now)
    told = [mail.heard.index(lane) for lane in lanes]
    assert [mail.heard.count(lane) for lane in lanes] == [1] * 4
    for i, lane in enumerate(lanes):
        mine = [at for at, one in enumerate(mail.heard) if one in (f"odd_fails[{i}]", f"again[{i}]") or lane in one]
        assert max(mine) == told[i], lane


def test_whoever_looks_while_lanes_are_folded_sees_something_that_was():
    wrong, looking, stop = [], [], threading.Event()

    def look(execution):
        number = 0
        while not stop.is_set():
            number += 7
            try:
                progress = execution.project("progress")
                assert progress["total"] >= progress["completed"]
                assert progress["completed"] >= len(execution.project("completed_tasks")) - 50
                for event in execution.events():
                    assert event.task_id is None or "[" not in event.task_id or event.task_id.endswith("]")
                execution.manager_history()
                with suppress(ValueError):
                    execution.at(max(0, len(execution.log) - 50))
                with suppress(ResultUnavailableError, UnknownIdError):
                    assert execution[f"same[{number % 3000}]"] == number % 3000
                with suppress(ResultUnavailableError, UnknownIdError):
                    assert execution.task(f"again[{number % 3000}]").task_id == f"again[{number % 3000}]"
                execution.summary()
                assert all(execution.results.values()) in (True, False)
            except BaseException as error:
                wrong.append(error)
                return

    with WorkflowManager(workers=2, keep=3, history_limit=20) as manager:
        execution = manager.start(FED.buffer(4).then(same).then(again).build())
        execution.manager_history = manager.event_bus.get_history
        looking = [threading.Thread(target=look, args=(execution,)) for _ in range(2)]
        for thread in looking:
            thread.start()
        for i in range(600):
            execution.send(i)
            if i % 20 == 19:
                with suppress(ResultUnavailableError):
                    manager.event_bus.flush(execution.log, PATIENCE)
                execution.project("progress")
        execution.close()
        assert execution.wait(PATIENCE)
        stop.set()
        for thread in looking:
            thread.join(PATIENCE)
    assert wrong == []
    assert execution.result == 600
