"""The container says the same as wiring by hand; each part can be replaced; nothing is shared."""

import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from dependency_injector import containers, providers

from nerv.bus import EventBus
from nerv.clock import SystemClock
from nerv.container import Services
from nerv.errors import ConfigError
from nerv.events import ANY
from nerv.manager import WorkflowManager
from nerv.partitioner import QuantumPartitioner
from nerv.pools.factory import PoolFactory
from nerv.projector import StateProjector
from nerv.settings import Settings
from nerv.statuses import WorkflowStatus
from nerv.tasks import TaskDef
from nerv.workflows import Workflow

FLOW = Workflow("flow", [TaskDef("a", int), TaskDef("b", int, dependencies=["a"])])
PARTS = ("clock", "event_bus", "state_projector", "pools", "quantum_partitioner", "workflow_manager")


@pytest.fixture
def wired():
    """Make a container; its manager is closed at the end."""
    made = []

    def wired(**config):
        made.append(Services(config=config))
        return made[-1]

    yield wired
    for services in made:
        services.workflow_manager().close()


def test_it_is_a_declarative_container_with_the_documented_providers():
    assert issubclass(Services, containers.DeclarativeContainer)
    for name in ("config", *PARTS, "task_factory"):
        assert isinstance(getattr(Services, name), providers.Provider), name


@pytest.mark.parametrize("name", PARTS)
def test_a_container_has_one_of_each_part(wired, name):
    services = wired()
    assert getattr(services, name)() is getattr(services, name)()


@pytest.mark.parametrize("name", PARTS)
def test_two_containers_share_nothing(wired, name):
    assert getattr(wired(), name)() is not getattr(wired(), name)()


def test_two_containers_have_their_own_settings(wired):
    one, other = wired(workers=3), wired()
    assert one.workflow_manager().settings.workers == 3
    assert other.workflow_manager().settings == Settings()


def test_threads_that_ask_at_once_get_the_same_part(wired):
    services, together = wired(), threading.Barrier(8)

    def ask(_):
        together.wait(10)
        return services.workflow_manager()

    with ThreadPoolExecutor(8) as threads:
        assert len(set(map(id, threads.map(ask, range(8))))) == 1


def test_the_manager_is_made_of_the_containers_parts(wired):
    services = wired()
    manager = services.workflow_manager()
    assert manager.event_bus is services.event_bus()
    assert manager.state_projector is services.state_projector()
    assert manager.clock is services.clock()


@pytest.mark.parametrize("how", ["container", "hand"])
def test_both_ways_of_wiring_build_equal_engines(wired, how):
    config = {"workers": 2, "failure_policy": "continue", "history_limit": 3, "pools": {"mine": {"kind": "thread"}}}
    if how == "container":
        manager = wired(**config).workflow_manager()
    else:
        bus, projector, clock = EventBus(config["history_limit"]), StateProjector(), SystemClock()
        manager = WorkflowManager(event_bus=bus, state_projector=projector, clock=clock, **config)
    with manager:
        heard = []
        with manager.event_bus.subscribe(ANY, heard.append):
            execution = manager.start(FLOW, execution_id="x")
            execution.wait()
        assert manager.settings == WorkflowManager(**config).settings
        assert {name: type(getattr(manager, name)) for name in ("event_bus", "state_projector", "clock")} == {
            "event_bus": EventBus,
            "state_projector": StateProjector,
            "clock": SystemClock,
        }
        assert [event.id for event in heard] == [f"x:{seq}" for seq in range(1, 7)]
        assert len(manager.event_bus.get_history()) == 3
        assert manager.state_projector.get_state()["executions"]["x"]["status"] is WorkflowStatus.COMPLETED


# ---- settings -------------------------------------------------------------------------------------------------------


def test_settings_may_come_later_from_a_dict():
    services = Services()
    services.config.from_dict({"workers": 3, "pools": {"mine": {"kind": "thread", "workers": 2}}})
    with services.workflow_manager() as manager:
        assert manager.settings.workers == 3
        assert manager.settings.pools["mine"].workers == 2


def test_settings_from_several_places_add_up(wired):
    services = wired(workers=3)
    services.config.from_dict({"keep": 5})
    settings = services.workflow_manager().settings
    assert (settings.workers, settings.keep) == (3, 5)


def test_settings_are_the_documented_defaults_when_nobody_says(wired):
    assert wired().workflow_manager().settings == Settings()


@pytest.mark.parametrize("name", ["event_bus", "quantum_partitioner", "workflow_manager"])
@pytest.mark.parametrize("config", [{"wrokers": 2}, {"workers": "many"}, {"clock": None}, {"event_bus": 3}])
def test_settings_are_checked_when_they_are_first_used(name, config):
    services = Services(config=config)
    with pytest.raises(ConfigError, match=next(iter(config))):
        getattr(services, name)()


