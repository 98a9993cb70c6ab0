"""Opens a model, whatever its format, and checks that it can run before anything is computed or allocated.

Tensor names are GGUF's (`blk.3.attn_q.weight`) in every format, so that a model file lists them once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zellige.diagnostics import ZelligeError
from zellige.ir.dtypes import BLOCKED
from zellige.llm.models import FAMILIES
from zellige.llm.weights.config import ModelConfig, config_from_gguf
from zellige.llm.weights.gguf_file import Tensor, read_gguf

SUPPORTED_KINDS = ("F32", "F16", "BF16", *(dtype.name for dtype in BLOCKED))
FP8 = "F8_E4M3"
"""Of matrices in safetensors files, beside the kinds above."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model that can run: its numbers, its packed weights, and where its tokenizer and template are.

    `metadata` is GGUF's, or for a Hugging Face folder the parsed `tokenizer_config.json`; `tokenizer_json` is the path
    of a `tokenizer.json` where there is one.
    """

    path: Path
    config: ModelConfig
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]
    chat_template: str | None
    tokenizer_json: Path | None = None

    def tensor(self, name: str) -> Tensor:
        """The weight called `name`; its presence, shape and kind were checked when the file was opened."""
        return self.tensors[name]

    @property
    def needs_fused(self) -> bool:
        """Whether only the fused passes run it, also on the CPU: it has experts, or fp8 weights."""
        return bool(self.config.experts) or any(tensor.kind == FP8 for tensor in self.tensors.values())


def open_model(path: str | os.PathLike[str]) -> ModelFile:
    """Open a `.gguf` file or a Hugging Face folder. Tensors stay mapped, nothing is copied.

    Errors: ZL0601 to ZL0608 (missing, damaged, truncated, unknown architecture or quantisation, missing or misshapen
    tensors, senseless settings).
    """
    path = Path(path)
    if path.is_dir():
        from zellige.llm.weights.safetensors_dir import read_safetensors_dir

        model = read_safetensors_dir(path)
    else:
        file = read_gguf(path)
        config = config_from_gguf(file.metadata, file.tensors, FAMILIES, path)
        template = file.metadata.get("tokenizer.chat_template")
        model = ModelFile(path, config, file.tensors, file.metadata, template if isinstance(template, str) else None)
    _check_tensors(model)
    return model


def expected_tensors(config: ModelConfig, *, split_experts: bool = False) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every weight the model needs, with its shape.

    ``split_experts``: each expert is a tensor of its own (as in Hugging Face's layout), not one of a stack (GGUF)."""
    width, ffn = config.width, config.ffn_width
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    yield "token_embd.weight", (config.vocab_size, width)
    if not config.tied_embeddings:
        yield "output.weight", (config.vocab_size, width)
    yield "output_norm.weight", (width,)
    for layer in range(config.layers):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", (width,)
        yield block + "attn_q.weight", (queries, width)
        yield block + "attn_k.weight", (keys, width)
        yield block + "attn_v.weight", (keys, width)
        yield block + "attn_output.weight", (width, queries)
        yield block + "ffn_norm.weight", (width,)
        matrices = {"gate": (ffn, width), "up": (ffn, width), "down": (width, ffn)}
        if config.experts:
            yield block + "ffn_gate_inp.weight", (config.experts, width)
        for part, shape in matrices.items():
            if not config.experts:
                yield f"{block}ffn_{part}.weight", shape
            elif split_experts:
                yield from ((expert_name(f"{block}ffn_{part}_exps.weight", e), shape) for e in range(config.experts))
            else:
                yield f"{block}ffn_{part}_exps.weight", (config.experts, *shape)
        if config.qk_norm:
            yield block + "attn_q_norm.weight", (config.head_dim,)
            yield block + "attn_k_norm.weight", (config.head_dim,)
        if config.qkv_bias:
            yield block + "attn_q.bias", (queries,)
            yield block + "attn_k.bias", (keys,)
            yield block + "attn_v.bias", (keys,)


