"""Qwen3 (Yang et al., 2025): a norm of each query and key head."""

from __future__ import annotations

from functools import partial

from zellige.llm.models.family import Family
from zellige.llm.weights.config import ModelConfig

_size = partial(
    ModelConfig, "qwen3", 151936, kv_heads=8, head_dim=128, context_length=40960, rms_eps=1e-6, rope_theta=1e6,
    rope_pairs="halves", qk_norm=True,
)  # fmt: skip

FAMILY = Family(
    "qwen3",
    "qwen3",
    qk_norm=True,
    sizes={
        "Qwen3-0.6B": _size(1024, 28, 16, ffn_width=3072, tied_embeddings=True),
        "Qwen3-1.7B": _size(2048, 28, 16, ffn_width=6144, tied_embeddings=True),
        "Qwen3-4B": _size(2560, 36, 32, ffn_width=9728, tied_embeddings=True),
        "Qwen3-8B": _size(4096, 36, 32, ffn_width=12288),
        "Qwen3-14B": _size(5120, 40, 40, ffn_width=17408),
        "Qwen3-32B": _size(5120, 64, 64, ffn_width=25600),
    },
)
