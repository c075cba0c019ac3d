"""What both files of tests of the atlas share. Importing it makes the example importable, as it is when it runs."""

import importlib
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
if str(EXAMPLES) not in sys.path:
    sys.path.insert(0, str(EXAMPLES))

analyse = importlib.import_module("atlas.analyse")
catalogue = importlib.import_module("atlas.catalogue")
graph = importlib.import_module("atlas.graph")
layout = importlib.import_module("atlas.layout")
native = importlib.import_module("atlas.native")
page = importlib.import_module("atlas.page")
rankings = importlib.import_module("atlas.rankings")
report = importlib.import_module("atlas.report")
scan = importlib.import_module("atlas.scan")
search = importlib.import_module("atlas.search")
words = importlib.import_module("atlas.words")

SOME = (
    *("_datetime", "_pydatetime"),
    *("argparse", "array", "bz2", "contextlib", "copy", "csv", "datetime", "email", "functools", "getopt", "glob"),
    *("graphlib", "gzip", "heapq", "itertools", "json", "lzma", "math", "os", "pathlib", "posix", "posixpath", "queue"),
    *("random", "re", "shutil", "socket", "tempfile", "textwrap", "tokenize", "types", "xml", "zipfile", "zlib"),
)
"""A part of the library that is quick to read and holds what the tests look for, among other things."""

HARD = {
    "in strings": '"""\nimport a\n"""\nx = \'\'\'\nfrom b import c\n\'\'\'\nimport d  # import e\ny = "import f"',
    "quotes in comments": '# don\'t """\nimport a\n# \'\'\'\nimport b',
    "quotes in strings": 'x = \'"""\'\nimport a\ny = "\'\'\'"\nimport b\nz = \'it\\\'s\'\nimport c',
    "on one line": (
        "import a; import b, c.d as e\nif x: import f\nfor g in h: import i; import j\ntry: import k\n"
        "finally: pass"
    ),
    "continued": (
        "import a, \\\n    b\nfrom c \\\n import d\nfrom e import (f,  # why\n   g as h,\n)\n"
        "from i import (j)"
    ),
    "relative": (
        "from . import a\nfrom .. import b\nfrom .c import d\nfrom ...e.f import g\nfrom.h import(i)\n"
        "from . .j import k"
    ),
    "star": "from a import *\nfrom .b import*",
    "in functions": (
        "def f():\n    import a\nasync def g():\n  if x:\n    from b import c\n"
        "def h(): import d; import e\nimport k"
    ),
    "in classes": "class A:\n    import a\n    def f(self):\n        import b\n    import c",
    "in blocks": (
        "try:\n    import a\nexcept E:\n    import b\nelse:\n    if x:\n        import c\nwith d:\n"
        "    import e\nimport f"
    ),
    "match": "match x:\n    case 1:\n        import a\n    case _:\n        def f():\n            import b",
    "for the type checker": (
        "if TYPE_CHECKING:\n    import a\n    if x:\n        import b\nelse:\n    import c\n"
        "if t.TYPE_CHECKING: import d"
    ),
    "not only for it": "if not TYPE_CHECKING:\n    import a\nif TYPE_CHECKING or x:\n    import b",
    "as a script": (
        'if __name__ == "__main__":\n    import a\nelif x:\n    import b\n'
        'if "__main__" == __name__: import c\nimport d'
    ),
    "from after raise": "def f():\n    raise X \\\n        from e\nraise Y(\n) from e\nimport a",
    "yield from": "def f():\n    x = yield\n    yield from g\nimport a",
    "uneven brackets": "def f():\n    x = g(a,\nb,\n  c)\n    import d\nif y:\n    z = [1,\n2]\n    import e",
    "strings at the margin": (
        'def f():\n    x = """\nmargin\n"""\n    import a\nif y:\n    """\nmargin\n    """\n'
        "    import b"
    ),
    "tabs and form feeds": "if x:\n\timport a\n\x0c\nimport b\ndef f():\n\tif x:\n        import c\n",
    "line ends of others": "import a\r\nif x:\r\n    import b\r\ndef f():\r\n    import c\r\n",
    "names like keywords": "importer = 1\nfrom_x = 2\nimport_module('a')\ndefault = 3\nimport b",
    "nothing": "",
}
"""Sources in which an import is hard to see, or something looks like one."""


def describe(found):
    """What the module tasks do, in a plain loop."""
    reports = {}
    for name in (name for group in found.components for name in group):
        module = found.modules[name]
        if module.kind == "python":
            handed_on = [reports[before].reach for before in found.waits_for[name]]
            reports[name] = analyse.analyse(name, module.path, found.bits[name], *handed_on)
        else:
            reports[name] = native.introspect(name, module.kind, found.bits[name])
    return {name: reports[name] for name in found.modules}
