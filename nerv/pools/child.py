"""`Child`: one worker process, as its pool sees it. Only the pool's own thread touches it.

Nothing here waits: what a pipe can't take at once is kept (`Outbox`) until the selector says that it can take more, so
a worker that doesn't read holds up nobody else.

Workers are started by `subprocess`, not by multiprocessing. So each is the leader of a session of its own from its
first instant on: Ctrl-C in the terminal doesn't reach it, and it can be killed together with all that it has started.
It has no resource tracker beside it, its tasks may use multiprocessing themselves (whose daemons may have no children),
it loads the script only if it must, and it is up in two thirds of the time. A fork server is quicker still, but stays
behind as two more processes, and what it forks has loaded the script whether or not it needs it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeAlias

from nerv.calls import Call
from nerv.pools import wire
from nerv.pools.sending import Function
from nerv.pools.wire import HEAD, Board, Frame, Inbox, frame

Sent: TypeAlias = tuple[int, Call, Function | None]


class Outbox:
    """Writes to a descriptor that doesn't block, and keeps what doesn't go through yet."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._waiting: deque[memoryview] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def send(self, data: bytes) -> None:
        """Write now what can be written now."""
        self._waiting.append(memoryview(data))
        self.flush()

    def flush(self) -> None:
        """Go on writing."""
        waiting = self._waiting
        while waiting:
            try:
                written = os.write(self.fd, waiting[0])
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):  # its end will be read where its words are read
                waiting.clear()
                return
            if written == len(waiting[0]):
                waiting.popleft()
            else:
                waiting[0] = waiting[0][written:]


