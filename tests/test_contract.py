"""Sentences of the public contract, one test each, by the public API alone: corners that other tests don't visit."""

import asyncio
import copy
import datetime
import functools
import gc
import pickle
import threading
import weakref
from collections import OrderedDict, namedtuple

import pytest

import nerv
from nerv import EventBus, EventType, Output, Param, StateProjector, TaskDef, TaskStatus, WorkflowManager, run, start
from nerv.container import Services
from tests.handshake import Hold, boom, ended, eventually, flow, give, kinds, python, reached, statuses

Point = namedtuple("Point", "x y")  # noqa: PYI024  what users write


def one():
    """The simplest result."""
    return 1


def failing(*tasks, **settings):
    """The execution of tasks some of which fail."""
    return run(flow(*tasks), raise_on_failure=False, **settings)


def coroutine_object():
    """An object whose call is a coroutine; it has no name of its own."""

    class Doubler:
        async def __call__(self, value):
            return 2 * value

    return Doubler()


@pytest.fixture
def manager():
    """A long-lived one."""
    with WorkflowManager(workers=2) as made:
        yield made


# ---- what a field may hold -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("args", "abc"), ("args", 5), ("args", None), ("args", Output("b")), ("args", TaskDef("x", one)),
        ("args", ({Output("b")},)), ("args", ({Output("b"): 1},)), ("args", ([{(1, Param("b")): 1}],)),
        ("args", ([TaskDef("x", one)],)), ("kwargs", "x"), ("kwargs", [("a", 1)]), ("kwargs", {1: 2}),
        ("kwargs", Output("b")), ("kwargs", Param("b")), ("kwargs", None), ("dependencies", "abc"),
        ("dependencies", None), ("dependencies", [5]), ("dependencies", Output("b")), ("priority", 1.5),
        ("priority", True), ("run_when", "all_complete"), ("run_when", []), ("pool", ""), ("metadata", {}),
        ("name", 5), ("description", None), ("fn", 5),
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_a_bad_field_fails_when_the_task_is_made(field, value):
    """It is one error that names the task, whatever the field was given."""
    with pytest.raises(nerv.WorkflowDefinitionError, match="culprit") as caught:
        TaskDef(**{"id": "culprit", "fn": one, field: value})
    assert [problem.task_id for problem in caught.value.problems] == ["culprit"]


def test_a_task_of_a_callable_without_a_name_needs_an_id():
    """Then it runs like any other; and a coroutine object goes to the coroutines."""
    made = nerv.task(coroutine_object())
    with pytest.raises(nerv.WorkflowDefinitionError, match="id"):
        made.define(args=(1,))
    assert "Doubler" in repr(made)
    assert run(flow(made.define(id="a", args=(2,)))).result == 4


def test_a_task_without_a_name_in_a_body_is_told_so():
    """Its id can be given to the decorator."""
    nameless, named = nerv.task(functools.partial(give, 1)), nerv.task(id="p")(functools.partial(give, 1))
    with pytest.raises(nerv.WorkflowDefinitionError, match="id"):
        nerv.workflow(lambda: [nameless()])()
    assert run(nerv.workflow(lambda: [named()])()).result == [1]


@pytest.mark.parametrize("value", [[1, [2]], (1, (2,)), {"k": {1}}, OrderedDict(a=1), Point(1, 2)], ids=repr)
def test_a_container_without_references_is_passed_as_the_same_object(value):
    """Also beside a reference."""
    execution = run(
        flow(TaskDef("s", one), TaskDef("a", give, args=([value, Output("s")],)), TaskDef("b", give, args=(value,)))
    )
    assert execution["b"] is value
    assert execution["a"][0] is value


def test_a_container_that_holds_itself_is_passed_on():
    """The references beside the loop are filled in."""
    plain, mixed = [1], [Output("s")]
    plain.append(plain)
    mixed.append(mixed)
    execution = run(flow(TaskDef("s", one), TaskDef("a", give, args=(plain,)), TaskDef("b", give, args=(mixed,))))
    assert execution["a"] is plain
    assert execution["b"][0] == 1


