"""Packs runs of these scripts for a machine with a GPU that has neither solver nor compilers: source, verdicts and machine code.

    python benchmarks/llm/pack.py OUT --schedules "NVIDIA H200" "api.py Qwen3-8B --batches 1" "../gpu/correctness.py"

needs no GPU. Each run is done here with ``--compile-only``, and once more without z3 and llvmlite, to see that all it needs is in OUT:
the package, the benchmarks, ``cache/`` and ``run.sh``, which does the runs one after the other (``LIMIT=60 bash OUT/run.sh``: at most
60 seconds each). There it needs Python, NumPy, ml_dtypes, Triton and cuda-core, and for some scripts PyTorch and transformers.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MISSING = ("z3", "llvmlite")
"""What the other machine does not have."""
CARRIED = ("elftools",)
"""What it may lack, and takes along."""
RUN = """cd "$(dirname "$0")"; HERE=$PWD; export PYTHONUNBUFFERED=1 PYTHONPATH=$HERE/src ZELLIGE_CACHE_DIR=$HERE/cache
run() { echo "== $* ($(date +%T))"; timeout "${LIMIT:-120}" python3 "$@"; }
"""


def compiled(command: list[str], out: Path, schedules: str, without: Path | None) -> None:
    """Does a run as far as it goes without a device. SystemExit if it fails."""
    script = out / "benchmarks" / "llm" / command[0]
    if '"--compile-only"' not in script.read_text():  # it compiles nothing
        return
    asks = ["--schedules", schedules] if '"--schedules"' in script.read_text() and "--invariant" not in command else []
    paths = [str(out / "src"), *([str(without)] if without else [])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(reversed(paths)),
        "ZELLIGE_CACHE_DIR": str(out / "cache"),
    }
    done = subprocess.run(
        [sys.executable, str(script), *command[1:], "--compile-only", *asks],
        cwd=script.parent, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        how = " without " + " and ".join(MISSING) if without else ""
        sys.exit(f"{shlex.join(command)}{how}: exit {done.returncode}\n{done.stdout}{done.stderr}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="a script of this folder and its arguments, as one argument"
    )
    parser.add_argument("--schedules", required=True, help="the device to compile for")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    if out.exists():
        sys.exit(f"{out} is there already: give another folder, or remove it")
    runs = [shlex.split(run) for run in options.runs]
    for part in ("src", "benchmarks"):
        shutil.copytree(ROOT / part, out / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in CARRIED:
        found = importlib.util.find_spec(name)
        if found is not None and found.submodule_search_locations:
            shutil.copytree(
                found.submodule_search_locations[0], out / "src" / name, ignore=shutil.ignore_patterns("__pycache__")
            )
    with tempfile.TemporaryDirectory() as folder:
        without = Path(folder)
        for name in MISSING:
            (without / f"{name}.py").write_text('raise ImportError("the other machine does not have it")\n')
        for command in runs:
            compiled(command, out, options.schedules, None)
            compiled(command, out, options.schedules, without)
            print(f"{shlex.join(command)}: packed", flush=True)
    for text in (out / "cache").rglob("*.ptx"):
        text.write_text("")  # nobody reads it there
    for made in out.rglob("__pycache__"):
        shutil.rmtree(made)
    lines = "".join(f'cd "$HERE/benchmarks/llm"; run {shlex.join(command)}\n' for command in runs)
    (out / "run.sh").write_text(RUN + lines)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"{out}: {len(runs)} runs, {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
