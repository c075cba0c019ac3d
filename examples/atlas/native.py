"""Describes one module that has no Python source, by importing it and looking: that is all there is to look at."""

import importlib
import inspect
import os
import time
import types
import warnings
from collections.abc import Iterator

from atlas.report import Name, Report, Timing, all_words

DATA_DESCRIPTORS = (property, types.GetSetDescriptorType, types.MemberDescriptorType)


def introspect(module: str, kind: str, own_bits: int) -> Report:
    """Import a C module and describe what it offers; one that doesn't load here is described as just that."""
    started = time.time()
    names: tuple[Name, ...] = ()
    doc = note = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # some modules announce their end when imported
            loaded = importlib.import_module(module)
        names, doc = tuple(public_names(loaded)), inspect.getdoc(loaded) or ""
    except ImportError as error:
        note = f"doesn't load on this machine: {error.name or module}"
    return Report(
        module=module,
        kind=kind,
        doc=doc,
        reach=own_bits,
        functions=sum(name.kind in ("function", "method") for name in names),
        classes=sum(name.kind == "class" for name in names),
        names=names,
        words=all_words(doc, names),
        note=note,
        timing=Timing(module, started, time.time(), f"process {os.getpid()}"),
    )


def public_names(module: types.ModuleType) -> Iterator[Name]:
    """Everything without an underscore in front, except other modules."""
    for name, value in sorted(vars(module).items()):
        if name.startswith("_") or inspect.ismodule(value):
            continue
        if inspect.isclass(value):
            yield Name("class", name, signature(value), own_doc(value))
            yield from methods(name, value)
        elif callable(value):
            yield Name("function", name, signature(value), own_doc(value))
        elif isinstance(value, (int, str, float)) and len(repr(value)) <= 60:
            yield Name("constant", name, f" = {value!r}", "")
        else:
            yield Name("constant", name, "", "")


def methods(owner: str, cls: type) -> Iterator[Name]:
    """The public methods that a class defines itself."""
    for name, value in sorted(vars(cls).items()):
        if not name.startswith("_") and callable(getattr(cls, name, None)) and not isinstance(value, DATA_DESCRIPTORS):
            yield Name("method", f"{owner}.{name}", signature(value), own_doc(value))


def own_doc(value: object) -> str:
    """The docstring, unless it is only inherited from a builtin type."""
    doc = getattr(value, "__doc__", None)
    return inspect.cleandoc(doc) if isinstance(doc, str) and doc != type(value).__doc__ else ""


def signature(value: object) -> str:
    """What argument clinic wrote down, as ``(a, b=1)``; nothing where it didn't."""
    text = getattr(value, "__text_signature__", None)
    if not isinstance(text, str):
        return ""
    for sign in ("($module, /, ", "($self, /, ", "($type, /, ", "($module, ", "($self, ", "($type, "):
        if text.startswith(sign):
            return "(" + text.removeprefix(sign)
    return "()" if text.startswith("($") else text