def test_references_are_looked_for_in_exactly_four_containers():
    """A subclass of list is the user's own business; a namedtuple keeps its type."""

    class Mine(list):
        pass

    mine = Mine([Output("ghost")])
    execution = run(
        flow(TaskDef("a", give, args=(mine,)), TaskDef("b", give, args=(Point(Output("a"), [Param("p", 3)]),)))
    )
    assert execution["a"] is mine
    assert execution["b"] == Point(mine, [3])
    assert type(execution["b"]) is Point


@pytest.mark.parametrize(
    "use", [iter, bool, str, len, list, "{}".format, lambda ref: f"{ref:>4}", lambda ref: 1 in ref]
)
@pytest.mark.parametrize("ref", [Output("t"), Output("t")["x"], Param("t")], ids=repr)
def test_a_reference_is_no_value(use, ref):
    """Every use as one raises."""
    with pytest.raises(TypeError):
        use(ref)


def test_references_and_workflows_survive_copying_and_pickling():
    """A copy stands for the same."""
    wf = flow(
        TaskDef("a", one), TaskDef("b", give, args=([Output("a", default=2)["k"].attribute("x"), Param("p", None)],))
    )
    assert copy.deepcopy(wf) == wf == pickle.loads(pickle.dumps(wf))


def test_an_output_without_a_default_fails_its_reader_and_names_both():
    """With one, the default is used, without the path."""
    execution = failing(
        TaskDef("bad", boom),
        TaskDef("reader", give, args=(Output("bad"),), run_when="all_finished"),
        TaskDef("other", give, args=(Output("bad", default=None)["x"],), run_when="all_finished"),
        failure_policy="continue",
    )
    assert "'bad'" in str(execution.task("reader").error)
    assert "'reader'" in str(execution.task("reader").error)
    assert execution["other"] is None


def test_one_error_lists_all_missing_params():
    """Those with a default aren't among them."""
    tasks = TaskDef("a", give, args=(Param("x"), Param("y", 1))), TaskDef("b", give, kwargs={"k": [Param("z")]})
    with pytest.raises(nerv.WorkflowDefinitionError) as caught:
        run(flow(*tasks), {"w": 1})
    assert "'x', 'z'" in str(caught.value)
    assert "'y'" not in str(caught.value)


@pytest.mark.parametrize("name", ["workflow_id", "execution_id"])
def test_the_contexts_own_names_are_no_params(name):
    """They are reserved."""
    with pytest.raises(nerv.NervError, match=name):
        run(flow(TaskDef("a", one)), {name: 1})


def test_a_first_parameter_annotated_otherwise_is_an_argument():
    """So is one that isn't first, or takes no position."""

    def annotated(ctx: dict):
        return ctx

    execution = run(
        flow(
            TaskDef("a", annotated, args=(1,)),
            TaskDef("b", lambda x, ctx=None: (x, ctx), args=(1,)),
            TaskDef("c", lambda *, ctx=2: ctx),
            TaskDef("d", lambda *ctx: ctx),
        )
    )
    assert dict(execution.results) == {"a": 1, "b": (1, None), "c": 2, "d": ()}


# ---- workflows -------------------------------------------------------------------------------------------------------


def test_a_fingerprint_is_the_same_in_every_process():
    """Whatever the hash seed: sets among dependencies and arguments, partials, objects, methods, lambdas."""
    code = """
        import functools, nerv
        class Thing:
            def __call__(self): ...
            def method(self): ...
        @nerv.task
        def work(x): ...
        T = nerv.TaskDef
        print(nerv.Workflow("w", [
            T("a", len), T("b", lambda: 1, dependencies={"a", "c", "d"}, args=({"x", "y", "z"},)), T("c", Thing()),
            T("d", functools.partial(max, 1)), T("e", Thing().method), work.define(id="f", args=({"p", "q"},)),
        ]).fingerprint)
    """
    assert len({python(code, hash_seed=seed) for seed in ("0", "1", "2")}) == 1


