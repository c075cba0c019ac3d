"""What every pool promises, held by one set of tests that each of them passes."""

import asyncio
import os
import threading
import time
import traceback
from pathlib import Path

import pytest

import nerv
from nerv import Output, TaskDef, WorkerCrashedError, WorkflowDefinitionError, WorkflowManager
from tests.handshake import PATIENCE, Odd, ended, eventually, flow, kinds, odd, statuses

# ---- what the tasks do: each function also as a coroutine, by the same name with _async behind it --------------------


def identity(x):
    return x


def gather(*args, **kwargs):
    return args, kwargs


def fail(text):
    raise LookupError(text)


def fail_with_two(code, reason):
    raise TwoArgumentsError(code, reason)


def raise_base(name):
    raise {"KeyboardInterrupt": KeyboardInterrupt, "SystemExit": SystemExit, "GeneratorExit": GeneratorExit}[name]("x")


def tell(ctx, x):
    return ctx.task_id, ctx.workflow_name, ctx.execution_id, ctx.attempt, ctx["p"], dict(ctx.results), ctx.cancelled, x


def unfit():
    """What no set and no pickle takes."""
    return odd()


async def unfit_async():
    return odd()


def report(ctx):
    ctx.progress(1, total=2, message="half")
    ctx.logger.info("a line")
    return "told"


