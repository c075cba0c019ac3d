"""The bus: who hears what, in which order, on which thread; what a handler may do and can't do; what is remembered."""

import asyncio
import copy
import functools
import gc
import itertools
import logging
import math
import pickle
import random
import subprocess
import sys
import threading
import time
import traceback
import weakref
from unittest import mock

import blinker
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nerv.bus import EventBus, Subscription
from nerv.bus.receivers import label
from nerv.errors import ConfigError
from nerv.eventlog import CODE_OF, EventLog
from nerv.events import ANY, Event, EventType, Facts

PATIENCE = 20.0
"""Seconds after which a handshake is called lost."""

EPOCH = 1_700_000_000.0
STARTED, DONE, PROGRESS = EventType.TASK_STARTED, EventType.TASK_COMPLETED, EventType.TASK_PROGRESS


class Big:
    """A result that can be seen to be gone."""


class Play:
    """Plays the engine: appends records under its lock, and tells the bus as the engine does."""

    def __init__(self, bus, execution_id="e1", ids=("a", "b"), epoch=EPOCH):
        self.bus = bus
        self.lock = threading.Lock()
        self.values = {}
        self.log = EventLog(execution_id, "wf", list(ids), self.values, epoch)
        bus.attach(self.log)

    def add(self, event_type, task=-1, data=None, at=None):
        with self.lock:
            now = float(len(self.log.records)) if at is None else at
            self.log.records.append((CODE_OF[event_type], task, now, 1, data))
            self.tell()
        return self

    def tell(self):
        if self.bus.active and not self.log.dirty:
            self.log.dirty = True
            self.bus.nudge(self.log)

    def complete(self, task, value):
        self.values[self.log.ids[task]] = value
        return self.add(DONE, task)

    def steps(self, count, event_type=PROGRESS, task=0):
        for _ in range(count):
            self.add(event_type, task)
        return self

    def flush(self, patience=PATIENCE):
        return self.bus.flush(self.log, patience)


class Ear:
    """A handler that keeps what it heard and can be waited on."""

    def __init__(self):
        self.events = []
        self.changed = threading.Condition()

    def __call__(self, event):
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()

    def hear(self, event):
        self(event)

    async def hear_async(self, event):
        self(event)

    def wait(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.events) >= count, PATIENCE), self.events
        return self

    @property
    def types(self):
        return [str(event.type) for event in self.events]

    @property
    def seqs(self):
        return [event.seq for event in self.events]

    @property
    def data(self):
        return [event.data for event in self.events]


class Gate:
    """A handler that stands still until it is opened."""

    def __init__(self):
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self, event):
        self.entered.set()
        assert self.opened.wait(PATIENCE)

    def wait_entered(self):
        assert self.entered.wait(PATIENCE)


def ok(event):
    assert event.wait(PATIENCE)


def in_threads(*calls):
    """Run the calls at the same time, to their ends."""
    errors = []

    def run(call):
        try:
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


def bus_threads(name="nerv-"):
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


def boom(event):
    raise ValueError("boom")


@pytest.fixture
def bus():
    made = EventBus()
    yield made
    made.close()


@pytest.fixture
def stopped(bus):
    """The bus's delivery thread stands still in a handler of "stop" until `.opened` is set; undelivered events wait."""
    gate = Gate()
    bus.subscribe("stop", gate)
    bus.announce("stop")
    gate.wait_entered()
    yield gate
    gate.opened.set()


# ---- what a subscriber hears --------------------------------------------------------------------------------------


def test_a_subscriber_hears_its_type_and_no_other(bus):
    started, both = Ear(), Ear()
    bus.subscribe(STARTED, started)
    bus.subscribe(ANY, both)
    play = Play(bus).add(STARTED, 0).complete(0, 7).add(STARTED, 1)
    assert play.flush()
    assert started.types == ["TASK_STARTED", "TASK_STARTED"]
    assert [event.task_id for event in started.events] == ["a", "b"]
    assert both.seqs == [1, 2, 3]


def test_an_event_of_a_log_is_complete(bus):
    ear = Ear()
    bus.subscribe(DONE, ear)
    play = Play(bus).complete(1, "value")
    assert play.flush()
    (event,) = ear.events
    assert (event.id, event.type, event.execution_id, event.task_id, event.seq) == ("e1:1", DONE, "e1", "b", 1)
    assert (event.timestamp, event.attempt, event.source) == (EPOCH, 1, "wf")
    assert event.data == {"result": "value"}


def test_a_type_may_be_given_as_a_string(bus):
    ear = Ear()
    bus.subscribe("TASK_STARTED", ear)
    bus.subscribe("mine", ear)
    play = Play(bus).add(STARTED, 0)
    assert play.flush()
    bus.publish("mine", 1)
    bus.publish("TASK_STARTED", 2)
    assert ear.types == ["TASK_STARTED", "mine", "TASK_STARTED"]
    assert ear.events[2].type is STARTED


@pytest.mark.parametrize("wrong", [None, 5, EventType, int], ids=str)
def test_anything_else_as_a_type_is_refused_with_a_remedy(bus, wrong):
    for call in (
        lambda: bus.subscribe(wrong, print),
        lambda: bus.publish(wrong),
        lambda: bus.get_signal(wrong),
        lambda: bus.announce(wrong),
    ):
        with pytest.raises(TypeError, match="EventType"):
            call()
    assert not bus.active


def test_any_can_only_be_listened_to(bus):
    with pytest.raises(TypeError, match="ANY"):
        bus.publish(ANY)


@pytest.mark.parametrize(
    "wrong",
    [
        {"handler": 5},
        {"execution": mock.Mock(id="e1")},
        {"task": mock.Mock(id="a")},
    ],
    ids=["handler", "execution", "task"],
)
def test_a_wrong_argument_of_subscribe_is_refused_with_a_remedy(bus, wrong):
    with pytest.raises(TypeError, match=next(iter(wrong))):
        bus.subscribe(ANY, **({"handler": print} | wrong))
    assert not bus.active


@pytest.mark.parametrize("wrong", [-1, 1.5, None, "10", True])
def test_a_senseless_history_limit_is_refused(wrong):
    with pytest.raises(ConfigError, match="history_limit"):
        EventBus(history_limit=wrong)


@pytest.mark.parametrize("wrong", [-1, 1.5, None, "10", True])
def test_a_senseless_limit_is_refused(bus, wrong):
    with pytest.raises(ValueError, match="limit takes a number of events"):
        bus.get_history(limit=wrong)


def test_filters_by_task_and_execution(bus):
    one, two = Play(bus, "e1", ("a", "aa")), Play(bus, "e2", ("a", "aa"))
    ears = {key: Ear() for key in itertools.product((None, "e1", "e2", "other"), (None, "a", "aa", "other"))}
    for (execution, task), ear in ears.items():
        bus.subscribe(ANY, ear, execution=execution, task=task)
    for play in (one, two):
        play.add(EventType.WORKFLOW_STARTED).add(STARTED, 0).add(STARTED, 1)
        assert play.flush()
    everything = [("e1", None), ("e1", "a"), ("e1", "aa"), ("e2", None), ("e2", "a"), ("e2", "aa")]
    for (execution, task), ear in ears.items():
        expected = [(e, t) for e, t in everything if execution in (None, e) and task in (None, t)]
        assert [(event.execution_id, event.task_id) for event in ear.events] == expected


def test_an_execution_can_be_subscribed_to_before_it_starts(bus):
    ear = Ear()
    bus.subscribe(STARTED, ear, execution="later")
    Play(bus, "earlier").add(STARTED, 0)
    assert Play(bus, "later").add(STARTED, 0).flush()
    assert [event.execution_id for event in ear.events] == ["later"]


def test_handlers_are_called_in_order_of_subscription(bus):
    calls = []
    for n in range(12):
        kind = (ANY, STARTED, "TASK_STARTED")[n % 3]
        bus.subscribe(kind, lambda event, n=n: calls.append(n), execution="e1" if n % 4 == 0 else None)
    assert Play(bus).add(STARTED, 0).flush()
    assert calls == list(range(12))


def test_one_log_is_heard_in_seq_order_whatever_the_batches(bus):
    ear = Ear()
    bus.subscribe(ANY, ear)
    plays = [Play(bus, f"e{n}") for n in range(4)]
    in_threads(*(functools.partial(play.steps, 500) for play in plays))
    assert all(play.flush() for play in plays)
    for play in plays:
        mine = [event.seq for event in ear.events if event.execution_id == play.log.execution_id]
        assert mine == list(range(1, 501))


def test_an_event_published_after_a_record_is_heard_after_it(bus, stopped):
    ear = Ear()
    bus.subscribe(ANY, ear)
    play = Play(bus).steps(5000)
    bus.announce("checkpoint")
    stopped.opened.set()
    ear.wait(5001)
    assert ear.types.index("checkpoint") == 5000
    assert play.flush()


def test_no_event_is_made_for_types_without_receivers(bus):
    ear = Ear()
    bus.subscribe(STARTED, ear)
    play = Play(bus).steps(100).add(STARTED, 0)
    assert play.flush()
    with mock.patch.object(EventLog, "shown", autospec=True, side_effect=EventLog.shown) as made:
        play2 = Play(bus, "e2").steps(100).add(STARTED, 0).steps(100)
        assert play2.flush()
        assert made.call_count == 1
        with bus.subscribe(ANY, ear):
            assert play2.steps(1).flush()
        assert play2.steps(100).flush()
        assert made.call_count == 2


