"""Compiles every cell of docs/operations.md that is said to run on GPUs, with Triton, for sm_90; no GPU is needed.

    python -m tests.language.compile_for_gpus [TYPE…]

Prints the cells that Triton refuses, and how many compiled. Takes about a third of a second a cell.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.language.cells import EVERYWHERE, OPERATIONS, TYPES, column, kernel_of
from zellige.backends.cuda.compiler import compile
from zellige.diagnostics import ZelligeError


def main(chosen: list[str]) -> int:
    """The number of cells that do not compile."""
    compiled, refused = 0, []
    with tempfile.TemporaryDirectory() as folder:
        for dtype in chosen or TYPES:
            cells = column(dtype)
            for operation in (o for operations in OPERATIONS.values() for o in operations):
                if cells[operation.name] != EVERYWHERE:
                    continue
                kernel = kernel_of(operation, dtype, Path(folder))
                try:
                    compile(kernel.lower({}, {}), {}, "sm_90")
                    compiled += 1
                except ZelligeError as error:
                    refused.append(f"{operation.name} of {dtype}: {error.message.splitlines()[0]}")
                    print(refused[-1], flush=True)
    print(f"{compiled} cells compile for sm_90, {len(refused)} do not")
    return len(refused)


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
