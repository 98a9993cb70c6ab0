"""Qwen3 (Yang et al., 2025) in bf16 with fused kernels, for devices where launches are dear: one decode step as a graph.

The same kernels run on the CPU, where they are tested; `llama.py` is the unfused form for packed weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from zellige.ir.dtypes import DType, bf16, f32
from zellige.kernels.batch import (
    head_rows,
    linear_parts,
    linear_rows,
    linear_rows_add,
    norm_rows,
    paged_prefill,
    prefill_attention,
    sum_parts_add,
    swiglu_rows,
)
from zellige.kernels.decode import (
    argmax_combine,
    argmax_parts,
    head_norm_rope_append,
    linear_residual,
    norm_linear,
    norm_swiglu,
)
from zellige.kernels.embedding import embed, take_rows
from zellige.kernels.gpu_attention import paged_decode_combine, paged_decode_partial
from zellige.llm.weights.config import ModelConfig
from zellige.runtime.tensor import Tensor

ARGMAX_BLOCK = 2048


class Memory(Protocol):
    """Where tensors are made."""

    def empty(self, shape: Sequence[int], dtype: DType) -> Tensor: ...

    def zeros(self, shape: Sequence[int], dtype: DType) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights of one block, bf16; ``qkv`` holds the rows of query, key and value projections, one after the other."""

    attention_norm: Tensor  # [D]
    qkv: Tensor  # [(H + 2·HK)·HD, D]
    q_norm: Tensor  # [HD]
    k_norm: Tensor  # [HD]
    output: Tensor  # [D, H·HD]
    ffn_norm: Tensor  # [D]
    gate: Tensor  # [F, D]
    up: Tensor  # [F, D]
    down: Tensor  # [D, F]


@dataclass(frozen=True, slots=True)
class Weights:
    """All weights, bf16."""

    embedding: Tensor  # [V, D]
    layers: tuple[Layer, ...]
    norm: Tensor  # [D]
    head: Tensor  # [V, D]

    @classmethod
    def made(cls, config: ModelConfig, make: Callable[[str, tuple[int, ...]], Tensor]) -> Weights:
        """Weights from a function of name and shape; names are GGUF's, with ``attn_qkv`` for the joined projections."""
        c = config
        heads = c.heads + 2 * c.kv_heads
        layers = []
        for i in range(c.layers):
            b = f"blk.{i}."
            layers.append(
                Layer(
                    make(b + "attn_norm.weight", (c.width,)),
                    make(b + "attn_qkv.weight", (heads * c.head_dim, c.width)),
                    make(b + "attn_q_norm.weight", (c.head_dim,)),
                    make(b + "attn_k_norm.weight", (c.head_dim,)),
                    make(b + "attn_output.weight", (c.width, c.heads * c.head_dim)),
                    make(b + "ffn_norm.weight", (c.width,)),
                    make(b + "ffn_gate.weight", (c.ffn_width, c.width)),
                    make(b + "ffn_up.weight", (c.ffn_width, c.width)),
                    make(b + "ffn_down.weight", (c.width, c.ffn_width)),
                )
            )
        embedding = make("token_embd.weight", (c.vocab_size, c.width))
        head = embedding if c.tied_embeddings else make("output.weight", (c.vocab_size, c.width))
        return cls(embedding, tuple(layers), make("output_norm.weight", (c.width,)), head)


@dataclass(frozen=True, slots=True)
class DecodeInputs:
    """What a decode step of B sequences reads; ``ids`` is also where it leaves the next tokens."""

    ids: Tensor  # Index[V] [B]
    position: Tensor  # Index[C] [B]
    slot: Tensor  # Index[NB·P, distinct, optional] [B]
    length: Tensor  # UpTo[PAGES·P] [B]
    table: Tensor  # Index[NB] [B, PAGES]


