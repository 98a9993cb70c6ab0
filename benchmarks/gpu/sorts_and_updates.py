"""Sorts, updates of ``Acc`` arrays and fused products on a GPU, element type by element type, to the last bit.

    python benchmarks/gpu/sorts_and_updates.py                   on a machine with a GPU (half a minute)
    python benchmarks/gpu/sorts_and_updates.py --compile-only    fills the kernel cache on a machine without one

Sorts see ties, both zeros, infinities, NaNs and the ends of a type, in tiles that are no power of two; updates see many lanes of
one tile at one element, lanes that are inactive, and many programs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

import zellige as zl
from zellige.backends.reference import arithmetic
from zellige.ir import dtypes
from zellige.runtime.cuda.executor import CudaExecutor

Array = np.ndarray[Any, Any]
M, N, K = zl.dims("M N K")
T = zl.dtypes(
    "T", zl.i8, zl.i16, zl.i32, zl.i64, zl.u8, zl.u16, zl.u32, zl.u64, zl.f8e4m3, zl.f8e5m2, zl.f16, zl.bf16, zl.f32, zl.f64
)  # fmt: skip
SORTED = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f16", "bf16", "f32", "f64")
UPDATED = ("i8", "u8", "f8e4m3", "f8e5m2", "i16", "u16", "i32", "u64", "f16", "bf16", "f32")


@zl.kernel
def ordered(x: zl.In[T, M, N], *, y: zl.Out[T, M, N], at: zl.Out[zl.Index[N], M, N], down: zl.Static = False):
    m = zl.grid(M)
    values, positions = zl.sort(x[m, :], descending=down)
    y[m, :] = values
    at[m, :] = positions


@zl.kernel
def ordered_rows(x: zl.In[T, M, N], *, y: zl.Out[T, M, N], at: zl.Out[zl.Index[N], M, N], BM: zl.Static = 4):
    m = zl.grid(M.tiles(BM))
    values, positions = zl.sort(x[m, :])
    y[m, :] = values
    at[m, :] = positions


@zl.kernel
def scattered(
    x: zl.In[T, M], bin: zl.In[zl.Index[K], M], *, total: zl.Acc[T, K], most: zl.Acc[T, K], least: zl.Acc[T, K],
    B: zl.Static = 128,
):  # fmt: skip
    i = zl.grid(M.tiles(B))
    total.add(bin[i], x[i])
    most.max(bin[i], x[i])
    least.min(bin[i], x[i])


@zl.kernel
def one_by_one(x: zl.In[T, M], *, total: zl.Acc[T, K], most: zl.Acc[T, K]):
    i = zl.grid(M)
    zl.requires(K > 0)
    total.add(i % K, x[i])
    most.max(i % K, x[i])


@zl.kernel
def bits(x: zl.In[T, M], *, all: zl.Acc[T, K], some: zl.Acc[T, K], B: zl.Static = 256):
    i = zl.grid(M.tiles(B))
    zl.requires(K > 0)
    all.and_(i % K, x[i])
    some.or_(zl.only(i % K, x[i] > 2), x[i])


@zl.kernel
def fused(x: zl.In[T, M], y: zl.In[T, M], z: zl.In[T, M], *, a: zl.Out[T, M], B: zl.Static = 256):
    i = zl.grid(M.tiles(B))
    a[i] = zl.fma(x[i], y[i], z[i])


@zl.kernel
def flags(x: zl.In[zl.bool_, M], *, all: zl.Acc[zl.bool_, K], some: zl.Acc[zl.bool_, K], B: zl.Static = 256):
    i = zl.grid(M.tiles(B))
    zl.requires(K > 0)
    all.and_(i % K, x[i])
    some.or_(i % K, x[i])


@zl.kernel
def beside(x: zl.In[T, M], *, y: zl.Acc[T, 2 * M + 1]):
    """Two programs add to each element at about the same time as others add to its neighbours."""
    i = zl.grid(2 * M)
    y.add(i + 1, x[i // 2])
    y.add(i, x[i // 2])


def numbers(name: str, shape: tuple[int, ...], rng: np.random.Generator, *, small: bool = False) -> Array:
    """Random numbers with ties; not ``small``: of the whole range, with what is special."""
    dtype = arithmetic.NUMPY[getattr(dtypes, name)]
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        low, high = (0, 10) if small else (int(info.min), int(info.max))
        drawn = rng.integers(low, high, shape, dtype, endpoint=True)
        few = np.array([low, high, low + 1, 0, 1], dtype)
    else:
        drawn = (
            rng.integers(-8, 9, shape) if small else rng.standard_normal(shape) * 2.0 ** rng.integers(-9, 9, shape)
        ).astype(dtype)
        few = np.array([1.0, -1.0] if small else [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1.0, -1.0], dtype)
    return np.where(rng.random(shape) < 0.4, rng.choice(few, shape), drawn).astype(dtype)


def cases(rng: np.random.Generator) -> Iterator[tuple[str, Any, tuple[Array, ...], dict[str, Any], tuple[Array, ...]]]:
    """Name, kernel, arguments, outputs and statics by name, what the outputs must be."""
    for name in SORTED:
        for length in (1, 2, 7, 16, 100, 1000):
            x = numbers(name, (5, length), rng)
            for down in (False, True):
                yield f"sort {name} {length} {down}", ordered, (x,), {"down": down}, arithmetic.sort(x, down)
        x = numbers(name, (7, 33), rng)
        yield f"sort {name} rows", ordered_rows, (x,), {}, arithmetic.sort(x, False)
    for name in UPDATED:
        dtype = arithmetic.NUMPY[getattr(dtypes, name)]
        for count, bins in ((0, 3), (1, 1), (5, 3), (1000, 7), (1000, 1), (3001, 300)):
            x, at = numbers(name, (count,), rng, small=True), rng.integers(0, bins, count).astype(np.int32)
            wide, most, least = (np.full(bins, v, np.float64) for v in (0, -16 if dtype.kind != "u" else 0, 16))
            start = {"total": wide.astype(dtype), "most": most.astype(dtype), "least": least.astype(dtype)}
            # sums of narrow floats round in any order
            exact = dtype.kind in "iu" or name == "f32" or count <= (1 if name.startswith("f8") else 5)
            np.add.at(wide, at, x.astype(np.float64))
            wide = wrapped(wide, dtype)
            np.maximum.at(most, at, x.astype(np.float64))
            np.minimum.at(least, at, x.astype(np.float64))
            wanted = (wide if exact else None, most, least)
            yield f"scatter {name} {count} {bins}", scattered, (x, at), start, wanted  # type: ignore[misc]
            one, top = np.zeros(bins), np.full(bins, most.min() if count == 0 else -16.0 if dtype.kind != "u" else 0.0)
            np.add.at(one, np.arange(count) % bins, x.astype(np.float64))
            one = wrapped(one, dtype)
            np.maximum.at(top, np.arange(count) % bins, x.astype(np.float64))
            first = {
                "total": np.zeros(bins, dtype),
                "most": np.full(bins, -16 if dtype.kind != "u" else 0).astype(dtype),
            }
            yield f"scalars {name} {count} {bins}", one_by_one, (x,), first, (one if exact else None, top)  # type: ignore[misc]
            y = numbers(name, (count,), rng)
            with np.errstate(all="ignore"):
                sums = np.append(np.repeat(y, 2), y.dtype.type(0)) + np.append(y.dtype.type(0), np.repeat(y, 2))
            yield f"beside {name} {count}", beside, (y,), {"y": np.zeros(2 * count + 1, dtype)}, (sums,)
            if dtype.kind in "iu":
                y = numbers(name, (count,), rng)
                both, any_ = (
                    np.full(bins, -1 if dtype.kind == "i" else np.iinfo(dtype).max, dtype),
                    np.zeros(bins, dtype),
                )
                fresh = {"all": both.copy(), "some": any_.copy()}
                np.bitwise_and.at(both, np.arange(count) % bins, y)
                np.bitwise_or.at(any_, (np.arange(count) % bins)[y > 2], y[y > 2])
                yield f"bits {name} {count} {bins}", bits, (y,), fresh, (both, any_)
    for count, bins in ((1, 1), (1000, 7), (3001, 301)):
        x = rng.random(count) < 0.5
        both, any_ = np.ones(bins, np.bool_), np.zeros(bins, np.bool_)
        fresh = {"all": both.copy(), "some": any_.copy()}
        np.logical_and.at(both, np.arange(count) % bins, x)
        np.logical_or.at(any_, np.arange(count) % bins, x)
        yield f"flags {count} {bins}", flags, (x,), fresh, (both, any_)
    for name in ("f16", "bf16", "f32", "f64"):
        x, y, z = (numbers(name, (3000,), rng) for _ in range(3))
        with np.errstate(all="ignore"):
            z[:1500] = -(x * y)[:1500]
            wide = [v if name == "f64" else v.astype(np.float32) for v in (x, y, z)]
            result = arithmetic.rounded(arithmetic.fma(*wide), getattr(dtypes, name))
        yield f"fma {name}", fused, (x, y, z), {}, (result,)


def wrapped(sums: Array, dtype: Any) -> Array:
    """Sums as an integer type wraps them; of floats as they are."""
    return sums.astype(np.int64).astype(dtype) if dtype.kind in "iu" else sums


def same(found: Array, wanted: Array | None) -> bool:
    """Whether all elements are equal, or both NaN."""
    if wanted is None:
        return True
    a, b = (v.astype(np.float64) if v.dtype.kind not in "iu" else v for v in (found, wanted))
    return bool(np.all((a == b) | ((a != a) & (b != b))))


def main() -> int:
    """The number of cases that differ."""
    only = "--compile-only" in sys.argv
    executor = CudaExecutor(None, "sm_90") if only else CudaExecutor.open()
    rng, wrong, count = np.random.default_rng(0), 0, 0
    with zl.using(executor):
        for name, kernel, arguments, keywords, wanted in cases(rng):
            given = {
                k: executor.tensor(v, dtype_of(v)) if isinstance(v, np.ndarray) else v for k, v in keywords.items()
            }
            try:
                out = kernel(*arguments, **given)
                tensors = [v for v in given.values() if isinstance(v, zl.Tensor)] or (
                    list(out) if isinstance(out, tuple) else [out]
                )
                count += 1
                if not only and not all(same(t.numpy(), w) for t, w in zip(tensors, wanted, strict=True)):
                    wrong += 1
                    print(f"{name} differs: {[t.numpy().ravel()[:8].tolist() for t in tensors]}", flush=True)
            except Exception as error:
                wrong += 1
                print(f"{name}: {type(error).__name__} {str(error)[:300]}", flush=True)
    print(f"{count} cases {'compile' if only else 'run'}, {wrong} wrong")
    return wrong


def dtype_of(array: Array) -> dtypes.DType:
    """The element type of an array."""
    return next(dtype for dtype, numpy in arithmetic.NUMPY.items() if numpy == array.dtype)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