@pytest.mark.parametrize(
    ("value", "walked"), [(7, False), (None, False), ("text", False), ([], True), ({}, True), (Ear, True)]
)
def test_the_garbage_collector_walks_through_events_only_if_they_may_be_in_a_cycle(value, walked):
    play = Play(EventBus()).add(STARTED, 0).complete(0, value)
    started, done = play.log.events()
    assert [gc.is_tracked(started), gc.is_tracked(done)] == [False, walked]
    assert gc.is_tracked(done.replace(data=[]))
    assert repr(done).startswith(
        "Event(type=<EventType.TASK_COMPLETED: 'TASK_COMPLETED'>, execution_id='e1', task_id='a'"
    )
    again = pickle.loads(pickle.dumps(started))
    assert isinstance(again, Event)
    assert (again.id, again.type, again.data) == ("e1:1", STARTED, {})


@pytest.mark.parametrize("result", [{}, [], Ear()], ids=["dict", "list", "object"])
def test_an_event_that_its_own_result_comes_to_hold_is_let_go(result):
    class Marker:
        pass

    def alive():
        value, marker = copy.copy(result), Marker()
        play = Play(EventBus()).complete(0, value)
        [done] = play.log.events()
        if isinstance(value, dict):
            value["mine"] = done, marker
        elif isinstance(value, list):
            value.append((done, marker))
        else:
            value.mine = done, marker
        return weakref.ref(marker)

    ref = alive()
    gc.collect()
    assert ref() is None


def test_ever_new_names_do_not_fill_the_memory(bus):
    with bus.subscribe(ANY, Ear()) as subscription:
        for n in range(2500):
            bus.announce(f"name {n}")
        bus.publish("end")
        assert len(bus._listeners.plan(None)) <= 1000
        assert subscription


# ---- holding handlers (trap 3) and counting subscriptions (trap 7) --------------------------------------------------


def test_trap_3_a_lambda_lives_as_long_as_its_subscription(bus):
    heard = []
    bus.subscribe("x", lambda event: heard.append(event.data))  # nobody keeps what is returned
    gc.collect()
    bus.publish("x", 1)
    assert heard == [1]


def strong_handlers(heard):
    class Callable:
        def __call__(self, event):
            heard.append(event.data)

    def function(event):
        heard.append(event.data)

    return {
        "function": function,
        "lambda": lambda event: heard.append(event.data),
        "partial": functools.partial(lambda extra, event: heard.append(event.data), 1),
        "callable object": Callable(),
        "builtin method": mock.Mock(side_effect=lambda event: heard.append(event.data)),
    }


@pytest.mark.parametrize("kind", list(strong_handlers([])))
def test_trap_3_everything_but_bound_methods_is_held_strongly(bus, kind):
    heard = []
    bus.subscribe("x", strong_handlers(heard)[kind])
    gc.collect()
    bus.publish("x", 1)
    assert heard == [1]


@pytest.mark.parametrize("kind", ["function", "lambda", "partial", "callable object"])
def test_any_handler_can_be_held_weakly(bus, kind):
    heard = []
    handlers = strong_handlers(heard)
    subscription = bus.subscribe("x", handlers[kind], weak=True)
    bus.publish("x", 1)
    handlers.clear()
    gc.collect()
    bus.publish("x", 2)
    assert heard == [1]
    subscription.cancel()


def test_a_bound_method_lives_with_its_object(bus):
    ear, events = Ear(), []
    events = ear.events
    subscription = bus.subscribe("x", ear.hear)
    gc.collect()
    bus.publish("x", 1)
    del ear
    gc.collect()
    bus.publish("x", 2)
    assert [event.data for event in events] == [1]
    subscription.cancel()


def test_a_bound_method_can_be_held_strongly(bus):
    ear = Ear()
    events, gone = ear.events, weakref.ref(ear)
    bus.subscribe("x", ear.hear, weak=False)
    del ear
    gc.collect()
    bus.publish("x", 1)
    assert [event.data for event in events] == [1]
    assert gone() is not None


def test_delivering_to_a_method_does_not_keep_its_object_alive(bus):
    ear = Ear()
    gone = weakref.ref(ear)
    bus.subscribe(ANY, ear.hear)
    assert Play(bus).steps(3).flush()
    del ear
    bus.publish("x")  # the delivery thread has let go of its last call
    gc.collect()
    assert gone() is None


def test_what_can_not_be_held_weakly_says_so(bus):
    class Slotted:
        __slots__ = ()

        def hear(self, event): ...

    with pytest.raises(TypeError, match="weak=False"):
        bus.subscribe("x", Slotted().hear)


def test_dead_handlers_leave_nothing_behind(bus):
    signal = bus.get_signal("x")
    for _ in range(100):
        bus.subscribe("x", Ear().hear)
        bus.subscribe("x", Ear().hear, execution="e1")
    gc.collect()
    bus.publish("x")
    bus.publish("x")
    assert not signal.receivers
    assert not bus._listeners._bound


def test_trap_7_a_handler_subscribed_twice_hears_twice_and_once_when_one_is_cancelled(bus):
    ear = Ear()
    first, second = bus.subscribe("x", ear), bus.subscribe("x", ear)
    bus.publish("x", 1)
    assert ear.data == [1, 1]
    first.cancel()
    first.cancel()
    bus.publish("x", 2)
    assert ear.data == [1, 1, 2]
    second()
    bus.publish("x", 3)
    assert ear.data == [1, 1, 2]


def test_a_subscription_is_a_context_manager(bus):
    ear = Ear()
    with bus.subscribe("x", ear) as subscription:
        assert isinstance(subscription, Subscription)
        bus.publish("x", 1)
    bus.publish("x", 2)
    assert ear.data == [1]


def test_cancelled_subscriptions_leave_nothing_behind(bus):
    for n in range(100):
        bus.subscribe("x", print, execution=f"e{n}").cancel()
        bus.subscribe(ANY, print).cancel()
    assert not bus._listeners._bound
    assert not bus.get_signal("x").receivers
    assert not bus.get_signal(ANY).receivers


def test_after_cancel_no_call_begins_even_for_what_waits(bus, stopped):
    ear = Ear()
    subscription = bus.subscribe(ANY, ear)
    Play(bus).steps(10)
    bus.announce("x")
    subscription.cancel()
    stopped.opened.set()
    bus.publish("end")
    assert ear.events == []


# ---- where a subscription begins ------------------------------------------------------------------------------------


def test_what_happened_before_the_first_subscription_is_not_heard(bus):
    play = Play(bus).steps(5)
    assert not bus.active
    ear = Ear()
    bus.subscribe(ANY, ear)
    assert bus.active
    play.steps(2)
    assert play.flush()
    assert ear.seqs == [6, 7]


def test_undelivered_events_are_not_heard_by_later_subscriptions(bus, stopped):
    early, middle, late = Ear(), Ear(), Ear()
    bus.subscribe(ANY, early)
    one, two = Play(bus, "e1").steps(3), Play(bus, "e2").steps(2)
    bus.announce("x", data={"n": 1})
    bus.subscribe(PROGRESS, middle, execution="e1")
    one.steps(2)
    two.steps(1)
    bus.announce("x", data={"n": 2})
    bus.subscribe(ANY, late)
    one.steps(1)
    bus.announce("x", data={"n": 3})
    stopped.opened.set()
    assert one.flush()
    assert two.flush()
    bus.publish("end")

    def heard(ear):
        return (
            [event.seq for event in ear.events if event.execution_id == "e1"],
            [event.seq for event in ear.events if event.execution_id == "e2"],
            [event.data["n"] for event in ear.events if event.type == "x"],
        )

    assert heard(early) == ([1, 2, 3, 4, 5, 6], [1, 2, 3], [1, 2, 3])
    assert heard(middle) == ([4, 5, 6], [], [])
    assert heard(late) == ([6], [], [3])


@pytest.mark.parametrize("execution", [None, "e1"])
def test_a_subscription_made_in_a_handler_hears_what_follows_the_current_event(bus, execution):
    late = Ear()

    def handler(event):
        if event.seq == 2:
            bus.subscribe(ANY, late, execution=execution)

    gate = Gate()
    bus.subscribe("stop", gate)
    bus.subscribe(ANY, handler)
    bus.announce("stop")
    gate.wait_entered()
    play = Play(bus).steps(5)  # all there when the handler subscribes
    gate.opened.set()
    assert play.flush()
    assert late.seqs == [3, 4, 5]


def test_a_subscription_made_while_the_bus_finds_out_whom_to_call_hears_only_what_follows(bus, stopped):
    late, find = Ear(), bus._listeners._find

    def found_late(*args):
        if not late_subscriptions:
            late_subscriptions.append(None)
            in_threads(lambda: bus.subscribe(ANY, late))
        return find(*args)

    late_subscriptions = []
    bus.subscribe(ANY, print, task="nobody")
    play = Play(bus).steps(2)
    with mock.patch.object(bus._listeners, "_find", found_late):
        stopped.opened.set()
        assert play.flush()
    play.steps(1)
    assert play.flush()
    assert late.seqs == [3]


def test_many_subscriptions_over_one_backlog_cost_one_mark(bus, stopped):
    play = Play(bus).steps(3)
    for _ in range(100):
        bus.subscribe(ANY, print, task="nobody")
    (track,) = (track for track in bus._tracks.values() if track.log() is play.log)
    assert len(track.marks) == 1


