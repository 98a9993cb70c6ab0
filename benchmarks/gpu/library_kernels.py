"""Which kernels cuBLAS runs for a product: their names tell tile, cluster and how the depth is cut.

python benchmarks/gpu/library_kernels.py 512x2560x4096 …          M×N×K; bf16
"""

from __future__ import annotations

import sys

import torch
from torch.profiler import ProfilerActivity, profile


def main() -> None:
    """Prints a line for each launch of each product."""
    for shape in sys.argv[1:]:
        m, n, k = map(int, shape.split("x"))
        x, w = (torch.randn(rows, k, device="cuda").bfloat16() for rows in (m, n))
        torch.mm(x, w.t())
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as seen:
            torch.mm(x, w.t())
            torch.cuda.synchronize()
        for event in seen.events():
            if event.device_type == torch.autograd.DeviceType.CUDA:
                print(f"{shape:>18} {event.name[:150]} {event.device_time_total:.1f} µs", flush=True)


if __name__ == "__main__":
    main()