def mark(folder, name):
    """Leave a trace of the call; False if there is one already."""
    try:
        (Path(folder) / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def span(x):
    """When it began and ended, by a clock that all processes of a machine share."""
    began = time.monotonic()
    for _ in range(2000):
        x += 1
    return began, time.monotonic()


def die():
    os._exit(3)


async def identity_async(x):
    return identity(x)


async def gather_async(*args, **kwargs):
    return gather(*args, **kwargs)


async def fail_async(text):
    fail(text)


async def fail_with_two_async(code, reason):
    fail_with_two(code, reason)


async def raise_base_async(name):
    raise_base(name)


async def tell_async(ctx, x):
    return tell(ctx, x)


async def report_async(ctx):
    return report(ctx)


async def mark_async(folder, name):
    return mark(folder, name)


async def span_async(x):
    began, _ = span(x)
    await asyncio.sleep(0)
    return began, span(x)[1]


# Those that wait do it by files, which all pools can see.


def there(folder):
    """The marks in it."""
    return {path.name for path in Path(folder).iterdir()}


def meet(folder, name, count):
    """Until `count` have come."""
    mark(folder, name)
    while len(there(folder)) < count:
        time.sleep(0.001)
    return name


async def meet_async(folder, name, count):
    mark(folder, name)
    while len(there(folder)) < count:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    return name


def stop_when_told(ctx, folder):
    mark(folder, "began")
    while True:
        ctx.check_cancelled()
        time.sleep(0.001)


async def stop_when_told_async(ctx, folder):
    mark(folder, "began")
    while True:
        ctx.check_cancelled()
        await asyncio.sleep(0.001)


def deaf(folder):
    mark(folder, "began")
    while "go" not in there(folder):
        time.sleep(0.001)
    return "late"


async def deaf_async(folder):
    mark(folder, "began")
    while "go" not in there(folder):  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    return "late"


class TwoArgumentsError(Exception):
    """Pickle alone can't bring it back."""

    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")
        self.code, self.reason = code, reason


# ---- the pools -------------------------------------------------------------------------------------------------------


class Pool:
    """A pool under test: its name in TaskDefs, and the settings that make it `workers` wide."""

    def __init__(self, name, kind, setting=None):
        self.name = name
        self.kind = kind
        self.setting = setting

    def __repr__(self):
        return self.name

    def settings(self, workers):
        """What makes it so wide."""
        if self.setting is None:
            return {} if self.kind == "inline" else {"pools": {self.name: {"kind": self.kind, "workers": workers}}}
        return {self.setting: workers}

    def task(self, task_id, fn, *args, **fields):
        """A task for it, with the coroutine of that name if that is what it runs."""
        chosen = globals()[f"{fn.__name__}_async"] if self.kind == "async" else fn
        return TaskDef(task_id, chosen, args=args, pool=self.name, **fields)

    @property
    def is_here(self):
        """Whether its tasks run in this process."""
        return self.kind != "process"


POOLS = [
    Pool("inline", "inline"),
    Pool("thread", "thread", "workers"),
    Pool("async", "async", "max_coroutines"),
    Pool("process", "process", "processes"),
    Pool("my threads", "thread"),
    Pool("my loop", "async"),
]


@pytest.fixture(params=POOLS, ids=repr)
def pool(request):
    """Each pool in turn."""
    return request.param


@pytest.fixture
def manager(pool):
    """Makes managers whose pool is so wide."""
    made = []

    def make(workers=1, **settings):
        made.append(WorkflowManager(**pool.settings(workers), **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


class TestEveryPool:
    """The contract."""

    def test_runs_functions_and_brings_back_what_they_return(self, pool, manager):
        """Positional and keyword arguments, references filled in; None and exceptions are results."""
        made = manager()
        keyed = {"k": {"z": Output("a")}}
        tasks = [
            pool.task("a", identity, [1, {"two": (3,)}]),
            pool.task("b", gather, Output("a"), Output("a")[1]["two"], kwargs=keyed),
            pool.task("none", identity, None),
            pool.task("error", identity, ValueError("a value")),
        ]
        execution = ended(made.start(flow(*tasks)))
        assert execution["b"] == (([1, {"two": (3,)}], (3,)), {"k": {"z": [1, {"two": (3,)}]}})
        assert execution["none"] is None
        assert str(execution["error"]) == "a value"
        if pool.is_here:
            assert execution["b"][0][0] is execution["a"]

    def test_takes_a_result_whose_class_has_no_hash(self, pool, manager):
        """It is a result like any other; only a worker process can't send it back. Nobody waits for ever for it."""
        tasks = pool.task("a", unfit), pool.task("b", identity, 1, dependencies=["a"]), pool.task("c", identity, 2)
        execution = ended(manager(failure_policy="continue").start(flow(*tasks)))
        assert execution["c"] == 2
        if pool.kind == "process":
            assert statuses(execution) == {"a": "FAILED", "b": "SKIPPED", "c": "COMPLETED"}
            assert "task 'a': its result (a Odd) can't be sent back" in str(execution.failures["a"])
            return
        assert execution["b"] == 1
        if pool.is_here:  # a cluster has it, but has no way to send it
            assert type(execution["a"]) is Odd

    def test_runs_each_task_once(self, pool, manager, tmp_path):
        """Two hundred tasks with edges between them, however they are handed out."""
        made = manager(workers=3)

        def marking(n):
            return pool.task(f"t{n}", mark, str(tmp_path), f"t{n}", dependencies=[f"t{n // 2}"] if n else [])

        tasks = [marking(n) for n in range(200)]
        execution = ended(made.start(flow(*tasks)))
        assert set(execution.results.values()) == {True}
        assert len(execution.results) == len(list(tmp_path.iterdir())) == 200
        assert [event.seq for event in execution.events()] == list(range(1, 403))

    def test_fails_the_task_with_its_own_error(self, pool, manager):
        """Type, text, attributes and a traceback that shows the line; the pool goes on."""
        made = manager()
        first = ended(made.start(flow(pool.task("a", fail, "lost")))).failures["a"]
        assert (type(first), str(first)) == (LookupError, "lost")
        assert "in fail" in "".join(traceback.format_exception(first))
        second = ended(made.start(flow(pool.task("b", fail_with_two, 7, "seven")))).failures["b"]
        assert (type(second), str(second)) == (TwoArgumentsError, "7: seven")
        assert (second.code, second.reason) == (7, "seven")
        assert ended(made.start(flow(pool.task("c", identity, 1))))["c"] == 1

    def test_outlives_whatever_a_task_raises(self, pool, manager):
        """It is the task's failure, and the next task runs."""
        made = manager(failure_policy="continue")
        names = ["KeyboardInterrupt", "SystemExit", "GeneratorExit"]
        execution = ended(made.start(flow(*(pool.task(name, raise_base, name) for name in names))))
        assert {task: type(error).__name__ for task, error in execution.failures.items()} == {n: n for n in names}
        assert ended(made.start(flow(pool.task("b", identity, 2))))["b"] == 2

    def test_gives_the_context_to_whoever_asks(self, pool, manager):
        """Who it is, params, results of declared dependencies, whether to stop."""
        made = manager()
        tasks = pool.task("a", identity, 5), pool.task("b", tell, "x", dependencies=["a"])
        execution = ended(made.start(flow(*tasks, name="etl"), {"p": [1]}))
        assert execution["b"] == ("b", "etl", execution.id, 1, [1], {"a": 5}, False, "x")

    def test_carries_progress_and_log_lines(self, pool, manager):
        """They are there when the task has ended."""
        execution = ended(manager().start(flow(pool.task("a", report))))
        assert kinds(execution, "a") == ["TASK_STARTED", "TASK_PROGRESS", "TASK_COMPLETED"]
        assert [(entry.task_id, entry.level, entry.message) for entry in execution.logs()] == [("a", "INFO", "a line")]

    def test_runs_as_many_at_once_as_it_is_wide(self, pool, manager, tmp_path):
        """Each waits for all the others."""
        width = 1 if pool.kind == "inline" else 3
        made = manager(workers=width)
        tasks = [pool.task(f"t{n}", meet, str(tmp_path), f"t{n}", width) for n in range(width)]
        assert len(ended(made.start(flow(*tasks))).results) == width

    def test_never_runs_more_at_once_than_it_is_wide(self, pool, manager):
        """Sixty tasks of two executions: at no moment more than two, or one inline."""
        width = 1 if pool.kind == "inline" else 2
        made = manager(workers=width)
        executions = [made.start(flow(*(pool.task(f"t{n}", span, n) for n in range(30)))) for _ in range(2)]
        spans = [value for execution in executions for value in ended(execution).results.values()]
        if pool.kind == "inline":  # one for each execution, in whoever waits for it
            spans = list(executions[0].results.values())
        moves = sorted([(began, 1) for began, _ in spans] + [(end, -1) for _, end in spans])
        inside = most = 0
        for _, step in moves:
            inside += step
            most = max(most, inside)
        assert most <= width

    def test_takes_the_best_ready_task(self, pool, manager):
        """By priority, then definition order."""
        made = manager()
        tasks = [pool.task("gate", identity, 0, priority=9)]
        tasks += [pool.task(f"t{n}", identity, n, priority=n % 3, dependencies=["gate"]) for n in range(6)]
        execution = ended(made.start(flow(*tasks)))
        assert execution.sequence == ["gate", "t2", "t5", "t1", "t4", "t0", "t3"]

    def test_tells_tasks_to_stop(self, pool, manager, tmp_path):
        """After a cancel ctx.cancelled is true; a task that raises TaskCancelledError then is CANCELLED."""
        made = manager(grace=PATIENCE)
        tasks = pool.task("a", stop_when_told, str(tmp_path)), pool.task("b", identity, Output("a"))
        execution = made.start(flow(*tasks))
        began = tmp_path / "began"
        canceller = threading.Thread(target=lambda: (eventually(began.exists), execution.cancel("enough")))
        canceller.start()
        assert statuses(ended(execution)) == {"a": "CANCELLED", "b": "CANCELLED"}
        canceller.join()

    def test_gives_up_what_does_not_stop_and_goes_on(self, pool, manager, tmp_path):
        """After grace the task is CANCELLED, and its place is there for what waits."""
        if pool.kind == "inline":
            pytest.skip("the caller's own thread can't be left behind")
        made = manager(grace=0.01)
        execution = made.start(flow(pool.task("a", deaf, str(tmp_path))))
        eventually((tmp_path / "began").exists)
        waiting = made.start(flow(pool.task("b", identity, 1)))
        execution.cancel()
        assert statuses(ended(execution)) == {"a": "CANCELLED"}
        assert ended(waiting)["b"] == 1
        (tmp_path / "go").touch()
        assert ended(made.start(flow(pool.task("c", identity, 2))))["c"] == 2
        assert statuses(execution) == {"a": "CANCELLED"}

    def test_awaits_what_runs_when_another_task_has_failed(self, pool, manager, tmp_path):
        """fail_fast tells it, and the execution doesn't end before it has."""
        bad = TaskDef("bad", lambda: (eventually((tmp_path / "began").exists), fail("x")))
        execution = ended(manager(workers=2).start(flow(pool.task("a", stop_when_told, str(tmp_path)), bad)))
        assert statuses(execution) == {"a": "CANCELLED", "bad": "FAILED"}

    def test_refuses_the_wrong_sort_of_function_before_anything_runs(self, pool, manager, tmp_path):
        """A plain function on a loop, a coroutine function anywhere else; the error names the task."""
        wrong = identity if pool.kind == "async" else identity_async
        tasks = pool.task("fine", mark, str(tmp_path), "called"), TaskDef("odd", wrong, args=(1,), pool=pool.name)
        with pytest.raises(WorkflowDefinitionError, match="'odd'"):
            manager().start(flow(*tasks))
        assert list(tmp_path.iterdir()) == []

    def test_closes_in_the_middle(self, pool, manager, tmp_path):
        """What listens stops, the rest never starts; nothing is left running."""
        made = manager(workers=2, grace=0.02)
        tasks = [pool.task("a", stop_when_told, str(tmp_path)), *(pool.task(f"t{n}", identity, n) for n in range(20))]
        execution = made.start(flow(*tasks))
        if pool.kind == "inline":
            closer = threading.Thread(target=lambda: (eventually((tmp_path / "began").exists), made.close()))
            closer.start()
            ended(execution)
            closer.join()
        else:
            eventually((tmp_path / "began").exists)
            made.close()
        assert execution.status.name == "CANCELLED"
        assert set(statuses(execution).values()) <= {"CANCELLED", "COMPLETED"}

    def test_shows_services_or_says_why_not(self, pool, manager):
        """The user's own object, where that is possible."""
        mine = object()
        execution = ended(manager(services=mine).start(flow(pool.task("a", services))))
        if pool.is_here:
            assert execution["a"] is mine
        else:
            assert "worker process" in str(execution.failures["a"])


def services(ctx):
    return ctx.services


async def services_async(ctx):
    return ctx.services


# ---- what only processes can suffer ----------------------------------------------------------------------------------


def test_a_worker_process_that_dies_takes_only_its_own_task_along():
    """os._exit in one of ten: it is FAILED with WorkerCrashedError, the others complete, the pool goes on."""
    tasks = [TaskDef(f"t{n}", identity, args=(n,), pool="process") for n in range(9)]
    with WorkflowManager(processes=2, failure_policy="continue") as manager:
        execution = ended(manager.start(flow(TaskDef("dead", die, pool="process"), *tasks)))
        assert isinstance(execution.failures["dead"], WorkerCrashedError)
        assert "'dead'" in str(execution.failures["dead"])
        assert len(execution.results) == 9
        assert ended(manager.start(flow(tasks[0])))["t0"] == 0


def test_a_configured_process_pool_has_its_own_workers():
    """By name, beside the built-in one."""
    tasks = TaskDef("a", os.getpid, pool="mine"), TaskDef("b", os.getpid, pool="process"), TaskDef("c", os.getpid)
    execution = nerv.run(flow(*tasks), pools={"mine": {"kind": "process", "workers": 1}}, processes=1)
    assert len(set(execution.results.values())) == 3
    assert execution["c"] == os.getpid()


def test_what_can_not_be_sent_to_a_process_is_refused_before_anything_runs(tmp_path):
    """Functions and arguments, each named with its task and a remedy, all in one error."""
    lock = threading.Lock()
    tasks = [
        TaskDef("fine", mark, args=(str(tmp_path), "called"), pool="process"),
        TaskDef("nameless", lambda: 1, pool="process"),
        TaskDef("locked", identity, args=([{"deep": lock}],), pool="process"),
        TaskDef("keyed", gather, kwargs={"key": lock}, pool="process"),
    ]
    with pytest.raises(WorkflowDefinitionError) as caught:
        nerv.run(flow(*tasks))
    assert {problem.task_id for problem in caught.value.problems} == {"nameless", "locked", "keyed"}
    assert "key" in next(problem.message for problem in caught.value.problems if problem.task_id == "keyed")
    assert list(tmp_path.iterdir()) == []
