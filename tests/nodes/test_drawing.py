"""Pictures: a newcomer sees what buffers, routers and gates are, and which wires are direct and which are buffered."""

import json
from xml.etree import ElementTree as ET

import pytest

from nerv import (
    Buffer,
    Collector,
    Flow,
    Gate,
    JournalNode,
    Loop,
    Manual,
    Output,
    Paginate,
    Param,
    Router,
    Sequence,
    SubWorkflow,
    TaskDef,
    Timer,
    Watch,
    Workflow,
)
from nerv.cli import plan


def numbers():
    return [1, 2, 3]


def double(x):
    return 2 * x


def negate(x):
    return -x


def end(x):
    return x


def is_even(x):
    return x % 2 == 0


PAGE = Workflow(
    "page", [TaskDef("fetch", double, args=(Param("item"),)), TaskDef("clean", end, args=(Output("fetch"),))]
)
START = Flow("w").then(numbers)
FED = Flow("w").triggered_by(Manual())

SHAPES = {
    "direct": (
        START.then(double).then(end).build(),
        """
        t0["numbers"]
        t1["double"]
        t2["end"]
        t0 --> t1
        t1 --> t2
        """,
        "numbers -> double -> end",
    ),
    "buffered": (
        START.buffer(2).then(double).collect().then(end).build(),
        """
        t0["numbers"]
        t1[["Buffer double"]]
        t2["end"]
        t0 ==>|"2 at a time"| t1
        t1 --> t2
        """,
        "numbers => double -> end",
    ),
    "several steps behind a buffer": (
        START.buffer().then(double).then(negate).collect().then(end).build(),
        """
        t0["numbers"]
        subgraph t1["Buffer double"]
        direction LR
        t1_0["double"]
        t1_1["negate"]
        t1_0 --> t1_1
        end
        t2["end"]
        t0 ==> t1
        t1 --> t2
        """,
        "numbers => double -> end",
    ),
    "a quorum": (
        START.buffer().then(double).collect("some", quorum=2).then(end).build(),
        """
        t0["numbers"]
        t1[["Buffer double"]]
        t2[\\"Collector some: 2 are enough"/]
        t3["end"]
        t0 ==> t1
        t1 ==> t2
        t2 --> t3
        """,
        "numbers => double => some -> end",
    ),
    "branches": (
        START.when(is_even).then(double).otherwise().then(negate).end_when().then(end).build(),
        """
        t0["numbers"]
        t1{"Router is_even"}
        t2["double"]
        t3["negate"]
        t4["end"]
        t0 --> t1
        t1 -->|"is_even"| t2
        t1 -->|"else"| t3
        t2 --> t4
        t3 --> t4
        """,
        "numbers -> is_even -> double -> end",
    ),
    "routes": (
        START.route("way", {"big": double, 2: double}, negate).build(),
        """
        t0["numbers"]
        t1{"Router way"}
        t2["double"]
        t3["negate"]
        t0 --> t1
        t1 -->|"'big', 2"| t2
        t1 -->|"else"| t3
        """,
        "numbers -> way -> double",
    ),
    "a gate": (
        START.gate("approve", "Ship it?").then(end).build(),
        """
        t0["numbers"]
        t1{{"Gate approve: Ship it?"}}
        t2["end"]
        t0 --> t1
        t1 --> t2
        """,
        "numbers -> approve -> end",
    ),
    "loops in loops": (
        Workflow("w", [Loop("again", Workflow("once", [Loop("page", PAGE, is_even, Param("item"))]), bool, 1)]),
        """
        subgraph t0["Loop again: once, until bool"]
        direction LR
        subgraph t0_0["Loop page: until is_even"]
        direction LR
        t0_0_0["fetch"]
        t0_0_1["clean"]
        t0_0_0 --> t0_0_1
        end
        end
        """,
        "again",
    ),
    "other nodes": (
        Workflow(
            "w",
            [
                SubWorkflow("pages", PAGE, {"item": 1}),
                Timer("nap", 60, dependencies=["pages"]),
                Sequence("steps", [double, negate], 1, dependencies=["nap"]),
                Paginate("all", end, dependencies=["nap"]),
                JournalNode("mail", Output("nap"), name="Mail"),
            ],
        ),
        """
        subgraph t0["SubWorkflow pages: page"]
        direction LR
        t0_0["fetch"]
        t0_1["clean"]
        t0_0 --> t0_1
        end
        t1(("Timer nap: 60 s"))
        t2[/"Sequence steps: double, negate"/]
        t3(["Paginate all: end"])
        t4[("JournalNode Mail")]
        t0 --> t1
        t1 --> t2
        t1 --> t3
        t1 --> t4
        """,
        "pages -> nap -> steps",
    ),
    "fed, direct and buffered": (
        FED.then(end).buffer(3).then(double).then(negate).collect().gate("ok", "Well?").build(),
        """
        t0[/"messages: Manual()"/]
        t1["end"]
        t4{{"Gate ok: Well?"}}
        subgraph tb0["behind a buffer, 3 at a time"]
        direction LR
        t2["double"]
        t3["negate"]
        end
        t0 --> t1
        t1 ==> t2
        t2 ==> t3
        t3 --> t4
        """,
        "messages -> end => double => negate -> ok",
    ),
    "fed, two buffers and branches": (
        Flow("w").triggered_by(Watch("in/*")).buffer().route("way", {1: double}, negate).buffer(2).then(end).build(),
        """
        t0[/"messages: Watch(glob='in/*', settle=0.5)"/]
        subgraph tb0["behind a buffer"]
        direction LR
        t1{"Router way"}
        t2["double"]
        t3["negate"]
        end
        subgraph tb1["behind a buffer, 2 at a time"]
        direction LR
        t4["end"]
        end
        t0 ==> t1
        t1 ==>|"1"| t2
        t1 ==>|"else"| t3
        t2 ==> t4
        t3 ==> t4
        """,
        "messages => way => double => end",
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_drawn(shape):
    workflow, expected, _ = SHAPES[shape]
    head, *lines = workflow.to_mermaid().splitlines()
    assert head == "flowchart LR"
    assert [line.strip() for line in lines] == [line.strip() for line in expected.strip().splitlines()]


@pytest.mark.parametrize("shape", SHAPES)
def test_frames_are_indented_and_closed(shape):
    depth = 1
    for line in SHAPES[shape][0].to_mermaid().splitlines()[1:]:
        depth -= line.strip() == "end"
        assert line.startswith("  " * depth)
        assert not line.startswith("  " * depth + " ")
        depth += line.strip().startswith("subgraph")
    assert depth == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_the_plans_arrows_are_those_of_the_picture(shape):
    workflow, _, path = SHAPES[shape]
    told = list(plan.lines(workflow))
    assert f"  {path}" in told
    assert ("=> buffered: beside each other" in told[-1]) == any(" =>" in line for line in told[:-1])


PLANNED = {
    "buffered": ["double (Buffer, 2 at a time)"],
    "several steps behind a buffer": ["double (Buffer)", "inside double:", "  double -> negate"],
    "a quorum": ["some (Collector: 2 are enough)"],
    "branches": ["is_even (Router)"],
    "a gate": ["approve (Gate: Ship it?)"],
    "loops in loops": ["again (Loop: once, until bool)", "inside again:", "  inside page:", "    fetch -> clean"],
    "fed, direct and buffered": ["messages (Manual())", "double (behind a buffer, 3 at a time)", "ok (Gate: Well?)"],
}


@pytest.mark.parametrize("shape", PLANNED)
def test_nerv_plan_says_what_they_are(shape):
    told = list(plan.lines(SHAPES[shape][0]))
    for line in PLANNED[shape]:
        assert any(one == line or one.endswith(f"  {line}") for one in told), (line, told)


def test_what_a_fed_flow_is_made_of_inside_is_nobodys_business():
    workflow = SHAPES["fed, direct and buffered"][0]
    shown = workflow.to_mermaid() + workflow.to_dot() + "\n".join(plan.lines(workflow)) + plan.as_object(workflow)
    assert not any(word in shown for word in ("Station", "Buffered", "Source"))
    assert json.loads(plan.as_object(workflow))["nodes"] == {"ok": "Gate"}


def test_graphviz_draws_the_same():
    text = SHAPES["fed, two buffers and branches"][0].to_dot()
    assert '"way" [label="Router way", shape=diamond, style=""];' in text
    assert '"way" -> "double" [style=bold, label="1"];' in text
    assert 'subgraph cluster_1 { label="behind a buffer, 2 at a time"; "end"; }' in text
    direct = SHAPES["direct"][0].to_dot()
    assert '"numbers" -> "double";' in direct
    assert "bold" not in direct


def test_a_notebook_draws_the_same():
    drawn = {shape: [one.attrib for one in ET.fromstring(SHAPES[shape][0]._repr_svg_()).iter()] for shape in SHAPES}
    widths = {shape: [one["stroke-width"] for one in drawn[shape] if "stroke-width" in one] for shape in drawn}
    assert widths["direct"] == ["1", "1"]
    assert widths["buffered"] == ["3", "1"]
    assert "Gate approve: Ship …" in SHAPES["a gate"][0]._repr_svg_()


def test_labels_that_would_end_a_label_dont():
    text = Workflow("w", [Gate("g", 'Ship "it"; or | <not>?')]).to_mermaid()
    assert text.splitlines()[1] == '  t0{{"Gate g: Ship #34;it#34;#59; or #124; #60;not#62;?"}}'


def test_a_lambda_has_no_name_worth_showing():
    routes = [(lambda x: x, "a"), (is_even, "b")]
    tasks = [Router("r", 1, routes), *(TaskDef(one, numbers, dependencies=["r"]) for one in "ab")]
    lines = Workflow("w", tasks).to_mermaid().splitlines()
    assert lines[-2:] == ["  t0 --> t1", '  t0 -->|"is_even"| t2']


def test_a_buffer_says_what_it_runs_if_that_is_called_otherwise():
    tasks = [Buffer("b", [1], double, collect=False), Collector("c", "b"), Buffer("double", [1], double)]
    text = Workflow("w", tasks).to_mermaid()
    assert "Buffer b: double" in text
    assert '"Buffer double"' in text
    assert '"Collector c"' in text


def test_workflows_thousands_deep_are_drawn_as_far_as_anybody_looks():
    deep = PAGE
    for _ in range(2_000):
        deep = Workflow("deeper", [SubWorkflow("in", deep, {"item": Param("item")})])
    assert 15 < deep.to_mermaid().count("subgraph") < 30
    assert 15 < sum("inside" in line for line in plan.lines(deep)) < 30
