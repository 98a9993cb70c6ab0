"""Products of Qwen3 prefill in bf16 (128 to 8192 tokens, projections of 0.6B, 4B, 8B): cuBLAS, ours; geometric means."""

from __future__ import annotations

import math
from functools import partial

import torch
from case_products import prefill_shapes
from measure import Call, Variant, check, header, microseconds, poisoned, random, save, saved, variants

Operands = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
MULTIPROCESSORS = 132
TRIED = 20
"""Schedules measured for each shape: the most promising ones by ``_guess``."""


def _guess(variant: Variant, m: int, n: int, k: int) -> float:
    """Predicted time, µs: what the busiest multiprocessor computes and reads, and the traffic of partial sums."""
    made, parts = variant.kernel.compiled, k // variant.statics.get("DEPTH", k)
    bm, bn = variant.statics["BM"] * (made.options.consumers or 1), variant.statics["BN"] + variant.statics.get("BX", 0)
    programs = -(-m // bm) * -(-n // bn) * parts
    held = 227 * 1024 // (made.shared_bytes + 1024), 65536 // (made.num_warps * 32 * made.registers)
    resident = max(min(held), 1)
    busiest, rest = divmod(programs, MULTIPROCESSORS * resident)
    tiles = busiest * resident + -(-rest // MULTIPROCESSORS)
    macs = tiles * bm * bn * k / parts
    read = tiles * (bm + bn) * 2 * k / parts / 90e3
    alone = 0.75 if made.num_warps * 32 * resident < 256 or (programs <= MULTIPROCESSORS and bm * bn < 16384) else 1.0
    return max(macs * 2 / 5.7e6 / alone, read) + (2 if parts > 1 else 0) + (parts > 1) * parts * m * n * 8 / 5e6


def _calls(variant: Variant, totals: dict[int, Variant], sets: list[Operands], m: int, n: int, k: int) -> list[Call]:
    depth = variant.statics.get("DEPTH")
    if depth is None:
        rows = "T" if variant.schedule["kernel"] == "linear_rows" else "M"
        return [variant.call({"x": x, "w": w, "y": y}, dims={rows: m}) for x, w, y in sets]
    part = torch.empty(k // depth, m, n, device="cuda")
    made = []
    for x, w, y in sets:
        first = variant.call({"x": x, "w": w, "part": part}, dims={"M": m})
        second = totals[k // depth].call({"part": part, "y": y}, dims={"T": m})

        def both(first: Call = first, second: Call = second) -> None:
            first()
            second()

        made.append(both)
    return made


def _whole_waves_first(
    found: list[Variant], totals: dict[int, Variant], sets: list[Operands], m: int, n: int, k: int
) -> dict[str, list[Call]]:
    """As many rows as fill all multiprocessors in one launch, the others with their depth cut so that they fill them, too."""
    across = -(-n // 256)
    wave = MULTIPROCESSORS // across * 128
    whole = m // wave * wave if wave else 0
    fitting = [p for p in totals if across * (m - whole) // 128 * p <= MULTIPROCESSORS]
    if not whole or whole == m or not fitting:
        return {}
    by_name, parts = {v.name: v for v in found}, max(fitting)
    first, rest = by_name["128-256-64-w8-s4-"], by_name[f"parts{parts}-128-256-64-w8-s4"]
    calls = []
    for x, w, y in sets:
        one = first.call({"x": x[:whole], "w": w, "y": y[:whole]}, dims={"T": whole})
        (two,) = _calls(rest, totals, [(x[whole:], w, y[whole:])], m - whole, n, k)

        def both(one: Call = one, two: Call = two) -> None:
            one()
            two()

        calls.append(both)
    return {f"rows{whole}+parts{parts}": calls}


def main() -> None:
    """Prints a line for each shape, then the geometric means of ours over cuBLAS by tokens."""
    header("Qwen3 prefill products, µs")
    ratios: dict[int, list[float]] = {}
    measured: list[dict[str, object]] = []
    packed = variants("prefill")
    for m, n, k in prefill_shapes():
        row, found = f"{m}x{n}x{k}", packed.get(f"{n}x{k}", [])
        if not found:
            continue  # packed without these
        totals = {int(v.name.split()[1]): v for v in found if v.name.startswith("sum")}
        copies = max(2, min(12, -(-150_000_000 // (2 * (n * k + m * k + m * n)))))
        sets = [(random(m, k), random(n, k), poisoned(m, n)) for _ in range(copies)]
        x, w, y = sets[0]
        reference = x.float() @ w.float().T
        contestants: dict[str, list[Call]] = {"cublas": [partial(torch.mm, x, w.T, out=y) for x, w, y in sets]}
        promising = sorted((v for v in found if v not in totals.values()), key=lambda v: _guess(v, m, n, k))[:TRIED]
        ours = {v.name: _calls(v, totals, sets, m, n, k) for v in promising}
        ours |= _whole_waves_first(found, totals, sets, m, n, k)
        for name, calls in ours.items():
            y.fill_(float("nan"))
            calls[0]()
            torch.cuda.synchronize()
            check(f"prefill {row} {name}", y, reference, 5e-3)
        contestants |= ours
        short = 2 * m * n * k < 1e11
        times = microseconds(contestants, rounds=7 if short else 5, least_calls=12 if short else 2)
        saved("prefill", row, times)
        for variant in promising:
            if variant.schedule["kernel"] == "linear_rows":
                schedule = {**variant.schedule, "dims": {"T": m, "N": n, "K": k}}
                measured.append({**schedule, "us": times[variant.name]})
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
    save("times-prefill", {"device": torch.cuda.get_device_name(), "measured": measured})


def _mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


if __name__ == "__main__":
    main()
