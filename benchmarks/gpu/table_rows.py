"""Row and element operations over 65536 × 4096 bf16, GB/s read and written, against a plain copy."""

from __future__ import annotations

import torch
from measure import check, direct_microseconds, header, poisoned, random, saved, variants


def main() -> None:
    """Prints the table."""
    header("row operations, GB/s")
    t, d = 65536, 4096
    sets = [(random(t, d), random(t, d), poisoned(t, d)) for _ in range(2)]
    w = random(d)
    x, z, _ = sets[0]
    xf, zf = x[:4096].double(), z[:4096].double()
    summed = xf + zf
    references = {
        "copy": xf,
        "rms_norm": xf / (xf.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * w.double(),
        "softmax": xf.softmax(-1),
        "swiglu": xf * xf.sigmoid() * zf,
        "add_rms_norm": summed / (summed.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * w.double(),
    }
    moved = {"copy": 2, "rms_norm": 2, "softmax": 2, "swiglu": 3, "add_rms_norm": 4}
    source, target = torch.empty(2, 1 << 30, dtype=torch.uint8, device="cuda").random_().unbind()
    ways = {
        "copy_": lambda: target.copy_(source),
        "clone": lambda: source.clone(),
        "bf16 ·1": lambda: torch.mul(x, 1, out=sets[0][2]),
    }
    for name, us in direct_microseconds({name: [way] for name, way in ways.items()}).items():
        print(f"peer {name}: {2 * (source.numel() if 'bf16' not in name else 2 * t * d) / us / 1e3:.0f}")
    del source, target
    for row, found in variants("rows").items():
        contestants = {"copy": [lambda x=x, y=y: y.copy_(x) for x, _, y in sets]}
        for variant in found:

            def arguments(x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, row: str = row) -> dict[str, torch.Tensor]:
                match row:
                    case "swiglu":
                        return {"gate": x, "up": z, "y": y}
                    case "add_rms_norm":
                        return {"x": x, "w": w, "h": z, "y": y}
                    case "rms_norm":
                        return {"x": x, "w": w, "y": y}
                return {"x": x, "y": y}

            scalars = {"eps": 1e-6} if "norm" in row else {}
            calls = [variant.call(arguments(*s), scalars, {"T": t}) for s in sets]
            keep = sets[0][1].clone()
            sets[0][2].fill_(float("nan"))
            calls[0]()
            torch.cuda.synchronize()
            check(f"{row} {variant.name}", sets[0][2][:4096], references[row], 4e-3 if row != "copy" else 0.0)
            if not bool(torch.isfinite(sets[0][2]).all()):
                raise SystemExit(f"WRONG: {row} {variant.name} left lanes unwritten")
            sets[0][1].copy_(keep)
            contestants[variant.name] = calls
        times = direct_microseconds(contestants)
        if row == "add_rms_norm":
            for s in sets:
                s[1].copy_(random(t, d))
        rate = {name: moved[row if name != "copy" else "copy"] * 2 * t * d / us / 1e3 for name, us in times.items()}
        saved("rows", row, rate)
        ours = ", ".join(f"{name} {r:.0f}" for name, r in rate.items() if name != "copy")
        best = max(r for name, r in rate.items() if name != "copy" or len(rate) == 1)
        print(
            f"{row:>14} torch copy {rate['copy']:.0f}; ours {ours}; best / copy {best / rate['copy']:.3f}", flush=True
        )


if __name__ == "__main__":
    main()
