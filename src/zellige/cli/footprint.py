"""What a model needs in bytes: weights, keys and values a token, what a step reads. From the file's header alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from zellige.diagnostics import ZelligeError
from zellige.llm.weights.config import ModelConfig
from zellige.llm.weights.model_file import FP8, expected_tensors, has_split_experts, open_model
from zellige.runtime.cpu import CpuExecutor

STEP_TOKENS = {"cpu": 512, "cuda": 8192}
"""Most tokens of one forward pass, which sizes the activations."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of one model."""

    name: str
    config: ModelConfig
    weights: int
    by_kind: Mapping[str, int]
    """Element type to bytes of weights."""
    parameters: int
    embedding: int
    """Bytes of the token embedding, of which a step reads a row a token, unless it is the output head as well."""
    experts: int = 0
    """Bytes of all experts."""
    kv_bytes: int = 2
    """Of one element of the KV cache."""

    @property
    def kv_per_token(self) -> int:
        """Keys and values of all layers."""
        c = self.config
        return 2 * c.layers * c.kv_heads * c.head_dim * self.kv_bytes

    def step_bytes(self, contexts: int, batch: int = 1) -> int:
        """What one decode step of ``batch`` sequences must read: every weight once, of experts those that are chosen, and keys and
        values of ``contexts`` tokens in all. Choices are taken to be independent and equally likely."""
        c = self.config
        unread = 0 if c.tied_embeddings else self.embedding
        idle = (1 - c.experts_used / c.experts) ** batch if c.experts else 0.0
        return self.weights - unread - round(idle * self.experts) + contexts * self.kv_per_token

    def working(self, device: str) -> int:
        """Activations of the longest forward pass and logits of 64 sequences: an estimate."""
        c = self.config
        row = 4 * c.width + 2 * c.heads * c.head_dim + 2 * c.kv_heads * c.head_dim + 2 * c.ffn_width
        return 4 * (STEP_TOKENS[device] * row + 64 * c.vocab_size)


@dataclass(frozen=True, slots=True)
class Stored:
    """How a model is kept where it runs."""

    device: str = "cpu"
    dtype: str = "auto"
    kv_dtype: str = "auto"

    @property
    def kv_bytes(self) -> int:
        """Of one element of the KV cache (f16 for packed weights on the CPU, else that of activations)."""
        return 1 if self.kv_dtype == "fp8" else 2


def footprint(path: Path, stored: Stored = Stored()) -> Footprint:
    """Of a model's file, opened but not read beyond its header. ZelligeError ZL06xx."""
    model = open_model(path)
    names = expected_tensors(model.config, split_experts=has_split_experts(model))
    wanted = {name: model.tensors[name] for name, _ in names}
    if stored.device == "cpu" and (stored.dtype, stored.kv_dtype) == ("auto", "auto") and not model.needs_fused:
        sizes = {name: {tensor.kind: tensor.nbytes} for name, tensor in wanted.items()}  # mapped as they are
    else:
        matrices = {tensor.kind for name, tensor in wanted.items() if _of_layers(name, tensor.shape)}
        dtype = "fp8" if stored.dtype == "auto" and FP8 in matrices else stored.dtype
        dtype = "fp16" if dtype == "auto" and matrices == {"F16"} else dtype
        sizes = {name: _unpacked(name, tensor.shape, dtype) for name, tensor in wanted.items()}
    return _footprint(path.name, model.config, {n: t.shape for n, t in wanted.items()}, sizes, stored.kv_bytes)


def footprint_of(name: str, config: ModelConfig, stored: Stored = Stored()) -> Footprint:
    """Of a known configuration, without any file."""
    shapes = dict(expected_tensors(config))
    sizes = {tensor: _unpacked(tensor, shape, stored.dtype) for tensor, shape in shapes.items()}
    return _footprint(name, config, shapes, sizes, stored.kv_bytes)


def _of_layers(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor is one of the matrices that are fp8 where weights are."""
    return name.startswith("blk.") and len(shape) > 1 and "ffn_gate_inp" not in name


def _unpacked(name: str, shape: tuple[int, ...], dtype: str) -> dict[str, int]:
    """Bytes by kind of a tensor that the fused passes read: 16 bits, or fp8 with a scale a row."""
    if dtype == "fp8" and _of_layers(name, shape):
        return {"fp8": prod(shape), "scales of fp8": 4 * prod(shape[:-1])}
    return {"fp16" if dtype == "fp16" else "bf16": 2 * prod(shape)}


def _footprint(
    name: str,
    config: ModelConfig,
    shapes: Mapping[str, tuple[int, ...]],
    sizes: Mapping[str, Mapping[str, int]],
    kv_bytes: int,
) -> Footprint:
    kinds: Counter[str] = Counter()
    for size in sizes.values():
        kinds.update(size)
    whole = {tensor: sum(size.values()) for tensor, size in sizes.items()}
    return Footprint(
        name,
        config,
        sum(whole.values()),
        dict(kinds.most_common()),
        sum(map(prod, shapes.values())),
        whole["token_embd.weight"],
        sum(size for tensor, size in whole.items() if "_exps" in tensor),
        kv_bytes,
    )


def free_memory() -> int:
    """Bytes of main memory that can be had without swapping. ZelligeError ZL0134 if the system does not say."""
    try:
        return CpuExecutor.default().free_bytes()
    except (ValueError, OSError, AttributeError):
        raise ZelligeError("ZL0134", "this system does not say how much memory is free", help="--memory 16GB") from None


def free_device_memory() -> int:
    """Free bytes of the first GPU. ZelligeError ZL0134 if there is none that answers."""
    import subprocess

    command = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
        return int(answer.split()[0]) << 20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise ZelligeError(
            "ZL0134", "no GPU says how much of its memory is free", facts={"cause": str(error)}, help="--memory 80GB"
        ) from error


def parse_size(text: str) -> int:
    """Bytes of `16GB`, `16GiB`, `900MB` or a number. ZelligeError ZL0134 if it is none of them."""
    units = {
        "": 1,
        "B": 1,
        "KB": 10**3,
        "MB": 10**6,
        "GB": 10**9,
        "TB": 10**12,
        "KIB": 2**10,
        "MIB": 2**20,
        "GIB": 2**30,
    }
    number = text.strip().upper().rstrip("KMGTIB ")
    unit = text.strip().upper()[len(number) :].strip()
    try:
        size = float(number) * units[unit]
    except (ValueError, KeyError):
        raise ZelligeError("ZL0134", f"--memory {text!r} is not a size of memory", help="--memory 16GB") from None
    if not 0 < size < 2**60:
        raise ZelligeError("ZL0134", f"--memory {text!r} is not a size of memory", help="--memory 16GB")
    return int(size)


def shown(size: float) -> str:
    """Bytes in the unit that suits them."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(size) >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size:.0f} B"
