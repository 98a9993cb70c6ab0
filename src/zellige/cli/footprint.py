"""What a model needs in bytes: weights, keys and values a token, what a step reads. From the file's header alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from zellige.diagnostics import ZelligeError
from zellige.llm.weights.config import ModelConfig
from zellige.llm.weights.model_file import expected_tensors, has_split_experts, open_model
from zellige.runtime.cpu import CpuExecutor

KV_BYTES = 2
"""Of one element of the KV cache (f16 on the CPU, bf16 on the GPU)."""
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

    @property
    def kv_per_token(self) -> int:
        """Keys and values of all layers."""
        c = self.config
        return 2 * c.layers * c.kv_heads * c.head_dim * KV_BYTES

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


def footprint(path: Path) -> Footprint:
    """Of a model's file, opened but not read beyond its header. ZelligeError ZL06xx."""
    model = open_model(path)
    names = expected_tensors(model.config, split_experts=has_split_experts(model))
    wanted = [model.tensors[name] for name, _ in names]
    kinds: dict[str, int] = {}
    for tensor in wanted:
        kinds[tensor.kind] = kinds.get(tensor.kind, 0) + tensor.nbytes
    by_kind = dict(sorted(kinds.items(), key=lambda item: -item[1]))
    parameters = sum(prod(tensor.shape) for tensor in wanted)
    embedding = model.tensors["token_embd.weight"].nbytes
    experts = sum(tensor.nbytes for tensor in wanted if "_exps" in tensor.name)
    return Footprint(path.name, model.config, sum(kinds.values()), by_kind, parameters, embedding, experts)


def footprint_of(name: str, config: ModelConfig) -> Footprint:
    """Of a known configuration in bf16, without any file."""
    shapes = dict(expected_tensors(config))
    parameters = sum(map(prod, shapes.values()))
    experts = 2 * sum(prod(shape) for tensor, shape in shapes.items() if "_exps" in tensor)
    embedding = 2 * prod(shapes["token_embd.weight"])
    return Footprint(name, config, 2 * parameters, {"BF16": 2 * parameters}, parameters, embedding, experts)


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
