"""Tiles for kernels on the CPU, by size: those measured on this machine by `zellige tune`, else those of its instruction set.

What is shipped (``cpu_schedules/``) is a sensible answer without tuning; the files are named after what decides a product's
form there: ``tiles`` (AMX), ``vectors`` (everything else).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from zellige.runtime.paths import cache_dir
from zellige.runtime.schedules import Entry, Schedules


def statics(kernel: str, dims: Mapping[str, int], target: str = "host") -> dict[str, Any]:
    """Static parameters for a kernel at these sizes; none where the kernel's own defaults are as good as anything known."""
    entry = measured(target).nearest(kernel, dims) or _shipped(_kind(target)).nearest(kernel, dims)
    return {} if entry is None else dict(entry["statics"])


@cache
def _kind(target: str) -> str:
    from zellige.backends.cpu.target import target as described

    return "tiles" if described(target).tiles else "vectors"


@cache
def _shipped(kind: str) -> Schedules:
    return Schedules.parse(resources.files("zellige.runtime").joinpath(f"cpu_schedules/{kind}.json").read_text())


@cache
def device(target: str = "host") -> str:
    """This machine as far as schedules go: processor, instruction set, threads."""
    from zellige.backends.cpu.pool import default_pool
    from zellige.backends.cpu.target import target as described

    chosen = described(target)
    return f"{_processor()}, {chosen.name} of {chosen.vector_bits} bits{' with tiles' * chosen.tiles}, {default_pool().threads} threads"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "processor"  # not Linux: one file for all processors
    wanted = ("vendor_id", "cpu family", "model", "model name", "stepping")
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return " ".join(fields[name] for name in wanted if name in fields)


def measured_file(target: str = "host") -> Path:
    """Where what was measured on this machine is kept."""
    name = "".join(c if c.isalnum() else "-" for c in device(target).lower())
    return cache_dir("tuned") / f"{name}.json"


@cache
def measured(target: str = "host") -> Schedules:
    """What was measured on this machine; nothing if the file is missing or damaged (it is then written anew)."""
    try:
        found = Schedules.parse(measured_file(target).read_text())
    except (OSError, ValueError, KeyError, TypeError):
        return Schedules(device(target), {})
    return found if found.device == device(target) else Schedules(device(target), {})


def keep(entries: Iterable[Entry], target: str = "host") -> Path:
    """Adds measured entries to this machine's file (those of the same kernel and sizes are replaced); its path."""
    old = [entry for some in measured(target).entries.values() for entry in some]
    merged = {(e["kernel"], json.dumps(e["dims"], sort_keys=True)): e for e in (*old, *entries)}
    path = measured_file(target)
    body = json.dumps({"device": device(target), "entries": list(merged.values())}, indent=1)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".new")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(body)
    os.replace(temporary, path)
    measured.cache_clear()
    return path
