"""The other side of a process pool: what a worker process does from its first line to its last.

Theory of operation (the pipes and the board are explained in nerv/pools/wire.py). The main thread reads frames and runs
the calls among them, one after another. A second thread reads the side pipe: it notes cancels, takes back calls that
haven't begun, hands answers to tasks that asked, and when the pipe ends kills the worker with all that it has started,
since then the parent is dead. One lock guards what both touch, and every frame that is written to the socket.

Results of a chunk are posted on the board and announced together: when the frames at hand are done, when `HOLD`
seconds have gone by, or when the parent recalls the rest because one call takes unexpectedly long. A call on its own,
or a result too large for the board, goes straight through the socket.

Nothing here may import what a task doesn't need: a worker's start is waited for. `nerv.context` is imported for the
first task that wants the context.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Final

from nerv.errors import NervError, UnknownIdError, described
from nerv.pools import wire
from nerv.pools.script import Location, StandIn
from nerv.pools.wire import HEAD, Board, Inbox

if TYPE_CHECKING:
    from nerv.context import LogEntry, TaskContext

HOLD: Final = 0.002
"""Seconds that results may stay on the board before they are announced, while short calls follow each other."""


def main(socket: int, side: int, board: int) -> None:
    """Be a worker, with these inherited file descriptors, until the parent shuts the socket."""
    for fd in (socket, side):
        os.set_inheritable(fd, False)  # noqa: FBT003  (os takes it so)
    worker = Worker(socket, Board(board))
    os.close(board)
    os.register_at_fork(after_in_child=lambda: worker.forget((socket, side)))
    threading.Thread(target=worker.listen, args=(side,), name="nerv-worker-side", daemon=True).start()
    worker.serve()


class Worker:
    """Runs calls.

    Attributes:
        cancelled: numbers of calls that were told to stop.
    """

    def __init__(self, socket: int, board: Board) -> None:
        self.cancelled: set[int] = set()
        self._socket = socket
        self._memory = board.memory
        self._words = board.words
        self._board = board
        self._lock = threading.Lock()
        self._end = self._told = Board.START  # how far the board is written, and how far that was announced
        self._told_at = 0.0
        self._recalled = 0  # calls up to this number that haven't begun are left alone
        self._tells = 0  # whether to say when the function is called
        self._functions: dict[int, Any] = {}
        self._questions: dict[int, Any] = {}  # number -> the queue that its answer is put into

    # ---- the main thread --------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Run what comes until the socket ends."""
        inbox = Inbox(self._socket)
        self.send(wire.HELLO)
        while True:
            try:
                frames = inbox.frames()
            except EOFError:
                return
            several = len(frames) > 1
            for kind, number, flags, body in frames:
                if kind == wire.RUN:
                    self._tells = int(flags) & wire.TELL
                    if self._begin(number, fresh=int(flags) & wire.FRESH):
                        self._run(number, body, several=several)
                elif kind == wire.FUNCTION:
                    self._functions[number] = bytes(body)
                else:
                    _set_up(*pickle.loads(body))
            with self._lock:
                self._announce()
            _flush()

    def _begin(self, number: int, *, fresh: int) -> bool:
        """Whether the call is to be run: it may have been recalled."""
        with self._lock:
            if fresh:
                self._end = self._told = Board.START
                self._told_at = perf_counter()
            if number <= self._recalled:
                self.cancelled.discard(number)
                return False
            self._words[Board.BEGUN] = number
            return True

    def _run(self, number: int, body: memoryview, *, several: bool) -> None:
        began = perf_counter()
        try:
            kind, outcome = wire.DONE, self._call(number, body)
        except _BrokenError as error:
            kind, outcome = error.kind, wire.packed_error(error.shown())
        except BaseException as error:  # noqa: BLE001  (whatever a task raises is the task's failure, not the worker's)
            kind, outcome = wire.FAILED, wire.packed_error(_without_us(error))
        if self.cancelled:
            self.cancelled.discard(number)
        now = perf_counter()
        head = HEAD.pack(kind, number, now - began, len(outcome))
        with self._lock:
            end = self._end + HEAD.size + len(outcome)
            if several and end <= Board.SIZE:
                self._memory[self._end : end] = head + outcome
                self._words[Board.END] = self._end = end
                if now - self._told_at >= HOLD:
                    self._announce()
            else:
                self._announce()
                self._write(head, outcome)

    def _call(self, number: int, body: memoryview) -> bytes:
        try:
            fn, args, kwargs, facts = pickle.loads(body)
        except Exception as error:
            raise _UnfitError("its arguments can't be unpickled in the worker process") from error
        if fn.__class__ is int:
            fn = self._function(fn)
        if facts is not None:
            args = (self._context(number, *facts), *args)
        if self._tells:
            self.send(wire.STARTED, number)
        value = fn(*args, **kwargs)
        try:
            return wire.packed(value)
        except Exception as error:
            text = f"its result (a {type(value).__name__}) can't be sent back from the worker process"
            raise _BrokenError(text, "return plain data, or write it to a file and return the path") from error

    def _function(self, place: int) -> Any:
        """A function that was sent, unpickled for its first call: so a crash in importing it is that call's."""
        fn = self._functions[place]
        if fn.__class__ is bytes:
            try:
                fn = self._functions[place] = pickle.loads(fn)
            except BaseException as error:  # importing its module runs anything
                text = "its function can't be had in the worker process"
                raise _UnfitError(text, "worker processes import it by the name of its module") from error
        return fn

    def _context(
        self, number: int, known: dict[str, Any], params: _Names, results: _Names, declared: tuple[str, ...]
    ) -> TaskContext:
        import logging

        from nerv.context import TaskContext

        logging.getLogger("nerv.tasks").disabled = True  # the parent shows what tasks log, by its own configuration
        port = _Port(self, number)
        if known["deadline"] is not None:
            known["deadline"] += monotonic()
        return TaskContext(
            **known, params=_Fetched(port, "params", *params), results=_Results(port, declared, *results), port=port
        )

    # ---- the side thread --------------------------------------------------------------------------------------------

    def listen(self, side: int) -> None:
        """Do what the side pipe says; die with it."""
        inbox = Inbox(side)
        try:
            while True:
                for frame in inbox.frames():
                    self._heed(*frame)
        finally:
            os.killpg(os.getpid(), signal.SIGKILL)  # this process and all that its tasks have started

    def _heed(self, kind: int, number: int, _: float, body: memoryview) -> None:
        if kind == wire.CANCEL:
            if number >= self._words[Board.BEGUN]:
                self.cancelled.add(number)
        elif kind == wire.RECALL:
            with self._lock:
                self._recalled = number
                self._announce()
                self._write(HEAD.pack(wire.UNBEGUN, self._words[Board.BEGUN], 0.0, 8), number.to_bytes(8, "little"))
        else:
            self._questions.pop(number).put((kind, body))

    # ---- both -------------------------------------------------------------------------------------------------------

    def send(self, kind: int, number: int = 0, body: bytes = b"") -> None:
        """Write a frame to the socket, behind the results that were posted before."""
        with self._lock:
            self._announce()
            self._write(HEAD.pack(kind, number, 0.0, len(body)), body)

    def ask(self, number: int, what: str, key: str) -> Any:
        """A param or result that the parent keeps for a call, by name.

        Raises:
            NervError: it can't be sent.
        """
        from queue import SimpleQueue

        answer: SimpleQueue[tuple[int, memoryview]] = SimpleQueue()
        question = id(answer)
        self._questions[question] = answer
        self.send(wire.ASK, number, pickle.dumps((question, what, key)))
        kind, body = answer.get()
        if kind == wire.REFUSAL:
            raise wire.unsendable(pickle.loads(body))
        return pickle.loads(body)

    def forget(self, fds: tuple[int, ...]) -> None:
        """In a process that a task has forked: it isn't the worker, and mustn't keep its pipes open."""
        for fd in fds:
            os.close(fd)
        self._socket = -1
        self._lock = threading.Lock()

    def _announce(self) -> None:
        """Tell the parent how far the board is written (lock held)."""
        self._told_at = perf_counter()
        if self._end > self._told:
            self._told = self._end
            self._write(HEAD.pack(wire.POSTED, self._end, 0.0, 0))

    def _write(self, head: bytes, body: bytes = b"") -> None:
        """Write it all (lock held). The parent always reads, so this can wait but not lock up."""
        for data in (head, body) if len(body) > wire.READ else (head + body,):
            view = memoryview(data)
            while view:
                view = view[os.write(self._socket, view) :]


