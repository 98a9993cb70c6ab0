"""Weights of the fused passes: from a model's file, or random."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zellige.ir.dtypes import DType, bf16, f8e4m3, f16, f32
from zellige.kernels.fp8 import BLOCK, quantise_by_rows
from zellige.kernels.random import fill_uniform
from zellige.llm.models.fused import Weights
from zellige.llm.models.products import Matrix, Scaled
from zellige.llm.weights.config import ModelConfig
from zellige.llm.weights.model_file import FP8, ModelFile, expert_name, scale_shapes
from zellige.runtime.execution import Executor
from zellige.runtime.tensor import Tensor

PARTS = ("attn_q", "attn_k", "attn_v")
"""Of ``attn_qkv``, in order."""


Precision = Literal["auto", "bf16", "fp16", "fp8"]
"""Of weights on the device, and of activations: as the file has its matrices (bf16 if those are neither f16 nor fp8), bf16, fp16, or
fp8: that is the matrices of layers (by rows if the file has none), and bf16 the rest."""

KVPrecision = Literal["auto", "bf16", "fp16", "fp8"]
"""Of the KV cache: "auto" is that of activations."""


class Loader:
    """Reads the weights of a file to the device; unpacks those that are packed. Experts in fp8 are scaled by rows, again if need be."""

    def __init__(
        self,
        model: ModelFile,
        executor: Executor,
        dtype: Precision = "auto",
        progress: Callable[[int, int | None], None] = lambda done, total: None,
    ) -> None:
        self._model, self._executor, self._dtype, self._progress = model, executor, dtype, progress
        matrices = [t.kind for t in model.tensors.values() if len(t.shape) > 1 and t.name.startswith("blk.")]
        halves = dtype == "fp16" or (dtype == "auto" and set(matrices) == {"F16"})
        self.plain = f16 if halves else bf16
        """Of what is not fp8."""
        self._total = sum(t.nbytes for t in model.tensors.values())
        self._done = 0

    def weight(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The weight of a name as `fused.Weights.made` asks for it, in `plain`."""
        apart = "_exps" in name and name not in self._model.tensors
        names = [expert_name(name, e) for e in range(shape[0])] if apart else _parts(name)
        return self._executor.gathered([self._host(each) for each in names], shape, self.plain)

    def matrix(self, name: str, shape: tuple[int, ...]) -> Matrix:
        """A matrix of a layer, in `plain` or fp8."""
        if self._dtype in ("bf16", "fp16"):
            return self.weight(name, shape)
        if len(shape) == 3:
            made = self.weight(name, shape)
            held = [name] if name in self._model.tensors else [expert_name(name, e) for e in range(shape[0])]
            stored = all(self._model.tensor(each).kind == FP8 for each in held)
            return quantised(self._executor, made) if self._dtype == "fp8" or stored else made
        parts = [self._model.tensor(part) for part in _parts(name)]
        scales = [self._scale(part) for part in _parts(name)] if all(p.kind == FP8 for p in parts) else []
        ways = {by for by, _ in scales}
        if len(ways) == 1 and ("rows" in ways or all(p.shape[0] % BLOCK == 0 for p in parts[:-1])):
            values = [self._halves_apart(p, p.data.view(_e4m3())) for p in parts]
            scale = np.concatenate([np.ascontiguousarray(s) for _, s in scales])
            for part in parts:
                self._count(part)
            return Scaled(self._executor.gathered(values, shape, f8e4m3), self._executor.tensor(scale, f32), *ways)
        made = self.weight(name, shape)
        return quantised(self._executor, made) if self._dtype == "fp8" or ways else made

    def rope_factors(self) -> NDArray[np.float32] | None:
        """Divisors of the rotary frequencies, f32 [HD / 2], where the file has them."""
        found = self._model.tensors.get("rope_freqs.weight")
        return None if found is None else found.data.view(np.float32).reshape(-1)

    def _host(self, name: str) -> NDArray[Any]:
        """The weight of that name in `plain`, its rotary pairs halves apart."""
        weight = self._model.tensor(name)
        self._count(weight)
        if weight.kind != FP8:
            return self._halves_apart(weight, _as_plain(weight, self.plain))
        by, scale = self._scale(name)
        if by == "blocks":
            scale = np.repeat(np.repeat(scale, BLOCK, 0), BLOCK, 1)[: weight.shape[0], : weight.shape[1]]
        return _narrowed(weight.data.view(_e4m3()).astype(np.float32) * scale, self.plain)

    def _scale(self, name: str) -> tuple[Literal["rows", "blocks"], NDArray[np.float32]]:
        """How the fp8 matrix of that name is scaled, and its scales, f32 [N, 1] or [⌈N / 128⌉, ⌈K / 128⌉]."""
        weight, held = self._model.tensor(name), self._model.tensor(name.replace(".weight", ".scale"))
        scale = _as_f32(held)
        if held.shape in scale_shapes(weight.shape)["blocks"]:
            return "blocks", scale
        return "rows", np.broadcast_to(scale.reshape(-1, 1), (weight.shape[0], 1))

    def _count(self, weight: Any) -> None:
        self._done += weight.nbytes
        self._progress(self._done, self._total)

    def _halves_apart(self, weight: Any, values: NDArray[Any]) -> NDArray[Any]:
        """The rows of a weight with the two elements of rotary pair i at i and i + HD / 2."""
        config = self._model.config
        heads = {"attn_q": config.heads, "attn_k": config.kv_heads}.get(weight.name.split(".")[-2])
        if heads is None or config.rope_pairs != "interleaved":
            return values
        pairs = values.reshape(heads, config.head_dim // 2, 2, -1)
        return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape)


