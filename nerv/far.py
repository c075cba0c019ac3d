"""Results that are elsewhere: on a cluster's workers, until somebody here asks for them.

A pool that leaves results where they were made gives the engine a `Far` in place of a value. The engine files it like
any other; the execution's `FarValues` fetch it when it is read. Only executions with such a pool have them: everywhere
else results are in a plain dict.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from typing import Any

from nerv.events import Facts


class Far:
    """A value that is somewhere else."""

    def fetch(self) -> Any:
        """The value; may take a while, so it is never asked for under the engine's lock.

        Raises:
            ResultUnavailableError: it can't be had any more.
        """
        raise NotImplementedError


class Fetching(dict[str, Any]):
    """A dict that fetches what is elsewhere when it is read. Mixed in before the dict that it is to be."""

    __slots__ = ()

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        return value.fetch() if isinstance(value, Far) else value

    def get(self, name: str, default: Any = None) -> Any:
        """The value of that name, or the default."""
        return self[name] if name in self else default  # noqa: SIM401  this is that get

    def values(self) -> ValuesView[Any]:  # type: ignore[override]  # as good a view as dict's own
        """All values."""
        return ValuesView(self)

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        """All names and values."""
        return ItemsView(self)

    def __iter__(self) -> Iterator[str]:
        """All names. That it is defined makes `dict(values)` ask for each."""
        return super().__iter__()


class FarValues(Fetching):
    """Values by task id; `raw` doesn't fetch."""

    def copy(self) -> FarValues:
        """Another one with the same values, none of them fetched."""
        other = FarValues()
        dict.update(other, {name: self.raw(name) for name in self})
        return other

    def raw(self, name: str) -> Any:
        """What is filed under a name: the value, or a `Far`."""
        return dict.__getitem__(self, name)


class FarFacts(Fetching, Facts):
    """An event's data with a result that is elsewhere."""

    def __init__(self, facts: Mapping[str, Any], far: Far) -> None:
        super().__init__(facts, result=far)

    def __reduce__(self) -> tuple[Any, ...]:
        return Facts, (dict(self),)
