"""A step recorded for a GPU is fused through the same IR, and compiles, on a machine without one."""

from __future__ import annotations

from typing import Any

import pytest

import zellige as zl
from zellige import bf16, f32
from zellige.kernels.batch import linear_rows, norm_rows
from zellige.runtime.cuda.executor import CudaExecutor

T, N = zl.dims("T N")


@zl.kernel
def gated(gate: zl.In[f32, T, N], up: zl.In[f32, T, N], *, y: zl.Out[bf16, T, N], BC: zl.Static = 256):
    """y = silu(gate) · up."""
    t, cols = zl.grid(T, N.tiles(BC))
    a = gate[t, cols]
    y[t, cols] = (a * zl.sigmoid(a) * up[t, cols]).to(bf16)


@zl.kernel
def added(x: zl.In[f32, T, N], *, h: zl.Mut[f32, T, N], BC: zl.Static = 256):
    """h += x."""
    t, cols = zl.grid(T, N.tiles(BC))
    h[t, cols] = h[t, cols] + x[t, cols]


@pytest.mark.slow
def test_a_block_recorded_for_a_gpu_is_fused_and_has_the_schedule_of_its_product() -> None:
    executor = CudaExecutor(None, "sm_90")
    with zl.using(executor):
        h, g = executor.zeros((64, 256), f32), executor.zeros((256,), bf16)
        gate, up, down = (executor.zeros(shape, bf16) for shape in ((512, 256), (512, 256), (256, 512)))
        with zl.record() as graph:
            x = norm_rows(h, g, 1e-6)
            a, b = (executor.empty((64, 512), f32) for _ in range(2))
            linear_rows(x, gate, y=a)
            linear_rows(x, up, y=b)
            y = gated(a, b)
            d = executor.empty((64, 256), f32)
            linear_rows(y, down, y=d)
            added(d, h=h)
        fused = graph.fused([x, a, b, y, d], lambda p: p.bytes_again == 0)
    launches = [step.launch for step in fused._steps]
    assert [launch.instance.function.name for launch in launches] == [
        "norm_rows", "linear_rows_then_linear_rows_then_gated", "linear_rows_then_added",
    ]  # fmt: skip
    assert launches[2].binding.plan.parts == ("linear_rows", "added")
    made = [_compiled(launch) for launch in launches]
    assert all(kernel.spilled_bytes == 0 for kernel in made) and "wgmma" in made[2].ptx


def _compiled(launch: Any) -> Any:
    """The kernel of a launch: the last one that was compiled for its sizes (other tests may have compiled it for others)."""
    sizes = tuple(sorted(launch.binding.dims.items()))
    return [kernel for key, kernel in launch.instance.compiled.items() if key[1] == sizes][-1]
