"""Products as a user gets them: a plain call of the kernel with the schedule that is shipped for the device, against torch.

    python benchmarks/gpu/run.py shipped            on the device
    python benchmarks/gpu/table_shipped.py --compile "NVIDIA H200"      elsewhere: fills the cache of kernels and verdicts

TFLOP/s (int8: TOP/s) by device events around a row of calls, in turns with the peer's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

import zellige as zl
from zellige import bf16, f8e4m3, f32, i8
from zellige.kernels import batch, gpu_linear, gpu_quantised
from zellige.runtime.cuda import tuned
from zellige.runtime.cuda.executor import CudaExecutor

FP8, BF16 = ml_dtypes.float8_e4m3fn, ml_dtypes.bfloat16
CASES: tuple[tuple[Any, tuple[int, int, int]], ...] = (
    *((kernel, (n, n, n)) for kernel in (gpu_quantised.scaled_linear, gpu_quantised.scaled_linear_int8, gpu_linear.matmul)
      for n in (4096, 8192)),
    (gpu_quantised.scaled_linear, (64, 4096, 4096)), (gpu_quantised.scaled_linear, (4000, 4096, 4096)),
    (batch.linear_rows, (2048, 19456, 2560)), (batch.linear_rows, (8192, 4096, 4096)), (batch.linear_rows, (1024, 2560, 9728)),
)  # fmt: skip
"""Kernel and M, N, K; 64 rows are fewer than two groups take, so that another schedule has to serve them."""


def operands(executor: CudaExecutor, kernel: Any, m: int, n: int, k: int, seed: int) -> dict[str, zl.Tensor]:
    """Random arguments, the output among them."""
    draw = np.random.default_rng(seed)
    names = list(kernel.signature.arrays)
    if kernel is gpu_quantised.scaled_linear_int8:
        x, w = (draw.integers(-127, 128, size, dtype=np.int8) for size in ((m, k), (n, k)))
        element = i8
    else:
        stored, element = (FP8, f8e4m3) if kernel is gpu_quantised.scaled_linear else (BF16, bf16)
        second = (k, n) if kernel is gpu_linear.matmul else (n, k)
        x, w = (draw.standard_normal(size, np.float32).astype(stored) for size in ((m, k), second))
    made = {names[0]: executor.tensor(x, element), names[1]: executor.tensor(w, element)}
    if "x_scale" in names:
        made["x_scale"] = executor.tensor(draw.random(m, np.float32) + 0.5, f32)
        made["w_scale"] = executor.tensor(draw.random(n, np.float32) + 0.5, f32)
    return made | {names[-1]: executor.zeros((m, n), bf16)}


def call(kernel: Any, given: dict[str, zl.Tensor]) -> Callable[[], Any]:
    """A plain call."""
    *inputs, output = given
    return partial(kernel, *(given[name] for name in inputs), **{output: given[output]})


def compile_all(device: str) -> None:
    """Compiles every case without a GPU."""
    executor = CudaExecutor(None, "sm_90", schedules=device)
    with zl.using(executor):
        for kernel, (m, n, k) in CASES:
            names = list(kernel.signature.arrays)
            sizes = {names[0]: (m, k), names[1]: (k, n) if kernel is gpu_linear.matmul else (n, k)}
            element = {gpu_quantised.scaled_linear: f8e4m3, gpu_quantised.scaled_linear_int8: i8}.get(kernel, bf16)
            made = {name: executor.zeros(size, element) for name, size in sizes.items()}
            if "x_scale" in names:
                made |= {"x_scale": executor.zeros((m,), f32), "w_scale": executor.zeros((n,), f32)}
            call(kernel, made | {names[-1]: executor.zeros((m, n), bf16)})()


def main() -> None:
    """Prints the table."""
    import torch
    from measure import check, header, saved

    header("products by a plain call, TFLOP/s")
    executor = CudaExecutor.open()
    stream: Any = torch.cuda.ExternalStream(int(executor.stream.handle))
    with zl.using(executor), torch.cuda.stream(stream):
        for kernel, (m, n, k) in CASES:
            sets = [operands(executor, kernel, m, n, k, seed) for seed in range(2)]
            ours = [call(kernel, given) for given in sets]
            ours[0]()
            first = {name: torch.from_numpy(_plain(held)).cuda() for name, held in sets[0].items()}
            peers = [
                _peer(torch, kernel, {name: torch.from_numpy(_plain(t)).cuda() for name, t in s.items()}) for s in sets
            ]
            check(f"{kernel.name} {m}x{n}x{k}", *_result(torch, kernel, first), bound=5e-3)
            times = _in_turns(torch, {"ours": ours, "peer": peers})
            rate = {name: 2 * m * n * k / us / 1e6 for name, us in times.items()}
            saved("shipped", f"{kernel.name} {m}x{n}x{k}", rate)
            dims = {"T" if kernel is batch.linear_rows else "M": m, "N": n, "K": k}
            tiles = tuned.statics(kernel.name, dims, executor.schedules, groups=True)
            groups = tuned.options(kernel.name, dims, executor.schedules, groups=tiles).consumers
            print(f"{kernel.name:>20} {m:>5}×{n}×{k:<5} torch {rate['peer']:7.1f}  ours {rate['ours']:7.1f}  "
                  f"{rate['ours'] / rate['peer']:.3f} ×  {tiles}, {groups} groups", flush=True)  # fmt: skip


def _plain(held: zl.Tensor) -> np.ndarray:
    """The bytes of a tensor as a dtype that torch reads."""
    array = held.numpy()
    return np.array(array.view({FP8: np.uint8, BF16: np.uint16}.get(array.dtype.type, array.dtype)))


def _typed(torch: Any, kernel: Any, given: dict[str, Any]) -> list[Any]:
    eight = {gpu_quantised.scaled_linear: torch.float8_e4m3fn, gpu_quantised.scaled_linear_int8: torch.int8}
    return [t.view(eight.get(kernel, torch.bfloat16)) for t in list(given.values())[:2]]


def _peer(torch: Any, kernel: Any, given: dict[str, Any]) -> Callable[[], Any]:
    x, w = _typed(torch, kernel, given)
    if kernel is gpu_quantised.scaled_linear:
        one = torch.ones((), device="cuda")
        return partial(torch._scaled_mm, x, w.t(), out_dtype=torch.bfloat16, scale_a=one, scale_b=one)
    if kernel is gpu_quantised.scaled_linear_int8:
        return partial(torch._int_mm, x, w.t())
    y = torch.empty(given[list(given)[-1]].shape, dtype=torch.bfloat16, device="cuda")
    return partial(torch.mm, x, w if kernel is gpu_linear.matmul else w.t(), out=y)


def _result(torch: Any, kernel: Any, given: dict[str, Any]) -> tuple[Any, Any]:
    """What the kernel wrote, and what it should have written."""
    x, w = (t.float() for t in _typed(torch, kernel, given))
    product = x @ (w if kernel is gpu_linear.matmul else w.t())
    if "x_scale" in given:
        product = product * given["x_scale"][:, None] * given["w_scale"][None, :]
    return given[list(given)[-1]].view(torch.bfloat16), product


def _in_turns(torch: Any, contestants: dict[str, list[Callable[[], Any]]]) -> dict[str, float]:
    """Median µs of a call, on the stream that is current."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(11):
        for name, calls in contestants.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(4):
                for one in calls:
                    one()
            end.record()
            end.synchronize()
            if round_ >= 2:
                times[name].append(start.elapsed_time(end) * 1000 / (4 * len(calls)))
    return {name: sorted(t)[len(t) // 2] for name, t in times.items()}


if __name__ == "__main__":
    compile_all(sys.argv[2]) if sys.argv[1:2] == ["--compile"] else main()
