"""`Cluster`: a connection to a Dask cluster, and what the pool says and asks there; and `Distant`, a result in it."""

from __future__ import annotations

import pickle
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from nerv.errors import ResultUnavailableError, described
from nerv.far import Far

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT: Final = 10.0
"""Seconds that a scheduler is given to answer."""
PAUSE: Final = 0.001
"""Seconds between two batches of messages to the scheduler. Dask's own 10 ms are most of a short task's way there."""
CENSUS: Final = 2.0
"""Seconds after which the cluster's threads are counted anew."""


class Distant(Far):
    """A task's result on the cluster. It holds Dask's future: the result stays there as long as somebody has this."""

    def __init__(self, cluster: Cluster, future: Future, key: str) -> None:
        self.cluster = cluster
        self.key = key
        self._lock = threading.Lock()  # several may ask at once; it is fetched once
        self._future: Future | None = future
        self._file: Path | None = None
        self._value: Any = None
        self._is_here = False

    def __repr__(self) -> str:
        return f"<result {self.key!r} on {self.cluster}>"

    def fetch(self) -> Any:
        """The value; from then on it is here too.

        Raises:
            ResultUnavailableError: the cluster has lost it.
        """
        with self._lock:
            if not self._is_here:
                try:
                    self._value = self._asked_for()
                except Exception as error:
                    raise ResultUnavailableError(
                        f"the result {self.key!r} can't be had from {self.cluster} any more: {described(error)}; "
                        "ask for results while the cluster is there"
                    ) from error
                self._is_here = True
        return self._value

    def _asked_for(self) -> Any:
        if self._file is not None:
            return pickle.loads(self._file.read_bytes())
        if self._future is None:
            raise ResultUnavailableError("the cluster was closed")
        return self._future.result()

    def leave(self, file: Path | None) -> None:
        """The cluster is being closed: the result is in a file, or nowhere any more."""
        with self._lock:
            if not self._is_here:
                self._file = file
            self._future = None

    @property
    def is_only_there(self) -> bool:
        """Whether nobody has asked for it yet."""
        return not self._is_here

    def is_only_at(self, cluster: Cluster) -> bool:
        """Whether it can be referred to there, and isn't here."""
        return self.cluster is cluster and self._future is not None and not self._is_here


class Cluster:
    """A connection to a cluster, made when it is first needed.

    Args:
        address: the scheduler's, such as tcp://10.0.0.1:8786; None: a cluster of our own on this machine.
        workers: how many worker processes a cluster of our own has.
    """

    def __init__(self, address: str | None, workers: int) -> None:
        self.address = address
        self.workers = workers
        self.client: Client | None = None
        self._own: Any = None  # the LocalCluster, if it is ours
        self._results: weakref.WeakSet[Distant] = weakref.WeakSet()
        self._folder: TemporaryDirectory[str] | None = None

    def __str__(self) -> str:
        return f"the Dask cluster at {self.address}" if self.address else "the Dask cluster on this machine"

    def open(self, topic: str, hear: Callable[[tuple[float, tuple[Any, ...]]], object]) -> None:
        """Connect, and have events of a topic heard (in the connection's own thread).

        Raises:
            OSError, TimeoutError, ValueError: nobody answers there.
        """
        from distributed import Client, LocalCluster

        from nerv.pools.dask_worker import OneLife

        if self.address is None:
            self._own = LocalCluster(
                n_workers=self.workers, threads_per_worker=1, processes=True, dashboard_address=None
            )
        try:
            client = Client(self._own or self.address, set_as_default=False, timeout=CONNECT)
        except BaseException:
            self._end_own()
            raise
        self.client = client
        client.scheduler_comm.interval = PAUSE
        client.register_plugin(OneLife())
        client.subscribe_topic(topic, hear)

    def refusal(self, error: Exception) -> str:
        """Why it can't be opened, and what to do."""
        if isinstance(error, ModuleNotFoundError):
            return f"it needs Dask: pip install nerv[dask] ({error})"
        if self.address is None:
            return f"no cluster starts here ({described(error)})"
        return (
            f"no Dask scheduler answers at {self.address} ({described(error)}); start one, or mend the pool's address"
        )

    def _end_own(self) -> None:
        if self._own is not None:
            self._own.close()
            self._own = None

    @property
    def is_connected(self) -> bool:
        """Whether the scheduler is there."""
        return self.client is not None and self.client.status == "running"

    def threads(self) -> int:
        """How many tasks the cluster runs at once."""
        assert self.client is not None
        return sum(self.client.nthreads().values())

    def submit(
        self, graph: dict[str, Any], *, priority: int, resources: Mapping[str, float] | None
    ) -> dict[str, Future]:
        """Send tasks; returns the future of each key."""
        assert self.client is not None
        futures = self.client.get(
            graph, list(graph), sync=False, priority=priority, resources=dict(resources or {}) or None
        )
        return dict(zip(graph, futures, strict=True))

    def result(self, future: Future, key: str) -> Distant:
        """What stands for a result that is there."""
        result = Distant(self, future, key)
        self._results.add(result)
        return result

    def tell(self, keys: Mapping[str, list[str]], *, given_up: bool) -> None:
        """Tell running calls, by the addresses of their workers, to stop, or that nobody waits for them any more."""
        from nerv.pools.dask_worker import tell

        for address, theirs in keys.items():
            with suppress(OSError):  # a scheduler that is gone has nobody to tell
                assert self.client is not None
                self.client.run(tell, theirs, given_up=given_up, workers=[address], on_error="return")

    def close(self, patience: float) -> None:
        """End the connection. Results that nobody has asked for are still there as long as a cluster that isn't ours
        is: then the connection is kept for them. Those of a cluster of our own are left in files.
        """
        client = self.client
        if client is None:
            return
        waiting = [result for result in self._results if result.is_only_there]
        if self._own is None:
            if waiting:
                _Lease(client, waiting)
            else:
                client.close(timeout=patience)
            return
        if waiting:
            self._save(waiting)
        client.close(timeout=patience)
        self._end_own()

    def _save(self, results: Iterable[Distant]) -> None:
        from nerv.pools.dask_worker import save

        self._folder = TemporaryDirectory(prefix="nerv-results-")  # goes with the last result
        folder = Path(self._folder.name)
        files = {result.key: str(folder / str(number)) for number, result in enumerate(results)}
        assert self.client is not None
        done = self.client.run(save, files, on_error="return")
        saved = {key for keys in done.values() if isinstance(keys, list) for key in keys}
        for result in results:
            result.leave(Path(files[result.key]) if result.key in saved else None)


class _Lease:
    """Keeps a connection until nobody holds any of some results that haven't been asked for."""

    def __init__(self, client: Client, results: Iterable[Distant]) -> None:
        self._client = client
        self._left = 0
        for result in results:
            self._left += 1
            weakref.finalize(result, self._gone).atexit = False

    def _gone(self) -> None:
        self._left -= 1
        if not self._left:  # not here: the garbage collector may be in the middle of anything
            threading.Thread(target=self._client.close, name="nerv-closer", daemon=True).start()
