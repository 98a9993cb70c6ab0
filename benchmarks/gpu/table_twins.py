"""Each kernel against the same schedule written by hand in Triton (``handwritten.py``): time of the twin over ours."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import handwritten as twin
import torch
from measure import Call, Variant, check, header, microseconds, poisoned, random, saved, variants
from triton import cdiv

Made = tuple[list[Call], list[Call], torch.Tensor]
"""Calls of ours, calls of the twin, and the output of the first call of each."""


def _gemm(v: Variant) -> Made:
    n, (bm, bn, bk) = v.arrays["a"][1][0], (v.statics[s] for s in ("BM", "BN", "BK"))
    sets = [(random(n, n), random(n, n), poisoned(n, n)) for _ in range(3)]
    grid, o = (cdiv(n, bm) * cdiv(n, bn),), v.kernel.compiled.options
    theirs = [partial(twin.matmul[grid], *s, n, n, n, bm, bn, bk, 8, **_schedule(o)) for s in sets]
    return [v.call(dict(zip("abc", s, strict=True))) for s in sets], theirs, sets[0][2]


def _gemv(v: Variant) -> Made:
    (n, k), bn, bk = v.arrays["w"][1], v.statics["BN"], v.statics["BK"]
    x, sets = random(k), [(random(n, k), poisoned(n)) for _ in range(max(2, 400_000_000 // (2 * n * k)))]
    o = v.kernel.compiled.options
    theirs = [partial(twin.matvec[(cdiv(n, bn),)], x, w, y, n, k, bn, bk, **_schedule(o)) for w, y in sets]
    return [v.call({"x": x, "w": w, "y": y}) for w, y in sets], theirs, sets[0][1]


def _thin(v: Variant) -> Made:
    (m, n), k = v.arrays["y"][1], v.arrays["x"][1][1]
    bm, bn, bk = (v.statics[s] for s in ("BM", "BN", "BK"))
    x, sets = random(m, k), [(random(n, k), poisoned(m, n)) for _ in range(max(2, 300_000_000 // (2 * n * k)))]
    o = v.kernel.compiled.options
    theirs = [partial(twin.thin_linear[(cdiv(n, bn),)], x, w, y, m, n, k, bm, bn, bk, **_schedule(o)) for w, y in sets]
    return [v.call({"x": x, "w": w, "y": y}) for w, y in sets], theirs, sets[0][1]


def _rows(v: Variant, row: str) -> Made:
    t, d = 65536, 4096
    sets = [(random(t, d), random(t, d), poisoned(t, d)) for _ in range(2)]
    w, o = random(d), _schedule(v.kernel.compiled.options)
    match row:
        case "rms_norm":
            ours = [v.call({"x": x, "w": w, "y": y}, {"eps": 1e-6}, {"T": t}) for x, _, y in sets]
            theirs = [partial(twin.rms_norm[(t,)], x, w, y, d, 1e-6, d, **o) for x, _, y in sets]
        case "softmax":
            ours = [v.call({"x": x, "y": y}, {}, {"T": t}) for x, _, y in sets]
            theirs = [partial(twin.softmax[(t,)], x, y, d, d, **o) for x, _, y in sets]
        case _:
            bn = v.statics["BN"]
            ours = [v.call({"gate": x, "up": z, "y": y}) for x, z, y in sets]
            theirs = [partial(twin.swiglu[(t * d // bn,)], x, z, y, t * d, bn, **o) for x, z, y in sets]
    return ours, theirs, sets[0][2]


def _attention(v: Variant) -> Made:
    s, bm, bs = v.arrays["q"][1][3], v.statics["BM"], v.statics["BS"]
    sets = [
        (random(1, 32, s, 128), random(1, 8, s, 128), random(1, 8, s, 128), poisoned(1, 32, s, 128)) for _ in range(3)
    ]
    grid, o, scale = (cdiv(s, bm) * 32,), v.kernel.compiled.options, 128**-0.5
    band = v.statics["BAND"]
    theirs = [partial(twin.attention_causal[grid], *a, scale, s, 4, 128, bm, bs, band, **_schedule(o)) for a in sets]
    names = ("q", "k", "v", "out")
    return [v.call(dict(zip(names, a, strict=True)), {"scale": scale}) for a in sets], theirs, sets[0][3]


def _schedule(options: Any) -> dict[str, int]:
    return {"num_warps": options.num_warps, "num_stages": options.num_stages}


TWINS: dict[str, Callable[[Variant, str], Made]] = {
    "gemm": lambda v, _: _gemm(v), "gemv": lambda v, _: _gemv(v), "thin": lambda v, _: _thin(v), "rows": _rows,
    "attention": lambda v, _: _attention(v),
}  # fmt: skip
CHOSEN = {
    ("gemm", "4096", "pointers-s3-carried"), ("gemm", "8192", "pointers-s4-carried"), ("gemv", "19456x2560", "1-2048-w8"),
    ("gemv", "2560x9728", "1-1024-w4"), ("gemv", "151936x2560", "2-1024-w8"), ("thin", "64x19456x2560", "64-128-w4-s4"),
    ("thin", "8x19456x2560", "64-128-w4-s4"), ("rows", "rms_norm", "w8"), ("rows", "softmax", "w8"), ("rows", "swiglu", "2048-w8-last"),
    ("gemm", "8192", "pointers-s3-carried"),
    ("attention", "2048", "128-64-w8-s3-band1"), ("attention", "8192", "128-64-w8-s3-band1"),
    ("attention", "8192", "64-64-w4-s3-band1"), ("attention", "8192", "64-64-w4-s3-band16"),
}  # fmt: skip
"""Table, row and variant: schedules without bulk copies, which the twins have not either."""


def main() -> None:
    """Prints the ratios. The two take turns; each is timed twice, and the difference is the spread."""
    header("raw Triton of the same schedule, time over ours")
    for table in TWINS:
        for row, found in variants(table).items():
            for variant in found:
                if (table, row, variant.name) not in CHOSEN:
                    continue
                ours, theirs, out = TWINS[table](variant, row)
                out.fill_(float("nan"))
                theirs[0]()
                torch.cuda.synchronize()
                expected = out.clone()
                out.fill_(float("nan"))
                ours[0]()
                torch.cuda.synchronize()
                check(f"{table} {row}", out, expected, 5e-3)
                long = table in ("rows", "gemm", "attention")
                four = {"ours": ours, "twin": theirs, "ours again": ours, "twin again": theirs}
                times = microseconds(four, rounds=11, least_calls=4 if long else 20)
                ratio = (times["twin"] + times["twin again"]) / (times["ours"] + times["ours again"])
                spread = max(abs(times[n] / times[f"{n} again"] - 1) for n in ("ours", "twin"))
                saved("twins", f"{table} {row} {variant.name}", {**times, "ratio": ratio})
                name = f"{table} {row} {variant.name}"
                print(f"{name:>40} {times['ours']:9.2f} µs  {ratio:.4f}  (spread {spread:.4f})", flush=True)


if __name__ == "__main__":
    main()
