"""A task that asks for the context is told who it is, what it was given and whether to stop; it can't change it."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

import nerv
from nerv import Output, TaskCancelledError, TaskDef, WorkflowManager, run, task
from nerv.context import TaskContext as Here
from tests.handshake import Hold, boom, ended, flow, kinds, reached

if TYPE_CHECKING:
    from nerv import TaskContext

COLOUR = contextvars.ContextVar("COLOUR", default="none")


def told(fn, *args, **options):
    """What a task "it" with this function returns."""
    return run(flow(TaskDef("it", fn, args=args)), **options)["it"]


# ---- who gets it -----------------------------------------------------------------------------------------------------


def by_type_checker_only(c: TaskContext, x):
    return c.task_id, x


def by_dotted_name(c: nerv.TaskContext, x):
    return c.task_id, x


def by_quoted_text(c: "TaskContext", x):  # noqa: UP037
    return c.task_id, x


def by_position_only(ctx, /, x):
    return ctx.task_id, x


def decorated(fn):
    @functools.wraps(fn)
    def inner(*args, **kwargs):
        return fn(*args, **kwargs)

    return inner


@decorated
def wrapped(ctx, x):
    return ctx.task_id, x


@task
def a_task(ctx, x):
    return ctx.task_id, x


class Holder:
    def method(self, ctx, x):
        return ctx.task_id, x

    def __call__(self, context, x):
        return context.task_id, x

    @classmethod
    def made(cls, ctx, x):
        return ctx.task_id, x

    @staticmethod
    def still(c: TaskContext, x):
        return c.task_id, x


class Built:
    """A class as a task: its first parameter is its __init__'s."""

    def __init__(self, ctx, x):
        self.told = ctx.task_id, x

    def __eq__(self, other):
        return self.told == other

    __hash__ = None


def by_object_annotation():
    def fn(c, x):
        return c.task_id, x

    fn.__annotations__["c"] = Here
    return fn


@pytest.mark.parametrize(
    "fn",
    [
        by_type_checker_only,
        by_dotted_name,
        by_quoted_text,
        by_position_only,
        by_object_annotation(),
        wrapped,
        a_task,
        lambda ctx, x: (ctx.task_id, x),
        lambda context, x: (context.task_id, x),
        lambda ctx, *rest: (ctx.task_id, *rest),
        Holder().method,
        Holder(),
        Holder.made,
        Holder.still,
        Built,
    ],
    ids=lambda fn: getattr(fn, "__qualname__", type(fn).__name__),
)
def test_the_context_is_given_to_whoever_asks_for_it_first(fn):
    """Named ctx or context without an annotation, or annotated TaskContext in any spelling, on any callable."""
    assert told(fn, "X") == ("it", "X")


def test_a_partial_gets_the_context_before_its_other_arguments():
    """What the partial holds by keyword doesn't hide the first parameter."""
    assert told(functools.partial(by_dotted_name, x="X")) == ("it", "X")
    assert told(functools.partial(lambda ctx, x, y: (ctx.task_id, x, y), y=2), 1) == ("it", 1, 2)


def annotated_otherwise(ctx: dict, x):
    return ctx, x


def second_place(x, ctx):
    return x, ctx


def by_keyword_only(*, ctx=0):
    return ctx


def starred(*ctx):
    return ctx


def other_type(c: Mapping, x):
    return c, x


