"""Where calls are run. Pools differ by one verb, how they run a `Call`; where it comes from is the same.

A pool pulls: whenever it can run something it asks its `Source` (the engine) for the next call, and it hands the
finished one over in the same breath (`advance`), so that a task costs one critical section. The engine only says, when
it has work that nobody is coming for, "somebody get up" (`call_up`).
"""
