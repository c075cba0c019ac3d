"""`Cache`: what a task says about keeping its results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import force_setattr as _set

from nerv.errors import Problem, WorkflowDefinitionError
from nerv.policies import finite


class Cache(msgspec.Struct, frozen=True):
    """Reuse a task's result in later executions, and in others that run at the same time.

    An entry belongs to the function (its code and what it closes over) and to the arguments, by their content. With a
    context, the execution's params and the results it can see count as arguments too. Globals that the function reads
    and functions that it calls don't count: change `version` with them.

    Args:
        ttl: seconds for which a result is good, above 0; None: for ever.
        key: called like the function, but without the context; what it returns stands for all inputs. None: all
            inputs count.
        version: any str or int; another version is another entry.

    Raises:
        WorkflowDefinitionError: a value can't be right; it names every such field.
    """

    ttl: float | None = None
    key: Callable[..., Any] | None = None
    version: str | int | None = None

    def __post_init__(self) -> None:
        wrong = []
        if self.ttl is not None:
            seconds = finite(self.ttl)
            if seconds is None or seconds <= 0:
                wrong.append(f"Cache: ttl takes seconds above 0, or None, not {self.ttl!r}")
            else:
                _set(self, "ttl", seconds)
        if self.key is not None and not callable(self.key):
            wrong.append(f"Cache: key takes a callable, which is given the task's arguments, or None, not {self.key!r}")
        if self.version is not None and (isinstance(self.version, bool) or not isinstance(self.version, (str, int))):
            wrong.append(f"Cache: version takes a str, an int or None, not {self.version!r}")
        if wrong:
            problems = [Problem(None, "policy", message) for message in wrong]
            raise WorkflowDefinitionError(problems, "the Cache can't be right")