def test_a_subscription_that_takes_effect_late_takes_effect_once(bus, stopped):
    """A mark that a subscription leaves on a backlog hides nothing of what comes after it, from nobody."""
    plays = [Play(bus, f"e{n}") for n in range(3)]
    ears = []
    for round_ in range(4):
        for play in plays:
            play.steps(round_ + 1)
        ears.append(Ear())
        bus.subscribe(ANY, ears[-1])
    for play in plays:
        play.steps(1)
    stopped.opened.set()
    for play in plays:
        assert play.flush()
        play.steps(1)
        assert play.flush()
        heard = [[event.seq for event in ear.events if event.execution_id == play.log.execution_id] for ear in ears]
        assert heard == [list(range(start, 13)) for start in (2, 4, 7, 11)]


# ---- publish and announce -------------------------------------------------------------------------------------------


def test_publish_returns_when_it_is_delivered(bus):
    ear = Ear()
    bus.subscribe("x", ear)
    event_id = bus.publish("x", {"any": "thing"}, source="me")
    (event,) = ear.events
    assert (event.id, event.type, event.data, event.source) == (event_id, "x", {"any": "thing"}, "me")
    assert (event.execution_id, event.task_id, event.seq, event.attempt) == (None, None, None, None)
    assert abs(event.timestamp - time.time()) < 60


def test_published_data_is_not_touched(bus):
    ear, data = Ear(), object()
    bus.subscribe("x", ear)
    bus.publish("x", data)
    assert ear.events[0].data is data
    assert bus.get_history()[0].data is data


def test_events_outside_a_log_have_ids_of_their_own(bus):
    bus.subscribe(ANY, print, task="nobody")
    ids = [bus.publish("x") for _ in range(3)]
    assert len(set(ids)) == 3
    assert all(one.startswith("bus:") for one in ids)


def test_publishing_without_a_subscriber_starts_no_thread(bus):
    before = set(bus_threads())
    event_id = bus.publish("x", 1)
    bus.announce("y", data={"n": 2})
    assert [event.id for event in bus.get_history()][1] == event_id
    assert set(bus_threads()) == before
    assert not bus.active


def test_a_handler_that_publishes_goes_on_at_once_and_its_event_is_next(bus):
    order = []

    def handler(event):
        bus.publish("inner", event.seq)
        order.append(("outer", event.seq))

    bus.subscribe(PROGRESS, handler)
    bus.subscribe("inner", lambda event: order.append(("inner", event.data)))
    bus.subscribe(PROGRESS, lambda event: order.append(("second", event.seq)))
    assert Play(bus).steps(2).flush()
    assert order == [("outer", 1), ("second", 1), ("inner", 1), ("outer", 2), ("second", 2), ("inner", 2)]


def test_a_handler_that_answers_itself_for_ever_does_not_stop_the_others(bus):
    ear, on = Ear(), [True]
    bus.subscribe("ping", lambda event: on[0] and bus.publish("ping"))
    bus.subscribe(PROGRESS, ear)
    bus.announce("ping")
    play = Play(bus).steps(100)
    assert play.flush()
    bus.publish("x")
    on[0] = False
    assert ear.seqs == list(range(1, 101))


def test_answers_to_answers_are_all_delivered(bus):
    ear = Ear()
    bus.subscribe("count", ear)
    bus.subscribe("count", lambda event: event.data < 5 and bus.publish("count", event.data + 1))
    bus.publish("count", 0)
    assert ear.wait(6).data == [0, 1, 2, 3, 4, 5]


def test_handlers_of_two_buses_may_publish_to_each_other(bus):
    other, heard = EventBus(), Ear()
    bus.subscribe("x", lambda event: other.publish("x", event.data))
    other.subscribe("x", lambda event: bus.publish("back", event.data))
    bus.subscribe("back", heard)
    in_threads(lambda: bus.publish("x", 1), lambda: other.publish("x", 2))
    heard.wait(2)
    assert sorted(heard.data) == [1, 2]
    other.close()


def test_announce_never_waits(bus, stopped):
    ear = Ear()
    bus.subscribe(EventType.TASK_PENDING, ear)
    bus.announce(EventType.TASK_PENDING, execution_id="e1", task_id="a", data={"n": 1}, source="wf")
    assert ear.events == []
    stopped.opened.set()
    (event,) = ear.wait(1).events
    assert (event.execution_id, event.task_id, event.seq, event.source) == ("e1", "a", None, "wf")
    assert isinstance(event.data, Facts)
    assert event.data == {"n": 1}


def test_sixteen_publishers_lose_nothing():
    bus, seen, heard = EventBus(history_limit=10_000), [], set()
    bus.subscribe(ANY, lambda event: seen.append(event.data))
    bus.subscribe(ANY, lambda event: heard.add(event.data))

    def publisher(t):
        for n in range(100):
            bus.publish("x", (t, n))
            assert (t, n) in heard  # delivered before it returned

    in_threads(*(functools.partial(publisher, t) for t in range(16)))
    assert len(seen) == len(set(seen)) == 1600
    for t in range(16):
        assert [n for thread, n in seen if thread == t] == list(range(100))
    assert len(bus.get_history(limit=5000)) == 1600
    bus.close()


# ---- handlers that misbehave (traps 5, 6) and what handlers may do --------------------------------------------------


class Stop(BaseException):
    """Not an Exception."""


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, Stop], ids=lambda error: error.__name__)
def test_trap_5_a_handler_that_raises_hurts_nobody(bus, caplog, error):
    def raises(event):
        raise error("boom")

    before, after, errors = Ear(), Ear(), Ear()
    bus.subscribe(STARTED, before)
    bus.subscribe(STARTED, raises)
    bus.subscribe(STARTED, after)
    bus.subscribe(EventType.HANDLER_ERROR, errors)
    with caplog.at_level(logging.ERROR, "nerv"):
        play = Play(bus).add(STARTED, 0).add(STARTED, 1)
        assert play.flush()
        bus.publish(STARTED)
    assert before.seqs == after.seqs == [1, 2, None]
    assert [record.exc_info[0] for record in caplog.records] == [error] * 3
    first = errors.events[0]
    assert (first.type, first.seq, first.execution_id, first.task_id) == (EventType.HANDLER_ERROR, None, "e1", "a")
    assert "raises" in first.data["handler"]
    assert isinstance(first.data["error"], error)
    assert (first.data["event_id"], first.data["event_type"]) == ("e1:1", STARTED)
    assert "raises" in caplog.text
    assert len(errors.events) == 3


def test_a_handler_error_comes_before_the_next_event(bus):
    ear = Ear()
    bus.subscribe(STARTED, boom)
    bus.subscribe(ANY, ear)
    assert Play(bus).add(STARTED, 0).add(STARTED, 1).flush()
    assert ear.types == ["TASK_STARTED", "HANDLER_ERROR"] * 2


@pytest.mark.parametrize("kind", [ANY, EventType.HANDLER_ERROR], ids=str)
def test_a_handler_of_handler_errors_that_raises_is_only_logged(bus, caplog, kind):
    errors = Ear()
    bus.subscribe("x", boom)
    bus.subscribe(kind, boom)
    bus.subscribe(EventType.HANDLER_ERROR, errors)
    bus.publish("x")
    bus.publish("end", 1)
    raised = 4 if kind is ANY else 2  # ANY: twice on "x", once on each of its errors, once on "end" and on that error
    expected = {4: 3, 2: 1}[raised]
    assert len(errors.events) == expected
    assert all(event.data["event_type"] != EventType.HANDLER_ERROR for event in errors.events)
    assert "HANDLER_ERROR" in caplog.text


