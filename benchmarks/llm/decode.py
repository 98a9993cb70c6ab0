"""Decode speed with random weights on one GPU, and the error against a plain float32 forward pass in torch.

    python benchmarks/llm/decode.py Qwen3-0.6B Qwen2.5-7B Qwen3-30B-A3B     on the GPU machine
    python benchmarks/llm/decode.py --compile-only Qwen3-0.6B               anywhere: prove and compile every kernel for sm_90

Without a solver on the GPU machine, run the second form first and take the cache folder along (ZELLIGE_CACHE_DIR).
Floor: every weight that a step needs read once, at the rate of a copy in the same run; of a mixture of experts, the
distinct experts that so many tokens choose if each choice is as likely.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

import zellige as zl
from zellige.ir.dtypes import f32, i32
from zellige.ir.types import ContractKind
from zellige.llm.models.fused import Caches, DecodeInputs, decode_step
from zellige.llm.models.loading import Precision, random_weights
from zellige.llm.models.products import Products, Scaled
from zellige.llm.weights.config import ModelConfig
from zellige.llm.weights.known import known_config
from zellige.runtime.contracts import Fact
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.cuda.tuned import UNMEASURED, devices

PAGE = 16


class Decoder:
    """A model with random weights and its recorded decode step for ``batch`` sequences."""

    def __init__(
        self,
        executor: CudaExecutor,
        config: ModelConfig,
        batch: int,
        context: int,
        splits: int | None,
        dtype: Precision = "bf16",
        products_of: type[Products] = Products,
    ) -> None:
        self.executor, self.config, self.batch, self.context = executor, config, batch, context
        self.products_of = products_of
        self.pages = -(-context // PAGE)
        with zl.using(executor):
            self.weights = random_weights(executor, config, dtype)
            plain = self.weights.dtype
            shape = (batch * self.pages, PAGE, config.kv_heads, config.head_dim)
            angles = np.arange(context)[:, None] * config.inverse_frequencies()[None, :]
            self.cache = Caches(
                tuple(executor.zeros(shape, plain) for _ in range(config.layers)),
                tuple(executor.zeros(shape, plain) for _ in range(config.layers)),
                executor.tensor(np.cos(angles).astype(np.float32), f32), executor.tensor(np.sin(angles).astype(np.float32), f32),
            )  # fmt: skip
            self.inputs = DecodeInputs(
                self._integers((batch,), ContractKind.INDEX, config.vocab_size),
                self._integers((batch,), ContractKind.INDEX, context),
                self._integers((batch,), ContractKind.INDEX, batch * self.pages * PAGE, distinct=True, optional=True),
                self._integers((batch,), ContractKind.UP_TO, self.pages * PAGE),
                self._integers((batch, self.pages), ContractKind.INDEX, batch * self.pages),
            )
            self.table = (
                np.random.default_rng(0).permutation(batch * self.pages).astype(np.int32).reshape(batch, self.pages)
            )
            self.inputs.table.write(self.table)
            distinct = np.random.default_rng(1).integers(0, config.vocab_size, batch)
            self.inputs.ids.write(distinct.astype(np.int32))  # rows that are alike would share their experts
        self.graph, self.logits = self.recorded(executor, splits)
        executor.synchronise()

    def recorded(self, executor: Any, splits: int | None) -> tuple[zl.Graph, zl.Tensor]:
        """The step recorded by an executor, and its logits."""
        with zl.using(executor), zl.record() as graph:
            logits = decode_step(self.config, self.weights, self.cache, self.inputs, executor, splits, self.products_of)
        return graph, logits

    def _integers(self, shape: tuple[int, ...], kind: ContractKind, bound: int, **flags: bool) -> zl.Tensor:
        made = self.executor.empty(shape, i32)
        made.write(np.full(shape, -1 if flags.get("optional") else 0, np.int32))
        made.learn(Fact(kind, bound, **flags))
        return made

    def step(self, position: int) -> None:
        """One decode step with every sequence at ``position``."""
        self.inputs.position.write(np.full(self.batch, position, np.int32))
        self.inputs.length.write(np.full(self.batch, position + 1, np.int32))
        self.inputs.slot.write(self.table[:, position // PAGE] * PAGE + position % PAGE)
        self.graph.replay()

    def weight_bytes(self) -> float:
        """Bytes of weights that one step reads."""
        c, found = self.config, float(self.weights.head.storage.nbytes)
        chosen = 1 - (1 - c.experts_used / c.experts) ** self.batch if c.experts else 1.0
        for layer in self.weights.layers:
            for name in layer.__slots__:
                held = getattr(layer, name)
                size = 0 if held is None else held.nbytes if isinstance(held, Scaled) else held.storage.nbytes
                found += size * (chosen if name in ("gate", "up", "down") else 1.0)
        return found


def reference_logits(decoder: Decoder, tokens: list[int], dtype: str = "float32") -> np.ndarray:
    """Logits after each token by plain torch in that type, from the same weights."""
    import torch

    c, wide = decoder.config, getattr(torch, dtype)

    def t(x: zl.Tensor | Scaled, part: int | None = None) -> torch.Tensor:
        """In the dtype of the pass, of a stack only one part; read where it is."""
        if isinstance(x, Scaled):
            return t(x.values, part) * t(x.scale, part)
        integer, kind = {
            "bf16": ("<i2", torch.bfloat16), "f16": ("<i2", torch.float16), "f32": ("<i4", torch.float32),
            "f8e4m3": ("|u1", torch.float8_e4m3fn),
        }[x.dtype.name]  # fmt: skip
        description = {"shape": x.shape, "typestr": integer, "data": (x.storage.address, False), "version": 3}
        held = torch.as_tensor(type("View", (), {"__cuda_array_interface__": description})(), device="cuda").view(kind)
        return (held if part is None else held[part]).to(wide)

    decoder.executor.synchronise()

    def norm(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        x32 = x.float()  # as in every implementation
        return (x32 * torch.rsqrt((x32 * x32).mean(-1, keepdim=True) + c.rms_eps)).to(wide) * g

    n, half = len(tokens), c.head_dim // 2
    cos, sin = t(decoder.cache.cosine)[:n, None, :], t(decoder.cache.sine)[:n, None, :]

    def rope(x: torch.Tensor) -> torch.Tensor:
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def swiglu(x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        return (torch.nn.functional.silu(x @ gate.T) * (x @ up.T)) @ down.T

    h = t(decoder.weights.embedding)[torch.tensor(tokens)]
    mask = torch.full((n, n), float("-inf"), device="cuda", dtype=wide).triu(1)
    for layer in decoder.weights.layers:
        x = (norm(h, t(layer.attention_norm)) @ t(layer.qkv).T).view(n, -1, c.head_dim)
        if layer.qkv_bias is not None:
            x = x + t(layer.qkv_bias)
        q, k, v = x.split([c.heads, c.kv_heads, c.kv_heads], 1)
        if layer.q_norm is not None:
            q, k = norm(q, t(layer.q_norm)), norm(k, t(layer.k_norm))
        q, k = rope(q), rope(k)
        k, v = (y.repeat_interleave(c.heads // c.kv_heads, 1) for y in (k, v))
        score = torch.einsum("qhd,khd->hqk", q, k) * c.head_dim**-0.5 + mask
        a = torch.einsum("hqk,khd->qhd", score.softmax(-1, torch.float32).to(wide), v).reshape(n, -1)
        h = h + a @ t(layer.output).T
        x = norm(h, t(layer.ffn_norm))
        if layer.router is None:
            h = h + swiglu(x, t(layer.gate), t(layer.up), t(layer.down))
            continue
        share = (x @ t(layer.router).T).softmax(-1, torch.float32)
        share, expert = share.topk(c.experts_used, -1)
        if c.renormalise:
            share = share / share.sum(-1, keepdim=True)
        for e in expert.unique().tolist():
            row, choice = (expert == e).nonzero(as_tuple=True)
            out = swiglu(x[row], *(t(w, e) for w in (layer.gate, layer.up, layer.down)))
            h = h.index_add(0, row, (share[row, choice][:, None] * out).to(wide))
    return (norm(h, t(decoder.weights.norm)) @ t(decoder.weights.head).T).float().cpu().numpy()


def check(decoder: Decoder, count: int = 12) -> str:
    """Greedy decoding against the reference: relative error of the logits, beside that of torch in bf16, and whether the argmax agrees."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    tokens, ours = [17], []
    rows = sorted({0, decoder.batch // 2, decoder.batch - 1})
    decoder.inputs.ids.write(np.full(decoder.batch, tokens[0], np.int32))
    for position in range(count):
        decoder.step(position)
        ours.append(decoder.logits.numpy()[rows])
        tokens.append(int(decoder.inputs.ids.numpy()[0]))
    want = reference_logits(decoder, tokens[:-1])
    every = np.stack(ours, 1)
    error = max(float(np.linalg.norm(row - want) / np.linalg.norm(want)) for row in every)
    plain = {"bf16": "bfloat16", "f16": "float16"}[decoder.weights.dtype.name]
    theirs = float(np.linalg.norm(reference_logits(decoder, tokens[:-1], plain) - want) / np.linalg.norm(want))
    got = every[0]
    agree = int((got.argmax(1) == want.argmax(1)).sum())
    right = all(tokens[i + 1] == got[i].argmax() for i in range(count))
    return f"relative error {error:.4f} (torch in {plain} {theirs:.4f}), argmax agrees {agree}/{count}, token is the argmax: {right}"


def measure(decoder: Decoder, start: int, steps: int) -> tuple[float, float]:
    """(wall seconds a step with host work, seconds a step of bare graph replays)."""
    distinct = np.random.default_rng(1).integers(0, decoder.config.vocab_size, decoder.batch)
    decoder.inputs.ids.write(distinct.astype(np.int32))  # rows that are alike would share their experts
    for position in range(start, start + 8):
        decoder.step(position)
    decoder.executor.synchronise()
    begun = time.perf_counter()
    for position in range(start, start + steps):
        decoder.step(position)
    decoder.executor.synchronise()
    wall = (time.perf_counter() - begun) / steps
    begun = time.perf_counter()
    for _ in range(steps):
        decoder.graph.replay()
    decoder.executor.synchronise()
    return wall, (time.perf_counter() - begun) / steps


def copy_bandwidth() -> float:
    """Bytes a second that a copy on the device reads and writes, by torch; the best of ten."""
    import torch

    source = torch.ones(1 << 30, dtype=torch.bfloat16, device="cuda")
    target = torch.empty_like(source)
    best = 0.0
    for _ in range(10):
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begun.record()
        target.copy_(source)
        ended.record()
        ended.synchronize()
        best = max(best, 2 * source.nbytes / begun.elapsed_time(ended) * 1e3)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["Qwen3-0.6B"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--splits", type=int, default=None, help="programs that share the attention over one context")
    parser.add_argument("--start", type=int, help="position of the first step that is timed (default: the middle)")
    parser.add_argument(
        "--dtype",
        default="bf16",
        choices=["bf16", "fp16", "fp8"],
        help="of weights and activations; fp8: of the matrices of layers",
    )
    parser.add_argument("--compile-only", action="store_true")
    parser.add_argument("--schedules", default=UNMEASURED, choices=devices(), help="the device to compile for")
    parser.add_argument("--no-check", action="store_true")
    options = parser.parse_args()
    bandwidth = 1.0 if options.compile_only else copy_bandwidth()
    for model in options.models:
        begun = time.perf_counter()
        executor = (
            CudaExecutor(None, "sm_90", schedules=options.schedules) if options.compile_only else CudaExecutor.open()
        )
        decoder = Decoder(executor, known_config(model), options.batch, options.context, options.splits, options.dtype)
        made = time.perf_counter() - begun
        if options.compile_only:
            print(f"{model}: {len(decoder.graph)} launches proved and compiled in {made:.1f} s")
            continue
        checked = "" if options.no_check else check(decoder)
        start = options.context // 2 if options.start is None else options.start
        wall, bare = measure(decoder, start, min(200, options.context - start))
        floor = decoder.weight_bytes() / bandwidth
        print(
            f"{model} {options.dtype} batch {options.batch}: "
            f"{options.batch / wall:.0f} tok/s ({wall * 1e3:.3f} ms; replay {bare * 1e3:.3f} ms); "
            f"floor {floor * 1e3:.3f} ms at {bandwidth / 1e9:.0f} GB/s = {100 * floor / wall:.0f} %; "
            f"ready in {made:.1f} s; {checked}", flush=True,
        )  # fmt: skip
        del decoder, executor


if __name__ == "__main__":
    main()
