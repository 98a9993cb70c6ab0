"""Whole passes of ours against the vendor's products and attention alone, in the same run, on one GPU.

    python benchmarks/llm/vendor.py Qwen3-8B --prefill 8192 --batches 1 64      on the GPU machine
    python benchmarks/llm/vendor.py --compile-only Qwen3-8B                     anywhere: prove and compile every kernel for sm_90

The peer is what an engine on vendor libraries cannot do without: the matrix products of each layer and of the head by cuBLAS (query,
key and value in one, gate and up in one), and for a prompt the attention by cuDNN, as one CUDA graph in torch. No norm, no
positions, no activation, no residual, no cache; so a whole pass of ours that is level with it is ahead of such an engine. Both
sides take turns, since a chip that is warm from one of them is slow for the other.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from decode import Decoder
from prefill import inputs_of

import zellige as zl
from zellige.llm.models.fused import prefill_step
from zellige.llm.weights.config import ModelConfig
from zellige.llm.weights.known import known_config
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.cuda.tuned import UNMEASURED, devices

Pass = Callable[[], None]


def vendor_pass(config: ModelConfig, rows: int, heads: int, attention: bool) -> Pass:
    """The products of ``rows`` tokens, of which ``heads`` meet the head, and their causal attention to each other."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import linear, scaled_dot_product_attention

    def weight(n: int, k: int) -> torch.Tensor:
        return torch.randn(n, k, dtype=torch.bfloat16, device="cuda") * 0.02

    c = config
    queries, kept = c.heads * c.head_dim, c.kv_heads * c.head_dim
    layers = [
        (weight(queries + 2 * kept, c.width), weight(c.width, queries), weight(2 * c.ffn_width, c.width), weight(c.width, c.ffn_width))
        for _ in range(c.layers)
    ]  # fmt: skip
    head, first = weight(c.vocab_size, c.width), torch.randn(rows, c.width, dtype=torch.bfloat16, device="cuda")
    q, k, v = (
        torch.randn(1, n, rows, c.head_dim, dtype=torch.bfloat16, device="cuda")
        for n in (c.heads, c.kv_heads, c.kv_heads)
    )

    def run() -> torch.Tensor:
        x = first
        for qkv, output, gate_up, down in layers:
            mixed = linear(x, qkv)[:, :queries]
            if attention:
                with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
                    found = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
                mixed = found.transpose(1, 2).reshape(rows, queries)
            x = linear(linear(linear(mixed, output), gate_up)[:, : c.ffn_width], down)
        return linear(x[-heads:], head)

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def timed(work: Pass, repeats: int) -> float:
    """Seconds a call, of ``repeats`` in a row."""
    import torch

    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(repeats):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - begun) / repeats


def compare(name: str, ours: Pass, vendor: Pass, turns: int) -> None:
    """Prints medians of both sides in turns, each turn about a tenth of a second."""
    repeats = max(1, int(0.1 / max(timed(ours, 3), 1e-6)))
    pairs = []
    for turn in range(turns + 1):
        both = [timed(work, repeats) for work in ((ours, vendor) if turn % 2 else (vendor, ours))]
        if turn:  # the first warms up
            pairs.append(both if turn % 2 else both[::-1])
    ratios = sorted(peer / own for own, peer in pairs)
    own, peer = (statistics.median(side) * 1e3 for side in zip(*pairs, strict=True))
    print(
        f"{name}: ours, whole {own:.3f} ms; vendor, products{' and attention' if 'prompt' in name else ''} alone {peer:.3f} ms; "
        f"ratio {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["Qwen3-0.6B"])
    parser.add_argument("--prefill", type=int, nargs="*", default=[8192], help="lengths of prompts")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8, 64, 256], help="sequences in a decode step")
    parser.add_argument("--start", type=int, default=128, help="position of the decode steps")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--compile-only", action="store_true")
    parser.add_argument("--schedules", default=UNMEASURED, choices=devices(), help="the device to compile for")
    options = parser.parse_args()
    for model in options.models:
        config = known_config(model)
        executor = (
            CudaExecutor(None, "sm_90", schedules=options.schedules) if options.compile_only else CudaExecutor.open()
        )
        for batch in options.batches:
            decoder = Decoder(executor, config, batch, 1024, None)
            if not options.compile_only:
                decoder.step(options.start)
                compare(
                    f"{model} step of {batch}",
                    decoder.graph.replay,
                    vendor_pass(config, batch, batch, False),
                    options.turns,
                )
            del decoder
        for length in options.prefill:
            decoder = Decoder(executor, config, 1, max(length, 1024), None)
            inputs = inputs_of(decoder, np.random.default_rng(0).integers(0, config.vocab_size, length))
            with zl.using(executor), zl.record() as graph:
                prefill_step(config, decoder.weights, decoder.cache, inputs, executor, fresh=True)
            if not options.compile_only:
                compare(
                    f"{model} prompt of {length}", graph.replay, vendor_pass(config, length, 1, True), options.turns
                )
            del decoder, graph


if __name__ == "__main__":
    main()
