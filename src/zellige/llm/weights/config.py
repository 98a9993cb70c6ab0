"""What a model is, in numbers: `ModelConfig`, from a GGUF file's metadata or a Hugging Face `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from zellige.diagnostics import ZelligeError

if TYPE_CHECKING:
    from zellige.llm.models.family import Family

RopePairs = Literal["interleaved", "halves"]


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the trained context.

    `kind`: "linear" (all divided by `factor`), "llama3" (long wavelengths divided by `factor`, short kept, smooth
    between), "yarn" (arXiv 2309.00071).
    """

    kind: Literal["linear", "llama3", "yarn"]
    factor: float
    original_context: int
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A decoder-only transformer with RMSNorm, rotary positions, grouped queries and SwiGLU."""

    architecture: str
    vocab_size: int  # V
    width: int  # D
    layers: int
    heads: int  # H
    kv_heads: int  # HK
    head_dim: int  # HD
    ffn_width: int  # F; of one expert where there are experts
    context_length: int
    rms_eps: float
    rope_theta: float
    rope_pairs: RopePairs
    rope_scaling: RopeScaling | None = None
    tied_embeddings: bool = False
    qk_norm: bool = False
    qkv_bias: bool = False
    experts: int = 0  # E; 0 where the feed-forward layer is one
    experts_used: int = 0
    """Experts that each token goes through."""
    renormalise: bool = True
    """Whether the weights of a token's experts sum to 1."""

    def kv_bytes(self, tokens: int) -> int:
        """Bytes that keys and values of so many tokens take, at two bytes a number."""
        return 2 * self.layers * tokens * self.kv_heads * self.head_dim * 2

    def inverse_frequencies(self, factors: NDArray[np.float32] | None = None) -> NDArray[np.float64]:
        """Radians a position of each rotary pair, float64 [HD / 2].

        `factors`: divisors, float32 [HD / 2], from a GGUF's `rope_freqs.weight`: how that format stores llama3 scaling.
        """
        half = self.head_dim // 2
        base = self.rope_theta ** (-np.arange(half, dtype=np.float64) * 2 / self.head_dim)
        if factors is not None:
            return base / factors.astype(np.float64)
        scaling = self.rope_scaling
        if scaling is None:
            return base
        match scaling.kind:
            case "linear":
                return base / scaling.factor
            case "llama3":
                turns = scaling.original_context * base / (2 * np.pi)
                low, high = scaling.low_freq_factor, scaling.high_freq_factor
                keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
                return keep * base + (1 - keep) * base / scaling.factor
            case "yarn":
                keep = 1 - _yarn_ramp(self, scaling)
                return keep * base + (1 - keep) * base / scaling.factor

    @property
    def rope_magnitude(self) -> float:
        """By what rotated queries and keys are multiplied: 1 except under YaRN."""
        scaling = self.rope_scaling
        if scaling is None or scaling.kind != "yarn":
            return 1.0
        if scaling.attention_factor is not None:
            return scaling.attention_factor
        return float(0.1 * np.log(scaling.factor) + 1.0) if scaling.factor > 1 else 1.0


