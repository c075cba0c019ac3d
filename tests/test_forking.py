"""A process that is forked while a manager lives: the child leaves the parent's things alone, and may make its own."""

import pytest

from tests.handshake import python

SETUP = """
    import os, sys, tempfile, warnings, nerv

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
