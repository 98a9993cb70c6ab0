"""Writes small random models as GGUF files, with a byte-level vocabulary, for tests that need no download."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import gguf
import numpy as np
from gguf.constants import GGMLQuantizationType
from gguf.quants import quantize
from tests.kernels.quantised import random_blocks

WIDTH, LAYERS, HEADS, KV_HEADS, HEAD_DIM, FFN, CONTEXT = 64, 2, 4, 2, 16, 96, 256
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["t h", "th e", "Ġ the", "i n", "Ġ a", "e r", "o n", "Ġ Ġ", "1 2", "12 3"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, in the order of the bytes."""
    printable = set(range(33, 127)) | set(range(161, 173)) | set(range(174, 256))
    extra = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(extra)) for byte in range(256)]


def vocabulary() -> list[str]:
    return [*SPECIAL, *byte_alphabet(), *(merge.replace(" ", "") for merge in MERGES)]


def write_tiny_gguf(
    path: Path,
    *,
    kind: str | Callable[[str], str] = "F32",
    width: int = WIDTH,
    ffn: int = FFN,
    context: int = CONTEXT,
    architecture: str = "llama",
    pre: str = "smollm",
    template: str | None = TEMPLATE,
    leave_out: Collection[str] = (),
    reshape: Collection[str] = (),
    poison: Collection[str] = (),
    seed: int = 0,
) -> Path:
    """A model whose matrices are quantised as `kind`, for all or by name. `leave_out` drops tensors, `reshape` halves their
    rows, `poison` makes the third value of each a NaN."""
    rng = np.random.default_rng(seed)
    tokens = vocabulary()
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    if template is not None:
        writer.add_chat_template(template)
    for name, shape in tensor_shapes(len(tokens), width, ffn).items():
        if name in leave_out:
            continue
        if name in reshape:
            shape = (shape[0] // 2, *shape[1:])
        if len(shape) == 1:
            values, chosen = 1 + rng.normal(0, 0.1, shape).astype(np.float32), "F32"
        else:
            chosen = kind if isinstance(kind, str) else kind(name)
            values = packed_matrix(rng, shape, chosen)
        if name in poison:
            values.reshape(-1)[2] = np.nan
        writer.add_tensor(name, values, raw_dtype=GGMLQuantizationType[chosen])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def packed_matrix(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """A random matrix as a file holds it; of a format that the gguf package only reads, blocks of random bits."""
    size = 1.5 / np.sqrt(shape[-1])
    if kind.endswith("_K"):
        return random_blocks(rng, *shape, kind, size)
    return quantize(rng.normal(0, size, shape).astype(np.float32), GGMLQuantizationType[kind])


def tensor_shapes(vocab: int, width: int = WIDTH, ffn: int = FFN) -> dict[str, tuple[int, ...]]:
    queries, keys = width, width * KV_HEADS // HEADS
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (vocab, width), "output_norm.weight": (width,)}
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        shapes |= {
            block + "attn_norm.weight": (width,),
            block + "attn_q.weight": (queries, width),
            block + "attn_k.weight": (keys, width),
            block + "attn_v.weight": (keys, width),
            block + "attn_output.weight": (width, queries),
            block + "ffn_norm.weight": (width,),
            block + "ffn_gate.weight": (ffn, width),
            block + "ffn_up.weight": (ffn, width),
            block + "ffn_down.weight": (width, ffn),
        }
    return shapes
