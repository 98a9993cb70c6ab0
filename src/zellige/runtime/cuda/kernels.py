"""From verified IR to a kernel on a device, in one call.

    device = open_device()
    stream = device.stream()
    kernel = load_kernel(instance.function, dims, device, Options(num_warps=8, pdl=True, constant=frozenset("w")))
    launch = kernel.prepare(stream, {"x": x.address, "w": w.address, "y": y.address}, scalars, dims)
    launch(stream)                                  # at once, or
    graph = LaunchGraph(device, [launch, ...])      # captured; graph(stream) replays

``load_kernel`` takes a compiled kernel from the disk cache if there is one (a cache made on another machine will do).
"""

from __future__ import annotations

from collections.abc import Mapping

from zellige.backends.cuda.compiler import compile
from zellige.backends.cuda.options import Options
from zellige.ir.ops import Function
from zellige.runtime.cuda.device import Device
from zellige.runtime.cuda.launch import LoadedKernel
from zellige.runtime.paths import cache_dir


def load_kernel(
    function: Function, dims: Mapping[str, int], device: Device, options: Options | None = None
) -> LoadedKernel:
    """The kernel compiled for ``device`` with ``dims`` fixed (the other dims are given at each launch), and loaded.

    ``function`` has been verified. Errors of ``compile`` (ZL0901 … ZL0905) and ``LoadedKernel`` (ZL0513, ZL0514)."""
    used = {name: size for name, size in dims.items() if name in function.dims()}
    return LoadedKernel(compile(function, used, device.target, options, cache_dir("cuda")), device)