def _without_us(error: BaseException) -> BaseException:
    """The exception with a traceback that begins in the task's own code, if it has got that far."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals is globals():
        trace = trace.tb_next
    return error.with_traceback(trace) if trace is not None else error


def _set_up(argv: list[str], script: Location | None) -> None:
    """Look like the parent's program: its arguments, and a `__main__` that can be had when it is needed."""
    sys.argv = argv
    sys.modules["__main__"] = sys.modules["__mp_main__"] = StandIn(script)


def _flush() -> None:
    """What tasks have printed shouldn't wait for the next, nor for the worker's end."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # a task may have closed or replaced it
            stream.flush()


class _BrokenError(Exception):
    """A call that failed in getting here or back. `args` are what failed and, perhaps, a remedy; the cause says why."""

    kind = wire.BROKEN

    def shown(self) -> BaseException:
        """The error that the task fails with."""
        what, *remedy = self.args
        assert self.__cause__ is not None
        error = wire.unsendable("; ".join([f"{what}: {described(self.__cause__)}", *remedy]))
        error.__cause__ = _without_us(self.__cause__)
        return error


class _UnfitError(_BrokenError):
    """The call failed in getting here: its function wasn't called."""

    kind = wire.UNFIT


# ---- the context of a task ------------------------------------------------------------------------------------------

