"""The program that is killed: a workflow of 200 mixed tasks, and 40 that these add. Functions write down each call.

`python program.py serve` makes lives: a line of JSON in (the arguments of `live`), `{"pid": ...}` out. Each is forked
from one process that has loaded everything, and has no threads, so that a life costs milliseconds. `python program.py
'{...}'` is one life in a fresh interpreter.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from random import Random

import nerv.journal.sqlite  # so that forked lives have it
import nerv.pools.coroutine
import nerv.pools.process  # noqa: F401
from nerv import Buffer, Expand, Output, RateLimit, RetryPolicy, TaskDef, Workflow, run

COUNT = 200
ITEMS = 20
NAME = "killed"
MODES = ("ends", "fails")


def say(ctx, what, **more):
    """One line in the log, whole or not at all: it is there whatever befalls the process then."""
    line = {"what": what, "task": ctx.task_id, "attempt": ctx.attempt, "key": ctx.idempotency_key, "pid": os.getpid()}
    log = os.open(ctx["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(log, (json.dumps(line | more) + "\n").encode())
    os.close(log)


def pause(ctx):
    """Work, a few milliseconds of it."""
    time.sleep(Random(f"{ctx.task_id} {ctx.attempt}").random() * 0.006)


def add(ctx, *inputs):
    say(ctx, "start")
    pause(ctx)
    return sum(inputs) + 1


def flaky(ctx, *inputs):
    say(ctx, "start")
    pause(ctx)
    if ctx.attempt == 1:
        raise ValueError("the first one")
    return sum(inputs) + 1


async def add_slowly(ctx, *inputs):
    say(ctx, "start")
    await asyncio.sleep(0.003)
    return sum(inputs) + 1


def many(ctx):
    say(ctx, "start")
    return list(range(ITEMS))


def flaky_item(ctx, item):
    if item % 5 == 1:
        return flaky(ctx, item)
    return add(ctx, item)


def grow(ctx):
    """Adds tasks, once and for all."""
    say(ctx, "start")
    tasks = [TaskDef(f"x{number}", add, args=(number,)) for number in range(ITEMS)]
    return Expand(tasks, result=Output(f"x{ITEMS - 1}"))


def hopeless(ctx, *inputs):
    say(ctx, "start")
    raise ValueError("hopeless")


def rescue(error):
    return 10


def undo(ctx, result):
    say(ctx, "undo", result=result)
    pause(ctx)


def kind(number, mode, processes):
    """What is special about a task."""
    kinds = {
        3: {"fn": flaky, "retry_policy": RetryPolicy(3, 0.004)},
        5: {"fn": add, "rate_limit": RateLimit(4, 0.01, "api")},
        6: {"fn": add, "durable": False},
        7: {"fn": add_slowly},
        8: {"fn": hopeless, "fallback": rescue},
        9: {"fn": add, "run_when": "all_finished"},
        10: {"fn": flaky, "retry_policy": RetryPolicy(3, 0.002), "pool": "process" if processes else None},
        11: {"fn": add, "pool": "process" if processes else None},
    }
    given = kinds.get(number % 12, {"fn": add})
    undoable = mode == "fails" and number % 12 in {0, 3, 5}
    return {**given, "compensate": undo} if undoable else given


def build(mode="ends", processes=False):
    """The workflow. That which fails does so at its end, when all else is done."""
    random = Random(5)
    tasks = []
    for number in range(COUNT - 5):
        needs = [
            f"t{need}" for need in random.sample(range(max(0, number - 20), number), min(number, random.randint(0, 3)))
        ]
        tasks.append(TaskDef(f"t{number}", args=tuple(map(Output, needs)), **kind(number, mode, processes)))
    tasks.append(TaskDef("items", many, dependencies=["t20"]))
    tasks.append(
        Buffer(
            "buffer", Output("items"), TaskDef("item", flaky_item, retry_policy=RetryPolicy(3, 0.002)), max_parallel=3
        )
    )
    tasks.append(TaskDef("grow", grow, dependencies=["t40"]))
    before = [task.id for task in tasks]
    tasks.append(TaskDef("last", hopeless if mode == "fails" else add, dependencies=before))
    tasks.append(TaskDef("cleanup", add, dependencies=["last"], run_when="all_finished"))
    return Workflow(NAME, tasks)


def live(journal, log, durability, mode="ends", processes=False):
    """One life. What came of the execution is printed, if it comes that far."""
    execution = run(
        build(mode, processes),
        {"log": log},
        journal=journal,
        execution_id=NAME,
        durability=durability,
        raise_on_failure=False,
        workers=4,
        processes=2,
        max_recoveries=1_000_000,
        failure_policy="continue",
    )
    return outcome(execution)


def outcome(execution):
    """What must be the same whatever happened on the way."""
    tasks = execution.workflow.tasks
    results = {task: value for task, value in execution.results.items() if task not in tasks or tasks[task].durable}
    results["buffer"] = list(results["buffer"].results) if "buffer" in results else None
    statuses = {task: status.name for task, status in execution.project("task_status").items()}
    return {"status": execution.status.name, "results": results, "statuses": statuses}


def serve(live):
    """Make lives until there is nobody to ask for them."""
    print(json.dumps({"pid": os.getpid()}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if "reap" in order:
            _, status = os.waitpid(order["reap"], 0)
            print(json.dumps({"exit": os.waitstatus_to_exitcode(status)}), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                with open(order.pop("out"), "w") as out:
                    json.dump(live(**order), out)
                code = 0
            finally:
                os._exit(code)
        print(json.dumps({"pid": pid}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(live)
    else:
        print(json.dumps(live(**json.loads(sys.argv[1]))))
