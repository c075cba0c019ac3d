"""The command line's commands and their help, as typer wants them."""

from __future__ import annotations

from typing import Annotated

import typer

from nerv import __version__
from nerv.cli import cache, journal, kept, plan, run

HELP = """
nerv runs graphs of Python functions: each task as soon as what it needs is there.

TARGET says where the graph is: a file, or a module as Python imports it, and after a colon the name of a workflow in
it. The name may be left out where there is only one.

\b
  nerv run flow.py                    the only workflow in a file
  nerv run flow.py:nightly            that one
  nerv run shop.flows:nightly         in a module
  nerv plan flow.py                   what would run, in which order

What is found may be a Workflow, a function decorated with @workflow, or a function without arguments that returns a
Workflow (one that isn't named after a colon must be called build, or be annotated "-> Workflow").
"""

app = typer.Typer(
    help=HELP, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None
)
app.command("run", help=run.HELP)(run.run)
app.command("plan", help=plan.HELP)(plan.plan)
for name, command in kept.COMMANDS.items():
    app.command(name)(command)
app.add_typer(cache.app, name="cache")
app.add_typer(journal.app, name="journal")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nerv {__version__}")
        raise typer.Exit


@app.callback()
def nerv(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Is called before each command; its options are those of `nerv` itself."""
