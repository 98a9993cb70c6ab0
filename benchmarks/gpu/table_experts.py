"""Grouped products of a mixture of experts (Qwen3-30B-A3B: 128 experts, 8 a token), µs: torch's grouped product (CUTLASS), ours."""

from __future__ import annotations

from functools import partial

import torch
from measure import Call, check, header, microseconds, poisoned, random, saved, variants

CHOICES, EXPERTS = 8, 128


def main() -> None:
    """Prints the table."""
    header("grouped products, µs (GB/s of the weights of experts that have tokens)")
    for row, found in variants("experts").items():
        tokens = int(row.split()[0])
        _, n, k = found[0].arrays["w"][1]
        pairs = tokens * CHOICES
        chosen = torch.rand(tokens, EXPERTS, device="cuda").topk(CHOICES, dim=1).indices
        counts = torch.bincount(chosen.flatten(), minlength=EXPERTS)
        ends = counts.cumsum(0).to(torch.int32)
        start = torch.cat([torch.zeros(1, dtype=torch.int32, device="cuda"), ends])
        sets = [(random(pairs, k), random(EXPERTS, n, k), poisoned(pairs, n)) for _ in range(2)]
        x, w, y = sets[0]
        experts = torch.repeat_interleave(torch.arange(EXPERTS, device="cuda"), counts)
        reference = torch.cat([x[experts == e].float() @ w[e].float().T for e in range(EXPERTS)])
        contestants: dict[str, list[Call]] = {}
        try:
            product = partial(torch._grouped_mm, offs=ends)
            check(f"torch {row}", product(x, w.transpose(1, 2)), reference, 5e-3)
            contestants["torch"] = [partial(product, x, w.transpose(1, 2)) for x, w, _ in sets]
        except (AttributeError, RuntimeError) as error:
            print(f"torch has no grouped product here: {str(error).splitlines()[0]}")
        for variant in found:
            calls = [variant.call({"x": x, "w": w, "start": start, "y": y}) for x, w, y in sets]
            y.fill_(float("nan"))
            calls[0]()
            torch.cuda.synchronize()
            check(f"experts {row} {variant.name}", y, reference, 5e-3)
            contestants[variant.name] = calls
        times = microseconds(contestants, rounds=9, least_calls=6)
        saved("experts", row, times)
        size = int((counts > 0).sum()) * n * k * 2
        best = sorted(times.items(), key=lambda item: item[1])
        for name, us in (*best[:5], *(item for item in best[5:] if item[0] == "torch")):
            print(f"{row:>14} {name:>24} {us:8.1f} ({size / us / 1e3:.0f} GB/s)", flush=True)


if __name__ == "__main__":
    main()
