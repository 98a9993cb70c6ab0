"""Lays the prompts of a step out in prefill passes: rows padded to tiles, passes padded to the sizes that are recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from zellige.llm.protocol import Int32Array, StepBatch

ROWS = tuple(n for k in range(4, 14) for n in ((1 << k), 3 << (k - 1)) if n % 16 == 0 and n <= 8192)
"""Rows of recorded prefill passes: 16, 32, 48, 64, 96, 128, 192 … 8192."""
SEQUENCES = (1, 8, 64, 256)
"""Numbers of sequences that recorded prefill passes hold."""
TILES = (128, 64, 16)
"""Rows of a tile, which belong to one sequence. Larger ones are faster; smaller ones waste less on short prompts."""
LONG = 2048
"""Tokens of each sequence of a pass, on average, from which on the largest tiles are used: each row of a smaller one reads all the
keys and values that it sees from the second cache, at the rate of which that is bound."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a recorded prefill pass is made for."""

    rows: int
    tile: int
    sequences: int
    wanted: int
    """Rows that get logits."""
    fresh: bool
    """Whether every sequence starts in the pass."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive tokens of sequence ``sequence`` of a batch: rows ``first`` to ``first + count`` of the batch."""

    sequence: int
    first: int
    count: int


def at_least(sizes: tuple[int, ...], n: int) -> int:
    """The smallest of ``sizes`` that is no less than n; at most the largest is asked for."""
    return next(size for size in sizes if size >= n)


def passes(batch: StepBatch, sequences: Iterable[int], rows: int = ROWS[-1]) -> Iterator[list[Piece]]:
    """Sequences of a batch, in order, cut into passes of at most ``rows``. Only a sequence that outgrows the rest of a pass is split."""
    tile = TILES[-1]
    held: list[Piece] = []
    room = rows
    for b in sequences:
        first, end = int(batch.offsets[b]), int(batch.offsets[b + 1])
        while first < end:
            if not room or len(held) == SEQUENCES[-1] or (held and room < end - first <= rows):
                yield held
                held, room = [], rows
            count = min(end - first, room)
            held.append(Piece(b, first, count))
            room -= padded(count, tile)
            first += count
    if held:
        yield held


def padded(count: int, tile: int) -> int:
    """``count`` rounded up to whole tiles."""
    return -(-count // tile) * tile


def shape_of(batch: StepBatch, pieces: list[Piece]) -> Shape:
    """The recorded pass that holds these pieces. Small tiles only where large ones would need a larger pass."""
    needed = {tile: sum(padded(p.count, tile) for p in pieces) for tile in TILES}
    rows = at_least(ROWS, needed[TILES[-1]])
    allowed = TILES if sum(p.count for p in pieces) >= LONG * len(pieces) else TILES[1:]
    tile = next(tile for tile in allowed if rows % tile == 0 and needed[tile] <= rows)
    count = at_least(SEQUENCES, len(pieces))
    return Shape(rows, tile, count, count, all(batch.positions[p.first] == 0 for p in pieces))


@dataclass(frozen=True, slots=True)
class Laid:
    """The inputs of a pass, as `PrefillInputs` names them; padding rows have slot -1 and a tile of their own."""

    ids: Int32Array
    position: Int32Array
    slot: Int32Array
    table: Int32Array
    length: Int32Array
    owner: Int32Array
    start: Int32Array
    base: Int32Array
    last: Int32Array


def lay(batch: StepBatch, pieces: list[Piece], shape: Shape, pages: int) -> Laid:
    """The arrays of a pass. ``pages``: width of its block table. Where all rows get logits, there is one piece."""
    rows, tile, count = shape.rows, shape.tile, shape.sequences
    ids, position = np.zeros(rows, np.int32), np.zeros(rows, np.int32)
    slot = np.full(rows, -1, np.int32)
    table, length = np.zeros((count, pages), np.int32), np.zeros(count, np.int32)
    owner, start = np.zeros(rows // tile, np.int32), np.zeros(rows // tile, np.int32)
    base = np.arange(0, rows, tile, dtype=np.int32)
    every_row = shape.wanted == rows
    last = np.arange(rows, dtype=np.int32) if every_row else np.zeros(shape.wanted, np.int32)
    row = 0
    for b, piece in enumerate(pieces):
        here, there = slice(row, row + piece.count), slice(piece.first, piece.first + piece.count)
        ids[here], position[here], slot[here] = batch.token_ids[there], batch.positions[there], batch.slots[there]
        known = batch.block_table[piece.sequence]
        table[b, : len(known)] = known[:pages]
        begin = int(batch.positions[piece.first])
        length[b] = begin + piece.count
        tiles = slice(row // tile, (row + padded(piece.count, tile)) // tile)
        owner[tiles], base[tiles] = b, row
        start[tiles] = begin + np.arange(tiles.stop - tiles.start, dtype=np.int32) * tile
        if not every_row:
            last[b] = row + piece.count - 1
        row += padded(piece.count, tile)
    if len(pieces) < count:  # tiles without a sequence attend to nothing
        owner[row // tile :] = len(pieces)
    return Laid(ids, position, slot, table, length, owner, start, base, last)
