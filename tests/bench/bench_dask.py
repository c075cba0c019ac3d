"""nerv next to Dask: its graphs on nerv's threads, and nerv's tasks on a Dask cluster. Run as a script, prints a table.

    python -m tests.bench.bench_dask [get] [cluster] [--quick]

Needs dask[complete] for arrays, bags and dataframes; what can't be imported is left out. Both sides take turns in one
process, A B A B, and give the same results. `get` is a ratio of times Dask / nerv for small tasks (more is better), and
nerv / Dask for coarse ones. `cluster` runs on a LocalCluster of two workers with one thread each, which both sides use.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.bench.figures import HEAD, Figure, Target, line
from tests.bench.shapes import SHAPES, small

ROUNDS, CLUSTER_ROUNDS = 7, 3
FASTER = Target(3.0, upwards=True)
NOT_SLOWER = Target(1.0, upwards=True)
NO_SLOWER = Target(1.05)
CLUSTER = Target(1.1)


def seconds(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def in_turns(rounds: int, *sides: Callable[[], Any]) -> list[list[float]]:
    """For each side its seconds, one a round."""
    taken = [[seconds(side) for side in sides] for _ in range(rounds)]
    return [list(side) for side in zip(*taken, strict=True)]


# ---- get -------------------------------------------------------------------------------------------------------------


def peers(shape: str, tasks: int) -> tuple[Any, Any]:
    """A graph of the peer benchmark as Dask writes it: no-ops that add up what they are given."""
    graph = SHAPES[shape](tasks)
    form = {f"t{number}": (small, number, [f"t{need}" for need in needs]) for number, needs in enumerate(graph)}
    return form, [f"t{sink}" for sink in sorted(set(range(len(graph))).difference(*graph))]


def tree(leaves: int) -> tuple[Any, Any]:
    """Sums of pairs of sums."""
    form: dict[Any, Any] = {("s0", leaf): (abs, -leaf) for leaf in range(leaves)}
    level, width = 0, leaves
    while width > 1:
        above = f"s{level + 1}"
        for place in range((width + 1) // 2):
            pair = [(f"s{level}", below) for below in (2 * place, 2 * place + 1) if below < width]
            form[above, place] = (sum, pair)
        level, width = level + 1, (width + 1) // 2
    return form, (f"s{level}", 0)


def collected(collection: Any) -> tuple[Any, Any]:
    """A collection's optimized graph and its keys."""
    import dask

    (collection,) = dask.optimize(collection)
    return dict(collection.__dask_graph__()), list(collection.__dask_keys__())


def small_graphs(size: int) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for shape in SHAPES:
        yield f"{shape}, {size:,} no-ops", peers(shape, size)
    yield f"tree, {size:,} leaves", tree(size)


def busy_graphs(size: int) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Many tasks that take some 50 us or more by themselves, so that no scheduler can make much difference."""
    try:
        import dask.array as arrays
        import dask.bag as bags
    except ImportError:
        return
    bag = bags.from_sequence(range(size), npartitions=size // 2).map(abs).filter(bool).sum(split_every=8)
    yield f"bag of {size // 2:,} partitions", collected(bag)
    cubes = arrays.ones((40, 40, size // 500), chunks=(2, 2, 5))
    yield "array of small chunks", collected((cubes + cubes.sum()).sum(axis=0).mean())


def floor(graph: Any) -> float:
    """Seconds of a plain loop over a graph's tasks, best of three."""
    from nerv.interop.dask.nodes import Culled, as_nodes, evaluate

    nodes = as_nodes(graph)
    culled = Culled(nodes, list(nodes))

    def once() -> None:
        values = dict(culled.data)
        for key, node in zip(culled.keys, culled.nodes, strict=True):
            values[key] = evaluate(node, values)

    return min(seconds(once) for _ in range(3))


def coarse_graphs(size: int) -> Iterator[tuple[str, tuple[Any, Any]]]:
    naps = {("nap", number): (time.sleep, 0.01) for number in range(size)}
    yield f"{size} naps of 10 ms", ({**naps, "end": (len, [*naps])}, "end")
    try:
        import dask.array as arrays
        import dask.dataframe as frames
        import pandas as pd
    except ImportError:
        return
    square = arrays.random.default_rng(1).random((size * 20, size * 20), chunks=(500, 500))
    yield "array: (x @ x.T).sum()", collected((square @ square.T).sum())
    yield "array: x - x.mean()", collected((square - square.mean(axis=0)).std())
    rows = pd.DataFrame({"k": range(size * 5_000), "v": 1.0})
    rows["k"] %= 97
    means = frames.from_pandas(rows, npartitions=8).groupby("k").v.mean().optimize()
    yield "dataframe: groupby", (dict(means.__dask_graph__()), list(means.__dask_keys__()))


