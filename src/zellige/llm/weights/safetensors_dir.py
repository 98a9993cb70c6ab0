"""Reads a model in Hugging Face's layout: `config.json`, `*.safetensors` and tokenizer files in one folder.

A safetensors file is eight bytes that say how long its header is, the header (JSON: name → dtype, shape, offsets), and
the data; it is mapped, never copied. Names become GGUF's, so that models know one set of names. Rows of the query and
key projections are in Hugging Face's order, so rotary pairs are halves apart, in every architecture.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zellige.diagnostics import ZelligeError
from zellige.llm.models import FAMILIES
from zellige.llm.weights.config import (
    ModelConfig,
    RopeScaling,
    bad_config,
    checked,
    family_of,
    real_number,
    unsupported,
    whole_number,
)
from zellige.llm.weights.gguf_file import Tensor, truncated
from zellige.llm.weights.model_file import ModelFile
from zellige.runtime.mapped import MappedFile

_KINDS = {"F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1}
_QUANTISERS = ("fp8", "compressed-tensors", "fbgemm_fp8")
"""Those whose fp8 tensors come with scales to multiply by; what else they may store is refused by its element type."""
_SCALES = {"weight_scale_inv": "scale", "weight_scale": "scale"}
_ONLY = {
    "hidden_act": "silu", "mlp_bias": False, "attention_bias": False, "use_sliding_window": False, "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}  # fmt: skip
"""Settings that change what a layer computes, and the value that the passes are written for."""
_TOP = {"embed_tokens": "token_embd", "norm": "output_norm"}
_IN_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
}
_IN_EXPERT = {"gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps"}


def read_safetensors_dir(folder: Path) -> ModelFile:
    """Open the model in `folder`. Errors: ZL0601 to ZL0608, as for a GGUF file."""
    settings = _json(folder / "config.json", needed=True)
    tensors = {tensor.name: tensor for path in _shards(folder) for tensor in _tensors(path)}
    config = _config(settings, tensors, folder)
    tokenizer = folder / "tokenizer.json"
    if not tokenizer.exists():
        raise _unreadable(tokenizer, "it is missing")
    metadata = _json(folder / "tokenizer_config.json")
    generation = _json(folder / "generation_config.json")
    metadata["eos_token_ids"] = _end_ids(generation.get("eos_token_id", settings.get("eos_token_id")), folder)
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        value = metadata.get(name)
        if not isinstance(value.get("content") if isinstance(value, dict) else value, str | None):
            raise bad_config(folder / "tokenizer_config.json", name, value, "the text of a token is expected")
    return ModelFile(folder, config, tensors, metadata, _chat_template(folder, metadata), tokenizer)


def _chat_template(folder: Path, metadata: Mapping[str, Any]) -> str | None:
    """From a file of its own, or the tokenizer's settings: a text, or several with names, of which one is "default"."""
    file = folder / "chat_template.jinja"
    if file.exists():
        try:
            return file.read_text("utf-8")
        except OSError as error:
            raise _unreadable(file, error.strerror or str(error)) from None
        except ValueError:
            raise _damaged(file, "it is not UTF-8") from None
    template = metadata.get("chat_template")
    if isinstance(template, list):
        named = [one for one in template if isinstance(one, dict) and one.get("name") == "default"]
        template = named[0].get("template") if named else None
    return template if isinstance(template, str) else None


def gguf_name(name: str) -> str | None:
    """GGUF's name of a tensor that Hugging Face calls `name`; None for one that no supported model uses."""
    stem, _, kind = name.removeprefix("model.").rpartition(".")
    kind = _SCALES.get(kind, kind)
    if stem == "lm_head":
        return f"output.{kind}"
    if stem in _TOP:
        return f"{_TOP[stem]}.{kind}"
    found = re.fullmatch(r"layers\.(\d+)\.(.+)", stem)
    if found is None:
        return None
    expert = re.fullmatch(r"mlp\.experts\.(\d+)\.(\w+)", found[2])
    if expert is not None and expert[2] in _IN_EXPERT:
        return f"blk.{found[1]}.{_IN_EXPERT[expert[2]]}.{expert[1]}.{kind}"
    if found[2] not in _IN_LAYER:
        return None
    return f"blk.{found[1]}.{_IN_LAYER[found[2]]}.{kind}"


