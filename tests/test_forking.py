"""A process that is forked while a manager lives: the child leaves the parent's things alone, and may make its own."""

import pytest

from tests.handshake import python

SETUP = """
    import os, sys, tempfile, threading, warnings, nerv

    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on: of forking where there are threads

    def one():
        return 1

    def flow(*tasks):
        return nerv.Workflow("flow", list(tasks))

    folder = tempfile.mkdtemp()
    manager = nerv.WorkflowManager(workers=1, journal=folder + "/runs.db")
    gated = manager.start(flow(nerv.Gate("gate")))
    before = sorted(os.listdir(folder))

    def forked(work):
        child = os.fork()
        if child == 0:
            work()
            sys.exit(5)  # by the ordinary way out, with all that was registered for it
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""

CHILDREN = {
    "does nothing": "pass",
    "closes the manager": "manager.close()",
    "runs something of its own": "assert nerv.run(flow(nerv.TaskDef('a', one)))['a'] == 1",
}


@pytest.mark.parametrize("work", CHILDREN.values(), ids=CHILDREN)
def test_the_parents_manager_is_the_parents(work):
    """Its socket stays where it is, and what waits there goes on."""
    python(
        SETUP
        + f"""
    def work():
        {work}

    assert forked(work) == 5
    assert sorted(os.listdir(folder)) == before, os.listdir(folder)
    gated.signal("gate", 7)
    assert gated.wait(20)
    assert gated["gate"] == 7
    manager.close()
    """
    )


def test_starting_in_the_child_says_what_is_wrong():
    python(
        SETUP
        + """
    def work():
        for start in (lambda: manager.start(flow(nerv.TaskDef("a", one))), lambda: manager.start(gated.workflow)):
            try:
                start()
            except nerv.NervError as error:
                assert "weren't forked; make a new one" in str(error), error
            else:
                raise AssertionError("it was started")

    assert forked(work) == 5
    assert [record.id for record in manager.journal.executions()] == [gated.id]
    manager.close()
    """
    )


ASKED = {
    "wait": "gated.wait()",
    "wait with a timeout": "gated.wait(5)",
    "wait_async": "asyncio.run(gated.wait_async())",
    "cancel": "gated.cancel()",
    "pause": "gated.pause()",
    "resume": "gated.resume()",
    "signal": "gated.signal('gate', 1)",
    "reprioritize": "gated.reprioritize('gate', 1)",
    "follow": "list(gated.events(follow=True))",
    "send": "fed.send(1)",
    "close": "fed.close()",
    "drain": "manager.drain()",
    "recover": "manager.recover()",
    "forget": "manager.forget()",
}


@pytest.mark.parametrize("question", ASKED.values(), ids=ASKED)
def test_what_the_child_would_wait_for_in_vain_is_an_error_at_once(question):
    """Nobody there runs the parent's executions, nor may anybody write into its journal."""
    python(
        SETUP
        + f"""
    import asyncio

    fed = manager.start(nerv.Flow("fed").triggered_by(nerv.Manual()).then(str).build())
    events = len(list(gated.events()))

    def work():
        try:
            {question}
        except nerv.NervError as error:
            assert f"is run by process {{os.getppid()}}, from which this one was forked" in str(error), error
        else:
            raise AssertionError("it was done")

    assert forked(work) == 5
    assert len(list(gated.events())) == events
    gated.signal("gate", 7)
    fed.close()
    assert gated.wait(20) and fed.wait(20)
    manager.close()
    """
    )


def test_the_child_sees_the_parents_executions_as_they_were():
    """Whatever was locked at that moment; of one that had ended it has everything."""
    python(
        SETUP
        + """
    done = manager.start(flow(nerv.TaskDef("a", one)))
    assert done.wait(20)

    def work():
        assert done.wait() and done["a"] == 1 and done.result == 1 and not done.failures
        assert gated.status.name == "RUNNING" and dict(gated.results) == {} and not gated.failures
        assert [one.task_id for one in gated.waiting()] == ["gate"]

    held, go = threading.Event(), threading.Event()

    def hold():
        with manager.engine.lock:
            held.set()
            assert go.wait(20)

    holding = threading.Thread(target=hold)
    holding.start()
    assert held.wait(20)
    assert forked(work) == 5
    go.set()
    holding.join()
    gated.signal("gate", 7)
    assert gated.wait(20)
    manager.close()
    """
    )


def test_a_task_that_forks_may_wait_for_a_run_of_its_childs_own():
    python(
        """
    import multiprocessing, warnings, nerv

    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on: of forking where there are threads

    def inside():
        assert nerv.run(nerv.Workflow("inner", [nerv.TaskDef("a", int)]))["a"] == 0

    def outside():
        child = multiprocessing.get_context("fork").Process(target=inside)
        child.start()
        child.join(20)
        return child.exitcode

    assert nerv.run(nerv.Workflow("outer", [nerv.TaskDef("a", outside)]))["a"] == 0
    """
    )
