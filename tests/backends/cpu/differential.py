"""Runs a function on the CPU backend and on the reference interpreter and compares what they write."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from zellige.backends.cpu.compile import CompiledKernel, compile
from zellige.backends.cpu.pool import Pool
from zellige.backends.reference import run
from zellige.ir.ops import Function
from zellige.ir.types import Role
from zellige.ir.walk import results, walk

TARGETS = ["host", "avx512bf16", "avx512", "avx2", "generic"]
SIZES = [1, 2, 3, 31, 33, 100]


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Normally distributed f32 numbers."""
    return rng.standard_normal(shape).astype(np.float32)


@cache
def pool() -> Pool:
    return Pool(2)


def tile_dims(function: Function) -> set[str]:
    """Dims that tile shapes depend on: what must be fixed to compile."""
    found: set[str] = set()
    for op in walk(function.body):
        for value in results(op):
            for extent in value.type.shape:
                found |= extent.dims()
    return found


def run_cpu(
    function: Function,
    dims: Mapping[str, int],
    arrays: Mapping[str, np.ndarray],
    scalars: Mapping[str, Any],
    *,
    target: str = "host",
    fix_all: bool = False,
) -> CompiledKernel:
    """Runs on the CPU backend, writing outputs in place; `fix_all` fixes every dim, else only those of tile shapes.

    The arrays lie between bytes of 0xFF (a NaN, or −1): a lane that reads past an array shows in its result, and one
    that writes there is seen.
    """
    fixed = dict(dims) if fix_all else {k: v for k, v in dims.items() if k in tile_dims(function)}
    kernel = compile(function, fixed, target, cache=None)
    flag = np.zeros(1, np.int64)
    fenced = {name: Fenced(array) for name, array in arrays.items()}
    addresses = {name: fence.inside.ctypes.data for name, fence in fenced.items()}
    slots = kernel.pack(addresses, dims, scalars, flag=flag.ctypes.data)
    pool().launch(kernel.entry_address, slots, kernel.num_programs(dims))
    for name, fence in fenced.items():
        assert fence.intact(), f"{function.name} wrote outside {name}"
        arrays[name][...] = fence.inside
    return kernel


class Fenced:
    """A copy of an array with bytes of 0xFF on both sides."""

    MARGIN = 1024

    def __init__(self, array: np.ndarray) -> None:
        self._room = np.full(array.nbytes + 2 * self.MARGIN, 0xFF, np.uint8)
        middle = self._room[self.MARGIN : self.MARGIN + array.nbytes]
        self.inside = middle.view(array.dtype).reshape(array.shape)
        self.inside[...] = array

    def intact(self) -> bool:
        """Whether nothing around the array has changed."""
        return bool((self._room[: self.MARGIN] == 0xFF).all() and (self._room[-self.MARGIN :] == 0xFF).all())


def check(
    function: Function,
    dims: Mapping[str, int],
    arrays: Mapping[str, np.ndarray],
    scalars: Mapping[str, Any] | None = None,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-6,
    target: str = "host",
    fix_all: bool = False,
) -> None:
    """Asserts that both backends write the same, to a tolerance for floats."""
    ours = {k: v.copy() for k, v in arrays.items()}
    theirs = {k: v.copy() for k, v in arrays.items()}
    run_cpu(function, dims, ours, scalars or {}, target=target, fix_all=fix_all)
    run(function, dims, theirs, scalars or {})
    for param in function.arrays:
        a, b = ours[param.name], theirs[param.name]
        if param.role is Role.IN:
            assert a.tobytes() == b.tobytes(), f"{param.name} is only read"
        elif a.dtype.kind in "iub" or param.dtype.is_block:
            np.testing.assert_array_equal(a, b, err_msg=param.name)
        else:
            np.testing.assert_allclose(
                a.astype(np.float64),
                b.astype(np.float64),
                rtol=rtol,
                atol=atol,
                err_msg=f"{function.name}: {param.name}",
            )
