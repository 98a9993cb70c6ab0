"""Kernels of one decode step of Qwen3, each alone in a chain of dependent launches over different weights, µs."""

from __future__ import annotations

from math import prod

import torch
from measure import Call, Variant, header, microseconds, save, variants

_TORCH = {
    "bf16": torch.bfloat16,
    "f16": torch.float16,
    "f32": torch.float32,
    "i32": torch.int32,
    "f8e4m3": torch.float8_e4m3fn,
}
_BYTES = {"bf16": 2, "f16": 2, "f32": 4, "i32": 4, "f8e4m3": 1}
WEIGHTS = ("w", "gate", "up", "down")
POSITION, EXPERTS = 512, 128


def made(name: str, dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Contents for an array parameter, by its name and dtype."""
    if dtype != "i32":
        return torch.randn(shape, device="cuda").to(_TORCH[dtype])
    match name:
        case "order":
            return torch.randperm(shape[0], device="cuda").to(torch.int32)
        case "table" | "place":
            return torch.randperm(prod(shape), device="cuda").to(torch.int32).reshape(shape)
        case "expert" if len(shape) == 2:  # distinct ones for each token
            return torch.rand(shape[0], EXPERTS, device="cuda").topk(shape[1], dim=1).indices.to(torch.int32)
        case "expert":
            return torch.randint(EXPERTS, shape, device="cuda", dtype=torch.int32)
        case "length":
            return torch.full(shape, POSITION + 1, dtype=torch.int32, device="cuda")
        case "slot" if shape[0] > 1:
            return torch.randperm(shape[0], device="cuda").to(torch.int32)
        case "position" | "slot":
            return torch.full(shape, POSITION, dtype=torch.int32, device="cuda")
    return torch.zeros(shape, dtype=torch.int32, device="cuda")


def segments(variant: Variant) -> torch.Tensor:
    """Where the pairs of each expert begin, if all experts have as many."""
    dims = variant.schedule["dims"]
    pairs = dims["PAIRS"] if "PAIRS" in dims else dims["T"] * dims["C"]
    return torch.linspace(0, pairs, dims["E"] + 1, device="cuda").to(torch.int32)


def _size(variant: Variant, name: str) -> int:
    """Bytes of an array."""
    dtype, shape = variant.arrays[name]
    return prod(shape) * _BYTES[dtype]


def _calls(variant: Variant, shared: dict[str, list[torch.Tensor]]) -> list[Call]:
    parameters = variant.kernel.compiled.parameters
    known = {"scale": 0.088, "eps": 1e-6, "start": 0, "factor": 1.0}
    scalars = {p.name: known[p.name] for p in parameters if p.kind == "scalar"}
    weights = {*WEIGHTS, "keys", "values"} & set(variant.arrays)
    size = sum(_size(variant, w) for w in weights) or 1
    copies = max(2, min(64, 1_000_000_000 // size)) if weights else 2  # far more than the cache holds
    calls = []
    if "expert" in variant.arrays and weights:  # other experts of the same stack each time
        weights, copies = {"expert"}, 32
    for i in range(copies):
        arrays = {}
        for name, (dtype, shape) in variant.arrays.items():
            held = shared.setdefault(f"{name} {dtype} {shape}", [])
            which = i if name in weights else 0
            while len(held) <= which:
                held.append(segments(variant) if name == "start" and len(shape) == 1 else made(name, dtype, shape))
            arrays[name] = held[which]
        calls.append(variant.call(arrays, scalars))
    return calls


def main(table: str = "step") -> None:
    """Prints, for each kernel, its schedules from the fastest on."""
    header(f"kernels of a {table}, µs (GB/s of weights)")
    measured: list[dict[str, object]] = []
    for row, found in variants(table).items():
        shared: dict[str, list[torch.Tensor]] = {}
        times = microseconds(
            {v.name: _calls(v, shared) for v in found}, rounds=9, least_calls=2 if "T8192" in row else 40
        )
        shapes = found[0].arrays
        size = sum(_size(found[0], w) for w in WEIGHTS if w in shapes)
        if "expert" in shapes:  # what is asked for; experts of several tokens may coincide
            size = size * prod(shapes["expert"][1]) // EXPERTS
        best = sorted(times.items(), key=lambda item: item[1])
        rate = f" ({size / best[0][1] / 1e3:.0f} GB/s)" if size else ""
        for variant in found:
            measured.append({**variant.schedule, "us": times[variant.name]})
        listed = ", ".join(f"{name} {us:.2f}" for name, us in best[:7])
        print(f"{row:>14}{rate}: {listed} … {best[-1][1]:.2f}", flush=True)
    save(f"times-{table}", {"device": torch.cuda.get_device_name(), "measured": measured})


if __name__ == "__main__":
    main()
