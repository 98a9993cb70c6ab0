"""Prefill speed with random weights on one GPU, and its error against a plain float32 forward pass in torch.

    python benchmarks/llm/prefill.py Qwen3-0.6B Qwen3-4B              on the GPU machine
    python benchmarks/llm/prefill.py --compile-only Qwen3-4B    anywhere: prove and compile every kernel for sm_90

Floor: 2 · weights · tokens floating-point operations, at the rate that cuBLAS reaches on the largest products.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from decode import PAGE, Decoder, reference_logits

import zellige as zl
from zellige.ir.types import ContractKind
from zellige.llm import packing
from zellige.llm.models.fused import PrefillInputs, prefill_step
from zellige.llm.weights.known import known_config
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.cuda.tuned import UNMEASURED, devices

RATE = 700e12


def inputs_of(decoder: Decoder, tokens: np.ndarray) -> PrefillInputs:
    """The inputs of a pass over all tokens of a prompt, from position 0, in such tiles as the engine takes."""
    c, asked = decoder.config, len(tokens)
    tile = packing.TILES[0] if asked >= packing.LONG else packing.TILES[1]
    tokens = np.pad(tokens, (0, -asked % tile))
    count, positions = len(tokens), np.arange(len(tokens))
    tiles = (count // tile,)
    made = PrefillInputs(
        decoder._integers((count,), ContractKind.INDEX, c.vocab_size),
        decoder._integers((count,), ContractKind.INDEX, decoder.context),
        decoder._integers(
            (count,), ContractKind.INDEX, decoder.batch * decoder.pages * PAGE, distinct=True, optional=True
        ),
        decoder._integers((1, decoder.pages), ContractKind.INDEX, decoder.batch * decoder.pages),
        decoder._integers((1,), ContractKind.UP_TO, decoder.pages * PAGE),
        decoder._integers(tiles, ContractKind.INDEX, 1),
        decoder._integers(tiles, ContractKind.UP_TO, decoder.pages * PAGE),
        decoder._integers(tiles, ContractKind.INDEX, count),
        decoder._integers((1,), ContractKind.INDEX, count),
        decoder._integers((1,), ContractKind.INDEX, c.vocab_size),
    )
    made.ids.write(tokens.astype(np.int32))
    made.position.write(positions.astype(np.int32))
    slots = decoder.table[0, positions // PAGE] * PAGE + positions % PAGE
    made.slot.write(np.where(positions < asked, slots, -1).astype(np.int32))
    made.table.write(decoder.table[:1])
    made.length.write(np.array([asked], np.int32))
    made.start.write(np.arange(0, count, tile, dtype=np.int32))
    made.last.write(np.array([asked - 1], np.int32))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["Qwen3-0.6B"])
    parser.add_argument("--tokens", default="100,128,2048,8192", help="lengths; the first is only checked")
    parser.add_argument(
        "--dtype",
        default="bf16",
        choices=["bf16", "fp16", "fp8"],
        help="of weights and activations; fp8: of the matrices of layers",
    )
    parser.add_argument("--compile-only", action="store_true")
    parser.add_argument("--schedules", default=UNMEASURED, choices=devices(), help="the device to compile for")
    options = parser.parse_args()
    lengths = [int(n) for n in options.tokens.split(",")]
    for model in options.models:
        executor = (
            CudaExecutor(None, "sm_90", schedules=options.schedules) if options.compile_only else CudaExecutor.open()
        )
        decoder = Decoder(executor, known_config(model), 1, max(*lengths, 1024), None, options.dtype)
        generator = np.random.default_rng(0)
        for position, length in enumerate(lengths):
            tokens = generator.integers(0, decoder.config.vocab_size, length)
            inputs = inputs_of(decoder, tokens)
            with zl.using(executor), zl.record() as graph:
                logits = prefill_step(decoder.config, decoder.weights, decoder.cache, inputs, executor, fresh=True)
            if options.compile_only:
                print(f"{model}: prefill of {length}: {len(graph)} launches proved and compiled", flush=True)
                continue
            graph.replay()
            got = logits.numpy()[0]
            if position == 0:
                want = reference_logits(decoder, [int(t) for t in tokens])[-1]
                print(
                    f"{model}: relative error at {length} tokens {np.linalg.norm(got - want) / np.linalg.norm(want):.4f}"
                )
                continue
            times = []
            for _ in range(5):
                executor.synchronise()
                begun = time.perf_counter()
                graph.replay()
                executor.synchronise()
                times.append(time.perf_counter() - begun)
            seconds = float(np.median(times))
            floor = decoder.weight_bytes() / 2 * 2 * length / RATE
            print(
                f"{model} prefill {length}: {seconds * 1e3:.2f} ms = {length / seconds:.0f} tok/s; floor {floor * 1e3:.2f} ms",
                flush=True,
            )


if __name__ == "__main__":
    main()
