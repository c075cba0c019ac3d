"""The program's own `__main__`, which exists once in the main process and may be needed in its workers too.

Theory of operation. A function of the script that is being run is called `__main__.f`, and every worker has a
`__main__` of its own. So there a `StandIn` takes that name. It loads the script, as the module `__mp_main__` and with
multiprocessing's own care, when somebody looks up a name in it for the first time; that somebody is nearly always
pickle. A program whose tasks live in modules never pays for running its script once more, and needs no guard.

Not every `__main__` can be loaded elsewhere: an interactive session, a notebook, `python -c` and standard input leave
nothing to run again. Then what is defined in it goes by value (nerv/pools/sending.py).
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

from nerv.errors import NervError, described

Location = tuple[str | None, str | None]
"""The name of a module that `python -m` was told to run, or else a file's path; one of them is None."""


def location() -> Location | None:
    """Where a worker finds this program's `__main__`; None: nowhere.

    The same as multiprocessing's `spawn`: a package's `__main__` module isn't run again, as it rarely has a guard.
    """
    main = sys.modules["__main__"]
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None:
        return None if name == "__main__" or name.endswith(".__main__") else (name, None)
    path = getattr(main, "__file__", None)
    if path is None or not os.path.isfile(path):  # noqa: PTH113  (workers wait for their imports: no pathlib)
        return None
    return None, os.path.abspath(path)  # noqa: PTH100


def is_being_loaded() -> bool:
    """Whether this process is a worker (also one of multiprocessing's) that is loading the script right now."""
    process: Any = sys.modules.get("multiprocessing.process")
    return process is not None and getattr(process.current_process(), "_inheriting", False)


def too_soon() -> str | None:
    """Why work can't be started now: a worker is loading the script, which starts work whenever it is loaded."""
    if not is_being_loaded():
        return None
    return (
        "can't start: this script is being imported by one of its own worker processes; "
        'put what starts work under `if __name__ == "__main__":`'
    )


def is_guarded() -> bool:
    """Whether the program's script looks as if it could be loaded once more without doing its work once more: it asks
    for its name. One that isn't loaded anywhere else needs no guard.
    """
    if location() is None:
        return True
    try:
        with open(sys.modules["__main__"].__file__ or "", "rb") as file:
            return b"__name__" in file.read()
    except OSError:
        return False


class StandIn(ModuleType):
    """Takes the place of `__main__` in a worker until a name is looked up in it."""

    def __init__(self, where: Location | None) -> None:
        super().__init__("__main__")
        self.__dict__["__file__"] = where and where[1]
        self.__dict__["__nerv_load__"] = None if where is None else lambda: load(*where)
        self.__dict__["__nerv_door__"] = threading.RLock()  # one thread loads; the script may look at __main__ itself

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module '__main__' has no attribute {name!r} in a worker process")
        with self.__dict__["__nerv_door__"]:
            main = sys.modules["__main__"]
            script: Callable[[], ModuleType] | None = self.__dict__["__nerv_load__"]
            if main is self and script is not None:
                self.__dict__["__nerv_load__"] = None
                try:
                    main = script()
                except BaseException as error:
                    self.__dict__["__nerv_load__"] = _failure(error)
                    raise NervError(f"the script can't be imported in a worker process: {described(error)}") from error
        if main is self:
            raise AttributeError(f"module '__main__' has no attribute {name!r} in a worker process")
        return getattr(main, name)


def _failure(error: BaseException) -> Callable[[], ModuleType]:
    text = described(error)

    def fail() -> ModuleType:
        raise NervError(f"{text} (it was tried before)")

    return fail


def load(module: str | None, path: str | None) -> ModuleType:
    """Run the script as `__mp_main__`, and put it in the place of `__main__`."""
    import multiprocessing.process
    import runpy

    process: Any = multiprocessing.process.current_process()
    before = sys.modules["__main__"]
    process._inheriting = True  # noqa: SLF001  (multiprocessing's own mark: nobody may start processes meanwhile)
    try:
        if module is not None:
            content = runpy.run_module(module, run_name="__mp_main__", alter_sys=True)
        else:
            content = runpy.run_path(str(path), run_name="__mp_main__")
    finally:
        del process._inheriting  # noqa: SLF001
        sys.modules["__main__"] = sys.modules["__mp_main__"] = before
    main = ModuleType("__mp_main__")
    main.__dict__.update(content)
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main
    return main
