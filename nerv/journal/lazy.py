"""Dicts whose values stay as they are stored until somebody asks for one."""

from __future__ import annotations

import threading
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Final

from nerv.errors import SerializationError
from nerv.events import Facts
from nerv.far import Far, FarValues
from nerv.journal.codec import Stored

_FILING: Final = threading.Lock()  # of all that are read, for as long as it takes to see who came first


class _Lazy(FarValues):
    """Decodes a value when it is first read, and keeps what came out, so that it is one object from then on, also for
    threads that read it at once: no lock is held while it is decoded, which is the user's code, and of two that decode
    it the first one's stays. What is elsewhere is fetched, as by any `FarValues`.

    `__iter__` is defined because dict's C code asks for it: a dict with an iterator of its own is copied through
    `__getitem__`, not behind its back.
    """

    def __getitem__(self, key: str) -> Any:
        value = dict.__getitem__(self, key)
        if type(value) is Stored:
            value = self._filed(key, value, self._decoded(key, value))
        return value.fetch() if isinstance(value, Far) else value

    def _filed(self, key: str, stored: Stored, value: Any) -> Any:
        """The value for all: this one, unless another thread came first, or the task has made another meanwhile."""
        with _FILING:
            there = dict.get(self, key, value)
            if there is stored:
                dict.__setitem__(self, key, value)
                return value
        return self._filed(key, there, self._decoded(key, there)) if type(there) is Stored else there

    def _decoded(self, key: str, value: Stored) -> Any:  # noqa: ARG002  (a mapping may want to say which)
        return value.get()

    def raw(self, key: str) -> Any:
        """The value as it is kept: encoded (see `encode`) until it has been read once, then itself."""
        return dict.__getitem__(self, key)

    def get(self, key: str, default: Any = None) -> Any:
        """The value, decoded, or `default`."""
        return self[key] if key in self else default  # noqa: SIM401  (this is that get)

    def __iter__(self) -> Iterator[str]:
        return dict.__iter__(self)

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        """Keys with their values, decoded as they come."""
        return ItemsView(self)

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        """The values, decoded as they come."""
        return ValuesView(self)

    def keys(self) -> KeysView[str]:  # type: ignore[override]
        """The keys."""
        return KeysView(self)

    def copy(self) -> dict[str, Any]:  # type: ignore[override]
        """A plain dict with every value decoded."""
        return dict(self)

    def __eq__(self, other: object) -> bool:
        return dict(self) == (dict(other) if isinstance(other, _Lazy) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]  # a dict's own, typed so

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        return {**self, **other}

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        return {**other, **self}


class LazyValues(_Lazy):
    """Task id -> result; a result is decoded when it is first asked for. New results can be put in as into any dict."""

    def _decoded(self, key: str, value: Stored) -> Any:
        try:
            return value.get()
        except SerializationError as error:
            raise SerializationError(f"task {key!r}: its result can't be read from the journal: {error}") from error

    def pop(self, key: str, *default: Any) -> Any:
        """Take a value out, decoded."""
        if key in self:
            self[key]
        return dict.pop(self, key, *default)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value, decoded; put in if there is none."""
        if key not in self:
            self[key] = default
        return self[key]

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class LazyFacts(_Lazy, Facts):
    """An event's data whose values are decoded when asked for. `raw(key)` is a `Stored` until then."""
