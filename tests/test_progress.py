"""The live view: what it counts, what each display shows, and that it can't hurt the run that it watches."""

import io
import re
import sys
import threading
import types
from collections import deque

import pytest

from nerv import progress
from nerv.eventlog import CODE_OF, EventLog
from nerv.events import EventType
from nerv.manager import WorkflowManager
from nerv.progress import INTERVAL, ProgressView, display_for
from nerv.progress.lines import QUIET, Lines
from nerv.progress.pictures import MOST_RUNNING, Above, Bar, Cell, picture
from nerv.progress.tally import MOST_FAILURES, WIDEST, Tally, clean, duration
from nerv.running import run
from nerv.statuses import WorkflowStatus
from nerv.tasks import TaskDef
from nerv.workflows import Workflow

PATIENCE = 10.0
EPOCH = 1000.0


class History:
    """A log that tests write by hand, at a time that they say."""

    def __init__(self, tasks=4, name="flow"):
        self.log = EventLog("x", name, [f"t{i}" for i in range(tasks)], {}, EPOCH)
        self.at = 0.0
        self.add("WORKFLOW_STARTED")
        self.tally = Tally(self.log)
        self.tally.read()

    @property
    def now(self):
        return EPOCH + self.at

    def add(self, event, task=-1, **data):
        self.log.records.append((CODE_OF[EventType[event]], task, self.at, 1 if task >= 0 else 0, data or None))

    def happens(self, *events):
        """`("STARTED", 0)`, `("FAILED", 0, error)`: facts about tasks; then they are counted."""
        for word, task, *error in events:
            self.add(f"TASK_{word}", task, **({"error": error[0]} if error else {}))
        self.tally.read()
        return self

    def ends(self, word="COMPLETED"):
        self.add(f"WORKFLOW_{word}")
        self.tally.read()
        return self

    def later(self, seconds):
        self.at += seconds
        return self


@pytest.fixture
def history():
    return History()


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self):
        return True

    def seen(self):
        """What is readable of what was written."""
        return re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", self.getvalue())


# ---- counting -------------------------------------------------------------------------------------------------------


def test_nothing_has_happened_at_first(history):
    tally = history.tally
    assert (tally.total, tally.done, tally.percent, tally.counts()) == (4, 0, 0, "0/4 done")


def test_every_way_to_end_counts_as_done(history):
    history.happens(("STARTED", 0), ("COMPLETED", 0), ("STARTED", 1), ("FAILED", 1, ValueError("x")), ("SKIPPED", 2))
    history.happens(("CANCELLED", 3))
    assert history.tally.counts() == "4/4 done, 1 failed, 1 skipped, 1 cancelled"
    assert history.tally.percent == 100


def test_what_runs_is_named_the_longest_first_with_what_it_says(history):
    history.happens(("STARTED", 2)).later(1.5).happens(("STARTED", 0))
    history.add("TASK_PROGRESS", 0, done=3, total=10, message="page\n3")
    history.tally.read()
    assert [tuple(task) for task in history.tally.running(5)] == [
        ("t2", EPOCH, None, None, ""),
        ("t0", EPOCH + 1.5, 3, 10, "page 3"),
    ]
    assert len(history.tally.running(1)) == 1


def test_a_task_that_waits_does_not_run(history):
    history.happens(("STARTED", 0), ("RETRYING", 0, OSError()))
    assert history.tally.counts() == "0/4 done, 1 waiting"
    history.happens(("STARTED", 0))
    assert history.tally.counts() == "0/4 done, 1 running"


def test_what_an_earlier_attempt_said_is_forgotten_with_the_task(history):
    history.happens(("STARTED", 0))
    history.add("TASK_PROGRESS", 0, done=1, total=2, message="")
    history.happens(("COMPLETED", 0))
    assert history.tally._said == {}


def test_tasks_that_are_added_count(history):
    history.log.ids.append("new")
    assert history.tally.total == 5


def test_a_percentage_is_full_only_at_the_end():
    history = History(tasks=1000)
    history.happens(*[("SKIPPED", i) for i in range(999)])
    assert history.tally.percent == 99


def test_a_workflow_without_tasks_is_done():
    assert History(tasks=0).tally.percent == 100


