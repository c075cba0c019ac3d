"""Routes: which branches run, how dead ones spread, and what joins do."""

from dataclasses import dataclass, field
from random import Random

import pytest

from nerv import (
    Expand,
    Output,
    ResultUnavailableError,
    Route,
    Router,
    TaskDef,
    Workflow,
    WorkflowDefinitionError,
    WorkflowManager,
)
from tests.handshake import PATIENCE
from tests.nodes.helpers import fail, go, of, same, status, statuses


def named(task_id, *needs, **options):
    return TaskDef(task_id, lambda: task_id, dependencies=list(needs), **options)


def routed(value, routes, *more, **options):
    return go(Router("r", value, routes, **options), named("a", "r"), named("b", "r"), *more)


@pytest.mark.parametrize(
    ("value", "routes", "options", "taken"),
    [
        ("x", {"x": "a", "y": "b"}, {}, {"a"}),
        ("y", {"x": "a", "y": "b"}, {}, {"b"}),
        ("x", {"x": ["a", "b"]}, {}, {"a", "b"}),
        ("x", {"x": [], "y": ["a", "b"]}, {}, set()),
        ("z", {"x": "a"}, {"default": "b"}, {"b"}),
        (1, {True: "a"}, {"default": "b"}, {"b"}),
        (True, {1: "a"}, {"default": "b"}, {"b"}),
        (1.0, {1: "a"}, {"default": ["b"]}, {"b"}),
        (None, {None: "a", 0: "b"}, {}, {"a"}),
        (7, [(lambda v: v > 9, "a"), (lambda v: v > 5, "b"), (lambda _: True, "a")], {}, {"b"}),
        ([1], [(lambda v: v == [1], ["a"])], {"default": "b"}, {"a"}),
    ],
)
def test_a_router_takes_the_branches_of_its_value(value, routes, options, taken):
    execution = routed(value, routes, **options)
    assert execution.status.name == "COMPLETED"
    assert {task for task in "ab" if status(execution, task) == "COMPLETED"} == taken
    assert execution["r"] == value


def test_a_branch_not_taken_names_the_router_as_the_cause():
    execution = routed("x", {"x": "a", "y": "b"}, named("c", "b"))
    assert execution.task("b").skipped_because == "r"
    assert execution.task("c").skipped_because == "r"
    with pytest.raises(ResultUnavailableError, match="'r'"):
        execution["c"]


def test_a_router_without_a_route_fails_and_names_value_and_routes():
    execution = routed("purple", {"red": "a", "blue": "b"})
    said = str(execution.failures["r"])
    assert all(word in said for word in ("'r'", "'purple'", "'red'", "'blue'", "default"))
    assert statuses(execution) == {"r": "FAILED", "a": "SKIPPED", "b": "SKIPPED"}


def test_first_is_the_join_after_a_router():
    join = TaskDef("join", same, args=(Output.first("a", "b"),))
    assert routed("x", {"x": "a", "y": "b"}, join)["join"] == "a"
    assert routed("y", {"x": "a", "y": "b"}, join)["join"] == "b"
    assert routed("x", {"x": ["a", "b"]}, join)["join"] == "a"


def test_first_reaches_into_whichever_it_is():
    rows = TaskDef("b", lambda: {"rows": ["b"]}, dependencies=["r"])
    join = TaskDef("join", same, args=([Output.first("a", "b")["rows"][0]],))
    assert go(Router("r", 1, {1: "b", 2: "a"}), named("a", "r"), rows, join)["join"] == ["b"]


def test_first_of_none_is_an_error_that_names_them():
    join = TaskDef("join", same, args=(Output.first("a", "b"),), dependencies=["r"])
    execution = routed("x", {"x": [], "y": ["a", "b"]}, join)
    assert "'a', 'b'" in str(execution.failures["join"])


@pytest.mark.parametrize("wrong", [(), (3,), (TaskDef("a", fail),)])
def test_first_takes_ids(wrong):
    with pytest.raises(TypeError):
        Output.first(*wrong)


def test_a_reader_of_a_dead_branch_without_a_default_fails_and_names_both():
    execution = routed("x", {"x": "a", "y": "b"}, TaskDef("j", lambda *_: 1, args=(Output("a"), Output("b"))))
    assert "'j'" in str(execution.failures["j"])
    assert "'b'" in str(execution.failures["j"])
    execution = routed("x", {"x": "a", "y": "b"}, TaskDef("j", same, args=([Output("a"), Output("b", default=0)],)))
    assert execution["j"] == ["a", 0]


def test_cleanup_runs_behind_dead_branches_and_any_completed_counts_them_out():
    execution = routed(
        "x",
        {"x": "a", "y": "b"},
        named("clean", "b", run_when="all_finished"),
        named("any", "a", "b", run_when="any_completed"),
        named("none", "b", run_when="any_completed"),
    )
    assert (status(execution, "clean"), status(execution, "any")) == ("COMPLETED", "COMPLETED")
    assert (status(execution, "none"), execution.status.name) == ("SKIPPED", "COMPLETED")


def test_a_failure_behind_a_dead_branch_is_a_failure():
    bad = TaskDef("bad", fail)
    mixed = named("mixed", "b", "bad", run_when="any_completed")
    execution = go(
        Router("r", "x", {"x": "a", "y": "b"}), named("a", "r"), named("b", "r"), bad, mixed, failure_policy="continue"
    )
    assert (execution.task("mixed").skipped_because, execution.status.name) == ("bad", "FAILED")


