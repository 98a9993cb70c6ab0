"""Exhibit 5. A graph is captured with dummy lengths that the block table does not cover.

What happened (vllm-project/vllm#53658): to capture a graph the engine ran a step with made-up sequence lengths, larger than
PAGES · P, what a row of the block table can address. The kernel trusted them and read past the table.

What Zellige says: the lengths are an argument of type ``UpTo[PAGES * P]``. A launch checks its arguments before anything is
captured or run: ZL0505 names the first length that is too large. Writing new lengths into a captured graph's input is
checked in the same way, and the old contents stay.
"""

from __future__ import annotations

import numpy as np
from exhibit import refusal, show

import zellige as zl
from zellige import f32

B, PAGES, NB, P = zl.dims("B PAGES NB P")


@zl.kernel
def sum_of_tokens(
    cache: zl.In[f32, NB, P],
    table: zl.In[zl.Index[NB], B, PAGES],
    length: zl.In[zl.UpTo[PAGES * P], B],
    *,
    y: zl.Out[f32, B],
    BS: zl.Static = 16,
):
    b = zl.grid(B)
    total = zl.zeros((), f32)
    for pos in zl.tiles(length[b], BS):
        total = total + zl.sum(cache[table[b, pos // P], pos % P])
    y[b] = total


CACHE = np.arange(24, dtype=np.float32).reshape(6, 4)
TABLE = np.array([[5, 1], [0, 2]], np.int32)


def captured_with(lengths: list[int]) -> tuple[zl.Graph, zl.Tensor, zl.Tensor]:
    """A graph of one launch, its lengths and its result."""
    held = zl.tensor(np.array(lengths, np.int32))
    with zl.record() as graph:
        y = sum_of_tokens(CACHE, TABLE, held)
    return graph, held, y


def wrong() -> str:
    return refusal(lambda: captured_with([8, 2048]))  # a row of the table covers 2 · 4 tokens


def wrong_later() -> str:
    _, held, _ = captured_with([8, 0])
    return refusal(lambda: held.write(np.array([3, 9], np.int32)))


def right() -> None:
    graph, held, y = captured_with([8, 0])
    for lengths in ([8, 0], [3, 7]):
        held.write(np.array(lengths, np.int32))
        graph.replay()
        rows = CACHE[TABLE].reshape(2, 8)
        np.testing.assert_array_equal(y.numpy(), [row[:n].sum() for row, n in zip(rows, lengths, strict=True)])


if __name__ == "__main__":
    show(wrong, right)
