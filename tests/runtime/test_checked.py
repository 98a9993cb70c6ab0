"""ZELLIGE_CHECK finds what a miscompiled kernel does. Kernels here are compiled wrongly on purpose."""

from __future__ import annotations

import numpy as np
import pytest

import zellige as zl
from tests.runtime.kernels import add_one, double, scale_add, vector
from zellige import f32
from zellige.diagnostics.errors import InternalError
from zellige.runtime.cpu import CpuExecutor

M = zl.dims("M")


@zl.kernel
def square(x: zl.In[f32, M], *, y: zl.Out[f32, M], B: zl.Static = 8):
    i = zl.grid(M.tiles(B))
    y[i] = x[i] * x[i]


class Wrong(CpuExecutor):
    """Runs launches with the machine code, the dims or the programs of others."""

    def __init__(self, checks: int, *, programs: int = 0, extent: int = 0, instead: object = None) -> None:
        super().__init__(CpuExecutor.default().pool)
        self.checks = checks
        self._programs, self._extent, self._instead = programs, extent, instead

    def _compiled(self, instance, binding):
        kernel = super()._compiled(self._instead or instance, binding)
        programs, extent = self._programs, self._extent

        class Changed:
            name, guards, slots, entry_address = kernel.name, kernel.guards, kernel.slots, kernel.entry_address
            claims = kernel.claims

            def num_programs(self, dims):
                return kernel.num_programs(dims) + programs

            def pack(self, arrays, dims, scalars, strides, flag=0):
                return kernel.pack(arrays, {**dims, "M": dims["M"] + extent}, scalars, strides, flag)

        return Changed()


def found(executor: CpuExecutor, call) -> str:
    with zl.using(executor), pytest.raises(InternalError) as caught:
        call()
    return str(caught.value)


def correct(executor: CpuExecutor) -> None:
    with zl.using(executor):
        y = double(vector(20))
        add_one(y=y)
        scale_add(vector(20), 2, y=y)
        np.testing.assert_array_equal(y.numpy(), (2 * np.arange(20) + 1) * 3 + 2 * np.arange(20))
        np.testing.assert_array_equal(double(vector(20)[::2]).numpy(), 4 * np.arange(10))
        with zl.record() as graph:
            z = double(y)
        graph.replay()
        np.testing.assert_array_equal(z.numpy(), 2 * y.numpy())


@pytest.mark.parametrize("checks", [0, 1, 2])
def test_correct_kernels_pass(checks: int):
    correct(Wrong(checks))


def test_a_write_behind_an_argument_is_found():
    assert "1 bytes after its argument 'y'" in found(Wrong(1, extent=3, programs=1), lambda: double(vector(16)))


def test_elements_that_are_not_written_are_found():
    assert "element (16,) of 'y' is not written" in found(Wrong(1, programs=-1), lambda: double(vector(20)))


def test_they_are_found_in_graphs():
    executor = Wrong(1, programs=-1)
    with zl.using(executor):
        with zl.record() as graph:
            double(vector(20))
        assert "element (16,)" in found(executor, graph.replay)


def test_wrong_results_are_found_by_the_interpreter():
    @zl.kernel
    def cube(x: zl.In[f32, M], *, y: zl.Out[f32, M], B: zl.Static = 8):
        i = zl.grid(M.tiles(B))
        y[i] = x[i] * x[i] * x[i]

    text = found(Wrong(2, instead=cube.instance({"B": 8}, {})), lambda: square(np.array([1, 2, 3], np.float32)))
    assert "is 8.0 at (1,), but 4.0 in the interpreter" in text


def test_the_environment_chooses(monkeypatch):
    monkeypatch.setenv("ZELLIGE_CHECK", "2")
    assert CpuExecutor(CpuExecutor.default().pool).checks == 2
    monkeypatch.delenv("ZELLIGE_CHECK")
    assert CpuExecutor(CpuExecutor.default().pool).checks == 0
