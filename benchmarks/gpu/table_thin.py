"""Thin matrix products (8 and 64 tokens), bf16, GB/s of weights: cuBLAS, hand-written Triton of the same schedules, ours.

Like for like, as in ``table_gemv``. Schedules named ``parts`` split the depth over programs and add the parts in a second launch."""

from __future__ import annotations

import math
from functools import partial

import torch
import triton
from handwritten import thin_linear
from measure import Call, Variant, check, header, microseconds, poisoned, random, saved, variants
from table_gemv import HEAD, like_for_like


def _split(
    first: Variant, second: Variant, x: torch.Tensor, w: torch.Tensor, y: torch.Tensor, part: torch.Tensor
) -> Call:
    product, total = first.call({"x": x, "w": w, "part": part}), second.call({"part": part, "y": y})

    def both() -> None:
        product()
        total()

    return both


def main() -> None:
    """Prints the table, and the geometric mean over the best peer, dependent launches included."""
    header("thin GEMM, GB/s of weights")
    print(HEAD)
    ratios = []
    for row, found in variants("thin").items():
        m, n, k = map(int, row.split("x"))
        copies = max(2, min(32, -(-300_000_000 // (2 * n * k))))
        weights = [random(n, k) for _ in range(copies)]
        x = random(m, k)
        outs = [poisoned(m, n) for _ in range(copies)]
        reference = x.double() @ weights[0].double().T
        contestants = {"cublas": [partial(torch.mm, x, w.T, out=y) for w, y in zip(weights, outs, strict=True)]}
        totals = {v.name.split()[1]: v for v in found if v.name.startswith("sum")}
        for variant in found:
            options, statics = variant.kernel.compiled.options, variant.statics
            if variant.name.startswith("sum"):
                continue
            if "DEPTH" in statics:
                shape = variant.arrays["part"][1]
                part, total = poisoned(*shape, dtype=torch.float32), totals[str(shape[0])]
                calls = [_split(variant, total, x, w, y, part) for w, y in zip(weights, outs, strict=True)]
            else:
                calls = [variant.call({"x": x, "w": w, "y": y}) for w, y in zip(weights, outs, strict=True)]
                if not options.descriptors:
                    sizes = statics["BM"], statics["BN"], statics["BK"], options.pdl
                    contestants[f"triton {variant.name}"] = [
                        partial(
                            thin_linear[(triton.cdiv(n, statics["BN"]),)], x, w, y, m, n, k, *sizes,
                            num_warps=options.num_warps, num_stages=options.num_stages, launch_pdl=options.pdl,
                        )
                        for w, y in zip(weights, outs, strict=True)
                    ]  # fmt: skip
            outs[0].fill_(float("nan"))
            calls[0]()
            torch.cuda.synchronize()
            check(f"thin {row} {variant.name}", outs[0], reference, 5e-3)
            contestants[variant.name] = calls
        times = microseconds(contestants, rounds=9, least_calls=20)
        rate = {name: 2 * n * k / t / 1e3 for name, t in times.items()}
        saved("thin", row, rate)
        print(like_for_like(row, rate), flush=True)
        ours = max(r for name, r in rate.items() if name != "cublas" and not name.startswith("triton"))
        ratios.append(ours / max(r for name, r in rate.items() if name == "cublas" or name.startswith("triton")))
    print(f"geometric mean, ours over the best peer: {math.exp(sum(map(math.log, ratios)) / len(ratios)):.3f}")


if __name__ == "__main__":
    main()
