"""Schedules: static parameters (and a backend's options) by kernel and size, for a device. Both backends look them up here.

A file holds one device's: ``{"device": name, "entries": [{"kernel", "dims", "statics", "options"}, …]}``. Of a kernel's
entries the nearest counts, by the logarithm of the sizes that it names. Schedules change nothing but
the order of sums, and with it their last bits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Schedules:
    """The entries of one device, by kernel."""

    device: str
    entries: Mapping[str, Sequence[Entry]]

    @classmethod
    def parse(cls, text: str) -> Schedules:
        """The schedules of a file. ValueError, KeyError or TypeError if that is not what it holds."""
        held = json.loads(text)
        found: dict[str, list[Entry]] = {}
        for entry in held["entries"]:
            if not isinstance(entry["dims"], dict) or not isinstance(entry.get("statics", {}), dict):
                raise TypeError("an entry has dims and statics")
            found.setdefault(entry["kernel"], []).append(entry)
        return cls(held["device"], found)

    def nearest(self, kernel: str, dims: Mapping[str, int]) -> Entry | None:
        """The entry measured nearest to these sizes; None if the kernel has none."""

        def distance(entry: Entry) -> float:
            return sum(abs(math.log(max(dims.get(name, 1), 1) / size)) for name, size in entry["dims"].items())

        return min(self.entries.get(kernel, ()), key=distance, default=None)