def test_a_fingerprint_is_the_shape():
    """Ids, edges, run_when, pools and callables; not values, names, descriptions and metadata."""
    base = flow(TaskDef("a", one), TaskDef("b", give, args=(1,)))
    same = flow(
        TaskDef("a", one, name="n", description="d", metadata=nerv.TaskMetadata()), TaskDef("b", give, args=(2, 3))
    )
    others = [
        flow(TaskDef("a", one), TaskDef("c", give, args=(1,))),
        flow(TaskDef("a", one), TaskDef("b", give, args=(1,), dependencies=["a"])),
        flow(TaskDef("a", give), TaskDef("b", give, args=(1,))),
        flow(TaskDef("a", one, run_when="all_finished"), TaskDef("b", give, args=(1,))),
        flow(TaskDef("a", one, pool="process"), TaskDef("b", give, args=(1,))),
    ]
    assert same.fingerprint == base.fingerprint
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_user_values_are_compared_by_identity():
    """Their own `==` isn't asked."""

    class Touchy:
        __hash__ = None

        def __eq__(self, other):
            raise AssertionError("compared")

    value = Touchy()
    assert flow(TaskDef("a", give, args=(value,))) == flow(TaskDef("a", give, args=(value,)))
    assert flow(TaskDef("a", give, args=(value,))) != flow(TaskDef("a", give, args=(Touchy(),)))


def test_selecting_less_than_the_result_needs_drops_the_result_rule():
    """Then the sink decides; and the params of what isn't selected needn't be given."""
    wf = flow(TaskDef("a", one), TaskDef("b", give, args=(Param("p"),), dependencies=["a"]), result=Output("b"))
    assert run(wf, targets=["a"]).result == 1


def test_a_result_rule_takes_paths_params_and_defaults():
    """A failed task's default too."""
    rule = {"r": Output("a")["k"][0], "p": Param("p", 2), "d": [Output("bad", default=3)]}
    execution = run(
        flow(TaskDef("a", lambda: {"k": [7]}), TaskDef("bad", boom), result=rule), raise_on_failure=False, workers=1
    )
    assert execution.result == {"r": 7, "p": 2, "d": [3]}


def test_every_error_survives_pickling():
    """With its text and what it lists."""
    ring = [TaskDef("a", one, dependencies=["b"]), TaskDef("b", one, dependencies=["a"]), TaskDef("c", None)]
    for make in (
        lambda: flow(*ring), lambda: run(flow(TaskDef("x", boom))), lambda: TaskDef("a", one, priority="x"),
        lambda: run(flow(TaskDef("a", one)), wrokers=2), lambda: flow(TaskDef("a", one)).select(["q"]),
    ):  # fmt: skip
        with pytest.raises(nerv.NervError) as caught:
            make()
        again = pickle.loads(pickle.dumps(caught.value))
        assert (type(again), str(again)) == (type(caught.value), str(caught.value))
        for listed in ("problems", "cycle"):
            assert getattr(again, listed, None) == getattr(caught.value, listed, None)


# ---- running ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration, asyncio.CancelledError])
@pytest.mark.parametrize("pool", ["thread", "inline", "async"])
def test_whatever_a_task_raises_is_its_failure(pool, error):
    """The worker lives on: the other task runs on it."""

    def plain():
        raise error

    async def coroutine():
        raise error

    async def fine():
        return 1

    tasks = [plain, one] if pool != "async" else [coroutine, fine]
    execution = failing(
        *(TaskDef(name, fn, pool=pool) for name, fn in zip("ab", tasks, strict=True)),
        workers=1,
        max_coroutines=1,
        failure_policy="continue",
    )
    assert statuses(execution) == {"a": "FAILED", "b": "COMPLETED"}


def test_a_coroutine_that_raises_system_exit_leaves_aruns_loop_alone():
    """It is that task's failure."""

    async def leave():
        raise SystemExit(3)

    execution = asyncio.run(nerv.arun(flow(TaskDef("a", leave)), raise_on_failure=False))
    assert isinstance(execution.failures["a"], SystemExit)


def test_task_cancelled_error_of_a_task_that_nobody_cancelled_is_a_failure():
    """Only what was told to stop can be CANCELLED."""

    def quit_anyway():
        raise nerv.TaskCancelledError("I felt like it")

    assert statuses(failing(TaskDef("a", quit_anyway))) == {"a": "FAILED"}


