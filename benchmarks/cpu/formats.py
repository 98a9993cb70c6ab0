"""Speed of one matrix × vector product for every weight format, in GB/s of packed weights from memory.

    PYTHONPATH=src python benchmarks/cpu/formats.py [--threads 2] [--size 4096] [--target host] [--repeats 9]

Each round measures the read bandwidth (a kernel that sums f32, as much data) and then every format; a figure is the median of
its rounds, beside the median of its ratio to the bandwidth of the same round. Weights are copied until they exceed the
last cache.
"""

from __future__ import annotations

import argparse
import statistics
import time

import ml_dtypes
import numpy as np

import zellige as zl
from zellige import f32
from zellige.backends.cpu.compile import compile
from zellige.backends.cpu.pool import Pool, Recording
from zellige.ir.dtypes import ALL, BLOCKED
from zellige.kernels.linear import linear_vector

N, K = zl.dims("N K")
_PLAIN = {"f32": np.float32, "bf16": ml_dtypes.bfloat16, "f16": np.float16}


@zl.kernel
def row_sums(x: zl.In[f32, N, K], *, y: zl.Out[f32, N]):
    """The cheapest use of every element of an array."""
    n = zl.grid(N)
    y[n] = zl.sum(x[n, :])


def packed_weights(name: str, rows: int, columns: int) -> np.ndarray:
    """Random weights of an element type, as a kernel reads them."""
    rng = np.random.default_rng(0)
    layout = ALL[name].layout
    if layout is None:
        return (rng.standard_normal((rows, columns), dtype=np.float32) * 0.1).astype(_PLAIN[name])
    blocks = rng.integers(0, 256, (rows, columns // layout.elements, layout.bytes), dtype=np.uint8)
    for place in (layout.scale, layout.minimum):
        if place is not None:
            blocks[..., place : place + 2] = np.array([0.01], np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


class Product:
    """One recorded launch for each copy of the weights."""

    def __init__(self, name: str, size: int, room: int, target: str) -> None:
        one = packed_weights(name, size, size)
        self.copies = [one.copy() for _ in range(max(1, room // one.nbytes))]
        self.bytes = len(self.copies) * one.nbytes
        self._x, self._y = np.ones((1, size), np.float32), np.zeros((1, size), np.float32)
        kernel = compile(linear_vector.lower({"BN": 32}, {"W": ALL[name]}), {"K": size, "N": size}, target)
        self.recording = Recording()
        for w in self.copies:
            addresses = {"x": self._x.ctypes.data, "w": w.ctypes.data, "y": self._y.ctypes.data}
            self.recording.add(kernel.entry_address, kernel.pack(addresses, {"T": 1}), kernel.num_programs({"T": 1}))


def rate(pool: Pool, recording: Recording, nbytes: int) -> float:
    """GB/s of one replay."""
    start = time.perf_counter()
    pool.replay(recording)
    return nbytes / (time.perf_counter() - start) / 1e9


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--size", type=int, default=4096)
    options.add_argument("--target", default="host")
    options.add_argument("--repeats", type=int, default=9)
    options.add_argument("--room", type=int, default=768, help="MB of weights of each format")
    options.add_argument("--formats", nargs="*", default=[*_PLAIN, *(t.name for t in BLOCKED)])
    chosen = options.parse_args()
    pool = Pool(chosen.threads)
    room = chosen.room << 20
    x = np.ones((room // 4 // 4096, 4096), np.float32)
    y = np.zeros(len(x), np.float32)
    sums = compile(row_sums.lower({}, {}), {"K": 4096}, chosen.target)
    reading = Recording()
    dims = {"N": len(x)}
    reading.add(sums.entry_address, sums.pack({"x": x.ctypes.data, "y": y.ctypes.data}, dims), sums.num_programs(dims))
    print(f"{chosen.threads} threads, {chosen.size}×{chosen.size}, target {chosen.target}, {chosen.repeats} rounds")
    for name in chosen.formats:
        product = Product(name, chosen.size, room, chosen.target)
        rate(pool, reading, x.nbytes), rate(pool, product.recording, product.bytes)
        rounds = []
        for _ in range(chosen.repeats):
            rounds.append((rate(pool, reading, x.nbytes), rate(pool, product.recording, product.bytes)))
        read = statistics.median(r for r, _ in rounds)
        ours = statistics.median(o for _, o in rounds)
        ratios = sorted(o / r for r, o in rounds)
        weights = ours / (ALL[name].bits / 8 / ALL[name].block)
        print(
            f"{name:5} {ours:6.1f} GB/s  {weights:6.1f} G weights/s  read {read:6.1f} GB/s  "
            f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
            flush=True,
        )
    pool.close()


if __name__ == "__main__":
    main()
