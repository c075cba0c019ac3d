"""TARGET on the command line: from `flow.py`, `flow.py:name`, `package.module` or `package.module:name` to a Workflow.

A file is imported as the module that its name says, with its folder first on `sys.path`, not as `__main__`: so worker
processes, which are given our `sys.path`, find its functions by the same name.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from nerv.cli.tracebacks import shortened
from nerv.decorators import WorkflowFactory
from nerv.errors import NervError, near
from nerv.workflows import Workflow

ADVICE: Final = """\
Add one of these, or name what makes one ({place}:name):
  flow = Workflow("flow", [TaskDef("a", a), TaskDef("b", b, args=(Output("a"),))])
  @workflow                      on a function that calls your @task functions
  def build() -> Workflow: ...   a function without arguments that returns one"""


class TargetError(NervError):
    """Raised when a TARGET doesn't lead to a workflow; the message says why and what to write."""


def load(target: str) -> Workflow:
    """The workflow that a TARGET means.

    Raises:
        TargetError: there is no such file, module or name; it can't be imported; it holds no workflow, or several.
    """
    place, name = split(target)
    module = import_file(Path(place)) if _is_path(place) else import_named(place)
    found_name, found = (name, named(module, name, place)) if name else the_only(module, place)
    workflow = built(found, f"{place}:{found_name}")
    workflow.came_from(f"{Path(place).absolute() if _is_path(place) else place}:{found_name}")
    return workflow


def split(target: str) -> tuple[str, str]:
    """Place and name (empty if there is none)."""
    place, colon, name = target.rpartition(":")
    if not colon:
        return target, ""
    if not place or not name:
        raise TargetError(f"{target!r} is no TARGET; write path/to/file.py:name or package.module:name")
    return place, name


def _is_path(place: str) -> bool:
    return place.endswith(".py") or os.sep in place or place in (".", "..")


# ---- importing ------------------------------------------------------------------------------------------------------