@pytest.mark.parametrize("policy", ["fail_fast", "continue"])
def test_any_completed_with_nothing_but_bad_ends_is_skipped(policy):
    """With the first cause; without dependencies it runs."""
    execution = failing(
        TaskDef("a", boom), TaskDef("b", one, dependencies=["a"]),
        TaskDef("any", one, dependencies=["a", "b"], run_when="any_completed"),
        failure_policy=policy,
    )  # fmt: skip
    assert statuses(execution) == {"a": "FAILED", "b": "SKIPPED", "any": "SKIPPED"}
    assert execution.task("any").skipped_because == "a"
    assert run(flow(TaskDef("a", one, run_when="any_completed"))).result == 1


def test_cleanup_after_a_cancel_has_an_uncancelled_context(manager):
    """It runs behind tasks that never ran."""
    hold = Hold(deaf=False)
    execution = manager.start(
        flow(
            TaskDef("a", hold), TaskDef("b", one, dependencies=["a"]),
            TaskDef("clean", lambda ctx: ctx.cancelled, dependencies=["b"], run_when="all_finished"),
        )
    )  # fmt: skip
    hold.entered()
    assert execution.cancel("enough")
    assert not ended(execution).cancel()
    assert statuses(execution) == {"a": "CANCELLED", "b": "CANCELLED", "clean": "COMPLETED"}
    assert execution["clean"] is False


def test_cancelling_a_paused_execution_ends_it(manager):
    """Its last running task may still complete."""
    hold = Hold(7)
    execution = manager.start(flow(TaskDef("a", hold), TaskDef("b", one, dependencies=["a"])))
    hold.entered()
    assert execution.pause()
    assert execution.cancel()
    hold.go()
    assert ended(execution)["a"] == 7
    assert execution.status.name == "CANCELLED"


def test_a_paused_execution_whose_last_task_ends_is_complete(manager):
    """There is nothing left to hold back."""
    hold = Hold()
    execution = manager.start(flow(TaskDef("a", hold)))
    hold.entered()
    assert execution.pause()
    hold.go()
    assert ended(execution).status.name == "COMPLETED"
    assert not execution.resume()


def test_failures_are_in_time_order_and_the_first_is_the_cause():
    """The others are notes."""
    early = threading.Event()

    def late():
        reached(early)
        raise KeyError("late")

    tasks = TaskDef("a", late), TaskDef("b", boom), TaskDef("c", early.set, dependencies=["b"], run_when="all_finished")
    with pytest.raises(nerv.WorkflowFailedError) as caught:
        run(flow(*tasks), workers=3, failure_policy="continue")
    assert list(caught.value.failures) == ["b", "a"]
    assert caught.value.__cause__ is caught.value.execution.task("b").error
    assert ["late" in note for note in caught.value.__notes__] == [True]


def test_executions_of_one_priority_take_turns_and_a_higher_one_goes_first(manager):
    """Whatever was started first."""
    order, holds = [], [Hold(), Hold()]
    busy = manager.start(flow(*(TaskDef(str(i), hold) for i, hold in enumerate(holds))))
    [hold.entered() for hold in holds]

    def started(letter, priority=1):
        tasks = [TaskDef(f"{letter}{i}", functools.partial(order.append, letter), priority=priority) for i in range(2)]
        return manager.start(flow(*tasks), execution_id=letter)

    more = [started("x"), started("y"), started("h", priority=3)]
    holds[0].go()
    for execution in more:
        ended(execution)
    holds[1].go()
    ended(busy)
    assert order == ["h", "h", "x", "y", "x", "y"]


@pytest.mark.parametrize("depth", [1, 5])
def test_waiting_inside_a_task_for_more_tasks_needs_no_more_workers(depth):
    """A worker that waits lends its slot."""
    with WorkflowManager(workers=1) as manager:

        def deep(level):
            return level and ended(manager.start(flow(TaskDef("x", deep, args=(level - 1,)))))["x"] + 1

        assert deep(depth) == depth
        assert ended(manager.start(flow(TaskDef("a", deep, args=(depth,)))))["a"] == depth