def test_time_runs_until_the_end_and_no_further(history):
    history.later(3.0)
    assert history.tally.elapsed(history.now) == 3.0
    history.ends().later(100)
    assert history.tally.elapsed(history.now) == 3.0


def test_a_log_without_records_has_taken_no_time():
    assert Tally(EventLog("x", "flow", [], {}, EPOCH)).elapsed(EPOCH + 9) == 0.0


def test_what_went_wrong_is_one_short_line_without_control_characters():
    history = History().happens(("FAILED", 0, ValueError("a\n\x1b[31mb" + "x" * 1000)))
    ((task, text),) = history.tally.failures
    assert task == "t0"
    assert text.startswith("ValueError: a  [31mb")
    assert len(text) == WIDEST
    assert text.isprintable()


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.99, "60.0 s"), (185, "3:05"), (3723.9, "1:02:03")]
)
def test_durations_are_readable(seconds, said):
    assert duration(seconds) == said


def test_text_of_users_cannot_steer_the_terminal():
    assert clean("a\x1b[2Jb\r\nc\x07") == "a [2Jb  c "


# ---- lines ----------------------------------------------------------------------------------------------------------


class Lined:
    """A history, and the lines that are written of it."""

    def __init__(self, **options):
        self.history = History(**options)
        self.stream = io.StringIO()
        self.display = Lines(self.stream)

    def draw(self):
        before = len(self.stream.getvalue())
        self.display.draw(self.history.tally, self.history.now)
        return self.stream.getvalue()[before:]

    def close(self):
        before = len(self.stream.getvalue())
        self.display.close(self.history.tally, self.history.now)
        return self.stream.getvalue()[before:]


def test_the_first_line_says_how_much_there_is_to_do():
    assert Lined(tasks=1200).draw() == "flow: 1,200 tasks\n"
    assert Lined(tasks=1).draw() == "flow: 1 task\n"


def test_nothing_new_is_nothing_said():
    lined = Lined()
    lined.draw()
    assert lined.draw() == ""


def test_each_tenth_of_the_way_is_a_line():
    lined = Lined(tasks=100)
    lined.draw()
    said = []
    for task in range(100):
        lined.history.later(0.01).happens(("STARTED", task), ("COMPLETED", task))
        said += lined.draw().splitlines()
    assert len(said) == 10
    assert said[0] == "flow: 10%, 10/100 done, 0.1 s"


def test_a_leap_is_one_line():
    lined = Lined(tasks=100)
    lined.draw()
    lined.history.happens(*[("SKIPPED", task) for task in range(77)])
    assert lined.draw() == "flow: 77%, 77/100 done, 77 skipped, 0.0 s\n"


def test_a_long_silence_is_broken_by_naming_what_runs():
    lined = Lined()
    lined.draw()
    lined.history.happens(("STARTED", 1)).later(QUIET - 0.1)
    assert lined.draw() == ""
    lined.history.later(0.1)
    assert lined.draw() == "flow: 0%, 0/4 done, 1 running, 5.0 s (t1)\n"
    assert lined.draw() == ""


def test_a_day_is_not_thousands_of_lines():
    lined = Lined()
    lined.draw()
    lined.history.happens(("STARTED", 1))
    for _ in range(24 * 3600):
        lined.history.later(1)
        lined.draw()
    assert 50 < len(lined.stream.getvalue().splitlines()) < 200


def test_a_failure_is_said_at_once_and_once():
    lined = Lined()
    lined.draw()
    lined.history.happens(("STARTED", 0), ("FAILED", 0, ValueError("boom")))
    assert lined.draw().splitlines()[0] == "flow: task 't0' failed with ValueError: boom"
    assert "boom" not in lined.close()


def test_of_many_failures_the_first_are_said():
    lined = Lined(tasks=100)
    lined.draw()
    for task in range(100):
        lined.history.happens(("FAILED", task, ValueError("boom")))
        lined.draw()
    lined.close()
    said = lined.stream.getvalue()
    assert said.count("boom") == MOST_FAILURES
    assert said.count("further failures are only counted") == 1


def test_failures_that_come_together_are_limited_too():
    lined = Lined(tasks=100)
    lined.history.happens(*[("FAILED", task, ValueError("boom")) for task in range(100)])
    said = lined.draw()
    assert said.count("boom") == MOST_FAILURES
    assert said.count("further failures are only counted") == 1


