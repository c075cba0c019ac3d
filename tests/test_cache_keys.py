"""`Cache`, and the keys of calls: what counts as the same input, and what doesn't."""

import functools
import operator
import pickle
import sys
import threading
from collections import OrderedDict
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerv import Cache, CacheKeyError, WorkflowDefinitionError, task
from nerv.caching.contents import digest, function_digest
from nerv.caching.keys import key_of
from tests.house.commands import REPOSITORY, run_command

# ---- the policy -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ttl", [0, -1, 0.0, float("nan"), float("inf"), True, "1", 10**400])
def test_a_senseless_ttl_is_refused_by_name(ttl):
    with pytest.raises(WorkflowDefinitionError, match=r"Cache: ttl takes seconds above 0, or None, not"):
        Cache(ttl=ttl)


@pytest.mark.parametrize(("field", "value"), [("key", "id"), ("version", 1.5), ("version", True), ("version", b"1")])
def test_a_wrong_field_is_refused_by_name(field, value):
    with pytest.raises(WorkflowDefinitionError, match=f"Cache: {field} takes .*, not {value!r}"):
        Cache(**{field: value})


def test_all_wrong_fields_are_named_at_once():
    with pytest.raises(WorkflowDefinitionError) as caught:
        Cache(ttl=0, key=1, version=[])
    assert len(caught.value.problems) == 3


def test_a_cache_is_a_value():
    assert Cache(ttl=1, version="a") == Cache(1.0, None, "a") == pickle.loads(pickle.dumps(Cache(1, version="a")))
    with pytest.raises(AttributeError):
        Cache().ttl = 1


# ---- functions ------------------------------------------------------------------------------------------------------


def plain(x, y=2, *, z=3):
    return x, y, z


def closing_over(value):
    def inner():
        return value

    return inner


def compiled(source):
    space = {"__name__": "made"}
    exec(source, space)
    return space["f"]


def countdown(last):
    def f(n):
        return f(n - 1) if n else last

    return f


class Scaler:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return self.factor * x

    def scale(self, x):
        return self.factor * x

    def shift(self, x):
        return self.factor + x


def test_the_same_function_made_again_is_the_same():
    assert function_digest(closing_over([1, 2])) == function_digest(closing_over([1, 2]))
    assert function_digest(countdown(1)) == function_digest(countdown(1))


def test_two_lambdas_in_one_line_are_two_functions():
    one, other = lambda: 1, lambda: 2
    assert function_digest(one) != function_digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(closing_over(1), closing_over(2), id="closure"),
        pytest.param(closing_over(1), closing_over(True), id="closure's type"),
        pytest.param(closing_over(lambda: 1), closing_over(lambda: 2), id="function in a closure"),
        pytest.param(
            closing_over({"a": [lambda: 1]}), closing_over({"a": [lambda: 2]}), id="function deep in a closure"
        ),
        pytest.param(countdown(1), countdown(2), id="recursive"),
        pytest.param(functools.partial(plain, 1), functools.partial(plain, 2), id="partial's argument"),
        pytest.param(functools.partial(plain, 1), functools.partial(plain, x=1), id="partial's keyword"),
        pytest.param(functools.partial(lambda: 1), functools.partial(lambda: 2), id="partial's function"),
        pytest.param(Scaler(1).scale, Scaler(2).scale, id="bound method's object"),
        pytest.param(Scaler(1).scale, Scaler(1).shift, id="bound method"),
        pytest.param(Scaler(1), Scaler(2), id="callable object"),
        pytest.param(task(lambda: 1), task(lambda: 2), id="Task"),
        pytest.param(functools.cache(lambda: 1), functools.cache(lambda: 2), id="functools.cache"),
        pytest.param(len, max, id="builtin"),
        pytest.param(operator.itemgetter(1), operator.itemgetter(2), id="itemgetter"),
        pytest.param([].append, [1].append, id="builtin method's object"),
    ],
)
def test_other_functions_have_other_keys(one, other):
    assert function_digest(one) == function_digest(one)
    assert function_digest(one) != function_digest(other)
    assert digest([one]) == digest([one])
    assert digest([one]) != digest([other])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def f(x): return x + 1", "def f(x): return x + 2"),
        ("def f(x): return x.a", "def f(x): return x.b"),
        ("def f(x): return [y + 1 for y in x]", "def f(x): return [y + 2 for y in x]"),
        ("def f(x):\n try: return 1 / x\n except KeyError: return 0", "def f(x):\n try: return 1 / x\n finally: x = 0"),
        ("def f(x): return x in {'a', 'b'}", "def f(x): return x in {'a', 'c'}"),
        ("def f(x): return -0.0", "def f(x): return 0.0"),
        ("def f(x): return 1", "def f(x): return True"),
        ("def f(a, b): return 1", "def f(b, a): return 1"),
    ],
)
def test_changed_code_is_another_function(before, after):
    assert function_digest(compiled(before)) != function_digest(compiled(after))