def test_a_setting_named_like_a_part_is_refused_though_the_part_is_overridden():
    services = Services(config={"clock": None}, event_bus=providers.Object(EventBus()))
    with pytest.raises(ConfigError, match="there is no setting 'clock'"):
        services.workflow_manager()


def test_a_manager_of_wrong_settings_leaves_nothing_running():
    before = threading.active_count()
    with pytest.raises(ConfigError):
        Services(config={"workers": 0}).workflow_manager()
    assert threading.active_count() == before


# ---- overriding -----------------------------------------------------------------------------------------------------


def test_a_bus_of_ones_own_is_the_managers(wired):
    services, mine, heard = wired(), EventBus(history_limit=2), []
    services.event_bus.override(providers.Object(mine))
    with services.workflow_manager() as manager, mine.subscribe(ANY, heard.append):
        manager.start(FLOW).wait()
    assert manager.event_bus is mine
    assert len(heard) == 6
    assert len(mine.get_history()) == 2


def test_a_projector_of_ones_own_is_the_managers(wired):
    services, mine = wired(), StateProjector({"mine": 1})
    services.state_projector.override(mine)
    with services.workflow_manager() as manager:
        manager.start(FLOW, execution_id="x").wait()
    assert manager.state_projector is mine
    assert "x" in mine.get_state()["executions"]


def test_a_clock_of_ones_own_is_the_managers(wired):
    class Late(SystemClock):
        def __init__(self):
            super().__init__()
            self.time = lambda: 5e9 + self.monotonic()

    services = wired()
    services.clock.override(providers.Singleton(Late))
    with services.workflow_manager() as manager:
        execution = manager.start(FLOW)
        execution.wait()
    assert isinstance(manager.clock, Late)
    assert execution.task("a").started_at > 5e9


def test_a_pool_factory_of_ones_own_makes_the_pools(wired):
    made = []

    class Watched(PoolFactory):
        def make(self, name, settings):
            made.append(name)
            return super().make(name, settings)

    services = wired()
    services.pools.override(providers.Factory(Watched))
    with services.workflow_manager() as manager:
        manager.start(FLOW).wait()
    assert made == ["thread"]


def test_a_manager_of_ones_own_is_given_out(wired):
    services = wired()
    with WorkflowManager() as mine:
        services.workflow_manager.override(mine)
        assert services.workflow_manager() is mine
        services.workflow_manager.reset_override()
    assert services.workflow_manager() is not mine


def test_a_partitioner_of_ones_own_is_given_out(wired):
    services, mine = wired(), QuantumPartitioner(2)
    services.quantum_partitioner.override(mine)
    assert services.quantum_partitioner() is mine


def test_an_override_can_be_given_when_the_container_is_made():
    mine = EventBus()
    services = Services(event_bus=providers.Object(mine), config={"workers": 2})
    with services.workflow_manager() as manager:
        assert manager.event_bus is mine


def test_an_override_in_one_container_is_not_seen_in_another(wired):
    one, other = wired(), wired()
    mine = EventBus()
    one.event_bus.override(mine)
    assert other.workflow_manager().event_bus is not mine


# ---- the other parts ------------------------------------------------------------------------------------------------


def test_the_partitioner_has_the_containers_workers(wired):
    partitioner = wired(workers=3).quantum_partitioner()
    assert partitioner.max_workers == 3
    assert partitioner.analyze_dependencies(FLOW.tasks.values()) == {"a": [], "b": ["a"]}


def test_the_partitioner_runs_on_the_containers_manager(wired):
    """So every part and setting goes for what it runs too."""
    services, mine, heard = wired(failure_policy="continue", pools={"own": {"kind": "thread"}}), EventBus(), []
    services.event_bus.override(providers.Object(mine))
    mine.subscribe(ANY, heard.append)
    tasks = [TaskDef("bad", int, args=("x",), priority=9, pool="own"), TaskDef("good", int)]
    results = services.quantum_partitioner().execute_workflow(tasks)
    assert {task: result.status.name for task, result in results.items()} == {"bad": "FAILED", "good": "COMPLETED"}
    assert heard[-1].type == "WORKFLOW_FAILED"
    assert heard[-1].execution_id in services.state_projector().get_state()["executions"]


def test_the_task_factory_makes_a_new_task_each_time(wired):
    services = wired()
    one, other = (services.task_factory(id="a", fn=int, dependencies=["b"]) for _ in range(2))
    assert isinstance(one, TaskDef)
    assert (one.id, one.dependencies) == ("a", ("b",))
    assert one is not other
    assert services.task_factory("c", int).id == "c"


def test_defaults_of_tasks_can_be_wired(wired):
    services = wired()
    services.task_factory.override(providers.Factory(TaskDef, pool="inline"))
    assert services.task_factory("a", int).pool == "inline"


def test_a_container_that_is_dropped_is_collected():
    services = Services()
    services.workflow_manager().close()
    bus = services.event_bus()
    references = sys.getrefcount(bus)
    del services
    gc.collect()
    assert sys.getrefcount(bus) < references
