"""Products of Qwen3 prefill in bf16 (128 to 8192 tokens, projections of 0.6B, 4B, 8B): cuBLAS, ours; geometric means."""

from __future__ import annotations

import math
from functools import partial

import torch
from measure import Call, Variant, check, header, microseconds, poisoned, random, saved, variants


def _calls(variant: Variant, total: Variant | None, sets: list[tuple[torch.Tensor, ...]]) -> list[Call]:
    if "DEPTH" not in variant.statics:
        return [variant.call({"x": x, "w": w, "y": y}) for x, w, y in sets]
    assert total is not None
    part = torch.empty(variant.arrays["part"][1], device="cuda")
    made = []
    for x, w, y in sets:
        first = variant.call({"x": x, "w": w, "part": part})
        second = total.call({"part": part, "y": y})

        def both(first: Call = first, second: Call = second) -> None:
            first()
            second()

        made.append(both)
    return made


def main() -> None:
    """Prints a line for each shape, then the geometric means of ours over cuBLAS by tokens."""
    header("Qwen3 prefill products, µs")
    ratios: dict[int, list[float]] = {}
    for row, found in variants("prefill").items():
        m, n, k = map(int, row.split("x"))
        copies = max(2, min(12, -(-150_000_000 // (2 * (n * k + m * k + m * n)))))
        sets = [(random(m, k), random(n, k), poisoned(m, n)) for _ in range(copies)]
        x, w, y = sets[0]
        reference = x.float() @ w.float().T
        contestants = {"cublas": [partial(torch.mm, x, w.T, out=y) for x, w, y in sets]}
        total = next((v for v in found if v.name == "sum"), None)
        for variant in found:
            if variant.name == "sum":
                continue
            calls = _calls(variant, total, sets)
            y.fill_(float("nan"))
            calls[0]()
            torch.cuda.synchronize()
            check(f"prefill {row} {variant.name}", y, reference, 5e-3)
            contestants[variant.name] = calls
        short = 2 * m * n * k < 1e11
        times = microseconds(contestants, rounds=9 if short else 5, least_calls=12 if short else 2)
        saved("prefill", row, times)
        best = min((t, name) for name, t in times.items() if name != "cublas")
        ratios.setdefault(m, []).append(times["cublas"] / best[0])
        rate = 2 * m * n * k / best[0] / 1e6
        print(
            f"{row:>18} cuBLAS {times['cublas']:8.1f}  ours {best[0]:8.1f} ({rate:4.0f} TFLOP/s)  {ratios[m][-1]:.3f} ×  {best[1]}",
            flush=True,
        )
    for m, found_ratios in sorted(ratios.items()):
        print(f"M {m:>5}: {_mean(found_ratios):.3f} × cuBLAS (least {min(found_ratios):.3f})")
    print(
        f"geometric mean of all {sum(map(len, ratios.values()))}: {_mean([r for rs in ratios.values() for r in rs]):.3f} × cuBLAS"
    )


def _mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


if __name__ == "__main__":
    main()
