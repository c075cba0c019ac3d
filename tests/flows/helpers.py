"""Flows that are fed by hand, and steps that most of them are made of."""

from nerv import Flow, Manual, WorkflowManager
from tests.handshake import ended

FED = Flow("f").triggered_by(Manual())


def same(m):
    return m


def again(m):
    return m


def inc(m):
    return m + 1


def is_odd(m):
    return m % 2


def odd_fails(m):
    if m % 2:
        raise ValueError(m)
    return m


def fed(flow, messages, params=None, **settings):
    """Send these messages through, and wait for the end."""
    with WorkflowManager(**{"workers": 4, **settings}) as manager:
        execution = manager.start(flow.build(), params)
        for message in messages:
            execution.send(message)
        assert execution.close()
        return ended(execution)
