"""``correctness.py`` under NVIDIA's compute-sanitizer: memcheck, racecheck, initcheck. Needs a GPU whose driver allows it.

python benchmarks/gpu/sanitize.py [--every 6] [TOOL…]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")


def main() -> None:
    """Prints each tool's verdict; exits with 1 if one found something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools", nargs="*", default=TOOLS)
    parser.add_argument("--every", type=int, default=4)
    options = parser.parse_args()
    script = Path(__file__).with_name("correctness.py")
    verdicts, bad = [], False
    for tool in options.tools:
        started = time.time()
        command = [
            "compute-sanitizer", "--tool", tool, "--error-exitcode", "9", "--print-limit", "5",
            sys.executable, str(script), "--every", str(options.every), "--no-demonstrations", "--seed", "1",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = [
            line for line in done.stdout.splitlines() if "SUMMARY" in line or line.startswith(("all right", "WRONG"))
        ]
        ran = [line for line in done.stdout.splitlines() if line.endswith("checks")]
        bad |= done.returncode != 0
        if done.returncode:
            print("\n".join((done.stdout + done.stderr).splitlines()[:40]))
        verdicts.append(
            f"{tool:>10}: exit {done.returncode}, {', '.join((*ran, *said))} ({time.time() - started:.0f} s)"
        )
    print("\n## compute-sanitizer over correctness.py\n" + "\n".join(verdicts))
    raise SystemExit(bad)


if __name__ == "__main__":
    main()