def test_comments_and_places_are_no_part_of_a_function():
    assert function_digest(compiled("def f(x): return x + 1")) == function_digest(
        compiled("\n\ndef f(x):\n    # adds one\n    return x + 1")
    )


def test_the_module_and_name_are_part_of_a_function():
    one, other = compiled("def f(x): return LIMIT"), compiled("def f(x): return LIMIT")
    other.__module__ = "elsewhere"
    assert function_digest(one) != function_digest(other)


def test_globals_and_default_values_are_no_part_of_a_function():
    one, other = compiled("N = 1\ndef f(x=1): return N"), compiled("N = 2\ndef f(x=2): return N")
    assert function_digest(one) == function_digest(other)


def test_defaults_of_a_function_that_is_an_argument_count():
    assert digest(compiled("def f(x=1): return x")) != digest(compiled("def f(x=2): return x"))


def test_a_task_counts_as_its_function():
    assert function_digest(task(plain)) == function_digest(plain)
    assert digest([task(plain)]) == digest([plain])
    assert function_digest(functools.partial(task(plain), 1)) == function_digest(functools.partial(plain, 1))


def test_running_a_function_doesnt_change_it():
    """The interpreter rewrites the code of functions that are called often; their keys stay."""
    f = compiled("def f(n):\n    total = 0\n    for i in range(n):\n        total += i\n    return total")
    before = function_digest(f)
    fresh = compiled("def f(n):\n    total = 0\n    for i in range(n):\n        total += i\n    return total")
    for _ in range(2000):
        f(10)
    from nerv.caching.contents import _code_digest

    _code_digest.cache_clear()
    assert function_digest(f) == function_digest(fresh) == before


def test_an_empty_cell_is_no_error():
    def outer():
        def inner():
            return late

        yield inner
        late = 1
        yield inner

    made = outer()
    before, after = function_digest(next(made)), function_digest(next(made))
    assert before != after


# ---- values ---------------------------------------------------------------------------------------------------------

FRAME = {"day": pd.to_datetime(["2026-01-01", "2026-01-02"]), "n": [1, 2], "x": [0.5, None], "name": ["a", None]}


def masked(mask):
    return np.ma.MaskedArray([1, 2, 3], mask=mask)


class Measured(np.ndarray):
    """An array with a unit, which its pickle has and its bytes haven't."""

    unit = ""

    def __reduce__(self):
        return measured, (self.tolist(), self.unit)


def measured(numbers, unit):
    made = np.array(numbers).view(Measured)
    made.unit = unit
    return made


