import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.datasets.sharding import epoch_generator, shard, test_spans, train_spans

counts = st.integers(1, 400)
batches = st.integers(1, 130)
sizes = st.integers(1, 9)


def positions(spans):
    return [i for start, stop in spans for i in range(start, stop)]


@given(counts, batches, sizes)
def test_test_spans_cover_every_sample_once_and_in_order(n, batch, size):
    shares = [test_spans(n, batch, rank, size) for rank in range(size)]
    assert [i for spans in shares for i in positions(spans)] == list(range(n))


@given(counts, batches, sizes)
def test_test_spans_are_never_empty_nor_above_a_ranks_share_of_the_batch(n, batch, size):
    for rank in range(size):
        for start, stop in test_spans(n, batch, rank, size):
            assert 0 < stop - start <= -(-batch // size)


@given(counts, batches, sizes)
def test_train_spans_divide_each_global_batch_among_the_ranks(n, batch, size):
    shares = [train_spans(n, batch, rank, size) for rank in range(size)]
    alone = [(s, min(s + batch, n)) for s in range(0, n, batch)][: len(shares[0])]
    for k, (start, stop) in enumerate(alone):
        assert positions(spans[k] for spans in shares) == list(range(start, stop))


@given(counts, batches, sizes)
def test_only_a_remainder_too_small_for_the_ranks_is_dropped(n, batch, size):
    shares = [train_spans(n, batch, rank, size) for rank in range(size)]
    dropped = n - sum(len(positions(spans)) for spans in shares)
    remainder = n % batch
    assert dropped == (remainder if remainder < min(batch, n, 2 * size) else 0)


@given(counts, sizes, st.integers(1, 20))
def test_every_rank_gets_a_sample_of_every_training_batch(n, size, factor):
    n, batch = max(n, size), size * factor
    for rank in range(size):
        spans = train_spans(n, batch, rank, size)
        assert spans and all(stop > start for start, stop in spans)


def test_a_smaller_last_batch_is_kept():
    assert train_spans(1438, 128)[-1] == (1408, 1438)


def test_a_last_batch_of_one_sample_is_dropped():
    assert train_spans(129, 128) == [(0, 128)]


def test_with_sync_bn_one_sample_per_rank_is_enough():
    assert [len(train_spans(n, 8, 0, 4, sync_bn=True)) for n in (11, 12, 9)] == [1, 2, 1]
    assert train_spans(12, 8, 3, 4, sync_bn=True) == [(6, 8), (11, 12)]
    assert train_spans(129, 128, sync_bn=True) == [(0, 128)]


def test_a_batch_size_of_one_keeps_its_batches():
    assert train_spans(3, 1) == [(0, 1), (1, 2), (2, 3)]


def test_shard_lengths_differ_by_at_most_one():
    lengths = [stop - start for start, stop in (shard(5, 15, rank, 3) for rank in range(3))]
    assert sorted(lengths) == [3, 3, 4]


def test_an_epochs_draws_depend_on_seed_and_epoch_only():
    draws = {(s, e): tuple(epoch_generator(s, e).permutation(50)) for s in (0, 1) for e in (0, 1)}
    assert len(set(draws.values())) == 4
    np.random.seed(7)
    assert tuple(epoch_generator(1, 1).permutation(50)) == draws[1, 1]


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError):
        epoch_generator(-1, 0)
