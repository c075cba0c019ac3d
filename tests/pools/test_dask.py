"""The pool of a Dask cluster's workers, on a real cluster: LocalCluster, with processes."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

distributed = pytest.importorskip("distributed")

from distributed import Client, LocalCluster  # noqa: E402

import nerv  # noqa: E402
import nerv.journal.sqlite  # noqa: E402  here: pytest's rewriting of modules and distributed's threads don't get on
from nerv import (  # noqa: E402
    Output,
    Param,
    ResultUnavailableError,
    RetryPolicy,
    TaskDef,
    TaskMetadata,
    WorkerCrashedError,
    Workflow,
    WorkflowDefinitionError,
    WorkflowFailedError,
    WorkflowManager,
)
from tests.handshake import PATIENCE, ended, eventually, flow, statuses  # noqa: E402
from tests.house.commands import environment, run_command  # noqa: E402
from tests.pools import test_contract  # noqa: E402

pytestmark = [
    pytest.mark.timeout(150),  # clusters start and die here, on machines that may be busy
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Dask leaves sockets to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:distributed"),
]
WIDTH = 3


@pytest.fixture(scope="module")
def cluster():
    """Three workers of one thread each."""
    with LocalCluster(n_workers=WIDTH, threads_per_worker=1, dashboard_address=None) as made:
        yield made


@pytest.fixture(scope="module")
def outside(cluster):
    """A client of its own, to look into the cluster."""
    with Client(cluster, set_as_default=False) as made:
        yield made


@pytest.fixture
def manager(cluster):
    """Makes managers whose pool `cluster`, the default, is that cluster."""
    made = []

    def make(**settings):
        pools = {"cluster": {"kind": "dask", "address": cluster.scheduler_address}}
        made.append(WorkflowManager(pools=pools, default_pool="cluster", **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


class Cluster(test_contract.Pool):
    """The pool as the contract wants it."""

    address = None

    def settings(self, workers):
        return {"pools": {self.name: {"kind": "dask", "address": self.address, "workers": workers}}}

    @property
    def is_here(self):
        return False


class TestTheContract(test_contract.TestEveryPool):
    @pytest.fixture
    def pool(self, cluster):
        made = Cluster("cluster", "dask")
        made.address = cluster.scheduler_address
        return made

    @pytest.fixture
    def manager(self, pool):
        made = []

        def make(workers=1, **settings):
            made.append(WorkflowManager(**pool.settings(workers), **settings))
            return made[-1]

        yield make
        for one in made:
            one.close()

    def test_shows_services_or_says_why_not(self, pool, manager):
        execution = ended(manager(services=object()).start(flow(pool.task("a", test_contract.services))))
        assert "a cluster's workers" in str(execution.failures["a"])


# ---- results ---------------------------------------------------------------------------------------------------------

MEGABYTE = 1_000_000


def grown(data):
    return bytes(MEGABYTE) if data is None else data[:-1] + b"x"


def where(_):
    return distributed.get_worker().address


def sent(outside):
    """Bytes that workers have sent to anybody, each worker's count."""
    return sum(outside.run(lambda dask_worker: dask_worker.transfer_outgoing_bytes_total).values())


def test_a_chain_of_large_results_never_passes_through_here(manager, outside):
    """Not a byte leaves a worker: each task runs where what it reads is. What is asked for then does come, once."""
    length = 30
    tasks = [TaskDef("t0", grown, args=(None,))]
    tasks += [TaskDef(f"t{n}", grown, args=(Output(f"t{n - 1}"),)) for n in range(1, length)]
    before = sent(outside)
    execution = ended(manager().start(flow(*tasks)))
    assert len(execution.results) == length
    assert execution.task("t3").status.name == "COMPLETED"
    assert sum(event.type.name == "TASK_COMPLETED" for event in execution.events()) == length
    assert sent(outside) == before
    assert execution[f"t{length - 1}"][-1:] == b"x"
    assert MEGABYTE <= sent(outside) - before < 2 * MEGABYTE
    assert execution.result is execution[f"t{length - 1}"] is execution.results[f"t{length - 1}"]
    assert MEGABYTE <= sent(outside) - before < 2 * MEGABYTE