def _parts(name: str) -> list[str]:
    """The tensors of a file that make up a weight."""
    return [name.replace("attn_qkv", part) for part in PARTS] if "attn_qkv" in name else [name]


def _e4m3() -> np.dtype[Any]:
    import ml_dtypes

    made: np.dtype[Any] = np.dtype(ml_dtypes.float8_e4m3fn)
    return made


def _plain() -> dict[str, np.dtype[Any]]:
    import ml_dtypes

    return {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}


def _as_f32(weight: Any) -> NDArray[np.float32]:
    values: NDArray[Any] = weight.data.view(_plain()[weight.kind])
    return values.reshape(weight.shape).astype(np.float32)


def _as_plain(weight: Any, dtype: DType) -> NDArray[Any]:
    plain = _plain()
    if weight.kind in plain:
        values: NDArray[Any] = weight.data.view(plain[weight.kind])
        return _narrowed(values.reshape(weight.shape), dtype)
    import gguf

    return _narrowed(gguf.quants.dequantize(weight.data, gguf.GGMLQuantizationType[weight.kind]), dtype)


def _narrowed(values: NDArray[Any], dtype: DType) -> NDArray[Any]:
    """Values as bf16 or f16; what is too large for f16 becomes infinite, which `finite.check_weights` finds."""
    with np.errstate(over="ignore"):
        return values.astype(_plain()[dtype.name.upper()], copy=False)


def quantised(executor: Executor, w: Tensor) -> Scaled:
    """A bf16 matrix on the device, or a stack of them, in fp8, scaled by rows."""
    *stack, width = w.shape
    rows = int(np.prod(stack))
    values, scale = executor.empty(w.shape, f8e4m3), executor.empty((*stack, 1), f32)
    quantise_by_rows(w.reshape(rows, width), q=values.reshape(rows, width), scale=scale.reshape(rows, 1))
    return Scaled(values, scale, "rows")


def random_weights(executor: Executor, config: ModelConfig, dtype: Precision) -> Weights:
    """All weights of a model, random: in bf16 where ``dtype`` is "auto"."""
    plain = partial(random_weight, executor, dtype=f16 if dtype == "fp16" else bf16)
    return Weights.made(config, plain, partial(random_matrix, executor) if dtype == "fp8" else None)


def random_matrix(executor: Executor, name: str, shape: tuple[int, ...]) -> Scaled:
    """`random_weight` in fp8."""
    return quantised(executor, random_weight(executor, name, shape))


def random_weight(executor: Executor, name: str, shape: tuple[int, ...], dtype: DType = bf16) -> Tensor:
    """A weight of random values, the same for the same name; norms are 1."""
    made = executor.empty(shape, dtype)
    if "norm" in name:
        made.write(np.ones(shape, np.float32))
    else:
        seed = int.from_bytes(name.encode()[-8:], "little")
        fill_uniform(seed, 1.7 / shape[-1] ** 0.5, y=made.reshape(int(np.prod(shape))))
    return made