@pytest.mark.parametrize(
    ("fn", "args", "result"),
    [
        (annotated_otherwise, (1, 2), (1, 2)),
        (second_place, (1, 2), (1, 2)),
        (by_keyword_only, (), 0),
        (starred, (1, 2), (1, 2)),
        (other_type, (1, 2), (1, 2)),
        (functools.partial(lambda ctx, x: (ctx, x), 1), (2,), (1, 2)),
        (lambda contexts, x: (contexts, x), (1, 2), (1, 2)),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_nobody_else_gets_it(fn, args, result):
    """Another annotation, another place, a starred or a bound parameter: the arguments are all there is."""
    assert told(fn, *args) == result


# ---- what it says ----------------------------------------------------------------------------------------------------


def test_it_names_the_execution_the_workflow_the_task_and_the_attempt():
    """These are this run's, and the handle says the same."""
    workflow = flow(TaskDef("it", lambda ctx: ctx), name="naïve 名")
    execution = run(workflow, {"p": 1}, execution_id="e-1")
    ctx = execution["it"]
    assert (ctx.execution_id, ctx.workflow_name, ctx.task_id, ctx.attempt) == ("e-1", "naïve 名", "it", 1)
    assert isinstance(ctx.workflow_id, str)
    assert execution.id == "e-1"
    assert "'it'" in repr(ctx)


def test_it_is_a_mapping_of_the_params_and_two_reserved_names():
    """Params by name, plus workflow_id and execution_id; reading what isn't there is a KeyError that lists what is."""
    ctx = run(flow(TaskDef("it", lambda ctx: ctx)), {"p": 1, "q": None})["it"]
    assert isinstance(ctx, Mapping)
    assert set(ctx) == {"p", "q", "workflow_id", "execution_id"}
    assert len(ctx) == 4
    assert ctx["p"] == 1
    assert ctx["execution_id"] == ctx.execution_id
    assert ctx["workflow_id"] == ctx.workflow_id
    assert ctx.get("q", 5) is None
    assert ctx.get("nope", 5) == 5
    with pytest.raises(KeyError, match=r"'nope'.*p, q"):
        ctx["nope"]


def test_it_can_not_be_changed():
    """Neither it nor its params nor its results take an item."""
    ctx = run(flow(TaskDef("a", lambda: 1), TaskDef("it", lambda ctx: ctx, dependencies=["a"])), {"p": 1})["it"]
    for mapping in (ctx, ctx.params, ctx.results):
        with pytest.raises(TypeError):
            mapping["p"] = 2
        with pytest.raises(TypeError):
            del mapping["p"]


@pytest.mark.parametrize("name", ["workflow_id", "execution_id"])
def test_reserved_names_are_refused_as_params(name):
    """Before anything runs, with the remedy."""
    called = []
    with pytest.raises(nerv.WorkflowDefinitionError, match=f"{name!r} is reserved.*choose another"):
        run(flow(TaskDef("a", lambda: called.append(1))), {name: 1})
    assert called == []


def test_the_callers_params_are_copied_and_left_alone():
    """The caller's dict doesn't change, and changing it later changes nothing."""
    mine, began = {"p": 1}, Hold()
    tasks = TaskDef("w", began), TaskDef("it", lambda ctx: dict(ctx.params), dependencies=["w"])
    execution = nerv.start(flow(*tasks), mine)
    began.entered()
    mine["p"] = 2
    began.go()
    assert ended(execution)["it"] == {"p": 1}
    assert dict(execution.params) == {"p": 1}
    assert mine == {"p": 2}


def test_results_are_those_of_declared_dependencies_only():
    """By argument or by `dependencies`; another task's, finished or not, is a KeyError that names the declared ones."""
    tasks = [TaskDef(name, lambda name=name: name) for name in "abcd"]
    it = TaskDef("it", lambda ctx, _: ctx, args=([Output("a")],), dependencies=["b"])
    ctx = run(flow(*tasks, it))["it"]
    assert dict(ctx.results) == {"b": "b", "a": "a"}
    assert len(ctx.results) == 2
    with pytest.raises(KeyError, match="'c' is no declared dependency; declared are"):
        ctx.results["c"]


def test_results_of_what_did_not_complete_are_not_there():
    """Under all_finished a failed dependency is missing from the mapping, and the error says why."""
    it = TaskDef("it", lambda ctx: ctx, dependencies=["good", "bad"], run_when="all_finished")
    ctx = run(flow(TaskDef("good", lambda: 1), TaskDef("bad", boom), it), raise_on_failure=False, workers=1)["it"]
    assert "bad" not in ctx.results
    assert "good" not in ctx.results or ctx.results["good"] == 1
    with pytest.raises(KeyError, match="isn't COMPLETED"):
        ctx.results["bad"]


def test_services_are_the_users_own_object():
    """The very object, of the run or of the manager, and None without one."""
    mine, theirs = object(), object()
    assert told(lambda ctx: ctx.services, services=mine) is mine
    assert told(lambda ctx: ctx.services) is None
    workflow = flow(TaskDef("it", lambda ctx: ctx.services))
    with WorkflowManager(services=theirs) as manager:
        assert ended(manager.start(workflow))["it"] is theirs
        assert ended(manager.start(workflow, services=mine))["it"] is mine


# ---- stopping --------------------------------------------------------------------------------------------------------


def test_cancelled_says_whether_to_stop():
    """False at first; True, and check_cancelled raises, after a cancel; the task that lets it out is CANCELLED."""
    seen, began = [], Hold()

    def work(ctx):
        seen.append(ctx.cancelled)
        ctx.check_cancelled()
        began(ctx)
        seen.append(ctx.cancelled)
        ctx.check_cancelled()

    execution = nerv.start(flow(TaskDef("it", work)))
    began.entered()
    execution.cancel()
    began.go()
    assert ended(execution).task("it").status.name == "CANCELLED"
    assert seen == [False, True]


def test_a_task_that_was_not_told_fails_with_its_own_cancel():
    """TaskCancelledError out of the blue is an error like any other."""

    def work():
        raise TaskCancelledError("I feel like it")

    execution = run(flow(TaskDef("it", work)), raise_on_failure=False)
    assert execution.task("it").status.name == "FAILED"


# ---- telling ---------------------------------------------------------------------------------------------------------


def test_progress_is_an_event_between_start_and_end():
    """done, total and message are in its data, in order."""

    def work(ctx):
        ctx.progress(1)
        ctx.progress(2, total=3, message="nearly")

    execution = run(flow(TaskDef("it", work)))
    assert kinds(execution, "it") == ["TASK_STARTED", "TASK_PROGRESS", "TASK_PROGRESS", "TASK_COMPLETED"]
    data = [dict(event.data) for event in execution.events() if event.type == "TASK_PROGRESS"]
    assert data == [{"done": 1, "total": None, "message": ""}, {"done": 2, "total": 3, "message": "nearly"}]


def test_progress_after_the_end_is_ignored():
    """A context that was kept says nothing any more."""
    execution = run(flow(TaskDef("it", lambda ctx: ctx)))
    execution["it"].progress(1)
    assert kinds(execution, "it") == ["TASK_STARTED", "TASK_COMPLETED"]


def test_the_logger_is_kept_with_the_execution():
    """Lines have task, attempt, level, text and time, in order, all or one task's; levels aren't filtered."""

    def work(ctx, n):
        ctx.logger.debug("d %s", n)
        ctx.logger.info("i", extra={"k": 1})

    tasks = TaskDef("a", work, args=(1,)), TaskDef("b", work, args=(2,), dependencies=["a"])
    execution = run(flow(*tasks))
    assert [(e.task_id, e.attempt, e.level, e.message) for e in execution.logs()] == [
        ("a", 1, "DEBUG", "d 1"),
        ("a", 1, "INFO", "i"),
        ("b", 1, "DEBUG", "d 2"),
        ("b", 1, "INFO", "i"),
    ]
    assert [e.message for e in execution.logs("b")] == ["d 2", "i"]
    times = [e.timestamp for e in execution.logs()]
    assert times == sorted(times)


def test_a_logged_exception_keeps_its_traceback():
    """logger.exception writes it behind the message."""

    def work(ctx):
        try:
            boom()
        except ValueError:
            ctx.logger.exception("it went wrong")

    message = run(flow(TaskDef("it", work))).logs()[0].message
    assert message.startswith("it went wrong\nTraceback")
    assert "boom" in message


def test_kept_log_lines_are_bounded():
    """The last 10,000 lines of an execution are kept."""

    def work(ctx):
        logger = ctx.logger
        for n in range(10_050):
            logger.debug(n)

    logs = run(flow(TaskDef("it", work))).logs()
    assert (len(logs), logs[0].message, logs[-1].message) == (10_000, "50", "10049")


def test_a_log_line_that_does_not_fit_its_arguments_fails_nothing(capfd):
    """The line is kept as it was written, and logging complains on stderr as it always does."""
    execution = run(flow(TaskDef("it", lambda ctx: ctx.logger.debug("%d apples", "x"))))
    assert [e.message for e in execution.logs()] == ["%d apples"]
    assert "Logging error" in capfd.readouterr().err


def test_log_lines_go_on_to_the_programs_own_logging(caplog):
    """The logger nerv.tasks gets those that it wants, under the task's own name."""
    with caplog.at_level(logging.INFO, logger="nerv.tasks"):
        run(flow(TaskDef("it", lambda ctx: (ctx.logger.debug("low"), ctx.logger.info("high")))))
    assert [(r.name, r.message) for r in caplog.records] == [("nerv.tasks.it", "high")]


# ---- context variables -----------------------------------------------------------------------------------------------


def colour():
    return COLOUR.get()


async def colour_in_a_loop():
    await asyncio.sleep(0)
    return COLOUR.get()


@pytest.mark.parametrize(("pool", "fn"), [("thread", colour), ("inline", colour), ("async", colour_in_a_loop)])
def test_attempts_run_in_a_copy_of_the_starters_context_variables(pool, fn):
    """What was set before the start is seen; what is set later, or by another task, isn't."""

    def setting():
        COLOUR.set("spoilt")

    token = COLOUR.set("red")
    try:
        first = Hold()
        it = TaskDef("it", fn, pool=pool, dependencies=["s"])
        execution = nerv.start(flow(TaskDef("w", first), TaskDef("s", setting, dependencies=["w"]), it), workers=1)
        first.entered()
        COLOUR.set("blue")
        first.go()
        assert ended(execution)["it"] == "red"
        assert COLOUR.get() == "blue"
    finally:
        COLOUR.reset(token)


def test_each_attempt_has_a_copy_of_its_own():
    """Two tasks that set the same variable at the same time don't see each other's."""
    both = [Hold(), Hold()]

    def work(n):
        def fn(ctx):
            COLOUR.set(n)
            both[n].go()
            reached(both[1 - n]._go)
            return COLOUR.get()

        return fn

    execution = run(flow(TaskDef("a", work(0)), TaskDef("b", work(1))), workers=2)
    assert (execution["a"], execution["b"]) == (0, 1)
