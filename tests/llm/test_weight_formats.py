"""Whole models of packed weights: the CPU kernels, which unpack in registers, against NumPy on dequantised weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy_llama import NumpyLlama
from tiny_model import write_tiny_gguf

from zellige.llm.api import LLM
from zellige.llm.runner import KernelRunner
from zellige.llm.sampling import SamplingParams
from zellige.llm.weights.model_file import SUPPORTED_KINDS, open_model

IDS = np.random.default_rng(5).integers(3, 260, 40).tolist()
BF16 = 0.1
"""What rounding activations to bf16 in prefill moves log-probabilities by, in models of random weights."""
F16 = 5e-3
"""What keys and values in f16 move them by."""


def medium(name: str) -> str:
    """Which kind a tensor has in a mix in the manner of llama.cpp's Q4_K_M."""
    better = ("attn_v.weight", "ffn_down.weight", "token_embd.weight")
    return "Q6_K" if name.endswith(better) and "blk.1" not in name else "Q4_K"


def several(name: str) -> str:
    """Formats of short and long blocks side by side."""
    kinds = {"attn_q": "Q5_0", "attn_k": "Q5_1", "attn_v": "Q8_0", "attn_output": "Q5_K", "ffn_down": "BF16"}
    return next((kind for part, kind in kinds.items() if part in name), "Q5_K")


@pytest.mark.parametrize("kind", [medium, several], ids=["Q4_K_M", "several"])
def test_mixed_formats_run_as_their_dequantised_weights_do(tmp_path: Path, kind) -> None:
    path = write_tiny_gguf(tmp_path / "mixed.gguf", kind=kind, width=256, ffn=512, seed=3)
    model = open_model(path)
    kinds = {tensor.kind for tensor in model.tensors.values() if len(tensor.shape) == 2}
    assert kinds == {kind(name) for name, tensor in model.tensors.items() if len(tensor.shape) == 2} and len(kinds) > 1
    agree(path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SUPPORTED_KINDS)
def test_every_format_runs_as_its_dequantised_weights_do(tmp_path: Path, kind: str) -> None:
    agree(write_tiny_gguf(tmp_path / "m.gguf", kind=kind, width=256, ffn=256, seed=3))


def agree(path: Path) -> None:
    """Scores of a text (products in bf16), and a text made token by token from one token (in f32)."""
    sizes = {"num_pages": 32, "page_size": 16, "max_context": 128}
    ours = LLM(path, runner=lambda model: KernelRunner(model, model.config, **sizes))
    theirs = LLM(path, runner=lambda model: NumpyLlama(model, **sizes))
    np.testing.assert_allclose(ours.score(IDS).logprobs, theirs.score(IDS).logprobs, atol=BF16)
    params = SamplingParams(max_tokens=16, ignore_eos=True, logprobs=True)
    mine, other = (llm.generate([IDS[:1]], params)[0] for llm in (ours, theirs))
    assert mine.token_ids == other.token_ids
    np.testing.assert_allclose(mine.logprobs, other.logprobs, atol=F16)
