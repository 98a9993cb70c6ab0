"""Schedules by kernel and size: measured once per device kind, kept in ``tuned.json``, looked up at each compilation.

An entry names a kernel, the sizes it was measured at, static parameters, and options. The nearest entry (by the logarithm
of the sizes) is used; a kernel without entries runs with its defaults. Schedules never change what is computed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from zellige.backends.cuda.options import Options


@cache
def _table() -> dict[str, list[dict[str, Any]]]:
    text = resources.files("zellige.runtime.cuda").joinpath("tuned.json").read_text()
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in json.loads(text)["entries"]:
        found.setdefault(entry["kernel"], []).append(entry)
    return found


def _nearest(kernel: str, dims: Mapping[str, int]) -> dict[str, Any] | None:
    def distance(entry: dict[str, Any]) -> float:
        return sum(abs(math.log(max(dims.get(name, 1), 1) / size)) for name, size in entry["dims"].items())

    return min(_table().get(kernel, []), key=distance, default=None)


def statics(kernel: str, dims: Mapping[str, int]) -> dict[str, Any]:
    """Static parameters for a kernel at these sizes."""
    entry = _nearest(kernel, dims)
    return {} if entry is None else dict(entry.get("statics", {}))


def options(kernel: str, dims: Mapping[str, int]) -> Options:
    """Options for a kernel at these sizes."""
    entry = _nearest(kernel, dims)
    return Options() if entry is None else Options.from_json(entry.get("options", {}))
