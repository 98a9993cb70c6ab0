"""Matrix products in bf16, TFLOP/s: cuBLAS, hand-written Triton of the same schedule, ours."""

from __future__ import annotations

from functools import partial

import torch
import triton
from handwritten import matmul
from measure import check, header, microseconds, poisoned, random, saved, variants


def main(table: str = "gemm") -> None:
    """Prints the table; each row lists every schedule."""
    header("GEMM bf16, TFLOP/s")
    for row, found in variants(table).items():
        n = int(row)
        pairs = [(random(n, n), random(n, n), poisoned(n, n)) for _ in range(3)]
        reference = pairs[0][0].float() @ pairs[0][1].float()
        contestants = {"cublas": [partial(torch.mm, a, b, out=c) for a, b, c in pairs]}
        for stages in (3, 4):
            grid = (triton.cdiv(n, 128) * triton.cdiv(n, 256),)
            contestants[f"triton-s{stages}"] = [
                partial(matmul[grid], a, b, c, n, n, n, 128, 256, 64, 8, num_warps=8, num_stages=stages)
                for a, b, c in pairs
            ]
        for variant in found:
            calls = [variant.call({"a": a, "b": b, "c": c}) for a, b, c in pairs]
            pairs[0][2].fill_(float("nan"))
            calls[0]()
            torch.cuda.synchronize()
            check(f"gemm {row} {variant.name}", pairs[0][2], reference, 5e-3)
            contestants[variant.name] = calls
        times = microseconds(contestants, rounds=10, least_calls=12 if n <= 4096 else 3)
        rate = {name: 2 * n**3 / t / 1e6 for name, t in times.items()}
        saved(table, row, rate)
        for name, r in sorted(rate.items(), key=lambda item: -item[1]):
            print(f"{n:>6}³ {name:>24} {r:7.1f}  {r / rate['cublas']:.3f} × cuBLAS", flush=True)


if __name__ == "__main__":
    main()
