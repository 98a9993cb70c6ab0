"""The GPU runtime on a machine that has no GPU."""

from __future__ import annotations

import importlib
import shutil

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


def test_a_repeated_launch_runs_with_the_arguments_of_each_call() -> None:
    """What the driver would read when it is called: addresses and scalars of this call, not of the first."""
    import ctypes
    from types import SimpleNamespace as Some
    from typing import Any

    from zellige.backends.cuda.lowering import Parameter
    from zellige.runtime.cuda.launch import RepeatedLaunch

    parameters = (
        Parameter("array", "x", "*f32", multiple=16),
        Parameter("array", "y", "*f32"),
        Parameter("scalar", "eps", "fp32"),
    )
    arguments = (ctypes.c_uint64(0), ctypes.c_uint64(0), ctypes.c_float(0))
    seen: list[tuple[Any, ...]] = []

    def call(stream: int) -> None:
        seen.append((stream, *(a.value for a in arguments)))

    loaded = Some(compiled=Some(name="k", parameters=parameters))
    launch: Any = Some(kernel=loaded, arguments=arguments, call=Some(run=call))
    repeated = RepeatedLaunch(launch, Some(handle=7), ("y", "x"))

    def held(*addresses: int) -> Any:
        return [Some(address=a) for a in addresses]

    repeated.run(held(8, 32), {"eps": 0.5})
    repeated.run(held(24, 64), {"eps": 2.0})
    assert seen == [(7, 32, 8, 0.5), (7, 64, 24, 2.0)]
    assert not repeated.run(held(8, 40), {"eps": 0.5})
    assert len(seen) == 2, "nothing runs with an address that the code cannot use"


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
