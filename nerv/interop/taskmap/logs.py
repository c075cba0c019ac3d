"""What a graph's runs say through `logging`, in the words of taskmap's log files, and what such a file says back.

Two loggers belong to the name of a graph: `NAME-manager` hears when a task is ready ("queueing task x"), `NAME-worker`
when it starts, has finished or has failed. Making a graph sets their level and, if asked to, adds a file; whatever else
should hear them is the program's own to say. Where nobody hears them, a run doesn't speak at all.
"""

from __future__ import annotations

import datetime
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from nerv.errors import ConfigError, near
from nerv.events import Event, EventType
from nerv.interop.taskmap.graph import GraphLike, dependents_of

_KEYS: Final = ("name", "level", "write")
_LINE: Final = re.compile(r"(?: - |pid \d+: )(queueing|starting|finished|failed) task (.+)")


def configure(name: str, config: Mapping[str, Any]) -> str:
    """Set the level of a graph's two loggers, and add a log file if `config` wants one; returns their name."""
    for key in config:
        if key not in _KEYS:
            raise ConfigError(f"logging_config has no {key!r}{near(key, _KEYS)}; it takes {', '.join(_KEYS)}")
    name = config.get("name", name)
    loggers = [_manager(name), _worker(name)]
    for logger in loggers:
        logger.setLevel(config.get("level", logging.DEBUG))
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
    if config.get("write", False) and not any(isinstance(handler, LogFile) for handler in loggers[0].handlers):
        file = LogFile(name)
        for logger in loggers:
            logger.addHandler(file)
    return name


class LogFile(logging.FileHandler):
    """A file in the current folder, named after the graph and the moment. Graphs of one name share one file."""

    def __init__(self, name: str) -> None:
        now = datetime.datetime.now().astimezone()
        super().__init__(f"{name}{now:%m-%d-%Y:%H.%M.%S}.log", encoding="utf-8")
        self.setFormatter(logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s"))


def in_progress(path_to_log: str) -> dict[str, set[str]]:
    """What a log file says of now: the tasks that are `in_progress` (started, not ended) and `queued` (not started)."""
    latest: dict[str, str] = {}
    with open(path_to_log, encoding="utf-8") as file:
        for line in file:
            if found := _LINE.search(line.rstrip("\n")):
                latest[found[2]] = found[1]
    return {
        "in_progress": {task for task, word in latest.items() if word == "starting"},
        "queued": {task for task, word in latest.items() if word == "queueing"},
    }


def run_log(graph: GraphLike, names: Mapping[str, str]) -> Callable[[Event], None] | None:
    """Who tells the graph's loggers of a run's events (`names`: id -> task); None: nobody hears them."""
    name = getattr(graph, "log_name", None) or graph.name
    manager, worker = _manager(name), _worker(name)
    return RunLog(graph, names, manager, worker) if _is_heard(manager) or _is_heard(worker) else None


class RunLog:
    """Turns the events of one run into lines."""

    def __init__(
        self, graph: GraphLike, names: Mapping[str, str], manager: logging.Logger, worker: logging.Logger
    ) -> None:
        done = set(graph.done)
        self._names = names
        self._manager = manager
        self._worker = worker
        self._missing = {task: len(set(needs) - done) for task, needs in graph.dependencies.items() if task not in done}
        self._dependents = dependents_of(graph)

    def __call__(self, event: Event) -> None:
        """Say what an event says."""
        if event.type is EventType.WORKFLOW_STARTED:
            self._queue([task for task, missing in self._missing.items() if not missing])
        task = self._names.get(event.task_id or "")
        if task is None:
            return
        if event.type is EventType.TASK_STARTED:
            self._worker.info("starting task %s", task)
        elif event.type is EventType.TASK_COMPLETED:
            self._worker.info("finished task %s", task)
            self._queue([child for child in self._dependents.get(task, ()) if self._is_next(child)])
        elif event.type is EventType.TASK_FAILED:
            self._worker.error("failed task %s", task, exc_info=event.data["error"])
        elif event.type is EventType.TASK_SKIPPED:
            self._worker.info("skipping task %s, because %s failed", task, self._names[event.data["cause"]])

    def _is_next(self, task: str) -> bool:
        """Note that one more of a task's dependencies has finished; whether it was the last."""
        if task not in self._missing:
            return False
        self._missing[task] -= 1
        return not self._missing[task]

    def _queue(self, tasks: list[str]) -> None:
        for task in tasks:
            self._manager.info("queueing task %s", task)


def _manager(name: str) -> logging.Logger:
    return logging.getLogger(f"{name}-manager")


def _worker(name: str) -> logging.Logger:
    return logging.getLogger(f"{name}-worker")


def _is_heard(logger: logging.Logger) -> bool:
    """Whether a line of this logger would reach anybody."""
    if not logger.isEnabledFor(logging.INFO):
        return logger.isEnabledFor(logging.ERROR) and _has_ears(logger)
    return _has_ears(logger)


def _has_ears(logger: logging.Logger | None) -> bool:
    while logger is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False
