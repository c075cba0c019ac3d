"""What goes through the pipes between a process pool and its workers: frames, pickles, exceptions and the board.

Both sides import this file, and a worker's start is waited for: so it imports next to nothing.

Theory of operation. Everything on a pipe is a **frame**: kind, number, seconds and a body, mostly a pickle. A worker
has two ways in and one way out:

- the *socket*, both ways. Its main thread reads calls from it, one after another, and writes what becomes of them. A
  chunk of calls is nothing but several frames written at once.
- the *side pipe*, to the worker, read all the time by a thread of its own: cancels, recalls, and answers to what tasks
  ask through their context. Its end is the lifeline: when the parent is gone, however it went, the thread reads the end
  of file and kills the worker.
- the *board*, memory that both can see. The worker writes there which call it has begun, and, of a chunk, the results,
  as frames; one small frame on the socket then announces many. So a result costs no system call, and nothing that was
  finished is lost when the worker dies a moment later: the parent reads the board of the dead.

Values are pickled, and cloudpickled if pickle can't. An exception travels as what pickle can rebuild, if need be
without calling its constructor again; the worker's traceback goes along as text.
"""

from __future__ import annotations

import mmap
import os
import pickle
import struct
from typing import Any, Final, TypeAlias

from nerv.errors import NervError, SerializationError, described

PROTOCOL: Final = 5
HEAD: Final = struct.Struct("<BQdQ")
"""Kind, number (of the call, unless said otherwise), seconds, size of the body that follows."""

# To the worker, on the socket.
SETUP: Final = 1  # body: what it should know of the parent's program
FUNCTION: Final = 2  # number: the place to keep it at; body: the pickled function
RUN: Final = 3  # seconds: FRESH and TELL, added up; body: function, arguments, context
# To the worker, on the side pipe.
CANCEL: Final = 4
RECALL: Final = 5  # number: of the last call that is to be left alone if it hasn't begun
ANSWER: Final = 6  # number: of the question; body: the value
REFUSAL: Final = 7  # number: of the question; body: why not
# From the worker.
HELLO: Final = 8
DONE: Final = 9  # seconds: how long it took; body: the value
FAILED: Final = 10  # seconds: how long it took; body: the exception
BROKEN: Final = 11  # like FAILED, if the pipe is to blame: the exception's text continues "task 'x': "
POSTED: Final = 12  # number: up to where the board is written
UNBEGUN: Final = 13  # number: the call that it is at; body: the RECALL's number: nothing between them has begun
REPORT: Final = 14  # body: the arguments of Port.report
RECORD: Final = 15  # body: the LogEntry
ASK: Final = 16  # body: number of the question, "params" or "results", the key
STARTED: Final = 17  # the function is being called, of a call that should TELL
UNFIT: Final = 18  # like BROKEN, and the function wasn't called

FRESH: Final = 1  # the board may be written from its start again
TELL: Final = 2  # say when the function is called

ENDS: Final = frozenset({DONE, FAILED, BROKEN, UNFIT})

Frame: TypeAlias = tuple[int, int, float, memoryview]

READ: Final = 1 << 16
"""Bytes to ask for in one read. Room for 128 KiB and more would be had from the system, made smaller and given back for
each read: three calls of the system a frame, on either side.
"""


def frame(kind: int, number: int = 0, seconds: float = 0.0, body: bytes = b"") -> bytes:
    """A frame as bytes."""
    return HEAD.pack(kind, number, seconds, len(body)) + body


def split(data: bytes) -> tuple[list[Frame], int]:
    """The whole frames at the beginning of `data`, and where the rest begins."""
    frames: list[Frame] = []
    view, position, end = memoryview(data), 0, len(data)
    while end - position >= HEAD.size:
        kind, number, seconds, size = HEAD.unpack_from(data, position)
        start = position + HEAD.size
        if end - start < size:
            break
        position = start + size
        frames.append((kind, number, seconds, view[start:position]))
    return frames, position


