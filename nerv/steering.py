"""`Steering`: what becomes of a task that returned an outcome in place of a result (nerv/outcomes.py).

A part of the engine. `prepare` happens without its lock, everything else under it. The scheduler's parts, `Families`
and `Suspensions`, say what has come (`scheduler.news`); here is who has the results, and so who ends the task, or asks
what it left to be asked: its `then`, which is the user's own code and runs in a pool like a fallback.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from heapq import heappush
from typing import TYPE_CHECKING, Any

from nerv.calls import Call
from nerv.errands import Question, ThenCall
from nerv.errors import NervError, TaskCancelledError, TaskTimeoutError
from nerv.families import Family
from nerv.ground import Ground
from nerv.live import Live
from nerv.outcome_ends import blamed, ends_of
from nerv.outcomes import Choice, Expand, Gather, Grow, Hold, Route, Wait
from nerv.outgrowth import kept
from nerv.planting import Plant, Planter
from nerv.pools.base import Pool
from nerv.references import Output, Outputs, Reference, Template, fill
from nerv.states import COMPLETED, DUE, FAILED, GATHERED, GROWN, LATE, SIGNALLED, THEN, TOLD
from nerv.suspensions import Suspended

if TYPE_CHECKING:
    from nerv.engine import Engine


class Steering:
    """Carries out outcomes.

    Args:
        engine: whose tasks steer.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ground = Ground(engine.turns_of)
        self._acts: dict[int, Callable[[Live, int, float], None]] = {
            GROWN: self._grown,
            GATHERED: self._gathered,
            SIGNALLED: self._signalled,
            DUE: self._due,
            LATE: self._late,
        }

    # ---- without the lock -------------------------------------------------------------------------------------------

    def prepare(self, call: Call) -> None:
        """Make ready what a call has returned in place of a result. What can't be is the task's failure."""
        call.is_attempt, call.odd = False, True
        outcome = call.value
        try:
            stored = None
            if call.live.kept is not None and not isinstance(outcome, Route):
                stored = kept(call.task, outcome)
            if isinstance(outcome, Expand):
                outcome = Grow(tasks=outcome.tasks, result=outcome.result)
            if isinstance(outcome, Grow):
                admission = call.live.admission
                plant = Planter(call, outcome, admission).planted()
                if outcome.then is not None:
                    plant.then_pool = admission.pool_of(outcome.then, call.live.pool_of(call))
                plant.kept = stored
                outcome = plant
            elif isinstance(outcome, (Wait, Gather)):
                own = call.live.pool_of(call)
                pool = None if outcome.then is None else call.live.admission.pool_of(outcome.then, own)
                outcome = outcome, pool, stored
        except NervError as error:
            call.error = error
        else:
            call.step = outcome

    # ---- under the lock ---------------------------------------------------------------------------------------------

    def settle(self, call: Call, now: float) -> None:
        """A call has ended well that steers, or was asked for by one that did."""
        live, number, step = call.live, call.number, call.step
        scheduler = live.scheduler
        if isinstance(call, ThenCall):
            scheduler.errands.pop(number, None)
        if live.kept is not None and step is not None and self._engine.recorder is not None:
            self._engine.recorder.hold_back(live)
        if step is None:
            self._complete(live, number, call.value, now)
        elif isinstance(step, Route):
            self._route(live, number, step, now)
        elif call.cancelled or scheduler.gives_up(number):
            self._cancel(live, number, now)
        elif isinstance(step, Plant):
            self._plant(live, number, step, now, self._deadline(call, now))
        elif isinstance(step[0], Gather):
            self._gather(call, step[0], step[1], step[2], now)
        else:
            self._hold(call, step[0], step[1], step[2], now)

    def _deadline(self, call: Call, now: float) -> float | None:
        timeout = call.task.timeout
        if timeout is None or isinstance(call, ThenCall):
            return None
        return now + timeout if call.deadline is None else call.deadline

    def _complete(self, live: Live, number: int, value: Any, now: float) -> None:
        live.values[live.tasks[number].id] = value
        live.scheduler.completed(number, now)

    def _cancel(self, live: Live, number: int, now: float) -> None:
        task_id = live.tasks[number].id
        live.scheduler.cancelled(number, now, TaskCancelledError(f"task {task_id!r} was told to stop"))

    def _fail(self, live: Live, number: int, error: BaseException, now: float) -> None:
        self._engine.endings.failed(live, number, error, now, retryable=False)

    def act(self, live: Live) -> None:
        """See to all that is new."""
        scheduler, now = live.scheduler, self._engine.now()
        while scheduler.news:
            news, scheduler.news = scheduler.news, []
            told = [number for what, number in news if what == TOLD]
            if told:
                self._engine.stop_calls(live, told)
            for what, number in news:
                if what != TOLD and not scheduler.has_ended(number):
                    self._acts[what](live, number, now)

    # ---- adding tasks -----------------------------------------------------------------------------------------------

    def _plant(self, live: Live, number: int, plant: Plant, now: float, deadline: float | None) -> None:
        scheduler = live.scheduler
        self._ground.take(live, plant)
        parted = plant.counts
        families = scheduler.has_families()
        if scheduler.waits is not None:
            scheduler.waits.left(number, now, ok=True)
        first = len(live.tasks) - len(plant.tasks)
        families.grow(number, plant, now, parted=parted)
        if plant.cases:
            self._ground.measure(live, plant, first).follow_all()
        if parted:
            self._complete(live, number, plant.grow.at_once, now)
        elif deadline is not None:
            scheduler.has_suspensions(live.log.epoch).limit(number, deadline)

    def replant(self, live: Live, number: int, plant: Plant) -> Family:
        """Add tasks again that a record tells of."""
        self._ground.take(live, plant)
        if plant.cases:
            self._ground.measure(live, plant, len(live.tasks) - len(plant.tasks))
        return live.scheduler.has_families().regrow(number, plant, parted=plant.counts)

    def _grown(self, live: Live, number: int, now: float) -> None:
        """All that a task has added has ended."""
        families = live.scheduler.families
        assert families is not None
        family = families.last[number]
        plant: Plant = family.seed.plan
        outcome = families.outcome_of(number)
        if number in live.late:
            live.late.discard(number)
            self._fail(live, number, self._overdue(live, number), now)
        elif outcome == FAILED:
            self._fail(live, number, blamed(live, number, family), now)
        elif outcome != COMPLETED:
            self._cancel(live, number, now)
        elif plant.grow.then is not None:
            assert plant.then_pool is not None
            ends = partial(ends_of, live, number, number)
            self._ask(
                live,
                number,
                Question(plant.grow.then, ends, self._ground.queue(live, plant.then_pool), is_made=True),
                now,
            )
        else:
            self._finish(live, number, plant, now)

    def _finish(self, live: Live, number: int, plant: Plant, now: float) -> None:
        """End a task with what was to be its result. Where that reaches into others' results, it isn't made here."""
        node = plant.result
        if isinstance(node, Output) and not node.path and node.task_id in plant.scope:
            node = plant.scope[node.task_id]
        elif isinstance(node, (Reference, Template, Outputs)):
            params = live.tasks[number].seen(live.values, live.params)[1]
            fn = partial(fill, node, plant.scope)
            queue = self._ground.queue(live, live.admission.threads())
            self._ask(live, number, Question(fn, params, queue), now)
            return
        self._complete(live, number, node, now)

    # ---- waiting ----------------------------------------------------------------------------------------------------

    def _hold(self, call: Call, wait: Wait, pool: Pool | None, stored: bytes | None, now: float) -> None:
        live, number = call.live, call.number
        epoch = live.log.epoch
        live.scheduler.has_suspensions(epoch)
        due = wait.due(now, epoch)
        deadline = self._deadline(call, now)
        what = "timer" if wait.signal is None else f"signal {wait.signal!r}"
        prompt = wait.prompt if isinstance(wait, Hold) else ""
        live.held[number] = wait, pool
        live.scheduler.suspended(number, now, Suspended(what, now, wait.signal, due, deadline, prompt), stored)

    def _signalled(self, live: Live, number: int, now: float) -> None:
        suspensions = live.scheduler.suspensions
        assert suspensions is not None
        one = suspensions.leave(number)
        if one is not None and one.signal is not None:
            self._over(live, number, suspensions.signals[one.signal], now)

    def _due(self, live: Live, number: int, now: float) -> None:
        suspensions = live.scheduler.suspensions
        assert suspensions is not None
        if suspensions.leave(number) is not None:
            self._over(live, number, None, now)

    def _over(self, live: Live, number: int, value: Any, now: float) -> None:
        """What a task has waited for has come."""
        wait, pool = live.held.pop(number)
        if wait.then is None:
            self._complete(live, number, value, now)
        else:
            assert pool is not None
            self._ask(live, number, Question(wait.then, value, self._ground.queue(live, pool)), now)

    def _late(self, live: Live, number: int, now: float) -> None:
        """A task's time is over while it waits, or while what it has added runs."""
        scheduler = live.scheduler
        families, suspensions = scheduler.families, scheduler.suspensions
        assert suspensions is not None
        if suspensions.leave(number) is not None:
            held = live.held.pop(number, None)
            if held is not None and isinstance(held[0], Hold) and held[0].late == "skip":
                scheduler.skip(number, now)
            else:
                self._fail(live, number, self._overdue(live, number), now)
        elif families is not None and number in families.open:
            live.late.add(number)
            families.cancel(number, now)
        elif scheduler.errands.get(number) == THEN:
            live.late.add(number)  # its `then` is on its way, and won't count
            if number in live.active:
                self._engine.leave_behind(live.active[number])
                self._drop(live, number, now)

    def _drop(self, live: Live, number: int, now: float) -> None:
        """What was to be asked isn't: the task is late, or everything stops."""
        live.scheduler.errands.pop(number, None)
        live.questions.pop(number, None)
        if number in live.late:
            live.late.discard(number)
            self._fail(live, number, self._overdue(live, number), now)
        else:
            self._cancel(live, number, now)

    def _overdue(self, live: Live, number: int) -> TaskTimeoutError:
        task = live.tasks[number]
        return TaskTimeoutError(f"task {task.id!r} wasn't done within its timeout of {task.timeout:g} s")

    # ---- waiting for what another has added -------------------------------------------------------------------------

    def _gather(self, call: Call, gather: Gather, pool: Pool | None, stored: bytes | None, now: float) -> None:
        live, number = call.live, call.number
        scheduler = live.scheduler
        source = dict(zip(call.task.needs, scheduler.needs_of(number), strict=False)).get(gather.source)
        families = scheduler.families
        family = None if families is None or source is None else families.last.get(source)
        if families is None or family is None or source is None or not family.seed.counts:
            text = f"task {call.task.id!r} collects from {gather.source!r}, which sends nothing on its way"
            self._fail(live, number, NervError(f"{text}: name a Buffer with collect=False"), now)
            return
        scheduler.has_suspensions(live.log.epoch)
        live.held[number] = gather, pool
        what = f"results of {gather.source!r}"
        scheduler.suspended(number, now, Suspended(what, now, deadline=self._deadline(call, now)), stored)
        live.sources[number] = source
        families.watch(source, number, gather.quorum)

    def _gathered(self, live: Live, number: int, now: float) -> None:
        scheduler = live.scheduler
        assert scheduler.suspensions is not None
        assert scheduler.families is not None
        if scheduler.suspensions.leave(number) is None:
            return
        gather, pool = live.held.pop(number)
        source = live.sources.pop(number)
        assert isinstance(gather, Gather)
        assert pool is not None
        if gather.cancel:
            scheduler.families.cancel(source, now, taken_on=True)
        ends = partial(ends_of, live, number, source)
        self._ask(live, number, Question(gather.then, ends, self._ground.queue(live, pool), is_made=True), now)

    # ---- asking -----------------------------------------------------------------------------------------------------

    def _ask(self, live: Live, number: int, question: Question, now: float) -> None:
        """Have something called for a task: the user's own code runs in a pool."""
        scheduler = live.scheduler
        if scheduler.gives_up(number):
            self._cancel(live, number, now)
            return
        live.admission.policing.has_waits(live)
        scheduler.errands[number] = THEN
        live.questions[number] = question
        heappush(scheduler.ready[question.queue], scheduler.ranks[number])

    def errand(self, live: Live, number: int, now: float) -> Call | None:
        """The call for a question that was taken; None: it isn't asked any more."""
        if number in live.late or live.scheduler.gives_up(number):
            self._drop(live, number, now)
            self._engine.moved(live)
            return None
        question = live.questions.pop(number)
        call = ThenCall(live, number, live.tasks[number], live.scheduler.attempts[number], question)
        live.active[number] = call
        return call

    # ---- routes -----------------------------------------------------------------------------------------------------

    def _route(self, live: Live, number: int, route: Route, now: float) -> None:
        scheduler = live.scheduler
        dependents = live.dependents_of(number)
        unknown = [one for one in route.ids if one not in dependents]
        if unknown:
            names = ", ".join(map(repr, dependents)) or "nobody"
            text = f"task {live.tasks[number].id!r} routes to {unknown[0]!r}, which doesn't depend on it; {names} does"
            self._fail(live, number, NervError(text), now)
            return
        taken = {dependents[one] for one in route.ids}
        branches: Collection[int] = (
            [one for name, one in dependents.items() if name in route.branches]
            if isinstance(route, Choice)
            else scheduler.branches(number)
        )
        live.values[live.tasks[number].id] = route.value if isinstance(route, Choice) else route.ids
        scheduler.routed(number, now, [one for one in branches if one not in taken])
