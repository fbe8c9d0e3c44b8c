"""Examples are shared out to ranks and passes by their lengths."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hft_ray.data import share_out

LONGEST = 20


@st.composite
def steps(draw):
    ranks, micro, passes = (draw(st.integers(1, 4)) for _ in range(3))
    size = ranks * micro * passes
    lengths = draw(st.lists(st.integers(1, LONGEST), min_size=size, max_size=size))
    return lengths, ranks, micro, passes


def sums(lengths, shares):
    return [[sum(lengths[i] for i in each) for each in share] for share in shares]


@settings(max_examples=200, deadline=None)
@given(steps())
def test_every_example_is_in_one_pass_that_has_room(step):
    lengths, ranks, micro, most = step
    shares = share_out(lengths, ranks, micro, micro * LONGEST)
    assert sorted(i for share in shares for each in share for i in each) == [*range(len(lengths))]
    assert len(shares) == ranks
    assert len({len(share) for share in shares}) == 1
    assert 1 <= len(shares[0]) <= most
    assert all(each for share in shares for each in share)
    loads = [load for share in sums(lengths, shares) for load in share]
    assert max(loads) <= micro * LONGEST
    # Never a pass more than the tokens ask for, as long as none is nearly as long as a whole pass.
    if micro >= 4:
        assert len(shares[0]) <= -(-sum(lengths) * 4 // (3 * micro * LONGEST * ranks))
    assert shares == share_out(lengths, ranks, micro, micro * LONGEST)


def test_passes_are_alike_in_tokens():
    # Two ranks, at most 20 tokens: 30 tokens in two passes, not in eight.
    lengths = [9, 1, 2, 3, 4, 5, 2, 4]
    assert sums(lengths, share_out(lengths, 2, 1, LONGEST)) == [[15], [15]]
    # Of two turns of passes each rank has a larger one.
    lengths = [18, 17, 16, 15]
    assert sums(lengths, share_out(lengths, 2, 1, LONGEST)) == [[18, 15], [17, 16]]


@pytest.mark.parametrize("size", [4, 8])
def test_examples_of_the_greatest_length_are_dealt_out_as_padded_ones(size):
    shares = share_out([LONGEST] * size, 2, 2, 2 * LONGEST)
    assert [[len(each) for each in share] for share in shares] == [[2] * (size // 4)] * 2
