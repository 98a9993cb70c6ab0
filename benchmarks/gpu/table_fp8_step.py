"""Kernels with fp8 weights, each alone in a chain of dependent launches over different weights, µs."""

from __future__ import annotations

import table_step


def main() -> None:
    """Prints, for each kernel, its schedules from the fastest on."""
    table_step.main("fp8_step")


if __name__ == "__main__":
    main()
