"""Our side of peers.py: each case as a recorded graph of verified kernels."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
from products import weights

import zellige as zl
from zellige import bf16, f32
from zellige.ir.types import ContractKind
from zellige.kernels.attention import attention_prefill
from zellige.kernels.linear import linear_vector, silu
from zellige.kernels.norm import rms_norm
from zellige.runtime.contracts import Fact
from zellige.runtime.graph import Graph, record
from zellige.runtime.tensor import Tensor, borrow, tensor, zeros

M, N, K, T, D = zl.dims("M N K T D")


@zl.kernel
def product(
    x: zl.In[bf16, M, K], w: zl.In[bf16, N, K], *, y: zl.Out[bf16, M, N], BM: zl.Static = 128, BN: zl.Static = 64
):
    """y = x·wᵀ. x bf16 [M, K]; w bf16 [N, K]; y bf16 [M, N]. A panel of w is packed once for all rows."""
    cols, rows = zl.grid(N.tiles(BN), M.tiles(BM))
    y[rows, cols] = zl.dot(x[rows, :], w[cols, :].T).to(bf16)


@zl.kernel
def matmul(a: zl.In[f32, M, K], b: zl.In[f32, K, N], *, c: zl.Out[f32, M, N], BM: zl.Static = 96, BN: zl.Static = 64):
    """c = a·b, f32. The columns come first in the grid: a panel of b is packed once for all rows."""
    cols, rows = zl.grid(N.tiles(BN), M.tiles(BM))
    c[rows, cols] = zl.dot(a[rows, :], b[:, cols])


@zl.kernel
def row_sums(x: zl.In[f32, N, K], *, y: zl.Out[f32, N]):
    """The cheapest use of every element of an array."""
    n = zl.grid(N)
    y[n] = zl.sum(x[n, :])


@zl.kernel
def copied(x: zl.In[f32, T, D], *, y: zl.Out[f32, T, D]):
    """y = x."""
    t = zl.grid(T)
    y[t, :] = x[t, :]


@zl.kernel
def softmax(x: zl.In[f32, T, D], *, y: zl.Out[f32, T, D]):
    """Soft-max of each row."""
    zl.requires(D >= 1)
    t = zl.grid(T)
    row = x[t, :]
    raised = zl.exp(row - zl.max(row))
    y[t, :] = raised * (1.0 / zl.sum(raised))


@zl.kernel
def swiglu(a: zl.In[f32, T, D], b: zl.In[f32, T, D], *, y: zl.Out[f32, T, D]):
    """y = silu(a)·b."""
    t = zl.grid(T)
    y[t, :] = silu(a[t, :]) * b[t, :]


@zl.kernel
def nothing(*, y: zl.Out[f32, N], B: zl.Static = 16):
    """One program that writes a line of memory."""
    n = zl.grid(N.tiles(B))
    y[n] = zl.zeros((B,), f32)


def normal(*shape: int) -> np.ndarray:
    """Random f32 numbers. As tensors they begin on a cache line, as PyTorch's do; NumPy's arrays may not."""
    return np.random.default_rng(len(shape)).standard_normal(shape, dtype=np.float32)


def recorded(*calls: Callable[[], object]) -> Graph:
    """The calls' launches."""
    with record() as graph:
        for call in calls:
            call()
    return graph


def make(name: str, rows: int, width: int, big: int) -> tuple[Callable[[], object], int]:
    """A case's call, and how many times it does the case's work."""
    graph, times = _graph(name, rows, width, big)
    return graph.replay, times


def _graph(name: str, rows: int, width: int, big: int) -> tuple[Graph, int]:
    kind, _, rest = name.partition("_")
    if name.startswith("gemm_bf16"):
        sizes = [int(s) for s in name.removeprefix("gemm_bf16_").split("x")]
        m, n, k = sizes * 3 if len(sizes) == 1 else sizes
        x, w = (tensor(normal(rows, k).astype(ml_dtypes.bfloat16)) for rows in (m, n))
        y = zeros((m, n), bf16)
        panel = (1 << 18) // k  # columns whose part of w is half a megabyte, a quarter of the second cache
        return recorded(lambda: product(x, w, y=y, BM=64, BN=panel)), 1
    if name == "gemm_f32_1024":
        a, b, c = tensor(normal(1024, 1024)), tensor(normal(1024, 1024)), zeros((1024, 1024), f32)
        return recorded(lambda: matmul(a, b, c=c)), 1
    if name == "read":
        x = tensor(np.ones((big // 16384, 4096), np.float32))
        return recorded(lambda: row_sums(x)), 1
    if kind == "gemv":
        n, k = 4096, 4096
        one = weights(rest, n, k)
        count = max(1, big // one.nbytes)
        dtype = getattr(zl, rest)
        every = [tensor(one, dtype, (n, k)) if dtype.is_block else tensor(one) for _ in range(count)]
        x, y = tensor(normal(1, k)), zeros((1, n), f32)
        graph = recorded(*[lambda w=w: linear_vector(x, w, y=y) for w in every])
        return graph, count * one.nbytes / big  # type: ignore[return-value]
    if kind == "attention":
        return _attention(int(rest)), 1
    if name == "launch":
        y = borrow(np.zeros(16, np.float32))
        return recorded(*[lambda: nothing(y=y)] * 1000), 1000
    x, z, y = tensor(normal(rows, width)), tensor(normal(rows, width)), zeros((rows, width), f32)
    calls: dict[str, Callable[[], object]] = {
        "copy": lambda: copied(x, y=y),
        "rms_norm": lambda: rms_norm(x, np.ones(width, np.float32), 1e-5, y=y),
        "softmax": lambda: softmax(x, y=y),
        "swiglu": lambda: swiglu(x, z, y=y),
    }
    return recorded(calls[name]), 1


def _attention(tokens: int) -> Graph:
    """Causal attention of 9 heads of 64 over as many keys and values, in a paged cache of f16."""
    heads, size, page = 9, 64, 16
    pages = tokens // page
    table: Tensor = zeros((pages,), zl.i32)
    table.write(np.arange(pages, dtype=np.int32))
    table.learn(Fact(ContractKind.INDEX, pages))
    keys, values = (normal(pages, page, heads, size).astype(np.float16) for _ in range(2))
    q, out = normal(tokens, heads, 1, size), borrow(np.zeros((tokens, heads, 1, size), np.float32))
    return recorded(lambda: attention_prefill(q, keys, values, table, 0, size**-0.5, out=out))
