import pytest
import torch

from infoscope.errors import InfoscopeError
from infoscope.training.stream import ShuffleBuffer, TokenPool, TokenStream


def tokens(count, width=3):
    return torch.arange(count * width, dtype=torch.float32).view(count, width)


class Passes:
    """Gives the same tokens each pass, in batches of ``size``, and counts the passes."""

    def __init__(self, count, size):
        self.count, self.size, self.begun = count, size, 0

    def __call__(self):
        self.begun += 1
        return iter(tokens(self.count).split(self.size))


def drawn(batches, draw, **options):
    buffer = ShuffleBuffer(batches, **options)
    result = []
    while len(buffer.window):
        result.append(buffer.draw(draw))
    return result, buffer


def test_pool_computes_once_what_fits():
    passes = Passes(10, 4)
    pool = TokenPool(passes, cache_bytes=10 * 3 * 4)
    for _ in range(3):
        assert torch.equal(torch.cat(list(pool)), tokens(10))
    assert passes.begun == 1
    assert pool.kept


def test_pool_computes_every_pass_of_what_does_not_fit():
    passes = Passes(10, 4)
    pool = TokenPool(passes, cache_bytes=10 * 3 * 4 - 1)
    for _ in range(3):
        assert torch.equal(torch.cat(list(pool)), tokens(10))
    assert passes.begun == 3
    assert not pool.kept


def test_pool_does_not_take_a_broken_pass_for_a_whole_one():
    passes = Passes(10, 4)
    pool = TokenPool(passes)
    next(iter(pool))
    assert not pool.kept
    assert torch.equal(torch.cat(list(pool)), tokens(10))
    assert passes.begun == 2


def test_pool_does_not_hold_on_to_what_its_tokens_were_cut_from():
    whole = torch.zeros(2, 8, 3)
    pool = TokenPool(lambda: [whole[:, 5:].flatten(0, 1)])
    first = next(iter(list(pool)))
    whole += 1
    kept = next(iter(pool))
    assert kept.untyped_storage().nbytes() == first.numel() * 4
    assert not kept.any()


def test_stream_runs_through_passes():
    stream = TokenStream(list(tokens(5).split(2)))
    assert torch.equal(stream.take(3), tokens(5)[:3])
    assert torch.equal(stream.take(9), torch.cat([tokens(5)[3:], tokens(5), tokens(5)[:2]]))
    assert (stream.passes, stream.taken) == (3, 12)


def test_stream_stops_at_the_end_of_a_pass_when_asked():
    stream = TokenStream(list(tokens(5).split(2)))
    assert torch.equal(stream.take(100, one_pass=True), tokens(5))
    assert stream.passes == 1


@pytest.mark.parametrize("size", [1, 5, 9, 1000])
@pytest.mark.parametrize("draw", [1, 4, 7, 500])
def test_every_token_is_drawn_as_often_as_it_streams_by(size, draw):
    result, buffer = drawn(list(tokens(9).split(4)), draw, size=size, total=31, seed=0)
    assert [len(batch) for batch in result[:-1]] == [min(draw, 31)] * (len(result) - 1)
    streamed = torch.cat([tokens(9)] * 4)[:31]
    assert sorted(torch.cat(result).tolist()) == sorted(streamed.tolist())
    assert buffer.stream.passes == 4


def test_draws_do_not_depend_on_the_batches_tokens_come_in():
    expected, _ = drawn([tokens(100)], 8, size=30, total=250, seed=0)
    for batch in (1, 7, 64):
        result, _ = drawn(list(tokens(100).split(batch)), 8, size=30, total=250, seed=0)
        assert torch.equal(torch.cat(result), torch.cat(expected))
    pooled, _ = drawn(TokenPool(Passes(100, 9)), 8, size=30, total=250, seed=0)
    assert torch.equal(torch.cat(pooled), torch.cat(expected))
    other, _ = drawn([tokens(100)], 8, size=30, total=250, seed=1)
    assert not torch.equal(torch.cat(other), torch.cat(expected))


def test_draws_mix_the_window_evenly():
    # 1,000 tokens in order: each tenth of the draws should be drawn from all the window has seen so far.
    result, _ = drawn([tokens(1000, 1)], 50, size=500, total=1000, seed=0)
    place = torch.cat(result)[:, 0]
    assert 150 < place[:50].mean() < 350  # of 0..499
    assert len(place[:50].unique()) == 50
    assert (place[500:] < 250).sum() > 30  # early ones still wait
    assert place[:50].sort().values.tolist() != place[:50].tolist()


def test_the_window_keeps_its_size_until_the_stream_ends():
    buffer = ShuffleBuffer([tokens(9)], size=6, total=20, seed=0)
    sizes = []
    while len(buffer.window):
        sizes.append(len(buffer.window))
        buffer.draw(4)
    assert sizes == [6, 6, 6, 6, 4][: len(sizes)]


def test_a_generator_runs_out():
    with pytest.raises(
        InfoscopeError, match="no more tokens after 10; give more images, or tokens that can be read again"
    ):
        drawn(iter(tokens(10).split(5)), 4, size=6, total=20, seed=0)


def test_no_tokens_at_all():
    with pytest.raises(InfoscopeError, match="no more tokens after 0"):
        ShuffleBuffer([], size=6, total=20, seed=0)
    with pytest.raises(InfoscopeError, match="no more tokens after 0"):
        ShuffleBuffer([torch.zeros(0, 3)], size=6, total=20, seed=0)


def test_tokens_that_are_not_finite():
    with pytest.raises(InfoscopeError, match="tokens hold NaN or infinity"):
        ShuffleBuffer([torch.tensor([[1.0, float("inf")]])], size=6, total=20, seed=0)


def test_half_precision_is_widened():
    buffer = ShuffleBuffer([tokens(4).half()], size=4, total=4, seed=0)
    assert buffer.draw(4).dtype == torch.float32


def test_large_finite_tokens_are_taken():
    # Their sum overflows.
    buffer = ShuffleBuffer([torch.full((4, 3), 3e38)], size=4, total=4, seed=0)
    assert buffer.draw(4).shape == (4, 3)
