"""A model in Hugging Face's layout computes what the same model computes as GGUF."""

from __future__ import annotations

import json
import math
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy_llama import NumpyLlama
from safetensors.numpy import save_file

from zellige.diagnostics import ZelligeError
from zellige.llm.api import LLM
from zellige.llm.tokenizer import load_tokenizer
from zellige.llm.weights.model_file import ModelFile, open_model
from zellige.llm.weights.safetensors_dir import gguf_name

LAYER_NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def hf_name(name: str) -> str:
    top = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    if name in top:
        return top[name]
    _, layer, inner, kind = name.split(".")
    return f"model.layers.{layer}.{LAYER_NAMES[inner]}.{kind}"


def halves(matrix: np.ndarray, heads: int) -> np.ndarray:
    """Rows from interleaved rotary pairs to pairs half a head apart: what GGUF converters do, undone."""
    split = matrix.reshape(heads, tiny_model.HEAD_DIM // 2, 2, -1)
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(matrix.shape))


@pytest.fixture
def folder(tiny: ModelFile, tmp_path: Path) -> Path:
    """The tiny model, converted, in two shards."""
    weights = NumpyLlama(tiny).weights
    for name in [n for n in weights if n.endswith(("attn_q.weight", "attn_k.weight"))]:
        weights[name] = halves(weights[name], tiny.config.heads if "attn_q" in name else tiny.config.kv_heads)
    shards: list[dict[str, Any]] = [{}, {}]
    for index, (name, value) in enumerate(weights.items()):
        shards[index % 2][hf_name(name)] = value
    for index, shard in enumerate(shards):
        save_file(shard, tmp_path / f"model-{index}.safetensors")
    where = {name: f"model-{index}.safetensors" for index, shard in enumerate(shards) for name in shard}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    config = tiny.config
    settings = {
        "model_type": "llama", "vocab_size": config.vocab_size, "hidden_size": config.width,
        "num_hidden_layers": config.layers, "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads, "intermediate_size": config.ffn_width,
        "max_position_embeddings": config.context_length, "rms_norm_eps": config.rms_eps,
        "rope_theta": config.rope_theta, "tie_word_embeddings": True, "eos_token_id": 2,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "tokenizer.json").write_text(load_tokenizer(tiny)._backend.to_str())
    tokenizer_config = {
        "chat_template": tiny.chat_template,
        "bos_token": "<|im_start|>",
        "eos_token": {"content": "<|im_end|>"},
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    return tmp_path


def test_it_computes_and_reads_what_the_gguf_file_does(folder: Path, tiny: ModelFile) -> None:
    ours, gguf = LLM(folder, runner=NumpyLlama), LLM(tiny.path, runner=NumpyLlama)
    ids = list(range(10, 60))
    np.testing.assert_allclose(ours.score(ids).logprobs, gguf.score(ids).logprobs, atol=1e-4)
    messages = [{"role": "user", "content": "the 🧩 <|im_end|>"}]
    assert ours.chat_prompt(messages) == gguf.chat_prompt(messages)
    assert ours.tokenizer.eos_ids == gguf.tokenizer.eos_ids == {2}
    assert ours.chat(messages).text == gguf.chat(messages).text


def test_a_truncated_shard_says_how_much_is_missing(folder: Path, refused) -> None:
    shard = folder / "model-1.safetensors"
    shard.write_bytes(shard.read_bytes()[:-10])
    with refused("ZL0603") as caught:
        open_model(folder)
    assert "model-1.safetensors" in caught.value.message


@pytest.mark.parametrize(
    ("file", "content", "code"),
    [
        ("config.json", "{", "ZL0602"),
        ("config.json", "[" * 100_000, "ZL0602"),
        ("config.json", '{"model_type": "mamba"}', "ZL0604"),
        ("config.json", '{"model_type": "llama"}', "ZL0608"),
        ("model-0.safetensors", "x" * 4, "ZL0603"),
        ("model-0.safetensors", "\x05\0\0\0\0\0\0\0[1,2]", "ZL0602"),
        ("tokenizer.json", "{", "ZL0609"),
        ("model.safetensors.index.json", '{"weight_map": ["model-0.safetensors"]}', "ZL0602"),
        ("model.safetensors.index.json", '{"weight_map": {"a": [5]}}', "ZL0602"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "../model-0.safetensors"}}', "ZL0602"),
        ("chat_template.jinja", b"{{ '\xe9' }}", "ZL0602"),
        ("tokenizer_config.json", '{"eos_token": 2}', "ZL0608"),
        ("tokenizer_config.json", '{"bos_token": {"content": ["<s>"]}}', "ZL0608"),
    ],
)
def test_a_damaged_file_is_named(folder: Path, file: str, content: str | bytes, code: str, refused) -> None:
    (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with refused(code) as caught:
        load_tokenizer(open_model(folder))
    assert file in caught.value.render()


@pytest.mark.parametrize("file", ["model-1.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(folder: Path, file: str, refused) -> None:
    (folder / file).unlink()
    with refused("ZL0601") as caught:
        open_model(folder)
    assert file in caught.value.message


FIXTURES = Path(__file__).parents[1] / "data" / "transformers"
ODD_VALUES = [
    None, "x", -1, 0, [], {}, math.inf, math.nan, True, [1], [None], {"a": 1}, 10**30, 1e-320, 2.5, [["a"]], 2**40,
]  # fmt: skip


@pytest.mark.parametrize("family", ["qwen3", "qwen3-moe", "qwen3-fp8", "llama3-rope", "qwen2-yarn"])
def test_a_senseless_setting_gives_an_error_or_a_model_but_never_a_crash(family: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(FIXTURES / family, folder)
    refusals = 0
    for file in ("config.json", "generation_config.json"):
        text = (folder / file).read_text()
        whole = json.loads(text)
        places = [(key,) for key in (*whole, "rope_scaling", "quantization_config", "eos_token_id")]
        places += [(key, inner) for key, value in whole.items() if isinstance(value, dict) for inner in value]
        for *outer, last in places:
            for value in ODD_VALUES:
                changed = json.loads(text)
                holder = changed
                for key in outer:
                    holder = holder[key]
                holder[last] = value
                (folder / file).write_text(json.dumps(changed))
                try:
                    config = open_model(folder).config
                except ZelligeError as error:
                    refusals += 1
                    assert error.code.startswith("ZL06"), (file, outer, last, value)
                else:
                    assert np.isfinite(config.inverse_frequencies()).all(), (file, outer, last, value)
        (folder / file).write_text(text)
    assert refusals > 100


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_header_gives_an_error_or_the_same_weights(tmp_path: Path, data) -> None:
    folder = tmp_path / "model"
    if not folder.exists():
        shutil.copytree(FIXTURES / "qwen3", folder)
    content = bytearray((FIXTURES / "qwen3" / "model.safetensors").read_bytes())
    (length,) = struct.unpack_from("<Q", content)
    for _ in range(data.draw(st.integers(1, 2))):
        content[data.draw(st.integers(0, 7 + length))] = data.draw(st.integers(0, 255))
    (folder / "model.safetensors").write_bytes(content)
    whole = open_model(FIXTURES / "qwen3").tensors
    try:
        found = open_model(folder).tensors
    except ZelligeError as error:
        assert error.code.startswith("ZL06")
    else:  # what was hit says nothing about the weights, or exchanged two types of one size
        for name, tensor in found.items():
            assert np.array_equal(tensor.data, whole[name].data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda offsets, content: (offsets[1], offsets[0]), "begins at byte"),
        (lambda offsets, content: content.extend(b"\0" * 8), "its data has"),
    ],
)
def test_weights_that_overlap_or_leave_bytes_over_are_damage(folder: Path, change, words: str, refused) -> None:
    shard = folder / "model-0.safetensors"
    content = bytearray(shard.read_bytes())
    (length,) = struct.unpack_from("<Q", content)
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    alike = [entry for entry in header.values() if entry.get("shape") == [tiny_model.WIDTH]][:2]
    exchanged = change([entry["data_offsets"] for entry in alike], data)
    if exchanged:
        alike[0]["data_offsets"] = exchanged[0]  # two tensors at one place
    text = json.dumps(header).encode()
    shard.write_bytes(struct.pack("<Q", len(text)) + text + data)
    with refused("ZL0602") as caught:
        open_model(folder)
    assert words in caught.value.message


def test_names_that_no_model_uses_are_passed_over() -> None:
    assert gguf_name("model.layers.3.self_attn.q_norm.weight") == "blk.3.attn_q_norm.weight"
    assert gguf_name("lm_head.weight") == "output.weight"
    assert gguf_name("model.layers.0.self_attn.rotary_emb.inv_freq") is None


def test_of_several_named_templates_the_default_one_is_taken(folder: Path) -> None:
    """As tokenizers wrote them that had one for tools, too."""
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "the {{ messages[0].content }}"}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    llm = LLM(folder, runner=NumpyLlama)
    assert llm.tokenizer.decode(llm.chat_prompt([{"role": "user", "content": "12"}])) == "the 12"
