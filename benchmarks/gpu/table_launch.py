"""Host time of one launch of a tiny kernel, µs: bare cuda-core, ours, Triton's launcher."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import triton
import triton.language as tl
from cuda.core import LaunchConfig, launch
from measure import header, poisoned, random, stream, variants


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
    print(f"bare cuda-core launch      {_host(lambda: launch(here, config, kernel, *plain)):6.2f}")
    print(f"ours, prepared             {_host(lambda: prepared(here)):6.2f}")
    print(f"ours, prepared every time  {_host(lambda: found.kernel.prepare(here, arrays)(here)):6.2f}")
    print(f"Triton's launcher          {_host(lambda: tiny[(1,)](x, y, 128, 128, num_warps=1)):6.2f}")


if __name__ == "__main__":
    main()
