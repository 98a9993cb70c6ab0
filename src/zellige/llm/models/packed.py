"""The pass of dense families over packed weights, on the CPU; weights stay as they are in the file.

What a layer computes is `_layer`; each line is a call of a verified kernel. Which of them become one launch is found when the pass has
been recorded (`Graph.fused`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from zellige import f16, f32
from zellige.kernels.attention import (
    DECODE_WAYS,
    attention_decode_combine,
    attention_decode_parts,
    attention_prefill,
)
from zellige.kernels.embedding import embed
from zellige.kernels.linear import add, add_bias, linear_matrix, linear_vector, silu_mul
from zellige.kernels.norm import head_norm, rms_norm
from zellige.kernels.rope import kv_append, rope
from zellige.llm.weights.config import ModelConfig
from zellige.runtime.kernel import Kernel
from zellige.runtime.tensor import Tensor, borrow, zeros


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which kernel multiplies: one that streams weights once per token, or one that reuses them for a tile of tokens."""

    linear: Kernel
    rows: int | None = None
    """Most tokens it is meant for. Tiles are looked up for as many, by the executor."""


VECTOR = Schedule(linear_vector, 3)
THIN, SMALL, MEDIUM, MATRIX = (Schedule(linear_matrix, rows) for rows in (8, 16, 64, None))


def schedule_for(tokens: int) -> Schedule:
    """The quickest schedule for a pass over so many tokens."""
    return next((s for s in (VECTOR, THIN, SMALL, MEDIUM) if s.rows is not None and tokens <= s.rows), MATRIX)


@dataclass(frozen=True, slots=True)
class Rotary:
    """Cosines and sines of each position and rotary pair: f32 [C, HD/2]."""

    cosine: Tensor
    sine: Tensor

    @classmethod
    def table(cls, config: ModelConfig, positions: int, factors: np.ndarray | None) -> Rotary:
        """The table for positions 0 … positions−1; ``factors``: the file's divisors of the frequencies, if it has some."""
        angles = np.arange(positions, dtype=np.float64)[:, None] * config.inverse_frequencies(factors)[None, :]
        size = config.rope_magnitude
        return cls(
            borrow((size * np.cos(angles)).astype(np.float32)), borrow((size * np.sin(angles)).astype(np.float32))
        )


@dataclass(frozen=True, slots=True)
class Cache:
    """The paged keys and values of one layer: f16 [NB, P, HK, HD]."""

    keys: Tensor
    values: Tensor

    @classmethod
    def of(cls, config: ModelConfig, pages: int, page_size: int) -> Cache:
        """A cleared cache."""
        shape = (pages, page_size, config.kv_heads, config.head_dim)
        return cls(zeros(shape, f16), zeros(shape, f16))


@dataclass(frozen=True, slots=True)
class Inputs:
    """What one forward pass reads, besides weights and cache; T tokens."""

    ids: Tensor  # Index[V] [T]
    position: Tensor  # Index[C] [T]
    slot: Tensor  # Index[NB * P, distinct, optional] [T]
    table: Tensor  # Index[NB]: [T, PAGES] when each token is a sequence of its own, [PAGES] when all are of one
    length: Tensor | None  # UpTo[PAGES * P] [T] when each token is a sequence of its own


@dataclass(frozen=True, slots=True)
class Workspace:
    """Memory for the intermediate values of a pass over T tokens, used by every layer in turn.

    Cleared at the start: memory that nobody has touched yet makes each masked access to it cost a fault that is suppressed.
    """

    hidden: Tensor  # f32 [T, D]
    normed: Tensor  # f32 [T, D]
    queries: Tensor  # f32 [T, H * HD]
    keys: Tensor  # f32 [T, HK * HD]
    values: Tensor  # f32 [T, HK * HD]
    added: Tensor  # f32 [T, D]: what is added to hidden next
    attended: Tensor  # f32 [T, HK, G, HD]
    gate: Tensor  # f32 [T, F]
    up: Tensor  # f32 [T, F]
    ffn: Tensor  # f32 [T, F]
    parts: tuple[
        Tensor, ...
    ]  # where each token is a sequence of its own: f32 [T, HK, W, G, HD] and twice [T, HK, W, G]

    @classmethod
    def of(cls, config: ModelConfig, tokens: int, *, sequences: bool) -> Workspace:
        """Cleared memory for passes of at most ``tokens`` tokens, which are ``sequences`` of their own or all of one."""
        c = config
        queries, keys = c.heads * c.head_dim, c.kv_heads * c.head_dim
        widths = (c.width, c.width, queries, keys, keys, c.width)
        groups = c.heads // c.kv_heads
        attended = _cleared(tokens, c.kv_heads, groups, c.head_dim)
        split = (tokens, c.kv_heads, DECODE_WAYS, groups)
        parts = (_cleared(*split, c.head_dim), _cleared(*split), _cleared(*split)) if sequences else ()
        hidden, normed, q, k, v, added = (_cleared(tokens, width) for width in widths)
        gate, up, ffn = (_cleared(tokens, c.ffn_width) for _ in range(3))
        return cls(hidden, normed, q, k, v, added, attended, gate, up, ffn, parts)

    def temporaries(self) -> list[Tensor]:
        """What nobody reads after a pass: all but the hidden state."""
        held = [getattr(self, f.name) for f in fields(self) if f.name not in ("hidden", "parts")]
        return [*held, *self.parts]


