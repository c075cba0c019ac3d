"""A `Source` whose every step can be watched, and a process pool that works for it."""

import contextvars
import threading
from collections import deque
from contextlib import contextmanager
from types import SimpleNamespace

import psutil

from nerv import TaskDef
from nerv.calls import Call
from nerv.functions import wants_context
from nerv.pools.process import ProcessPool

PATIENCE = 20.0


class Desk:
    """Stands for the engine: a `Source` that keeps a record of everything, and can be waited on."""

    def __init__(self):
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.ready = deque()
        self.ended, self.given_back, self.begun = [], [], []
        self.taken = []  # a list of numbers for each time that something was taken
        self.kept = []  # the same without what was given back
        self.reports = []
        self.effects = []
        self.numbers = 0
        self.draining = False
        self.live = SimpleNamespace(
            id="execution-1", workflow_id="wf-1", workflow=SimpleNamespace(name="flow"), params={}, values={},
            contextvars=contextvars.copy_context(), logs=[], services=None, wants_context={}, report=self.report,
            wires=None, attentive=False, secret=b"", log=SimpleNamespace(page=SimpleNamespace(ids=[])),
            scheduler=SimpleNamespace(families=None, needs_of=lambda _: []),
        )  # fmt: skip

    @contextmanager
    def effecting(self):
        with self.lock:
            yield
            effects, self.effects = self.effects, []
            self.changed.notify_all()
        for effect in effects:
            effect()

    def advance_many(self, pool, finished, worker, most):
        with self.effecting():
            self.ended += [call for call in finished if not call.abandoned]
            calls = [self.ready.popleft() for _ in range(min(most, len(self.ready)))]
            for call in calls[1:]:
                call.claimed = True
            if calls:
                self.taken.append([call.number for call in calls])
                self.kept.append([call.number for call in calls])
            elif most:
                pool.rested(worker)
            if self.ready and pool.running < pool.limit:
                pool.call_up(len(self.ready))
        return calls

    def begin(self, call):
        with self.effecting():
            self.begun.append(call)

    def give_back(self, calls):
        with self.effecting():
            self.given_back += calls
            for call in calls:
                assert call.claimed
                call.claimed = False
                for kept in self.kept:
                    if call.number in kept:
                        kept.remove(call.number)
            self.ready.extendleft(reversed(calls))

    def call_later(self, effect):
        self.effects.append(effect)

    def waiting(self, pool):
        return bool(self.ready)

    def report(self, call, done, total, message):
        with self.changed:
            self.reports.append((call.task.id, done, total, message))
            self.changed.notify_all()

    def put(self, pool, *tasks):
        """Make tasks ready, all at once; returns their calls."""
        calls = []
        with self.effecting():
            for task in tasks:
                self.numbers += 1
                self.live.wants_context[self.numbers] = wants_context(task.fn)
                calls.append(Call(self.live, self.numbers, task, 1))
            self.ready += calls
            if pool.running < pool.limit:
                pool.call_up(len(self.ready))
        return calls

    def wait(self, predicate):
        with self.changed:
            assert self.changed.wait_for(predicate, PATIENCE), "never happened"


class Bold:
    """Stands for a `Stride`: takes all that is there, whatever it is."""

    def __init__(self, patience):
        self._patience = patience

    def most(self, ready, workers, *, others_free):
        return 1000

    def keep(self, seconds, most):
        return len(seconds)

    def patience(self, calls):
        return self._patience


class Rig:
    """A pool with its desk."""

    def __init__(self, workers=1, name="process"):
        self.desk = Desk()
        self.pool = ProcessPool(name, workers)
        self.pool.bind(self.desk)

    def put(self, *tasks):
        return self.desk.put(self.pool, *tasks)

    def call(self, fn, *args, **kwargs):
        """Run one call to its end."""
        (call,) = self.put(TaskDef("t", fn, args=args, kwargs=kwargs))
        return self.end(call)[0]

    def end(self, *calls):
        self.desk.wait(lambda: all(call in self.desk.ended for call in calls))
        return calls

    def value(self, fn, *args, **kwargs):
        call = self.call(fn, *args, **kwargs)
        if call.error is not None:
            raise call.error
        return call.value

    def error(self, fn, *args, **kwargs):
        call = self.call(fn, *args, **kwargs)
        assert call.error is not None, call.value
        return call.error

    def warm(self, fn, *args):
        """Have the pool measure that a function is quick, and take its calls in chunks."""
        for _ in range(8):
            self.end(*self.put(*[TaskDef("warm", fn, args=args) for _ in range(64)]))

    def chunk_all(self, patience=60.0):
        """Have everything taken in chunks, which are recalled after `patience` seconds."""
        self.pool._stride = Bold(patience)

    @property
    def children(self):
        return self.pool._crew.children

    def pids(self):
        return {child.pid for child in self.children}


def read_when_there(path):
    """What a task announced through a fifo: opening waits for it."""
    with open(path) as file:
        return int(file.read())


def gone(*pids):
    """Wait until the processes have ended."""
    living = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    psutil.wait_procs(living, timeout=PATIENCE)
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in living)
