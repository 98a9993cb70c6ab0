"""The fused passes of all families, for devices where launches are dear: one decode step as a graph, one pass over a prompt.

The same kernels run on the CPU, where they are tested; `packed.py` is the unfused form for packed weights. Weights are bf16 or
f16, or fp8 with activations in bf16; the residual stream is f32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, cast

from zellige.ir.dtypes import DType, f32, i32
from zellige.kernels import fp8
from zellige.kernels.batch import prefill_attention
from zellige.kernels.decode import argmax_combine, argmax_parts
from zellige.kernels.embedding import embed, take_rows
from zellige.kernels.heads import head_bias_rope_rows, head_norm_rope_rows, head_rope_rows
from zellige.kernels.moe import route
from zellige.kernels.new_token import bias_rope_attend, combine_append, norm_rope_attend, rope_attend
from zellige.kernels.sampling import argmax
from zellige.llm.models.products import Matrix, Memory, Products, Scaled
from zellige.llm.weights.config import ModelConfig
from zellige.runtime.tensor import Tensor

ARGMAX_BLOCK = 2048
ARGMAX_WHOLE = 256
"""From so many rows on a program each keeps the device busy: 13 to 25 µs less than two launches (docs/performance/gpu.md)."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights of one block, of one 16-bit type or (matrices) fp8; ``qkv`` holds the rows of query, key and value
    projections, one after the other."""

    attention_norm: Tensor  # [D]
    qkv: Matrix  # [(H + 2·HK)·HD, D]
    output: Matrix  # [D, H·HD]
    ffn_norm: Tensor  # [D]
    gate: Matrix  # [F, D], or [E, F, D] where there are experts
    up: Matrix  # [F, D] or [E, F, D]
    down: Matrix  # [D, F] or [E, D, F]
    q_norm: Tensor | None = None  # [HD]
    k_norm: Tensor | None = None  # [HD]
    qkv_bias: Tensor | None = None  # [H + 2·HK, HD]
    router: Tensor | None = None  # [E, D]


@dataclass(frozen=True, slots=True)
class Weights:
    """All weights; what is not a matrix of a layer has ``dtype``."""

    embedding: Tensor  # [V, D]
    layers: tuple[Layer, ...]
    norm: Tensor  # [D]
    head: Tensor  # [V, D]

    @property
    def dtype(self) -> DType:
        """Of activations, and of weights that are not fp8: bf16 or f16."""
        return self.norm.dtype

    @property
    def norms(self) -> list[Tensor]:
        """The weights of the norms that blocks begin with, and of the last one."""
        return [*(layer.attention_norm for layer in self.layers), self.norm]

    def tensors(self) -> Iterator[Tensor]:
        """All, each once; fp8 matrices as their values and their scales."""
        yield self.embedding
        if self.head is not self.embedding:
            yield self.head
        yield self.norm
        for layer in self.layers:
            for held in (getattr(layer, f.name) for f in fields(layer)):
                if isinstance(held, Scaled):
                    yield from (held.values, held.scale)
                elif held is not None:
                    yield held

    @classmethod
    def made(
        cls,
        config: ModelConfig,
        make: Callable[[str, tuple[int, ...]], Tensor],
        matrix: Callable[[str, tuple[int, ...]], Matrix] | None = None,
    ) -> Weights:
        """Weights from a function of name and shape; names are GGUF's, with ``attn_qkv`` for the joined projections.

        ``matrix`` makes the matrices of a layer, where those are not made as the rest is."""
        matrix = matrix or make
        c = config
        heads = c.heads + 2 * c.kv_heads
        stack, suffix = ((c.experts,), "_exps") if c.experts else ((), "")

        def layer(i: int) -> Layer:
            b = f"blk.{i}."
            return Layer(
                make(b + "attn_norm.weight", (c.width,)),
                matrix(b + "attn_qkv.weight", (heads * c.head_dim, c.width)),
                matrix(b + "attn_output.weight", (c.width, c.heads * c.head_dim)),
                make(b + "ffn_norm.weight", (c.width,)),
                matrix(f"{b}ffn_gate{suffix}.weight", (*stack, c.ffn_width, c.width)),
                matrix(f"{b}ffn_up{suffix}.weight", (*stack, c.ffn_width, c.width)),
                matrix(f"{b}ffn_down{suffix}.weight", (*stack, c.width, c.ffn_width)),
                make(b + "attn_q_norm.weight", (c.head_dim,)) if c.qk_norm else None,
                make(b + "attn_k_norm.weight", (c.head_dim,)) if c.qk_norm else None,
                make(b + "attn_qkv.bias", (heads, c.head_dim)) if c.qkv_bias else None,
                make(b + "ffn_gate_inp.weight", (c.experts, c.width)) if c.experts else None,
            )

        embedding = make("token_embd.weight", (c.vocab_size, c.width))
        head = embedding if c.tied_embeddings else make("output.weight", (c.vocab_size, c.width))
        return cls(embedding, tuple(map(layer, range(c.layers))), make("output_norm.weight", (c.width,)), head)


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
    """Paged keys and values of every layer, bf16, f16 or fp8 [NB, P, HK, HD], and the rotary table, f32 [C, HD/2]."""

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


def decode_step(
    config: ModelConfig,
    w: Weights,
    cache: Caches,
    inputs: DecodeInputs,
    memory: Memory,
    splits: int | None = None,
    products_of: type[Products] = Products,
    buffers: dict[str, Tensor] | None = None,
) -> Tensor:
    """One greedy decode step: leaves each sequence's next token in ``inputs.ids``; gives the logits, f32 [B, V].

    ``splits``: programs that share the attention over one context (None: as suits the batch). ``buffers``: scratch that
    steps may share, the logits included, since they run one after the other."""
    c = config
    rows, groups = inputs.ids.shape[0], c.heads // c.kv_heads
    products = products_of(rows, c.rms_eps, memory, w.dtype, {} if buffers is None else buffers)
    splits = splits or products.splits(c.kv_heads, inputs.table.shape[1] * cache.keys[0].shape[1])
    grouped = (rows, c.kv_heads, groups, c.head_dim)
    h: Any = embed(inputs.ids, w.embedding)
    for layer, following, keys, values in zip(w.layers, w.norms[1:], cache.keys, cache.values, strict=True):
        a = products.buffer("attended", (rows, c.heads * c.head_dim), w.dtype)
        if products.heads_in_attention and splits > 1:
            _attend_new(c, layer, products, h, (keys, values), inputs, cache, a.reshape(*grouped), splits)
        else:
            q, _, _ = _heads(c, layer, products, h, (keys, values), inputs, cache)
            pages = (keys, values, inputs.table, inputs.length)
            products.attend(q.reshape(*grouped), pages, c.head_dim**-0.5, a.reshape(*grouped), splits)
        products.add(a, layer.output, h, layer.ffn_norm)
        _feed_forward(c, layer, products, h, following)
    logits = products.normed(h, w.norm, w.head, f32)
    _likeliest(logits, inputs.ids, memory)
    return logits


def _likeliest(logits: Tensor, token: Tensor, memory: Memory) -> None:
    """token[b] = argmax of logits[b]: of few rows in two launches, so that a long row keeps the whole device busy."""
    rows, vocabulary = logits.shape
    if rows >= ARGMAX_WHOLE:
        argmax(logits, token=token)
        return
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
    products_of: type[Products] = Products,
) -> Tensor:
    """A pass over T rows: fills their slots of the cache; gives the logits of ``inputs.last``, f32 [R, V], and leaves their argmax in
    ``inputs.token``. ``fresh``: every sequence starts in this pass, so that attention need not look into the cache.
    ``buffers``: scratch that passes may share, since they run one after the other."""
    c = config
    tokens, groups = inputs.ids.shape[0], c.heads // c.kv_heads
    tile = tokens // inputs.owner.shape[0]
    products = products_of(tokens, c.rms_eps, memory, w.dtype, {} if buffers is None else buffers)
    h: Any = embed(inputs.ids, w.embedding)
    for layer, following, keys, values in zip(w.layers, w.norms[1:], cache.keys, cache.values, strict=True):
        q, k, qkv = _heads(c, layer, products, h, (keys, values), inputs, cache)
        a = products.buffer("attended", (tokens, c.heads * c.head_dim), w.dtype)
        grouped, out = (x.reshape(tokens, c.kv_heads, groups, c.head_dim) for x in (q, a))
        if fresh:
            prefill_attention(grouped, k, qkv, inputs.base, c.head_dim**-0.5, out=out, BM=tile)
        else:
            pages = (keys, values, inputs.table, inputs.length)
            products.attend_tiles(grouped, pages, (inputs.owner, inputs.start), c.head_dim**-0.5, out, tile)
        products.add(a, layer.output, h, layer.ffn_norm)
        _feed_forward(c, layer, products, h, following)
    wanted = inputs.last.shape[0]
    logits = products_of(wanted, c.rms_eps, memory, w.dtype, products.buffers).normed(
        take_rows(h, inputs.last), w.norm, w.head, f32
    )
    _likeliest(logits, inputs.token, memory)
    return logits


def _heads(
    config: ModelConfig,
    layer: Layer,
    products: Products,
    h: Tensor,
    cached: tuple[Tensor, Tensor],
    inputs: DecodeInputs | PrefillInputs,
    cache: Caches,
) -> tuple[Tensor, Tensor, Tensor]:
    """Query heads, [T, H, HD], and keys, [T, HK, HD], rotated; keys and values go to the cache. And all heads before their rotation,
    [T, H + 2·HK, HD], of which the values are final."""
    c, rows = config, products.rows
    qkv = _projected(c, layer, products, h)
    q = products.buffer("q", (rows, c.heads, c.head_dim), products.dtype)
    k = products.buffer("k", (rows, c.kv_heads, c.head_dim), products.dtype)
    keys, values = cached
    places = (inputs.position, inputs.slot, cache.cosine, cache.sine)
    if layer.q_norm is not None:
        head_norm_rope_rows(qkv, layer.q_norm, layer.k_norm, *places, c.rms_eps, q=q, k=k, keys=keys, values=values)
    elif layer.qkv_bias is not None:
        head_bias_rope_rows(layer.qkv_bias, *places, qkv=qkv, q=q, k=k, keys=keys, values=values)
    else:
        head_rope_rows(qkv, *places, q=q, k=k, keys=keys, values=values)
    return q, k, qkv


def _attend_new(
    config: ModelConfig,
    layer: Layer,
    products: Products,
    h: Tensor,
    cached: tuple[Tensor, Tensor],
    inputs: DecodeInputs,
    cache: Caches,
    out: Tensor,
    ways: int,
) -> None:
    """out, [B, HK, G, HD], = the attention of one new token a sequence, whose key and value go to the cache."""
    c, rows, (keys, values) = config, products.rows, cached
    qkv = _projected(c, layer, products, h)
    states, own = (rows, c.kv_heads, ways, c.heads // c.kv_heads), (rows, c.kv_heads, c.head_dim)
    state = {
        "part": products.buffer("part of attention", (*states, c.head_dim), f32),
        "best_of": products.buffer("best", states, f32),
        "total_of": products.buffer("total", states, f32),
        "key": products.buffer("key", own, keys.dtype),
        "value": products.buffer("value", own, values.dtype),
    }
    places = (inputs.position, cache.cosine, cache.sine, keys, values, inputs.table, inputs.length)
    scale = c.head_dim**-0.5
    if layer.q_norm is not None:
        norm_rope_attend(qkv, layer.q_norm, layer.k_norm, *places, scale, c.rms_eps, **state, WAYS=ways)
    elif layer.qkv_bias is not None:
        bias_rope_attend(qkv, layer.qkv_bias, *places, scale, **state, WAYS=ways)
    else:
        rope_attend(qkv, *places, scale, **state, WAYS=ways)
    combine_append(*state.values(), inputs.slot, out=out, keys=keys, values=values)


def _projected(config: ModelConfig, layer: Layer, products: Products, h: Tensor) -> Tensor:
    """Query, key and value heads, [T, H + 2·HK, HD]."""
    c = config
    return products.normed(h, layer.attention_norm, layer.qkv, products.dtype).reshape(
        products.rows, c.heads + 2 * c.kv_heads, c.head_dim
    )


def _feed_forward(config: ModelConfig, layer: Layer, products: Products, h: Tensor, then: Tensor) -> None:
    """h += the feed-forward layer of rms_norm(h). ``then``: the weight of the norm that reads h next."""
    if layer.router is None:
        y = products.swiglu(h, layer.ffn_norm, layer.gate, layer.up, layer.down)
        products.add(y, layer.down, h, then, fp8.SHRINK if y.dtype is not products.dtype else 1.0)
        return
    logits = products.normed(h, layer.ffn_norm, layer.router, f32)
    choice = (products.rows, config.experts_used)
    expert = products.buffer("expert", choice, i32)
    weight = products.buffer("share", choice, f32)
    route(logits, expert=expert, weight=weight, RENORMALISE=config.renormalise)
    experts = cast("tuple[Tensor, Tensor, Tensor]", (layer.gate, layer.up, layer.down))
    products.experts(h, layer.ffn_norm, experts, expert, weight, then)