class Child:
    """A worker process with its pipes and its board.

    Attributes:
        queue: number, call and function (None: it was sent with the call) of what it hasn't answered yet, in order.
        is_up: whether it has said hello.
        is_leaving: whether it was dismissed or killed: it gets no more calls.
        is_gone: whether its pipes are closed.
        recall_at: monotonic time at which what it hasn't begun is taken back, None: not at all.
    """

    def __init__(self, setup: bytes) -> None:
        """Start the process.

        Raises:
            OSError: the operating system doesn't let us.
            RuntimeError: the interpreter is being shut down.
        """
        self.queue: deque[Sent] = deque()
        self.is_up = self.is_leaving = self.is_gone = False
        self.recall_at: float | None = None
        self._sent: dict[int, Function] = {}  # place -> the function that it keeps there
        self._read = Board.START
        with ExitStack() as on_error, ExitStack() as theirs:
            ours, other = socket.socketpair()
            on_error.callback(ours.close)
            theirs.callback(other.close)
            side_read, side_write = os.pipe()
            on_error.callback(os.close, side_write)
            theirs.callback(os.close, side_read)
            memory = _shared_memory()
            theirs.callback(os.close, memory)
            self.board = Board(memory)
            on_error.callback(self.board.close)
            self._process = _start(other.fileno(), side_read, memory)
            on_error.pop_all()
        ours.setblocking(False)  # noqa: FBT003  (os and socket take it so)
        os.set_blocking(side_write, False)
        self._socket = ours
        self.pid = self._process.pid
        self.inbox = Inbox(ours.fileno())
        self.outbox = Outbox(ours.fileno())
        self.side = Outbox(side_write)
        self.outbox.send(frame(wire.SETUP, body=setup))

    # ---- to the worker ----------------------------------------------------------------------------------------------

    def run(self, calls: Sequence[tuple[int, Call, Function | None, bytes]]) -> None:
        """Send calls, with the functions that it doesn't have yet; it has nothing else to do."""
        self._read = self.board.words[Board.END] = Board.START
        parts = []
        fresh = wire.FRESH
        for number, call, function, body in calls:
            if function is not None and self._sent.get(function.place) is not function:
                self._sent[function.place] = function
                parts.append(frame(wire.FUNCTION, function.place, body=function.body))
            flags = fresh if call.timeout is None else fresh | wire.TELL
            parts += (HEAD.pack(wire.RUN, number, flags, len(body)), body)
            fresh = 0
            self.queue.append((number, call, function))
        if sum(map(len, parts)) <= wire.READ:
            self.outbox.send(b"".join(parts))
        else:
            for part in parts:
                self.outbox.send(part)

    def cancel(self, number: int) -> None:
        """Tell the call of that number to stop."""
        self.side.send(frame(wire.CANCEL, number))

    def recall(self) -> None:
        """Take back what it was sent and hasn't begun; it answers with UNBEGUN."""
        self.recall_at = None
        if self.queue:
            self.side.send(frame(wire.RECALL, self.queue[-1][0]))

    def answer(self, kind: int, question: int, body: bytes) -> None:
        """Answer what a task has asked."""
        self.side.send(frame(kind, question, body=body))

    # ---- from the worker --------------------------------------------------------------------------------------------

    @property
    def begun(self) -> int:
        """The number of the call that it has begun last, 0 before the first."""
        return self.board.words[Board.BEGUN]

    def posted(self, end: int) -> list[Frame]:
        """What it has written on the board since the last look."""
        data = bytes(self.board.memory[self._read : end])
        self._read = max(end, self._read)
        return wire.split(data)[0]

    def take(self, number: int) -> Sent | None:
        """What was sent by that number, which has ended; None if it isn't the next one: then a task wrote rubbish."""
        queue = self.queue
        return queue.popleft() if queue and queue[0][0] == number else None

    def unbegun(self, at: int, until: int) -> list[Call]:
        """Take the calls numbered above `at` up to `until` out of its queue."""
        calls = [call for number, call, _ in self.queue if at < number <= until]
        self.queue = deque(sent for sent in self.queue if not at < sent[0] <= until)
        return calls

    def running(self, number: int) -> Call | None:
        """The call of that number, if it hasn't ended."""
        return next((call for known, call, _ in self.queue if known == number), None)

    # ---- its end ----------------------------------------------------------------------------------------------------

    def dismiss(self) -> None:
        """Let it end by itself when it has done what it was sent."""
        if not self.outbox:
            with suppress(OSError):  # it is gone already
                self._socket.shutdown(socket.SHUT_WR)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and to all that it has started. It isn't reaped yet, so the id is still its own."""
        with suppress(ProcessLookupError, PermissionError):  # gone already; macOS says so in its own way
            os.killpg(self.pid, number)

    def bury(self) -> int:
        """Its end was read: kill what is left of it and of what it has started, reap it, and say its exit code."""
        self.signal(signal.SIGKILL)
        return self._process.wait()

    def last_words(self) -> list[Frame]:
        """What the dead has left on the board: results that nobody had announced."""
        return self.posted(self.board.words[Board.END])

    def close(self) -> None:
        """Close the pipes and the board."""
        self.is_gone = True
        self._socket.close()
        os.close(self.side.fd)
        self.board.close()


def _shared_memory() -> int:
    """A descriptor of memory without a name, as large as a board."""
    if sys.platform == "linux":
        fd = os.memfd_create("nerv-board")
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.truncate(fd, Board.SIZE)
    return fd


def _start(*fds: int) -> subprocess.Popen[bytes]:
    """Start an interpreter that is a worker with these descriptors, and finds modules where this one does."""
    if not sys.executable:
        raise FileNotFoundError("sys.executable doesn't say where the interpreter is")
    path = [entry or str(Path.cwd()) for entry in sys.path if isinstance(entry, str)]
    command = f"import sys; sys.path[:] = {path!r}; from nerv.pools.worker import main; main{fds!r}"
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001  (as multiprocessing)
    return subprocess.Popen(
        [sys.executable, *flags, "-c", command], stdin=subprocess.DEVNULL, pass_fds=fds, start_new_session=True
    )
