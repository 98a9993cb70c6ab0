"""Runs drawn kernels that the verifier accepts on a GPU and compares them, bit for bit, with the interpreter.

    python -m tests.fuzz.on_gpus --draw FILE --count N --seed S     anywhere: draws, verifies, interprets (verdicts go to the cache)
    python -m tests.fuzz.on_gpus FILE                               on the GPU, with that cache: compiles, runs, compares

Contents are small whole numbers, so that sums are exact in any order. Each share of the kernels has a process of its own, for a kernel that
faults ends its process: it is reported, and the rest goes on in another one.
"""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import zellige as zl
from tests.fuzz import campaign, kernels
from tests.fuzz.arguments import Arguments
from zellige.backends.reference import LaunchRefused, run
from zellige.diagnostics.errors import ZelligeError
from zellige.diagnostics.findings import VerificationError
from zellige.ir.types import Role
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.guards import GuardError
from zellige.runtime.instances import Instance
from zellige.runtime.kernel import Kernel

LAUNCHES = 3
"""Of each kernel; each size is compiled anew."""


@dataclass(frozen=True)
class Run:
    """A launch of a drawn kernel, and what the interpreter makes of its arrays."""

    seed: int
    source: str
    given: Arguments
    expected: dict[str, Any]
    guarded: bool
    """Whether a guard fails."""


def draw(count: int, seed: int) -> list[Run]:
    """Launches of the kernels from ``seed`` on that are accepted."""
    found = []
    for number in range(seed, seed + count):
        drawn = kernels.draw(number)
        try:
            kernel = kernels.kernel_of(drawn.source, str(number))
            function = kernel.lower({}, {})
        except (ZelligeError, SyntaxError):
            continue
        try:
            Instance.verified(function)  # keeps its verdict in the cache
        except VerificationError:
            continue
        for given, order in list(campaign.launches(function, number, 4 * LAUNCHES, largest=5))[-LAUNCHES:]:
            after = given.copy()
            try:
                report = run(function, after.dims, after.arrays, after.scalars, order_seed=order, check=False)
            except LaunchRefused:
                continue
            expected = {a.name: after.arrays[a.name] for a in function.arrays}
            found.append(Run(number, drawn.source, given, expected, bool(report.guards)))
    return found


def _called(kernel: Kernel, given: Arguments, executor: CudaExecutor) -> tuple[dict[str, Any], bool]:
    """The arrays after a launch, and whether a guard failed."""
    signature = kernel.signature
    function = kernel.lower({}, {})
    told = {dim for array in function.arrays for extent in array.shape for dim in extent.dims() if str(extent) == dim}
    with zl.using(executor):
        tensors = {
            a.name: executor.tensor(
                given.arrays[a.name] if a.init is None else np.zeros_like(given.arrays[a.name]), a.dtype
            )
            for a in function.arrays
        }
        values = tensors | dict(given.scalars)
        named = {n: v for n, v in values.items() if n not in signature.positional}
        named |= {dim: size for dim, size in given.dims.items() if dim not in told}
        kernel(*(values[name] for name in signature.positional), **named)
        guarded = False
        try:
            executor.synchronise()
        except GuardError:
            guarded = True
        return {a.name: tensors[a.name].numpy() for a in function.arrays if a.role is not Role.IN}, guarded


def compare(one: Run, executor: CudaExecutor) -> str:
    """What differs, or ''."""
    kernel = kernels.kernel_of(one.source, str(one.seed))
    found, guarded = _called(kernel, one.given, executor)
    if guarded != one.guarded:
        return f"a guard {'fails' if guarded else 'holds'} for dims {one.given.dims}"
    for name, array in found.items():
        want = one.expected[name]
        if not np.array_equal(array, want, equal_nan=want.dtype.kind not in "iub"):
            return f"{name} for dims {one.given.dims}: interpreter {want.tolist()}, GPU {array.tolist()}"
    return ""


def _share(file: Path, share: int, shares: int) -> int:
    runs: list[Run] = pickle.loads(file.read_bytes())
    executor = CudaExecutor.open()
    for number in range(share, len(runs), shares):
        print(f"{number} begun", flush=True)
        try:
            difference = compare(runs[number], executor)
        except ZelligeError as error:
            print(f"{number} refused with {error.code}: {error.message}", flush=True)
            continue
        print(f"{number} {'differs: ' + difference if difference else 'agrees'}", flush=True)
    return 0


def _watched(file: Path, share: int, shares: int) -> Counter[str]:
    """Runs a share to its end, in as many processes as it takes."""
    counts: Counter[str] = Counter()
    runs: list[Run] = pickle.loads(file.read_bytes())
    step, first = shares, share
    while first < len(runs):
        command = [sys.executable, "-m", "tests.fuzz.on_gpus", str(file), "--share", f"{first}/{step}"]
        out = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
        last, ended = first, True
        for line in out.stdout.splitlines():
            number, _, what = line.partition(" ")
            if not number.isdigit():
                continue
            last, ended = int(number), what != "begun"
            if what == "begun":
                continue
            counts[what.partition(":")[0]] += 1
            if what.startswith("differs"):
                print(f"--- seed {runs[last].seed}: {what}\n{runs[last].source}", flush=True)
        if out.returncode == 0:
            break
        if ended:
            print(f"a process ended: {out.stderr[-2000:]}", flush=True)
        else:
            counts["faults"] += 1
            print(f"--- seed {runs[last].seed} faults:\n{runs[last].source}{out.stderr[-1500:]}", flush=True)
        first = last + step
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="where the launches are kept")
    parser.add_argument("--draw", action="store_true", help="draw them")
    parser.add_argument("--count", type=int, default=500, help="kernels to draw")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.draw:
        runs = draw(options.count, options.seed)
        options.file.write_bytes(pickle.dumps(runs))
        print(f"{len(runs)} launches of {len({r.seed for r in runs})} accepted kernels among {options.count}")
        return 0
    if options.share:
        share, shares = map(int, options.share.split("/"))
        return _share(options.file, share, shares)
    workers = max(1, (os.cpu_count() or 2) - 2)
    counts: Counter[str] = Counter()
    with ThreadPoolExecutor(workers) as pool:
        for part in pool.map(lambda share: _watched(options.file, share, workers), range(workers)):
            counts += part
    print(
        f"{counts['agrees']} launches agree with the interpreter, {counts['differs']} differ, {counts['faults']} fault"
    )
    for what, times in counts.items():
        if what.startswith("refused"):
            print(f"{times} {what}")
    return 1 if counts["differs"] + counts["faults"] else 0


if __name__ == "__main__":
    from tests.fuzz import on_gpus  # by its own name, as pickle will look for it

    sys.exit(on_gpus.main())
