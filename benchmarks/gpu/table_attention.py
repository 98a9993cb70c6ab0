"""Causal prefill attention, B1 H32 HK8 D128 bf16, TFLOP/s: cuDNN and FlashAttention-2 through torch, ours."""

from __future__ import annotations

import torch
from measure import check, header, microseconds, poisoned, random, saved, variants
from torch.nn.attention import SDPBackend, sdpa_kernel


def main() -> None:
    """Prints the table."""
    header("causal attention, TFLOP/s")
    for row, found in variants("attention").items():
        s = int(row)
        sets = [
            (random(1, 32, s, 128), random(1, 8, s, 128), random(1, 8, s, 128), poisoned(1, 32, s, 128))
            for _ in range(3)
        ]
        q, k, v, out = sets[0]
        mask = torch.ones(s, s, dtype=torch.bool, device="cuda").tril()
        heads = (0, 13, 31)
        expected = []
        for h in heads:
            score = (q[0, h].double() @ k[0, h // 4].double().T) * 128**-0.5
            expected.append(score.masked_fill(~mask, -torch.inf).softmax(-1) @ v[0, h // 4].double())
        contestants = {}
        for name, backend in (("cudnn", SDPBackend.CUDNN_ATTENTION), ("flash2", SDPBackend.FLASH_ATTENTION)):

            def peer(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, backend: SDPBackend = backend) -> torch.Tensor:
                with sdpa_kernel(backend):
                    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

            try:
                peer(q, k, v)
                contestants[name] = [lambda q=q, k=k, v=v, peer=peer: peer(q, k, v) for q, k, v, _ in sets]
            except RuntimeError as problem:
                expanded = [(q, k.repeat_interleave(4, 1), v.repeat_interleave(4, 1)) for q, k, v, _ in sets]
                print(f"{name}: with keys repeated ({str(problem)[:60]})")
                contestants[name] = [lambda a=a, peer=peer: peer(*a) for a in expanded]
        for variant in found:
            calls = [variant.call({"q": q, "k": k, "v": v, "out": o}, {"scale": 128**-0.5}) for q, k, v, o in sets]
            out.fill_(float("nan"))
            calls[0]()
            torch.cuda.synchronize()
            for h, reference in zip(heads, expected, strict=True):
                check(f"attention {row} {variant.name} head {h}", out[0, h], reference, 8e-3)
            contestants[variant.name] = calls
        times = microseconds(contestants, rounds=10, least_calls=6)
        work = 4 * 32 * 128 * (s * (s + 1) / 2)
        rate = {name: work / us / 1e6 for name, us in times.items()}
        saved("attention", row, rate)
        for name, r in sorted(rate.items(), key=lambda item: -item[1]):
            print(f"S {s:>6} {name:>20} {r:7.1f}", flush=True)


if __name__ == "__main__":
    main()
