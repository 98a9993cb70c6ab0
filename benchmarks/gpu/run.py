"""One table per name: gemm gemv thin rows attention decode launch. ``run.py gemv rows`` runs two, no name runs all."""

from __future__ import annotations

import importlib
import sys
import time

TABLES = ("gemv", "gemm", "rows", "attention", "decode", "thin", "launch")


def main() -> None:
    """Runs the named tables."""
    for name in sys.argv[1:] or TABLES:
        started = time.time()
        importlib.import_module(f"table_{name}").main()
        print(f"({name}: {time.time() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