@pytest.mark.parametrize(
    ("handler", "name"),
    [
        (boom, "test_bus.boom"),
        (functools.partial(functools.partial(boom)), "test_bus.boom"),
        (Ear().hear, "test_bus.Ear.hear"),
        (Ear(), "test_bus.Ear"),
        (Ear, "test_bus.Ear"),
        (mock.Mock(), "mock.Mock"),
        ([].append, "list.append"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_messages_name_a_handler_by_what_the_user_wrote(handler, name):
    assert label(handler).endswith(name)


def test_an_error_whose_text_can_not_be_made_hurts_nobody(bus):
    class MuteError(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    def raises(event):
        raise MuteError

    ear = Ear()
    bus.subscribe("x", raises)
    bus.subscribe("x", ear)
    bus.publish("x")
    bus.publish("x")
    assert len(ear.events) == 2


def test_a_logging_filter_that_raises_hurts_nobody(bus, capsys):
    def refuse(record):
        raise RuntimeError("no logging today")

    ear = Ear()
    bus.subscribe(PROGRESS, boom)
    bus.subscribe(PROGRESS, ear)
    logging.getLogger("nerv").addFilter(refuse)
    try:
        assert Play(bus).steps(2).flush()
    finally:
        logging.getLogger("nerv").removeFilter(refuse)
    assert ear.seqs == [1, 2]
    assert "no logging today" in capsys.readouterr().err


def test_a_result_that_can_not_be_shown_is_left_out(bus, caplog):
    asked = []

    class Broken(dict):
        def __getitem__(self, key):
            asked.append(key)
            raise RuntimeError("can't be decoded")

    ear = Ear()
    bus.subscribe(ANY, ear)
    play = Play(bus)
    play.log.values = Broken(a=7)
    play.add(DONE, 0).add(STARTED, 1)
    assert play.flush()
    assert ear.types == ["TASK_COMPLETED", "TASK_STARTED"]
    assert ear.data[0] == {}
    assert asked == ["a"], "it is decoded once, though it fails"
    assert "the result in the event e1:1 can't be shown" in caplog.text
    assert [event.data for event in bus.get_history()] == [{}, {}]


def test_a_handler_may_unsubscribe_itself_and_others(bus):
    once, other, third = [], Ear(), Ear()

    def handler(event):
        once.append(event.seq)
        mine.cancel()
        others.cancel()

    bus.subscribe(PROGRESS, third)
    mine = bus.subscribe(PROGRESS, handler)
    others = bus.subscribe(PROGRESS, other)
    assert Play(bus).steps(3).flush()
    assert once == [1]
    assert other.events == []  # cancelled before its turn came, also for this very event
    assert third.seqs == [1, 2, 3]


def test_a_handler_may_call_the_engine_that_tells_the_bus(bus):
    """The engine's lock is held while it tells the bus, and handlers take it: no order of locks can deadlock."""
    play = Play(bus)
    answered = threading.Event()

    def handler(event):
        play.add(STARTED, 0)  # takes the engine's lock, which other threads hold while they nudge
        if event.seq >= 1000:
            answered.set()

    bus.subscribe(PROGRESS, handler)
    in_threads(*(functools.partial(play.steps, 500) for _ in range(4)))
    ok(answered)
    assert play.flush()


def test_nudge_does_not_wait_for_handlers(bus, stopped):
    play = Play(bus)
    play.steps(1000)  # would hang here
    bus.get_history()
    bus.subscribe("y", print).cancel()
    assert not stopped.opened.is_set()


def test_a_handler_may_ask_for_history_and_wait_for_its_own_execution(bus):
    answers = []

    def handler(event):
        answers.append((bus.flush(play.log, 0.001), bus.get_history()[0].seq))

    play = Play(bus)
    bus.subscribe(PROGRESS, handler)
    play.steps(1)
    assert play.flush()
    assert answers == [(True, 1)]


def test_a_finalizer_may_unsubscribe_while_the_bus_is_at_work(bus):
    """Garbage collection may run anybody's `__del__` at any allocation, also while the bus's lock is held."""

    class Owner:
        def __init__(self):
            self.subscription = bus.subscribe(ANY, lambda event: None)
            self.ring = self

        def __del__(self):
            self.subscription.cancel()

    old = gc.get_threshold()
    gc.set_threshold(1)
    try:
        play = Play(bus)
        for _ in range(200):
            Owner()
            play.steps(1)
            bus.announce("x")
        assert play.flush()
    finally:
        gc.set_threshold(*old)


# ---- coroutine handlers ---------------------------------------------------------------------------------------------


class Async:
    """Handlers that are coroutine functions in every form."""

    def __init__(self, ear):
        self.ear = ear

    async def method(self, event):
        await asyncio.sleep(0)
        self.ear(event)

    async def __call__(self, event):
        await self.method(event)


def coroutine_handlers(ear):
    owner = Async(ear)

    async def function(event):
        await owner.method(event)

    async def with_extra(extra, event):
        await owner.method(event)

    return {
        "function": function,
        "partial": functools.partial(with_extra, 1),
        "object": owner,
        "method": owner.method,
        "partial of a method": functools.partial(owner.method),
        "lambda": lambda event: owner.method(event),  # noqa: PLW0108
        "mock": mock.AsyncMock(side_effect=owner.method),
    }


@pytest.mark.parametrize("kind", list(coroutine_handlers(None)))
def test_trap_6_a_coroutine_handler_is_run_in_any_form(bus, kind):
    ear = Ear()
    handlers = coroutine_handlers(ear)
    bus.subscribe(PROGRESS, handlers[kind], weak=False)
    Play(bus).steps(3)
    assert ear.wait(3).seqs == [1, 2, 3]


def test_coroutine_handlers_run_one_at_a_time_in_order_on_their_own_thread(bus):
    inside, log, names, done = [], [], set(), threading.Event()

    def handler(name):
        async def handle(event):
            names.add(threading.current_thread().name)
            assert not inside
            inside.append(name)
            for _ in range(3):
                await asyncio.sleep(0)
            inside.pop()
            log.append((event.seq, name))
            if len(log) == 40:
                done.set()

        return handle

    bus.subscribe(PROGRESS, handler("first"))
    bus.subscribe(ANY, handler("second"))
    Play(bus).steps(20)
    ok(done)
    assert log == [(seq, name) for seq in range(1, 21) for name in ("first", "second")]
    assert names == {"nerv-handlers"}


def test_a_coroutine_handler_that_raises_is_a_handler_error(bus, caplog):
    async def raises(event):
        await asyncio.sleep(0)
        raise (ValueError, SystemExit, asyncio.CancelledError)[event.seq - 1]("boom")

    errors = Ear()
    bus.subscribe(PROGRESS, raises)
    bus.subscribe(EventType.HANDLER_ERROR, errors)
    Play(bus).steps(3)
    errors.wait(3)
    kinds = [type(event.data["error"]) for event in errors.events]
    assert kinds == [ValueError, SystemExit, asyncio.CancelledError]
    assert [event.data["event_id"] for event in errors.events] == ["e1:1", "e1:2", "e1:3"]
    assert "raises" in caplog.text


def test_a_coroutine_handler_is_not_waited_for_but_by_close(bus, caplog):
    started, finished, go = threading.Event(), [], threading.Event()

    async def slow(event):
        started.set()
        await asyncio.to_thread(ok, go)
        finished.append(event.seq)

    bus.subscribe(PROGRESS, slow)
    play = Play(bus).steps(2)
    assert play.flush()
    bus.publish("x")
    ok(started)
    assert finished == []
    go.set()
    bus.close()
    assert finished == [1, 2]
    assert caplog.text == ""  # it didn't lose its patience
    assert bus_threads("nerv-handlers") == []


def test_a_cancelled_coroutine_subscription_hears_nothing_of_what_waits(bus):
    gate, heard = threading.Event(), []

    async def first(event):
        gate.set()
        await asyncio.to_thread(ok, subscription_cancelled)

    async def second(event):
        heard.append(event.seq)

    subscription_cancelled = threading.Event()
    bus.subscribe(PROGRESS, first)
    subscription = bus.subscribe(PROGRESS, second)
    play = Play(bus).steps(1)
    ok(gate)
    assert play.flush()
    subscription.cancel()
    subscription_cancelled.set()
    bus.close()
    assert heard == []


def test_tasks_that_a_coroutine_handler_leaves_go_on(bus):
    done = threading.Event()
    kept = []

    async def later():
        await asyncio.sleep(0.001)
        done.set()

    async def handler(event):
        kept.append(asyncio.create_task(later()))

    bus.subscribe("x", handler)
    bus.publish("x")
    ok(done)


def test_a_task_that_ends_the_loop_ends_only_its_own(bus, caplog):
    ear, kept = Ear(), []

    async def exits():
        sys.exit("left behind by a handler")

    async def handler(event):
        kept.append(asyncio.create_task(exits()))
        await asyncio.sleep(0)

    with bus.subscribe("x", handler):
        bus.publish("x")
        for thread in bus_threads("nerv-handlers"):
            thread.join(PATIENCE)
    bus.subscribe("x", ear.hear_async, weak=False)
    bus.publish("x", 2)
    assert ear.wait(1).data == [2]
    assert isinstance(kept[0].exception(), SystemExit)
    assert "event loop" in caplog.text


def test_a_future_that_a_plain_handler_returns_is_its_own_affair(bus):
    loop, errors = asyncio.new_event_loop(), Ear()
    bus.subscribe(EventType.HANDLER_ERROR, errors)
    bus.subscribe("x", lambda event: loop.create_future())
    bus.publish("x")
    bus.close()
    loop.close()
    assert errors.events == []


def test_a_coroutine_handler_may_publish_flush_and_subscribe(bus):
    ear, play = Ear(), Play(bus)

    async def handler(event):
        bus.publish("answer", event.seq)
        assert bus.flush(play.log, 5.0)
        bus.subscribe("late", ear)

    errors = Ear()
    bus.subscribe(PROGRESS, handler)
    bus.subscribe("answer", ear)
    bus.subscribe(EventType.HANDLER_ERROR, errors)
    play.steps(1)
    ear.wait(1)
    bus.close()
    bus.publish("late", "x")
    assert ear.data == [1, "x"]
    assert errors.events == []


def test_importing_the_bus_loads_nothing_heavy():
    code = (
        "import sys, nerv.bus; heavy = 'dependency_injector networkx taskmap asyncio multiprocessing sqlite3'.split();"
        "bus = nerv.bus.EventBus(); bus.subscribe('x', print); bus.publish('x'); bus.close();"
        "sys.exit(([name for name in heavy if name in sys.modules] or 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr


# ---- middleware (trap 8) ----------------------------------------------------------------------------------------


def test_trap_8_middleware_alters_and_drops_what_is_shown_and_never_the_log(bus):
    ear = Ear()
    bus.subscribe(ANY, ear)
    bus.add_middleware(lambda event: None if event.seq == 2 else event)
    bus.add_middleware(lambda event: event.replace(source="altered"))
    play = Play(bus).add(STARTED, 0).add(STARTED, 1).complete(0, 5)
    before = list(play.log.records)
    assert play.flush()
    assert ear.seqs == [1, 3]
    assert {event.source for event in ear.events} == {"altered"}
    assert [event.seq for event in bus.get_history()] == [3, 1]
    assert {event.source for event in bus.get_history()} == {"altered"}
    assert play.log.records == before
    assert play.log.event(1).source == "wf"


def test_trap_8_publish_returns_an_id_also_for_a_dropped_event(bus):
    ear = Ear()
    bus.subscribe(ANY, ear)
    bus.add_middleware(lambda event: None)
    assert bus.publish("x").startswith("bus:")
    assert ear.events == []
    assert bus.get_history() == []


def test_trap_8_middleware_runs_without_a_lock_on_the_delivery_thread(bus):
    names = set()

    def middleware(event):
        names.add(threading.current_thread().name)
        in_threads(bus.get_history, lambda: bus.subscribe("y", print).cancel(), lambda: bus.announce("y"))
        return event

    remove = bus.add_middleware(middleware)
    bus.publish("x")
    remove()
    assert names == {"nerv-delivery"}


def test_middleware_runs_in_order_and_its_remover_removes_only_its_own(bus):
    ear = Ear()
    bus.subscribe("x", ear)

    def add(n):
        def middleware(event):
            return event.replace(data=[*event.data, n])

        return middleware

    same = add(2)
    first, _, second = bus.add_middleware(add(1)), bus.add_middleware(same), bus.add_middleware(same)
    bus.publish("x", [])
    second()
    second()
    bus.publish("x", [])
    first()
    bus.publish("x", [])
    assert ear.data == [[1, 2, 2], [1, 2], [2]]


def test_an_altered_type_or_execution_reaches_those_who_listen_for_it(bus):
    renamed, moved, original = Ear(), Ear(), Ear()
    bus.subscribe("renamed", renamed)
    bus.subscribe("renamed", moved, execution="other")
    bus.subscribe(STARTED, original)
    bus.add_middleware(lambda event: event.replace(type="renamed", execution_id="other"))
    assert Play(bus).add(STARTED, 0).flush()
    assert (len(renamed.events), len(moved.events), len(original.events)) == (1, 1, 0)


@pytest.mark.parametrize("wrong", [boom, lambda event: "not an event"], ids=["raises", "returns rubbish"])
def test_a_middleware_that_goes_wrong_lets_the_event_through_unaltered(bus, caplog, wrong):
    ear, errors = Ear(), Ear()
    bus.subscribe(STARTED, ear)
    bus.subscribe(EventType.HANDLER_ERROR, errors)
    bus.add_middleware(lambda event: event.replace(source="good"))
    bus.add_middleware(wrong)
    assert Play(bus).add(STARTED, 0).flush()
    assert [(event.seq, event.source) for event in ear.events] == [(1, "good")]
    assert [event.data["event_id"] for event in errors.events] == ["e1:1"]
    assert len(bus.get_history()) == 2
    assert caplog.records


@pytest.mark.parametrize("wrong", [5, coroutine_handlers(None)["function"]], ids=["not callable", "coroutine function"])
def test_what_can_not_be_a_middleware_is_refused_with_a_remedy(bus, wrong):
    with pytest.raises(TypeError, match="middleware"):
        bus.add_middleware(wrong)


def test_middleware_added_and_removed_by_a_handler_counts_from_the_next_event(bus):
    seen, removers = [], []

    def handler(event):
        seen.append((event.seq, event.source))
        if event.seq == 2:
            removers.append(bus.add_middleware(lambda event: event.replace(source="altered")))
        if event.seq == 4:
            removers.pop()()

    gate = Gate()
    bus.subscribe("stop", gate)
    bus.subscribe(PROGRESS, handler)
    bus.announce("stop")
    gate.wait_entered()
    play = Play(bus).steps(6)
    gate.opened.set()
    assert play.flush()
    assert seen == [(1, "wf"), (2, "wf"), (3, "altered"), (4, "altered"), (5, "wf"), (6, "wf")]
    newest = [(event.seq, event.source) for event in bus.get_history() if event.seq]
    assert newest == seen[::-1]


# ---- signals (trap 4) -----------------------------------------------------------------------------------------------


def test_trap_4_a_receiver_gets_the_execution_as_sender_and_the_event_beside_it(bus):
    heard = []

    def receiver(sender, event):
        heard.append((sender, event.seq))

    def only_two(sender, event):
        heard.append(("only", sender, event.seq))

    signal = bus.get_signal(STARTED)
    assert isinstance(signal, blinker.Signal)
    assert signal is bus.get_signal("TASK_STARTED")
    signal.connect(receiver)
    signal.connect(only_two, sender="e2")
    assert Play(bus, "e1").add(STARTED, 0).flush()
    assert Play(bus, "e2").add(STARTED, 0).flush()
    bus.publish(STARTED, source="me")
    bus.publish(STARTED)
    assert {*heard[1:3]} == {("e2", 1), ("only", "e2", 1)}  # in no order
    assert [*heard[:1], *heard[3:]] == [("e1", 1), ("me", None), (None, None)]


def test_two_buses_share_no_signal(bus):
    other, heard = EventBus(), Ear()
    other.subscribe("x", heard)
    assert bus.get_signal("x") is not other.get_signal("x")
    assert "x" not in blinker.signal.__self__
    bus.publish("x")
    assert heard.events == []
    other.close()


def test_direct_receivers_are_isolated_from_each_other(bus, caplog):
    heard, errors = [], Ear()

    def raises(sender, event):
        raise ValueError("boom")

    def receiver(sender, event):
        heard.append(event.data)

    signal = bus.get_signal("x")
    signal.connect(raises)
    signal.connect(receiver)
    bus.subscribe(EventType.HANDLER_ERROR, errors)
    bus.publish("x", 1)
    assert heard == [1]
    assert "raises" in errors.events[0].data["handler"]


def test_a_direct_receiver_may_be_a_coroutine_function_or_die(bus):
    ear = Ear()

    async def receiver(sender, event):
        ear(event)

    def dies(sender, event):
        ear(event)

    signal = bus.get_signal("x")
    signal.connect(receiver)
    signal.connect(dies)
    bus.publish("x", 1)
    ear.wait(2)
    del dies
    gc.collect()
    bus.publish("x", 2)
    ear.wait(3)
    bus.close()
    assert sorted(ear.data) == [1, 1, 2]


def test_connecting_and_disconnecting_counts_at_once(bus):
    heard = []

    def receiver(sender, event):
        heard.append(event.data)

    signal = bus.get_signal("x")
    bus.publish("x", 1)
    with signal.connected_to(receiver):
        bus.publish("x", 2)
    bus.publish("x", 3)
    signal.connect(receiver)
    bus.publish("x", 4)
    signal.disconnect(receiver)
    bus.publish("x", 5)
    assert heard == [2, 4]


def test_subscriptions_are_receivers_of_the_signal(bus):
    ear = Ear()
    bus.subscribe("x", ear)
    signal = bus.get_signal("x")
    assert len(signal.receivers) == 1
    event = Event("x")
    signal.send("anybody", event=event)
    assert ear.events == [event]


def test_a_muted_signal_is_silent(bus):
    ear, heard = Ear(), []

    def receiver(sender, event):
        heard.append(event.data)

    bus.subscribe("x", ear)
    bus.get_signal("x").connect(receiver)
    bus.publish("x", 1)
    with bus.get_signal("x").muted():
        bus.publish("x", 2)
    bus.publish("x", 3)
    assert ear.data == heard == [1, 3]


def test_the_signal_of_any_hears_everything(bus):
    heard = []

    def receiver(sender, event):
        heard.append(event.type)

    bus.get_signal(ANY).connect(receiver)
    assert Play(bus).add(STARTED, 0).flush()
    bus.publish("x")
    assert heard == [STARTED, "x"]


# ---- flush ----------------------------------------------------------------------------------------------------------


def test_flush_returns_at_once_when_nobody_listens(bus):
    play = Play(bus).steps(5)
    assert play.flush(0.0)
    assert bus_threads("nerv-delivery") == [] or not bus.active


def test_flush_waits_for_every_record_there_is_at_the_call(bus):
    seen = []
    bus.subscribe(ANY, lambda event: seen.append(event.seq))
    play = Play(bus)
    for n in range(50):
        play.steps(10)
        assert play.flush()
        assert len(seen) == 10 * (n + 1)


def test_flush_warns_once_about_a_stuck_handler_and_names_it(bus):
    gate = Gate()

    def the_stuck_one(event):
        gate(event)

    bus.subscribe(PROGRESS, the_stuck_one)
    play = Play(bus).steps(2)
    gate.wait_entered()
    with pytest.warns(RuntimeWarning, match="the_stuck_one") as caught:
        assert not play.flush(0.01)
    assert len(caught) == 1
    gate.opened.set()
    assert play.flush()


def test_patience_may_be_endless(bus):
    ear = Ear()
    bus.subscribe(PROGRESS, ear)
    assert Play(bus).steps(3).flush(math.inf)
    bus.close(math.inf)
    assert len(ear.events) == 3


def test_flush_does_not_give_up_on_handlers_that_are_slow_but_moving(bus):
    tick = threading.Event()

    def slow(event):
        tick.wait(0.03)

    bus.subscribe(PROGRESS, slow)
    assert Play(bus).steps(15).flush(0.2)


def test_flush_waits_though_a_handler_of_another_log_is_before_it(bus, stopped):
    ear = Ear()
    bus.subscribe(PROGRESS, ear)
    play = Play(bus).steps(3)
    opener = threading.Timer(0.02, stopped.opened.set)
    opener.start()
    assert play.flush()
    assert ear.seqs == [1, 2, 3]
    opener.join()


def test_flush_names_a_stuck_direct_receiver_and_a_stuck_middleware(bus):
    gate, second = Gate(), Gate()

    def direct(sender, event):
        gate(event)

    def a_middleware(event):
        second(event)
        return event

    bus.get_signal(PROGRESS).connect(direct)
    play = Play(bus).steps(1)
    gate.wait_entered()
    with pytest.warns(RuntimeWarning, match="direct"):
        assert not play.flush(0.01)
    bus.add_middleware(a_middleware)
    gate.opened.set()
    play.steps(1)
    second.wait_entered()
    with pytest.warns(RuntimeWarning, match="a_middleware"):
        assert not play.flush(0.01)
    second.opened.set()
    assert play.flush()


def test_flush_of_a_log_that_nobody_attached_is_true(bus):
    bus.subscribe(ANY, print)
    log = EventLog("x", "wf", [], {}, 0.0)
    log.records.append((0, -1, 0.0, 0, None))
    bus.nudge(log)
    assert bus.flush(log, 0.0)


# ---- threads and close ----------------------------------------------------------------------------------------------


def test_the_delivery_thread_is_a_daemon_that_starts_when_there_is_something_to_deliver(bus):
    before = set(bus_threads())
    thread = []
    bus.subscribe("x", lambda event: thread.append(threading.current_thread()))
    assert set(bus_threads()) == before
    bus.publish("x")
    assert thread[0].name == "nerv-delivery"
    assert thread[0].daemon


def test_an_idle_bus_does_not_wake_up(bus):
    ear = Ear()
    bus.subscribe(ANY, ear)
    bus.publish("x")
    waits = []
    real = threading.Condition.wait

    def wait(condition, timeout=None):
        waits.append(timeout)
        return real(condition, timeout)

    with mock.patch.object(threading.Condition, "wait", wait):
        bus.publish("x")
        bus.publish("x")
    assert set(waits) <= {None}  # neither the delivery thread nor the publisher ever waits with a timeout


def test_close_delivers_what_is_queued_and_ends_the_threads(bus):
    ear, coroutine_ear, gate = Ear(), Ear(), Gate()
    bus.subscribe("stop", gate)
    bus.subscribe(ANY, ear)
    bus.subscribe(ANY, coroutine_ear.hear_async, weak=False)
    before = set(bus_threads("nerv-handlers"))
    bus.announce("stop")
    gate.wait_entered()
    Play(bus).steps(100)
    bus.announce("last")
    gate.opened.set()
    bus.close()
    assert len(ear.events) == len(coroutine_ear.events) == 102
    assert set(bus_threads("nerv-handlers")) == before
    assert not bus_threads("nerv-delivery")


def test_close_is_idempotent_and_the_bus_can_be_used_again(bus):
    ear = Ear()
    bus.subscribe(ANY, ear)
    for n in range(5):
        bus.close()
        bus.close()
        assert not bus_threads("nerv-delivery")
        bus.publish("x", n)
        (thread,) = bus_threads("nerv-delivery")
        assert Play(bus, f"e{n}").steps(1).flush()
        assert bus_threads("nerv-delivery") == [thread]  # it stays until the next close
    assert len(ear.events) == 10


def test_close_of_a_bus_that_was_never_used_does_nothing():
    EventBus().close()


def test_close_from_a_handler_does_not_deadlock(bus):
    ear = Ear()

    def handler(event):
        bus.close()
        ear(event)

    bus.subscribe("x", handler)
    bus.subscribe("y", ear)
    bus.publish("x")
    bus.announce("y")
    ear.wait(2)
    bus.close()
    assert not bus_threads("nerv-delivery")


def test_close_from_a_coroutine_handler_does_not_deadlock(bus):
    ear = Ear()

    async def handler(event):
        bus.close()
        ear(event)

    bus.subscribe("x", handler)
    bus.publish("x")
    ear.wait(1)
    bus.close()
    assert not bus_threads("nerv-delivery")
    assert not bus_threads("nerv-handlers")


def test_close_waits_for_threads_that_are_ending_already(bus):
    left, opened, ear = [], threading.Event(), Ear()

    async def linger():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.to_thread(ok, opened)

    async def handler(event):
        left.append(asyncio.create_task(linger()))
        await asyncio.sleep(0)
        bus.close()

    bus.subscribe("x", handler)
    bus.publish("x")
    (thread,) = bus_threads("nerv-delivery")
    while bus._delivery._thread is thread:  # until it has nothing to do but to wait for the other
        threading.Event().wait(0.001)
    opener = threading.Timer(0.05, opened.set)
    opener.start()
    bus.close()
    assert not bus_threads("nerv-")
    bus.subscribe("y", ear)
    bus.publish("y")
    assert len(ear.events) == 1
    opener.join()


def test_close_gives_up_on_a_stuck_handler_after_its_patience(bus, stopped, caplog):
    ear = Ear()
    bus.subscribe(ANY, ear)
    play = Play(bus).steps(5)
    bus.announce("never")
    bus.close(patience=0.01)
    assert "Gate" in caplog.text
    stopped.opened.set()
    bus.publish("again")  # the same thread goes on with what came after
    play.steps(1)
    assert play.flush()
    assert ear.types == ["again", "TASK_PROGRESS"]
    assert ear.seqs == [None, 6]


def test_a_publisher_is_released_when_the_bus_closes_over_a_stuck_handler(bus, stopped):
    bus.subscribe("x", print, task="nobody")
    released = []
    publisher = threading.Thread(target=lambda: released.append(bus.publish("x")), daemon=True)
    flusher = threading.Thread(target=lambda: released.append(play.flush()), daemon=True)
    play = Play(bus).steps(3)
    publisher.start()
    flusher.start()
    while bus._delivery._waiting < 2:
        threading.Event().wait(0.001)
    bus.close(patience=0.01)
    publisher.join(PATIENCE / 4)  # long before the handler loses its own patience
    flusher.join(PATIENCE / 4)
    assert len(released) == 2


@pytest.mark.parametrize("altered", [False, True], ids=["plain", "middleware"])
def test_what_close_gave_up_on_in_the_middle_of_a_log_is_not_delivered_later(bus, altered):
    gate, ear = Gate(), Ear()
    bus.subscribe(STARTED, gate)
    bus.subscribe(PROGRESS, ear)
    if altered:
        bus.add_middleware(lambda event: event)
    play, other = Play(bus).add(STARTED, 0), Play(bus, "e2")
    gate.wait_entered()
    play.steps(5)
    other.steps(5)
    bus.detach(other.log)
    bus.close(patience=0.01)
    assert list(bus._tracks.values())[-1].log() is play.log  # the other one is forgotten
    gate.opened.set()
    play.steps(1)
    assert play.flush()
    assert ear.seqs == [7]
    if altered:
        assert [event.seq for event in bus.get_history() if event.execution_id == "e1"][:1] == [7]
        assert len(bus.get_history(PROGRESS)) == 1


def test_close_gives_up_on_a_stuck_coroutine_and_cancels_it(bus, caplog):
    entered, cancelled = threading.Event(), threading.Event()

    async def stuck(event):
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    bus.subscribe("x", stuck)
    bus.publish("x")
    bus.publish("x")
    ok(entered)
    bus.close(patience=0.01)
    ok(cancelled)
    assert "stuck" in caplog.text
    assert not bus_threads("nerv-")
    again = Ear()
    bus.subscribe("y", again.hear_async, weak=False)
    bus.publish("y")
    again.wait(1)


def test_publishing_while_others_close_never_hangs(bus):
    ear = Ear()
    bus.subscribe("x", ear)

    def publisher():
        for n in range(50):
            bus.publish("x", n)

    def closer():
        for _ in range(20):
            bus.close()

    in_threads(publisher, publisher, publisher, closer, closer)
    assert len(ear.events) == 150


def test_a_dropped_bus_ends_its_threads():
    bus, ear = EventBus(), Ear()
    bus.subscribe(ANY, lambda event, ring=bus: ear(event))

    async def hear(event, ring=bus):
        ear(event)

    bus.subscribe(ANY, hear)
    play = Play(bus).steps(3)
    assert play.flush()
    ear.wait(6)
    threads, gone = bus_threads("nerv-"), weakref.ref(bus)
    assert threads
    del bus, play, hear
    for thread in threads:
        gc.collect()
        thread.join(0.2)
    for _ in range(100):
        gc.collect()
        if gone() is None:
            break
    assert gone() is None
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_thread_that_can_not_be_started_hurts_no_run(bus, caplog):
    ear = Ear()
    bus.subscribe(PROGRESS, ear)
    play = Play(bus)
    with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread")):
        play.steps(2)
        bus.publish("x")  # can't be delivered now, but doesn't hang
        with pytest.warns(RuntimeWarning, match="can't be started"):
            assert not play.flush()
    assert "can't start new thread" in caplog.text
    assert play.flush()
    assert ear.seqs == [1, 2]


# ---- history --------------------------------------------------------------------------------------------------------


def ids(events):
    return [event.id for event in events]


def test_history_needs_no_subscriber(bus):
    play = Play(bus).add(STARTED, 0).complete(0, 5).add(STARTED, 1)
    bus.publish("mine", 1)
    newest, *others = bus.get_history()
    assert newest.data == 1
    assert ids(others) == ["e1:3", "e1:2", "e1:1"]
    assert others[1].data["result"] == 5
    assert not bus.active
    assert play.log.dirty is False


def test_history_is_merged_by_time_newest_first(bus):
    one, two = Play(bus, "e1"), Play(bus, "e2", epoch=EPOCH + 0.5)
    one.steps(3)
    two.steps(3)
    assert ids(bus.get_history()) == ["e2:3", "e1:3", "e2:2", "e1:2", "e2:1", "e1:1"]
    bus.detach(one.log)
    assert ids(bus.get_history()) == ["e2:3", "e1:3", "e2:2", "e1:2", "e2:1", "e1:1"]
    assert ids(bus.get_history(limit=2)) == ["e2:3", "e1:3"]


def test_events_of_one_moment_keep_their_order(bus):
    play = Play(bus)
    for _ in range(5):
        play.add(STARTED, 0, at=1.0)
    expected = ["e1:5", "e1:4", "e1:3", "e1:2", "e1:1"]
    assert ids(bus.get_history()) == expected
    bus.detach(play.log)
    assert ids(bus.get_history()) == expected


def test_history_by_type(bus):
    Play(bus).add(STARTED, 0).complete(0, 1).add(STARTED, 1)
    bus.publish("mine")
    assert ids(bus.get_history(STARTED)) == ["e1:3", "e1:1"]
    assert ids(bus.get_history("TASK_STARTED", limit=1)) == ["e1:3"]
    assert [event.type for event in bus.get_history("mine")] == ["mine"]
    assert len(bus.get_history(ANY)) == 4
    assert bus.get_history("nothing") == []
    with pytest.raises(TypeError, match="EventType"):
        bus.get_history(5)


@pytest.mark.parametrize("listening", [False, True], ids=["idle", "active"])
def test_history_holds_no_more_than_its_limit(listening):
    bus = EventBus(history_limit=10)
    if listening:
        bus.subscribe(ANY, lambda event: None)
    plays = [Play(bus, f"e{n}").steps(8) for n in range(3)]
    for n in range(7):
        bus.publish("mine", n)
    if listening:
        assert all(play.flush() for play in plays)
    assert len(bus.get_history(limit=100)) == 10
    for play in plays:
        bus.detach(play.log)
    assert len(bus.get_history(limit=100)) == 10
    assert [event.data for event in bus.get_history(limit=100)[:7]] == [6, 5, 4, 3, 2, 1, 0]
    assert len(bus._history._entries) + bus._history._size <= 40
    bus.close()


@pytest.mark.parametrize("seed", range(20))
def test_the_history_is_the_newest_whatever_is_forgotten_in_which_order(seed):
    """Against a model: many small logs, some with equal times, forgotten in any order."""
    rng, bus, model = random.Random(seed), EventBus(history_limit=10), []
    plays = []
    for n in range(20):
        play = Play(bus, f"e{n:02}")
        at = float(rng.randrange(50))
        for seq in range(1, rng.randrange(12)):
            at += rng.choice([0, 1, 3])
            play.add(PROGRESS, 0, at=at)
            model.append((EPOCH + at, seq, f"e{n:02}:{seq}"))
        plays.append(play)
    rng.shuffle(plays)
    newest = sorted(model, reverse=True)[:10]
    for play in plays:
        bus.detach(play.log)
        shown = [(event.timestamp, event.seq, event.id) for event in bus.get_history()]
        assert [when for when, _, _ in shown] == [when for when, _, _ in newest]
        assert shown == sorted(shown, key=lambda one: one[:2], reverse=True)
        assert set(shown) <= set(model)
        assert len(set(shown)) == 10
        assert bus._history._size <= 20


def test_forgetting_many_executions_of_one_moment_keeps_no_more_than_the_limit():
    bus = EventBus(history_limit=10)
    for n in range(100):
        play = Play(bus, f"e{n}")
        for _ in range(3):
            play.add(PROGRESS, 0, at=1.0)
        bus.detach(play.log)
        assert bus._history._size <= 20
        assert len(bus._history._tails) <= 20
    assert len(set(ids(bus.get_history()))) == 10


def test_an_execution_without_tasks_can_be_forgotten(bus):
    play = Play(bus, ids=()).add(EventType.WORKFLOW_STARTED).add(EventType.WORKFLOW_COMPLETED)
    bus.detach(play.log)
    assert [(event.type, event.task_id) for event in bus.get_history()] == [
        (EventType.WORKFLOW_COMPLETED, None),
        (EventType.WORKFLOW_STARTED, None),
    ]


def test_what_middleware_let_through_is_shown_by_time(bus):
    early, late = Play(bus, "early"), Play(bus, "late", epoch=EPOCH + 100)
    bus.add_middleware(lambda event: event)
    assert late.steps(2).flush()
    assert early.steps(2).flush()
    assert ids(bus.get_history()) == ["late:2", "late:1", "early:2", "early:1"]


def test_history_may_be_switched_off():
    bus = EventBus(history_limit=0)
    play = Play(bus).steps(3)
    bus.publish("x")
    assert bus.get_history() == []
    bus.detach(play.log)
    assert bus.get_history() == []
    assert not bus._history._tails


@pytest.mark.parametrize("mode", ["idle", "active", "middleware"])
@pytest.mark.parametrize("end", ["dropped", "detached"])
def test_history_shows_results_while_the_execution_is_there_and_keeps_none_beyond(bus, mode, end):
    if mode == "middleware":
        bus.add_middleware(lambda event: event.replace(source="altered"))
    if mode == "active":
        bus.subscribe(ANY, lambda event: None)
    play = Play(bus).add(STARTED, 0)
    play.complete(0, Big())
    gone = weakref.ref(play.values["a"])
    assert play.flush()
    bus.publish("x")
    done, started = (event for event in bus.get_history() if event.execution_id)
    assert isinstance(done.data["result"], Big)
    assert done.source == ("altered" if mode == "middleware" else "wf")
    del done, started
    if end == "detached":
        bus.detach(play.log)
        assert [dict(event.data) for event in bus.get_history() if event.seq] == [{}, {}]  # though the log lives
    del play
    gc.collect()
    assert gone() is None
    assert ids(event for event in bus.get_history() if event.seq) == ["e1:2", "e1:1"]
    assert [dict(event.data) for event in bus.get_history() if event.seq] == [{}, {}]
    assert not bus._tracks


def test_a_result_that_middleware_put_there_is_shown_as_it_is(bus):
    bus.add_middleware(lambda event: event.replace(data={"result": "***"}))
    play = Play(bus).complete(0, "secret")
    assert play.flush()
    assert bus.get_history()[0].data == {"result": "***"}
    bus.detach(play.log)
    assert bus.get_history()[0].data == {"result": "***"}


def test_a_handler_error_in_the_history_keeps_no_result_alive(bus, monkeypatch):
    monkeypatch.setattr(logging.getLogger("nerv"), "propagate", False)  # pytest keeps what is logged, traceback and all
    bus.subscribe(DONE, boom)
    play = Play(bus).complete(0, Big())
    gone = weakref.ref(play.values["a"])
    assert play.flush()
    bus.publish("x")
    (shown,) = bus.get_history(EventType.HANDLER_ERROR)
    assert isinstance(shown.data["error"], ValueError)
    assert str(shown.data["error"]) == "boom"
    assert shown.data["error"].__traceback__ is None
    bus.detach(play.log)
    del play
    gc.collect()
    assert gone() is None


def test_the_handler_error_itself_has_its_traceback(bus):
    errors = Ear()
    bus.subscribe("x", boom)
    bus.subscribe(EventType.HANDLER_ERROR, errors)
    bus.publish("x")
    assert "boom" in [frame.name for frame in traceback.extract_tb(errors.events[0].data["error"].__traceback__)]


def failed_with(result, error_type=ValueError):
    """An exception whose traceback holds a result, as a task's does."""

    def task(value):
        raise error_type("no")

    try:
        task(result)
    except Exception as error:
        return error


class PickyError(Exception):
    """Can't be copied."""

    def __init__(self, text, *, needed=None):
        super().__init__(text)

    def __reduce__(self):
        raise RuntimeError("no copies")


@pytest.mark.parametrize("error_type", [ValueError, PickyError], ids=lambda one: one.__name__)
def test_an_error_in_the_settled_history_keeps_no_result_alive(bus, error_type):
    result = Big()
    gone = weakref.ref(result)
    error = failed_with(result, error_type)
    play = Play(bus).add(EventType.TASK_FAILED, 0, {"error": error})
    assert bus.get_history()[0].data["error"] is error
    bus.detach(play.log)
    del play, result, error
    gc.collect()
    assert gone() is None
    assert "no" in str(bus.get_history()[0].data["error"])


def test_the_bus_does_not_keep_a_log_alive(bus):
    bus.subscribe(ANY, lambda event: None)
    play = Play(bus).steps(5)
    gone = weakref.ref(play.log)
    assert play.flush()
    bus.publish("x")
    del play
    gc.collect()
    assert gone() is None
    assert len(bus.get_history()) == 6


def test_an_undelivered_log_lives_until_it_is_delivered(bus, stopped):
    ear = Ear()
    bus.subscribe(DONE, ear)
    play = Play(bus)
    play.complete(0, "value")
    bus.detach(play.log)
    del play
    gc.collect()
    stopped.opened.set()
    assert ear.wait(1).events[0].data == {"result": "value"}
    bus.publish("end")
    assert not bus._tracks


@pytest.mark.parametrize("altered", [False, True], ids=["plain", "middleware"])
def test_what_is_detached_undelivered_is_delivered_and_then_forgotten(bus, altered):
    ear, gate, play = Ear(), Gate(), Play(bus)
    bus.subscribe(ANY, ear)
    play.complete(0, Big())  # delivered, and only in the log
    assert play.flush()
    if altered:
        bus.add_middleware(lambda event: event.replace(source="altered"))
    bus.subscribe("stop", gate)
    bus.announce("stop")
    gate.wait_entered()
    play.steps(2)
    bus.detach(play.log)
    bus.detach(play.log)
    before = [(event.seq, event.source) for event in bus.get_history() if event.seq]
    assert before == ([(1, "wf")] if altered else [(3, "wf"), (2, "wf"), (1, "wf")])
    assert bus.get_history(DONE)[0].data == {}
    gate.opened.set()
    assert play.flush()
    bus.publish("end")
    assert [seq for seq in ear.seqs if seq] == [1, 2, 3]
    source = "altered" if altered else "wf"
    after = [(event.seq, event.source) for event in bus.get_history() if event.seq]
    assert after == [(3, source), (2, source), (1, "wf")]
    assert not bus._tracks  # though the log is still there


def test_a_dead_log_is_forgotten_with_the_next_event(bus):
    bus.subscribe(ANY, lambda event: None)
    play = Play(bus).steps(1)
    assert play.flush()
    bus.publish("x")
    del play
    gc.collect()
    bus.publish("x")
    assert not bus._tracks


def test_detaching_twice_or_a_stranger_does_nothing(bus):
    play = Play(bus).steps(2)
    bus.detach(play.log)
    bus.detach(play.log)
    bus.detach(EventLog("x", "wf", [], {}, 0.0))
    assert ids(bus.get_history()) == ["e1:2", "e1:1"]


def test_attaching_twice_changes_nothing(bus):
    ear = Ear()
    bus.subscribe(ANY, ear)
    play = Play(bus).steps(2)
    assert play.flush()
    gate = Gate()
    with bus.subscribe("stop", gate):
        bus.announce("stop")
        gate.wait_entered()
        play.steps(1)
        bus.attach(play.log)
        gate.opened.set()
    assert play.flush()
    assert ear.seqs[:2] + ear.seqs[-1:] == [1, 2, 3]
    assert len(bus.get_history(PROGRESS)) == 3


def test_two_logs_of_one_execution_are_heard_each(bus):
    """A recovered execution may have a new log under its old id in the same process."""
    ear = Ear()
    bus.subscribe(ANY, ear, execution="e1")
    first, second = Play(bus), Play(bus)
    first.steps(2)
    assert first.flush()
    second.steps(1)
    assert second.flush()
    assert ear.seqs == [1, 2, 1]


def test_history_with_middleware_is_what_was_shown_and_before_it_what_is_in_the_logs(bus):
    play = Play(bus).steps(1).complete(0, "value")
    assert play.flush()
    remove = bus.add_middleware(lambda event: None if event.seq == 4 else event.replace(source="altered"))
    play.steps(3)
    assert play.flush()
    remove()
    play.steps(1)
    assert play.flush()
    shown = [(event.seq, event.source) for event in bus.get_history()]
    assert shown == [(6, "wf"), (5, "altered"), (3, "altered"), (2, "wf"), (1, "wf")]
    assert bus.get_history(DONE)[0].data == {"result": "value"}
    bus.detach(play.log)
    assert bus.get_history(DONE)[0].data == {}
    assert [(event.seq, event.source) for event in bus.get_history()] == shown


def test_events_of_one_moment_keep_their_order_though_some_went_through_middleware(bus):
    play = Play(bus)
    for step in range(8):
        if step % 2:
            remove = bus.add_middleware(lambda event: event)
        play.add(PROGRESS, 0, at=1.0)
        assert play.flush()
        if step % 2:
            remove()
    assert [event.seq for event in bus.get_history()] == [8, 7, 6, 5, 4, 3, 2, 1]
    bus.detach(play.log)
    assert [event.seq for event in bus.get_history()] == [8, 7, 6, 5, 4, 3, 2, 1]


def test_history_with_middleware_does_not_show_what_has_not_gone_through_it(bus, stopped):
    bus.add_middleware(lambda event: event)
    play = Play(bus).steps(2)
    assert bus.get_history(PROGRESS) == []
    stopped.opened.set()
    assert play.flush()
    assert len(bus.get_history(PROGRESS)) == 2


def test_history_can_be_read_while_everything_moves(bus):
    bus.subscribe(ANY, lambda event: None)
    end = threading.Event()

    def reader():
        while not end.is_set():
            events = bus.get_history(limit=1000)
            stamps = [event.timestamp for event in events]
            assert stamps == sorted(stamps, reverse=True)

    def writer(n):
        for k in range(30):
            play = Play(bus, f"w{n}-{k}").steps(20)
            bus.publish("x")
            play.flush()
            bus.detach(play.log)

    def write_all():
        in_threads(*(functools.partial(writer, n) for n in range(3)))
        end.set()

    in_threads(reader, write_all)
    assert not bus._tracks


# ---- the whole against a model --------------------------------------------------------------------------------------


class Model:
    """Who must hear what: a subscription hears what happens while it stands, and stands when it is delivered."""

    KINDS = (ANY, STARTED, "TASK_PROGRESS", "x")

    def __init__(self):
        self.bus = EventBus()
        self.plays = [Play(self.bus, "e1"), Play(self.bus, "e2")]
        self.subscriptions = []  # (subscription or None when cancelled, filters, ear, expected ids)
        self.pending = []  # what waits behind the gate: (event id, those who stood when it happened)
        self.gate = None

    def subscribe(self, kind, execution, task):
        ear = Ear()
        subscription = self.bus.subscribe(self.KINDS[kind], ear, execution=execution, task=task)
        self.subscriptions.append([subscription, (self.KINDS[kind], execution, task), ear, []])

    def unsubscribe(self, n):
        if self.subscriptions:
            one = self.subscriptions[n % len(self.subscriptions)]
            if one[0] is not None:
                one[0].cancel()
                one[0] = None

    def append(self, n, event_type, task):
        play = self.plays[n]
        play.add(event_type, task)
        self.happened(f"e{n + 1}:{len(play.log)}", event_type, f"e{n + 1}", None if task < 0 else play.log.ids[task])
        if self.gate is None:
            assert play.flush()

    def publish(self, event_type, execution):
        if self.gate is None and execution is None:
            event_id = self.bus.publish(event_type)
        else:
            self.bus.announce(event_type, execution_id=execution)
            event_id = f"bus:{self.bus._posted}"
            if self.gate is None:
                self.bus.publish("sync")  # delivered behind it
        self.happened(event_id, event_type, execution, None)

    def happened(self, event_id, event_type, execution, task):
        audience = [
            one
            for one in self.subscriptions
            if one[0] is not None
            and one[1][0] in (ANY, event_type)
            and one[1][1] in (None, execution)
            and one[1][2] in (None, task)
        ]
        self.pending.append((event_id, audience))
        if self.gate is None:
            self.delivered()

    def delivered(self):
        for event_id, audience in self.pending:
            for one in audience:
                if one[0] is not None:
                    one[3].append(event_id)
        self.pending.clear()

    def hold(self):
        if self.gate is None:
            self.gate = Gate()
            with self.bus.subscribe("hold", self.gate):
                self.bus.announce("hold")
                self.gate.wait_entered()

    def release(self):
        if self.gate is not None:
            self.delivered()
            self.gate.opened.set()
            self.gate = None
            for play in self.plays:
                assert play.flush()

    def check(self):
        self.release()
        self.bus.publish("sync")
        for _, _, ear, expected in self.subscriptions:
            heard = [event.id for event in ear.events if event.type not in ("hold", "sync")]
            assert sorted(heard) == sorted(expected)
            for source in ("e1:", "e2:", "bus:"):  # in order, each log and what is outside of them
                assert [one for one in heard if one.startswith(source)] == [
                    one for one in expected if one.startswith(source)
                ]


def steps():
    executions = st.sampled_from([None, "e1", "e2"])
    types = st.sampled_from([STARTED, PROGRESS])
    appends = st.tuples(st.just("append"), st.integers(0, 1), types, st.integers(-1, 1))
    return st.lists(
        st.one_of(
            st.tuples(st.just("subscribe"), st.integers(0, 3), executions, st.sampled_from([None, "a", "b"])),
            st.tuples(st.just("unsubscribe"), st.integers(0, 9)),
            st.tuples(st.just("publish"), st.sampled_from(["x", "y", PROGRESS]), executions),
            appends,
            appends,
            st.tuples(st.just("hold")),
            st.tuples(st.just("release")),
        ),
        max_size=50,
    )


@settings(max_examples=300)
@given(steps())
def test_every_subscription_hears_all_of_its_events_in_order_and_nothing_else(script):
    model = Model()
    try:
        for name, *arguments in script:
            getattr(model, name)(*arguments)
        model.check()
    finally:
        model.release()
        model.bus.close()
