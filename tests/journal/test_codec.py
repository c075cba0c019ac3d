"""What is stored comes back exactly as it was: every value, every type, every bit; and nothing is unpickled unasked."""

import copy
import datetime
import decimal
import enum
import math
import pickle
import struct
import threading
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerv.errors import SerializationError, StoredError
from nerv.journal import codec
from nerv.journal.codec import ENCODER, Stored, decode, encode, encode_all, encode_facts
from nerv.journal.lazy import LazyFacts, LazyValues
from nerv.statuses import TaskStatus, WorkflowStatus


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Items(list):
    pass


class Table(dict):
    pass


class Point(NamedTuple):
    x: object
    y: object


class Colour(enum.IntEnum):
    RED = 1


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**64), 2**65),
    st.floats(),
    ANY_TEXT,
    st.binary(max_size=8),
    st.dates(),
    st.decimals(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.sampled_from([Text("a"), Number(3), Items([1]), Table(a=1), Colour.RED, Point(1, 2), WorkflowStatus.PAUSED]),
    st.frozensets(st.integers(), max_size=3),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(ANY_TEXT, inner, max_size=4),
        st.dictionaries(st.integers() | ANY_TEXT, inner, max_size=3),
        st.tuples(inner, inner),
        st.builds(Items, st.lists(inner, max_size=2)),
        st.builds(Point, inner, inner),
    ),
    max_leaves=12,
)


def same(one, other):
    """Equal, of exactly the same type, all the way down; floats by their bits."""
    if type(one) is not type(other):
        return False
    if type(one) is float:
        return struct.pack("d", one) == struct.pack("d", other)
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            same(*keys) and same(one[keys[0]], other[keys[1]]) for keys in zip(one, other, strict=True)
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def stored(value):
    """A value as it is when it has been to a file and back."""
    return Stored(bytes(ENCODER.encode(encode(value))))


@given(VALUES)
def test_a_value_comes_back_exactly(value):
    assert same(decode(encode(value)), value)
    assert same(stored(value).get(), value)
    assert same(encode_facts({"x": value})["x"] if same(encode(value), value) else stored(value).get(), value)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        -math.inf,
        -0.0,
        struct.unpack("d", b"\x01\0\0\0\0\0\xf8\x7f")[0],
        2**63,
        2**64 - 1,
        2**64,
        -(2**63),
        -(2**63) - 1,
        "\ud800",
        ["\ud800"],
        {"\ud800": 1},
        [2**70],
        True,
        [True, 1, 1.0],
        (),
        [()],
        {1: 2},
        {"a": {True: 1}},
        bytearray(b"x"),
        datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        decimal.Decimal("1.10"),
        TaskStatus.WAITING,
        [WorkflowStatus.FAILED],
        [Point(1, [2])],
        msgspec.Raw(b"\x01"),
        msgspec.msgpack.Ext(1, b"builtins.int\0"),
    ],
)
def test_what_msgpack_would_change_comes_back_exactly(value):
    assert same(stored(value).get(), value)


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner), max_leaves=20))
def test_plain_values_hold_no_pickle(value):
    """If msgpack alone gives back the very value, that is what is written; otherwise nothing of it is msgpack's."""
    raw = stored(value).raw
    try:
        is_plain = same(msgspec.msgpack.decode(ENCODER.encode(value)), value)
    except (TypeError, OverflowError, UnicodeEncodeError, msgspec.DecodeError):
        is_plain = False
    kinds = [codec.PICKLED, codec.STATUS]
    found = []
    msgspec.msgpack.decode(raw, ext_hook=lambda code, _: found.append(code))
    assert set(found) <= set(kinds)
    assert (not found) == is_plain


def test_one_object_in_two_places_stays_one():
    inner = [1]
    back = stored([inner, inner]).get()
    assert back[0] is back[1]
    ring = []
    ring.append(ring)
    back = stored(ring).get()
    assert back[0] is back


def test_deep_and_long_values_come_back():
    deep = []
    for _ in range(200):
        deep = [deep]
    assert stored(deep).get() == deep
    long = list(range(200_000))
    assert stored(long).get() == long


