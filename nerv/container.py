"""`Services`: the parts of an engine, wired by dependency-injector. Nothing imports this but you.

It says in a few lines what one can also build by hand:

    bus, projector, clock = EventBus(settings.history_limit), StateProjector(), SystemClock()
    manager = WorkflowManager(event_bus=bus, state_projector=projector, clock=clock, **config)

Each provider can be overridden, with an object or another provider; what is built after that gets the new part. A part
is made once for each container, when it is first asked for, and two containers share none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dependency_injector import containers, providers

from nerv.bus import EventBus
from nerv.clock import SystemClock
from nerv.hub import opened
from nerv.journal.base import Journal
from nerv.manager import WorkflowManager
from nerv.partitioner import QuantumPartitioner
from nerv.pools.factory import PoolFactory
from nerv.projector import StateProjector
from nerv.settings import Settings, settings_from
from nerv.tasks import TaskDef

__all__ = ["Services"]


def _checked(config: Mapping[str, object] | None) -> Settings:
    return settings_from(config or {})


def _journal(given: Any) -> Journal | None:
    return None if given is None else opened(given)


def _manager(config: Mapping[str, Any] | None, journal: Journal | None, **parts: Any) -> WorkflowManager:
    _checked(config)  # first: a setting named like a part would be taken for it
    manager = WorkflowManager(**parts, **{**(config or {}), "journal": journal})
    manager.owns_journal = not isinstance((config or {}).get("journal"), Journal)
    return manager


class Services(containers.DeclarativeContainer):
    """A container of everything that an engine is made of.

    `config` takes the settings: `Services(config={"workers": 8})`, or `services.config.from_dict({"workers": 8})`
    before anything is asked for. They are checked when they are first used: a ConfigError lists all that is wrong.

    `clock`, `event_bus`, `state_projector`, `journal` (None without one), `pools` (what makes pools),
    `quantum_partitioner` and `workflow_manager` give the container's one object each; `task_factory` makes a new
    TaskDef. Close the manager when you are done: `with services.workflow_manager() as manager:`.
    """

    config = providers.Configuration()
    settings = providers.ThreadSafeSingleton(_checked, config)

    clock = providers.ThreadSafeSingleton(SystemClock)
    event_bus = providers.ThreadSafeSingleton(EventBus, history_limit=settings.provided.history_limit)
    state_projector = providers.ThreadSafeSingleton(StateProjector)
    journal = providers.ThreadSafeSingleton(_journal, settings.provided.journal)
    pools = providers.ThreadSafeSingleton(PoolFactory)
    workflow_manager = providers.ThreadSafeSingleton(
        _manager,
        config,
        journal=journal,
        event_bus=event_bus,
        state_projector=state_projector,
        clock=clock,
        pool_factory=pools,
    )
    quantum_partitioner = providers.ThreadSafeSingleton(
        QuantumPartitioner, max_workers=settings.provided.workers, manager=workflow_manager.provider
    )
    task_factory = providers.Factory(TaskDef)
