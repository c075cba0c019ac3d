"""`nerv run`: run a workflow, show how far it is, say how it ended."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

from nerv.cli import console
from nerv.cli.reloading import run_reloadable
from nerv.cli.targets import load
from nerv.cli.tracebacks import shortened
from nerv.errors import ConfigError, NervError, WorkflowDefinitionError, described
from nerv.execution import Execution
from nerv.restarting import RestartRequested
from nerv.running import run as run_workflow
from nerv.statuses import WorkflowStatus
from nerv.workflows import Workflow

MOST_TRACEBACKS: Final = 10

_CODES: Final = {WorkflowStatus.COMPLETED: console.COMPLETED, WorkflowStatus.CANCELLED: console.CANCELLED}

HELP: Final = """Run a workflow.

TARGET is a file, or a module as Python imports it, and after a colon the name of a workflow in it, which may be left
out where there is only one (nerv --help says more). While it runs, a bar shows how far it is; where there is no
terminal, a line now and then. Both are on stderr.

\b
Examples:
  nerv run flow.py
  nerv run flow.py:nightly --param day=2026-11-22 --param sizes='[1, 2]'
  nerv run flow.py --workers 16 --failure-policy continue
  nerv run flow.py --target report          only report, and what it needs
  nerv run flow.py --trace trace.json       what ran when
  nerv run flow.py --json | jq .result

\b
Exit codes:
    0  completed
    1  failed: at least one task did
    2  nothing ran: the TARGET, the workflow, a param or a setting can't be right
    3  cancelled
  130  interrupted by Ctrl-C
"""

Target = Annotated[str, typer.Argument(metavar="TARGET", help="FILE.py[:NAME] or MODULE[:NAME].")]
Params = Annotated[
    list[str] | None,
    typer.Option(
        "--param", "-p", metavar="NAME=VALUE", help="A param; the value is read as JSON if it is JSON. Repeatable."
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option("--target", "-t", metavar="ID", help="Run only this task and what it needs. Repeatable."),
]
Workers = Annotated[int | None, typer.Option(help="Threads. Default: min(32, cores + 4).")]
Processes = Annotated[int | None, typer.Option(help="Worker processes. Default: cores.")]
Coroutines = Annotated[int | None, typer.Option(help="Coroutines that run at once. Default: 1000.")]
DefaultPool = Annotated[
    str | None,
    typer.Option(metavar="POOL", help="Where tasks run that name no pool: thread, process, async or inline."),
]
Scheduling = Annotated[
    str | None,
    typer.Option(
        metavar="HOW", help="ready (default): a task starts when what it needs is there; levels: level by level."
    ),
]
FailurePolicy = Annotated[
    str | None,
    typer.Option(
        metavar="POLICY",
        help="After a failure: fail_fast (default) starts nothing new; continue runs what doesn't need what failed.",
    ),
]
Grace = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="How long cancelled tasks are given to stop. Default: 5.")
]
Cache = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Where results of tasks with a Cache are kept for the next run; see nerv cache."),
]
Journal = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Keep the execution in this file, so that it survives whatever happens."),
]
Durability = Annotated[
    str | None,
    typer.Option(metavar="HOW", help="strict, group (default) or off: how soon what happens is in the journal."),
]
ExecutionId = Annotated[
    str | None,
    typer.Option(metavar="ID", help="The execution's id. One that the journal has is gone on with, not begun again."),
]
ReloadOn = Annotated[
    str | None,
    typer.Option(
        metavar="SIGNAL",
        help="On this signal, such as SIGHUP, let what runs end, start the program anew, and go on. Needs --journal.",
    ),
]
Trace = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write a timeline of the run, for https://ui.perfetto.dev or chrome://tracing."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but failures.")]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one JSON object at the end and nothing else to stdout; what tasks print goes to stderr."
    ),
]


def run(
    target: Target,
    *,
    param: Params = None,
    only: Only = None,
    workers: Workers = None,
    processes: Processes = None,
    max_coroutines: Coroutines = None,
    default_pool: DefaultPool = None,
    scheduling: Scheduling = None,
    failure_policy: FailurePolicy = None,
    grace: Grace = None,
    cache: Cache = None,
    journal: Journal = None,
    durability: Durability = None,
    execution_id: ExecutionId = None,
    reload_on: ReloadOn = None,
    trace: Trace = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """`nerv run`; `HELP` says what it does."""
    given: dict[str, Any] = {
        "workers": workers, "processes": processes, "max_coroutines": max_coroutines, "default_pool": default_pool,
        "scheduling": scheduling, "failure_policy": failure_policy, "grace": grace, "cache": cache,
        "journal": journal, "durability": durability,
    }  # fmt: skip
    settings = {name: value for name, value in given.items() if value is not None}
    try:
        with console.stdout_kept_clean(as_json):
            params = read_params(param or ())
            check_writable(trace)
            known = {} if execution_id is None else {"execution_id": execution_id}
            options = {"targets": only, "progress": not quiet, **known, **settings}
            execution = _run(reload_on, load(target), params, options)
            report_failures(execution)
            write_trace(execution, trace)
        if as_json or not quiet:
            console.say(as_object(execution) if as_json else summary(execution))
    except NervError as error:
        refuse(error)
    except KeyboardInterrupt:
        console.complain("nerv: interrupted")
        raise typer.Exit(console.INTERRUPTED) from None
    except RestartRequested as request:  # stdout is what it was again
        request.orchestrator.replace()
    raise typer.Exit(_CODES.get(execution.status, console.FAILED))


def _run(reload_on: str | None, workflow: Workflow, params: dict[str, Any], options: dict[str, Any]) -> Execution:
    if reload_on is not None:
        return run_reloadable(reload_on, workflow, params, **options)
    return run_workflow(workflow, params, raise_on_failure=False, **options)


def refuse(error: NervError) -> NoReturn:
    """Say why nothing ran, and leave."""
    console.complain(f"nerv: {error}")
    if isinstance(error, WorkflowDefinitionError) and any(problem.kind == "param" for problem in error.problems):
        console.complain("Params are given as --param NAME=VALUE.")
    raise typer.Exit(console.REFUSED) from None


# ---- what is given --------------------------------------------------------------------------------------------------


def read_params(given: Iterable[str]) -> dict[str, Any]:
    """`NAME=VALUE` pairs as params; a value that is JSON is what it says, any other is text.

    Raises:
        ConfigError: not such a pair, or a name that comes twice; all of them are listed.
    """
    params: dict[str, Any] = {}
    problems: list[str] = []
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            problems.append(f"--param takes NAME=VALUE, not {pair!r}")
        elif name in params:
            problems.append(f"--param gives {name!r} twice")
        else:
            params[name] = read_value(value)
    if problems:
        raise ConfigError("\n".join(problems))
    return params


def read_value(text: str) -> Any:
    """What a param's text means: JSON, or else the text itself."""
    try:
        return json.loads(text, parse_constant=_not_json)
    except (ValueError, RecursionError):
        return text


