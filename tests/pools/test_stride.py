"""How many calls are taken at once: the arithmetic, without a pool."""

from hypothesis import given
from hypothesis import strategies as st

from nerv.pools.stride import CHUNK, QUICK, SPAN, STALL, Stride


def grown(pace=1e-6):
    stride = Stride()
    for _ in range(20):
        most = stride.most(10**6, 1, others_free=False)
        stride.keep([pace] * most, most)
    return stride


def test_it_begins_with_one_and_doubles():
    stride, sizes = Stride(), []
    for _ in range(12):
        most = stride.most(10**6, 1, others_free=False)
        sizes.append(most)
        assert stride.keep([1e-6] * most, most) == most
    assert sizes == [1, 2, 4, 8, 16, 32, 64, 128, 256, 256, 256, 256]
    assert sizes[-1] == CHUNK


def test_it_doesnt_grow_when_there_is_no_more():
    stride = grown()
    stride.keep([1e-6], stride.most(10**6, 1, others_free=False))
    assert stride.most(10**6, 1, others_free=False) == CHUNK


def test_a_chunk_takes_no_longer_than_its_span():
    stride = grown(pace=0.0005)
    assert stride.most(10**6, 1, others_free=False) * 0.0005 <= SPAN


def test_nobody_takes_more_than_its_share_while_others_have_nothing():
    stride = grown()
    assert stride.most(10, 4, others_free=True) == 3
    assert stride.most(10, 4, others_free=False) == CHUNK
    assert stride.most(0, 4, others_free=True) == 1


def test_what_is_slow_or_unknown_ends_a_chunk():
    assert grown().keep([1e-6, 1e-6, QUICK, 1e-6], 8) == 2
    assert grown().keep([1e-6, None, 1e-6], 8) == 1
    assert grown().keep([None, 1e-6], 8) == 1
    assert grown().keep([2.0], 8) == 1


def test_after_a_slow_one_it_begins_again():
    stride = grown()
    stride.keep([1e-6, 2.0], 8)
    assert stride.most(10**6, 1, others_free=False) == 1


@given(st.lists(st.one_of(st.none(), st.floats(0, 10)), min_size=1, max_size=64), st.integers(1, 64))
def test_at_least_one_call_is_kept_and_nothing_is_invented(seconds, most):
    assert 1 <= Stride().keep(seconds, most) <= len(seconds)


def test_patience_grows_with_the_chunk():
    stride = grown(pace=0.0009)
    assert stride.patience(2) == STALL
    assert stride.patience(5) == 4 * 5 * 0.0009
