"""Speed of the library's products on the CPU backend: GB/s of weights for vectors, GFLOP/s for matrices.

    PYTHONPATH=src python benchmarks/cpu/products.py [threads ...]

Weights are larger than the last cache, so the vector rows are to be read against the read bandwidth in the first row,
measured in the same run by a kernel that sums f32.
"""

from __future__ import annotations

import statistics
import sys
import time

import ml_dtypes
import numpy as np

import zellige as zl
from zellige import f32
from zellige.backends.cpu.compile import compile
from zellige.backends.cpu.pool import Pool, Recording
from zellige.kernels import linear

N, K = zl.dims("N K")
_DTYPES = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}
_BLOCK_BYTES = {"Q8_0": 34, "Q4_0": 18, "Q4_1": 20}


@zl.kernel
def row_sums(x: zl.In[f32, N, K], *, y: zl.Out[f32, N]):
    """The cheapest use of every element of an array."""
    n = zl.grid(N)
    y[n] = zl.sum(x[n, :])


def weights(name: str, n: int, k: int) -> np.ndarray:
    """Random weights [n, k] of an element type, as the kernel reads them."""
    rng = np.random.default_rng(0)
    if name in _DTYPES:
        return (rng.standard_normal((n, k), dtype=np.float32) * 0.1).astype(_DTYPES[name])
    blocks = rng.integers(0, 256, (n, k // 32, _BLOCK_BYTES[name]), dtype=np.uint8)
    blocks[..., :4] = np.array([0.01, 0.02], np.float16).view(np.uint8)  # scale (and minimum)
    return blocks.reshape(n, -1)


def seconds(pool: Pool, recording: Recording, repeats: int = 9) -> tuple[float, float]:
    """Median and spread of one replay."""
    pool.replay(recording)
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        pool.replay(recording)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken), (max(taken) - min(taken)) / statistics.median(taken)


def bandwidth(pool: Pool) -> None:
    n, k = 16384, 4096
    x, y = np.ones((n, k), np.float32), np.zeros(n, np.float32)
    kernel = compile(row_sums.lower({}, {}), {"K": k})
    recording = Recording()
    dims = {"N": n}
    recording.add(
        kernel.entry_address, kernel.pack({"x": x.ctypes.data, "y": y.ctypes.data}, dims), kernel.num_programs(dims)
    )
    taken, spread = seconds(pool, recording)
    print(f"{pool.threads} threads  read f32           {x.nbytes / taken / 1e9:7.1f} GB/s   spread {spread:.0%}")


def vector(pool: Pool, name: str, n: int, k: int) -> None:
    copies = max(1, (256 << 20) // weights(name, 32, k).nbytes * 32 // n)
    one = weights(name, n, k)
    every = [one.copy() for _ in range(copies)]
    x, y = np.ones((1, k), np.float32), np.zeros((1, n), np.float32)
    kernel = compile(linear.linear_vector.lower({"BN": 32}, {"W": getattr(zl, name)}), {"K": k, "N": n})
    recording = Recording()
    for w in every:
        addresses = {"x": x.ctypes.data, "w": w.ctypes.data, "y": y.ctypes.data}
        recording.add(kernel.entry_address, kernel.pack(addresses, {"T": 1}), kernel.num_programs({"T": 1}))
    taken, spread = seconds(pool, recording)
    rate = copies * one.nbytes / taken / 1e9
    print(f"{pool.threads} threads  vector {name:5} {n:6}x{k:<5} {rate:7.1f} GB/s   spread {spread:.0%}")


def matrix(pool: Pool, name: str, t: int, n: int, k: int) -> None:
    w, x, y = weights(name, n, k), np.ones((t, k), np.float32), np.zeros((t, n), np.float32)
    function = linear.linear_matrix.lower({"BM": 64, "BN": 64}, {"W": getattr(zl, name)})
    kernel = compile(function, {"K": k, "N": n})
    recording = Recording()
    addresses = {"x": x.ctypes.data, "w": w.ctypes.data, "y": y.ctypes.data}
    for _ in range(4):
        recording.add(kernel.entry_address, kernel.pack(addresses, {"T": t}), kernel.num_programs({"T": t}))
    taken, spread = seconds(pool, recording)
    print(
        f"{pool.threads} threads  matrix {name:5} {t}x{n}x{k:<5} {8 * t * n * k / taken / 1e9:7.1f} GFLOP/s   spread {spread:.0%}"
    )


def main() -> None:
    for threads in [int(a) for a in sys.argv[1:]] or [1, 2]:
        pool = Pool(threads)
        bandwidth(pool)
        for name in ("f32", "bf16", "f16", "Q8_0", "Q4_1"):
            vector(pool, name, 1536, 576)
        vector(pool, "Q4_1", 576, 1536)
        vector(pool, "Q8_0", 49152, 576)
        for name in ("f32", "bf16", "Q4_1", "Q8_0"):
            matrix(pool, name, 512, 1536, 576)
        matrix(pool, "Q4_1", 512, 576, 1536)
        pool.close()


if __name__ == "__main__":
    main()