def _not_json(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")  # Python's reader takes NaN and Infinity, which may well be somebody's text


def check_writable(trace: Path | None) -> None:
    """See that the trace can be written, before anything runs.

    Raises:
        ConfigError: it can't.
    """
    if trace is None:
        return
    folder = trace.absolute().parent
    if trace.is_dir() or not folder.is_dir() or not os.access(trace if trace.exists() else folder, os.W_OK):
        why = "it is a folder" if trace.is_dir() else "no such folder" if not folder.is_dir() else "not allowed"
        raise ConfigError(f"--trace can't write {trace}: {why}")


# ---- what is said ---------------------------------------------------------------------------------------------------


def report_failures(execution: Execution) -> None:
    """Say which tasks failed, with tracebacks of the user's own lines."""
    failures = list(execution.failures.items())
    for task, error in failures[:MOST_TRACEBACKS]:
        console.complain(f"\ntask {task!r} failed:\n{_indented(shortened(error))}")
    rest = [task for task, _ in failures[MOST_TRACEBACKS:]]
    if rest:
        console.complain(f"\n{len(rest):,} more failed: {listed(rest, 20)}")
    if execution.status is not WorkflowStatus.COMPLETED and not failures:
        console.complain(f"workflow {execution.workflow_name!r}: {execution.status.name}")


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def listed(ids: Sequence[str], most: int) -> str:
    """`a, b, c and 7 more`."""
    shown = ", ".join(ids[:most])
    return shown if len(ids) <= most else f"{shown} and {len(ids) - most:,} more"


def write_trace(execution: Execution, trace: Path | None) -> None:
    """Write the trace, if one was asked for."""
    if trace is None:
        return
    try:
        execution.to_trace(str(trace))
    except OSError as error:  # the run is over: its outcome is what counts
        console.complain(f"nerv: the trace could not be written: {error}")


def summary(execution: Execution) -> str:
    """The table at the end, and the result if there is one."""
    has_result, result = result_of(execution)
    table = execution.summary()
    return f"{table}\n  result: {_brief(result)}" if has_result and result is not None else table


def _brief(value: Any) -> str:
    short = reprlib.Repr()
    short.maxstring = short.maxother = 300
    short.maxdict = short.maxlist = short.maxtuple = 12
    return short.repr(value)


def result_of(execution: Execution) -> tuple[bool, Any]:
    """Whether there is a result, and it."""
    try:
        return True, execution.result
    except BaseException:  # noqa: BLE001  (a failed task's own error, of any class, which has been told already)
        return False, None


def as_object(execution: Execution) -> str:
    """The execution as JSON. A result that isn't JSON is given as its repr, and `result_is_repr` says so."""
    state = execution.state
    has_result, result = result_of(execution)
    fields = {
        "execution_id": execution.id,
        "workflow": execution.workflow_name,
        "status": execution.status.name,
        "seconds": _seconds(state),
        "tasks": {
            task: {
                "status": entry["status"].name,
                "attempts": entry["attempts"],
                "seconds": _seconds(entry),
                "error": entry["error"],
                "skipped_because": entry["skipped_because"],
            }
            for task, entry in state["tasks"].items()
        },
        "result": None,
        "result_is_repr": False,
    }
    if has_result:
        try:
            return json.dumps({**fields, "result": result}, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            fields.update(result=_repr(result), result_is_repr=True)
    return json.dumps(fields)


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001  (a user's __repr__ may do anything)
        return f"<a {type(value).__name__} whose repr raised {described(error)}>"


def _seconds(entry: Any) -> float | None:
    """How long a task or an execution took; None if it never started or hasn't ended."""
    started, ended = entry["started_at"], entry["completed_at"]
    return None if started is None or ended is None else float(ended - started)
