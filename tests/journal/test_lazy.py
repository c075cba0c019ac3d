"""What is decoded when it is first read: by several at once, by its own kind, and with mishaps."""

import threading

import pytest

from nerv import Gate, MemoryJournal, SerializationError, TaskDef, Workflow, WorkflowManager
from nerv.journal.codec import encode
from nerv.journal.lazy import LazyValues
from tests.handshake import PATIENCE, eventually

UNPICKLED = {}


class Odd:
    """A value whose unpickling is whatever the test says."""

    def __init__(self, name="odd"):
        self.name = name

    def __reduce__(self):
        return (unpickled, (self.name,))


def unpickled(name):
    return UNPICKLED[name]()


def lazy(*names):
    values = LazyValues()
    for name in names:
        dict.__setitem__(values, name, encode(Odd(name)))
    return values


@pytest.mark.parametrize("threads", [2, 8])
def test_all_who_read_at_once_have_the_same_object(threads):
    together, values, found = threading.Barrier(threads), lazy("a"), []
    UNPICKLED["a"] = lambda: (together.wait(PATIENCE), object())[1]  # all are at it at once
    readers = [threading.Thread(target=lambda: found.append(values["a"])) for _ in range(threads)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(PATIENCE)
    assert [one is values["a"] for one in found] == [True] * threads


def test_what_comes_while_an_old_result_is_decoded_stays():
    values = lazy("a", "b")
    UNPICKLED["a"] = lambda: values.__setitem__("a", "made anew")
    assert values["a"] == values["a"] == "made anew"
    UNPICKLED["b"] = lambda: dict.pop(values, "b") and "forgotten"
    assert values["b"] == "forgotten"
    assert "b" not in values


def test_what_is_stored_anew_meanwhile_is_decoded_as_well():
    values = lazy("a")

    def swap():
        UNPICKLED["a"] = lambda: "second"
        dict.__setitem__(values, "a", encode(Odd("a")))
        return "first"

    UNPICKLED["a"] = swap
    assert values["a"] == values.raw("a") == "second"


def test_a_value_may_read_others_while_it_is_unpickled():
    values = lazy("a", "b")
    UNPICKLED.update(a=lambda: [values["b"]], b=lambda: "b")
    assert values["a"] == ["b"]
    assert values["a"][0] is values["b"]


def test_a_value_that_reads_itself_is_an_error_that_says_whose_it_is():
    values = lazy("a")
    UNPICKLED["a"] = lambda: values["a"]
    with pytest.raises(SerializationError, match="task 'a': its result can't be read"):
        values["a"]


def test_what_cant_be_read_once_can_be_read_again():
    values, tries = lazy("a"), []

    def at_the_second_try():
        tries.append(1)
        if len(tries) == 1:
            raise OSError("the share is away")
        return "a"

    UNPICKLED["a"] = at_the_second_try
    with pytest.raises(SerializationError, match="the share is away"):
        values["a"]
    assert values["a"] == "a"
    assert len(tries) == 2


def test_tasks_that_read_a_stored_result_at_once_after_a_restart_have_one_object():
    """And one of them may ask its execution for other results while it is unpickled."""
    both, journal = threading.Barrier(2), MemoryJournal()
    readers = [TaskDef(f"r{i}", lambda ctx: ctx.results["a"], dependencies=["a", "gate"]) for i in range(2)]
    made = [TaskDef("a", Odd), TaskDef("other", Odd, args=("other",))]
    flow = Workflow("w", [*made, Gate("gate", dependencies=["a", "other"]), *readers])
    with WorkflowManager(journal=journal) as manager:
        execution = manager.start(flow)
        eventually(execution.waiting)
    UNPICKLED.update(other=lambda: "other", odd=lambda: (both.wait(PATIENCE), [again["other"]])[1])
    with WorkflowManager(journal=journal, workers=4) as manager:
        (again,) = manager.recover(flow)
        again.signal("gate")
        assert again.wait(PATIENCE), again.summary()
        assert again["r0"] is again["r1"] is again["a"]
        assert again["a"] == ["other"]
