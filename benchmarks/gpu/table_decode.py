"""Paged decode attention (pages of 16, scattered; HK 8, G 4, D 128), GB/s of keys and values, combine included."""

from __future__ import annotations

import torch
from measure import check, header, microseconds, poisoned, random, saved, variants


def main() -> None:
    """Prints the table."""
    header("paged decode attention, GB/s of keys and values (partial pass + combine)")
    combines = variants("combine")
    for row, found in variants("decode").items():
        b, context = map(int, row.split("x"))
        blocks = b * context // 16
        copies = max(2, min(8, -(-300_000_000 // (2 * 2 * blocks * 16 * 8 * 128))))
        pools = [(random(blocks, 16, 8, 128), random(blocks, 16, 8, 128)) for _ in range(copies)]
        table = torch.randperm(blocks, device="cuda").to(torch.int32).reshape(b, context // 16)
        length = torch.full((b,), context, dtype=torch.int32, device="cuda")
        query = random(b, 8, 4, 128)
        ragged = torch.randint(1, context + 1, (b,), dtype=torch.int32, device="cuda")
        dims = {"B": b, "NB": blocks, "PAGES": context // 16}
        contestants = {}
        for variant in found:
            splits = variant.statics["WAYS"]
            combine = next(c for c in combines[row] if c.name == str(splits))
            part = poisoned(b, 8, splits, 4, 128, dtype=torch.float32)
            best, total = poisoned(b, 8, splits, 4, dtype=torch.float32), poisoned(b, 8, splits, 4, dtype=torch.float32)
            out = poisoned(b, 8, 4, 128)
            calls = []
            for keys, values in pools:
                arrays = {
                    "q": query,
                    "keys": keys,
                    "values": values,
                    "table": table,
                    "part": part,
                    "best_of": best,
                    "total_of": total,
                }
                first = variant.call({**arrays, "length": length}, {"scale": 128**-0.5}, {**dims, "SPLITS": splits})
                second = combine.call(
                    {"part": part, "best_of": best, "total_of": total, "out": out}, {}, {"B": b, "SPLITS": splits}
                )
                calls.append(lambda first=first, second=second: (first(), second()))
            for lengths in (length, ragged):
                keys, values = pools[0]
                arrays = {
                    "q": query,
                    "keys": keys,
                    "values": values,
                    "table": table,
                    "part": part,
                    "best_of": best,
                    "total_of": total,
                }
                variant.call({**arrays, "length": lengths}, {"scale": 128**-0.5}, {**dims, "SPLITS": splits})()
                combine.call(
                    {"part": part, "best_of": best, "total_of": total, "out": out}, {}, {"B": b, "SPLITS": splits}
                )()
                torch.cuda.synchronize()
                for i in {0, b // 2, b - 1}:
                    n = int(lengths[i])
                    k = keys[table[i].long()].reshape(context, 8, 128)[:n].double()
                    v = values[table[i].long()].reshape(context, 8, 128)[:n].double()
                    score = torch.einsum("hgd,nhd->hgn", query[i].double(), k) * 128**-0.5
                    reference = torch.einsum("hgn,nhd->hgd", score.softmax(-1), v)
                    check(f"decode {row} {variant.name} sequence {i}", out[i], reference, 8e-3)
            contestants[variant.name] = calls
        times = microseconds(contestants, least_calls=20)
        size = 2 * 2 * b * context * 8 * 128
        saved("decode", row, times)
        for name, us in sorted(times.items(), key=lambda item: item[1]):
            print(f"{row:>10} {name:>20} {size / us / 1e3:7.0f} GB/s  {us:8.1f} µs", flush=True)


if __name__ == "__main__":
    main()
