"""A journal's owner listens beside it, so that other processes can give it orders: signal, cancel, pause, resume.

`Ear` is the owner's side: a Unix socket `runs.db.sock` that only its user may use, and one thread, asleep until
somebody comes. `give_order` is the other side: it speaks to the owner, or, if nobody owns the journal, takes the lock
and records the order there, to be carried out when the execution goes on. Either way the order is durable when it
returns.

On the wire: one line of JSON there, one back. A value travels as base64 of what `nerv.journal.codec` makes of it, so
only what is plain or pickled; who may write to the socket may have the owner unpickle things, hence its mode 0600.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from nerv.errors import JournalError, NervError, UnknownIdError, described
from nerv.journal.codec import Stored, decode, encode
from nerv.names import refuse_own

ORDERS: Final = ("signal", "cancel", "pause", "resume")
PATIENCE: Final = 10.0
"""Seconds that the owner is given to answer."""

_LONGEST: Final = 1 << 24  # bytes of a line


class Ear:
    """Listens for orders, until `close`.

    Args:
        path: the journal's file.
        obey: carries out an order: execution id, kind, arguments; what it raises is told to who gave the order.

    Raises:
        OSError: there can't be such a socket.
    """

    def __init__(self, path: str, obey: Callable[[str, str, Mapping[str, Any]], Any]) -> None:
        self._name = f"{path}.sock"
        self._obey = obey
        Path(self._name).unlink(missing_ok=True)  # of an owner that was killed: the lock says that there is none now
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.set_inheritable(False)
        try:
            with _address(self._name) as address:
                self._socket.bind(address)
                Path(address).chmod(0o600)  # nobody can come before `listen`; a umask would be every thread's
        except OSError:
            self._socket.close()
            raise
        self._socket.listen()
        self._thread = threading.Thread(target=self._listen, name="nerv-ear", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            try:
                caller, _ = self._socket.accept()
            except OSError:  # closed
                return
            with caller:
                caller.settimeout(PATIENCE)
                with contextlib.suppress(OSError):  # who asked has gone away
                    self._serve(caller)

    def _serve(self, caller: socket.socket) -> None:
        answer: dict[str, Any]
        try:
            order = json.loads(_line(caller))
            data = {name: _read(value) for name, value in order["data"].items()}
            answer = {"done": bool(self._obey(order["execution"], order["kind"], data))}
        except Exception as error:  # noqa: BLE001  whatever is wrong with an order, who gave it is told
            answer = {"error": str(error) if isinstance(error, NervError) else described(error)}
            answer["unknown"] = isinstance(error, UnknownIdError)
        caller.sendall(json.dumps(answer).encode() + b"\n")

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(OSError):  # it isn't connected, which is what a listening socket is on macOS
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        Path(self._name).unlink(missing_ok=True)


def give_order(path: str, execution_id: str, kind: str, data: Mapping[str, Any]) -> bool:
    """Give an order about an execution in a journal; it is durable when this returns.

    Args:
        path: the journal's file.
        execution_id: which execution.
        kind: one of `ORDERS`.
        data: its arguments: `name` and `value` of a signal, the `reason` of a cancel.

    Returns:
        False if there was nothing to do: it had ended, or was paused or cancelled already.

    Raises:
        UnknownIdError: the journal has no such execution.
        JournalError: there is no such journal, or it can't be written to.
        SerializationError: a value that can't be stored.
        NervError: a signal that is nerv's own.
    """
    if kind == "signal":
        refuse_own(data["name"])
    kept = {name: encode(value) for name, value in data.items()}
    answer = _ask(
        f"{path}.sock", {"execution": execution_id, "kind": kind, "data": {n: _told(v) for n, v in kept.items()}}
    )
    if answer is None:
        return _record(path, execution_id, kind, kept)
    if "error" in answer:
        raise UnknownIdError(answer["error"]) if answer["unknown"] else NervError(answer["error"])
    return bool(answer["done"])


def _ask(name: str, order: Mapping[str, Any]) -> dict[str, Any] | None:
    """The owner's answer; None if there is no owner.

    Raises:
        JournalError: it doesn't answer, or this process may not speak to it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(PATIENCE)
        try:
            with _address(name) as address:
                line.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as error:
            raise JournalError(f"the journal's owner can't be reached at {name}: {error.strerror or error}") from error
        try:
            line.sendall(json.dumps(order).encode() + b"\n")
            answer: dict[str, Any] = json.loads(_line(line))
        except OSError as error:
            text = f"the journal's owner, who listens at {name}, hasn't answered ({error.strerror or error})"
            raise JournalError(f"{text}; look whether the order has arrived, and give it again if not") from error
        return answer


def _record(path: str, execution_id: str, kind: str, data: Mapping[str, Any]) -> bool:
    """Leave the order in the journal, for who goes on with the execution."""
    from nerv.journal.sqlite import SqliteJournal

    if not Path(path).exists():
        raise JournalError(f"there is no journal {path}")
    with SqliteJournal(path) as journal:
        known = journal.execution(execution_id)
        if known is None:
            raise UnknownIdError(f"journal {path} has no execution {execution_id!r}")
        if known.status.is_final:
            return False
        journal.order(execution_id, kind, data)
    return True


def _told(value: Any) -> dict[str, Any]:
    raw = value.raw if type(value) is Stored else None
    return {"plain": value} if raw is None else {"stored": base64.b64encode(bytes(raw)).decode()}


def _read(told: Mapping[str, Any]) -> Any:
    return decode(Stored(base64.b64decode(told["stored"]))) if "stored" in told else told["plain"]


def _line(connection: socket.socket) -> bytes:
    """What is sent up to the end of a line."""
    parts: list[bytes] = []
    while not parts or not parts[-1].endswith(b"\n"):
        part = connection.recv(1 << 16)
        parts.append(part)
        if not part or sum(map(len, parts)) > _LONGEST:
            raise JournalError("the journal's owner and this process don't understand each other")
    return b"".join(parts)


@contextlib.contextmanager
def _address(name: str) -> Any:
    """What to call a socket: the operating system takes some hundred characters only."""
    if len(os.fsencode(name)) < 100 or sys.platform != "linux":  # macOS takes 103, Linux 107
        yield name
        return
    folder = os.open(Path(name).parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{Path(name).name}"
    finally:
        os.close(folder)
