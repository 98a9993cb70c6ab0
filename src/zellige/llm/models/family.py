"""What an architecture's name implies, beyond the numbers in a model's file: `Family`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from zellige.llm.weights.config import ModelConfig, RopePairs


@dataclass(frozen=True, slots=True)
class Family:
    """One architecture: a decoder with RMSNorm, rotary positions, grouped queries and SwiGLU, and what is particular to it.

    `rope_pairs`: GGUF converters permute the rows of the query and key projections of architecture `llama` so that the
    two elements of rotary pair i are 2i and 2i + 1 ("interleaved"); Hugging Face's own layout, which other
    architectures keep in GGUF too, pairs i with i + HD/2 ("halves").
    """

    name: str
    """As GGUF calls it."""
    model_type: str
    """As Hugging Face's `config.json` calls it."""
    rope_pairs: RopePairs = "halves"
    qk_norm: bool = False
    """Each query and key head is normed before its rotation."""
    qkv_bias: bool = False
    """The query, key and value projections have biases."""
    experts: bool = False
    """The feed-forward layer is a choice of experts."""
    sizes: Mapping[str, ModelConfig] = field(default_factory=dict)
    """Configurations of published models, by the last part of their hub id, so that they can be measured without their files."""
