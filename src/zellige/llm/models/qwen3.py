"""Qwen3 (Yang et al., 2025) in bf16 with fused kernels, for devices where launches are dear: one decode step as a graph.

The same kernels run on the CPU, where they are tested; `llama.py` is the unfused form for packed weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from zellige.ir.dtypes import DType, bf16, f32
from zellige.kernels.decode import (
    argmax_combine,
    argmax_parts,
    head_norm_rope_append,
    linear_residual,
    norm_linear,
    norm_swiglu,
)
from zellige.kernels.embedding import embed
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


def decode_step(config: ModelConfig, w: Weights, cache: Caches, inputs: DecodeInputs, memory: Memory, chunk: int) -> Tensor:
    """One greedy decode step: leaves each sequence's next token in ``inputs.ids``; gives the logits, f32 [B, V].

    ``chunk``: positions of a context that one program of the attention covers."""
    c = config
    rows, groups = inputs.ids.shape[0], c.heads // c.kv_heads
    splits = -(-inputs.table.shape[1] * cache.keys[0].shape[1] // chunk)
    states = (rows, c.kv_heads, splits, groups)
    part = memory.empty((*states, c.head_dim), f32)
    best_of, total_of = memory.empty(states, f32), memory.empty(states, f32)
    h = embed(inputs.ids, w.embedding)
    for layer, keys, values in zip(w.layers, cache.keys, cache.values, strict=True):
        qkv = memory.empty((rows, (c.heads + 2 * c.kv_heads) * c.head_dim), bf16)
        norm_linear(h, layer.attention_norm, layer.qkv, c.rms_eps, y=qkv)
        q = memory.empty((rows, c.heads, c.head_dim), bf16)
        head_norm_rope_append(
            qkv.reshape(rows, c.heads + 2 * c.kv_heads, c.head_dim), layer.q_norm, layer.k_norm, inputs.position,
            inputs.slot, cache.cosine, cache.sine, c.rms_eps, q=q, keys=keys, values=values,
        )  # fmt: skip
        grouped = q.reshape(rows, c.kv_heads, groups, c.head_dim)
        paged_decode_partial(
            grouped, keys, values, inputs.table, inputs.length, c.head_dim**-0.5,
            part=part, best_of=best_of, total_of=total_of, CHUNK=chunk,
        )  # fmt: skip
        a: Any = paged_decode_combine(part, best_of, total_of)
        linear_residual(a.reshape(rows, c.heads * c.head_dim), layer.output, h=h)
        gated = norm_swiglu(h, layer.ffn_norm, layer.gate, layer.up, c.rms_eps)
        linear_residual(gated, layer.down, h=h)
    logits = memory.empty((rows, c.vocab_size), f32)
    norm_linear(h, w.norm, w.head, c.rms_eps, y=logits)
    parts = (rows, -(-c.vocab_size // ARGMAX_BLOCK))
    best = memory.empty(parts, f32)
    at = memory.empty(parts, inputs.ids.dtype)
    argmax_parts(logits, best=best, at=at, BLOCK=ARGMAX_BLOCK)
    argmax_combine(best, at, token=inputs.ids, V=c.vocab_size)
    return logits
