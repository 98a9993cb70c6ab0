"""Models whose file has fp8 weights: what is refused, and that every way of scaling means the same weights in fp8 and in bf16."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from zellige.ir.dtypes import bf16, f8e4m3, f16
from zellige.llm.api import LLM
from zellige.llm.fused_runner import FusedRunner
from zellige.llm.models.loading import Loader
from zellige.llm.models.products import Scaled
from zellige.llm.sampling import SamplingParams
from zellige.llm.weights.model_file import open_model
from zellige.runtime.execution import executor_named
from zellige.runtime.tensor import tensor

FIXTURES = Path(__file__).parent.parent / "data" / "transformers"
DTYPES = {"F8_E4M3": ml_dtypes.float8_e4m3fn, "BF16": ml_dtypes.bfloat16, "F32": np.float32}
Tensors = dict[str, np.ndarray[Any, Any]]


def read(path: Path) -> Tensors:
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    body = data[8 + length :]
    header = {name: entry for name, entry in json.loads(data[8 : 8 + length]).items() if name != "__metadata__"}
    return {
        name: np.frombuffer(body[slice(*e["data_offsets"])], DTYPES[e["dtype"]]).reshape(e["shape"])
        for name, e in header.items()
    }


def write(path: Path, tensors: Tensors) -> None:
    names = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
    header, at = {}, 0
    for name, value in tensors.items():
        header[name] = {"dtype": names[value.dtype], "shape": value.shape, "data_offsets": (at, at + value.nbytes)}
        at += value.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(v.tobytes() for v in tensors.values()))


def changed(folder: Path, change: Callable[[Tensors], None], **settings: Any) -> Path:
    """The fp8 fixture with other tensors or settings, in ``folder``."""
    shutil.copytree(FIXTURES / "qwen3-fp8", folder, dirs_exist_ok=True)
    tensors = read(folder / "model.safetensors")
    change(tensors)
    write(folder / "model.safetensors", tensors)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    return folder


def scaled_by(rows: Callable[[int], tuple[int, ...]]) -> Callable[[Tensors], None]:
    """Replaces every matrix's scales by ones of another shape, under the name that compressed-tensors gives them."""

    def change(tensors: Tensors) -> None:
        rng = np.random.default_rng(0)
        for name in [name for name in tensors if name.endswith("_scale_inv")]:
            shape = rows(tensors[name.removesuffix("_scale_inv")].shape[0])
            del tensors[name]
            tensors[name.removesuffix("_inv")] = rng.uniform(0.001, 0.002, shape).astype(ml_dtypes.bfloat16)

    return change


WAYS: dict[str, Callable[[Tensors], None]] = {
    "blocks": lambda tensors: None,
    "rows": scaled_by(lambda n: (n, 1)),
    "rows, flat": scaled_by(lambda n: (n,)),
    "whole": scaled_by(lambda n: ()),
}


@pytest.mark.parametrize("way", WAYS)
def test_weights_mean_the_same_in_fp8_and_in_bf16(tmp_path: Path, way: str) -> None:
    model = open_model(changed(tmp_path, WAYS[way]))
    executor = executor_named("cpu")
    heads = model.config.heads + 2 * model.config.kv_heads
    for name, shape in {
        "blk.0.attn_qkv.weight": (heads * model.config.head_dim, model.config.width),
        "blk.1.ffn_down.weight": (model.config.width, model.config.ffn_width),
    }.items():
        kept, plain = Loader(model, executor).matrix(name, shape), Loader(model, executor, "bf16").matrix(name, shape)
        assert isinstance(kept, Scaled)
        assert kept.by == ("blocks" if way == "blocks" else "rows")
        scale = kept.scale.numpy()
        if kept.by == "blocks":
            scale = np.repeat(np.repeat(scale, 128, 0), 128, 1)[: shape[0], : shape[1]]
        want = kept.values.numpy().astype(np.float32) * scale
        assert not isinstance(plain, Scaled)
        np.testing.assert_allclose(plain.numpy().astype(np.float32), want, rtol=2**-8)


