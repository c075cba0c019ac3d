"""The desk of agents: it revises until its critic is content, and waits for a person through kills."""

import re
import signal
import subprocess
import sys
from collections import Counter

import pytest

from nerv import SqliteJournal, WorkflowManager, WorkflowStatus
from tests.handshake import eventually
from tests.house.commands import REPOSITORY, environment

sys.path.insert(0, str(REPOSITORY / "examples"))
import multi_agent as desk

PATIENCE = 50.0
SUBJECT = "exception"


@pytest.fixture
def manager():
    with WorkflowManager(workers=4) as made:
        yield made


def written(manager, *answers):
    """A guide to the subject, with these answers given in advance: a signal that comes early is kept."""
    execution = manager.start(desk.desk, {"draft": desk.Draft(desk.Brief((SUBJECT,)))})
    for number, answer in enumerate(answers):
        execution.signal(f"edition[{number}]/approve", answer)
    assert execution.wait(PATIENCE), execution.summary()
    return execution


def words(draft):
    return sum(len(sentence.split()) for section in draft.sections for sentence in section.sentences)


def test_it_goes_round_until_the_critic_is_content(manager):
    execution = written(manager, "yes")
    rounds = [execution[task] for task in execution.sequence if task.endswith("/critic")]
    assert len(rounds) > 1
    assert all(draft.complaints for draft in rounds[:-1])
    assert rounds[-1].complaints == []
    assert execution.result.is_published
    assert execution.result.sections == rounds[-1].sections


def test_what_it_says_is_said_in_the_reference(manager):
    plain = {page: " ".join(text.replace("*", "").split()).replace("- ", "-") for page, text in desk.pages().items()}
    sections = written(manager, "yes").result.sections
    assert sections
    for page, sentences in sections:
        assert all(sentence.replace("- ", "-") in plain[page] for sentence in sentences)


@pytest.mark.parametrize(("remark", "compared"), [("shorter", -1), ("longer", 1)])
def test_a_remark_makes_another_edition(manager, remark, compared):
    execution = written(manager, remark, "yes")
    first, second = execution["edition[0]/round"], execution["edition[1]/round"]
    assert (words(second) - words(first)) * compared > 0
    assert execution.result.sections == second.sections


def test_a_page_can_be_ruled_out(manager):
    page = written(manager, "yes").result.sections[0].page
    second = written(manager, f"without {page}", "yes")
    assert page in [section.page for section in second["edition[0]/round"].sections]
    assert page not in [section.page for section in second.result.sections]


def test_a_subject_of_which_nothing_is_said_fails(manager):
    execution = manager.start(desk.desk, {"draft": desk.Draft(desk.Brief(("xyzzy",)))})
    assert execution.wait(PATIENCE)
    assert "nothing (more) of xyzzy" in str(execution.failures["edition[0]/round[0]/planner"])


def command(*more):
    return [sys.executable, REPOSITORY / "examples" / "multi_agent.py", "--journal", "desk.db", *more, SUBJECT]


def until_it_asks(folder):
    """Start it, and kill it while it waits for an answer; what it had printed."""
    process = subprocess.Popen(
        command("--ask"), cwd=folder, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        printed = ""
        while "Publish it?" not in printed:
            some = process.stdout.read(1)
            assert some, f"it ended, and had printed {printed}"
            printed += some
        eventually(lambda: told(folder)[0][-1].type == "TASK_WAITING")  # what it prints is on disk milliseconds later
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL
    return printed


def told(folder):
    """Its events as the journal has them, and how it stands."""
    with SqliteJournal(folder / "desk.db", read_only=True) as journal:
        return list(journal.events(SUBJECT)), journal.execution(SUBJECT).status


def nerv(folder, *arguments):
    words = [sys.executable, "-m", "nerv", *arguments]
    done = subprocess.run(
        words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def again(folder, answers):
    done = subprocess.run(
        command("--ask"),
        cwd=folder, env=environment(), input=answers, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_nothing_ran_twice(before, after):
    done = {event.task_id for event in before if event.type == "TASK_COMPLETED"}
    assert done
    assert not done & {event.task_id for event in after[len(before) :] if event.type == "TASK_STARTED"}
    completed = Counter(event.task_id for event in after if event.type == "TASK_COMPLETED")
    assert set(completed.values()) == {1}


@pytest.mark.timeout(200)
def test_killed_while_it_waits_it_asks_again_and_goes_on(tmp_path):
    first = until_it_asks(tmp_path)
    before, status = told(tmp_path)
    assert status is WorkflowStatus.INTERRUPTED
    waits = nerv(tmp_path, "waiting")
    assert waits.startswith("exception  desk  edition[0]/approve  ")
    assert "prompt 'Publish it? (yes, or a remark)'" in waits
    printed = again(tmp_path, "shorter\nyes\n")
    assert printed.startswith(first), "it tells the same story, and asks the same question"
    assert printed.count("Publish it?") == 2
    assert re.search(r"Published, by \d+ tasks", printed)
    after, status = told(tmp_path)
    assert status is WorkflowStatus.COMPLETED
    assert_nothing_ran_twice(before, after)


@pytest.mark.timeout(200)
def test_somebody_else_may_answer_while_nobody_runs_it(tmp_path):
    until_it_asks(tmp_path)
    before, _ = told(tmp_path)
    nerv(tmp_path, "signal", SUBJECT, "edition[0]/approve", "yes")
    printed = again(tmp_path, "")
    assert "Publish it?" not in printed
    assert "Published" in printed
    after, status = told(tmp_path)
    assert status is WorkflowStatus.COMPLETED
    assert_nothing_ran_twice(before, after)


def test_it_answers_itself_where_there_is_no_terminal(tmp_path):
    words = [sys.executable, REPOSITORY / "examples" / "multi_agent.py"]
    done = subprocess.run(
        words, cwd=tmp_path, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE, check=True,
    )  # fmt: skip
    assert [line.split(") ")[1] for line in done.stdout.splitlines() if "Publish it?" in line] == ["shorter", "yes"]
    assert "edition 2, round 1" in done.stdout