def test_a_local_task_and_a_task_on_the_cluster_read_each_others_results(manager):
    tasks = [
        TaskDef("far", lambda: {"k": [1, 2]}),
        TaskDef("near", lambda x: [threading.current_thread().name, x], args=(Output("far")["k"],), pool="thread"),
        TaskDef(
            "again", lambda x, y, ctx=None: (x, y), args=(Output("near")[1], {"deep": (Output("far"), Param("p"))})
        ),
    ]
    execution = ended(manager().start(flow(*tasks), {"p": 5}))
    assert execution["near"][0].startswith("nerv-thread")
    assert execution["again"] == ([1, 2], {"deep": ({"k": [1, 2]}, 5)})


def test_results_are_there_while_it_runs(manager, tmp_path):
    tasks = [TaskDef("a", lambda: 7), TaskDef("b", test_contract.deaf, args=(str(tmp_path),), dependencies=["a"])]
    execution = manager().start(flow(*tasks))
    eventually((tmp_path / "began").exists)
    assert dict(execution.results) == {"a": 7}
    (tmp_path / "go").touch()
    ended(execution)


def test_handlers_get_results_when_they_read_them(manager):
    heard = []
    execution = manager().start(flow(TaskDef("a", lambda: 7)), on_event=lambda event: heard.append(event.data))
    ended(execution)
    assert [data["result"] for data in heard if "result" in data] == [7]


def test_results_are_there_when_the_manager_is_closed(manager):
    made = manager()
    execution = ended(made.start(flow(TaskDef("a", lambda: 7), TaskDef("b", lambda: 8))))
    made.close()
    assert dict(execution.results) == {"a": 7, "b": 8}


def test_a_journal_keeps_results_and_another_process_would_find_them(manager, tmp_path):
    tasks = [TaskDef("a", grown, args=(None,)), TaskDef("b", len, args=(Output("a"),))]
    ended(manager(journal=str(tmp_path / "runs.db")).start(flow(*tasks), execution_id="e")).results.copy()
    with nerv.SqliteJournal(str(tmp_path / "runs.db"), read_only=True) as journal:
        results = [event.data.get("result") for event in journal.events("e") if event.type.name == "TASK_COMPLETED"]
    assert [results[0], results[1]] == [bytes(MEGABYTE), MEGABYTE]


def test_a_cluster_of_its_own_leaves_results_behind_when_it_is_closed():
    tasks = [TaskDef("a", grown, args=(None,)), TaskDef("b", os.getpid), TaskDef("c", len, args=(Output("a"),))]
    pools = {"mine": {"kind": "dask", "workers": 2}}
    execution = nerv.run(flow(*tasks), pools=pools, default_pool="mine")
    assert execution["c"] == len(execution["a"]) == MEGABYTE
    assert execution["b"] != os.getpid()


def test_one_that_cannot_leave_it_takes_no_other_along():
    """On one worker, in the order in which they are written to files: the first can't be."""
    tasks = [TaskDef("lock", threading.Lock), TaskDef("b", grown, args=(None,), dependencies=["lock"])]
    pools = {"mine": {"kind": "dask", "workers": 1}}
    execution = nerv.run(flow(*tasks), pools=pools, default_pool="mine")
    assert len(execution["b"]) == MEGABYTE
    with pytest.raises(ResultUnavailableError, match="ask for results while the cluster is there"):
        execution["lock"]


def test_a_task_on_the_cluster_steers(manager):
    """What it returns to add tasks is needed here, at once."""
    grown_tasks = nerv.Expand(
        [TaskDef("x", lambda: 20), TaskDef("y", lambda x: x + 1, args=(Output("x"),))], Output("y")
    )
    tasks = [TaskDef("grow", lambda: grown_tasks), TaskDef("after", lambda n: n * 2, args=(Output("grow"),))]
    execution = ended(manager().start(flow(*tasks)))
    assert (execution["grow"], execution["after"], execution["grow/x"]) == (21, 42, 20)


# ---- what is sent ----------------------------------------------------------------------------------------------------


def test_lambdas_closures_and_partials_are_sent(manager):
    import functools

    offset = 10
    tasks = [
        TaskDef("lambda", lambda x: x + 1, args=(1,)),
        TaskDef("closure", lambda x: x + offset, args=(1,)),
        TaskDef("partial", functools.partial(pow, 2), args=(5,)),
    ]
    assert dict(ended(manager().start(flow(*tasks))).results) == {"lambda": 2, "closure": 11, "partial": 32}