def _yarn_ramp(config: ModelConfig, scaling: RopeScaling) -> NDArray[np.float64]:
    """0 for pairs that turn fast enough to keep, 1 for those to interpolate, float64 [HD / 2]."""

    def pair_with(turns: float) -> float:
        ratio = scaling.original_context / (turns * 2 * np.pi)
        return float(config.head_dim * np.log(ratio) / (2 * np.log(config.rope_theta)))

    low = max(np.floor(pair_with(scaling.beta_fast)), 0)
    high = min(np.ceil(pair_with(scaling.beta_slow)), config.head_dim - 1)
    ramp: NDArray[np.float64] = np.clip((np.arange(config.head_dim // 2) - low) / max(high - low, 1e-3), 0.0, 1.0)
    return ramp


def family_of(name: Any, families: Mapping[str, Family], path: Path) -> Family:
    """The family called `name` (by GGUF or Hugging Face); ZL0604 naming those that there are if there is none."""
    for family in families.values():
        if name in (family.name, family.model_type):
            return family
    raise ZelligeError(
        "ZL0604",
        f"{path.name} holds a model of architecture {name!r}, which is not supported",
        facts={"file": str(path), "supported": ", ".join(sorted(families))},
        help="use a model of a supported architecture",
    )


def config_from_gguf(
    metadata: Mapping[str, Any], tensors: Mapping[str, Any], families: Mapping[str, Family], path: Path
) -> ModelConfig:
    """Build the config from GGUF metadata. Errors: ZL0604 (architecture), ZL0608 (a senseless or missing key)."""
    family = family_of(metadata.get("general.architecture"), families, path)

    def whole(key: str, default: int | None = None) -> int:
        return whole_number(path, f"{family.name}.{key}", metadata.get(f"{family.name}.{key}", default))

    def real(key: str, default: float | None = None) -> float:
        return real_number(path, f"{family.name}.{key}", metadata.get(f"{family.name}.{key}", default))

    heads, width = whole("attention.head_count"), whole("embedding_length")
    head_dim = whole("attention.key_length", width // heads)
    vocab = metadata.get(f"{family.name}.vocab_size") or len(metadata.get("tokenizer.ggml.tokens", ()))
    if not vocab and "token_embd.weight" in tensors:
        vocab = tensors["token_embd.weight"].shape[0]
    config = ModelConfig(
        architecture=family.name,
        vocab_size=whole_number(path, "vocabulary size", vocab),
        width=width,
        layers=whole("block_count"),
        heads=heads,
        kv_heads=whole("attention.head_count_kv", heads),
        head_dim=head_dim,
        ffn_width=whole("expert_feed_forward_length" if family.experts else "feed_forward_length"),
        context_length=whole("context_length"),
        rms_eps=real("attention.layer_norm_rms_epsilon"),
        rope_theta=real("rope.freq_base", 10000.0),
        rope_pairs=family.rope_pairs,
        rope_scaling=_gguf_rope_scaling(family.name, metadata, path),
        tied_embeddings="output.weight" not in tensors,
        qk_norm=family.qk_norm,
        qkv_bias=family.qkv_bias,
        experts=whole("expert_count") if family.experts else 0,
        experts_used=whole("expert_used_count") if family.experts else 0,
    )
    rotary = metadata.get(f"{family.name}.rope.dimension_count", head_dim)
    if rotary != head_dim:
        raise unsupported(path, f"{family.name}.rope.dimension_count", rotary, f"rotating all {head_dim} is supported")
    return checked(config, path)


def _gguf_rope_scaling(arch: str, metadata: Mapping[str, Any], path: Path) -> RopeScaling | None:
    kind = metadata.get(f"{arch}.rope.scaling.type", "none")
    factor = metadata.get(f"{arch}.rope.scaling.factor", 0.0)
    if kind == "none" or not factor:
        return None
    if kind not in ("linear", "yarn"):
        raise unsupported(path, f"{arch}.rope.scaling.type", kind, "linear and yarn are supported")
    original = f"{arch}.rope.scaling.original_context_length"
    context = metadata.get(original) or metadata.get(f"{arch}.context_length")
    return RopeScaling(
        kind, real_number(path, f"{arch}.rope.scaling.factor", factor), whole_number(path, original, context)
    )


def checked(config: ModelConfig, path: Path) -> ModelConfig:
    """`config`, if its numbers fit together; else ZL0608."""
    if config.heads % config.kv_heads:
        raise bad_config(path, "kv heads", config.kv_heads, f"it must divide the {config.heads} query heads")
    if config.head_dim % 2:
        raise bad_config(path, "head dim", config.head_dim, "rotary positions need an even one")
    if config.experts_used > config.experts:
        raise bad_config(path, "experts per token", config.experts_used, f"there are {config.experts} experts")
    scaling = config.rope_scaling
    if config.rope_theta <= 1:
        raise bad_config(path, "rope theta", config.rope_theta, "the rotary base is above 1")
    if scaling is not None and scaling.kind == "llama3" and scaling.low_freq_factor >= scaling.high_freq_factor:
        raise bad_config(path, "low_freq_factor", scaling.low_freq_factor, "it must be below high_freq_factor")
    return config


def whole_number(path: Path, key: str, value: Any) -> int:
    """A setting that counts something: from 1 to 2³¹ − 1. ZelligeError ZL0608 if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < 1 << 31 or value != int(value):
        raise bad_config(path, key, value, None if value is None else "a whole number from 1 on is expected")
    return int(value)


def real_number(path: Path, key: str, value: Any) -> float:
    """A setting that measures something: between 1e-30 and 1e30. ZelligeError ZL0608 if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1e-30 < value < 1e30:
        raise bad_config(path, key, value, None if value is None else "a number above 0 is expected")
    return float(value)


def bad_config(path: Path, key: str, value: Any, why: str | None = None) -> ZelligeError:
    """The error for a setting that is missing or makes no sense."""
    return _setting(
        path, key, value, why, "the file may be damaged, or made by a converter that this version does not know"
    )


def unsupported(path: Path, key: str, value: Any, why: str) -> ZelligeError:
    """The error for a setting that makes sense, of a model that is not run here."""
    return _setting(path, key, value, why, "use another model, or another version of this one")


def _setting(path: Path, key: str, value: Any, why: str | None, suggestion: str) -> ZelligeError:
    state = (
        "is missing"
        if value is None
        else f"is {str(value)[:80]!r}"
        if isinstance(value, str)
        else f"is {str(value)[:80]}"
    )
    return ZelligeError(
        "ZL0608",
        f"the model's setting {key} {state}" + (f": {why}" if why else ""),
        facts={"file": str(path)},
        help=suggestion,
    )
