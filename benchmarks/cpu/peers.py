"""Verified kernels on the CPU against PyTorch (oneDNN) and NumPy (OpenBLAS), and against what memory allows.

    PYTHONPATH=src python benchmarks/cpu/peers.py --peer PYTHON [--only NAME,NAME] [--turns 7] [--json]

``--peer`` names an interpreter that has PyTorch and a current NumPy. Both sides run in processes of their own, 2 threads each,
and take turns; a ratio is the median of the turns' ratios (ours / peer's speed), with its range. Rows without a peer take turns
with our own read or copy, which is the roofline. ``--busy``: one thread each and processor time,
for a machine that has other work. Cold compilation needs --model.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turns import Worker, machine, serve

BUSY = "--busy" in sys.argv
"""Whether the machine has other work: then one thread each, and processor time instead of wall time."""
THREADS = 1 if BUSY else 2
CLOCK = time.process_time if BUSY else time.perf_counter
BIG = 256 << 20
"""Bytes of what is read from memory: more than caches hold, in many arrays."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured: the work of a call, the unit it is shown in, the peer, and the ratio that is asked for."""

    name: str
    work: float
    unit: str
    against: str
    asked: float


def _gemm(m: int, n: int, k: int) -> float:
    return 2e-9 * m * n * k


WIDTH = 4096
ROWS = BIG // (4 * WIDTH)
"""So that each array of rows, too, is larger than caches."""
CASES = (
    Case("gemm_bf16_1024", _gemm(1024, 1024, 1024), "GFLOP/s", "torch", 0.9),
    Case("gemm_bf16_4096x4096x512", _gemm(4096, 4096, 512), "GFLOP/s", "torch", 0.9),
    Case("gemm_f32_1024", _gemm(1024, 1024, 1024), "GFLOP/s", "numpy", 0.9),
    Case("read", BIG / 1e9, "GB/s", "", 0),
    Case("gemv_bf16", BIG / 1e9, "GB/s", "read", 0.9),
    Case("gemv_Q4_1", BIG / 1e9, "GB/s", "read", 0.9),
    Case("gemv_Q8_0", BIG / 1e9, "GB/s", "read", 0.9),
    Case("copy", 8e-9 * ROWS * WIDTH, "GB/s", "", 0),
    Case("rms_norm", 8e-9 * ROWS * WIDTH, "GB/s", "copy", 0.9),
    Case("softmax", 8e-9 * ROWS * WIDTH, "GB/s", "copy", 0.9),
    Case("swiglu", 12e-9 * ROWS * WIDTH, "GB/s", "copy", 0.9),
    Case("attention_512", _gemm(512, 512, 2 * 64 * 9) / 2, "GFLOP/s", "torch", 1.0),
    Case("attention_2048", _gemm(2048, 2048, 2 * 64 * 9) / 2, "GFLOP/s", "torch", 1.0),
    Case("launch", 1.0, "launches", "", 0),
)


def best(run: Callable[[], object], seconds: float = 0.15) -> float:
    """The shortest of the calls that fit into some seconds, at least three, after one to warm up."""
    run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        begun = CLOCK()
        run()
        times.append(CLOCK() - begun)
    return min(times)


class Side:
    """A side makes each case's call once and keeps it, and that of the case before: arrays are large."""

    def __init__(self) -> None:
        self._calls: dict[str, tuple[Callable[[], object], int]] = {}

    def make(self, name: str) -> tuple[Callable[[], object], int]:
        """A call, and how often it does the case's work."""
        raise NotImplementedError

    def measure(self, name: str) -> float:
        """Seconds of one call of a case."""
        if name not in self._calls:
            self._calls = dict([*self._calls.items()][-1:]) | {name: self.make(name)}
        run, times = self._calls[name]
        return best(run) / times


class Ours(Side):
    """Recorded launches of verified kernels."""

    def make(self, name: str) -> tuple[Callable[[], object], int]:
        import peer_kernels

        return peer_kernels.make(name, ROWS, WIDTH, BIG)