def test_a_value_too_deep_even_for_pickle_is_refused_with_its_task():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(SerializationError, match="task 'deep'"):
        encode(deep, "deep")
    while deep:  # freed from outside in: a deep destructor chain isn't what is tested
        deep = deep.pop()


def test_functions_and_local_classes_travel_by_value():
    offset = 2

    class Local:
        kind = "local"

    assert stored(lambda x: x + offset).get()(3) == 5
    assert stored(Local()).get().kind == "local"


def test_encoding_again_copies_the_bytes_unseen():
    class Once:
        def __reduce__(self):
            return explode, ()

    first = encode([Once()])
    assert bytes(encode(first).raw) == bytes(first.raw)
    assert bytes(pickle.loads(pickle.dumps(first)).raw) == bytes(first.raw)
    facts = encode_facts(LazyFacts({"item": first}))
    assert facts["item"] is first
    inside = encode({"items": [first, 1]})
    assert [type(part) for part in inside.parts()["items"]] == [Stored, int]


def explode():
    raise AssertionError("it was unpickled")


def test_looking_unpickles_nothing():
    class Once:
        def __reduce__(self):
            return explode, ()

    for value in (Once(), [Once()], {"a": (Once(),)}):
        kept = stored(value)
        assert "Once" in kept.describe() or "list" in kept.describe() or "dict" in kept.describe()
        assert "bytes" in repr(kept)
        assert kept.preview()
        kept.parts()
        repr(LazyFacts({"x": kept}))
        with pytest.raises(SerializationError, match="it was unpickled"):
            kept.get()


def test_people_are_told_what_it_is():
    assert stored(3).preview() == "3"
    assert stored("x" * 1000).preview() == "str, 1.0 kB"
    assert stored({"a": [1, None]}).preview() == "{'a': [1, None]}"
    assert stored((1, 2)).type_name == "tuple"
    assert stored(decimal.Decimal(1)).type_name == "decimal.Decimal"
    assert stored(b"x" * 3_000_000).describe() == "bytes, 3.0 MB"
    assert stored(ValueError("x")).type_name == "ValueError"


@pytest.mark.parametrize("value", [threading.Lock(), [threading.Lock()], (i for i in ()), open])
def test_what_cannot_be_stored_names_task_and_type(value):
    if value is open:
        assert stored(open).get() is open
        return
    with pytest.raises(SerializationError, match=r"task 'parse': a value of type .* can't be stored.*durable=False"):
        encode(value, "parse")


def test_a_value_whose_own_pickling_raises_is_refused():
    class Broken:
        def __reduce__(self):
            raise KeyError("mine")

    with pytest.raises(SerializationError, match="mine"):
        encode(Broken(), "parse")


def test_too_large_a_value_is_refused(monkeypatch):
    monkeypatch.setattr(codec, "LARGEST", 1000)
    for value in ("x" * 1001, b"x" * 1001, ["x" * 1001], (1, "x" * 1001)):
        with pytest.raises(SerializationError, match=r"task 'parse': .*too large.*write it to a file"):
            encode(value, "parse")
    assert encode("x" * 999) == "x" * 999


def test_params_that_cannot_be_stored_are_named():
    with pytest.raises(SerializationError, match=r"param 'lock': a value of type _thread.lock"):
        encode_all({"a": 1, "lock": threading.Lock()}, "param")


def test_a_fact_that_cannot_be_stored_raises_when_read_and_spares_the_others():
    facts = LazyFacts(encode_facts({"a": 1, "lock": threading.Lock()}))
    assert facts["a"] == 1
    with pytest.raises(SerializationError, match=r"_thread.lock wasn't stored"):
        facts["lock"]


# ---- exceptions -----------------------------------------------------------------------------------------------------


class OddError(Exception):
    """Its constructor takes other things than its args."""

    def __init__(self, code, *, where):
        super().__init__(f"{code} at {where}")
        self.code = code


class UnstorableError(Exception):
    """Holds what no pickle takes, in its args."""


def test_an_exception_comes_back_whole():
    for error in (ValueError("no", 3), OddError(7, where="here"), SerializationError("x"), KeyError("k")):
        back = stored(error).get()
        assert type(back) is type(error)
        assert str(back) == str(error)
        assert back.args == error.args
        assert back.__dict__.get("code") == error.__dict__.get("code")


