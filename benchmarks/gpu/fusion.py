"""Feed-forward blocks of Qwen3-0.6B in plain kernels, as the compiler fuses them, and as written by hand, in one run on a GPU.

    python benchmarks/gpu/fusion.py --compile-only      anywhere: proves and compiles for sm_90 (fills the cache)
    python benchmarks/gpu/fusion.py                     on the GPU

Each form is one recorded graph of 28 blocks: norm, gate and up, SwiGLU, down, residual; weights are random. Times are medians of
replays in turns. The fused graph must agree with the plain one to the rounding of one product and sum.
"""

from __future__ import annotations

import argparse
import time

import ml_dtypes
import numpy as np

import zellige as zl
from zellige import bf16, f32
from zellige.kernels.batch import linear_rows, linear_rows_add, norm_rows, swiglu_rows
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.fusion_search import table

T, N = zl.dims("T N")
LAYERS, WIDTH, INNER = 28, 1024, 3072


@zl.kernel
def gated(
    gate: zl.In[f32, T, N], up: zl.In[f32, T, N], *, y: zl.Out[bf16, T, N], BR: zl.Static = 4, BC: zl.Static = 512
):
    """y = silu(gate) · up."""
    rows, cols = zl.grid(T.tiles(BR), N.tiles(BC))
    a = gate[rows, cols]
    y[rows, cols] = (a * zl.sigmoid(a) * up[rows, cols]).to(bf16)


@zl.kernel
def added(x: zl.In[f32, T, N], *, h: zl.Mut[f32, T, N], BR: zl.Static = 4, BC: zl.Static = 512):
    """h += x."""
    rows, cols = zl.grid(T.tiles(BR), N.tiles(BC))
    h[rows, cols] = h[rows, cols] + x[rows, cols]


def weights_of(executor: CudaExecutor) -> list[tuple[zl.Tensor, ...]]:
    """Norm, gate, up and down of each block."""
    rng = np.random.default_rng(0)

    def matrix(*shape: int) -> zl.Tensor:
        if executor.device is None:
            return executor.zeros(shape, bf16)
        return executor.tensor((rng.standard_normal(shape, np.float32) / 32).astype(ml_dtypes.bfloat16), bf16)

    shapes = ((WIDTH,), (INNER, WIDTH), (INNER, WIDTH), (WIDTH, INNER))
    return [tuple(matrix(*shape) for shape in shapes) for _ in range(LAYERS)]


class Blocks:
    """All blocks, with their buffers."""

    def __init__(self, executor: CudaExecutor, weights: list[tuple[zl.Tensor, ...]], tokens: int) -> None:
        self.weights = weights
        self.start = np.random.default_rng(1).standard_normal((tokens, WIDTH), np.float32)
        self.h = executor.tensor(self.start, f32)
        self.x = executor.empty((tokens, WIDTH), bf16)
        self.gate, self.up = (executor.empty((tokens, INNER), f32) for _ in range(2))
        self.y = executor.empty((tokens, INNER), bf16)
        self.d = executor.empty((tokens, WIDTH), f32)
        self.tile = {"BM": 64 if tokens <= 128 else 128, "BN": 64 if tokens <= 128 else 128, "BK": 64}

    def plain(self) -> zl.Graph:
        with zl.record() as graph:
            for g, gate, up, down in self.weights:
                norm_rows(self.h, g, 1e-6, x=self.x)
                linear_rows(self.x, gate, y=self.gate, **self.tile)
                linear_rows(self.x, up, y=self.up, **self.tile)
                gated(self.gate, self.up, y=self.y)
                linear_rows(self.y, down, y=self.d, **self.tile)
                added(self.d, h=self.h)
        return graph

    def by_hand(self) -> zl.Graph:
        with zl.record() as graph:
            for g, gate, up, down in self.weights:
                norm_rows(self.h, g, 1e-6, x=self.x)
                swiglu_rows(self.x, gate, up, y=self.y, **self.tile)
                linear_rows_add(self.y, down, h=self.h, **self.tile)
        return graph


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compile-only", action="store_true")
    parser.add_argument("--schedules", default="NVIDIA H200")
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 512, 2048])
    chosen = parser.parse_args()
    executor = CudaExecutor(None, "sm_90", schedules=chosen.schedules) if chosen.compile_only else CudaExecutor.open()
    weights = weights_of(executor)
    for tokens in chosen.tokens:
        with zl.using(executor):
            blocks = Blocks(executor, weights, tokens)
            plain = blocks.plain()
            temporaries = [blocks.x, blocks.gate, blocks.up, blocks.y, blocks.d]
            fused = plain.fused(temporaries, lambda p: p.bytes_again == 0)
            graphs = {"plain": plain, "fused": fused, "by hand": blocks.by_hand()}
            print(f"{tokens} tokens:", {name: len(graph) for name, graph in graphs.items()}, flush=True)
            if chosen.compile_only:
                print(table(plain.fusions(temporaries, lambda p: p.bytes_again == 0)))
                continue
            results, times = {}, {name: [] for name in graphs}
            for name, graph in graphs.items():
                blocks.h.write(blocks.start)
                graph.replay()
                results[name] = blocks.h.numpy().copy()
            for _ in range(30):
                for name, graph in graphs.items():
                    blocks.h.write(blocks.start)
                    executor.synchronise()
                    begun = time.perf_counter()
                    graph.replay()
                    executor.synchronise()
                    times[name].append(time.perf_counter() - begun)
        for name in graphs:
            error = np.linalg.norm(results[name] - results["plain"]) / np.linalg.norm(results["plain"])
            print(
                f"  {name:8} {len(graphs[name]):4} launches {np.median(times[name]) * 1e3:8.3f} ms "
                f"{np.median(np.divide(times[name], times['plain'])):.3f} of plain; relative difference {error:.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
