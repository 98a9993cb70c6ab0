"""Schedules: static parameters (and a backend's options) by kernel and size, for a device. Both backends look them up here.

A file holds one device's: ``{"device": name, "entries": [{"kernel", "dims", "statics", "options"}, …]}``. Of a kernel's
entries the nearest counts, by the logarithm of the sizes that it names. An entry that does not suit all sizes says which it does:
``least`` and ``most`` sizes, and ``multiples`` that sizes are of, not 0 times; of two that are equally near the first counts.
Schedules change nothing but the order of sums, and with it their last bits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
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

    def nearest(
        self, kernel: str, dims: Mapping[str, int], usable: Callable[[Entry], bool] = lambda entry: True
    ) -> Entry | None:
        """Of the entries that suit these sizes and are ``usable`` the one measured nearest to them; None if the kernel has none."""

        def distance(entry: Entry) -> float:
            return sum(abs(math.log(max(dims.get(name, 1), 1) / size)) for name, size in entry["dims"].items())

        found = self.entries.get(kernel, ())
        return min((entry for entry in found if suits(entry, dims) and usable(entry)), key=distance, default=None)


def suits(entry: Entry, dims: Mapping[str, int]) -> bool:
    """Whether sizes are among those that an entry serves."""
    return (
        all(dims.get(name, 0) >= least for name, least in entry.get("least", {}).items())
        and all(dims.get(name, 0) <= most for name, most in entry.get("most", {}).items())
        and all(
            (size := dims.get(name, 0)) > 0 and size % multiple == 0
            for name, multiple in entry.get("multiples", {}).items()
        )
    )