@dataclass(frozen=True, slots=True)
class Caches:
    """Paged keys and values of every layer, bf16 [NB, P, HK, HD], and the rotary table, f32 [C, HD/2]."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    cosine: Tensor
    sine: Tensor


@dataclass(frozen=True, slots=True)
class PrefillInputs:
    """What a prefill pass over T rows reads: consecutive tokens of up to B sequences, each from a new tile of T / TILES rows on."""

    ids: Tensor  # Index[V] [T]
    position: Tensor  # Index[C] [T]
    slot: Tensor  # Index[NB·P, distinct, optional] [T]
    table: Tensor  # Index[NB] [B, PAGES]
    length: Tensor  # UpTo[PAGES·P] [B]: tokens of each sequence, this pass included
    owner: Tensor  # Index[B] [TILES]: the sequence of each tile
    start: Tensor  # UpTo[PAGES·P] [TILES]: the position of each tile's first row
    base: Tensor  # Index[T] [TILES]: the row where the tile's sequence begins
    last: Tensor  # Index[T] [R]: the rows whose logits are wanted
    token: Tensor  # Index[V] [R]: where the likeliest next tokens are left


FEW = 4
"""Tokens up to which each streams the weights by itself; more share them in matrix products."""
SOME = 16
"""Tokens up to which each head of each token has a program to itself."""
MULTIPROCESSORS = 132
"""Of the GPUs that the split of narrow products is chosen for."""


def decode_step(
    config: ModelConfig,
    w: Weights,
    cache: Caches,
    inputs: DecodeInputs,
    memory: Memory,
    chunk: int | None = None,
) -> Tensor:
    """One greedy decode step: leaves each sequence's next token in ``inputs.ids``; gives the logits, f32 [B, V].

    ``chunk``: positions of a context that one program of the attention covers (None: as suits the batch)."""
    c = config
    rows, groups = inputs.ids.shape[0], c.heads // c.kv_heads
    context = inputs.table.shape[1] * cache.keys[0].shape[1]
    chunk = chunk or attention_chunk(rows, c.kv_heads, context)
    splits = -(-context // chunk)
    states = (rows, c.kv_heads, splits, groups)
    part = memory.empty((*states, c.head_dim), f32)
    best_of, total_of = memory.empty(states, f32), memory.empty(states, f32)
    products = _Products(c, rows, memory)
    h: Any = embed(inputs.ids, w.embedding)
    for layer, keys, values in zip(w.layers, cache.keys, cache.values, strict=True):
        q, _, _ = products.heads(layer, h, keys, values, inputs, cache)
        paged_decode_partial(
            q.reshape(rows, c.kv_heads, groups, c.head_dim), keys, values, inputs.table, inputs.length, c.head_dim**-0.5,
            part=part, best_of=best_of, total_of=total_of, CHUNK=chunk,
        )  # fmt: skip
        a = products.buffer("attended", (rows, c.heads * c.head_dim), bf16)
        paged_decode_combine(part, best_of, total_of, out=a.reshape(rows, c.kv_heads, groups, c.head_dim))
        products.add(a, layer.output, h)
        products.add(products.swiglu(h, layer.ffn_norm, layer.gate, layer.up), layer.down, h)
    logits = products.normed(h, w.norm, w.head, f32)
    _likeliest(logits, inputs.ids, memory)
    return logits


def _likeliest(logits: Tensor, token: Tensor, memory: Memory) -> None:
    """token[b] = argmax of logits[b], in two launches so that a long row keeps the whole device busy."""
    rows, vocabulary = logits.shape
    parts = (rows, -(-vocabulary // ARGMAX_BLOCK))
    best, at = memory.empty(parts, f32), memory.empty(parts, token.dtype)
    argmax_parts(logits, best=best, at=at, BLOCK=ARGMAX_BLOCK)
    argmax_combine(best, at, token=token, V=vocabulary)


def prefill_step(
    config: ModelConfig,
    w: Weights,
    cache: Caches,
    inputs: PrefillInputs,
    memory: Memory,
    *,
    fresh: bool,
    buffers: dict[str, Tensor] | None = None,
) -> Tensor:
    """A pass over T rows: fills their slots of the cache; gives the logits of ``inputs.last``, f32 [R, V], and leaves their argmax in
    ``inputs.token``. ``fresh``: every sequence starts in this pass, so that attention need not look into the cache.
    ``buffers``: scratch that passes may share, since they run one after the other."""
    c = config
    tokens, groups = inputs.ids.shape[0], c.heads // c.kv_heads
    tile = tokens // inputs.owner.shape[0]
    products = _Products(c, tokens, memory, {} if buffers is None else buffers)
    h: Any = embed(inputs.ids, w.embedding)
    for layer, keys, values in zip(w.layers, cache.keys, cache.values, strict=True):
        q, k, qkv = products.heads(layer, h, keys, values, inputs, cache)
        a = products.buffer("attended", (tokens, c.heads * c.head_dim), bf16)
        grouped, out = (x.reshape(tokens, c.kv_heads, groups, c.head_dim) for x in (q, a))
        if fresh and k is not None:
            prefill_attention(grouped, k, qkv, inputs.base, c.head_dim**-0.5, out=out, BM=tile)
        else:
            paged_prefill(
                grouped, keys, values, inputs.table, inputs.length, inputs.owner, inputs.start, c.head_dim**-0.5,
                out=out, BM=tile,
            )  # fmt: skip
        products.add(a, layer.output, h)
        products.add(products.swiglu(h, layer.ffn_norm, layer.gate, layer.up), layer.down, h)
    wanted = inputs.last.shape[0]
    logits = _Products(c, wanted, memory, products.buffers).normed(take_rows(h, inputs.last), w.norm, w.head, f32)
    _likeliest(logits, inputs.token, memory)
    return logits


@dataclass(frozen=True, slots=True)
class _Products:
    """Products with weights, by the way that suits the number of tokens. Layers share their buffers: they run one by one."""

    config: ModelConfig
    rows: int
    memory: Memory
    buffers: dict[str, Tensor] = field(default_factory=dict)

    def buffer(self, name: str, shape: tuple[int, ...], dtype: DType) -> Tensor:
        """The buffer of that name; made the first time."""
        key = f"{name} {shape} {dtype}"
        if key not in self.buffers:
            self.buffers[key] = self.memory.empty(shape, dtype)
        return self.buffers[key]

    def heads(
        self, layer: Layer, h: Tensor, keys: Tensor, values: Tensor, inputs: DecodeInputs | PrefillInputs, cache: Caches
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Query heads, bf16 [T, H, HD], normed and rotated; keys and values go to the cache. For many tokens the keys as well, in
        the order of tokens, bf16 [T, HK, HD]; and all heads as they left the product, bf16 [T, H + 2·HK, HD]."""
        c, rows = self.config, self.rows
        heads = c.heads + 2 * c.kv_heads
        qkv = self.normed(h, layer.attention_norm, layer.qkv, bf16).reshape(rows, heads, c.head_dim)
        q = self.buffer("q", (rows, c.heads, c.head_dim), bf16)
        given = (qkv, layer.q_norm, layer.k_norm, inputs.position, inputs.slot, cache.cosine, cache.sine, c.rms_eps)
        if rows <= SOME:
            head_norm_rope_append(*given, q=q, keys=keys, values=values)
            return q, None, qkv
        k = self.buffer("k", (rows, c.kv_heads, c.head_dim), bf16)
        head_rows(*given, q=q, k=k, keys=keys, values=values)
        return q, k, qkv

    def _norm(self, h: Tensor, g: Tensor) -> Tensor:
        x = self.buffer("normed", h.shape, bf16)
        norm_rows(h, g, self.config.rms_eps, x=x)
        return x

    def normed(self, h: Tensor, g: Tensor, w: Tensor, dtype: DType) -> Tensor:
        """rms_norm(h, g)·wᵀ."""
        y = self.buffer("product", (self.rows, w.shape[0]), dtype)
        if self.rows <= FEW:
            norm_linear(h, g, w, self.config.rms_eps, y=y)
        else:
            linear_rows(self._norm(h, g), w, y=y)
        return y

    def swiglu(self, h: Tensor, g: Tensor, gate: Tensor, up: Tensor) -> Tensor:
        """silu(x·gateᵀ)·(x·upᵀ) with x = rms_norm(h, g)."""
        y = self.buffer("gated", (self.rows, gate.shape[0]), bf16)
        if self.rows <= FEW:
            norm_swiglu(h, g, gate, up, self.config.rms_eps, y=y)
        else:
            swiglu_rows(self._norm(h, g), gate, up, y=y)
        return y

    def add(self, x: Tensor, w: Tensor, h: Tensor) -> None:
        """h += x·wᵀ."""
        if self.rows <= FEW:
            linear_residual(x, w, h=h)
            return
        parts, depth = _split(self.rows, *w.shape)
        if parts == 1:
            linear_rows_add(x, w, h=h)
            return
        part = self.buffer("part", (parts, *h.shape), f32)
        linear_parts(x, w, part=part, DEPTH=depth)
        sum_parts_add(part, h=h)


def attention_chunk(batch: int, kv_heads: int, context: int) -> int:
    """Positions for one program of decode attention: about three programs a multiprocessor, none below 32 positions."""
    splits = max(1, 3 * MULTIPROCESSORS // (batch * kv_heads))
    chunk = 32
    while chunk * 2 * splits <= context:
        chunk *= 2
    return chunk if splits > 1 else -(-context // 32) * 32


def _split(rows: int, width: int, depth: int) -> tuple[int, int]:
    """Into how many stretches to cut the inner axis of a narrow product so that it fills the GPU, and how long each is."""
    side = 64 if rows <= 64 else 128
    programs = -(-rows // side) * -(-width // side)
    if rows > 256 or programs >= MULTIPROCESSORS:
        return 1, depth
    wanted = min(8 if rows <= 16 else 4, -(-2 * MULTIPROCESSORS // programs))
    length = -(-depth // wanted // 256) * 256
    return -(-depth // length), length
