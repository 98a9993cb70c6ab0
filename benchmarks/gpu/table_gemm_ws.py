"""``table_gemm`` for warp-specialised schedules, which are newer than the rest: a table of its own, so that a hang costs no more."""

from __future__ import annotations

import table_gemm


def main() -> None:
    """Prints the table."""
    table_gemm.main("gemm_ws")


if __name__ == "__main__":
    main()
