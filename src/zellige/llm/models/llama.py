"""The Llama family (Touvron et al., 2023): Llama 2 and 3, SmolLM2, TinyLlama."""

from __future__ import annotations

from zellige.llm.models.family import Family
from zellige.llm.weights.config import ModelConfig, RopeScaling

_LLAMA3 = RopeScaling("llama3", 8.0, 8192)
_LLAMA32 = RopeScaling("llama3", 32.0, 8192)

# vocabulary, width, layers, query heads, key/value heads, head dim, FFN width, context, eps, theta, pairs, scaling, tied
FAMILY = Family(
    "llama",
    "llama",
    rope_pairs="interleaved",
    sizes={
        "SmolLM2-135M": ModelConfig("llama", 49152, 576, 30, 9, 3, 64, 1536, 8192, 1e-5, 1e5, "halves", None, True),
        "SmolLM2-360M": ModelConfig("llama", 49152, 960, 32, 15, 5, 64, 2560, 8192, 1e-5, 1e5, "halves", None, True),
        "SmolLM2-1.7B": ModelConfig("llama", 49152, 2048, 24, 32, 32, 64, 8192, 8192, 1e-5, 1.3e5, "halves", None, True),
        "Llama-3.2-1B": ModelConfig("llama", 128256, 2048, 16, 32, 8, 64, 8192, 131072, 1e-5, 5e5, "halves", _LLAMA32, True),
        "Llama-3.2-3B": ModelConfig("llama", 128256, 3072, 28, 24, 8, 128, 8192, 131072, 1e-5, 5e5, "halves", _LLAMA32, True),
        "Llama-3.1-8B": ModelConfig("llama", 128256, 4096, 32, 32, 8, 128, 14336, 131072, 1e-5, 5e5, "halves", _LLAMA3),
        "Llama-2-7b": ModelConfig("llama", 32000, 4096, 32, 32, 32, 128, 11008, 4096, 1e-5, 1e4, "halves"),
    },
)  # fmt: skip
