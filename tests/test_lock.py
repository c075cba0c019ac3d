"""User code never runs under the engine's lock, whatever it is called for."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from nerv import (
    ANY,
    Buffer,
    Cache,
    EventType,
    Expand,
    Flow,
    Loop,
    Manual,
    MemoryJournal,
    Output,
    Page,
    Paginate,
    RetryPolicy,
    Router,
    Sequence,
    TaskDef,
    Wait,
    Workflow,
    WorkflowManager,
)
from tests.handshake import PATIENCE, ended


class Door:
    """Sees, at each call of a user's function, that nobody who waits for this call holds the engine's lock."""

    def __init__(self) -> None:
        self.lock: Any = None
        self.called: set[str] = set()
        self.shut: list[str] = []
        self._mine = threading.Lock()

    def look(self, name: str) -> None:
        """Try the lock; who holds it for good is the caller."""
        free = self.lock.acquire(timeout=PATIENCE)
        if free:
            self.lock.release()
        with self._mine:
            self.called.add(name)
            if not free:
                self.shut.append(name)

    def free(self, name: str, fn: Any) -> Any:
        """The function, which looks first."""

        def looking(*values: Any, **named: Any) -> Any:
            self.look(name)
            return fn(*values, **named)

        return looking


@pytest.fixture
def door():
    return Door()


class Looked:
    """A result that looks when it is pickled for the journal."""

    door: Door | None = None

    def __reduce__(self) -> Any:
        if self.door is not None:
            self.door.look("pickling")
        return Looked, ()


def fail(*_: Any) -> Any:
    raise OSError


def steering(door: Door) -> Workflow:
    """A workflow in which every kind of function is called that a task or node may have; it fails in the end."""
    free = door.free

    async def coroutine() -> None:
        door.look("coroutine")

    policy = RetryPolicy(2, 0.001, retry_on=free("retry_on", lambda error: True))
    return Workflow(
        "everything",
        [
            TaskDef("thread", free("thread", Looked), compensate=free("compensate", lambda _: None)),
            TaskDef("inline", free("inline", int), pool="inline"),
            TaskDef("async", coroutine),
            TaskDef("retried", free("retried", fail), retry_policy=policy, fallback=free("fallback", lambda _: 0)),
            TaskDef("cached", free("cached", lambda x: x), args=(1,), cache=Cache(key=free("key", lambda x: x))),
            TaskDef("grows", free("grows", lambda: Expand([TaskDef("in", free("added", int))]))),
            TaskDef("waits", lambda: Wait(seconds=0.001, then=free("then", lambda _: 1))),
            Buffer("fan", range(3), free("item", lambda x: x)),
            Loop("loop", free("body", lambda x: x + 1), free("until", lambda x: x > 1), 0),
            Sequence("steps", [free("step", lambda x: x)], 1),
            Paginate("pages", free("page", lambda _: Page([1], None))),
            Router("route", 3, [(free("predicate", lambda x: x > 2), "taken")]),
            TaskDef("taken", free("taken", int), dependencies=["route"]),
            TaskDef(
                "fails",
                free("fails", fail),
                dependencies=["thread", "inline", "async", "retried", "cached", "grows", "waits", "fan", "loop"],
                args=(Output("taken"), Output("steps"), Output("pages")),
            ),
            TaskDef("cleanup", free("cleanup", int), dependencies=["fails"], run_when="all_finished"),
        ],
    )


KINDS = {
    "thread", "compensate", "inline", "coroutine", "retried", "retry_on", "fallback", "cached", "key", "grows",
    "added", "then", "item", "body", "until", "step", "page", "predicate", "taken", "fails", "cleanup",
}  # fmt: skip

HEARD = {"handler", "handler of one", "receiver", "coroutine handler", "on_event", "middleware", "projection", "delta"}
HOOKS = {"on_intent", "on_dispatched", "on_acknowledged", "on_lane_complete"}


def listen(door: Door, manager: WorkflowManager) -> None:
    """Everything that may be told or asked of an execution."""
    bus, free = manager.event_bus, door.free

    async def hear(_: Any) -> None:
        door.look("coroutine handler")

    def receive(_: Any, **__: Any) -> None:
        door.look("receiver")

    bus.subscribe(ANY, free("handler", lambda _: None))
    bus.subscribe(EventType.TASK_STARTED, free("handler of one", lambda _: None), task="thread")
    bus.subscribe(EventType.TASK_COMPLETED, hear)
    bus.get_signal(EventType.TASK_COMPLETED).connect(receive, weak=False)
    bus.add_middleware(free("middleware", lambda event: event))
    manager.state_projector.add_projection("mine", free("projection", lambda state: len(state["tasks"])))


def test_user_code_never_runs_under_the_engines_lock(door):
    hook = SimpleNamespace(**{name: door.free(name, lambda *_, **__: 1) for name in (*HOOKS, "on_failed")})
    with WorkflowManager(workers=4, dispatch_hooks=[hook]) as manager:
        door.lock = manager.engine.effects.lock
        listen(door, manager)
        execution = manager.start(steering(door), on_event=door.free("on_event", lambda _: None))
        ended(execution)
        assert execution.project("mine") > 15
        manager.state_projector.update_state(door.free("delta", lambda state: state))
    assert execution.failures.keys() == {"fails"}
    assert door.shut == []
    assert door.called >= KINDS | HEARD | HOOKS


@pytest.mark.parametrize("durability", ["strict", "group", "off"])
def test_what_is_kept_is_not_pickled_under_it(door, durability, monkeypatch):
    monkeypatch.setattr(Looked, "door", door)
    tasks = [TaskDef(str(number), Looked, dependencies=[str(number - 1)] if number else []) for number in range(9)]
    with WorkflowManager(workers=2, journal=MemoryJournal(), durability=durability) as manager:
        door.lock = manager.engine.effects.lock
        ended(manager.start(Workflow("kept", tasks), {"param": Looked()}))
    assert door.shut == []
    assert door.called == {"pickling"}


def test_functions_of_a_fed_flow_dont_either(door):
    flow = Flow("fed").triggered_by(Manual()).then(TaskDef("first", door.free("first", lambda x: x))).buffer(2)
    flow = flow.when(door.free("when", lambda x: x > 1)).then(TaskDef("big", door.free("big", lambda x: x))).end_when()
    with WorkflowManager(workers=2, keep=1) as manager:
        door.lock = manager.engine.effects.lock
        execution = manager.start(flow.build())
        for message in range(6):
            execution.send(message)
        execution.close()
        ended(execution)
    assert door.shut == []
    assert door.called == {"first", "when", "big"}


def test_who_holds_the_lock_is_seen(door, monkeypatch):
    monkeypatch.setattr("tests.test_lock.PATIENCE", 0.01)
    door.lock = threading.Lock()
    with door.lock:
        door.free("held", int)()
    door.free("free", int)()
    assert door.shut == ["held"]
    assert door.called == {"held", "free"}
