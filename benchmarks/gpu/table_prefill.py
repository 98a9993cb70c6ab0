"""Products of Qwen3 prefill in bf16 (128 to 8192 tokens, projections of 0.6B, 4B, 8B): cuBLAS, ours; geometric means."""

from __future__ import annotations

import math
from functools import partial

import torch
from case_products import prefill_shapes
from measure import Call, Variant, check, header, microseconds, poisoned, random, saved, variants

Operands = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _calls(variant: Variant, total: Variant, sets: list[Operands], m: int, n: int, k: int) -> list[Call] | None:
    """None if the schedule does not suit the shape."""
    depth = variant.statics.get("DEPTH")
    if depth is None:
        sizes = {"M": m, "N": n, "K": k}
        return [variant.call({"x": x, "w": w, "y": y}, dims=sizes) for x, w, y in sets]
    parts = -(-k // depth)
    if not 2 <= parts <= 8 or m * n > 2 * 132 * 128 * 128:
        return None
    part = torch.empty(parts, m, n, device="cuda")
    made = []
    for x, w, y in sets:
        first = variant.call({"x": x, "w": w, "part": part}, dims={"T": m, "N": n, "K": k, "PARTS": parts})
        second = total.call({"part": part, "y": y}, dims={"T": m, "N": n, "PARTS": parts})

        def both(first: Call = first, second: Call = second) -> None:
            first()
            second()

        made.append(both)
    return made


def main() -> None:
    """Prints a line for each shape, then the geometric means of ours over cuBLAS by tokens."""
    header("Qwen3 prefill products, µs")
    ratios: dict[int, list[float]] = {}
    packed = variants("prefill")
    total = next(v for v in packed["any"] if v.name == "sum")
    for m, n, k in prefill_shapes():
        row = f"{m}x{n}x{k}"
        copies = max(2, min(12, -(-150_000_000 // (2 * (n * k + m * k + m * n)))))
        sets = [(random(m, k), random(n, k), poisoned(m, n)) for _ in range(copies)]
        x, w, y = sets[0]
        reference = x.float() @ w.float().T
        contestants: dict[str, list[Call]] = {"cublas": [partial(torch.mm, x, w.T, out=y) for x, w, y in sets]}
        for variant in packed["any"] + packed.get(f"{n}x{k}", []):
            calls = _calls(variant, total, sets, m, n, k) if variant is not total else None
            if calls is None:
                continue
            y.fill_(float("nan"))
            calls[0]()
            torch.cuda.synchronize()
            check(f"prefill {row} {variant.name}", y, reference, 5e-3)
            contestants[variant.name] = calls
        short = 2 * m * n * k < 1e11
        times = microseconds(contestants, rounds=7 if short else 5, least_calls=12 if short else 2)
        saved("prefill", row, times)
        best = sorted((t, name) for name, t in times.items() if name != "cublas")
        ratios.setdefault(m, []).append(times["cublas"] / best[0][0])
        rate = 2 * m * n * k / best[0][0] / 1e6
        print(
            f"{row:>18} cuBLAS {times['cublas']:7.1f}  ours {best[0][0]:7.1f} ({rate:4.0f} TFLOP/s)  {ratios[m][-1]:.3f} ×"
            f"  {best[0][1]}, {best[1][1]}",
            flush=True,
        )
    for m, those in sorted(ratios.items()):
        print(f"M {m:>5}: {_mean(those):.3f} × cuBLAS (least {min(those):.3f})")
    every = [r for those in ratios.values() for r in those]
    print(f"geometric mean of all {len(every)}: {_mean(every):.3f} × cuBLAS")


def _mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


if __name__ == "__main__":
    main()
