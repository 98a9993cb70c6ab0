"""Model files: what is read is right, and what is wrong is named."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import gguf
import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_model import WIDTH, tensor_shapes, vocabulary, write_tiny_gguf

from zellige.diagnostics import ZelligeError
from zellige.kernels.finite import count_not_finite
from zellige.llm.api import LLM
from zellige.llm.sampling import SamplingParams
from zellige.llm.tokenizer import load_tokenizer
from zellige.llm.weights.gguf_file import read_gguf
from zellige.llm.weights.model_file import SUPPORTED_KINDS, ModelFile, open_model


def assert_reads_like_the_gguf_package(path: Path) -> None:
    ours, theirs = read_gguf(path), gguf.GGUFReader(path)
    fields = {name: field for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert set(ours.metadata) == set(fields)
    for name, field in fields.items():
        value = ours.metadata[name]
        if isinstance(value, list) and len(value) > 1000:  # their reader takes seconds for a whole vocabulary
            sample = range(0, len(value), 997)
            assert [value[i] for i in sample] == [str(bytes(field.parts[field.data[i]]), "utf-8") for i in sample]
        else:
            np.testing.assert_array_equal(value, field.contents(), err_msg=name)
    assert list(ours.tensors) == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        mine = ours.tensors[tensor.name]
        assert mine.kind == tensor.tensor_type.name
        assert mine.shape == tuple(int(n) for n in reversed(tensor.shape))
        np.testing.assert_array_equal(mine.data.reshape(-1), np.asarray(tensor.data).reshape(-1).view(np.uint8))


@pytest.mark.parametrize("kind", SUPPORTED_KINDS)
def test_every_supported_kind_reads_like_the_gguf_package(tmp_path: Path, kind: str) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf", kind=kind, width=256, ffn=256)
    assert_reads_like_the_gguf_package(path)
    assert open_model(path).tensor("blk.1.ffn_up.weight").kind == kind


@pytest.mark.model
def test_the_default_model_reads_like_the_gguf_package(smollm2: ModelFile) -> None:
    assert_reads_like_the_gguf_package(smollm2.path)


@pytest.mark.model
def test_the_default_models_numbers(smollm2: ModelFile) -> None:
    config = smollm2.config
    assert (config.layers, config.width, config.heads, config.kv_heads, config.head_dim) == (30, 576, 9, 3, 64)
    assert (config.vocab_size, config.ffn_width, config.context_length) == (49152, 1536, 8192)
    assert config.rope_pairs == "interleaved" and config.tied_embeddings and config.rope_theta == 100000.0


def test_tensors_are_views_of_the_file_and_cannot_be_written(tiny: ModelFile) -> None:
    with pytest.raises(ValueError, match="read-only"):
        tiny.tensor("output_norm.weight").data[0] = 1


def test_a_missing_file_is_named(tmp_path: Path, refused) -> None:
    with refused("ZL0601") as caught:
        open_model(tmp_path / "absent.gguf")
    assert "absent.gguf" in caught.value.message


def test_a_file_of_another_kind_is_not_gguf(tmp_path: Path, refused) -> None:
    (tmp_path / "m.gguf").write_bytes(b"PK\x03\x04" + bytes(100))
    with refused("ZL0602") as caught:
        open_model(tmp_path / "m.gguf")
    assert "PK" in caught.value.message


def test_a_big_endian_file_is_said_to_be_one(tmp_path: Path, refused) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + struct.pack(">I", 3) + bytes(100))
    with refused("ZL0602") as caught:
        open_model(tmp_path / "m.gguf")
    assert "big-endian" in caught.value.message


def test_an_unknown_architecture_is_named_with_those_supported(tmp_path: Path, refused) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf", architecture="mamba")
    with refused("ZL0604") as caught:
        open_model(path)
    assert "'mamba'" in caught.value.message and "llama" in caught.value.facts["supported"]


def test_an_unsupported_quantisation_is_named_with_those_supported(tmp_path: Path, refused) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf", kind="MXFP4")
    with refused("ZL0605") as caught:
        open_model(path)
    assert "MXFP4" in caught.value.message
    for kind in SUPPORTED_KINDS:
        assert kind in caught.value.facts["supported"]


def test_gate_and_up_of_two_kinds_are_refused_by_name(tmp_path: Path, refused) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf", kind=lambda name: "Q8_0" if name == "blk.1.ffn_up.weight" else "Q4_1")
    with refused("ZL0605") as caught:
        open_model(path)
    assert (
        "blk.1.ffn_gate.weight is Q4_1" in caught.value.message
        and "blk.1.ffn_up.weight is Q8_0" in caught.value.message
    )


def test_missing_tensors_are_counted_and_named(tmp_path: Path, refused) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf", leave_out=["blk.1.attn_k.weight", "blk.0.ffn_up.weight"])
    with refused("ZL0606") as caught:
        open_model(path)
    assert "lacks 2 of the" in caught.value.message and "blk.1.attn_k.weight" in caught.value.facts["first missing"]


def test_a_tensor_of_the_wrong_shape_is_named_with_both_shapes(tmp_path: Path, refused) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf", reshape=["blk.0.attn_q.weight"])
    with refused("ZL0607") as caught:
        open_model(path)
    assert f"[32, {WIDTH}]" in caught.value.message and f"[64, {WIDTH}]" in caught.value.message


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file_says_how_much_is_missing(tiny_path: Path, tmp_path: Path, fraction: float, refused) -> None:
    whole = tiny_path.read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[: int(len(whole) * fraction)])
    with refused("ZL0603") as caught:
        open_model(cut)
    assert caught.value.facts["bytes present"] == cut.stat().st_size < caught.value.facts["bytes needed"]


@pytest.mark.parametrize("content", [b"hello\n", b"<html>" * 100])
def test_a_file_that_is_something_else_is_not_called_truncated(tmp_path: Path, content: bytes, refused) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with refused("ZL0602") as caught:
        open_model(path)
    assert repr(content[:4]) in caught.value.message


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_header_gives_an_error_or_a_model_but_never_a_crash(tiny_path: Path, tmp_path: Path, data) -> None:
    content = bytearray(tiny_path.read_bytes())
    header = len(content) - sum(4 * int(np.prod(shape)) for shape in tensor_shapes(len(vocabulary())).values())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(4, header - 1))
        content[at] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.gguf"
    path.write_bytes(content)
    try:
        load_tokenizer(open_model(path))
    except ZelligeError as error:
        assert error.code.startswith("ZL06")


def test_rope_scaling_of_llama3_leaves_short_wavelengths_and_divides_long_ones(tiny: ModelFile) -> None:
    from dataclasses import replace

    from zellige.llm.weights.config import RopeScaling

    plain = replace(tiny.config, head_dim=64, rope_theta=500000.0)
    scaled = replace(plain, rope_scaling=RopeScaling("llama3", 8.0, 8192))
    ratio = plain.inverse_frequencies() / scaled.inverse_frequencies()
    wavelength = 2 * np.pi / plain.inverse_frequencies()
    np.testing.assert_allclose(ratio[wavelength < 8192 / 4], 1.0)
    np.testing.assert_allclose(ratio[wavelength > 8192], 8.0)
    assert np.all(np.diff(ratio) >= -1e-12)


def test_a_folder_with_one_gguf_file_and_nothing_else_is_that_file(tiny_path: Path, tmp_path: Path, refused) -> None:
    from zellige.llm.hub import resolve_model

    shutil.copy(tiny_path, tmp_path / "only.gguf")
    assert resolve_model(tmp_path) == tmp_path / "only.gguf"
    shutil.copy(tiny_path, tmp_path / "second.gguf")
    with refused("ZL0601") as caught:
        resolve_model(tmp_path)
    assert "only.gguf, second.gguf" in caught.value.facts["GGUF files"]


def test_a_weight_that_is_not_a_number_is_named(tmp_path: Path, refused) -> None:
    llm = LLM(write_tiny_gguf(tmp_path / "poisoned.gguf", poison=["blk.1.ffn_up.weight"]))
    with refused("ZL0611") as caught:
        llm.generate([[1, 2, 3]], SamplingParams(max_tokens=2))
    assert "blk.1.ffn_up.weight" in caught.value.message
    assert caught.value.facts["how many"] == 1 and caught.value.facts["first"] == "nan at (0, 2)"


@pytest.mark.parametrize("name", ["blk.1.ffn_down.weight", "token_embd.weight", "output_norm.weight"])
def test_fused_passes_refuse_it_when_it_is_loaded(tmp_path: Path, refused, name: str) -> None:
    with refused("ZL0611") as caught:
        LLM(write_tiny_gguf(tmp_path / "poisoned.gguf", poison=[name]), batch_invariant=True)
    assert name in caught.value.message
    LLM(write_tiny_gguf(tmp_path / "sound.gguf"), batch_invariant=True)


def test_every_nan_and_infinity_counts() -> None:
    x = np.ones(5000, ml_dtypes.bfloat16)
    x[[0, 700, 4999]] = np.nan, np.inf, -np.inf
    x[1:4] = 3.3e38, -0.0, 1e-40
    assert count_not_finite(x, PARTS=5, DEPTH=1024, BLOCK=256).numpy().tolist() == [2, 0, 0, 0, 1]