def get_rows(*, quick: bool) -> Iterator[Figure]:
    from dask.threaded import get as dasks

    from nerv.interop.dask import get as ours

    rounds = 2 if quick else ROUNDS
    kinds = (
        (small_graphs(1_100 if quick else 5_000), FASTER),
        (busy_graphs(1_100 if quick else 5_000), NOT_SLOWER),
        (coarse_graphs(10 if quick else 100), NO_SLOWER),
    )
    for graphs, target in kinds:
        for name, (graph, keys) in graphs:
            in_turns(1, lambda: dasks(graph, keys), lambda: ours(graph, keys))  # noqa: B023  called here and now
            theirs, own = in_turns(rounds, lambda: dasks(graph, keys), lambda: ours(graph, keys))  # noqa: B023
            count = len(graph)
            note = f"{count:,} tasks: dask {1e6 * statistics.median(theirs) / count:.1f} us each, "
            note += f"nerv {1e6 * statistics.median(own) / count:.1f}"
            if target is NOT_SLOWER:
                note += f", a plain loop {1e6 * floor(graph) / count:.1f}"
            above, below = (theirs, own) if target.upwards else (own, theirs)
            which = "dask / nerv" if target.upwards else "nerv / dask"
            samples = tuple(a / b for a, b in zip(above, below, strict=True))
            yield Figure("get", f"{name}, {which}", target, samples, note)


# ---- cluster ---------------------------------------------------------------------------------------------------------


def nap(*given: Any) -> int:
    time.sleep(0.01)
    return len(given)


def nothing(*given: Any) -> int:
    return len(given)


def diamonds(layers: int, width: int) -> list[tuple[int, ...]]:
    """Each task needs two of the layer before, and is needed by two of the next."""
    draw = random.Random(1)
    graph: list[tuple[int, ...]] = [()] * width
    for layer in range(1, layers):
        order = draw.sample(range(width), width)
        base = (layer - 1) * width
        graph += [(base + order[n], base + order[(n + 1) % width]) for n in range(width)]
    return graph


def cluster_rows(*, quick: bool) -> Iterator[Figure]:
    from distributed import Client, LocalCluster

    import nerv

    def workflow(graph: list[tuple[int, ...]], fn: Callable[..., int]) -> nerv.Workflow:
        return nerv.Workflow("bench", [
            nerv.TaskDef(f"t{n}", fn, args=tuple([nerv.Output(f"t{need}") for need in needs]) or (n,))
            for n, needs in enumerate(graph)
        ])  # fmt: skip

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
        nerv.WorkflowManager(
            pools={"cluster": {"kind": "dask", "address": cluster.scheduler_address}}, default_pool="cluster", keep=0
        ) as manager,
    ):

        def ours(graph: list[tuple[int, ...]], fn: Callable[..., int]) -> None:
            execution = manager.start(workflow(graph, fn))
            execution.wait()
            assert execution.status is nerv.WorkflowStatus.COMPLETED

        def futures(graph: list[tuple[int, ...]], fn: Callable[..., int]) -> None:
            made: list[Any] = []
            for n, needs in enumerate(graph):
                made.append(client.submit(fn, *([made[need] for need in needs] or [n]), pure=False))
            needed = set().union(*graph)
            client.gather([made[n] for n in range(len(graph)) if n not in needed])

        naps: list[tuple[int, ...]] = [()] * (50 if quick else 1000)
        layers = 5 if quick else 50
        works = (
            ("independent, 10 ms each", naps, nap),
            ("diamonds, 20 wide, 10 ms each", diamonds(layers, 20), nap),
            ("diamonds, 20 wide, no-ops", diamonds(layers, 20), nothing),
        )
        for name, graph, fn in works:
            futures(graph[:20], fn)
            ours(graph[:20], fn)
            theirs, own = in_turns(1 if quick else CLUSTER_ROUNDS, lambda: futures(graph, fn), lambda: ours(graph, fn))  # noqa: B023
            note = f"futures {statistics.median(theirs):.2f} s, nerv {statistics.median(own):.2f} s"
            samples = tuple(a / b for a, b in zip(own, theirs, strict=True))
            yield Figure("cluster", f"{len(graph):,} {name}, nerv / futures", CLUSTER, samples, note)


ROWS = {"get": get_rows, "cluster": cluster_rows}


def main(words: list[str]) -> None:
    quick = "--quick" in words
    print(*HEAD, sep="\n", flush=True)
    for row in [word for word in words if word != "--quick"] or ROWS:
        for figure in ROWS[row](quick=quick):
            print(line(figure), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
