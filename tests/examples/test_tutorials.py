"""The tutorial kernels: each is proved for all sizes in every variant, and agrees with NumPy at awkward ones."""

from __future__ import annotations

import pytest

import zellige as zl
from tests.examples.loading import ROOT, load
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