def expert_name(stack: str, expert: int) -> str:
    """The name of one expert's tensor where a file does not hold them as the stack of that name."""
    return stack.replace("_exps.", f"_exps.{expert}.")


def has_split_experts(model: ModelFile) -> bool:
    """Whether each expert of the model is a tensor of its own."""
    return bool(model.config.experts) and "blk.0.ffn_gate_exps.weight" not in model.tensors


def _check_tensors(model: ModelFile) -> None:
    c = model.config
    split = c.experts if has_split_experts(model) else 0
    if c.layers * max(split, 1) > len(model.tensors):  # a damaged count: do not list what billions of layers would need
        parts = f"{c.layers} layers" + (f" of {split} experts" if split else "")
        raise ZelligeError(
            "ZL0606",
            f"{model.path.name} has {len(model.tensors)} tensors, too few for the {parts} that it states",
            facts={"file": str(model.path), "layers": c.layers},
            help="the file is damaged: fetch it again, or convert the model again",
        )
    wanted = dict(expected_tensors(model.config, split_experts=has_split_experts(model)))
    missing = [name for name in wanted if name not in model.tensors]
    if missing:
        raise ZelligeError(
            "ZL0606",
            f"{model.path.name} lacks {len(missing)} of the {len(wanted)} tensors that the model needs",
            facts={"file": str(model.path), "first missing": ", ".join(missing[:3])},
            help="the file is incomplete: fetch it again, or convert the model again",
        )
    for name, shape in wanted.items():
        tensor = model.tensors[name]
        if tensor.shape != shape:
            raise ZelligeError(
                "ZL0607",
                f"tensor {name} has shape {list(tensor.shape)}, the model's settings say {list(shape)}",
                facts={"file": str(model.path)},
                help="settings and weights do not belong together: fetch or convert the model again",
            )
        if tensor.kind not in (*SUPPORTED_KINDS, FP8):
            raise ZelligeError(
                "ZL0605",
                f"tensor {name} is quantised as {tensor.kind}, which is not supported",
                facts={"file": str(model.path), "supported": ", ".join(SUPPORTED_KINDS)},
                help="choose a file of the model in one of the supported formats, such as Q8_0 or Q4_K_M",
            )
        if tensor.kind == FP8:
            _check_scale(model, name, shape)
    for name in (name for name in wanted if name.endswith(".ffn_gate.weight")):
        gate, up = model.tensors[name], model.tensors[name.replace("gate", "up")]
        if gate.kind != up.kind:  # one kernel reads both
            raise ZelligeError(
                "ZL0605",
                f"{gate.name} is {gate.kind} and {up.name} is {up.kind}: these two must be of one kind",
                facts={"file": str(model.path)},
                help=f"quantise the model again with one kind for both, such as {gate.kind}",
            )


def scale_shapes(shape: tuple[int, ...]) -> dict[str, tuple[tuple[int, ...], ...]]:
    """How the scales of an fp8 matrix may be shaped: one for the whole, for each row, for each 128 × 128 weights."""
    return {"whole": ((), (1,)), "rows": ((shape[0], 1), (shape[0],)), "blocks": (tuple(-(-n // 128) for n in shape),)}


def _check_scale(model: ModelFile, name: str, shape: tuple[int, ...]) -> None:
    scale, known = model.tensors.get(name.replace(".weight", ".scale")), scale_shapes(shape)
    if scale is None:
        raise ZelligeError(
            "ZL0606",
            f"tensor {name} is stored as {FP8}, but its scales are missing",
            facts={"file": str(model.path)},
            help="the file is incomplete: fetch it again, or convert the model again",
        )
    if len(shape) != 2 or all(scale.shape not in shapes for shapes in known.values()):
        raise ZelligeError(
            "ZL0607",
            f"tensor {name} is {FP8} of shape {list(shape)}, its scales have shape {list(scale.shape)}",
            facts={"file": str(model.path)},
            help="supported: a matrix with one scale, one for each row, or one for each 128 × 128 weights",
        )