SCRIPT = """
import nerv

class Own:
    def __init__(self, x):
        self.x = x

@nerv.task(pool="cluster")
def make(x):
    return Own(x)

@nerv.task(pool="cluster")
def look(own):
    return isinstance(own, Own), own.x

@nerv.workflow
def both():
    return look(make(3))

if __name__ == "__main__":
    execution = nerv.run(both(), pools={"cluster": {"kind": "dask", "workers": 1}})
    print(execution.result)
"""


def test_what_a_script_defines_is_sent_from_it(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    assert "(True, 3)" in run_command([sys.executable, "script.py"], tmp_path, seconds=50).stdout


def test_what_an_interactive_session_defines_is_sent_from_it(tmp_path):
    done = run_command([sys.executable, "-c", SCRIPT], tmp_path, seconds=50)
    assert "(True, 3)" in done.stdout, done.stdout


def test_what_cant_be_sent_is_refused_before_anything_runs(manager, tmp_path):
    lock = threading.Lock()
    tasks = [
        TaskDef("fine", test_contract.mark, args=(str(tmp_path), "called")),
        TaskDef("holds a lock", lambda: lock),
        TaskDef("given a lock", test_contract.identity, args=(lock,)),
    ]
    with pytest.raises(WorkflowDefinitionError) as caught:
        manager().start(flow(*tasks))
    assert [problem.task_id for problem in caught.value.problems] == ["holds a lock", "given a lock"]
    assert list(tmp_path.iterdir()) == []


def test_a_local_result_that_cant_be_sent_fails_the_task_that_reads_it(manager):
    tasks = [TaskDef("lock", threading.Lock, pool="thread"), TaskDef("reads", lambda x: x, args=(Output("lock"),))]
    execution = ended(manager(failure_policy="continue").start(flow(*tasks, TaskDef("other", lambda: 1))))
    assert "'reads' can't be sent" in str(execution.failures["reads"])
    assert execution["other"] == 1


def test_each_function_is_unpickled_once_on_a_worker_and_keeps_its_state(manager):
    seen = []

    def count():
        seen.append(1)
        return len(seen)

    execution = ended(manager().start(flow(*(TaskDef(f"t{n}", count) for n in range(30)))))
    assert Counter(execution.results.values())[1] <= WIDTH
    assert max(execution.results.values()) >= 30 // WIDTH


# ---- priorities and resources ----------------------------------------------------------------------------------------


def test_a_task_that_asks_for_a_workers_resource_waits_for_it():
    """Of four threads only one may hold the lane."""
    with LocalCluster(n_workers=1, threads_per_worker=4, resources={"LANE": 1}, dashboard_address=None) as lanes:
        wants = TaskMetadata(values={"resources": {"LANE": 1}})
        tasks = [TaskDef(f"t{n}", test_contract.span, args=(n,), metadata=wants) for n in range(8)]
        pools = {"cluster": {"kind": "dask", "address": lanes.scheduler_address}}
        execution = nerv.run(flow(*tasks), pools=pools, default_pool="cluster")
        spans = sorted(execution.results.values())
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))


# ---- dying -----------------------------------------------------------------------------------------------------------


def own_pools(workers=2):
    return {"pools": {"mine": {"kind": "dask", "workers": workers}}, "default_pool": "mine"}


def die_once(folder, name):
    if test_contract.mark(folder, name):
        os.kill(os.getpid(), signal.SIGKILL)
    return name


def test_a_worker_that_dies_costs_only_its_own_task(tmp_path):
    """Among thirty tasks one kills its worker: it is FAILED, each of the others runs once and completes."""
    tasks = [TaskDef(f"t{n}", test_contract.mark, args=(str(tmp_path), f"t{n}")) for n in range(30)]
    dead = TaskDef("dead", die_once, args=(str(tmp_path), "dead"))
    with WorkflowManager(**own_pools(), failure_policy="continue") as manager:
        execution = ended(manager.start(flow(*tasks[:5], dead, *tasks[5:])))
        assert isinstance(execution.failures["dead"], WorkerCrashedError)
        assert "'dead'" in str(execution.failures["dead"])
        assert len(execution.failures) == 1
        assert {execution.task(task).attempts for task in statuses(execution)} == {1}
        assert sum(status == "COMPLETED" for status in statuses(execution).values()) == 30
        assert len(list(tmp_path.iterdir())) == 31
        assert ended(manager.start(flow(TaskDef("a", os.getpid))))["a"] != os.getpid()


