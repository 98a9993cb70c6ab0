"""Compiles every kernel that the benchmarks measure into a folder that a machine with a GPU can run from.

    python benchmarks/gpu/pack.py OUT [--only gemm,gemv]

needs no GPU. OUT gets the package's source, these scripts, and ``kernels/``: one folder of machine code a case. There,
``python3 OUT/benchmarks/gpu/run.py`` needs only Python, NumPy, PyTorch, Triton and cuda-core.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks" / "gpu")]


def main() -> None:
    """Packs."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--only", default="", help="tables")
    arguments.add_argument(
        "--rows", default="", help="a regular expression that the names of rows match from their beginning"
    )
    arguments.add_argument("--target", default="sm_90")
    options = arguments.parse_args()
    from cases import cases

    from zellige.backends.cuda.compiler import compile
    from zellige.diagnostics.errors import ZelligeError
    from zellige.ir.dtypes import bf16
    from zellige.runtime.paths import cache_dir

    wanted = set(filter(None, options.only.split(",")))
    out: Path = options.out
    kernels = out / "kernels"
    if kernels.exists():
        shutil.rmtree(kernels)
    for folder in ("src/zellige", "benchmarks/gpu"):
        shutil.copytree(ROOT / folder, out / folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    index, started = [], time.time()
    for case in cases():
        if (wanted and case.table not in wanted) or not re.match(options.rows, case.row):
            continue
        function = case.kernel.lower(
            {**case.kernel.signature.statics, **case.statics}, {"KV": bf16, "X": bf16, **case.dtypes}
        )
        used = {name: size for name, size in case.dims.items() if name in function.dims()}
        sizes = {**dict.fromkeys(function.dims(), 0), **case.dims}
        try:
            made = compile(function, used, options.target, case.options, cache_dir("cuda"))
        except ZelligeError as error:
            print(f"{case.folder}: {error.message.splitlines()[0][:150]}")
            continue
        folder = kernels / case.folder
        made.save(folder)
        (folder / "kernel.ptx").write_text("")
        index.append(
            {
                "table": case.table,
                "row": case.row,
                "variant": case.variant,
                "folder": case.folder,
                "statics": case.statics,
                "kernel": case.kernel.name,
                "dims": case.dims,
                "options": case.options.as_json(),
                "arrays": {a.name: [a.dtype.name, [e.evaluate(sizes) for e in a.shape]] for a in function.arrays},
            }
        )
        print(
            f"{case.folder}: {made.registers} registers, {made.spilled_bytes} B spilled, {made.shared_bytes} B shared",
            flush=True,
        )
    (out / "index.json").write_text(json.dumps(index, indent=1))
    print(f"{len(index)} kernels in {time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
