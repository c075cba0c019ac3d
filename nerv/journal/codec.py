"""How a value becomes bytes, and back: as JSON-like data where that loses nothing, else pickled; never read unasked.

A value is stored as one msgpack value. What msgpack gives back exactly is stored as such: None, bool, float, bytes, int
of 64 bits, str without lone surrogates, and lists and dicts with str keys of these, if each is exactly of that type and
no container occurs twice. Everything else (a tuple, a set, a subclass, a big int, a date, your classes) is pickled, by
cloudpickle if pickle can't, and travels inside msgpack as an *extension*: its type's name, then the pickle. So the name
can be shown and the bytes copied without unpickling anything.

Exceptions have an extension of their own: type, text and traceback as text, beside the pickle if the exception comes
back whole from it. `StoredError` stands in for one that doesn't, or whose class is gone when it is read.

The numbers of the extensions, and the meaning of their bytes, are part of the file format.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw
from msgspec.msgpack import Decoder, Encoder, Ext

from nerv.errors import ResultUnavailableError, SerializationError, StoredError, described
from nerv.far import Far
from nerv.pools.wire import packed, travelling
from nerv.statuses import TaskStatus, WorkflowStatus

PICKLED: Final = 1  # name of the type, zero byte, pickle
FAILURE: Final = 2  # msgpack: name of the type, text, traceback as text, pickle or None
STATUS: Final = 3  # "WorkflowStatus.COMPLETED"
LOST: Final = 4  # name of the type, zero byte, why it couldn't be stored

LARGEST: Final = 1 << 29
"""Bytes that one value may take: SQLite holds a row of at most 1e9 bytes."""

_DEEPEST: Final = 50  # containers in containers; msgpack reads recursively, unpickling doesn't
_SCALARS: Final = frozenset({type(None), bool, int, float, str, bytes})
_STATUSES: Final = {f"{kind.__name__}.{one.name}": one for kind in (TaskStatus, WorkflowStatus) for one in kind}


class Stored:
    """A value as it is stored: read when `get` is called, not before.

    Encoding one again gives the same bytes, so what was read from one execution can be written to another unseen.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: bytes | Raw) -> None:
        self.raw = raw

    def get(self) -> Any:
        """The value; each call makes a new one.

        Raises:
            SerializationError: it can't be rebuilt here: its class is gone, or its own code raised.
        """
        return _FULL.decode(self.raw)

    def parts(self) -> Any:
        """The value, but what isn't plain in it is left as a `Stored` of its own."""
        return _LAZY.decode(self.raw)

    @property
    def size(self) -> int:
        """Its bytes."""
        return len(memoryview(self.raw))

    @property
    def type_name(self) -> str:
        """Its type's name, as `list` or `decimal.Decimal`; reads nothing but the name."""
        seen = _NAMES.decode(self.raw)
        return seen.name if type(seen) is _Name else _name(type(seen))

    def describe(self) -> str:
        """For people: what it is and how large, as `list, 1.2 kB`."""
        size = self.size
        amount = f"{size} bytes" if size < 1000 else f"{size / 1e3:.1f} kB" if size < 1e6 else f"{size / 1e6:.1f} MB"
        return f"{self.type_name}, {amount}"

    def preview(self, limit: int = 60) -> str:
        """For people: the value's repr if it is plain and no longer than `limit` characters, else `describe()`."""
        if self.size > 4 * limit:
            return self.describe()
        seen = _NAMES.decode(self.raw)
        text = repr(seen)
        return self.describe() if "\0" in text or type(seen) is _Name or len(text) > limit else text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stored) and bytes(self.raw) == bytes(other.raw)

    def __hash__(self) -> int:
        return hash(bytes(self.raw))

    def __repr__(self) -> str:
        return f"<Stored {self.describe()}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Stored, (bytes(self.raw),)


ENCODED: Final = _SCALARS | {Stored}
"""The types of what `encode` gives."""


class _Name:
    """In a value that is only looked at: what stands there and isn't plain."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}>"


# ---- encoding -------------------------------------------------------------------------------------------------------


def encode(value: Any, task_id: str | None = None) -> Any:
    """A value in the form in which it is written: itself if it is plain and can't change, else a `Stored`.

    Takes about 0.2 us for a number or a short string. Call it where the value is made, in the worker: what is changed
    later isn't stored, and what can't be stored is that task's failure, not the journal's.

    Args:
        value: anything; what is elsewhere is fetched.
        task_id: whose it is, for the message.

    Raises:
        SerializationError: it can't be stored, or not be fetched any more.
    """
    kind = type(value)
    if kind is int:
        if -(1 << 63) <= value < 1 << 64:
            return value
    elif kind is str:
        if value.isascii() or _is_utf8(value):
            return _sized(value, len(value), task_id)
    elif kind is bytes:
        return _sized(value, len(value), task_id)
    elif value is None or kind is float or kind is bool or kind is Stored:
        return value
    elif kind is list or kind is dict:
        try:
            raw = ENCODER.encode(value) if _is_plain(value, set(), 0) else b""
        except Exception:  # noqa: BLE001  a big int, a lone surrogate, a class without a hash; changed meanwhile
            raw = b""
        if raw:
            return _sized(Stored(raw), len(raw), task_id)
    return _encode_odd(value, task_id)


def _encode_odd(value: Any, task_id: str | None) -> Any:
    """A value that is elsewhere, or is to be pickled."""
    if issubclass(type(value), Far):  # isinstance would ask the value itself, which may raise
        try:
            value = value.fetch()
        except ResultUnavailableError as error:
            raise SerializationError(f"task {task_id!r}: its result can't be stored in the journal: {error}") from error
        return encode(value, task_id)
    raw = ENCODER.encode(_extension(value, task_id))
    return _sized(Stored(raw), len(raw), task_id)


def decode(value: Any) -> Any:
    """The value behind what `encode` gave.

    Raises:
        SerializationError: it can't be rebuilt here.
    """
    return value.get() if type(value) is Stored else value


def encode_all(values: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Each value of a mapping encoded, as params are.

    Args:
        values: the mapping.
        what: what one is called in the message, as `param`.

    Raises:
        SerializationError: naming the first that can't be stored.
    """
    kept = {}
    for key, value in values.items():
        try:
            kept[key] = encode(value)
        except SerializationError as error:
            raise SerializationError(f"{what} {key!r}: {error}") from error
    return kept