def test_an_exception_keeps_its_traceback_as_a_note():
    try:
        raise ValueError("no")
    except ValueError as error:
        back = stored(error).get()
    assert "from the journal" in back.__notes__[-1]
    assert "test_an_exception_keeps_its_traceback_as_a_note" in back.__notes__[-1]
    assert len(stored(back).get().__notes__) == 2, "stored anew it has one more"


def test_an_exception_that_cannot_be_stored_has_a_stand_in():
    back = stored(UnstorableError(threading.Lock())).get()
    assert type(back) is StoredError
    assert back.type_name == f"{__name__}.UnstorableError"
    assert str(back).startswith("UnstorableError: <")
    again = pickle.loads(pickle.dumps(back))
    assert (type(again), str(again), again.type_name) == (StoredError, str(back), back.type_name)


def test_an_exception_whose_text_cannot_be_made_is_kept():
    class Mute(Exception):  # noqa: N818
        def __str__(self):
            raise RuntimeError("mute")

    back = stored(Mute()).get()
    assert isinstance(back, StoredError)


def test_a_class_that_is_gone_is_named(monkeypatch):
    class Gone(Exception):  # noqa: N818
        pass

    class Thing:
        pass

    Gone.__qualname__, Thing.__qualname__ = "Gone", "Thing"
    monkeypatch.setitem(globals(), "Thing", Thing)
    monkeypatch.setitem(globals(), "Gone", Gone)
    kept, failure = stored(Thing()), stored(Gone("x"))
    monkeypatch.delitem(globals(), "Thing")
    monkeypatch.delitem(globals(), "Gone")
    assert kept.type_name == f"{__name__}.Thing"
    with pytest.raises(SerializationError, match=rf"{__name__}.Thing can't be rebuilt here.*importable"):
        kept.get()
    back = failure.get()
    assert type(back) is StoredError
    assert "can't be rebuilt here" in str(back)
    with pytest.raises(SerializationError, match="task 'a': its result can't be read from the journal"):
        LazyValues({"a": kept})["a"]


# ---- lazy dicts -----------------------------------------------------------------------------------------------------


def lazy():
    return LazyValues({"a": stored((1,)), "b": stored([2]), "c": 3})


@pytest.mark.parametrize(
    "read",
    [
        dict,
        lambda it: {**it},
        lambda it: it.copy(),
        lambda it: it | {},
        lambda it: {} | it,
        lambda it: dict(it.items()),
        lambda it: dict(zip(it, it.values(), strict=True)),
        lambda it: {key: it[key] for key in it},
        lambda it: {key: it.get(key) for key in it},
        lambda it: {key: it.setdefault(key) for key in list(it)},
        lambda it: {key: it.pop(key) for key in list(it)},
        lambda it: pickle.loads(pickle.dumps(it)),
        copy.copy,
        copy.deepcopy,
    ],
)
def test_however_a_lazy_dict_is_read_it_is_decoded(read):
    assert read(lazy()) == {"a": (1,), "b": [2], "c": 3}
    assert not [value for value in dict.values(read(lazy())) if type(value) is Stored]


def test_a_result_is_decoded_once():
    values = lazy()
    assert type(values.raw("b")) is Stored
    assert values["b"] is values["b"]
    assert values.raw("b") is values["b"]
    assert values == {"a": (1,), "b": [2], "c": 3}
    assert values != {"a": (1,)}
    values["d"] = 4
    assert len(values) == 4
    assert values.get("e", 5) == 5
    with pytest.raises(KeyError):
        values["e"]


def test_stored_facts_cannot_be_changed():
    facts = LazyFacts({"a": stored((1,))})
    with pytest.raises(TypeError):
        facts["a"] = 2
    with pytest.raises(TypeError):
        facts.pop("a")
    assert facts == {"a": (1,)}
    assert pickle.loads(pickle.dumps(facts)) == {"a": (1,)}


def test_the_statuses_in_files_are_known_for_ever():
    """Names in files: adding to these enums is fine, renaming isn't."""
    assert {one.name for one in WorkflowStatus} >= {"CREATED", "RUNNING", "PAUSED", "COMPLETED", "FAILED", "CANCELLED"}
    assert codec._STATUSES["TaskStatus.SKIPPED"] is TaskStatus.SKIPPED
