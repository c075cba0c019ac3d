"""Frames arrive as they were sent, however the pipe cuts them; exceptions arrive somehow."""

import os
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerv.errors import NervError
from nerv.pools import wire
from nerv.pools.wire import Inbox, frame

NUMBERS = st.integers(0, 2**64 - 1)
FRAMES = st.lists(
    st.tuples(st.integers(0, 255), NUMBERS, st.floats(allow_nan=False), st.binary(max_size=100)), max_size=8
)


def sent(frames):
    return b"".join(frame(*one) for one in frames)


def received(pieces):
    """What an inbox makes of these pieces, each read on its own."""
    ours, theirs = os.pipe()
    inbox, found = Inbox(ours), []
    try:
        for piece in pieces:
            os.write(theirs, piece)
            found += [(*head, bytes(body)) for *head, body in inbox.frames()]
    finally:
        os.close(ours)
        os.close(theirs)
    return found


@given(FRAMES, st.data())
def test_frames_survive_any_cut(frames, data):
    whole = sent(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert received([piece for piece in pieces if piece]) == frames


@pytest.mark.parametrize("frames", [[(1, 2, 3.0, b"abc"), (4, 5, 6.0, b"")]])
def test_frames_survive_byte_by_byte(frames):
    assert received([bytes([byte]) for byte in sent(frames)]) == frames


@pytest.mark.parametrize("step", [1000, 4096, 60_000])
def test_a_large_frame_is_collected(step, monkeypatch):
    monkeypatch.setattr(wire, "READ", 5000)
    frames = [(1, 1, 0.0, b"a"), (2, 2, 0.5, bytes(range(256)) * 100), (3, 3, 1.0, b"c"), (4, 4, 0.0, b"d" * 5000)]
    data = sent(frames)
    pieces = [data[i : i + step] for i in range(0, len(data), step)]
    ours, theirs = os.pipe()
    inbox, found = Inbox(ours), []
    for piece in pieces:
        os.write(theirs, piece)
    os.close(theirs)
    while True:
        try:
            found += [(*head, bytes(body)) for *head, body in inbox.frames()]
        except EOFError:
            break
    os.close(ours)
    assert found == frames


@given(FRAMES, st.binary(min_size=1, max_size=24))
def test_the_beginning_of_a_frame_is_kept_for_later(frames, rest):
    data = sent(frames)
    found, position = wire.split(data + rest)
    assert len(found) == len(frames)
    assert position == len(data)


def test_the_end_is_an_error_even_within_a_frame():
    ours, theirs = os.pipe()
    os.write(theirs, frame(1, 2, 3.0, b"abc")[:-1])
    os.close(theirs)
    inbox = Inbox(ours)
    assert inbox.frames() == []
    with pytest.raises(EOFError):
        inbox.frames()
    os.close(ours)


class ShyError(Exception):
    def __str__(self):
        raise RuntimeError("I won't say")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        KeyError("x"),
        OSError(2, "gone", "file"),
        SystemExit(3),
        ExceptionGroup("both", [ValueError(1), KeyError(2)]),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exceptions_come_back_as_they_were(error):
    error.add_note("mine")
    back = wire.unpacked_error(memoryview(wire.packed_error(error)))
    assert type(back) is type(error)
    assert repr(back.args) == repr(error.args)
    assert back.__notes__[0] == "mine"
    assert f"in worker process {os.getpid()}" in back.__notes__[1]


def test_an_exception_without_words_has_a_stand_in():
    back = wire.unpacked_error(memoryview(wire.packed_error(ShyError())))
    assert type(back) is NervError
    assert "ShyError" in str(back)


def test_an_exception_whose_class_is_gone_has_a_stand_in(monkeypatch):
    data = wire.packed_error(GoneError("away"))
    monkeypatch.delattr(f"{__name__}.GoneError")
    back = wire.unpacked_error(memoryview(data))
    assert type(back) is NervError
    assert "GoneError: away (it can't be rebuilt in this process" in str(back)


class GoneError(Exception):
    pass


def test_what_neither_pickler_takes_is_told_in_pickles_words():
    with pytest.raises((TypeError, pickle.PicklingError), match="cannot pickle 'generator' object"):
        wire.packed(i for i in (1,))
