"""Thin matrix products (8 and 64 tokens), bf16, GB/s of weights: cuBLAS, ours."""

from __future__ import annotations

from functools import partial

import torch
from measure import check, header, microseconds, poisoned, random, variants


def main() -> None:
    """Prints the table."""
    header("thin GEMM, GB/s of weights")
    for row, found in variants("thin").items():
        m, n, k = map(int, row.split("x"))
        copies = max(2, min(32, -(-300_000_000 // (2 * n * k))))
        weights = [random(n, k) for _ in range(copies)]
        x = random(m, k)
        outs = [poisoned(m, n) for _ in range(copies)]
        reference = x.double() @ weights[0].double().T
        contestants = {"cublas": [partial(torch.mm, x, w.T, out=y) for w, y in zip(weights, outs, strict=True)]}
        for variant in found:
            calls = [variant.call({"x": x, "w": w, "y": y}) for w, y in zip(weights, outs, strict=True)]
            outs[0].fill_(float("nan"))
            calls[0]()
            torch.cuda.synchronize()
            check(f"thin {row} {variant.name}", outs[0], reference, 5e-3)
            contestants[variant.name] = calls
        times = microseconds(contestants, least_calls=20)
        rate = {name: 2 * n * k / t / 1e3 for name, t in times.items()}
        ours = sorted(((r, name) for name, r in rate.items() if name != "cublas"), reverse=True)
        top = ", ".join(f"{name} {r:.0f}" for r, name in ours[:3])
        print(
            f"{row:>16} cuBLAS {rate['cublas']:6.0f}  ours/cuBLAS {ours[0][0] / rate['cublas']:.3f}  {top}", flush=True
        )


if __name__ == "__main__":
    main()
