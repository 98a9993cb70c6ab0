"""The first call of a kernel that was never seen, from cold caches, by stage: parse, prove, compile, load and run. Seconds.

    python benchmarks/gpu/first_call.py

Each kernel has a process of its own with empty caches, in which everything has been imported (import times are given apart). The
peer is Triton's own first call of a kernel of the same operation, in the same way.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks" / "gpu")]
KERNELS = ("swiglu", "rms_norm", "matmul", "attention")
RUNS = 2


def _ours(which: str) -> dict[str, float]:
    started = time.perf_counter()
    import ml_dtypes
    import numpy as np

    import zellige as zl
    from zellige import bf16
    from zellige.kernels import gpu_attention, gpu_elementwise, gpu_linear
    from zellige.runtime import instances
    from zellige.runtime.cuda import executor as runtime
    from zellige.runtime.kernel import Kernel

    imported = time.perf_counter() - started
    started = time.perf_counter()
    import triton.compiler  # noqa: F401
    import z3  # noqa: F401

    import zellige.verify

    libraries = time.perf_counter() - started
    spent: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(owner: Any, name: str, label: str) -> Iterator[None]:
        original = getattr(owner, name)

        def timed(*args: Any, **keywords: Any) -> Any:
            begun = time.perf_counter()
            try:
                return original(*args, **keywords)
            finally:
                spent[label] += time.perf_counter() - begun

        with mock.patch.object(owner, name, timed):
            yield

    machine = runtime.CudaExecutor.open()

    def array(*shape: int) -> Any:
        values = np.random.default_rng(0).standard_normal(shape, np.float32)
        return machine.tensor(values.astype(ml_dtypes.bfloat16), bf16)

    calls: dict[str, Callable[[], Any]] = {}
    big = array(1024, 1024)
    calls["swiglu"] = lambda x=array(1 << 20): gpu_elementwise.swiglu(x, x)
    calls["rms_norm"] = lambda x=big, w=array(1024): gpu_elementwise.rms_norm(x, w, 1e-6)
    calls["matmul"] = lambda x=big: gpu_linear.matmul(x, x)
    calls["attention"] = lambda q=array(1, 8, 4, 512, 128), k=array(1, 8, 512, 128): gpu_attention.attention_causal(
        q, k, k, 0.1
    )
    machine.synchronise()
    with (
        stage(Kernel, "lower", "parse"), stage(instances.Instance, "verified", "prove"),
        stage(runtime, "compile", "compile"), stage(runtime, "LoadedKernel", "load"), zl.using(machine),
    ):  # fmt: skip
        started = time.perf_counter()
        calls[which]()
        machine.synchronise()
        total = time.perf_counter() - started
    return {"total": total, **spent, "import zellige": imported, "import z3, triton": libraries}


def _peer(which: str) -> dict[str, float]:
    import handwritten as twin
    import torch

    def array(*shape: int) -> Any:
        return torch.randn(*shape, device="cuda").bfloat16()

    x, y = array(1024, 1024), array(1024, 1024)
    q, k = array(1, 32, 512, 128), array(1, 8, 512, 128)
    out = torch.empty_like(q)
    calls: dict[str, Callable[[], Any]] = {
        "swiglu": lambda: twin.swiglu[(512,)](x, x, y, 1 << 20, 2048),
        "rms_norm": lambda: twin.rms_norm[(1024,)](x, y, y, 1024, 1e-6, 1024),
        "matmul": lambda: twin.matmul[(32,)](x, x, y, 1024, 1024, 1024, 128, 256, 64, 8, num_warps=8),
        "attention": lambda: twin.attention_causal[(128,)](q, k, k, out, 0.1, 512, 4, 128, 128, 64, 1, num_warps=8),
    }
    torch.cuda.synchronize()
    started = time.perf_counter()
    calls[which]()
    torch.cuda.synchronize()
    return {"total": time.perf_counter() - started}


def _fresh(side: str, which: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as empty:
        env = {**os.environ, "ZELLIGE_CACHE_DIR": f"{empty}/zellige", "TRITON_CACHE_DIR": f"{empty}/triton"}
        done = subprocess.run(
            [sys.executable, __file__, side, which], env=env, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise SystemExit(f"{side} {which}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Prints means."""
    print(f"\n## first call from cold caches, s (mean of {RUNS} processes)")
    for which in KERNELS:
        ours = [_fresh("ours", which) for _ in range(RUNS)]
        peer = statistics.mean(_fresh("peer", which)["total"] for _ in range(RUNS))
        stages = ", ".join(f"{s} {statistics.mean(r[s] for r in ours):.3f}" for s in ours[0] if s != "total")
        print(f"{which:>10} {statistics.mean(r['total'] for r in ours):.3f} (Triton {peer:.3f}): {stages}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps({"ours": _ours, "peer": _peer}[sys.argv[1]](sys.argv[2])))
    else:
        main()
