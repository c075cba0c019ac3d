"""A Dask graph as nerv's scheduler wants it: culled, numbered, ranked; and how a node of it is called.

Dask's own nodes (`dask._task_spec`) are used as they are. Data isn't a task: its value is there from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from typing import Any, Final

from dask._task_spec import Alias, DataNode, Dict, GraphNode, List, Set, Task, TaskRef, Tuple, convert_legacy_graph
from dask.order import order

from nerv.graph import NUMBER_BITS, Graph


def as_nodes(dsk: Any, known: Collection[Any] = ()) -> dict[Any, GraphNode]:
    """The nodes, by key, of a graph or of a collection that has one; older notation is converted.

    Args:
        dsk: the graph.
        known: keys that its tasks may refer to though they aren't in it.
    """
    if not isinstance(dsk, Mapping):
        dsk = dsk.__dask_graph__()
    nodes: dict[Any, GraphNode] = convert_legacy_graph(dsk, {*dsk, *known} if known else None)
    return nodes


class Culled:
    """The part of a graph that the wanted keys need.

    Tasks are numbered depth first: each after all that it needs, and what is read together is made together.

    Args:
        nodes: the graph.
        wanted: keys.

    Attributes:
        keys: keys by number; a node's own key may be another one.
        nodes: tasks by number.
        needs: for each task the numbers of the tasks that it needs.
        data: what is known already, by key.

    Raises:
        KeyError: a wanted key isn't in the graph.
        ValueError: a task needs a key that isn't in the graph.
        RuntimeError: the graph has a cycle.
    """

    def __init__(self, nodes: Mapping[Any, GraphNode], wanted: Iterable[Any]) -> None:
        self.keys: list[Any] = []
        self.nodes: list[GraphNode] = []
        self.needs: list[tuple[int, ...]] = []
        self.data: dict[Any, Any] = {}
        self._all = nodes
        self._number_of: dict[Any, int] = {}
        self._place_of: Callable[[Any], int] = dict(zip(nodes, range(len(nodes)), strict=True)).__getitem__
        for key in wanted:
            if key not in nodes:
                raise KeyError(key)
            self._walk(key)

    def _walk(self, key: Any) -> None:
        nodes, number_of = self._all, self._number_of
        stack = [key]
        while stack:
            key = stack[-1]
            number = number_of.get(key)
            if number is not None and number != _OPEN:
                stack.pop()
                continue
            node = nodes[key]
            if node.__class__ is DataNode:
                number_of[key] = _DATA
                self.data[key] = node()
                stack.pop()
                continue
            needs = node.dependencies
            todo = [need for need in needs if number_of.get(need, _OPEN) == _OPEN]
            if not todo:
                number_of[key] = len(self.nodes)
                self.keys.append(key)
                self.nodes.append(node)
                self.needs.append(tuple([number for need in needs if (number := number_of[need]) >= 0]))
                stack.pop()
            elif number is None:
                number_of[key] = _OPEN
                self._sort(key, todo)
                stack += todo
            else:  # all that it needs has been looked at, and yet something isn't numbered
                order({one: nodes[one] for one in number_of})  # says where the ring is
                raise RuntimeError(f"Cycle detected in Dask: {key!r} needs itself")

    def _sort(self, key: Any, needs: list[Any]) -> None:
        """In the graph's own order, the first last: Dask keeps them in sets, whose order isn't always the same."""
        try:
            needs.sort(key=self._place_of, reverse=True)
        except KeyError as error:
            raise ValueError(f"Missing dependency {error.args[0]} for dependents {{{key!r}}}") from None

    def places(self) -> list[int]:
        """Each task's place in Dask's order, which keeps few results in memory. It takes 10 to 20 us a task."""
        if len(self.keys) == 1:
            return [0]
        places = order(dict(zip(self.keys, self.nodes, strict=True)))
        return [places[key] for key in self.keys]


_DATA: Final = -1
_OPEN: Final = -2  # what it needs is being looked at


class Ranked(Graph):
    """A culled graph whose tasks are ranked by their places in an order, not by the critical path."""

    def __init__(self, culled: Culled, places: Collection[int]) -> None:
        super().__init__(culled.needs, ())
        self.keys = culled.keys
        self._places = places

    @cached_property
    def ranks(self) -> list[int]:
        """For each task its rank: its place, above its number."""
        return [(place << NUMBER_BITS) + number for number, place in enumerate(self._places)]


def evaluate(node: Any, values: Mapping[Any, Any]) -> Any:
    """What a node gives, as Dask's own `node(values)` at half the cost: nothing is copied or checked on the way.

    Args:
        node: a node, or a plain argument, which stands for itself.
        values: results by key; it may hold more than the node needs.
    """
    kind = node.__class__
    if id(kind) in _PLAIN:
        return node
    if kind is Task:
        args = [arg if id(arg.__class__) in _PLAIN else evaluate(arg, values) for arg in node.args]
        if node.kwargs:
            return node.func(*args, **{name: evaluate(arg, values) for name, arg in node.kwargs.items()})
        return node.func(*args)
    if kind is Alias:
        return values[node.target]
    if kind is List:
        return [arg if id(arg.__class__) in _PLAIN else evaluate(arg, values) for arg in node.args]
    if kind is TaskRef:
        return values[node.key]
    if id(kind) in _CONTAINERS:
        return kind.constructor([evaluate(arg, values) for arg in node.args])
    if isinstance(node, GraphNode):
        return node({key: values[key] for key in node.dependencies})
    return values[node.key] if isinstance(node, TaskRef) else node


_PLAIN: Final = frozenset(map(id, (str, int, float, bool, bytes, type(None))))  # a user's class may not be hashable
_CONTAINERS: Final = frozenset(map(id, (Tuple, Set, Dict)))