def _shards(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.exists():
        where = _json(index).get("weight_map", {})
        names: list[Any] = list(where.values()) if isinstance(where, dict) else [None]
        if not all(isinstance(name, str) and name == Path(name).name for name in names):
            raise _damaged(index, "its weight_map does not say which file of the folder holds each tensor")
        return [folder / name for name in sorted(set(names))]
    return sorted(folder.glob("*.safetensors"))


def _tensors(path: Path) -> Iterator[Tensor]:
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size < 8:
                raise truncated(path, 8, os.fstat(file.fileno()).st_size, "the header")
            mapped = MappedFile(file)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from None
    (length,) = struct.unpack_from("<Q", mapped)
    base = 8 + length
    if base > len(mapped):
        raise truncated(path, base, len(mapped), "the header")
    try:
        header = json.loads(mapped[8:base])
        entries: list[tuple[str, str, tuple[int, ...], int, int]] = []
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = (int(n) for n in entry["data_offsets"])
                entries.append((name, str(entry["dtype"]), tuple(int(n) for n in entry["shape"]), begin, end))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise _damaged(path, "its header is not what a safetensors file has") from None
    at = 0
    for name, _, _, begin, end in sorted(entries, key=lambda entry: entry[3:]):  # the format allows no holes
        if begin != at:
            raise _damaged(path, f"tensor {name} begins at byte {begin} of the data, the one before it ends at {at}")
        at = end
    if base + at < len(mapped):
        raise _damaged(path, f"its data has {len(mapped) - base} bytes, its tensors {at}")
    for name, kind, shape, begin, end in entries:
        known = gguf_name(name)
        if known is None:
            continue
        if base + end > len(mapped):
            raise truncated(path, base + end, len(mapped), f"tensor {name}")
        if kind not in _KINDS:
            raise ZelligeError(
                "ZL0605",
                f"tensor {name} is stored as {kind}, which is not supported",
                facts={"file": str(path), "supported": ", ".join(_KINDS)},
                help="use the model in BF16, F16, F32 or fp8, or a GGUF file of it",
            )
        row = (shape[-1] if shape else 1) * _KINDS[kind]
        size = row * int(np.prod(shape[:-1], dtype=np.int64))
        if begin < 0 or end - begin != size:
            raise _damaged(path, f"tensor {name} of shape {list(shape)} has {end - begin} bytes, not {size}")
        raw = np.frombuffer(mapped, dtype=np.uint8, count=size, offset=base + begin)
        yield Tensor(known, shape, kind, raw.reshape(*shape[:-1], row))


def _config(settings: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path) -> ModelConfig:
    file = folder / "config.json"
    family = family_of(settings.get("model_type"), FAMILIES, file)

    def whole(key: str, default: Any = None) -> int:
        return whole_number(file, key, default if settings.get(key) is None else settings[key])

    heads, width = whole("num_attention_heads"), whole("hidden_size")
    rope = _object(settings, "rope_parameters", file)  # transformers 5 keeps all of RoPE here
    scaling = rope if rope.get("rope_type", "default") != "default" else _object(settings, "rope_scaling", file)
    theta = rope.get("rope_theta") or settings.get("rope_theta")
    context = whole("max_position_embeddings")
    quantiser = _object(settings, "quantization_config", file).get("quant_method")
    if quantiser is not None and quantiser not in _QUANTISERS:
        raise unsupported(file, "quantization_config.quant_method", quantiser, f"supported: {', '.join(_QUANTISERS)}")
    for key, supported in _ONLY.items():
        if settings.get(key, supported) not in (supported, None):
            raise unsupported(file, key, settings[key], f"only {supported} is supported")
    config = ModelConfig(
        architecture=family.name,
        vocab_size=whole("vocab_size"),
        width=width,
        layers=whole("num_hidden_layers"),
        heads=heads,
        kv_heads=whole("num_key_value_heads", heads),
        head_dim=whole("head_dim", width // heads),
        ffn_width=whole("moe_intermediate_size" if family.experts else "intermediate_size"),
        context_length=context,
        rms_eps=real_number(file, "rms_norm_eps", settings.get("rms_norm_eps")),
        rope_theta=real_number(file, "rope_theta", 10000.0 if theta is None else theta),
        rope_pairs="halves",
        rope_scaling=None if not scaling else _rope_scaling(scaling, context, file),
        tied_embeddings="output.weight" not in tensors or bool(settings.get("tie_word_embeddings")),
        qk_norm=family.qk_norm,
        qkv_bias=family.qkv_bias,
        experts=whole("num_experts", settings.get("num_local_experts")) if family.experts else 0,
        experts_used=whole("num_experts_per_tok") if family.experts else 0,
        renormalise=bool(settings.get("norm_topk_prob", not family.experts)),
    )
    return checked(config, folder)


def _object(settings: Mapping[str, Any], key: str, file: Path) -> Mapping[str, Any]:
    """A setting that holds settings; none if it is absent."""
    value = settings.get(key)
    if not isinstance(value, dict | None):
        raise bad_config(file, key, value, "a JSON object is expected")
    return value or {}


def _rope_scaling(scaling: Mapping[str, Any], context: int, file: Path) -> RopeScaling | None:
    kind = scaling.get("rope_type") or scaling.get("type")
    if kind == "default":
        return None
    if kind not in ("linear", "llama3", "yarn"):
        raise unsupported(file, "rope_scaling", kind, "linear, llama3 and yarn are supported")
    optional = {
        name: real_number(file, f"rope_scaling.{name}", scaling[name])
        for name in ("low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow", "attention_factor")
        if scaling.get(name) is not None
    }
    original = scaling.get("original_max_position_embeddings") or context
    return RopeScaling(
        kind,
        real_number(file, "rope_scaling.factor", scaling.get("factor")),
        whole_number(file, "rope_scaling.original_max_position_embeddings", original),
        **optional,
    )


def _end_ids(given: Any, file: Path) -> list[int]:
    ids = given if isinstance(given, list) else [] if given is None else [given]
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        raise bad_config(file, "eos_token_id", given, "a token id or a list of them is expected")
    return ids


def _json(path: Path, *, needed: bool = False) -> dict[str, Any]:
    if not needed and not path.exists():
        return {}
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from None
    except (ValueError, RecursionError):
        raise _damaged(path, "it is not JSON") from None
    if not isinstance(value, dict):
        raise _damaged(path, "a JSON object is expected")
    return value


def _unreadable(path: Path, why: str) -> ZelligeError:
    return ZelligeError(
        "ZL0601",
        f"cannot read {path.name}: {why}",
        facts={"file": str(path)},
        help="the folder needs config.json, tokenizer.json and the safetensors files: fetch what is missing",
    )


def _damaged(path: Path, why: str) -> ZelligeError:
    return ZelligeError(
        "ZL0602", f"{path.name} is damaged: {why}", facts={"file": str(path)}, help="fetch the file again"
    )
