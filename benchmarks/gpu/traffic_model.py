"""What a persistent matrix product moves to and from device memory, by a model: tiles in step, a cache that drops the oldest.

    python benchmarks/gpu/traffic_model.py 4096 8192

Each of ``programs`` blocks computes tiles of ROWS × COLUMNS one after the other, all at the same pace, DEPTH of the inner axis a step.
Operands are read in blocks of one step through a cache of CACHE bytes that drops what was used longest ago; a finished tile is
written into it. ``traffic.py`` measures the same (docs/performance/gpu.md compares them).
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Hashable

ROWS, COLUMNS, DEPTH = 128, 256, 64
CACHE = 34 << 20
"""Two thirds of the 50 MB of an H200's L2: what fits the measurements."""
LEFT = 8_000_000
"""Bytes of results that are still in the cache at the end, and are not counted."""


class Cache:
    """Blocks by when they were used last."""

    def __init__(self) -> None:
        self.blocks: OrderedDict[Hashable, int] = OrderedDict()
        self.room = CACHE

    def holds(self, block: Hashable) -> bool:
        """Whether a block is there; it is used then."""
        if block not in self.blocks:
            return False
        self.blocks.move_to_end(block)
        return True

    def take(self, block: Hashable, size: int) -> None:
        """Puts a block in, and the oldest out until there is room."""
        self.blocks[block] = size
        self.room -= size
        while self.room < 0:
            self.room += self.blocks.popitem(last=False)[1]


def tiles(n: int, band: int, *, turning: bool) -> list[tuple[int, int]]:
    """Row and column of each tile in the order in which they are given out; ``turning``: every second band runs backwards."""
    order = []
    for start in range(0, n // ROWS, band):
        columns = list(range(n // COLUMNS))
        if turning and start // band % 2:
            columns.reverse()
        order += [(row, column) for column in columns for row in range(start, min(start + band, n // ROWS))]
    return order


def moved(n: int, band: int, programs: int, *, turning: bool = False, returning: bool = False) -> float:
    """Bytes moved by a product of n × n matrices in 2-byte numbers, over the fewest; ``returning``: every second tile of a program
    goes through the inner axis backwards."""
    order, steps, cache = tiles(n, band, turning=turning), n // DEPTH, Cache()
    total = 2 * n * n - LEFT
    for first in range(0, len(order), programs):
        backwards = returning and first // programs % 2
        for step in range(steps):
            k = steps - 1 - step if backwards else step
            for row, column in order[first : first + programs]:
                for block, size in ((("a", row, k), 2 * ROWS * DEPTH), (("b", column, k), 2 * COLUMNS * DEPTH)):
                    if not cache.holds(block):
                        cache.take(block, size)
                        total += size
        for tile in order[first : first + programs]:
            cache.take(tile, 2 * ROWS * COLUMNS)
    return total / (6 * n * n)


def main() -> None:
    """Prints a line for each size and way."""
    for n in map(int, sys.argv[1:] or ("4096", "8192")):
        for what, programs, ways in (
            ("132 programs", 132, {}),
            ("132, bands turning", 132, {"turning": True}),
            ("128 programs", 128, {}),
            ("128, bands turning, depth returning", 128, {"turning": True, "returning": True}),
        ):
            found = ", ".join(f"{band}: {moved(n, band, programs, **ways):.2f}" for band in (8, 11, 16, 22, 32))
            print(f"{n}³ {what:>36}  bands of {found}", flush=True)


if __name__ == "__main__":
    main()