def test_any_task_may_route():
    execution = go(TaskDef("r", lambda: Route("a", "c")), *(named(task, "r") for task in "abc"))
    assert [status(execution, task) for task in "abc"] == ["COMPLETED", "SKIPPED", "COMPLETED"]
    assert execution["r"] == ("a", "c")
    execution = go(TaskDef("r", lambda: Route()), named("a", "r"))  # noqa: PLW0108  an outcome is made by a call
    assert (execution.status.name, status(execution, "a")) == ("COMPLETED", "SKIPPED")


def test_a_join_that_also_needs_the_router_is_no_branch():
    execution = go(TaskDef("r", lambda: Route("a")), named("a", "r"), named("b", "r"), named("j", "r", "a", "b"))
    assert statuses(execution) == {"r": "COMPLETED", "a": "COMPLETED", "b": "SKIPPED", "j": "COMPLETED"}


def test_a_router_leaves_dependents_alone_that_it_doesnt_name():
    execution = routed("x", {"x": "a", "y": "b"}, named("reader", "r"))
    assert status(execution, "reader") == "COMPLETED"


def test_a_branch_that_is_ready_already_runs_whatever_is_routed():
    """There is one worker, and c is the least urgent."""
    tasks = [
        named("a", priority=9),
        TaskDef("r", lambda: Route("b"), priority=8),
        named("b", "r"),
        named("c", "a", "r", run_when="any_completed", priority=0),
    ]
    execution = go(*tasks, workers=1)
    assert statuses(execution) == dict.fromkeys("arbc", "COMPLETED")


def test_a_route_to_a_stranger_fails_the_task_and_names_both():
    execution = go(TaskDef("r", lambda: Route("ghost")), named("a", "r"))
    assert "'ghost'" in str(execution.failures["r"])
    assert "'a'" in str(execution.failures["r"])


def test_added_tasks_route_among_each_other():
    def grow():
        return Expand([Router("r", 1, {1: "a", 2: "b"}), named("a", "r"), named("b", "r"), named("j", "a", "b")])

    execution = go(TaskDef("grow", grow))
    assert execution.status.name == "COMPLETED"
    assert statuses(execution)["grow/b"] == "SKIPPED"
    assert execution["grow/j"] == "j"


@pytest.mark.parametrize(
    ("router", "words"),
    [
        (Router("r", 1, {1: "ghost"}), ["'ghost'", "no task"]),
        (Router("r", 1, {1: "aa"}), ["'a'"]),
        (Router("r", 1, {1: "other"}), ["'other'", "dependencies=['r']"]),
        (Router("r", 1, {1: "a"}, default="ghost"), ["'ghost'"]),
    ],
)
def test_an_unknown_branch_is_found_when_the_workflow_is_made(router, words):
    with pytest.raises(WorkflowDefinitionError) as caught:
        of(router, named("a", "r"), named("other"))
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("options", [{"routes": "a"}, {"routes": 3}, {"routes": [("a", "b")]}, {"routes": {1: 2}}, {}])
def test_routes_that_cant_be_right_are_refused(options):
    with pytest.raises(WorkflowDefinitionError, match="'r'"):
        Router("r", 1, **options)


# ---- joins after routes, against a reference ------------------------------------------------------------------------


@dataclass
class Drawn:
    """A series-parallel graph with routers: id -> what it needs; router -> its branches, and those that are taken."""

    needs: dict[str, list[str]] = field(default_factory=dict)
    branches: dict[str, list[str]] = field(default_factory=dict)
    taken: dict[str, list[str]] = field(default_factory=dict)

    def add(self, *needs):
        task = f"t{len(self.needs)}"
        self.needs[task] = list(needs)
        return task

    def block(self, before, depth, random):
        """A block behind `before`; gives its last task."""
        kind = random.choice(["task", "series", "routed", "routed", "parallel"]) if depth else "task"
        if kind == "task":
            return self.add(*before)
        if kind == "series":
            return self.block([self.block(before, depth - 1, random)], depth - 1, random)
        head = self.add(*before)
        heads = [self.add(head) for _ in range(random.randint(1, 3))]
        tails = [self.block([one], depth - 1, random) for one in heads]
        if kind == "routed":
            self.branches[head] = heads
            self.taken[head] = [one for one in heads if random.random() < 0.5]
        plain = [task for task in self.needs if task not in self.branches]  # a router's dependents are its branches
        outside = [random.choice(plain)] if plain and random.random() < 0.2 else []
        return self.add(*dict.fromkeys([*tails, *outside]))

    def expected(self):
        """API.md: branches that aren't taken are SKIPPED; a join runs when its live dependencies completed, and is
        SKIPPED when all of them are dead.
        """
        skipped = set()
        for task, needs in self.needs.items():
            live = [need for need in needs if need not in skipped]
            untaken = any(task in self.branches.get(need, ()) and task not in self.taken[need] for need in live)
            if untaken or (needs and not live):
                skipped.add(task)
        return {task: "SKIPPED" if task in skipped else "COMPLETED" for task in self.needs}

    def workflow(self):
        return Workflow("drawn", [TaskDef(t, self.function(t), dependencies=n) for t, n in self.needs.items()])

    def function(self, task):
        return (lambda: Route(*self.taken[task])) if task in self.branches else (lambda: task)


def test_joins_after_random_routes_do_what_the_reference_says():
    routers = skipped = 0
    with WorkflowManager(workers=2) as manager:
        for seed in range(400):
            drawn, random = Drawn(), Random(seed)
            drawn.block([], 3, random)
            execution = manager.start(drawn.workflow())
            assert execution.wait(PATIENCE), seed
            expected = drawn.expected()
            assert statuses(execution) == expected, seed
            assert execution.status.name == "COMPLETED", seed
            routers += len(drawn.branches)
            skipped += list(expected.values()).count("SKIPPED")
    assert routers > 400
    assert skipped > 1000