SAME = {
    "dict order": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "dict order, keys of many types": ({1: "x", "a": "y", None: "z"}, {None: "z", "a": "y", 1: "x"}),
    "equal strings": (["ab", "ab"], ["ab", str(b"ab", "ascii")]),
    "array copied": (np.arange(6).reshape(2, 3), np.arange(6).reshape(2, 3).copy()),
    "array by columns": (np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3))),
    "array sliced": (np.arange(10)[::2], np.array([0, 2, 4, 6, 8])),
    "array of objects": (np.array([1, "a", None], object), np.array([1, "a", None], object)),
    "masked array": (masked([0, 0, 1]), masked([0, 0, 1])),
    "frame": (pd.DataFrame(FRAME), pd.DataFrame(FRAME)),
    "frame pickled": (pd.DataFrame(FRAME), pickle.loads(pickle.dumps(pd.DataFrame(FRAME)))),
    "categories": (pd.Series(["a", "b"], dtype="category"), pd.Series(["a", "b"], dtype="category")),
    "nan": (float("nan"), float("nan")),
    "instance": (Scaler([1]), Scaler([1])),
    "datetime": (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)),
    "set": ({"a", "b", 3, None, (1, "x")}, {(1, "x"), None, 3, "b", "a"}),
}

DIFFERENT = {
    "bool": (True, 1),
    "float": (1.0, 1),
    "zeros": (0.0, -0.0),
    "bytes": (b"a", "a"),
    "tuple": ((1,), [1]),
    "nesting": ([[1], 2], [1, [2]]),
    "set": ({1}, frozenset({1})),
    "set of what has one Python hash": ({-1, "a"}, {-2, "a"}),
    "dict of what has one Python hash": ({-1: 0, "a": 0}, {-2: 0, "a": 0}),
    "dict's value": ({"a": 1, 2: 3}, {"a": 1, 2: 4}),
    "ordered dict": (OrderedDict(a=1), {"a": 1}),
    "dtype": (np.array([1], "int32"), np.array([1], "int64")),
    "shape": (np.zeros((2, 3)), np.zeros((3, 2))),
    "element": (np.arange(1000), np.array([*range(999), 0])),
    "transposed": (np.arange(4).reshape(2, 2), np.arange(4).reshape(2, 2).T),
    "arrays in order": ([np.array([1]), np.array([2])], [np.array([2]), np.array([1])]),
    "mask": (masked([0, 0, 1]), masked([0, 1, 0])),
    "unit": (measured([1.0], "m"), measured([1.0], "s")),
    "column's name": (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})),
    "index": (pd.Series([1, 2], index=[0, 1]), pd.Series([1, 2], index=[1, 0])),
    "one cell": (pd.DataFrame(FRAME), pd.DataFrame(FRAME | {"x": [0.5, 1.5]})),
    "one text": (pd.DataFrame(FRAME), pd.DataFrame(FRAME | {"name": ["a", "b"]})),
    "instance": (Scaler([1]), Scaler([2])),
    "class": (Scaler, object),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_equal_contents_have_one_digest(one, other):
    assert digest(one) == digest(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_other_contents_have_other_digests(one, other):
    assert digest(one) != digest(other)


def test_using_a_frame_doesnt_change_its_digest():
    frame = pd.DataFrame(FRAME)
    before = digest(frame)
    assert frame.index.is_unique
    assert frame.loc[0, "n"] == 1
    assert frame["n"].sum() == 3
    assert digest(frame) == before


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=4)
    | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers() | st.text(max_size=3), inner, max_size=4)
        | st.frozensets(st.integers() | st.text(max_size=3), max_size=4)
    ),
    max_leaves=12,
)


@given(values)
def test_a_value_and_its_pickled_self_have_one_digest(value):
    assert digest(value) == digest(pickle.loads(pickle.dumps(value)))


@given(values, values)
def test_one_digest_means_equal_values(one, other):
    assert (digest(one) == digest(other)) <= (repr_of(one) == repr_of(other))


def repr_of(value):
    """A text that is the same for equal values of the same types only."""
    if isinstance(value, dict):
        return f"dict{sorted((repr_of(k), repr_of(v)) for k, v in value.items())}"
    if isinstance(value, frozenset):
        return f"set{sorted(map(repr_of, value))}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}{[repr_of(one) for one in value]}"
    return repr(value)


