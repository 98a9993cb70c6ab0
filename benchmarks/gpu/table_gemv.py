"""Matrix × vector in bf16, GB/s of weights: cuBLAS, hand-written Triton of the same schedule, ours."""

from __future__ import annotations

from functools import partial

import torch
import triton
from handwritten import matvec
from measure import check, header, microseconds, poisoned, random, variants


def main() -> None:
    """Prints the table; each row names the best schedule."""
    header("matrix × vector, GB/s of weights")
    print(f"{'N×K':>12} {'cuBLAS':>8} {'Triton':>8} {'ours':>8}  ours/best  best schedules")
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
            if not variant.name.endswith("pdl"):
                bn, bk, warps = variant.statics["BN"], variant.statics["BK"], variant.kernel.compiled.num_warps
                grid = (triton.cdiv(n, bn),)
                contestants[f"triton {variant.name}"] = [
                    partial(matvec[grid], x, w, y, n, k, bn, bk, num_warps=warps)
                    for w, y in zip(weights, outs, strict=True)
                ]
        times = microseconds(contestants, least_calls=20)
        rate = {name: 2 * n * k / t / 1e3 for name, t in times.items()}
        ours = max((r, name) for name, r in rate.items() if name != "cublas" and not name.startswith("triton"))
        theirs = max((r, name) for name, r in rate.items() if name.startswith("triton"))
        best = max(rate["cublas"], theirs[0])
        print(
            f"{row:>12} {rate['cublas']:8.0f} {theirs[0]:8.0f} {ours[0]:8.0f}  {ours[0] / best:8.3f}  {ours[1]}; {theirs[1]}",
            flush=True,
        )
        top = sorted(
            ((r, name) for name, r in rate.items() if not name.startswith(("triton", "cublas"))), reverse=True
        )[:4]
        print("              " + ", ".join(f"{name} {r:.0f}" for r, name in top), flush=True)


if __name__ == "__main__":
    main()