def test_a_task_whose_worker_died_is_retried_by_its_policy(tmp_path):
    again = RetryPolicy(maximum_attempts=2, initial_interval=0.001)
    tasks = [  # one after the other: what runs beside one that dies, dies with it
        TaskDef(
            f"t{n}",
            die_once,
            dependencies=[f"t{n - 1}"] if n else [],
            args=(str(tmp_path), f"t{n}"),
            retry_policy=again,
        )
        for n in range(3)
    ]
    execution = nerv.run(flow(*tasks), **own_pools())
    assert dict(execution.results) == {f"t{n}": f"t{n}" for n in range(3)}
    assert [execution.task(f"t{n}").attempts for n in range(3)] == [2, 2, 2]


def test_a_killed_workers_results_are_made_again_when_they_are_needed(tmp_path):
    """Dask does that: what it knows how to make isn't lost with the worker that had it."""
    both = Workflow("w", [TaskDef("a", os.getpid), TaskDef("b", lambda: None, dependencies=["a"])])
    with WorkflowManager(**own_pools()) as manager:
        execution = ended(manager.start(both))
        (pool,) = execution._live.pools
        for pid in pool.cluster.client.run(os.getpid).values():
            os.kill(pid, signal.SIGKILL)
        assert isinstance(execution["a"], int)


# ---- timeouts and cancels --------------------------------------------------------------------------------------------


def hang_once(folder, name):
    if test_contract.mark(folder, name):
        test_contract.deaf(folder)
    return name


def test_a_task_that_takes_too_long_is_left_behind_and_retried(manager, tmp_path):
    """Twice as many as there are workers: their threads are free again."""
    tasks = [
        TaskDef(f"t{n}", hang_once, args=(str(tmp_path), f"t{n}"), timeout=0.5, retry_policy=2)
        for n in range(2 * WIDTH)
    ]
    execution = ended(manager().start(flow(*tasks)))
    (tmp_path / "go").touch()
    assert dict(execution.results) == {f"t{n}": f"t{n}" for n in range(2 * WIDTH)}
    assert {execution.task(f"t{n}").attempts for n in range(2 * WIDTH)} == {2}


def test_the_time_in_line_doesnt_count(manager):
    """Each takes half of its timeout, and the last waits for several others."""
    tasks = [TaskDef(f"t{n}", time.sleep, args=(0.25,), timeout=1.0) for n in range(6 * WIDTH)]
    assert len(ended(manager().start(flow(*tasks))).results) == 6 * WIDTH


def test_a_cancel_takes_back_what_is_in_line(manager, tmp_path):
    tasks = [TaskDef(f"w{n}", test_contract.stop_when_told, args=(str(tmp_path),)) for n in range(WIDTH)]
    tasks += [TaskDef(f"t{n}", test_contract.mark, args=(str(tmp_path), f"t{n}")) for n in range(50)]
    execution = manager(grace=PATIENCE).start(flow(*tasks))
    eventually((tmp_path / "began").exists)
    execution.cancel()
    ended(execution)
    eventually(lambda: "RUNNING" not in statuses(execution).values())
    completed = sum(status == "COMPLETED" for status in statuses(execution).values())
    called = len(list(tmp_path.iterdir())) - 1
    assert completed <= called < 50  # what begins in the same moment is called, but isn't waited for


def test_what_begins_when_it_is_taken_back_doesnt_keep_its_worker(manager, tmp_path):
    """Again and again, at whatever moment the cancel comes."""
    made = manager()
    for n in range(20):
        execution = made.start(flow(TaskDef("a", test_contract.stop_when_told, args=(str(tmp_path),))))
        threading.Event().wait(n / 2000)
        execution.cancel()
        ended(execution)
    meet = [TaskDef(f"t{n}", test_contract.meet, args=(str(tmp_path / "all"), f"t{n}", WIDTH)) for n in range(WIDTH)]
    (tmp_path / "all").mkdir()
    assert len(ended(made.start(flow(*meet))).results) == WIDTH


# ---- no scheduler ----------------------------------------------------------------------------------------------------


