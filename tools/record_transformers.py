"""Records tiny random-weight models and their float32 log-probabilities by Hugging Face transformers, as test fixtures.

    python tools/record_transformers.py tests/data/transformers [NAME…]       (needs torch, transformers, tokenizers)

Each folder holds `config.json`, `model.safetensors` (bf16), `tokenizer.json` (one token a byte) and `expected.npz`: `ids`
[T] and `logprobs` f32 [T, V], the natural-log probabilities after each token; where there are experts also `router_margin` f32 [T].
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

VOCABULARY, TOKENS = 320, 48
COMMON = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 32, "intermediate_size": 96, "max_position_embeddings": 512, "eos_token_id": 2, "bos_token_id": 1,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
MODELS = {
    "llama": ("llama", {"tie_word_embeddings": False, "rms_norm_eps": 1e-5, "rope_theta": 10000.0}),
    "llama3-rope": ("llama", {"tie_word_embeddings": True, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "rope_scaling": LLAMA3}),
    "smollm2": ("llama", {"tie_word_embeddings": True, "rms_norm_eps": 1e-5, "rope_theta": 100000.0, "num_attention_heads": 3,
                          "num_key_value_heads": 1, "head_dim": 64, "hidden_size": 192}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0}),
    "qwen2-yarn": ("qwen2", {"tie_word_embeddings": False, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "rope_scaling": YARN}),
    "qwen3": ("qwen3", {"tie_word_embeddings": True, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0}),
    "qwen3-yarn": ("qwen3", {"tie_word_embeddings": False, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "rope_scaling": YARN}),
    "qwen3-moe": ("qwen3_moe", {"tie_word_embeddings": False, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "num_experts": 6,
                                "num_experts_per_tok": 2, "moe_intermediate_size": 48, "norm_topk_prob": True}),
    "qwen3-fp8": ("qwen3", {"tie_word_embeddings": True, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "hidden_size": 160,
                            "head_dim": 64, "intermediate_size": 288, "quantization_config": FP8}),
}  # fmt: skip


def record(folder: Path, kind: str, settings: dict[str, object]) -> None:
    """Makes one model, runs it in float32, writes its folder."""
    torch.manual_seed(len(folder.name))
    quantised = settings.pop("quantization_config", None)
    config = transformers.AutoConfig.for_model(kind, **{**COMMON, **settings})
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(0.5 * torch.randn_like(parameter))
            elif "norm" in name:
                parameter.copy_(1 + 0.1 * torch.randn_like(parameter))
            else:
                parameter.copy_(torch.randn_like(parameter) * 1.5 / parameter.shape[-1] ** 0.5)
    model.to(torch.bfloat16).save_pretrained(folder)
    # loaded again, not `model.float()`: the buffer of rotary frequencies would stay rounded to bf16
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if quantised is not None:
        _quantise(model, folder, quantised)
    ids = torch.randint(3, VOCABULARY, (1, TOKENS))
    experts = int(settings.get("num_experts_per_tok", 0))
    with torch.no_grad():
        out = model(ids, **({"output_router_logits": True} if experts else {}))
    found = {"ids": ids[0].numpy().astype(np.int32), "logprobs": torch.log_softmax(out.logits[0].float(), -1).numpy()}
    if experts:
        found["router_margin"] = _router_margin(torch.stack(out.router_logits), experts)
    np.savez_compressed(folder / "expected.npz", **found)
    tokens = {f"<{i}>": i for i in range(VOCABULARY)}
    tokenizer = Tokenizer(models.BPE(tokens, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))


def _quantise(model: torch.nn.Module, folder: Path, settings: object) -> None:
    """Makes the matrices of layers fp8 with a scale for each 128 × 128 weights, in the folder as Hugging Face stores such models; the
    model goes on with what they stand for, in float32."""
    stored: dict[str, torch.Tensor] = {}
    for name, parameter in model.state_dict().items():
        if ".layers." not in name or parameter.dim() != 2:
            if name != "lm_head.weight":
                stored[name] = parameter.to(torch.bfloat16)
            continue
        rows, columns = parameter.shape
        padded = torch.nn.functional.pad(parameter, (0, -columns % 128, 0, -rows % 128))
        blocks = padded.view(padded.shape[0] // 128, 128, padded.shape[1] // 128, 128)
        scale = blocks.abs().amax((1, 3)) / 448
        values = (blocks / scale[:, None, :, None]).view_as(padded)[:rows, :columns].to(torch.float8_e4m3fn)
        stored[name], stored[name + "_scale_inv"] = values.contiguous(), scale
        every = scale.repeat_interleave(128, 0).repeat_interleave(128, 1)[:rows, :columns]
        parameter.copy_(values.float() * every)
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": settings}, indent=2) + "\n")


def _router_margin(logits: torch.Tensor, experts: int) -> np.ndarray:
    """How far the last chosen expert's logit is above the first one left out, the least of all layers, f32 [T].

    logits: raw, or soft-max of them as some versions give, [layers, T, E]."""
    if torch.allclose(logits.sum(-1), torch.ones(())):
        logits = logits.log()
    ranked = logits.float().sort(-1, descending=True).values
    return (ranked[..., experts - 1] - ranked[..., experts]).amin(0).numpy()


def main() -> None:
    target = Path(sys.argv[1])
    for name in sys.argv[2:] or MODELS:
        kind, settings = MODELS[name]
        record(target / name, kind, dict(settings))
        print(name, sum(p.stat().st_size for p in (target / name).iterdir()), "bytes")


if __name__ == "__main__":
    main()
