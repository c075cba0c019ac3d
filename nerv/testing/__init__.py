"""For tests of workflows, yours and nerv's own: time that you move, pools whose every order can be repeated, storage
that fails.

    clock = FakeClock(auto=True)
    pools = SimulatedPools(seed=7, clock=clock, faults=Faults(7, failing=0.1))
    with WorkflowManager(clock=clock, pool_factory=pools) as manager:
        execution = manager.start(workflow)
        pools.run()
        print(execution.status, execution.sequence)

One thread does everything, so the same seed gives the same run: a rare interleaving that broke something once can be
looked at in a debugger. Another seed gives another order.
"""

from nerv.testing.clock import FakeClock
from nerv.testing.journals import FaultyJournal
from nerv.testing.pools import Faults, InjectedError, SimulatedPool, SimulatedPools

__all__ = ["FakeClock", "Faults", "FaultyJournal", "InjectedError", "SimulatedPool", "SimulatedPools"]