def import_file(path: Path) -> ModuleType:
    """Import a file as the module that its name says.

    Raises:
        TargetError: it isn't there, or can't be imported under its name.
    """
    if path.is_dir():
        raise TargetError(f"{path} is a folder; name a file in it, such as {path / 'flow.py'}")
    if not path.exists():
        siblings = [file.name for file in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise TargetError(f"there is no file {path}{near(path.name, siblings)}")
    name, file = path.stem, path.absolute()
    if path.suffix != ".py" or "." in name:
        raise TargetError(f"{path} can't be imported: a Python file's name ends with .py and has no other dot")
    sys.path.insert(0, str(file.parent))
    if name in sys.modules and not _is_from(sys.modules[name], file):
        raise TargetError(_taken(path, sys.modules[name]))
    module = _imported(name, str(path))
    if not _is_from(module, file):
        raise TargetError(_taken(path, module))
    return module


def _is_from(module: ModuleType, file: Path) -> bool:
    origin = getattr(module, "__file__", None)
    return origin is not None and Path(origin).exists() and Path(origin).samefile(file)


def _taken(path: Path, module: ModuleType) -> str:
    where = getattr(module, "__file__", None) or "built into Python"
    return f"{path} can't be imported as {path.stem!r}: that is another module ({where}); rename the file"


def import_named(name: str) -> ModuleType:
    """Import a module by its name, also from the current folder.

    Raises:
        TargetError: there is no such module, or importing it fails.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        raise TargetError(f"{name!r} is neither a file that ends with .py nor the name of a module")
    sys.path.insert(0, str(Path.cwd()))
    return _imported(name, name)


def _imported(name: str, place: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise TargetError(_no_module(name, error.name)) from error
        raise TargetError(f"{place} can't be imported:\n{shortened(error)}") from error
    except SystemExit as error:
        hint = "put what only a script does under: if __name__ == '__main__':"
        raise TargetError(f"importing {place} ended the program (SystemExit: {error.code}); {hint}") from error
    except BaseException as error:
        relative = isinstance(error, ImportError) and "relative import" in str(error)
        hint = f"\nIt belongs to a package: name it as a module, such as package.{name}" if relative else ""
        raise TargetError(f"{place} can't be imported:\n{shortened(error)}{hint}") from error


def _no_module(name: str, missing: str) -> str:
    file = Path(*name.split(".")).with_suffix(".py")
    if file.is_file():
        return f"there is no module {name!r}, but a file {file}: write {file}"
    inside = "" if missing == name else f": {missing!r} isn't there"
    modules = [path.stem for path in Path.cwd().glob("*.py")]
    return f"there is no module {name!r}{inside}{near(name, modules)}; it is looked for in this folder and in sys.path"


# ---- choosing -------------------------------------------------------------------------------------------------------


def named(module: ModuleType, name: str, place: str) -> Any:
    """What a module calls so; dots reach into it.

    Raises:
        TargetError: nothing is called so.
    """
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            known = list(_all_candidates(module)) or [each for each in vars(module) if not each.startswith("_")]
            raise TargetError(f"{place} has no {name!r}{near(name, known)}") from None
    return found


def the_only(module: ModuleType, place: str) -> tuple[str, Any]:
    """The one workflow in a module, with its name: a Workflow before a factory before a function.

    Raises:
        TargetError: there is none, or several.
    """
    for kind in _KINDS:
        found = _candidates(module, kind)
        if len(found) > 1:
            listed = "\n".join(f"  {place}:{name}" for name in found)
            raise TargetError(f"{place} holds {len(found)} workflows; say which:\n{listed}")
        if found:
            return next(iter(found.items()))
    raise TargetError(f"{place} holds no workflow. {ADVICE.format(place=place)}")


def _candidates(module: ModuleType, kind: Callable[[str, Any, ModuleType], bool]) -> dict[str, Any]:
    """Name -> object; an object that has two names has the first."""
    found: dict[int, tuple[str, Any]] = {}
    for name, value in vars(module).items():
        if not name.startswith("_") and kind(name, value, module):
            found.setdefault(id(value), (name, value))
    return dict(found.values())


def _all_candidates(module: ModuleType) -> Mapping[str, Any]:
    return {name: value for kind in _KINDS for name, value in _candidates(module, kind).items()}


def _is_workflow(_name: str, value: Any, _module: ModuleType) -> bool:
    return isinstance(value, Workflow)


def _is_factory(_name: str, value: Any, _module: ModuleType) -> bool:
    return isinstance(value, WorkflowFactory)


def _is_builder(name: str, value: Any, module: ModuleType) -> bool:
    """A function of that very module that is called build, or says that it returns a Workflow."""
    if not inspect.isfunction(value) or value.__module__ != module.__name__ or _required(value):
        return False
    says = value.__annotations__.get("return")
    return name == "build" or says is Workflow or (isinstance(says, str) and says.rpartition(".")[2] == "Workflow")


_KINDS: Final = (_is_workflow, _is_factory, _is_builder)


# ---- building -------------------------------------------------------------------------------------------------------


def built(found: Any, shown: str) -> Workflow:
    """The workflow itself, of what a TARGET led to.

    Raises:
        TargetError: it isn't one, needs arguments, fails, or returns something else.
    """
    if isinstance(found, Workflow):
        return found
    factory = isinstance(found, WorkflowFactory)
    if not factory and not inspect.isroutine(found):
        raise TargetError(f"{shown} is no workflow, but {_kind(found)}; name a Workflow, or a function that makes one")
    missing = _required(found.body if factory else found)
    if missing:
        call = f"{shown.rpartition(':')[2]}({', '.join(f'{name}=...' for name in missing)})"
        raise TargetError(f"{shown} needs arguments, which nobody gives it here; write in its module: flow = {call}")
    try:
        workflow = found()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise TargetError(f"{shown} can't be built:\n{shortened(error)}") from error
    if isinstance(workflow, Workflow):
        return workflow
    if inspect.iscoroutine(workflow):
        workflow.close()
    raise TargetError(f"{shown} returned no Workflow, but {_kind(workflow)}")


def _kind(value: Any) -> str:
    return "None" if value is None else f"something of type {type(value).__name__}"


def _required(function: Callable[..., Any]) -> list[str]:
    """Names of the arguments that a call can't do without."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some builtins don't say: calling them will
        return []
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each.name for each in parameters if each.default is each.empty and each.kind not in variable]