def test_projections_that_end_inside_a_block_are_joined_in_rows(tmp_path: Path) -> None:
    """64 query rows: the scales of the key projection would begin inside a block. The joined matrix is quantised again, by rows."""

    def narrower(tensors: Tensors) -> None:
        for name in [name for name in tensors if ".q_proj." in name or ".o_proj." in name]:
            if ".q_proj.weight" in name:
                tensors[name] = np.ascontiguousarray(tensors[name][: 1 if "scale" in name else 64])
            elif not name.endswith("scale_inv"):
                tensors[name] = np.ascontiguousarray(tensors[name][:, :64])
            else:
                tensors[name] = np.ascontiguousarray(tensors[name][:, :1])
        for name in [name for name in tensors if ".k_proj." in name or ".v_proj." in name]:
            tensors[name] = np.ascontiguousarray(tensors[name][: 1 if "scale" in name else 64])

    model = open_model(changed(tmp_path, narrower, num_attention_heads=1, num_key_value_heads=1))
    executor = executor_named("cpu")
    shape = (192, model.config.width)
    made, plain = (Loader(model, executor, dtype).matrix("blk.0.attn_qkv.weight", shape) for dtype in ("auto", "bf16"))
    assert isinstance(made, Scaled) and not isinstance(plain, Scaled)
    assert made.by == "rows"
    want = plain.numpy().astype(np.float32)
    got = made.values.numpy().astype(np.float32) * made.scale.numpy()
    np.testing.assert_allclose(got, want, rtol=1 / 16, atol=np.abs(want).max() * 2**-9)


def test_missing_scales_are_an_error(tmp_path: Path, refused: Any) -> None:
    def without(tensors: Tensors) -> None:
        del tensors["model.layers.0.mlp.up_proj.weight_scale_inv"]

    folder = changed(tmp_path, without)
    with refused("ZL0606"):
        open_model(folder)


def test_scales_of_another_shape_are_an_error(tmp_path: Path, refused: Any) -> None:
    with refused("ZL0607"):
        open_model(changed(tmp_path, scaled_by(lambda n: (n, 2))))


def test_another_quantiser_is_an_error(tmp_path: Path, refused: Any) -> None:
    folder = changed(tmp_path, lambda tensors: None, quantization_config={"quant_method": "gptq"})
    with refused("ZL0608"):
        open_model(folder)


