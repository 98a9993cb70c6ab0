"""The tutorial kernels: each is proved for all sizes in every variant, and agrees with NumPy at awkward ones."""

from __future__ import annotations

import ast
import inspect
import textwrap

import pytest

import zellige as zl
from tests.examples.loading import ROOT, load
from zellige.ir.walk import specialise
from zellige.runtime.instances import Instance
from zellige.verify import verify

TUTORIALS = sorted((ROOT / "examples" / "tutorials").glob("*.py"))
SET = (
    "block_scaled_matmul", "convolution", "cross_entropy", "dropout", "fft", "flash_attention", "grouped_gemm", "histogram",
    "layer_norm", "matmul", "mixture_of_experts", "paged_attention", "prefix_sum", "soft_max", "top_k", "transpose", "vector_add",
)  # fmt: skip


@pytest.fixture(params=TUTORIALS, ids=lambda path: path.stem)
def tutorial(request):
    return load(request.param)


def test_the_whole_set_is_there():
    assert tuple(path.stem for path in TUTORIALS) == SET


def test_every_kernel_is_proved_in_every_variant(tutorial):
    kernels = [value for value in vars(tutorial).values() if isinstance(value, zl.Kernel)]
    assert kernels
    for kernel in kernels:
        for statics, dtypes in kernel.variants():
            verdict = verify(kernel.lower(statics, dtypes))
            assert verdict.proved, "\n".join(str(finding) for finding in verdict.findings)
            assert not verdict.unsafe


def lines_of(kernel: zl.Kernel) -> int:
    """Lines of code: without blank lines, comments and docstrings."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kernel.function))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    documented = isinstance(tree.body[0], ast.Expr) and isinstance(tree.body[0].value, ast.Constant)
    prose = tree.body[0].end_lineno - tree.body[0].lineno + 1 if documented else 0
    text = [line.strip() for line in inspect.getsource(kernel.function).splitlines()]
    return sum(bool(line) and not line.startswith("#") for line in text) - prose


def test_every_kernel_lowers_for_gpus(tutorial):
    from zellige.backends.cuda.lowering import lower
    from zellige.backends.cuda.options import Options

    for kernel in vars(tutorial).values():
        if isinstance(kernel, zl.Kernel):
            function = kernel.lower(*next(kernel.variants()))
            sizes = {dim: 64 for dim in Instance(function).tile_dims}
            assert f"def {kernel.name}_kernel(" in lower(specialise(function, sizes), Options()).text


def test_the_table_of_kernels_is_up_to_date():
    rows = []
    for path in TUTORIALS:
        found = [value for value in vars(load(path)).values() if isinstance(value, zl.Kernel)]
        kernels = ", ".join(f"`{kernel.name}` {lines_of(kernel)}" for kernel in found)
        rows.append(f"| [{path.stem.replace('_', ' ')}](tutorials/{path.name}) | {kernels} |")
    page = (ROOT / "examples" / "README.md").read_text()
    table = "| | kernels, and their lines of code |\n|---|---|\n" + "\n".join(rows)
    assert table in page, f"put this table into examples/README.md:\n{table}"


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_it_agrees_with_numpy(tutorial, backend):
    with zl.using(backend):
        tutorial.check()


def test_zellige_check_of_the_examples_is_clean():
    from click.testing import CliRunner

    from zellige.cli.check import check

    result = CliRunner().invoke(check, [str(ROOT / "examples")])
    assert result.exit_code == 0, result.output
    assert "all proved" in result.output
