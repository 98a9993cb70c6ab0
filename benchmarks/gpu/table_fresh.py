"""The newest schedules of batched decode and prefill, each alone in a chain of dependent launches, µs."""

from __future__ import annotations

import table_step


def main() -> None:
    """Prints, for each kernel, its schedules from the fastest on."""
    table_step.main("fresh")


if __name__ == "__main__":
    main()
