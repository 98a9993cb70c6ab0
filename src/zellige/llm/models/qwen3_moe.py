"""Qwen3-MoE (Yang et al., 2025): Qwen3 whose feed-forward layer is a weighted choice of experts."""

from __future__ import annotations

from zellige.llm.models.family import Family
from zellige.llm.weights.config import ModelConfig

FAMILY = Family(
    "qwen3moe",
    "qwen3_moe",
    qk_norm=True,
    experts=True,
    sizes={
        "Qwen3-30B-A3B": ModelConfig(
            "qwen3moe", 151936, 2048, 48, 32, 4, 128, 768, 40960, 1e-6, 1e6, "halves", qk_norm=True, experts=128, experts_used=8
        ),
    },
)  # fmt: skip
