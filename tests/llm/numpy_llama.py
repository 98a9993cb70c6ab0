"""A Llama in NumPy float32 over a paged KV cache: the oracle `Runner` of these tests, slow and plain.

It shares no code with the kernels; weights are dequantised by the `gguf` package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize

from zellige.llm.protocol import UNKNOWN, SampleSpec, StepBatch, StepResult, check_step_batch
from zellige.llm.weights.config import ModelConfig
from zellige.llm.weights.finite import not_finite
from zellige.llm.weights.model_file import ModelFile


def softmax(x: np.ndarray) -> np.ndarray:
    shifted = np.exp(x - x.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def log_softmax(x: np.ndarray) -> np.ndarray:
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


class NumpyLlama:
    """Implements `zellige.llm.protocol.Runner`; checks the contracts of every batch it is given.

    With `lookahead` a step is computed when its results are asked for."""

    lanes = 64

    def __init__(
        self,
        model: ModelFile,
        *,
        num_pages: int = 256,
        page_size: int = 16,
        max_context: int | None = None,
        lookahead: bool = False,
    ):
        self.model, self.lookahead = model, lookahead
        self.last = np.full(self.lanes, -1, np.int32)
        self.histories: dict[int, tuple[set[int], list[int]]] = {}  # by lane: ids of the prompt, the answer so far
        config = self.config = model.config
        self.page_size, self.num_pages, self.least_tail = page_size, num_pages, 1
        self.vocab_size = config.vocab_size
        self.max_context = min(max_context or config.context_length, config.context_length)
        kinds = {kind.name: kind for kind in GGMLQuantizationType}
        self.weights = {
            name: dequantize(np.asarray(t.data), kinds[t.kind]).reshape(t.shape).astype(np.float32)
            for name, t in model.tensors.items()
        }
        pool = (config.layers, num_pages * page_size, config.kv_heads, config.head_dim)
        self.keys, self.values = np.full(pool, np.nan, np.float32), np.full(pool, np.nan, np.float32)
        self.batches: list[StepBatch] = []

    def start(self, batch: StepBatch) -> Callable[[], StepResult]:
        check_step_batch(batch, page_size=self.page_size, num_pages=self.num_pages, vocab_size=self.vocab_size)
        assert self.lookahead or np.all(batch.token_ids >= 0)
        self.batches.append(batch)
        if self.lookahead:
            return lambda: self.step(batch)
        result = self.step(batch)
        return lambda: result

    def step(self, batch: StepBatch) -> StepResult:
        unknown = np.flatnonzero(batch.token_ids == UNKNOWN)
        owners = batch.lanes[np.searchsorted(batch.offsets, unknown, side="right") - 1]
        ids = batch.token_ids.copy()
        ids[unknown] = self.last[owners]
        batch = replace(batch, token_ids=ids)
        for source, target in batch.copies:
            for cache in (self.keys, self.values):
                pages = cache.reshape(len(cache), self.num_pages, self.page_size, *cache.shape[2:])
                pages[:, target] = pages[:, source]
        hidden = self._forward(batch)
        head = self.weights.get("output.weight", self.weights["token_embd.weight"])
        token_ids = np.full(batch.sequences, -1, np.int32)
        logprobs = np.full(batch.sequences, np.nan, np.float32)
        for b, spec in enumerate(batch.sample):
            if spec is not None:
                logits = head @ hidden[batch.offsets[b + 1] - 1]
                if np.isnan(logits).any():
                    raise not_finite(self.model)
                lane, position = int(batch.lanes[b]), int(batch.context_lengths[b])
                if b in batch.histories:
                    self.histories[lane] = set(batch.histories[b].prompt), list(batch.histories[b].answer)
                prompt, answer = self.histories[lane] if spec.alters else (set(), [])
                token_ids[b] = self.last[lane] = draw(logits, spec, position, prompt, answer)
                answer.append(int(token_ids[b]))
                logprobs[b] = log_softmax(logits)[token_ids[b]]
        if batch.targets is None:
            return StepResult(token_ids, logprobs)
        rows = log_softmax(hidden @ head.T)
        picked = np.where(batch.targets >= 0, rows[np.arange(batch.tokens), np.maximum(batch.targets, 0)], np.nan)
        return StepResult(token_ids, logprobs, picked.astype(np.float32), rows.argmax(axis=-1).astype(np.int32))

    def _forward(self, batch: StepBatch) -> np.ndarray:
        """Final normalised hidden states, float32 [T, D]."""
        config, w = self.config, self.weights
        x = w["token_embd.weight"][batch.token_ids]
        angles = batch.positions[:, None] * config.inverse_frequencies(w.get("rope_freqs.weight"))
        cos, sin = np.cos(angles).astype(np.float32)[:, None], np.sin(angles).astype(np.float32)[:, None]
        for layer in range(config.layers):
            p = f"blk.{layer}."
            normed = rms_norm(x, w[p + "attn_norm.weight"], config.rms_eps)
            q, k, v = (self._project(normed, p + f"attn_{name}") for name in "qkv")
            if config.qk_norm:
                q = rms_norm(q, w[p + "attn_q_norm.weight"], config.rms_eps)
                k = rms_norm(k, w[p + "attn_k_norm.weight"], config.rms_eps)
            q, k = rotate(q, cos, sin, config), rotate(k, cos, sin, config)
            present = batch.slots >= 0
            self.keys[layer, batch.slots[present]] = k[present]
            self.values[layer, batch.slots[present]] = v[present]
            x = x + self._attend(batch, layer, q) @ w[p + "attn_output.weight"].T
            normed = rms_norm(x, w[p + "ffn_norm.weight"], config.rms_eps)
            gate, up = normed @ w[p + "ffn_gate.weight"].T, normed @ w[p + "ffn_up.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ w[p + "ffn_down.weight"].T
        return rms_norm(x, w["output_norm.weight"], config.rms_eps)

    def _project(self, x: np.ndarray, name: str) -> np.ndarray:
        y = x @ self.weights[name + ".weight"].T
        if self.config.qkv_bias:
            y = y + self.weights[name + ".bias"]
        return y.reshape(len(x), -1, self.config.head_dim)

    def _attend(self, batch: StepBatch, layer: int, q: np.ndarray) -> np.ndarray:
        """Causal attention of each sequence over its own pages, float32 [T, H * HD]."""
        config = self.config
        groups = config.heads // config.kv_heads
        out = np.empty_like(q)
        for b in range(batch.sequences):
            rows = slice(batch.offsets[b], batch.offsets[b + 1])
            at = np.arange(batch.context_lengths[b])
            slots = batch.block_table[b, at // self.page_size] * self.page_size + at % self.page_size
            keys = np.repeat(self.keys[layer, slots], groups, axis=1)
            values = np.repeat(self.values[layer, slots], groups, axis=1)
            scores = np.einsum("thd,lhd->htl", q[rows], keys, optimize=True) / np.sqrt(config.head_dim)
            scores = np.where(at[None, :] <= batch.positions[rows][:, None], scores, -np.inf)
            out[rows] = np.einsum("htl,lhd->thd", softmax(scores), values, optimize=True)
        return out.reshape(len(q), -1)


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray, config: ModelConfig) -> np.ndarray:
    """Rotary positions of [T, heads, HD] in the pairing that the weights have."""
    if config.rope_pairs == "interleaved":
        a, b = x[..., 0::2], x[..., 1::2]
        return np.stack([a * cos - b * sin, a * sin + b * cos], axis=-1).reshape(x.shape)
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


def draw(logits: np.ndarray, spec: SampleSpec, position: int, prompt: set[int], answer: list[int]) -> int:
    """One token as `SampleSpec` states it."""
    logits = logits.astype(np.float64)
    for token in prompt | set(answer):
        logits[token] = (
            logits[token] / spec.repetition_penalty if logits[token] > 0 else logits[token] * spec.repetition_penalty
        )
    for token in set(answer):
        logits[token] -= spec.presence_penalty + spec.frequency_penalty * answer.count(token)
    for token, value in spec.bias:
        logits[token] += value
    if spec.temperature == 0:
        return int(logits.argmax())
    order = np.argsort(-logits, kind="stable")
    p = softmax(logits[order] / spec.temperature)
    keep = np.ones(len(p), dtype=bool)
    if spec.top_k:
        keep[spec.top_k :] = False
    p = np.where(keep, p, 0) / p[keep].sum()
    keep &= np.cumsum(p) - p < spec.top_p
    p = np.where(keep, p, 0) / p[keep].sum()
    keep &= p >= spec.min_p * p[0]
    p = np.where(keep, p, 0) / p[keep].sum()
    uniform = np.random.Generator(np.random.Philox(key=spec.seed, counter=position)).random()
    return int(order[min(np.searchsorted(np.cumsum(p), uniform, side="right"), keep.sum() - 1)])
