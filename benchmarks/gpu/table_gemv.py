"""Matrix × vector in bf16, GB/s of weights: cuBLAS, hand-written Triton of the same schedules, ours.

Like for like: every contestant is a CUDA graph of equally many launches over the same buffers. Triton and ours run as ordinary
launches and as programmatic dependent ones (cuBLAS decides that by itself)."""

from __future__ import annotations

from functools import partial

import torch
import triton
from handwritten import matvec
from measure import check, header, microseconds, poisoned, random, saved, variants

HEAD = (
    f"{'':>16} {'cuBLAS':>7} {'Triton':>7} {'ours':>7} {'ratio':>6} | {'Triton':>7} {'ours':>7} {'ratio':>6}"
    "  (right of the bar: dependent launches)"
)
"""Titles of the columns of ``like_for_like``."""


def main() -> None:
    """Prints the table; each row names the best schedule."""
    header("matrix × vector, GB/s of weights")
    print(HEAD)
    for row, found in variants("gemv").items():
        n, k = map(int, row.split("x"))
        copies = max(2, min(64, -(-400_000_000 // (2 * n * k))))
        weights = [random(n, k) for _ in range(copies)]
        x = random(k)
        outs = [poisoned(n) for _ in range(copies)]
        reference = weights[0].double() @ x.double()
        contestants = {"cublas": [partial(torch.mv, w, x, out=y) for w, y in zip(weights, outs, strict=True)]}
        for variant in found:
            calls = [variant.call({"x": x, "w": w, "y": y}) for w, y in zip(weights, outs, strict=True)]
            outs[0].fill_(float("nan"))
            calls[0]()
            torch.cuda.synchronize()
            check(f"gemv {row} {variant.name}", outs[0], reference, 5e-3)
            contestants[variant.name] = calls
            bn, bk, options = variant.statics["BN"], variant.statics["BK"], variant.kernel.compiled.options
            contestants[f"triton {variant.name}"] = [
                partial(
                    matvec[(triton.cdiv(n, bn),)], x, w, y, n, k, bn, bk, options.pdl,
                    num_warps=options.num_warps, launch_pdl=options.pdl,
                )
                for w, y in zip(weights, outs, strict=True)
            ]  # fmt: skip
        times = microseconds(contestants, rounds=9, least_calls=20)
        rate = {name: 2 * n * k / t / 1e3 for name, t in times.items()}
        saved("gemv", row, rate)
        print(like_for_like(row, rate), flush=True)


def like_for_like(row: str, rate: dict[str, float]) -> str:
    """A line: the best of each kind, and ours over the best peer without and with dependent launch."""

    def best(ours: bool, pdl: bool) -> float:
        return max(
            r for name, r in rate.items()
            if name != "cublas" and name.startswith("triton") != ours and name.endswith("pdl") == pdl
        )  # fmt: skip

    plain, chained = best(True, False), best(True, True)
    peers = max(rate["cublas"], best(False, False)), max(rate["cublas"], best(False, False), best(False, True))
    name = max((r, n) for n, r in rate.items() if n != "cublas" and not n.startswith("triton"))[1]
    return (
        f"{row:>16} {rate['cublas']:7.0f} {best(False, False):7.0f} {plain:7.0f} {plain / peers[0]:6.3f} |"
        f" {best(False, True):7.0f} {chained:7.0f} {chained / peers[1]:6.3f}  {name}"
    )


if __name__ == "__main__":
    main()