def test_following_an_execution_inside_a_task_lends_the_slot_too():
    """To the very end."""
    with WorkflowManager(workers=1) as manager:

        def follow():
            return [event.seq for event in manager.start(flow(TaskDef("x", one))).events(follow=True)]

        assert ended(manager.start(flow(TaskDef("a", follow))))["a"] == [1, 2, 3, 4]


def test_cancelling_arun_waits_for_the_task_to_stop():
    """Then it raises CancelledError."""
    hold = Hold(deaf=False)

    async def main():
        running = asyncio.ensure_future(nerv.arun(flow(TaskDef("a", hold), TaskDef("b", one, dependencies=["a"]))))
        await asyncio.to_thread(hold.entered)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())


def test_events_can_be_followed_by_threads_and_coroutines():
    """All hear all."""

    async def main():
        execution = start(flow(TaskDef("a", one), TaskDef("b", one)))
        followed = [event.seq async for event in execution.events(follow=True)]
        assert followed == [event.seq async for event in execution.events()]
        return followed, [event.seq for event in execution.events(follow=True)]

    first, second = asyncio.run(main())
    assert first == second == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("ask", ["[]", "task", "logs", "project"])
def test_an_unknown_id_is_a_key_error_that_is_a_nerv_error(ask):
    """It says what there is that is like it."""
    execution = run(flow(TaskDef("extract", one)))
    with pytest.raises(KeyError) as caught:
        execution["extrakt"] if ask == "[]" else getattr(execution, ask)("extrakt")
    assert isinstance(caught.value, nerv.NervError)
    assert "extrakt" in str(caught.value)


@pytest.mark.parametrize(
    "ask",
    [
        lambda m: m.execution("none"),
        lambda m: m.add_task("none", TaskDef("a", one)),
        lambda m: m.execute_workflow("none"),
        lambda m: m.get_workflow_status("none"),
        lambda m: m.get_task_status("none"),
        lambda m: m.get_task_status("a", "none"),
        lambda m: m.fork("none", "a"),
        lambda m: m.retry("none"),
        lambda m: m.state_projector.at("none", 1),
        lambda m: m.state_projector.project("progress", execution="none"),
    ],
)
def test_a_manager_says_whom_it_does_not_know(manager, ask):
    """With a journal or without one."""
    with pytest.raises(KeyError, match="'none'") as caught:
        ask(manager)
    assert isinstance(caught.value, nerv.NervError)


# ---- the manager -----------------------------------------------------------------------------------------------------


def test_a_forgotten_execution_answers_all_the_same():
    """With the user's own projections, also those that are added later."""
    with WorkflowManager(keep=0) as manager:
        projector = manager.state_projector
        projector.add_projection("size", lambda state: len(state["tasks"]))
        execution = ended(manager.start(flow(TaskDef("a", one))))
        eventually(lambda: not manager.executions())
        projector.add_projection("name", lambda state: state["workflow"])
        assert (execution.project("size"), execution.project("name")) == (1, "wf")
        assert (execution["a"], execution.at(2)["tasks"]["a"]["status"]) == (1, TaskStatus.RUNNING)
        assert execution.id not in projector.get_state()["executions"]


def test_a_coroutine_function_as_on_event_hears_every_event(manager):
    """One after the other; the manager's later executions aren't its business."""
    heard = []

    async def listen(event):
        heard.append((event.execution_id, event.seq))

    with WorkflowManager() as own:
        execution = ended(own.start(flow(TaskDef("a", one)), on_event=listen))
        ended(own.start(flow(TaskDef("a", one))))
    assert heard == [(execution.id, seq) for seq in (1, 2, 3, 4)]


def test_joining_takes_equal_params(manager):
    """Values that were made anew are the same params; other ones, or another workflow, are an error."""
    wf = flow(TaskDef("a", one))

    def params(day=1):
        return {"day": datetime.date(2026, 11, day), "sizes": [1, {"k": (2,)}], "tags": {"x", "y"}}

    execution = ended(manager.start(wf, params(), execution_id="nightly"))
    assert manager.start(wf, params(), execution_id="nightly") is execution
    for other, given in ((wf, params(2)), (wf, None), (flow(TaskDef("a", one), name="other"), params())):
        with pytest.raises(nerv.NervError, match="nightly"):
            manager.start(other, given, execution_id="nightly")


