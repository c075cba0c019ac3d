"""`Paginate`: one page after another, until there is no next one."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from msgspec import UNSET

from nerv.errors import NervError, WorkflowDefinitionError
from nerv.nodes.base import Node, as_task, required, stays_here
from nerv.outcomes import Ends, Grow, Items
from nerv.policies import RetryPolicy
from nerv.tasks import TaskDef


class Page(msgspec.Struct, frozen=True):
    """What a fetch returns: the items, and where the next page begins (None: it was the last one)."""

    items: Any
    next_cursor: Any = None


class Pages(msgspec.Struct, frozen=True):
    """What a Paginate results in: all items, in order, and how many pages there were."""

    items: list[Any]
    pages: int


class Paginate(Node, frozen=True, eq=False):
    """Calls `fetch(cursor)`, first with None, until a page has no next cursor. The result has `items` and `pages`.

    Args:
        id: the pages' tasks are called `id[0]`, `id[1]` ...
        fetch: a function or TaskDef that returns a `Page`.
        max_pages: no more than so many.
        retry_policy: of each page.
        fields: as of all nodes.

    Raises:
        WorkflowDefinitionError: a field's value can't be right.
    """

    fetch: Any = UNSET
    max_pages: int | None = None

    takes: ClassVar[tuple[str, ...]] = ("retry_policy",)
    own: ClassVar[tuple[str, ...]] = ("fetch", "max_pages")
    runs: ClassVar[tuple[str, ...]] = ("fetch",)
    shape: ClassVar[tuple[str, str]] = ("([", "])")

    def arguments(self, problems: list[str], targets: list[TaskDef]) -> tuple[Any, ...]:
        """Nothing."""
        if required(self.fetch, "fetch=, a function of the cursor that returns a Page", problems) is not UNSET:
            task = as_task(self.fetch, "its fetch", problems)
            if self.retry_policy is not None:
                task = self._with_policy(task, problems)
            targets.append(task)
        most = self.max_pages
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            problems.append(f"max_pages takes a whole number from 1, or None, not {most!r}")
        return ()

    def _with_policy(self, task: TaskDef, problems: list[str]) -> TaskDef:
        try:
            policy = RetryPolicy.of(self.retry_policy)
        except WorkflowDefinitionError as error:
            problems += [problem.message for problem in error.problems]
            return task
        return msgspec.structs.replace(task, retry_policy=policy)

    @stays_here
    def act(self) -> Grow:
        """The first page."""
        return self._page(None)

    def _page(self, cursor: Any) -> Grow:
        return Grow(tasks=Items(self._targets[0], [cursor]), indexed=True, then=self.go_on)

    def go_on(self, ends: Ends) -> Any:
        """The next page, or the result."""
        page = ends.last
        if not isinstance(page, Page):
            raise TypeError(f"task {ends.task_id!r}: fetch returns a Page(items, next_cursor), not {page!r}")
        cursor = page.next_cursor
        if cursor is None or ends.count == self.max_pages:
            pages = ends.results
            return Pages([item for one in pages for item in one.items], len(pages))
        for place in range(ends.count - 1):
            if ends.at(place).next_cursor == cursor:
                raise NervError(
                    f"task {ends.task_id!r}: page {ends.count - 1} leads to the cursor {cursor!r}, which page {place} "
                    "led to already: fetch would go round in circles"
                )
        return self._page(cursor)
