"""Writes a device's schedules from times measured on it.

    python benchmarks/gpu/choose.py OUT/times-step.json OUT/times-batch.json …

Of each kernel at each size the fastest schedule is kept. Sizes that were not measured keep the entry that the file, or the
one of ``tuned.UNMEASURED``, has for them.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "src/zellige/runtime/cuda/schedules"
FIXED = frozenset(("pdl", "constant", "multiples"))
"""Options that the runtime decides at each launch."""
SYNTHETIC = frozenset(("paged_prefill",))
"""Kernels whose measured inputs stand for no real case."""


def _key(entry: dict[str, Any]) -> tuple[Any, ...]:
    """Those that divide their work by warp groups come first, and do not suit all sizes: there is another entry for the rest."""
    return entry["kernel"], tuple(sorted(entry["dims"].items())), not entry["options"].get("consumers")


def _served(entry: dict[str, Any], dims: dict[str, int]) -> dict[str, Any]:
    """What ``least``, ``most`` and ``multiples`` say of an entry for warp groups: a program for each group, rows that boxes can have."""
    if "HD" in dims:  # attention: groups are heads; a head's width is a power of two
        return {"least": {"G": entry["options"]["consumers"], "HD": 64}, "multiples": {"HD": 64}, "most": {"HD": 128}}
    rows = "T" if "T" in entry["dims"] else "M"
    least = entry["statics"]["BM"] * (entry["options"]["consumers"] - 1) + 1
    return {"least": {rows: least}, "multiples": {name: 16 for name in ("N", "K", "F") if name in entry["dims"]}}


def main() -> None:
    """Chooses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("times", nargs="+", type=Path)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "src"))
    from zellige.runtime.cuda.tuned import UNMEASURED

    best: dict[tuple[Any, ...], dict[str, Any]] = {}
    devices = set()
    for path in options.times:
        held = json.loads(path.read_text())
        devices.add(held["device"])
        for case in held["measured"]:
            if case["kernel"] in SYNTHETIC:
                continue
            known = _known(case["kernel"])
            entry = {
                "kernel": case["kernel"],
                "dims": {k: v for k, v in case["dims"].items() if k in known},
                "statics": {k: v for k, v in case["statics"].items() if k not in ("DEPTH", "WAYS", "BLOCK")},
                "options": {k: v for k, v in case["options"].items() if k not in FIXED and v},
                "us": case["us"],
            }
            if entry["options"].get("consumers"):
                entry |= _served(entry, case["dims"])
            if _key(entry) not in best or entry["us"] < best[_key(entry)]["us"]:
                best[_key(entry)] = entry
    (device,) = devices
    held = {json.loads(p.read_text())["device"]: p for p in FOLDER.glob("*.json")}
    path = held.get(device) or FOLDER / (re.sub(r"[^a-z0-9]+", "-", device.lower().removeprefix("nvidia ")) + ".json")
    before = json.loads((path if path.exists() else held[UNMEASURED]).read_text())["entries"]
    again = {key[:2] for key in best}
    entries = {_key(e): e for e in before if _key(e)[2] or _key(e)[:2] not in again}
    entries |= {
        key: e for key, e in best.items() if key[2] or e["us"] < best.get((*key[:2], True), {"us": float("inf")})["us"]
    }
    for entry in entries.values():
        entry.pop("us", None)
    listed = ",\n".join(
        "  " + json.dumps(entry)
        for _, entry in sorted(entries.items(), key=lambda item: (repr(item[0][:2]), item[0][2]))
    )
    path.write_text(f'{{\n "device": {json.dumps(device)},\n "entries": [\n{listed}\n ]\n}}\n')
    print(f"{path.relative_to(ROOT)}: {len(entries)} entries, {len(best)} of them measured now")


def _known(kernel: str) -> frozenset[str]:
    """The sizes by which schedules of this kernel are looked up."""
    rows = {"norm_rows": "T D", "sum_parts_norm": "T D", "head_norm_rope_rows": "T", "prefill_attention": "T TILES",
            "paged_decode_partial": "B", "paged_decode_combine": "B", "norm_rope_attend": "B", "combine_append": "B",
            "argmax": "B", "argmax_parts": "B", "argmax_combine": "B", "begin_segments": "PAIRS", "place_pairs": "PAIRS"}  # fmt: skip
    return frozenset(rows.get(kernel, "T M N K D F PAIRS").split())


if __name__ == "__main__":
    main()