def test_joining_with_values_that_can_not_be_compared_goes_by_identity(manager):
    """Their `==` may do anything."""

    class Rows:
        __hash__ = None

        def __eq__(self, other):
            raise ValueError("ambiguous")

    rows, wf = Rows(), flow(TaskDef("a", one))
    execution = ended(manager.start(wf, {"rows": rows}, execution_id="k"))
    assert manager.start(wf, {"rows": rows}, execution_id="k") is execution
    with pytest.raises(nerv.NervError, match="other params"):
        manager.start(wf, {"rows": Rows()}, execution_id="k")


def test_results_die_with_their_execution(manager):
    """The bus's history, the projector and subscribers don't keep them; the manager does, as many as `keep` says."""

    class Big:
        pass

    refs = []

    def make(ctx):
        ctx.logger.info("made")
        big = Big()
        refs.append(weakref.ref(big))
        return big

    with WorkflowManager(keep=1) as small:
        small.event_bus.subscribe(nerv.ANY, lambda _: None)
        ended(small.start(flow(TaskDef("a", make)))).state  # folding must not keep it either
        ended(small.start(flow(TaskDef("a", one))))
        eventually(lambda: gc.collect() is not None and refs[0]() is None, "the result to die")
        assert len(small.event_bus.get_history(EventType.TASK_COMPLETED)) == 2
    execution = run(flow(TaskDef("a", make)), on_event=lambda _: None)
    assert execution["a"] is refs[1]()
    del execution
    eventually(lambda: gc.collect() is not None and refs[1]() is None, "the result to die")


def test_a_draft_grows_between_its_executions(manager):
    """Each takes a snapshot; the status tells of the latest, or of the one that is named."""
    draft = manager.create_workflow("n", "d", [TaskDef("a", give, args=(Param("q"),))])
    assert manager.get_workflow_status(draft)["status"].name == "CREATED"
    first = manager.execute_workflow(draft, {"q": 5})
    ended(manager.execution(first))
    manager.add_task(draft, TaskDef("b", boom, dependencies=["a"]))
    second = manager.execute_workflow(draft, {"q": 6})
    ended(manager.execution(second))
    latest, earlier = manager.get_workflow_status(draft), manager.get_workflow_status(draft, first)
    assert (latest["status"].name, latest["task_count"], type(latest["error"])) == ("FAILED", 2, ValueError)
    assert (earlier["status"].name, earlier["task_count"], "error" in earlier) == ("COMPLETED", 1, False)
    assert earlier["task_results"]["a"].result == 5
    assert manager.get_task_status("a", first)["status"] is TaskStatus.COMPLETED
    with pytest.raises(nerv.UnknownIdError):
        manager.get_task_status("b", first)


# ---- watching --------------------------------------------------------------------------------------------------------


def test_publish_from_a_handler_is_queued_behind_the_event():
    """Every handler has had the first event by then."""
    bus, heard = EventBus(), []

    def first(event):
        heard.append(("first", event.type))
        if event.type == "a":
            bus.publish("b")
            heard.append("published")

    bus.subscribe(nerv.ANY, first)
    bus.subscribe(nerv.ANY, lambda event: heard.append(("second", event.type)))
    bus.publish("a")
    eventually(lambda: len(heard) == 5)
    bus.close()
    assert heard == [("first", "a"), "published", ("second", "a"), ("first", "b"), ("second", "b")]


def test_bound_methods_are_held_weakly_and_all_else_strongly():
    """Unless `weak=` says otherwise."""
    heard = []

    class Listener:
        def __init__(self, name):
            self.name = name

        def hear(self, event):
            heard.append((self.name, event.data))

    bus, weak = EventBus(), Listener("weak")
    bus.subscribe("x", weak.hear)
    bus.subscribe("x", Listener("kept").hear, weak=False)
    bus.subscribe("x", lambda event: heard.append(("lambda", event.data)))
    bus.publish("x", 1)
    del weak
    gc.collect()
    bus.publish("x", 2)
    bus.close()
    assert heard == [("weak", 1), ("kept", 1), ("lambda", 1), ("kept", 2), ("lambda", 2)]


