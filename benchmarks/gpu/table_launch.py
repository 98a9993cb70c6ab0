"""Host time of one launch, µs: bare cuda-core, ours, Triton's launcher."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import triton
from cuda.core import launch
from handwritten import matvec
from measure import header, poisoned, random, stream, variants


def _host(call: Callable[[], object], count: int = 2000) -> float:
    best = float("inf")
    for _ in range(5):
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
    row = "1024x3072"
    found = variants("gemv")[row][0]
    x, w, y = random(3072), random(1024, 3072), poisoned(1024)
    arrays = {"x": x.data_ptr(), "w": w.data_ptr(), "y": y.data_ptr()}
    here = stream()
    prepared = found.kernel.prepare(here, arrays)
    assert prepared is not None
    config, kernel, arguments = prepared.config, found.kernel._kernel, prepared.arguments
    print(f"bare cuda-core launch      {_host(lambda: launch(here, config, kernel, *arguments)):6.2f}")
    print(f"ours, prepared             {_host(lambda: prepared(here)):6.2f}")
    print(f"ours, prepared every time  {_host(lambda: found.kernel.prepare(here, arrays)(here)):6.2f}")
    print(f"Triton's launcher          {_host(lambda: matvec[(triton.cdiv(1024, 2),)](x, w, y, 1024, 3072, 2, 1024, num_warps=4)):6.2f}")


if __name__ == "__main__":
    main()