def test_a_run_that_has_ended_says_so_once():
    lined = Lined()
    lined.draw()
    lined.history.happens(*[("SKIPPED", task) for task in range(4)]).ends()
    assert lined.draw() == ""


def test_the_last_line_says_how_it_ended():
    lined = Lined()
    lined.history.happens(*[("SKIPPED", task) for task in range(4)]).later(2.0).ends("FAILED")
    assert lined.close() == "flow: FAILED, 4/4 done, 4 skipped, 2.0 s\n"


def test_a_view_that_is_left_early_says_so():
    assert Lined().close() == "flow: left while RUNNING, 0/4 done, 0.0 s\n"


def test_a_letter_that_the_stream_cannot_write_is_escaped():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Lines(stream).draw(History(name="flüß").tally, EPOCH)
    assert raw.getvalue() == b"fl\\xfc\\xdf: 4 tasks\n"


# ---- a bar ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm-256color")
    return Terminal()


@pytest.fixture
def bar(terminal, history):
    """A bar whose terminal has been told that there is something; it is closed at the end."""
    bar = Bar(terminal)
    bar.draw(history.tally, history.now)
    yield bar
    bar.close(history.tally, history.now)


def test_a_bar_shows_counts_and_what_runs(bar, terminal, history):
    history.happens(("STARTED", 0), ("COMPLETED", 0), ("STARTED", 1)).later(2.0)
    history.add("TASK_PROGRESS", 1, done=3, total=10, message="page [3]")
    history.tally.read()
    bar.draw(history.tally, history.now)
    assert "1/4 done, 1 running" in terminal.seen()
    assert re.search(r"t1  2\.0 s  3/10  page \[3\]", terminal.seen())


def test_a_bar_is_not_drawn_before_anything_has_happened(bar, terminal):
    assert terminal.getvalue() == ""


def test_a_bar_is_drawn_anew_only_when_something_has_changed(bar, terminal, history):
    history.happens(("STARTED", 0))
    bar.draw(history.tally, history.now)
    drawn = terminal.getvalue()
    bar.draw(history.tally, history.now + 0.3)
    assert terminal.getvalue() == drawn
    bar.draw(history.tally, history.now + 1.3)
    assert len(terminal.getvalue()) > len(drawn)


def test_of_many_running_tasks_some_are_named(terminal):
    history = History(tasks=100)
    bar = Bar(terminal)
    bar.draw(history.tally, history.now)
    history.happens(*[("STARTED", task) for task in range(100)])
    bar.draw(history.tally, history.now)
    assert len(re.findall(r"  t\d+  0\.0 s", terminal.seen())) == MOST_RUNNING
    assert "..." in terminal.seen()
    bar.close(history.tally, history.now)


def test_a_failure_stays_above_the_bar(bar, terminal, history):
    history.happens(("STARTED", 0), ("FAILED", 0, ValueError("[bold]boom[/bold] [/]")))
    bar.draw(history.tally, history.now)
    history.happens(("STARTED", 1))
    bar.draw(history.tally, history.now)
    assert terminal.seen().count("task 't0' failed with ValueError: [bold]boom[/bold] [/]") == 1


def test_a_paused_workflow_says_so(bar, terminal, history):
    history.ends("PAUSED")
    bar.draw(history.tally, history.now)
    assert "PAUSED" in terminal.seen()
    history.ends("RESUMED")
    assert history.tally.status is WorkflowStatus.RUNNING


def screen(written):
    """The lines that a terminal shows after this, without colours."""
    lines, row = [""], 0
    for text, control in re.findall(r"([^\x1b]*)(\x1b\[[0-9;?]*[A-Za-z]|$)", written):
        for piece in re.split(r"(?<=[\r\n])", text):
            lines[row] = piece.rstrip("\r\n") if lines[row] == "" else lines[row] + piece.rstrip("\r\n")
            if piece.endswith("\n"):
                row += 1
                lines[row:] = lines[row:] or [""]
        if control.endswith("A"):
            row -= int(control[2:-1])
        elif control.endswith("J"):
            lines[row:] = [""]
    return [line.rstrip() for line in lines]