SCRIPT = """
import numpy as np, pandas as pd
from nerv import Cache
from nerv.caching.contents import digest
from nerv.caching.keys import key_of
def f(names, frame, **more): return names in {"a", "b", "c"}
frame = pd.DataFrame({"s": ["x", None], "n": [1, 2]})
print(key_of("t", Cache(version="1"), f, ({"x", "y", "z"}, frame), {"k": frozenset("abc"), "l": {"q": 1, 2: {"a", 1}}}))
print(digest([f, np.arange(3), {frozenset("abc"), frozenset("d")}]))
"""


def test_keys_are_the_same_in_every_process(tmp_path):
    """String hashes differ from process to process; keys don't."""
    runs = [run_command([sys.executable, "-c", SCRIPT], tmp_path, 60) for _ in range(3)]
    assert [run.returncode for run in runs] == [0, 0, 0], runs[0].stdout
    assert len({run.stdout for run in runs}) == 1
    assert len(runs[0].stdout.split()) == 2


def test_hashing_needs_no_numpy(tmp_path):
    """Without NumPy installed plain values are hashed all the same, to the same digest."""
    code = (
        "import sys; sys.modules['numpy'] = None; from nerv.caching.contents import digest; "
        "print(digest([1, {'a': {2, 'b'}}]))"
    )
    run = run_command([sys.executable, "-c", code], tmp_path, 60)
    assert run.stdout.split() == [digest([1, {"a": {2, "b"}}])]


KEPT_OUT = """
import {loaded}
import threading
from nerv.caching.contents import digest, function_digest

def closing_over(value):
    def inner():
        return value
    return inner

deep = closing_over({{"deep": closing_over(1)}})
for value in ({{"a": [1, 2.0]}}, {{1: {{"b"}}, "x": None}}, closing_over(7), deep, dict):
    print(digest(value))
for value in (threading.Lock(), {{"lock": threading.Lock()}}, closing_over(threading.Lock())):
    try:
        print("hashed", digest(value))
    except TypeError as error:
        print(error)
"""


def test_a_digest_is_the_same_whoever_has_taught_pickle_to_take_more(tmp_path):
    """dill takes the place of whom pickle leaves dicts, functions and classes to, and pickles locks."""
    runs = [run_command([sys.executable, "-c", KEPT_OUT.format(loaded=one)], tmp_path, 60) for one in ("sys", "dill")]
    plain, taught = (run.stdout.splitlines() for run in runs)
    assert plain == taught
    assert plain[-3:] == ["cannot pickle '_thread.lock' object"] * 3


def test_joblib_is_loaded_by_the_first_digest_only(tmp_path):
    code = "import sys, nerv; nerv.Cache(); import nerv.caching.keys; print('joblib' in sys.modules)"
    assert run_command([sys.executable, "-c", code], REPOSITORY, 60).stdout == "False\n"


# ---- calls ----------------------------------------------------------------------------------------------------------


def key(fn, *args, cache=None, seen=None, **kwargs):
    return key_of("t", cache or Cache(), fn, args, kwargs, seen=seen)


def test_every_way_to_write_a_call_has_one_key():
    assert key(plain, 1) == key(plain, x=1) == key(plain, 1, 2) == key(plain, 1, z=3) == key(plain, y=2, x=1)
    assert len({key(plain, 1), key(plain, 2), key(plain, 1, 3), key(plain, 1, z=4)}) == 4


def test_arguments_of_functions_without_a_signature_count_too():
    assert key(max, 1, 2) == key(max, 1, 2) != key(max, 2, 1)
    assert key(dict, a=1, b=2) == key(dict, b=2, a=1) != key(dict, a=1)


def test_arguments_that_the_function_refuses_have_a_key():
    assert key(plain, 1, 2, 3, 4) != key(plain, 1, 2, 3, 5)


