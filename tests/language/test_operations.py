"""docs/operations.md says which operation each element type has, on which backends; every cell of it is run here.

A cell that is there is proved, agrees with NumPy in the interpreter and on the CPU, and lowers for the GPU; one that is not is
refused by the frontend, at the user's line.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zellige as zl
from tests.golden import assert_golden
from tests.language.cells import (
    EPSILON,
    EVERYWHERE,
    NUMPY,
    OPERATIONS,
    PAGE,
    REFUSED,
    TYPES,
    Operation,
    agrees,
    arguments,
    column,
    expected,
    kernel_of,
    load_cell,
)  # fmt: skip
from zellige.diagnostics import ZelligeError
from zellige.verify import verify


def lower_for_gpus(kernel: zl.Kernel) -> None:
    """ZelligeError if a kernel has no GPU code."""
    from zellige.backends.cuda.lowering import lower
    from zellige.backends.cuda.options import Options
    from zellige.ir.walk import specialise

    lower(specialise(kernel.lower({}, {}), {}), Options())


def cell(operation: Operation, dtype: str, folder: Path) -> str:
    """What the table says of an operation on a dtype. AssertionError if a backend disagrees with NumPy."""
    kernel = kernel_of(operation, dtype, folder)
    try:
        function = kernel.lower({}, {})
    except ZelligeError as error:
        assert error.span is not None and error.span.file == str(folder / "cell.py") and error.help, error
        return REFUSED
    verdict = verify(function)
    assert verdict.proved, [f.message for f in verdict.findings]
    given = arguments(operation, dtype)
    wanted = expected(operation, dtype, given)
    for backend in ("reference", "cpu"):
        with zl.using(backend):
            if operation.expression == "ACC":
                out = np.zeros(1, NUMPY[dtype])
                kernel(given["a"], out=out)
            else:
                out = kernel(*(given[name] for name in "abcmnpq")).numpy()
        assert agrees(operation, dtype, out, wanted), f"{operation.name} of {dtype} on {backend}: {out} is not {wanted}"
    lower_for_gpus(kernel)
    return EVERYWHERE


def page(columns: dict[str, dict[str, str]]) -> str:
    """docs/operations.md."""
    head = "| | " + " | ".join(t.removesuffix("_") for t in TYPES) + " |\n|---|" + ":-:|" * len(TYPES)
    parts = [HEADER]
    for family, operations in OPERATIONS.items():
        rows = [
            f"| `{o.name.replace('|', BAR)}` | " + " | ".join(columns[t][o.name] for t in TYPES) + " |"
            for o in operations
        ]
        parts.append(f"## {family[0].upper()}{family[1:]}\n\n{head}\n" + "\n".join(rows))
    return "\n\n".join(parts)


BAR = "\\|"
"""A bar inside a cell of a table."""
HEADER = """# Operations and element types

Which operation is defined on which element type. ✓: proved, agrees with NumPy in the interpreter and on the CPU, and lowers for GPUs;
empty: refused with ZL0105, at your line, with what to write instead. A test runs every cell and writes this page
(`UPDATE_GOLDEN=1 python -m pytest tests/language`).

Block-quantised `Q4_0`, `Q4_1` and `Q8_0` are loaded and unpacked with `.to(f32)`, `.to(f16)` or `.to(bf16)`; nothing else is defined
on them. fp8 is arithmetic in f32, rounded after every operation: convert it once with `.to(f32)` where more than one operation
follows. `zl.fma` of f32 and f64 is rounded once, on every backend; of f16, bf16 and fp8 it is the one of f32, then rounded to the type; of
integers it is `x * y + z`. Random numbers are u32 (`zl.random_bits`) and f32 (`zl.random_uniform`, `zl.random_normal`) whatever the counter's type."""


RESULTS: dict[str, dict[str, str]] = {}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TYPES)
def test_the_page_says_what_a_type_has(dtype: str, tmp_path: Path):
    RESULTS[dtype] = {o.name: cell(o, dtype, tmp_path) for operations in OPERATIONS.values() for o in operations}
    if not os.environ.get("UPDATE_GOLDEN"):
        assert RESULTS[dtype] == column(dtype)
    elif len(RESULTS) == len(TYPES):
        assert_golden(PAGE, page(RESULTS))


def test_the_page_is_what_is_written_from_its_columns():
    assert_golden(PAGE, page({dtype: column(dtype) for dtype in TYPES}))


def blocks(kind: str, rng: np.random.Generator) -> tuple[Any, Any]:
    """The bytes of two rows of two blocks each, and the numbers that they stand for by the formats in ``ir/dtypes.py``."""
    scale = rng.random((2, 2, 1)).astype(np.float16)
    least = rng.random((2, 2, 1)).astype(np.float16)
    if kind == "Q8_0":
        quants = rng.integers(-128, 128, (2, 2, 32)).astype(np.int8)
        packed = [scale.view(np.uint8), quants.view(np.uint8)]
        values = scale.astype(np.float64) * quants
    else:
        quants = rng.integers(0, 16, (2, 2, 32)).astype(np.uint8)
        nibbles = quants[..., :16] | quants[..., 16:] << 4
        packed = [scale.view(np.uint8), *([least.view(np.uint8)] if kind == "Q4_1" else []), nibbles]
        values = scale.astype(np.float64) * (quants.astype(np.float64) - (8 if kind == "Q4_0" else 0))
        values = values + (least.astype(np.float64) if kind == "Q4_1" else 0)
    return np.concatenate(packed, -1).reshape(2, -1), values.reshape(2, 64)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("target", ["f16", "bf16", "f32"])
@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
def test_blocks_unpack_to_floats(kind: str, target: str, backend: str, tmp_path: Path):
    path = tmp_path / "unpack.py"
    path.write_text(
        f"import zellige as zl\n\n\n@zl.kernel\ndef cell(x: zl.In[zl.{kind}, 2, 64], *, y: zl.Out[zl.{target}, 2, 64]):\n"
        f"    m = zl.grid(2)\n    y[m, :] = x[m, :].to(zl.{target})\n"
    )
    kernel = load_cell(path)
    packed, values = blocks(kind, np.random.default_rng(3))
    with zl.using(backend):
        found = kernel(zl.tensor(packed, getattr(zl, kind), (2, 64))).numpy().astype(np.float64)
    np.testing.assert_allclose(found, values, atol=EPSILON[target] * np.abs(values).max())
    lower_for_gpus(kernel)