def test_the_end_stays_and_nothing_else(terminal, history):
    bar = Bar(terminal)
    for task in range(3):
        history.happens(("STARTED", task))
        bar.draw(history.tally, history.now)
    assert [line.split()[0] for line in screen(terminal.getvalue())[:-1]] == ["flow", "t0", "t1", "t2"]
    history.happens(*[("COMPLETED", task) for task in range(4)]).ends()
    bar.close(history.tally, history.now)
    assert screen(terminal.getvalue()) == [f"flow {'━' * 40} COMPLETED  4/4 done  0.0 s", ""]


def test_failures_and_prints_stay_in_order_above_the_bar(terminal, history, monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = Bar(terminal)
    bar.draw(history.tally, history.now)
    for task in range(3):
        history.happens(("STARTED", task), ("FAILED", task, ValueError(task)))
        bar.draw(history.tally, history.now)
        print("printed", task)
        print("begun", end=" ")
        bar.draw(history.tally, history.now)
        print("ended", file=sys.stderr)
    history.ends("FAILED")
    bar.close(history.tally, history.now)
    *above, last, _ = screen(terminal.getvalue())
    assert above == [
        *("✗ task 't0' failed with ValueError: 0", "printed 0"),
        *("begun ended", "✗ task 't1' failed with ValueError: 1", "printed 1"),
        *("begun ended", "✗ task 't2' failed with ValueError: 2", "printed 2", "begun ended"),
    ]
    assert "FAILED" in last


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("name", ["flow", "a workflow with quite a long name, longer than anybody needs"])
def test_no_line_is_wider_than_the_terminal(width, name):
    history = History(tasks=1000, name=name).happens(*[("STARTED", task) for task in range(20)])
    history.add("TASK_PROGRESS", 0, done=1, total=2, message="m" * 300)
    history.tally.read()
    for last in (False, True):
        lines = str(picture(history.tally, history.now, width, last=last, failed=["f" * 300])).splitlines()
        assert max(map(len, lines)) <= width


def test_a_low_terminal_has_few_rows(terminal, monkeypatch):
    monkeypatch.setenv("LINES", "5")
    history = History(tasks=100)
    bar = Bar(terminal)
    bar.draw(history.tally, history.now)
    history.happens(*[("STARTED", task) for task in range(100)])
    bar.draw(history.tally, history.now)
    assert [line.strip().split()[0] for line in screen(terminal.getvalue())[:-1]] == ["flow", "t0", "t1", "..."]
    bar.close(history.tally, history.now)


def test_a_terminal_that_knows_only_ascii_gets_ascii(history, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    stream.isatty = lambda: True
    bar = Bar(stream)
    for task in range(2):
        history.happens(("STARTED", task), ("FAILED", task, ValueError("é")))
        bar.draw(history.tally, history.now)
    bar.close(history.tally, history.now)
    assert b"#" in raw.getvalue()
    assert b"x task 't0' failed with ValueError: \\xe9" in raw.getvalue()


def test_a_run_that_is_over_at_once_shows_its_end_and_its_failures(terminal, history):
    bar = Bar(terminal)
    bar.draw(history.tally, history.now)
    history.happens(("FAILED", 0, ValueError("boom"))).ends("FAILED")
    bar.close(history.tally, history.now)
    assert terminal.seen().splitlines()[0] == "✗ task 't0' failed with ValueError: boom"
    assert "FAILED  1/4 done" in terminal.seen()
    assert "\x1b[2K" not in terminal.getvalue()


def test_a_bar_takes_over_what_is_printed_and_gives_it_back(terminal, history, monkeypatch):
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = Bar(terminal)
    for _ in range(2):
        history.happens(("STARTED", 0))
        bar.draw(history.tally, history.now)
    stand_in = sys.stdout
    print("[/not markup] hello", end="", flush=True)
    assert out.getvalue() == ""
    bar.close(history.tally, history.now)
    assert "[/not markup] hello\n" in terminal.seen()
    assert (sys.stdout, sys.stderr) == (out, terminal)
    print("late", file=stand_in)
    assert out.getvalue() == "late\n"


def test_a_stand_in_looks_like_its_stream(terminal):
    stand_in = Above(terminal, deque())
    assert (stand_in.isatty(), stand_in.encoding, stand_in.writable()) == (True, "utf-8", True)
    with pytest.raises(io.UnsupportedOperation):
        stand_in.fileno()


def test_printing_a_lot_draws_nothing_by_itself(terminal, history, monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = Bar(terminal)
    for _ in range(2):
        history.happens(("STARTED", 0))
        bar.draw(history.tally, history.now)
    before = terminal.getvalue()
    for line in range(1000):
        print(line)
    assert terminal.getvalue() == before
    bar.draw(history.tally, history.now)
    bar.close(history.tally, history.now)
    assert [line for line in screen(terminal.getvalue()) if line.isdigit()] == [str(line) for line in range(1000)]


def test_what_goes_into_a_file_goes_into_the_file(terminal, history, monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = Bar(terminal)
    for _ in range(2):
        history.happens(("STARTED", 0))
        bar.draw(history.tally, history.now)
    print("hello")
    bar.close(history.tally, history.now)
    assert out.getvalue() == "hello\n"


# ---- a notebook -----------------------------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch):
    """What a notebook shows, as text: one item, which is replaced."""
    places = []

    def display(thing, *, display_id):
        assert display_id is True
        places.append([thing])
        return types.SimpleNamespace(update=places[-1].append)

    module = types.ModuleType("IPython.display")
    module.display = display
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return places


def test_a_notebook_has_one_place_that_is_replaced(shown, history):
    cell = Cell()
    cell.draw(history.tally, history.now)
    for task in range(3):
        history.happens(("STARTED", task), ("FAILED", task, ValueError(f"boom {task}")))
        cell.draw(history.tally, history.now)
        cell.draw(history.tally, history.now)
    history.ends("FAILED")
    cell.close(history.tally, history.now)
    ((*_, last),) = shown
    assert len(shown[0]) == 4
    text = last._repr_mimebundle_(include=(), exclude=())["text/plain"]
    assert "FAILED  3/4 done" in text
    assert text.count("✗ task") == 3


def test_in_a_notebook_the_view_is_shown_in_the_notebook(shown, monkeypatch):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert isinstance(display_for(None), Cell)
    assert isinstance(display_for(io.StringIO()), Lines)


def test_ipython_in_a_terminal_is_no_notebook(shown, monkeypatch):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: False)
    assert isinstance(display_for(None), Lines | Bar)


def test_the_picture_of_an_empty_workflow_can_be_drawn():
    assert str(picture(History(tasks=0).tally, EPOCH, 80, last=True)).startswith("flow ━━━")


# ---- which display --------------------------------------------------------------------------------------------------


def test_a_terminal_gets_a_bar_and_a_pipe_gets_lines(terminal):
    assert isinstance(display_for(terminal), Bar)
    assert isinstance(display_for(io.StringIO()), Lines)


@pytest.mark.parametrize("name", ["dumb", "unknown"])
def test_a_terminal_that_cannot_go_back_gets_lines(name, terminal, monkeypatch):
    monkeypatch.setenv("TERM", name)
    assert isinstance(display_for(terminal), Lines)


def test_a_view_below_somebody_elses_bar_writes_lines(terminal, history, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = Bar(terminal)
    for _ in range(2):
        history.happens(("STARTED", 0))
        bar.draw(history.tally, history.now)
    assert isinstance(display_for(None), Lines)
    bar.close(history.tally, history.now)


def test_a_program_without_stderr_is_not_hurt(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    execution = run(Workflow("quiet", [TaskDef("a", int)]), progress=True)
    assert execution.status is WorkflowStatus.COMPLETED


# ---- the whole view -------------------------------------------------------------------------------------------------


@pytest.fixture
def manager():
    with WorkflowManager(workers=2, failure_policy="continue") as manager:
        yield manager


def fail():
    raise ValueError("boom")


def test_run_shows_progress_on_stderr(capsys):
    run(Workflow("flow", [TaskDef("a", int), TaskDef("b", fail)]), progress=True, raise_on_failure=False)
    shown = capsys.readouterr()
    first, failure, last = shown.err.splitlines()
    assert shown.out == ""
    assert first == "flow: 2 tasks"
    assert failure == "flow: task 'b' failed with ValueError: boom"
    assert last.startswith("flow: FAILED, 2/2 done, 1 failed, ")


def test_without_progress_nothing_is_shown(capsys):
    run(Workflow("flow", [TaskDef("a", int)]))
    assert capsys.readouterr() == ("", "")


def test_the_view_moves_while_tasks_run(manager):
    begin, half = threading.Event(), threading.Event()

    class Watched(io.StringIO):
        def write(self, text):
            if "50%" in text:
                half.set()
            return super().write(text)

    tasks = [TaskDef("first", begin.wait, args=(PATIENCE,)), TaskDef("second", half.wait, args=(PATIENCE,))]
    execution = manager.start(Workflow("flow", tasks))
    with ProgressView(execution, stream=Watched()):
        begin.set()
        execution.wait()
    assert execution["second"]  # it saw the line that the first one's end was worth


def test_no_thread_is_left_when_the_view_has_stopped(manager):
    go = threading.Event()
    execution = manager.start(Workflow("flow", [TaskDef("slow", go.wait, args=(PATIENCE,))]))
    with ProgressView(execution, stream=io.StringIO()):
        assert "nerv-progress" in {thread.name for thread in threading.enumerate()}
    assert "nerv-progress" not in {thread.name for thread in threading.enumerate()}
    go.set()


def test_a_view_of_what_has_ended_shows_the_end(manager):
    execution = manager.start(Workflow("flow", [TaskDef("a", int)]))
    execution.wait()
    stream = io.StringIO()
    with ProgressView(execution, stream=stream):
        pass
    assert stream.getvalue().splitlines()[-1].startswith("flow: COMPLETED, 1/1 done")


def test_a_run_is_drawn_as_often_as_time_passes_however_many_tasks_it_has(manager, monkeypatch):
    drawn = []
    display = types.SimpleNamespace(draw=lambda *_: drawn.append(1), close=lambda *_: drawn.append(1))
    monkeypatch.setattr(progress, "display_for", lambda _: display)
    execution = manager.start(Workflow("flow", [TaskDef(str(i), int) for i in range(5000)]))
    with ProgressView(execution):
        execution.wait()
    state = execution.state
    assert len(drawn) <= 3 + (state["completed_at"] - state["started_at"]) / INTERVAL


class Broken(io.StringIO):
    """A stream whose other end is gone, from the n-th write on."""

    def __init__(self, lines):
        super().__init__()
        self.lines = lines

    def write(self, text):
        self.lines -= 1
        if self.lines < 0:
            raise BrokenPipeError(32, "Broken pipe")
        return super().write(text)


@pytest.mark.parametrize("lines", [0, 1])
def test_a_stream_that_breaks_costs_the_view_and_not_the_run(lines, manager, caplog):
    execution = manager.start(Workflow("flow", [TaskDef("a", int), TaskDef("b", fail)]))
    with ProgressView(execution, stream=Broken(lines)):
        execution.wait()
    assert execution.results == {"a": 0}
    assert [record.message for record in caplog.records] == ["the progress view gave up; the run goes on without it"]


def test_a_bar_that_breaks_gives_back_what_it_took(terminal, history, monkeypatch, manager):
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    execution = manager.start(Workflow("flow", [TaskDef("a", int)]))
    view = ProgressView(execution)
    view.tick()
    view._display._stand_in()
    print("hello")
    monkeypatch.setattr("nerv.progress.pictures.picture", lambda *_, **__: 1 / 0)
    view.stop()
    assert (sys.stdout, sys.stderr) == (terminal, terminal)
    assert terminal.getvalue().count("hello\n") == 1


def test_a_view_does_not_hide_an_error_inside_it(manager):
    execution = manager.start(Workflow("flow", [TaskDef("a", int)]))
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt), ProgressView(execution, stream=stream):
        execution.wait()
        raise KeyboardInterrupt
    assert "COMPLETED" in stream.getvalue()


def test_importing_the_view_does_not_import_rich():
    from tests.house.commands import REPOSITORY, run_command

    code = "import sys, nerv.progress; print('rich' in sys.modules)"
    assert run_command([sys.executable, "-c", code], REPOSITORY, seconds=30).stdout.strip() == "False"