def _cleared(*shape: int) -> Tensor:
    """An f32 tensor whose pages are there: zeros were written to each."""
    made = zeros(shape, f32)
    made.write(np.zeros(shape, np.float32))
    return made


class PackedDecoder:
    """The weights of a model and its forward pass over rows of hidden state."""

    def __init__(
        self, config: ModelConfig, weight: Callable[[str], Tensor], rotary: Rotary, cache: list[Cache]
    ) -> None:
        self.config = config
        self.weight = weight
        self.rotary = rotary
        self.cache = cache

    def forward(self, inputs: Inputs, schedule: Schedule, room: Workspace) -> None:
        """Leaves the hidden state after the last layer, before the final norm, in ``room.hidden``."""
        embed(inputs.ids, self.weight("token_embd.weight"), y=room.hidden)
        for layer in range(self.config.layers):
            self._layer(layer, room, inputs, schedule)

    def _layer(self, layer: int, room: Workspace, inputs: Inputs, use: Schedule) -> None:
        """One block; ``room.hidden`` f32 [T, D] is updated in place."""
        c, h, x = self.config, room.hidden, room.normed
        tokens, groups = h.shape[0], c.heads // c.kv_heads

        def w(name: str) -> Tensor:
            return self.weight(f"blk.{layer}.{name}.weight")

        rms_norm(h, w("attn_norm"), c.rms_eps, y=x)
        use.linear(x, w("attn_q"), y=room.queries)
        use.linear(x, w("attn_k"), y=room.keys)
        use.linear(x, w("attn_v"), y=room.values)
        if c.qkv_bias:
            for name, y in (("attn_q", room.queries), ("attn_k", room.keys), ("attn_v", room.values)):
                add_bias(self.weight(f"blk.{layer}.{name}.bias"), y=y)
        q = room.queries.reshape(tokens, c.heads, c.head_dim)
        k, v = (t.reshape(tokens, c.kv_heads, c.head_dim) for t in (room.keys, room.values))
        if c.qk_norm:
            head_norm(w("attn_q_norm"), c.rms_eps, x=q)
            head_norm(w("attn_k_norm"), c.rms_eps, x=k)
        turn = self.rotary
        rope(inputs.position, turn.cosine, turn.sine, x=q, PAIRS=c.rope_pairs)
        keys, values = self.cache[layer].keys, self.cache[layer].values
        kv_append(
            k, v, inputs.position, inputs.slot, turn.cosine, turn.sine, keys=keys, values=values, PAIRS=c.rope_pairs
        )  # fmt: skip
        grouped, scale = q.reshape(tokens, c.kv_heads, groups, c.head_dim), c.head_dim**-0.5
        if inputs.length is not None:
            part, best, total = room.parts
            attention_decode_parts(
                grouped, keys, values, inputs.table, inputs.length, scale, part=part, best_of=best, total_of=total
            )
            attention_decode_combine(part, best, total, out=room.attended)
        else:
            attention_prefill(grouped, keys, values, inputs.table, 0, scale, out=room.attended)
        use.linear(room.attended.reshape(tokens, c.heads * c.head_dim), w("attn_output"), y=room.added)
        add(room.added, h=h)
        rms_norm(h, w("ffn_norm"), c.rms_eps, y=x)
        use.linear(x, w("ffn_gate"), y=room.gate)
        use.linear(x, w("ffn_up"), y=room.up)
        silu_mul(room.gate, room.up, y=room.ffn)
        use.linear(room.ffn, w("ffn_down"), y=room.added)
        add(room.added, h=h)

    def logits(self, h: Tensor, schedule: Schedule) -> Tensor:
        """Logits f32 [B, V] of rows of hidden state f32 [B, D]."""
        head = "token_embd.weight" if self.config.tied_embeddings else "output.weight"
        x, y = _cleared(*h.shape), _cleared(h.shape[0], self.config.vocab_size)
        rms_norm(h, self.weight("output_norm.weight"), self.config.rms_eps, y=x)
        schedule.linear(x, self.weight(head), y=y)
        return y
