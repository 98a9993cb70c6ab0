"""Kernels of experts for few tokens, each alone in a chain of dependent launches over different weights, µs."""

from __future__ import annotations

import table_step
import torch
from measure import microseconds


def main() -> None:
    """Prints, for each kernel, its schedules from the fastest on; then what ``combine_norm`` is held against."""
    table_step.main("experts_step")
    for tokens in (64, 512, 4096):
        moved = tokens * 2048 * (8 * 4 + 4 + 4 + 2)  # eight results a token and h are read, h and x are written
        source = torch.zeros(moved // 2, dtype=torch.uint8, device="cuda")
        target = torch.empty_like(source)
        us = microseconds({"copy": [lambda target=target, source=source: target.copy_(source)]}, least_calls=40)["copy"]
        print(
            f"a copy that moves the bytes of T{tokens} combine: {us:.2f} µs ({moved / us / 1e3:.0f} GB/s)", flush=True
        )


if __name__ == "__main__":
    main()
