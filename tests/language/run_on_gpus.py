"""Runs every cell of docs/operations.md that is said to run on GPUs on a GPU, and compares it with NumPy.

    python -m tests.language.run_on_gpus --compile-only [WORD…]    anywhere with Triton (fills the cache)
    python -m tests.language.run_on_gpus [WORD…]                   on the GPU

A word is an element type, or stands in the names of the operations to run. Prints the cells that differ, and how many agree.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

import zellige as zl
from tests.language.cells import (
    EVERYWHERE,
    NUMPY,
    OPERATIONS,
    TYPES,
    Operation,
    agrees,
    arguments,
    column,
    expected,
    kernel_of,
)  # fmt: skip
from zellige.runtime.cuda.executor import CudaExecutor


def run(operation: Operation, dtype: str, folder: Path, executor: CudaExecutor) -> bool:
    """Whether a cell agrees with NumPy (true where there is no GPU)."""
    kernel, given = kernel_of(operation, dtype, folder), arguments(operation, dtype)
    if operation.expression == "ACC":
        out = executor.tensor(np.zeros(1, NUMPY[dtype]), getattr(zl, dtype))
        kernel(given["a"], out=out)
    else:
        out = kernel(*(given[name] for name in "abcmnpq"))
    return executor.device is None or agrees(operation, dtype, out.numpy(), expected(operation, dtype, given))


def main(words: list[str]) -> int:
    """The number of cells that differ."""
    executor = CudaExecutor(None, "sm_90") if "--compile-only" in words else CudaExecutor.open()
    named = [word for word in words if word not in TYPES and not word.startswith("-")]
    same, wrong = 0, 0
    with tempfile.TemporaryDirectory() as folder, zl.using(executor):
        for dtype in [word for word in words if word in TYPES] or TYPES:
            cells = column(dtype)
            for operation in (o for operations in OPERATIONS.values() for o in operations):
                wanted = not named or any(word in operation.name for word in named)
                if wanted and cells[operation.name] == EVERYWHERE:
                    good = run(operation, dtype, Path(folder), executor)
                    same, wrong = same + good, wrong + (not good)
                    if not good:
                        print(f"{operation.name} of {dtype} differs", flush=True)
    print(f"{same} cells {'compile' if executor.device is None else 'agree with NumPy'}, {wrong} differ")
    return wrong


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
