"""Draws docs/performance from saved results: matrix products by size, and the roofline.

    pip install '.[bench]'; python benchmarks/gpu/plots.py RESULTS docs/plots

RESULTS holds the JSON files that the tables write (``OUT=RESULTS run.py …``).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

PEERS = ("cublas", "cudnn", "flash2", "torch", "triton", "copy")
OURS, THEIRS = "#1f6f8b", "#c26a1b"


@dataclass(frozen=True)
class Point:
    """The best of ours and of the peers on one problem."""

    kind: str
    flops: float
    bytes: float
    ours: float
    """TFLOP/s."""
    theirs: float


def _table(folder: Path, name: str) -> dict[str, dict[str, float]]:
    path = folder / f"{name}.json"
    return json.loads(path.read_text())["rows"] if path.exists() else {}


def _best(row: dict[str, float], *, peers: bool, least: bool = False) -> float:
    found = [value for name, value in row.items() if name.startswith(PEERS) == peers]
    return (min if least else max)(found)


def points(folder: Path) -> Iterator[Point]:
    """Every problem of which there are results."""
    for row, rates in _table(folder, "gemm").items():
        n = int(row)
        yield Point("GEMM", 2 * n**3, 6 * n**2, _best(rates, peers=False), _best(rates, peers=True))
    for row, times in _table(folder, "prefill").items():
        m, n, k = map(int, row.split("x"))
        flops = 2 * m * n * k
        ours, theirs = (flops / _best(times, peers=p, least=True) / 1e6 for p in (False, True))
        yield Point("GEMM", flops, 2 * (m * k + n * k + m * n), ours, theirs)
    for name, kind in (("gemv", "matrix × vector"), ("thin", "thin GEMM")):
        for row, rates in _table(folder, name).items():
            sizes = [int(s) for s in row.split("x")]
            m, n, k = sizes if len(sizes) == 3 else (1, *sizes)
            ours, theirs = (m * _best(rates, peers=p) / 1e3 for p in (False, True))  # rates are GB/s of 2-byte weights
            yield Point(kind, 2 * m * n * k, 2 * (m * k + n * k + m * n), ours, theirs)
    for row, rates in _table(folder, "attention").items():
        s = int(row)
        yield Point(
            "attention",
            2 * 32 * 128 * s * (s + 1),
            2 * 128 * s * (2 * 32 + 2 * 8),
            _best(rates, peers=False),
            _best(rates, peers=True),
        )


def roofline(folder: Path, out: Path, device: str) -> None:
    """Rates over arithmetic intensity, under the fastest memory and arithmetic that any contestant showed."""
    found = list(points(folder))
    memory = max(rate * p.bytes / p.flops for p in found for rate in (p.ours, p.theirs))
    peak = max(rate for p in found for rate in (p.ours, p.theirs))
    figure, axes = plt.subplots(figsize=(8, 5))
    markers = dict(zip(("GEMM", "thin GEMM", "matrix × vector", "attention"), "os^D", strict=True))
    for kind, marker in markers.items():
        some = [p for p in found if p.kind == kind]
        x = [p.flops / p.bytes for p in some]
        if some:
            axes.scatter(x, [p.theirs for p in some], marker=marker, facecolors="none", edgecolors=THEIRS, s=28)
            axes.scatter(x, [p.ours for p in some], marker=marker, color=OURS, s=16, label=kind)
    x = [0.5, peak / memory, 1e4]
    label = f"most seen: {memory:.2f} TB/s, {peak:.0f} TFLOP/s"
    axes.plot(x, [min(v * memory, peak) for v in x], color="black", linewidth=1, label=label)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="FLOP per byte that must move",
        ylabel="TFLOP/s",
        title=f"{device}: ours filled, best peer open",
    )
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.savefig(out / "roofline.svg", bbox_inches="tight")


def products(folder: Path, out: Path, device: str) -> None:
    """Rates of matrix products over their size."""
    found = sorted((p for p in points(folder) if p.kind == "GEMM"), key=lambda p: p.flops)
    figure, axes = plt.subplots(figsize=(8, 5))
    sizes = [p.flops / 1e9 for p in found]
    axes.vlines(sizes, [p.ours for p in found], [p.theirs for p in found], color="grey", linewidth=0.6, alpha=0.6)
    axes.scatter(
        sizes,
        [p.theirs for p in found],
        facecolors="none",
        edgecolors=THEIRS,
        label="cuBLAS",
        s=28,
    )
    axes.scatter(sizes, [p.ours for p in found], color=OURS, label="ours", s=16)
    axes.set(
        xscale="log",
        xlabel="GFLOP of the product",
        ylabel="TFLOP/s",
        title=f"bf16 matrix products, {device}",
        ylim=(0, None),
    )
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(out / "gemm_by_size.svg", bbox_inches="tight")


def main() -> None:
    """Writes both plots."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("results", type=Path)
    arguments.add_argument("out", type=Path)
    options: Any = arguments.parse_args()
    device = next(json.loads(p.read_text())["device"] for p in sorted(options.results.glob("*.json")))
    plt.rcParams["svg.hashsalt"] = "zellige"  # equal results give equal files
    roofline(options.results, options.out, device)
    products(options.results, options.out, device)


if __name__ == "__main__":
    main()
