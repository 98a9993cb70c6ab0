"""Our models by transformers, from our weights, for scripts that compare; and what both are asked."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

import zellige as zl
from zellige.llm.engine import Engine
from zellige.llm.models.fused import Weights
from zellige.llm.requests import GenerateRequest, TokenEvent
from zellige.llm.sampling import SamplingParams
from zellige.llm.weights.config import ModelConfig

DEVICE = "cuda"
STRETCH = 1024
"""Queries of the reference's attention at a time."""
KINDS = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3", "qwen3moe": "Qwen3Moe"}
"""Our architectures by their names in transformers."""


def answers(engine: Engine, batch: list[tuple[int, ...]], count: int) -> list[list[tuple[int, float]]]:
    """``count`` greedy tokens of each prompt, and their log-probabilities; all at once."""
    params = SamplingParams(max_tokens=count, ignore_eos=True, logprobs=True)
    numbers = [engine.submit(GenerateRequest(prompt, params)) for prompt in batch]
    found: dict[int, list[tuple[int, float]]] = {number: [] for number in numbers}
    while engine.busy:
        for event in engine.step():
            if getattr(event, "error", None) is not None:
                raise event.error
            if isinstance(event, TokenEvent):
                found[event.request].append((event.token_id, float(event.logprob or 0.0)))
    return [found[number] for number in numbers]


def on_torch(x: zl.Tensor) -> Any:
    """A copy of device memory as a float32 tensor of torch."""
    import torch

    integer, kind = {"bf16": ("<i2", torch.bfloat16), "f16": ("<i2", torch.float16)}[x.dtype.name]
    description = {"shape": x.shape, "typestr": integer, "data": (x.storage.address, False), "version": 3}
    held = torch.as_tensor(type("View", (), {"__cuda_array_interface__": description})(), device=DEVICE).view(kind)
    return held.float()


def by_stretches(
    module: Any, query: Any, key: Any, value: Any, mask: None, scaling: float, **_: Any
) -> tuple[Any, None]:
    """Causal attention for transformers, a stretch of queries at a time: its own in float32 holds T × T numbers a head at once.

    query [1, H, T, HD], key and value [1, HK, T, HD]; gives [1, T, H, HD]. A config with ``fp8_cache`` rounds keys and values."""
    import torch

    tokens, groups = query.shape[2], query.shape[1] // key.shape[1]
    if getattr(module.config, "fp8_cache", False):
        key, value = (x.clamp(-448, 448).to(torch.float8_e4m3fn).to(x.dtype) for x in (key, value))
    key, value = (x[0].repeat_interleave(groups, 0) for x in (key, value))
    out = torch.empty_like(query[0])
    for first in range(0, tokens, STRETCH):
        end = min(first + STRETCH, tokens)
        score = (query[0, :, first:end] @ key[:, :end].transpose(1, 2)).float() * scaling
        score[:, :, first:] += torch.full((end - first, end - first), -torch.inf, device=score.device).triu(1)
        out[:, first:end] = score.softmax(-1).to(query.dtype) @ value[:, :end]
    return out.transpose(0, 1)[None], None


def reference(c: ModelConfig, weights: Weights) -> Any:
    """The same model by transformers in float32."""
    import torch
    import transformers

    transformers.AttentionInterface.register("by_stretches", by_stretches)

    scaling = c.rope_scaling
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": c.rope_theta}
    if scaling is not None:
        rope |= {
            "rope_type": scaling.kind,
            "factor": scaling.factor,
            "original_max_position_embeddings": scaling.original_context,
        }
    if scaling is not None and scaling.kind == "llama3":
        rope |= {"low_freq_factor": scaling.low_freq_factor, "high_freq_factor": scaling.high_freq_factor}
    settings: dict[str, Any] = {
        "vocab_size": c.vocab_size, "hidden_size": c.width, "num_hidden_layers": c.layers, "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads, "head_dim": c.head_dim, "intermediate_size": c.ffn_width, "rms_norm_eps": c.rms_eps,
        "max_position_embeddings": c.context_length, "rope_parameters": rope, "tie_word_embeddings": False,
        "attn_implementation": "by_stretches",
    }  # fmt: skip
    kind = KINDS[c.architecture]
    if c.experts:
        settings |= {
            "num_experts": c.experts, "num_experts_per_tok": c.experts_used, "moe_intermediate_size": c.ffn_width,
            "norm_topk_prob": c.renormalise, "decoder_sparse_step": 1, "mlp_only_layers": [],
        }  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(**settings)
    with torch.device(DEVICE):
        model = getattr(transformers, f"{kind}ForCausalLM")(config).float().eval()
    state = {
        "model.embed_tokens.weight": weights.embedding, "model.norm.weight": weights.norm, "lm_head.weight": weights.head
    }  # fmt: skip
    for i, layer in enumerate(weights.layers):
        names = {
            "input_layernorm": layer.attention_norm, "post_attention_layernorm": layer.ffn_norm, "self_attn.q_norm": layer.q_norm,
            "self_attn.k_norm": layer.k_norm, "self_attn.o_proj": layer.output, "mlp.gate": layer.router,
        }  # fmt: skip
        if not c.experts:
            names |= {"mlp.gate_proj": layer.gate, "mlp.up_proj": layer.up, "mlp.down_proj": layer.down}
        state |= {f"model.layers.{i}.{name}.weight": held for name, held in names.items() if held is not None}
    made = {name: on_torch(held) for name, held in state.items()}
    sizes = [c.heads * c.head_dim, c.kv_heads * c.head_dim, c.kv_heads * c.head_dim]
    for i, layer in enumerate(weights.layers):
        for name, part in zip("qkv", on_torch(layer.qkv).split(sizes), strict=True):
            made[f"model.layers.{i}.self_attn.{name}_proj.weight"] = part
        if layer.qkv_bias is not None:
            for name, part in zip("qkv", on_torch(layer.qkv_bias).reshape(-1).split(sizes), strict=True):
                made[f"model.layers.{i}.self_attn.{name}_proj.bias"] = part
        if c.experts:  # transformers 5 keeps them in stacks
            stacks = f"model.layers.{i}.mlp.experts."
            made[stacks + "gate_up_proj"] = torch.cat([on_torch(layer.gate), on_torch(layer.up)], dim=1)
            made[stacks + "down_proj"] = on_torch(layer.down)
    model.load_state_dict(made)
    return model


def halved(exact: Any, dtype: str, *, in_place: bool = False) -> Any:
    """A reference in bf16 or fp16, whose rotary frequencies stay float32: a copy, or the reference itself where memory is short."""
    import torch

    rotary = exact.model.rotary_emb
    made = exact if in_place else copy.deepcopy(exact)
    made.model.rotary_emb = torch.nn.Identity()
    made.to(getattr(torch, {"bf16": "bfloat16", "fp16": "float16"}[dtype]))
    made.model.rotary_emb = rotary
    return made


def distributions(model: Any, ids: tuple[int, ...], drawn: list[int]) -> Any:
    """Natural-log probabilities of all tokens, f32 [len(drawn), V], at the place of each of ``drawn``, given those before it."""
    import torch

    with torch.no_grad():
        whole = torch.tensor([(*ids, *drawn)], device=DEVICE)
        logits = model(whole, logits_to_keep=len(drawn) + 1, use_cache=False).logits[0, :-1].float()
    return torch.log_softmax(logits, -1)


def logprobs(model: Any, ids: tuple[int, ...], drawn: list[int]) -> np.ndarray:
    """Natural-log probabilities of ``drawn``, each given those before it."""
    return distributions(model, ids, drawn)[range(len(drawn)), drawn].cpu().numpy()
