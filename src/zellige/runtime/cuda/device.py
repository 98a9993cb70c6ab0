"""A GPU, or a clear word on why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from zellige.diagnostics.errors import ZelligeError
from zellige.runtime.cuda.order import Order


@dataclass(frozen=True, slots=True)
class Device:
    """An NVIDIA GPU of this machine, current in the calling thread."""

    ordinal: int
    name: str
    target: str
    """As compilers name it: ``sm_90``."""
    multiprocessors: int
    shared_bytes: int
    """Shared memory that one block may use."""
    handle: Any = field(repr=False, compare=False)
    """The ``cuda.core.Device``."""
    order: Order = field(default_factory=Order, repr=False, compare=False)
    """Of the work of all its streams."""

    def use(self) -> None:
        """Makes this the calling thread's device."""
        self.handle.set_current()

    def stream(self) -> Any:
        """A new stream (``cuda.core.Stream``) that does not wait for others."""
        self.use()
        return self.handle.create_stream()

    def event(self, *, timed: bool = False) -> Any:
        """A new event (``cuda.core.Event``); the difference of two timed ones is in milliseconds."""
        from cuda.core import EventOptions

        return self.handle.create_event(EventOptions(timing_enabled=True) if timed else None)

    def synchronise(self) -> None:
        """Waits for all work given to the device, by whomever."""
        self.use()
        self.handle.sync()


@cache
def open_device(ordinal: int = 0) -> Device:
    """The GPU of that number. ZelligeError ZL0510 (no ``cuda-core``), ZL0511 (no driver) or ZL0512 (no such GPU)."""
    core = _cuda_core()
    try:
        handle = core.Device(ordinal)
        handle.set_current()
    except Exception as error:
        kind = type(error).__name__
        missing = kind == "DynamicLibNotFoundError" or "driver" in str(error).lower()
        raise ZelligeError(
            "ZL0511" if missing else "ZL0512",
            "there is no NVIDIA driver on this machine"
            if missing
            else f"there is no usable GPU number {ordinal} on this machine",
            facts={"cause": f"{kind}: {error}"},
            help="install NVIDIA's driver, or run on the CPU with zl.using('cpu')",
        ) from error
    capability = handle.compute_capability
    properties = handle.properties
    return Device(
        ordinal, handle.name, f"sm_{capability.major}{capability.minor}", properties.multiprocessor_count,
        properties.max_shared_memory_per_block_optin, handle,
    )  # fmt: skip


def _cuda_core() -> Any:
    try:
        import cuda.core as core

        core.Device  # noqa: B018
    except (ImportError, AttributeError) as error:
        raise ZelligeError(
            "ZL0510", "running on a GPU needs the packages 'cuda-core' and 'cuda-bindings', which are not installed",
            facts={"cause": str(error)}, help="pip install 'zellige[cuda]'",
        ) from error  # fmt: skip
    return core
