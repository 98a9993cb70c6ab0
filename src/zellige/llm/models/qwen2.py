"""Qwen2 and Qwen2.5 (Yang et al., 2024): biases on the query, key and value projections."""

from __future__ import annotations

from functools import partial

from zellige.llm.models.family import Family
from zellige.llm.weights.config import ModelConfig

_size = partial(
    ModelConfig, "qwen2", head_dim=128, context_length=32768, rms_eps=1e-6, rope_theta=1e6, rope_pairs="halves", qkv_bias=True
)  # fmt: skip

FAMILY = Family(
    "qwen2",
    "qwen2",
    qkv_bias=True,
    sizes={
        "Qwen2.5-0.5B": _size(151936, 896, 24, 14, 2, head_dim=64, ffn_width=4864, tied_embeddings=True),
        "Qwen2.5-1.5B": _size(151936, 1536, 28, 12, 2, ffn_width=8960, tied_embeddings=True),
        "Qwen2.5-3B": _size(151936, 2048, 36, 16, 2, ffn_width=11008, tied_embeddings=True),
        "Qwen2.5-7B": _size(152064, 3584, 28, 28, 4, ffn_width=18944),
        "Qwen2.5-14B": _size(152064, 5120, 48, 40, 8, ffn_width=13824),
        "Qwen2.5-32B": _size(152064, 5120, 64, 40, 8, ffn_width=27648),
    },
)
