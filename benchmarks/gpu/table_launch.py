"""Host time of one launch of a tiny kernel, µs: bare cuda-core, ours, Triton's launcher.

``ours, a call`` is the public one, with all checks of arguments: layouts, ownership (nothing exclusive shares memory), what is
initialised, what the launch writes and which contracts hold afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import cycle
from statistics import median

import ml_dtypes
import numpy as np
import torch
import triton
import triton.language as tl
from cuda.core import LaunchConfig, launch
from measure import header, poisoned, random, saved, variants

import zellige as zl
from zellige import bf16
from zellige.kernels import gpu_elementwise
from zellige.runtime.cuda.executor import CudaExecutor


@triton.jit
def tiny(x, y, N, BN: tl.constexpr):
    i = tl.program_id(0) * BN + tl.arange(0, BN)
    tl.store(y + i, tl.load(x + i, mask=i < N), mask=i < N)


BARE = "bare cuda-core launch"
REPEATS = 10
"""Measurements of all ways, each with a figure of its own: hosts differ by more from one to the next than ways do."""


def _host(ways: dict[str, Callable[[], object]], rounds: int = 12, count: int = 200) -> dict[str, float]:
    """Of each way the least mean of ``count`` launches, µs; the ways take turns."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            torch.cuda.synchronize()
            started = time.perf_counter()
            for _ in range(count):
                way()
            best[name] = min(best[name], (time.perf_counter() - started) / count * 1e6)
    torch.cuda.synchronize()
    return best


def main() -> None:
    """Prints the table. All ways launch on one stream."""
    header("one launch on the host, µs")
    found = variants("launch")["copy"][0]
    executor = CudaExecutor.open()
    here, outer = executor.stream, torch.cuda.ExternalStream(int(executor.stream.handle))
    with torch.cuda.stream(outer), zl.using(executor):  # type: ignore[no-untyped-call]
        x, y = random(128), poisoned(128)
        arrays = {"x": x.data_ptr(), "y": y.data_ptr()}
        prepared = found.kernel.prepare(here, arrays)
        assert prepared is not None
        prepared(here)
        torch.cuda.synchronize()
        if not torch.equal(x, y):
            raise SystemExit("WRONG: the tiny copy did not copy")
        pairs = [
            (executor.tensor(np.full(128, i, ml_dtypes.bfloat16), bf16), executor.zeros((128,), bf16)) for i in range(4)
        ]
        call = gpu_elementwise.copy
        for a, b in pairs:
            call(a, y=b, BN=128)
        if not all(np.array_equal(b.numpy(), a.numpy()) for a, b in pairs):
            raise SystemExit("WRONG: a call of copy did not copy")
        config, kernel = LaunchConfig(grid=1, block=32), found.kernel._kernel
        plain = [x.data_ptr(), y.data_ptr(), 0, 0]
        (a, b), turns = pairs[0], cycle(pairs)

        def other_tensors() -> None:
            x, y = next(turns)
            call(x, y=y, BN=128)

        ways: dict[str, Callable[[], object]] = {
            BARE: lambda: launch(here, config, kernel, *plain),
            "ours, prepared": lambda: prepared(here),
            "ours, a call": lambda: call(a, y=b, BN=128),
            "ours, calls of other tensors": other_tensors,
            "ours, a call that allocates": lambda: call(a, BN=128),
            "ours, prepared every time": lambda: found.kernel.prepare(here, arrays)(here),
            "Triton's launcher": lambda: tiny[(1,)](x, y, 128, 128, num_warps=1),
        }
        times = [_host(ways) for _ in range(REPEATS)]
    print(f"{REPEATS} measurements in turns: median (least to most), µs; over bare cuda-core in the same one, likewise")
    for name in ways:
        us = sorted(t[name] for t in times)
        ratio = sorted(t[name] / t[BARE] for t in times)
        saved("launch", name, {"µs": median(us), "over bare": median(ratio), "least": ratio[0], "most": ratio[-1]})
        print(
            f"{name:>28} {median(us):6.2f} ({us[0]:.2f} to {us[-1]:.2f})  {median(ratio):.2f} ({ratio[0]:.2f} to {ratio[-1]:.2f}) ×"
        )


if __name__ == "__main__":
    main()
