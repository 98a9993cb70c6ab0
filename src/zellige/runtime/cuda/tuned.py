"""Schedules by kernel and size: measured once per device kind, kept in ``schedules/``, looked up at each compilation.

An entry names a kernel, the sizes it was measured at, static parameters, and options. The nearest entry (by the logarithm
of the sizes) is used; a kernel without entries runs with its defaults. A device that nobody measured uses the first file's
entries. "batch-invariant" stands for a device, too: its schedules keep the order of every sum the same at all sizes, by one
shape of matrix instruction, one tile of each inner axis, and one division of summed axes among lanes and warps, which
``tests/llm/test_order_of_sums.py`` holds. Schedules never change what is computed but for that order.
``benchmarks/gpu/choose.py`` writes the files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from zellige.backends.cuda.options import Options
from zellige.runtime.schedules import Entry, Schedules

UNMEASURED = "NVIDIA H100 80GB HBM3"
"""The device whose schedules serve those that have none."""


@cache
def _tables() -> dict[str, Schedules]:
    """Schedules by device."""
    folder = resources.files("zellige.runtime.cuda").joinpath("schedules")
    read = [Schedules.parse(file.read_text()) for file in folder.iterdir() if file.name.endswith(".json")]
    return {table.device: table for table in read}


def devices() -> list[str]:
    """The devices that were measured."""
    return sorted(_tables())


def _nearest(
    kernel: str, dims: Mapping[str, int], device: str, groups: Callable[[Entry], bool] = lambda entry: False
) -> Entry | None:
    """``groups``: whether an entry that divides its work by warp groups may be used."""

    def usable(entry: Entry) -> bool:
        return not entry.get("options", {}).get("consumers") or groups(entry)

    found = (_tables()[name].nearest(kernel, dims, usable) for name in (device, UNMEASURED) if name in _tables())
    return next((entry for entry in found if entry is not None), None)


def statics(kernel: str, dims: Mapping[str, int], device: str = UNMEASURED, *, groups: bool = False) -> dict[str, Any]:
    """Static parameters for a kernel at these sizes; ``groups``: launches may divide their work by warp groups."""
    entry = _nearest(kernel, dims, device, lambda entry: groups)
    return {} if entry is None else dict(entry.get("statics", {}))


def options(
    kernel: str,
    dims: Mapping[str, int],
    device: str = UNMEASURED,
    parts: Sequence[str] = (),
    *,
    groups: Mapping[str, Any] | None = None,
) -> Options:
    """Options for a kernel at these sizes; without any of its own, those of the first of its ``parts`` that has some.

    ``groups``: static parameters of a launch that may divide its work by warp groups; it does if they are those that were
    measured so. A fused kernel does not: such schedules suit the form of one kernel."""

    def same(entry: Entry) -> bool:
        return groups is not None and all(groups.get(name) == value for name, value in entry["statics"].items())

    own = _nearest(kernel, dims, device, same)
    entries = (own, *(_nearest(name, dims, device) for name in parts))
    entry = next((entry for entry in entries if entry is not None), None)
    return Options() if entry is None else Options.from_json(entry.get("options", {}))