class Inbox:
    """Reads frames from a file descriptor. What is larger than one read is collected where it will stay."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._rest = b""
        self._head: tuple[int, int, float] | None = None  # of the large frame that is being collected
        self._body = memoryview(b"")
        self._filled = 0

    def frames(self) -> list[Frame]:
        """What one read has completed; it may be nothing.

        Raises:
            EOFError: the other side is gone.
            BlockingIOError: there is nothing to read (if the descriptor doesn't block).
        """
        if self._head is not None:
            return self._filling()
        try:
            data = os.read(self._fd, READ)
        except ConnectionResetError:  # gone, with frames of ours unread
            data = b""
        if not data:
            raise EOFError
        data = self._rest + data
        frames, position = split(data)
        self._rest = data[position:]
        if len(self._rest) >= HEAD.size:
            kind, number, seconds, size = HEAD.unpack_from(self._rest)
            if size > READ:
                self._head = kind, number, seconds
                self._body = memoryview(bytearray(size))
                self._filled = len(self._rest) - HEAD.size
                self._body[: self._filled] = self._rest[HEAD.size :]
                self._rest = b""
        return frames

    def _filling(self) -> list[Frame]:
        assert self._head is not None
        try:
            count = os.readv(self._fd, [self._body[self._filled :]])
        except ConnectionResetError:
            count = 0
        if not count:
            raise EOFError
        self._filled += count
        if self._filled < len(self._body):
            return []
        whole: Frame = (*self._head, self._body)
        self._head, self._body = None, memoryview(b"")
        return [whole]


class Board:
    """Memory that a worker and its parent share, so that each knows what the other did last, even after its death.

    `words[BEGUN]` is the number of the call that was begun last, `words[END]` the end of the frames posted so far; they
    begin at `START`. The worker writes; the parent only clears it, while the worker has nothing to do.
    """

    SIZE: Final = 1 << 16
    BEGUN: Final = 0
    END: Final = 1
    START: Final = 64

    def __init__(self, fd: int) -> None:
        self.memory = mmap.mmap(fd, self.SIZE)
        self._view = memoryview(self.memory)
        self.words = self._view.cast("Q")

    def close(self) -> None:
        """Let go of the memory."""
        self.words.release()
        self._view.release()
        self.memory.close()


# ---- values ---------------------------------------------------------------------------------------------------------


def packed(value: Any) -> bytes:
    """A value as bytes.

    Raises:
        Exception: whatever pickle said; cloudpickle couldn't either.
    """
    try:
        return pickle.dumps(value, PROTOCOL)
    except Exception as error:  # noqa: BLE001  (pickling runs the value's own code, which may raise anything)
        import cloudpickle

        try:
            data: bytes = cloudpickle.dumps(value, PROTOCOL)
        except Exception:  # noqa: BLE001  (its words are about its own doings; pickle's are about the value)
            raise error from None
        return data


def unsendable(text: str) -> SerializationError:
    """The error for a value that can't get through the pipe."""
    return SerializationError(text)


# ---- exceptions -----------------------------------------------------------------------------------------------------


def packed_error(error: BaseException) -> bytes:
    """An exception as bytes that can always be read back (`unpacked_error`)."""
    import traceback

    try:
        text = "".join(traceback.format_exception(error))
    except Exception as trouble:  # noqa: BLE001  (the user's __str__ may do anything)
        text = f"{described(error)} (its traceback can't be shown: {type(trouble).__name__})"
    text = f"in worker process {os.getpid()}:\n{text.rstrip()}"
    return pickle.dumps((travelling(error), described(error), text), PROTOCOL)


def travelling(error: BaseException) -> bytes | None:
    """The exception in the first form that comes back whole: as it pickles itself, or in pieces; None: in no form."""
    for pack in (packed, _in_pieces):
        try:
            data = pack(error)
            back = pickle.loads(data)
            is_whole = type(back) is type(error) and str(back) == str(error)
        except Exception:  # noqa: BLE001  (its constructor, state or text don't allow it: another form may do)
            is_whole = False
        if is_whole:
            return data
    return None


def _in_pieces(error: BaseException) -> bytes:
    """For exceptions whose constructor takes other arguments than `args`, or that hold what can't be sent."""
    return packed(_Pieces(type(error), error.args, _sendable(error.__dict__)))


class _Pieces:
    """Pickles as the exception that it describes."""

    def __init__(self, kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> None:
        self.pieces = kind, args, state

    def __reduce__(self) -> tuple[Any, ...]:
        return revived, self.pieces


def revived(kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    """An exception put together again without calling its constructor."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def _sendable(state: dict[str, Any]) -> dict[str, Any]:
    kept = {}
    for name, value in state.items():
        try:
            packed(value)
        except Exception as trouble:  # noqa: BLE001  (say what is missing, in its place)
            kept[name] = f"<{type(value).__name__} that can't leave its process: {described(trouble)}>"
        else:
            kept[name] = value
    return kept


def unpacked_error(body: memoryview) -> BaseException:
    """The exception that `packed_error` packed, with the worker's traceback as a note; a NervError in its place if it
    can't be had here.
    """
    data, text, trace = pickle.loads(body)
    error: BaseException | None = None
    if data is not None:
        try:
            error = pickle.loads(data)
        except Exception as trouble:  # noqa: BLE001  (its class can't be had here)
            text = f"{text} (it can't be rebuilt in this process: {described(trouble)})"
    if not isinstance(error, BaseException):
        error = NervError(text)
    error.add_note(trace)
    return error