def test_no_scheduler_is_one_error_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("nerv.pools.dask_cluster.CONNECT", 0.5)
    tasks = TaskDef("a", test_contract.mark, args=(str(tmp_path), "a")), TaskDef("b", abs, args=(1,), pool="far")
    with pytest.raises(WorkflowDefinitionError, match=r"'b' can't run .*'far': no Dask scheduler answers at tcp://127"):
        nerv.run(flow(*tasks), pools={"far": {"kind": "dask", "address": "tcp://127.0.0.1:1"}})
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def scheduler(tmp_path):
    """A scheduler and a worker, each a process; gives the scheduler's process and its address."""
    contact = tmp_path / "scheduler.json"
    command = [sys.executable, "-m"]
    options = {"cwd": tmp_path, "env": environment(), "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    words = ["distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(contact)]
    first = subprocess.Popen([*command, *words], **options)
    words = ["distributed.cli.dask_worker", "--no-nanny", "--nthreads", "1", "--no-dashboard"]
    second = subprocess.Popen([*command, *words, "--scheduler-file", str(contact)], **options)
    try:
        eventually(contact.exists)
        with Client(scheduler_file=str(contact), set_as_default=False) as client:
            client.wait_for_workers(1, timeout=30)
            address = client.scheduler.address
        yield first, address
    finally:
        for process in (second, first):
            process.kill()
            process.wait()


def test_a_lost_scheduler_is_one_clear_error(scheduler, tmp_path):
    process, address = scheduler
    tasks = [TaskDef(f"t{n}", test_contract.deaf, args=(str(tmp_path),)) for n in range(5)]
    pools = {"cluster": {"kind": "dask", "address": address}}
    with WorkflowManager(pools=pools, default_pool="cluster") as manager:
        execution = manager.start(flow(*tasks))
        eventually((tmp_path / "began").exists)
        process.kill()
        ended(execution)
        assert execution.status.name == "FAILED"
        assert f"the connection to the Dask cluster at {address} was lost" in str(execution.error)
        assert not execution.failures


def test_with_a_journal_it_can_be_resumed(scheduler, tmp_path):
    process, address = scheduler
    tasks = [TaskDef("first", test_contract.identity, args=(1,), pool="thread")]
    tasks += [TaskDef("then", test_contract.deaf, args=(str(tmp_path),), dependencies=["first"])]
    pools = {"cluster": {"kind": "dask", "address": address}}
    path = str(tmp_path / "runs.db")
    with WorkflowManager(pools=pools, default_pool="cluster", journal=path) as manager:
        execution = manager.start(flow(*tasks), execution_id="e")
        eventually((tmp_path / "began").exists)
        process.kill()
        ended(execution)
        assert execution.status.name == "INTERRUPTED"
    (tmp_path / "go").touch()
    with WorkflowManager(
        pools={"cluster": {"kind": "dask", "workers": 1}}, default_pool="cluster", journal=path
    ) as manager:
        (again,) = manager.recover([flow(*tasks)])
        assert ended(again)["then"] == "late"
        assert dict(again.results) == {"first": 1, "then": "late"}
        assert again.task("first").attempts == 1
        assert again.task("then").result == "late"


def test_run_raises_what_the_lost_scheduler_left(scheduler, tmp_path):
    process, address = scheduler
    killer = threading.Thread(target=lambda: (eventually((tmp_path / "began").exists), process.kill()))
    killer.start()
    task = TaskDef("a", test_contract.deaf, args=(str(tmp_path),))
    with pytest.raises(WorkflowFailedError, match="connection to the Dask cluster"):
        nerv.run(flow(task), pools={"cluster": {"kind": "dask", "address": address}}, default_pool="cluster")
    killer.join()


def test_an_address_is_for_a_dask_pool_alone():
    with pytest.raises(nerv.ConfigError, match='only a pool of the kind "dask" has an address'):
        WorkflowManager(pools={"mine": {"kind": "thread", "address": "tcp://127.0.0.1:1"}})
    with pytest.raises(nerv.ConfigError, match="a Dask scheduler's address such as tcp://10"):
        WorkflowManager(pools={"mine": {"kind": "dask", "address": 8786}})


def test_the_pool_needs_nothing_of_dask_before_it_is_used():
    code = "import sys, nerv.pools.dask; sys.exit('distributed' in sys.modules or 'dask' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment()).returncode == 0
