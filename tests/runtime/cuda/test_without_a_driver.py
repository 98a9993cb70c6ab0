"""The GPU runtime on a machine that has no GPU."""

from __future__ import annotations

import importlib
import shutil
from types import SimpleNamespace

import pytest

from zellige.diagnostics.errors import ZelligeError

pytestmark = pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine has a GPU")


@pytest.mark.parametrize("module", ["device", "driver", "graph", "launch", "memory"])
def test_modules_import(module: str) -> None:
    importlib.import_module(f"zellige.runtime.cuda.{module}")


def test_asking_for_a_gpu_says_what_is_missing() -> None:
    from zellige.runtime.cuda.device import open_device

    with pytest.raises(ZelligeError) as caught:
        open_device()
    assert caught.value.code in ("ZL0510", "ZL0511")
    assert caught.value.help


def test_structures_match_the_driver() -> None:
    """Sizes of the structures in cuda.h, which the driver reads."""
    import ctypes

    from zellige.runtime.cuda import driver

    assert ctypes.sizeof(driver._Attribute) == 72
    assert ctypes.sizeof(driver._Config) == 56
    assert driver._Config.stream.offset == 32


def test_a_plain_array_is_copied_to_the_gpu_and_one_to_be_written_refused() -> None:
    import numpy as np

    import zellige as zl
    from zellige.kernels.gpu_elementwise import swiglu
    from zellige.runtime.binding import Binder
    from zellige.runtime.cuda.array import DeviceArray
    from zellige.runtime.cuda.executor import CudaExecutor

    executor = CudaExecutor(None, "sm_90")
    binder = Binder("swiglu", swiglu.signature, swiglu.instance)
    with zl.using(executor):
        values = zl.tensor(np.ones(4, np.float32), zl.bf16).numpy()
        binding = binder.bind(executor, (values, values), {})
        assert all(isinstance(held.storage, DeviceArray) for held in binding.held)
        with pytest.raises(zl.ZelligeError) as caught:
            binder.bind(executor, (values, values), {"y": values})
        assert caught.value.code == "ZL0503"


@pytest.mark.parametrize(
    ("programs", "blocks"),
    [
        (1, 1),
        (131, 131),
        (132, 132),
        (133, 132),
        (512, 128),
        (1024, 128),
        (2048, 128),
        (2752, 132),
        (264, 132),
        (270, 132),
    ],
)
def test_turns_of_a_persistent_grid_are_alike_where_that_leaves_few_multiprocessors_idle(
    programs: int, blocks: int
) -> None:
    from zellige.runtime.cuda.launch import persistent_blocks

    assert persistent_blocks(programs, 132) == blocks
    assert -(-programs // blocks) == max(-(-programs // 132), 1)  # no more turns than with all of them


def test_blocks_of_a_persistent_grid_count_on_in_32_bits() -> None:
    from zellige.backends.cuda.options import Options
    from zellige.ir.extent import Const
    from zellige.runtime.cuda.launch import LoadedKernel

    kernel = object.__new__(LoadedKernel)
    kernel.device = SimpleNamespace(multiprocessors=132)  # type: ignore[assignment]
    for persistent, programs in ((0, 1 << 31), (1, (1 << 31) - 132), (2, (1 << 31) - 264)):
        compiled = SimpleNamespace(name="k", programs=Const(programs), options=Options(persistent=persistent))
        kernel.compiled = compiled  # type: ignore[assignment]
        with pytest.raises(ZelligeError, match="ZL0516"):
            kernel.prepare(None, {})