def test_the_version_and_the_function_are_part_of_the_key():
    keys = {key(plain, 1, cache=Cache(version=v)) for v in (None, "None", 1, "1")} | {key(lambda x: x, 1)}
    assert len(keys) == 5
    assert key(plain, 1, cache=Cache(ttl=1)) == key(plain, 1)


def wanting(ctx, x=1):
    return ctx["day"], x


def test_what_a_context_shows_is_an_input():
    assert key(wanting, seen={"p": 1}) == key(wanting, 1, seen={"p": 1}) == key(wanting, x=1, seen={"p": 1})
    assert len({key(wanting, seen={"p": 1}), key(wanting, seen={"p": 2}), key(wanting, 2, seen={"p": 1})}) == 3


def test_a_key_function_stands_for_all_inputs():
    lock = threading.Lock()
    cache = Cache(key=lambda row, lock: row["id"])

    def counted(row, lock):
        return row

    assert key(counted, {"id": 1, "n": 1}, lock, cache=cache) == key(counted, {"id": 1, "n": 2}, lock, cache=cache)
    assert key(counted, {"id": 1}, lock, cache=cache) != key(counted, {"id": 2}, lock, cache=cache)
    assert key(wanting, cache=Cache(key=lambda: 1), seen={"p": lock}) == key(
        wanting, cache=Cache(key=lambda: 1), seen={}
    )


def test_another_key_function_is_another_key():
    first, second = Cache(key=lambda x, y: x), Cache(key=lambda x, y: y)
    assert key(plain, 1, 2, cache=first) != key(plain, 3, 1, cache=second)


# ---- errors ---------------------------------------------------------------------------------------------------------


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("not me")


LOCK = threading.Lock()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: key(plain, LOCK), ["task 't'", "its argument 'x'", "_thread.lock", "Cache(key=...)"]),
        (lambda: key(plain, 1, z=[LOCK]), ["its argument 'z'", "a list"]),
        (lambda: key(max, 1, LOCK), ["its argument args[1]"]),
        (lambda: key(dict, a=LOCK), ["its argument"]),
        (lambda: key(plain, Unpicklable()), ["Unpicklable", "RuntimeError: not me"]),
        (lambda: key(plain, (n for n in ())), ["a generator"]),
        (lambda: key(plain, [*range(1000), closing_over(1), type("Local", (), {})]), ["Local"]),
        (lambda: key(closing_over(LOCK)), ["holds the variable 'value' (a lock)", "closing_over.<locals>.inner"]),
        (lambda: key(functools.partial(plain, 1, z=LOCK)), ["holds the argument 'z' (a lock)"]),
        (lambda: key(functools.partial(plain, LOCK)), ["holds the argument 0 (a lock)"]),
        (lambda: key(Scaler(LOCK).scale, 1), ["holds a Scaler"]),
        (lambda: key(Scaler(LOCK), 1), ["holds a Scaler"]),
        (lambda: key(wanting, seen={"the param 'p'": LOCK}), ["the param 'p'", "_thread.lock"]),
        (lambda: key(plain, 1, cache=Cache(key=lambda x: LOCK)), ["what its Cache(key=...) returned"]),
        (lambda: key(plain, 1, cache=Cache(key=lambda x: 1 / 0)), ["Cache(key=...) raised ZeroDivisionError"]),
        (lambda: key(plain, 1, 2, cache=Cache(key=lambda x: x)), ["Cache(key=...) raised TypeError"]),
        (lambda: key(plain, 1, cache=Cache(key=closing_over(LOCK))), ["its Cache(key=...) ", "the variable 'value'"]),
    ],
)
def test_what_cant_be_hashed_is_named(call, words):
    with pytest.raises(CacheKeyError) as caught:
        call()
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert len(str(caught.value)) < 500
    assert caught.value.__cause__ is not None