class Peer(Side):
    """PyTorch and NumPy."""

    def make(self, name: str) -> tuple[Callable[[], object], int]:
        import numpy as np
        import torch
        from torch.nn.functional import scaled_dot_product_attention

        torch.set_num_threads(THREADS)
        if name.startswith("gemm_bf16"):
            sizes = [int(s) for s in name.removeprefix("gemm_bf16_").split("x")]
            m, n, k = sizes * 3 if len(sizes) == 1 else sizes
            x, w = torch.randn(m, k, dtype=torch.bfloat16), torch.randn(n, k, dtype=torch.bfloat16)
            out = torch.empty(m, n, dtype=torch.bfloat16)
            return lambda: torch.mm(x, w.t(), out=out), 1
        if name == "gemm_f32_1024":
            a, b, c = (np.random.default_rng(i).standard_normal((1024, 1024), dtype=np.float32) for i in range(3))
            return lambda: np.matmul(a, b, out=c), 1
        tokens = int(name.removeprefix("attention_"))
        q, k, v = (torch.randn(1, 9, tokens, 64) for _ in range(3))
        return lambda: scaled_dot_product_attention(q, k, v, is_causal=True), 1


def cold_compile(model: str) -> float:
    """Seconds until a fresh process with empty caches has answered a prompt of 128 with two tokens."""
    code = (
        "import sys; from zellige.llm import LLM, SamplingParams; "
        "LLM(sys.argv[1]).generate([list(range(300, 428))], SamplingParams(max_tokens=2, ignore_eos=True))"
    )
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "ZELLIGE_CACHE_DIR": folder}
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", code, model], env=environment, check=True)
        return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default=sys.executable, help="interpreter that has PyTorch and NumPy")
    parser.add_argument("--only", default="", help="cases to measure (those whose names begin so)")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--model", help="GGUF file for the cold compilation")
    parser.add_argument("--busy", action="store_true", help="one thread each, processor time: where other work runs")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--serve", choices=("ours", "peer"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ["ZELLIGE_THREADS"] = os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(THREADS)
    if options.serve:
        return serve(Ours() if options.serve == "ours" else Peer())
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # set for old libraries; they slow a current one
        os.environ.pop(name, None)
    begins = tuple(options.only.split(",")) if options.only else ("",)
    needed = {case.against for case in CASES if case.name.startswith(begins)}
    chosen = [case for case in CASES if case.name.startswith(begins) or case.name in needed]
    ours = Worker(sys.executable, __file__, *["--busy"] * BUSY, "--serve", "ours")
    peer = Worker(options.peer, __file__, *["--busy"] * BUSY, "--serve", "peer")
    before, rows = machine(), []
    if not options.json:
        print(before, "\n\n| | ours | against | | ratio | its range | asked |\n|---|---|---|---|---|---|---|")
    for case in chosen:
        rows.append(row(case, ours, peer, options.turns))
        if not options.json:
            print(shown(rows[-1]), flush=True)
    compiled = cold_compile(options.model) if options.model else None
    if options.json:
        print(json.dumps({"machine": [before, machine()], "rows": rows, "cold_compile_s": compiled}, indent=1))
    elif compiled is not None:
        print(f"| cold compile of {Path(options.model).name} | {compiled:.1f} s | | | | | 20 s |\n\n{machine()}")
    ours.end(), peer.end()


def row(case: Case, ours: Worker, peer: Worker, turns: int) -> dict[str, Any]:
    """Turns of a case and of what it is measured against, if anything: the peer's call, or our own read or copy."""
    roof = next((c for c in CASES if c.name == case.against), None)
    against = (ours, roof) if roof else (peer, case)
    mine, theirs = [], []
    for turn in range(turns):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            if side == 0:
                mine.append(case.work / ours.call("measure", case.name))
            elif case.against:
                theirs.append(against[1].work / against[0].call("measure", against[1].name))
    ratios = [a / b for a, b in zip(mine, theirs, strict=True)] if theirs else []
    return {
        "name": case.name, "ours": statistics.median(mine), "unit": case.unit, "against": case.against,
        "other": statistics.median(theirs) if theirs else None,
        "ratio": statistics.median(ratios) if ratios else None,
        "range": [min(ratios), max(ratios)] if ratios else None, "asked": case.asked,
    }  # fmt: skip


def shown(found: dict[str, Any]) -> str:
    """A row of the table."""
    if found["name"] == "launch":
        return f"| one recorded launch | {1e6 / found['ours']:.2f} µs | | | | | 2 µs |"
    if found["ratio"] is None:
        return f"| {found['name']} | {found['ours']:.1f} {found['unit']} | | | | | |"
    low, high = found["range"]
    return (
        f"| {found['name']} | {found['ours']:.1f} {found['unit']} | {found['other']:.1f} | {found['against']} "
        f"| **{found['ratio']:.2f} ×** | {low:.2f} to {high:.2f} | {found['asked']} × |"
    )


if __name__ == "__main__":
    main()
