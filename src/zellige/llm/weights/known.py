"""Configurations of published models, so that they can be measured without their files.

Source: the models' `config.json` on the Hugging Face hub (Qwen/Qwen3-*)."""

from __future__ import annotations

from zellige.diagnostics import ZelligeError
from zellige.llm.weights.config import ModelConfig

# layers, width, query heads, FFN width, tied embeddings
_QWEN3 = {
    "0.6B": (28, 1024, 16, 3072, True),
    "1.7B": (28, 2048, 16, 6144, True),
    "4B": (36, 2560, 32, 9728, True),
    "8B": (36, 4096, 32, 12288, False),
    "14B": (40, 5120, 40, 17408, False),
    "32B": (64, 5120, 64, 25600, False),
}


def known_config(name: str) -> ModelConfig:
    """The configuration of `Qwen/Qwen3-SIZE` (or just `Qwen3-SIZE`). ZelligeError ZL0604 for others."""
    size = name.rsplit("/", 1)[-1].removeprefix("Qwen3-")
    if size not in _QWEN3:
        raise ZelligeError(
            "ZL0604",
            f"the configuration of '{name}' is not known",
            help=f"known: {', '.join('Qwen3-' + s for s in _QWEN3)}",
        )
    layers, width, heads, ffn, tied = _QWEN3[size]
    return ModelConfig(
        "qwen3",
        151936,
        width,
        layers,
        heads,
        8,
        128,
        ffn,
        40960,
        1e-6,
        1e6,
        "halves",
        tied_embeddings=tied,
        qk_norm=True,
    )