_Names = tuple[tuple[str, ...], dict[str, Any]]
"""Keys, and the values among theirs that came along; the others are asked for."""


class _Port:
    """How a task's context reaches the engine from here (nerv.context.Port)."""

    __slots__ = ("_number", "_worker")

    def __init__(self, worker: Worker, number: int) -> None:
        self._worker = worker
        self._number = number

    def is_cancelled(self) -> bool:
        return self._number in self._worker.cancelled

    def report(self, done: float, total: float | None, message: str) -> None:
        self._worker.send(wire.REPORT, self._number, wire.packed((done, total, message)))

    def record(self, entry: LogEntry) -> None:
        self._worker.send(wire.RECORD, self._number, wire.packed(entry))

    def services(self) -> Any:
        raise NervError(
            "ctx.services doesn't exist in a worker process: services are live objects of the main process; pass what "
            "the task needs as an argument, open it inside the task, or run the task in a thread pool"
        )

    def fetch(self, what: str, key: str) -> Any:
        return self._worker.ask(self._number, what, key)


class _Fetched(Mapping[str, Any]):
    """A mapping whose larger values are fetched from the parent when they are first looked at."""

    def __init__(self, port: _Port, what: str, keys: tuple[str, ...], known: dict[str, Any]) -> None:
        self._port = port
        self._what = what
        self._keys = keys
        self._known = known

    def __getitem__(self, key: str) -> Any:
        if key not in self._known:
            if key not in self._keys:
                raise KeyError(key)
            self._known[key] = self._port.fetch(self._what, key)
        return self._known[key]

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


class _Results(_Fetched):
    """The results of declared dependencies, as `nerv.context.DependencyResults` has them."""

    def __init__(self, port: _Port, declared: tuple[str, ...], keys: tuple[str, ...], known: dict[str, Any]) -> None:
        super().__init__(port, "results", keys, known)
        self._declared = declared

    def __getitem__(self, key: str) -> Any:
        if key in self._keys:
            return super().__getitem__(key)
        if key in self._declared:
            raise UnknownIdError(f"{key!r} has no result here: it isn't COMPLETED")
        listed = ", ".join(self._declared) or "none"
        raise UnknownIdError(f"{key!r} is no declared dependency; declared are {listed}")