def encode_facts(data: Mapping[str, Any]) -> dict[str, Any]:
    """An event's data encoded. What can't be stored is kept as a value that raises when read; the rest stays whole."""
    kept = {}
    for key, value in dict.items(data) if isinstance(data, dict) else data.items():  # dict's own leave values stored
        try:
            kept[key] = encode(value)
        except SerializationError as error:
            kept[key] = Stored(ENCODER.encode(Ext(LOST, f"{_name(type(value))}\0{error}".encode(errors="replace"))))
    return kept


def _is_plain(value: Any, seen: set[int], depth: int) -> bool:
    """Whether msgpack gives back exactly this, as far as types tell. Scalars are looked at in bulk."""
    kind = type(value)
    if id(value) in seen or depth > _DEEPEST:
        return False
    seen.add(id(value))
    if kind is dict:
        if not {str}.issuperset(map(type, value)):
            return False
        value = value.values()
    elif kind is not list:
        return kind is Stored
    kinds = set(map(type, value))
    if kinds <= _SCALARS:
        return True
    return all(_is_plain(inner, seen, depth + 1) for inner in value if type(inner) not in _SCALARS)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _sized(encoded: Any, size: int, task_id: str | None) -> Any:
    if size > LARGEST:
        raise SerializationError(
            f"{_whose(task_id)}a value of {size:,} bytes is too large for the journal (at most {LARGEST:,}):"
            " write it to a file and return the file's path"
        )
    return encoded


def _extension(value: Any, task_id: str | None) -> Ext:
    kind = type(value)
    if issubclass(kind, BaseException):
        return Ext(FAILURE, _failure(value))
    name = _name(kind)
    if kind is TaskStatus or kind is WorkflowStatus:
        return Ext(STATUS, f"{kind.__name__}.{value.name}".encode())
    try:
        return Ext(PICKLED, name.encode(errors="replace") + b"\0" + packed(value))
    except Exception as error:
        remedy = "pass something that pickles" if task_id is None else "return what pickles, or say durable=False"
        raise SerializationError(
            f"{_whose(task_id)}a value of type {name} can't be stored in the journal ({described(error)}): {remedy}"
        ) from error


def _failure(error: BaseException) -> bytes:
    try:
        trace = "".join(traceback.format_exception(error))
    except Exception as trouble:  # noqa: BLE001  the user's __str__ may do anything
        trace = f"its traceback can't be shown: {type(trouble).__name__}"
    words = (_name(type(error)), described(error), trace.rstrip())
    return ENCODER.encode([*(word.encode(errors="replace").decode() for word in words), travelling(error)])


def _whose(task_id: str | None) -> str:
    return "" if task_id is None else f"task {task_id!r}: "


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


# ---- decoding -------------------------------------------------------------------------------------------------------


def _rebuilt(code: int, body: memoryview) -> Any:
    """What an extension stands for, unpickled."""
    if code == FAILURE:
        return _rebuilt_failure(body)
    if code == STATUS:
        return _STATUSES[str(body, "utf-8")]
    name, _, rest = bytes(body).partition(b"\0")
    text = name.decode()
    if code == LOST:
        raise SerializationError(f"a value of type {text} wasn't stored: {rest.decode()}")
    if code != PICKLED:
        raise SerializationError(f"a value is stored in a form (number {code}) that this version of nerv doesn't know")
    try:
        return pickle.loads(rest)
    except Exception as error:
        raise SerializationError(
            f"a stored value of type {text} can't be rebuilt here ({described(error)}):"
            " make its class importable as it was"
        ) from error


def _rebuilt_failure(body: memoryview) -> BaseException:
    name, text, trace, pickled = _ENCODED_FAILURE.decode(body)
    error: BaseException | None = None
    if pickled is not None:
        try:
            error = pickle.loads(pickled)
        except Exception as trouble:  # noqa: BLE001  its class can't be had here: the stand-in says so
            text = f"{text} (it can't be rebuilt here: {described(trouble)})"
    if not isinstance(error, BaseException):
        error = StoredError(text, name)
    error.add_note(f"from the journal:\n{trace}")
    return error


def _seen(code: int, body: memoryview) -> _Name:
    """What an extension stands for, by name only."""
    if code == FAILURE:
        return _Name(_ENCODED_FAILURE.decode(body)[0])
    return _Name(bytes(body).partition(b"\0")[0].decode())


def _left(code: int, body: memoryview) -> Stored:
    return Stored(ENCODER.encode(Ext(code, bytes(body))))


def _embedded(value: Any) -> Raw:
    if type(value) is Stored:
        return Raw(value.raw)
    raise TypeError(f"{type(value).__name__} wasn't encoded")


ENCODER: Final = Encoder(enc_hook=_embedded)
_FULL: Final = Decoder(ext_hook=_rebuilt)
_LAZY: Final = Decoder(ext_hook=_left)
_NAMES: Final = Decoder(ext_hook=_seen)
_ENCODED_FAILURE: Final = msgspec.msgpack.Decoder(tuple[str, str, str, bytes | None])