def test_middleware_alters_what_the_bus_shows_never_the_log(manager):
    """Its remover ends that."""
    heard = []
    remove = manager.event_bus.add_middleware(lambda _: None)
    manager.event_bus.subscribe(nerv.ANY, heard.append, weak=False)
    execution = ended(manager.start(flow(TaskDef("a", one))))
    assert heard == manager.event_bus.get_history() == []
    assert kinds(execution) == ["WORKFLOW_STARTED", "TASK_STARTED", "TASK_COMPLETED", "WORKFLOW_COMPLETED"]
    remove()
    assert ended(manager.start(flow(TaskDef("a", one)))).id == heard[0].execution_id


def test_a_receiver_of_a_signal_can_ask_for_one_execution(manager):
    """The sender is the execution's id."""
    heard = []

    def receive(sender, event):
        heard.append((sender, event.seq))

    manager.event_bus.get_signal(EventType.TASK_COMPLETED).connect(receive, sender="wanted")
    for execution_id in ("other", "wanted"):
        ended(manager.start(flow(TaskDef("a", one)), execution_id=execution_id))
    assert heard == [("wanted", 3)]


def test_a_handler_may_cancel_and_wait(manager):
    """Waiting for what it is told of doesn't wait for itself."""
    waited = []

    def stop(event):
        execution = manager.execution(event.execution_id)
        execution.cancel("seen enough")
        waited.append(execution.wait(0))
        hold.go()

    hold = Hold()
    manager.event_bus.subscribe(EventType.TASK_COMPLETED, stop, task="a")
    execution = manager.start(flow(TaskDef("a", one), TaskDef("b", hold, dependencies=["a"]), TaskDef("c", hold)))
    assert ended(execution).status.name == "CANCELLED"
    assert len(waited) == 1


def test_a_diff_can_be_read_both_ways(manager):
    """The earlier moment may be the second."""
    execution = ended(manager.start(flow(TaskDef("a", one))))
    there, back = (manager.state_projector.diff(execution.id, *moments) for moments in ((0, 2), (2, 0)))
    assert there["tasks", "a", "status"] == (TaskStatus.PENDING, TaskStatus.RUNNING)
    assert {path: pair[::-1] for path, pair in there.items()} == back


@pytest.mark.parametrize(
    "delta", [5, lambda _: None, lambda _: {}, {"executions": 1}, lambda s: s.remove("executions")]
)
def test_a_delta_that_is_none_leaves_no_trace(delta):
    """It is refused."""
    projector = StateProjector({"x": 1})
    with pytest.raises((TypeError, ValueError)):
        projector.apply_delta(delta)
    assert projector.get_delta_history() == []
    assert projector.get_state()["x"] == 1


# ---- wiring ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [{"wrk": 1}, {"event_bus": 1}, {"services": 1}], ids=str)
@pytest.mark.parametrize("provider", ["workflow_manager", "event_bus", "quantum_partitioner"])
def test_a_bad_config_is_refused_by_whatever_uses_it_first(provider, config):
    """A part's name is no setting."""
    with pytest.raises(nerv.ConfigError, match=next(iter(config))):
        getattr(Services(config=config), provider)()


def test_two_containers_share_nothing_and_one_shares_all():
    """The manager of each has its parts."""
    mine, other = Services(), Services()
    other.config.from_dict({"workers": 3})
    with mine.workflow_manager() as first, other.workflow_manager() as second:
        for part in ("event_bus", "state_projector", "clock"):
            assert getattr(first, part) is getattr(mine, part)() is not getattr(second, part)
        assert (second.settings.workers, other.quantum_partitioner().max_workers) == (3, 3)


def test_a_clock_may_override_the_computers():
    """A subclass of SystemClock with its own time() is asked for the time."""
    from nerv.clock import SystemClock

    class Later(SystemClock):
        def time(self):
            return super().time() + 1_000_000

    import time

    with nerv.WorkflowManager(clock=Later()) as manager:
        execution = manager.start(nerv.Workflow("w", [nerv.TaskDef("a", lambda: 1)]))
        execution.wait()
    assert execution.task("a").started_at > time.time() + 900_000
