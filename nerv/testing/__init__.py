"""For tests of workflows, yours and nerv's own: time that you move, mocks, schedules that can be repeated, storage that
fails.

    tester = WorkflowTester()
    tester.mock_sequence("fetch", [OSError("down"), "<html>"])
    execution = tester.run(crawl(), {"list": "urls.txt"})

    simulate(order(), seeds=1000, faults=Faults(failing=0.1, hanging=0.05), invariant=nobody_pays_twice)

One thread does everything, so the same seed gives the same run: a rare interleaving that broke something once can be
looked at in a debugger. Another seed gives another order. `SimulatedPools` and `FakeClock` are what both are made of:

    clock = FakeClock(auto=True)
    pools = SimulatedPools(seed=7, clock=clock, faults=Faults(7, failing=0.1))
    with WorkflowManager(clock=clock, pool_factory=pools) as manager:
        execution = manager.start(workflow)
        pools.run()
        print(execution.status, execution.sequence)
"""

from nerv.testing.clock import FakeClock
from nerv.testing.faults import Faults, InjectedError
from nerv.testing.invariants import InvariantError
from nerv.testing.journals import FaultyJournal
from nerv.testing.mocks import Arguments, MockError
from nerv.testing.pools import SimulatedPool, SimulatedPools
from nerv.testing.simulation import CounterExampleError, SimulationReport, simulate
from nerv.testing.tester import WorkflowTester

__all__ = [  # noqa: RUF022  a table of contents
    # test a workflow
    "WorkflowTester",
    "Arguments",
    "MockError",
    # try it under a thousand schedules
    "simulate",
    "Faults",
    "SimulationReport",
    "CounterExampleError",
    "InvariantError",
    "InjectedError",
    # what both are made of
    "FakeClock",
    "SimulatedPool",
    "SimulatedPools",
    # storage
    "FaultyJournal",
]
