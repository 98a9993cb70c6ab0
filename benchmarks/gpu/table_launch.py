"""Host time of one launch of a tiny kernel, µs: bare cuda-core, ours, Triton's launcher.

``ours, a call`` is the public one, with all checks of arguments: layouts, ownership (nothing exclusive shares memory), what is
initialised, what the launch writes and which contracts hold afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable

import ml_dtypes
import numpy as np
import torch
import triton
import triton.language as tl
from cuda.core import LaunchConfig, launch
from measure import header, poisoned, random, saved, stream, variants

import zellige as zl
from zellige import bf16
from zellige.kernels import gpu_elementwise
from zellige.runtime.cuda.executor import CudaExecutor


@triton.jit
def tiny(x, y, N, BN: tl.constexpr):
    i = tl.program_id(0) * BN + tl.arange(0, BN)
    tl.store(y + i, tl.load(x + i, mask=i < N), mask=i < N)


def _host(call: Callable[[], object], count: int = 400) -> float:
    best = float("inf")
    for _ in range(20):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(count):
            call()
        best = min(best, (time.perf_counter() - started) / count * 1e6)
    torch.cuda.synchronize()
    return best


def main() -> None:
    """Prints the table."""
    header("one launch on the host, µs")
    found = variants("launch")["copy"][0]
    x, y = random(128), poisoned(128)
    arrays = {"x": x.data_ptr(), "y": y.data_ptr()}
    here = stream()
    prepared = found.kernel.prepare(here, arrays)
    assert prepared is not None
    prepared(here)
    torch.cuda.synchronize()
    if not torch.equal(x, y):
        raise SystemExit("WRONG: the tiny copy did not copy")
    config, kernel = LaunchConfig(grid=1, block=32), found.kernel._kernel
    plain = [x.data_ptr(), y.data_ptr(), 0, 0]
    ways: dict[str, Callable[[], object]] = {
        "bare cuda-core launch": lambda: launch(here, config, kernel, *plain),
        "ours, prepared": lambda: prepared(here),
        "ours, prepared every time": lambda: found.kernel.prepare(here, arrays)(here),
        "Triton's launcher": lambda: tiny[(1,)](x, y, 128, 128, num_warps=1),
    }
    executor = CudaExecutor.open()
    with zl.using(executor):
        a, b = executor.tensor(np.ones(128, ml_dtypes.bfloat16), bf16), executor.zeros((128,), bf16)
        call = gpu_elementwise.copy
        call(a, y=b, BN=128)
        if not np.array_equal(b.numpy(), a.numpy()):
            raise SystemExit("WRONG: a call of copy did not copy")
        ways["ours, a call"] = lambda: call(a, y=b, BN=128)
        ways["ours, a call that allocates"] = lambda: call(a, BN=128)
        times = {name: min(_host(way) for _ in range(3)) for name, way in ways.items()}
    saved("launch", "µs", times)
    for name, us in times.items():
        print(f"{name:>28} {us:6.2f}  {us / times['bare cuda-core launch']:.2f} ×")


if __name__ == "__main__":
    main()
