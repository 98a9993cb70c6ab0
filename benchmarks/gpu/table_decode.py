"""Paged decode attention (pages of 16, scattered; HK 8, G 4, D 128), GB/s of keys and values, combine included.

Like for like: hand-written Triton of the same schedules, all of them CUDA graphs of equally many launches over the same
buffers; schedules named ``pdl`` are dependent launches on both sides."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import handwritten as twin
import torch
from measure import Call, Variant, check, header, microseconds, poisoned, random, saved, variants

HEADS, GROUP, WIDTH, PAGE = 8, 4, 128, 16
SCALE = WIDTH**-0.5


def _both(first: Call, second: Call) -> Call:
    def run() -> None:
        first()
        second()

    return run


def _ours(variant: Variant, combine: Variant, arrays: dict[str, torch.Tensor], sizes: dict[str, int]) -> Call:
    partial_arrays = {name: a for name, a in arrays.items() if name != "out"}
    combined = {name: arrays[name] for name in ("part", "best_of", "total_of", "out")}
    dims = {"B": sizes["B"], "SPLITS": sizes["SPLITS"]}
    return _both(variant.call(partial_arrays, {"scale": SCALE}, sizes), combine.call(combined, {}, dims))


def _triton(variant: Variant, combine: Variant, arrays: dict[str, torch.Tensor], sizes: dict[str, int]) -> Call:
    b, splits, pages = sizes["B"], sizes["SPLITS"], sizes["PAGES"]
    first, second = variant.kernel.compiled.options, combine.kernel.compiled.options
    names = ("q", "keys", "values", "table", "length")
    parts = [arrays[name] for name in ("part", "best_of", "total_of")]
    constants = HEADS, GROUP, WIDTH, PAGE, splits, variant.statics["BS"], first.pdl
    schedule: dict[str, Any] = dict(num_warps=first.num_warps, num_stages=first.num_stages, launch_pdl=first.pdl)
    made: Callable[[], Any] = partial(
        twin.paged_decode_partial[(b * HEADS * splits,)], *(arrays[n] for n in names), SCALE, *parts, pages, *constants, **schedule
    )  # fmt: skip
    total = partial(
        twin.paged_decode_combine[(b * HEADS * GROUP,)], *parts, arrays["out"], GROUP, WIDTH, splits, second.pdl,
        num_warps=second.num_warps, launch_pdl=second.pdl,
    )  # fmt: skip
    return _both(made, total)


def main() -> None:
    """Prints the table."""
    header("paged decode attention, GB/s of keys and values (partial pass + combine)")
    combines = variants("combine")
    for row, found in variants("decode").items():
        b, context = map(int, row.split("x"))
        pages, blocks = context // PAGE, b * context // PAGE
        copies = max(2, min(8, -(-300_000_000 // (2 * 2 * blocks * PAGE * HEADS * WIDTH))))
        pools = [(random(blocks, PAGE, HEADS, WIDTH), random(blocks, PAGE, HEADS, WIDTH)) for _ in range(copies)]
        table = torch.randperm(blocks, device="cuda").to(torch.int32).reshape(b, pages)
        full = torch.full((b,), context, dtype=torch.int32, device="cuda")
        ragged = torch.randint(1, context + 1, (b,), dtype=torch.int32, device="cuda")
        query, out = random(b, HEADS, GROUP, WIDTH), poisoned(b, HEADS, GROUP, WIDTH)
        contestants: dict[str, list[Call]] = {}
        for variant in found:
            splits, pdl = variant.statics["WAYS"], variant.kernel.compiled.options.pdl
            combine = next(c for c in combines[row] if c.name == f"{splits}{'-pdl' if pdl else ''}")
            sizes = {"B": b, "NB": blocks, "PAGES": pages, "SPLITS": splits}
            arrays = {
                "q": query, "table": table, "part": poisoned(b, HEADS, splits, GROUP, WIDTH, dtype=torch.float32),
                "best_of": poisoned(b, HEADS, splits, GROUP, dtype=torch.float32),
                "total_of": poisoned(b, HEADS, splits, GROUP, dtype=torch.float32), "out": out,
            }  # fmt: skip
            for side, make in (("", _ours), ("triton ", _triton)) if variant.statics["BS"] == 64 else (("", _ours),):
                for lengths in (full, ragged):
                    keys, values = pools[0]
                    out.fill_(float("nan"))
                    make(variant, combine, {**arrays, "keys": keys, "values": values, "length": lengths}, sizes)()
                    torch.cuda.synchronize()
                    for i in {0, b // 2, b - 1}:
                        n = int(lengths[i])
                        k = keys[table[i].long()].reshape(context, HEADS, WIDTH)[:n].double()
                        v = values[table[i].long()].reshape(context, HEADS, WIDTH)[:n].double()
                        score = torch.einsum("hgd,nhd->hgn", query[i].double(), k) * SCALE
                        reference = torch.einsum("hgn,nhd->hgd", score.softmax(-1), v)
                        check(f"decode {row} {side}{variant.name} sequence {i}", out[i], reference, 8e-3)
                contestants[f"{side}{variant.name}"] = [
                    make(variant, combine, {**arrays, "keys": keys, "values": values, "length": full}, sizes)
                    for keys, values in pools
                ]
        times = microseconds(contestants, least_calls=20)
        size = 2 * 2 * b * context * HEADS * WIDTH
        rate = {name: size / us / 1e3 for name, us in times.items()}
        saved("decode", row, rate)
        for dependent in (False, True):
            among = {name: r for name, r in rate.items() if name.endswith("-pdl") == dependent}
            theirs, theirs_at = max((r, name) for name, r in among.items() if name.startswith("triton"))
            ours, ours_at = max((r, name) for name, r in among.items() if not name.startswith("triton"))
            print(
                f"{row:>10}{' dependent' if dependent else '':>10}  Triton {theirs:5.0f} ({theirs_at[7:]})  "
                f"ours {ours:5.0f} ({ours_at})  {ours / theirs:.3f} ×",
                flush=True,
            )


if __name__ == "__main__":
    main()
