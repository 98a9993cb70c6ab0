"""One table per name (TABLES below). ``run.py gemv rows`` runs two, no name runs all."""

from __future__ import annotations

import importlib
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

TABLES = (
    "launch", "gemm", "attention", "rows", "argmax", "gemv", "thin", "decode", "step", "batch", "fp8", "shipped", "prefill", "experts",
    "twins", "fp8_step", "experts_step",
)  # fmt: skip


def main() -> None:
    """Runs the named tables."""
    failed: list[str] = []
    for name in sys.argv[1:] or TABLES:
        started = time.time()
        try:
            importlib.import_module(f"table_{name}").main()
        except (Exception, SystemExit):  # the other tables still run; the trace says what went wrong here
            traceback.print_exc()
            failed.append(name)
        print(f"({name}: {time.time() - started:.0f} s)", flush=True)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
