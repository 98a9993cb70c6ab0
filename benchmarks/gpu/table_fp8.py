"""8-bit matrix products, TFLOP/s (int8: TOP/s): cuBLASLt without fast accumulation, ours with scales by rows and by blocks."""

from __future__ import annotations

from functools import partial

import torch
from measure import Call, Variant, check, header, microseconds, poisoned, save, saved, variants


def _operands(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    x, w = (torch.randn(n, n, device="cuda").to(torch.float8_e4m3fn) for _ in range(2))
    x_scale, w_scale = (torch.rand(n, device="cuda") + 0.5 for _ in range(2))
    return x, w, x_scale, w_scale, poisoned(n, n)


def main() -> None:
    """Prints the tables."""
    by_rows, by_blocks = variants("fp8"), variants("fp8_blocks")
    header("fp8 (e4m3) GEMM with bf16 output, TFLOP/s")
    for row, found in by_rows.items():
        n = int(row)
        sets = [_operands(n) for _ in range(3)]
        x, w, xs, ws, y = sets[0]
        reference = (x.float() @ w.float().T) * xs[:, None] * ws[None, :]
        one = torch.ones((), device="cuda")
        product = partial(torch._scaled_mm, out_dtype=torch.bfloat16)
        contestants: dict[str, list[Call]] = {}
        for name, fast in (("cublasLt", False), ("cublasLt fast accumulation", True)):
            contestants[name] = [
                partial(product, a, b.t(), scale_a=one, scale_b=one, use_fast_accum=fast) for a, b, *_ in sets
            ]
        try:
            product(x, w.t(), scale_a=xs[:, None], scale_b=ws[None, :], use_fast_accum=False)
            contestants["torch scaled by rows"] = [
                partial(product, a, b.t(), scale_a=s[:, None], scale_b=t[None, :], use_fast_accum=False)
                for a, b, s, t, _ in sets
            ]
        except RuntimeError as error:
            print(f"torch has no scales by rows here: {str(error).splitlines()[0]}")
        for variant in found:
            calls = [variant.call({"x": a, "w": b, "x_scale": s, "w_scale": t, "y": o}) for a, b, s, t, o in sets]
            y.fill_(float("nan"))
            calls[0]()
            torch.cuda.synchronize()
            check(f"fp8 {row} {variant.name}", y, reference, 5e-3)
            contestants[variant.name] = calls
        blocks = -(-n // 128)
        xb, wb = torch.rand(n, blocks, device="cuda") + 0.5, torch.rand(blocks, blocks, device="cuda") + 0.5
        wide = (x.float() * xb.repeat_interleave(128, 1)) @ (
            w.float() * wb.repeat_interleave(128, 0).repeat_interleave(128, 1)
        ).T
        for variant in by_blocks.get(row, []):
            calls = [variant.call({"x": a, "w": b, "x_scale": xb, "w_scale": wb, "y": o}) for a, b, _, _, o in sets]
            y.fill_(float("nan"))
            calls[0]()
            torch.cuda.synchronize()
            check(f"fp8 blocks {row} {variant.name}", y, wide, 5e-3)
            contestants[f"blocks {variant.name}"] = calls
        ours = {v.name: v for v in found} | {f"blocks {v.name}": v for v in by_blocks.get(row, [])}
        _print(row, contestants, "cublasLt", ours)
    header("int8 GEMM with bf16 output, TOP/s")
    for row, found in variants("int8").items():
        n = int(row)
        sets8 = [
            (
                *(torch.randint(-127, 128, (n, n), device="cuda", dtype=torch.int8) for _ in range(2)),
                *_operands(256)[2:4],
            )
            for _ in range(3)
        ]
        scales = [torch.rand(n, device="cuda") + 0.5 for _ in range(2)]
        out = poisoned(n, n)
        a, b = sets8[0][:2]
        reference = torch._int_mm(a, b.t()).float() * scales[0][:, None] * scales[1][None, :]
        contestants = {"cublasLt (i32 out)": [partial(torch._int_mm, s[0], s[1].t()) for s in sets8]}
        for variant in found:
            calls = [
                variant.call({"x": s[0], "w": s[1], "x_scale": scales[0], "w_scale": scales[1], "y": out})
                for s in sets8
            ]
            out.fill_(float("nan"))
            calls[0]()
            torch.cuda.synchronize()
            check(f"int8 {row} {variant.name}", out, reference, 5e-3)
            contestants[variant.name] = calls
        _print(row, contestants, "cublasLt (i32 out)", {v.name: v for v in found})
    save("times-fp8", {"device": torch.cuda.get_device_name(), "measured": MEASURED})


MEASURED: list[dict[str, object]] = []
"""Schedules with their times, for `choose.py`."""


def _print(row: str, contestants: dict[str, list[Call]], peer: str, ours: dict[str, Variant]) -> None:
    n = int(row)
    times = microseconds(contestants, rounds=7, least_calls=6 if n <= 4096 else 3)
    MEASURED.extend({**variant.schedule, "us": times[name]} for name, variant in ours.items())
    rate = {name: 2 * n**3 / t / 1e6 for name, t in times.items()}
    saved("fp8" if "fast" in " ".join(rate) else "int8", row, rate)
    for name, r in sorted(rate.items(), key=lambda item: -item[1])[:14]:
        print(f"{row:>6}³ {name:>28} {r:7.1f}  {r / rate[peer]:.3f} × cuBLASLt", flush=True)


if __name__ == "__main__":
    main()
