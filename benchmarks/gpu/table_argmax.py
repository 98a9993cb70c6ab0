"""The most probable of 151936 ids for each row of f32 logits, GB/s read: torch.argmax, ours in two launches or one program a row.

Beside them a copy of the logits, by what it reads and writes: the memory's rate. Dependent launches, as in the engine."""

from __future__ import annotations

from functools import partial

import torch
from measure import Call, Variant, header, microseconds, save, saved, variants

READ = 250_000_000
"""Bytes of logits that a rotation of buffers holds at least, far more than the L2."""


def _calls(variant: Variant, second: Variant | None, sets: list[torch.Tensor], token: torch.Tensor) -> list[Call]:
    if second is None:
        return [variant.call({"logits": logits, "token": token}) for logits in sets]
    best, at = (torch.empty(variant.arrays["best"][1], dtype=d, device="cuda") for d in (torch.float32, torch.int32))
    after = second.call({"best": best, "at": at, "token": token})
    made = []
    for logits in sets:
        first = variant.call({"logits": logits, "best": best, "at": at})

        def both(first: Call = first) -> None:
            first()
            after()

        made.append(both)
    return made


def main() -> None:
    """Prints a line for each number of rows."""
    header("argmax of rows of 151936 logits (f32), GB/s read")
    measured: list[dict[str, object]] = []
    for row, found in variants("argmax").items():
        shape = found[0].arrays["logits"][1]
        size = 4 * shape[0] * shape[1]
        sets = [torch.randn(shape, device="cuda") for _ in range(max(2, -(-READ // size)))]
        token = torch.full((shape[0],), -1, dtype=torch.int32, device="cuda")
        out, target = torch.empty(shape[0], dtype=torch.int64, device="cuda"), torch.empty_like(sets[0])
        expected = sets[0].argmax(1)
        contestants: dict[str, list[Call]] = {
            "torch": [partial(torch.argmax, logits, 1, out=out) for logits in sets],
            "copy": [partial(target.copy_, logits) for logits in sets],
        }
        combining = {v.name.split()[1]: v for v in found if v.name.startswith("combine")}
        ours = {v.name: v for v in found if not v.name.startswith("combine")}
        for name, variant in ours.items():
            calls = _calls(variant, combining.get(name.split("-")[0]), sets, token)
            token.fill_(-1)
            calls[0]()
            torch.cuda.synchronize()
            if not torch.equal(token.long(), expected):
                raise SystemExit(f"WRONG: argmax of {row} rows, {name}")
            contestants[name] = calls
        times = microseconds(contestants, rounds=9, least_calls=20 if shape[0] < 100 else 2)
        rate = {name: size * (2 if name == "copy" else 1) / us / 1e3 for name, us in times.items()}
        saved("argmax", row, rate)
        measured.extend({**variant.schedule, "us": times[name]} for name, variant in ours.items())
        ordered = sorted(ours, key=lambda name: times[name])
        listed = ", ".join(f"{name} {rate[name]:.0f}" for name in ordered[:6])
        best = rate[ordered[0]]
        print(f"{row:>4} rows ({times[ordered[0]]:.2f} µs): torch {rate['torch']:.0f}, copy {rate['copy']:.0f}, ours {listed}, "
              f"{ordered[-1]} {rate[ordered[-1]]:.0f}; {best / rate['torch']:.3f} × torch, {best / rate['copy']:.3f} × copy",
              flush=True)  # fmt: skip
        if "2048-w4" in rate:
            print(
                f"          as shipped (2048-w4): {times['2048-w4']:.2f} µs, {rate['2048-w4'] / best:.3f} of the best"
            )
    save("times-argmax", {"device": torch.cuda.get_device_name(), "measured": measured})


if __name__ == "__main__":
    main()
