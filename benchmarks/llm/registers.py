"""What the kernels of decode steps take of a multiprocessor, a line each, sorted: to be compared before and after a change of a kernel.

    python benchmarks/llm/registers.py Qwen3-0.6B Qwen3-30B-A3B --batches 1 8 > before        anywhere; no GPU is needed
    … the change …
    python benchmarks/llm/registers.py Qwen3-0.6B Qwen3-30B-A3B --batches 1 8 | diff before -

A step of few tokens waits for memory with all programs that run beside each other, so one that no longer fits counts: eight registers
more in a kernel of eight warps are a program less of five on a multiprocessor.
"""

from __future__ import annotations

import argparse
from typing import Any

from decode import Decoder

from zellige.backends.cuda.compiler import CompiledKernel
from zellige.llm.weights.known import known_config
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.cuda.tuned import UNMEASURED, devices

REGISTERS, THREADS, SHARED, BLOCKS = 65536, 2048, 227 * 1024, 32
"""Of a multiprocessor of sm_90: registers, threads, bytes of shared memory that programs may have, and programs."""


class Collector(CudaExecutor):
    """Compiles for a device that is not there, and keeps what it compiled."""

    def __init__(self, schedules: str) -> None:
        super().__init__(None, "sm_90", schedules=schedules)
        self.found: dict[str, CompiledKernel] = {}

    def _compiled(self, function: Any, dims: dict[str, int], options: Any) -> CompiledKernel:
        kernel = super()._compiled(function, dims, options)
        sizes = " ".join(f"{name}={size}" for name, size in sorted(dims.items()))
        self.found[f"{function.name} {sizes}"] = kernel
        return kernel


def resident(kernel: CompiledKernel) -> int:
    """How many programs of a kernel one multiprocessor holds at once."""
    threads = 32 * kernel.num_warps
    by_registers = REGISTERS // (-(-kernel.registers // 8) * 8 * threads)
    return min(by_registers, THREADS // threads, SHARED // (kernel.shared_bytes + 1024), BLOCKS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--dtype", default="bf16", choices=["bf16", "fp16", "fp8"])
    parser.add_argument("--schedules", default=UNMEASURED, choices=devices(), help="the device to compile for")
    options = parser.parse_args()
    executor = Collector(options.schedules)
    for model in options.models:
        for batch in options.batches:
            Decoder(executor, known_config(model), batch, options.context, None, options.dtype)
    for name, kernel in sorted(executor.found.items()):
        programs = kernel.programs.evaluate({})
        print(
            f"{name}: {programs} programs of {kernel.num_warps} warps, {kernel.registers} registers, {kernel.spilled_bytes} bytes spilled, "
            f"{kernel.shared_bytes} shared: {resident(kernel)} a multiprocessor"
        )


if __name__ == "__main__":
    main()
