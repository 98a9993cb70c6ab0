"""Schedules by kernel and size: measured once per device kind, kept in ``schedules/``, looked up at each compilation.

An entry names a kernel, the sizes it was measured at, static parameters, and options. The nearest entry (by the logarithm
of the sizes) is used; a kernel without entries runs with its defaults. A device that nobody measured uses the first file's
entries. "batch-invariant" stands for a device, too: its schedules keep the order of every sum the same at all sizes, by one
shape of matrix instruction, one tile of each inner axis, and one number of warps where they share a reduction. Schedules
never change what is computed but for that order. ``benchmarks/gpu/choose.py`` writes the files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from zellige.backends.cuda.options import Options

UNMEASURED = "NVIDIA H100 80GB HBM3"
"""The device whose schedules serve those that have none."""


@cache
def _tables() -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Entries by device and kernel."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for file in resources.files("zellige.runtime.cuda").joinpath("schedules").iterdir():
        if file.name.endswith(".json"):
            held = json.loads(file.read_text())
            table = found.setdefault(held["device"], {})
            for entry in held["entries"]:
                table.setdefault(entry["kernel"], []).append(entry)
    return found


def devices() -> list[str]:
    """The devices that were measured."""
    return sorted(_tables())


def _nearest(kernel: str, dims: Mapping[str, int], device: str) -> dict[str, Any] | None:
    def distance(entry: dict[str, Any]) -> float:
        return sum(abs(math.log(max(dims.get(name, 1), 1) / size)) for name, size in entry["dims"].items())

    own, others = (_tables().get(name, {}).get(kernel, []) for name in (device, UNMEASURED))
    return min(own or others, key=distance, default=None)


def statics(kernel: str, dims: Mapping[str, int], device: str = UNMEASURED) -> dict[str, Any]:
    """Static parameters for a kernel at these sizes."""
    entry = _nearest(kernel, dims, device)
    return {} if entry is None else dict(entry.get("statics", {}))


def options(kernel: str, dims: Mapping[str, int], device: str = UNMEASURED) -> Options:
    """Options for a kernel at these sizes."""
    entry = _nearest(kernel, dims, device)
    return Options() if entry is None else Options.from_json(entry.get("options", {}))
