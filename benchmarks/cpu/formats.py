"""Speed of one matrix × vector product for every weight format, in GB/s of packed weights from memory.

    PYTHONPATH=src python benchmarks/cpu/formats.py [--threads 2] [--size 4096] [--target host] [--repeats 9] [--peer PYTHON]

Each round measures the read bandwidth (a kernel that sums f32, as much data), then ours, then ggml's product over the same
weights with as many threads, if there is a peer (ggml rounds the vector to 8 bits, ours keeps f32). Figures are medians of
rounds; ratios are of one round, with their range. Weights are copied until they exceed the last cache.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import ml_dtypes
import numpy as np

import zellige as zl
from zellige import f32
from zellige.backends.cpu.compile import compile
from zellige.backends.cpu.pool import Pool, Recording
from zellige.ir.dtypes import ALL, BLOCKED
from zellige.kernels.linear import linear_vector

N, K = zl.dims("N K")
_LEAST = 4 << 20
"""Bytes that a round reads at least."""
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
        self.launches = max(len(self.copies), _LEAST // one.nbytes)
        self.bytes = self.launches * one.nbytes
        self._x, self._y = np.ones((1, size), np.float32), np.zeros((1, size), np.float32)
        kernel = compile(linear_vector.lower({"BN": 32}, {"W": ALL[name]}), {"K": size, "N": size}, target)
        self.recording = Recording()
        for i in range(self.launches):
            w = self.copies[i % len(self.copies)]
            addresses = {"x": self._x.ctypes.data, "w": w.ctypes.data, "y": self._y.ctypes.data}
            self.recording.add(kernel.entry_address, kernel.pack(addresses, {"T": 1}), kernel.num_programs({"T": 1}))


class Peer:
    """ggml in a process of its own, on the same packed weights."""

    def __init__(self, python: str) -> None:
        script = str(Path(__file__).with_name("formats_peer.py"))
        self._process = subprocess.Popen([python, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def prepare(self, name: str, product: Product, size: int, threads: int) -> None:
        """Takes over the weights of a product, and computes once."""
        from gguf.constants import GGMLQuantizationType

        kind = GGMLQuantizationType[name.upper() if name in _PLAIN else name].value
        with tempfile.NamedTemporaryFile(suffix=".npy") as file:
            np.save(file.name, product.copies[0].view(np.uint8))
            job = {"path": file.name, "type": kind, "size": size, "threads": threads}
            self._ask(json.dumps(job | {"copies": len(product.copies), "launches": product.launches}))

    def rate(self, nbytes: int) -> float:
        """GB/s of one round."""
        return nbytes / self._ask("") / 1e9

    def _ask(self, line: str) -> float:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


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
    options.add_argument(
        "--room", type=int, default=768, help="MB of weights of each format; 0: one matrix, which stays in the cache"
    )
    options.add_argument("--best", action="store_true", help="the best round instead of the median: on a busy machine")
    options.add_argument("--peer", help="Python that has llama-cpp-python")
    options.add_argument("--formats", nargs="*", default=[*_PLAIN, *(t.name for t in BLOCKED)])
    chosen = options.parse_args()
    pool = Pool(chosen.threads)
    room = chosen.room << 20
    x = np.ones((max(1 << 20, room) // 4 // 4096, 4096), np.float32)
    y = np.zeros(len(x), np.float32)
    sums = compile(row_sums.lower({}, {}), {"K": 4096}, chosen.target)
    reading, dims = Recording(), {"N": len(x)}
    for _ in range(max(1, _LEAST // x.nbytes)):
        words = sums.pack({"x": x.ctypes.data, "y": y.ctypes.data}, dims)
        reading.add(sums.entry_address, words, sums.num_programs(dims))
    read_bytes = x.nbytes * len(reading)
    print(f"{chosen.threads} threads, {chosen.size}×{chosen.size}, target {chosen.target}, {chosen.repeats} rounds")
    peer = Peer(chosen.peer) if chosen.peer else None
    for name in chosen.formats:
        product = Product(name, chosen.size, room, chosen.target)
        if peer is not None:
            peer.prepare(name, product, chosen.size, chosen.threads)
        rounds = [
            (
                rate(pool, reading, read_bytes),
                rate(pool, product.recording, product.bytes),
                peer.rate(product.bytes) if peer is not None else float("nan"),
            )
            for _ in range(chosen.repeats + 1)
        ][1:]
        middle = max if chosen.best else statistics.median
        read, ours, theirs = (middle(column) for column in zip(*rounds, strict=True))
        print(
            f"{name:5} {ours:5.1f} GB/s = {ours / (ALL[name].bits / 8 / ALL[name].block):4.1f} G weights/s   "
            f"of reading ({read:.1f}): {ours / read:.2f}, by round {spread(o / r for r, o, _ in rounds)}   "
            f"of ggml ({theirs:.1f}): {ours / theirs:.2f}, by round {spread(o / t for _, o, t in rounds)}",
            flush=True,
        )
    pool.close()
    if peer is not None:
        peer.close()


def spread(ratios: Iterable[float]) -> str:
    """Median and range."""
    found = sorted(ratios)
    return f"{statistics.median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})"


if __name__ == "__main__":
    main()
