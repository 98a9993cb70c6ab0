"""Prompts laid out in passes: every token once and in order, tiles of one sequence, sizes that are recorded."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zellige.llm import packing
from zellige.llm.protocol import StepBatch

PAGE = 16


def batch_of(starts: list[int], counts: list[int]) -> StepBatch:
    lengths = np.add(starts, counts).astype(np.int32)
    width = int(-(-lengths.max() // PAGE))
    table = np.arange(len(counts) * width, dtype=np.int32).reshape(-1, width)
    positions = np.concatenate([np.arange(s, s + n) for s, n in zip(starts, counts, strict=True)]).astype(np.int32)
    owner = np.repeat(np.arange(len(counts)), counts)
    slots = table[owner, positions // PAGE] * PAGE + positions % PAGE
    ids = np.arange(len(positions), dtype=np.int32)
    ends = np.cumsum([0, *counts]).astype(np.int32)
    return StepBatch(
        ids,
        positions,
        slots.astype(np.int32),
        ends,
        table,
        lengths,
        np.arange(len(counts), dtype=np.int32),
        (None,) * len(counts),
    )


SEQUENCES = st.lists(st.tuples(st.sampled_from([0, 0, 1, 16, 37]), st.integers(2, 700)), min_size=1, max_size=300)


@given(SEQUENCES | st.lists(st.tuples(st.just(0), st.sampled_from([2, 64, 8192, 9000])), min_size=1, max_size=3))
def test_every_token_is_laid_once_in_tiles_of_its_own_sequence(sequences: list[tuple[int, int]]) -> None:
    starts, counts = (list(column) for column in zip(*sequences, strict=True))
    batch = batch_of(starts, counts)
    seen: list[int] = []
    for pieces in packing.passes(batch, range(batch.sequences)):
        shape = packing.shape_of(batch, pieces)
        assert shape.rows in packing.ROWS and shape.sequences in packing.SEQUENCES and shape.rows % shape.tile == 0
        laid = packing.lay(batch, pieces, shape, batch.block_table.shape[1])
        row = 0
        for b, piece in enumerate(pieces):
            rows, there = slice(row, row + piece.count), slice(piece.first, piece.first + piece.count)
            assert np.array_equal(laid.ids[rows], batch.token_ids[there])
            assert np.array_equal(laid.position[rows], batch.positions[there])
            assert np.array_equal(laid.slot[rows], batch.slots[there])
            assert laid.last[b] == row + piece.count - 1
            for tile in range(row // shape.tile, -(-(row + piece.count) // shape.tile)):
                first = tile * shape.tile
                assert laid.owner[tile] == b and laid.base[tile] == row
                assert laid.start[tile] == laid.position[first] <= laid.length[b]
            assert laid.length[b] == batch.positions[there][-1] + 1
            seen += laid.ids[rows].tolist()
            row += packing.padded(piece.count, shape.tile)
        assert row <= shape.rows
        assert np.count_nonzero(laid.slot >= 0) == sum(p.count for p in pieces)
        assert shape.fresh == all(laid.start[t] == laid.position[laid.base[t]] + t * shape.tile - laid.base[t] and
                                  laid.position[laid.base[t]] == 0 for t in range(row // shape.tile))  # fmt: skip
    assert seen == batch.token_ids.tolist()


def test_a_sequence_is_split_only_if_no_pass_holds_it() -> None:
    batch = batch_of([0, 0, 0], [5000, 6000, 9000])
    made = [[(p.sequence, p.count) for p in pieces] for pieces in packing.passes(batch, range(3))]
    assert made == [[(0, 5000)], [(1, 6000), (2, 2192)], [(2, 6808)]]


def test_small_tiles_only_where_large_ones_need_a_larger_pass() -> None:
    assert packing.shape_of(*whole([20] * 40)).tile == 16
    assert packing.shape_of(*whole([128] * 64)) == packing.Shape(8192, 64, 64, 64, fresh=True)
    assert packing.shape_of(*whole([8192])) == packing.Shape(8192, 128, 1, 1, fresh=True)
    assert packing.shape_of(*whole([3000])).tile == 128
    assert packing.shape_of(*whole([5000, 10])).tile == 128 and packing.shape_of(*whole([3000, 10])).tile == 64


def whole(counts: list[int]) -> tuple[StepBatch, list[packing.Piece]]:
    batch = batch_of([0] * len(counts), counts)
    (pieces,) = packing.passes(batch, range(len(counts)))
    return batch, pieces
