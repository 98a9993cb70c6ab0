"""Compares the CPU backend with the interpreter on kernels that the verifier accepts."""

from __future__ import annotations

import numpy as np

from tests.backends.cpu.differential import run_cpu
from tests.fuzz.arguments import Arguments
from zellige.backends.reference import LaunchRefused, run
from zellige.ir.ops import Function


def disagreement(function: Function, given: Arguments, order_seed: int, *, rtol: float = 0.0) -> str | None:
    """What the backends write differently for these arguments (which are left alone), or None."""
    expected, found = given.copy(), given.copy()
    try:
        run(function, expected.dims, expected.arrays, expected.scalars, order_seed=order_seed, check=False)
    except LaunchRefused:
        return None
    for param in function.arrays:
        if param.init is not None:
            found.arrays[param.name][...] = param.init
    run_cpu(function, found.dims, found.arrays, found.scalars)
    for param in function.arrays:
        a, b = expected.arrays[param.name], found.arrays[param.name]
        same = np.array_equal(a, b, equal_nan=a.dtype.kind not in "iub")
        if rtol and not same and a.dtype.kind not in "iub":
            same = np.allclose(b.astype(np.float64), a.astype(np.float64), rtol=rtol, atol=rtol, equal_nan=True)
        if not same:
            return f"{param.name} for dims {given.dims}:\ninterpreter {a.tolist()}\ncpu         {b.tolist()}"
    return None