def usable(name: str, folder: Path) -> Path:
    """A copy of a fixture whose tokenizer can decode."""
    shutil.copytree(FIXTURES / name, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["decoder"] = {**tokenizer["pre_tokenizer"], "type": "ByteLevel"}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def test_the_api_runs_fp8_files_and_quantises_others_on_request(tmp_path: Path, refused: Any) -> None:
    stored, other = usable("qwen3-fp8", tmp_path / "fp8"), usable("qwen3", tmp_path / "bf16")
    kept, plain = LLM(stored, max_model_len=64), LLM(stored, max_model_len=64, dtype="bf16")
    assert isinstance(kept._engine._runner, FusedRunner)
    ids = list(range(3, 20))
    np.testing.assert_allclose(kept.score(ids).logprobs, plain.score(ids).logprobs, atol=0.2)
    assert kept.score(ids).logprobs != plain.score(ids).logprobs
    made = LLM(other, max_model_len=64, dtype="fp8")._engine._runner
    assert isinstance(made, FusedRunner)
    assert isinstance(made.weights.layers[0].down, Scaled)
    with refused("ZL0701"):
        LLM(other, dtype="int3")


def in_bf16(w: Any) -> Any:
    """A weight as it is, or in bf16 if it is fp8."""
    return tensor(w.values.numpy().astype(np.float32) * w.scale.numpy(), bf16) if isinstance(w, Scaled) else w


def test_experts_in_fp8_mean_the_same_weights_in_bf16(tmp_path: Path) -> None:
    folder = usable("qwen3-moe", tmp_path / "moe")
    plain, made = (LLM(folder, max_model_len=64, dtype=dtype) for dtype in ("bf16", "fp8"))
    runner, other = made._engine._runner, plain._engine._runner
    assert isinstance(runner, FusedRunner) and isinstance(other, FusedRunner)
    gate = runner.weights.layers[0].gate
    assert isinstance(gate, Scaled) and gate.scale.shape == (*gate.shape[:2], 1)
    layers = [replace(x, **{f.name: in_bf16(getattr(x, f.name)) for f in fields(x)}) for x in runner.weights.layers]
    other.weights = replace(runner.weights, layers=tuple(layers))
    for count in (5, 30):  # few tokens, and ones that share their experts
        ids = list(range(3, 3 + count))
        np.testing.assert_allclose(made.score(ids).logprobs, plain.score(ids).logprobs, atol=0.1)


def test_a_cache_in_fp8_is_half_as_large_and_nearly_as_good(tmp_path: Path, refused: Any) -> None:
    folder = usable("qwen3", tmp_path / "bf16")
    exact, half = (LLM(folder, max_model_len=64, dtype="bf16", kv_dtype=kv) for kv in ("bf16", "fp8"))
    caches = [llm._engine._runner._cache for llm in (exact, half)]
    assert caches[0].keys[0].storage.nbytes == 2 * caches[1].keys[0].storage.nbytes
    prompt = list(range(3, 40))
    params = SamplingParams(max_tokens=8, temperature=0.0, ignore_eos=True, logprobs=True)
    a, b = (llm.generate([prompt], params)[0] for llm in (exact, half))
    assert a.token_ids[0] == b.token_ids[0]  # a prompt attends to its own keys as they were before they were stored
    same = next((i for i in range(8) if a.token_ids[i] != b.token_ids[i]), 8)
    np.testing.assert_allclose(b.logprobs[1:same], a.logprobs[1:same], atol=0.3)
    assert a.logprobs != b.logprobs
    with refused("ZL0701"):
        LLM(folder, kv_dtype="int8")


@pytest.mark.parametrize(
    ("name", "place"), [("model.layers.1.mlp.up_proj.weight", (200, 100)), ("model.layers.0.mlp.down_proj.weight_scale_inv", (0, 0))]
)  # fmt: skip
def test_weights_that_are_not_numbers_are_an_error(
    tmp_path: Path, name: str, place: tuple[int, ...], refused: Any
) -> None:
    def damage(tensors: Tensors) -> None:
        tensors[name] = tensors[name].copy()
        tensors[name][place] = np.nan

    model = open_model(changed(tmp_path, damage))
    with refused("ZL0611"):
        FusedRunner(model, model.config, num_pages=8, page_size=16, max_context=64, executor=executor_named("cpu"))


def test_a_weight_too_large_for_fp16_is_an_error_that_names_it(tmp_path: Path, refused: Any) -> None:
    def enlarge(tensors: Tensors) -> None:
        tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"].copy()
        tensors["model.embed_tokens.weight"][3, 2] = 70000.0

    model = open_model(changed(tmp_path, enlarge))
    settings: dict[str, Any] = {"num_pages": 8, "page_size": 16, "max_context": 64, "executor": executor_named("cpu")}
    with refused("ZL0611") as caught:
        FusedRunner(model, model.config, dtype="fp16", **settings)
    assert "token_embd.weight has values too large for fp16" in str(caught.value)
    FusedRunner(model, model.config, dtype="bf16", **settings)


@pytest.mark.parametrize("kv", ["auto", "bf16", "fp8"])
def test_the_api_runs_fp16_by_either_name_over_a_cache_of_any_type(tmp_path: Path, kv: str) -> None:
    folder = usable("qwen3", tmp_path / "model")
    ids, params = list(range(3, 20)), SamplingParams(max_tokens=6, ignore_eos=True, logprobs=True)
    half, same = (LLM(folder, max_model_len=64, dtype=dtype, kv_dtype=kv) for dtype in ("fp16", "float16"))
    runner = half._engine._runner
    assert isinstance(runner, FusedRunner)
    assert runner.weights.dtype is f16
    assert runner._cache.keys[0].dtype is {"auto": f16, "bf16": bf16, "fp8": f8e4m3}[kv]
    first, again = (llm.generate([ids], params)[0] for llm in (half, same))
    assert (first.token_ids, first.logprobs) == (again.token_ids, again.logprobs)
    plain = LLM(folder, max_model_len=64, dtype="bf16").generate([ids], params)[0]
    assert first.logprobs is not None and plain.logprobs is not None
    assert first.logprobs[0] == pytest.approx(plain.logprobs[0], abs=0.1)
    assert first.logprobs != plain.logprobs
