"""`zellige plan`, `profile` and `bench` from the outside, on a tiny model that real kernels run."""

from __future__ import annotations

import json
import re
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from test_check import run

sys.path.insert(0, str(Path(__file__).parent.parent / "llm"))

from zellige.cli import footprint, measuring
from zellige.cli.footprint import parse_size, shown
from zellige.diagnostics import ZelligeError


# --- plan
def test_the_plan_adds_up(tiny_path: Path) -> None:
    result = run("plan", tiny_path, "--memory", "64MB", "--json")
    assert result.exit_code == 0, result.output
    plan = json.loads(result.output)
    assert plan["weights_bytes"] == sum(plan["weights_by_kind"].values())
    assert plan["weights_bytes"] < tiny_path.stat().st_size
    left = plan["free_bytes"] - plan["weights_bytes"] - plan["working_bytes_estimate"]
    tokens = plan["kv_tokens_that_fit"]
    assert tokens % 16 == 0 and 0 <= left - tokens * plan["kv_bytes_per_token"] < 16 * plan["kv_bytes_per_token"]
    assert plan["longest_context_that_fits"] == min(tokens, plan["context_limit"])
    assert all(batch == tokens // int(length) for length, batch in plan["batch_at_context"].items())
    assert plan["fits"] is True


def test_a_model_that_does_not_fit_is_said_not_to(tiny_path: Path) -> None:
    result = run("plan", tiny_path, "--memory", "10kB")
    assert result.exit_code == 0
    assert "tokens that fit                 0" in result.output and "does not fit" in result.output
    sizes = [line for line in result.output.splitlines() if re.match("  (weights|working|free|a token)", line)]
    assert len(sizes) == 4 and {line[34] for line in sizes} == {"B"}  # one column


def test_a_known_size_needs_no_file() -> None:
    plan = json.loads(run("plan", "Qwen3-8B", "--device", "cuda", "--memory", "80GB", "--json").output)
    assert plan["parameters"] == 8_190_735_360  # as the model's card says: 8.2 B
    assert plan["weights_bytes"] == 2 * plan["parameters"]
    assert plan["kv_bytes_per_token"] == 2 * 36 * 8 * 128 * 2
    other = json.loads(run("plan", "Llama-3.1-8B", "--memory", "80GB", "--json").output)
    assert other["parameters"] == 8_030_261_248


def test_a_folder_is_read_though_its_name_is_that_of_a_known_size(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "Qwen3-8B").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "error[ZL0601]: the folder Qwen3-8B holds no model" in run("plan", "Qwen3-8B").output


def test_a_plan_counts_weights_and_cache_in_the_types_that_are_asked_for(tiny_path: Path) -> None:
    def plan(*options: str) -> dict:
        return json.loads(run("plan", *options, "--memory", "200GB", "--json").output)

    whole, small = plan("Qwen3-32B"), plan("Qwen3-32B", "--dtype", "fp8", "--kv-dtype", "fp8")
    assert small["kv_bytes_per_token"] * 2 == whole["kv_bytes_per_token"]
    layers = small["weights_by_kind"]["fp8"]
    assert 0 < small["weights_by_kind"]["scales of fp8"] < layers / 500
    assert small["weights_by_kind"]["bf16"] == whole["weights_bytes"] - 2 * layers
    packed, device = plan(str(tiny_path)), plan(str(tiny_path), "--device", "cuda")
    assert set(packed["weights_by_kind"]) == {"F32"} and set(device["weights_by_kind"]) == {"bf16"}
    assert device["weights_bytes"] * 2 == packed["weights_bytes"]
    assert set(plan(str(tiny_path), "--dtype", "float16")["weights_by_kind"]) == {"fp16"}
    assert "error[ZL0701]: there is no kv_dtype 'x'" in run("plan", "Qwen3-8B", "--kv-dtype", "x").output


def test_only_the_header_is_read(tiny_path: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_path.read_bytes()[:-100])
    result = run("plan", cut)
    assert result.exit_code == 1 and "error[ZL0603]" in result.output


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--memory", "3x"), "ZL0134"),
        (("--memory", "-3GB"), "ZL0134"),
        (("--memory", "GB"), "ZL0134"),
        (("--context", "1000000"), "ZL0134"),
    ],
)
def test_mistakes_in_a_plan_are_told(tiny_path: Path, arguments: tuple[str, ...], code: str) -> None:
    result = run("plan", tiny_path, *arguments)
    assert result.exit_code == 1 and f"error[{code}]" in result.output


def test_sizes_are_read_and_shown() -> None:
    assert [parse_size(t) for t in ("16GB", "1.5 GiB", "900mb", "12")] == [16 * 10**9, 3 << 29, 900 * 10**6, 12]
    assert [shown(n) for n in (12, 1500, 2.5e6, 3e9)] == ["12 B", "1.5 kB", "2.5 MB", "3.0 GB"]


def test_a_machine_without_a_gpu_is_told(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    result = run("plan", tiny_path, "--device", "cuda")
    assert result.exit_code == 1 and "ZL0134" in result.output and "--memory" in result.output


# --- profile
def test_a_profile_has_every_launch_and_a_trace_that_viewers_open(tiny_path: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    result = run("profile", tiny_path, "--prompt-tokens", 20, "--json", "--trace", trace)
    assert result.exit_code == 0, result.output
    passes = json.loads(result.stdout)["passes"]
    assert [p["name"] for p in passes] == ["prefill of 20 tokens", "decode step at context 27"]
    for one in passes:
        kernels = {k["kernel"]: k for k in one["kernels"]}
        assert {"rms_norm", "rope", "kv_append"} <= kernels.keys()
        assert sum(k["share"] for k in kernels.values()) == pytest.approx(1)
        assert all(k["bytes"] > 0 and k["seconds"] > 0 for k in kernels.values())
    events = json.loads(trace.read_text())["traceEvents"]
    slices = [e for e in events if e["ph"] == "X" and e["cat"] == "kernel"]
    assert len(slices) == sum(k["launches"] for one in passes for k in one["kernels"])
    for track in {e["tid"] for e in slices}:
        mine = [e for e in slices if e["tid"] == track]
        assert all(a["ts"] + a["dur"] <= b["ts"] + 1e-6 for a, b in pairwise(mine))
    assert {e["args"]["name"] for e in events if e["name"] == "thread_name"} == {p["name"] for p in passes}


def test_a_profile_counts_the_bytes_of_weights_once(tiny_path: Path) -> None:
    passes = json.loads(run("profile", tiny_path, "--prompt-tokens", 4, "--json").stdout)["passes"]
    moved = sum(k["bytes"] for k in passes[1]["kernels"])
    weights = footprint.footprint(tiny_path).weights
    assert weights * 0.8 < moved < weights * 1.6


def test_a_trace_without_a_folder_is_told_before_anything_runs(tiny_path: Path, tmp_path: Path) -> None:
    result = run("profile", tiny_path, "--trace", tmp_path / "nowhere" / "trace.json")
    assert result.exit_code == 1 and "error[ZL0134]" in result.output


# --- bench
@pytest.fixture
def bandwidth(monkeypatch: pytest.MonkeyPatch) -> float:
    from zellige.cli import bench

    monkeypatch.setattr(bench, "read_bandwidth", lambda: 1e9)
    return 1e9


def test_a_bench_has_a_row_for_each_length_and_batch(tiny_path: Path, bandwidth: float) -> None:
    options = ("--batches", "1,3", "--prefill", "8", "--prompt-tokens", 6, "--output-tokens", 4, "--repeats", 1)
    result = run("bench", "llm", tiny_path, *options, "--json")
    assert result.exit_code == 0, result.output
    made = json.loads(result.stdout)
    rows = made["rows"]
    assert made["complete"]
    assert [(r["what"], r["batch"], r["prompt_tokens"]) for r in rows] == [
        ("prefill", 1, 8),
        ("decode", 1, 6),
        ("decode", 3, 6),
    ]
    assert all(r["tok_s"] > 0 and r["first_token_ms"] > 0 for r in rows)
    step = made["weights_bytes"] + 8 * made["kv_bytes_per_token"]
    assert rows[1]["roofline_tok_s"] <= bandwidth / step * 1.5
    assert rows[1]["roofline_share"] == pytest.approx(rows[1]["tok_s"] / rows[1]["roofline_tok_s"])
    text = run("bench", "llm", tiny_path, *options).output
    assert "1.0 GB/s read from memory" in text and "roofline" in text


def test_a_bench_measures_the_types_that_are_asked_for(tiny_path: Path, bandwidth: float) -> None:
    options = ("--batches", 1, "--prefill", 4, "--prompt-tokens", 4, "--output-tokens", 2, "--repeats", 1, "--json")
    whole = json.loads(run("bench", "llm", tiny_path, *options).stdout)
    half = json.loads(run("bench", "llm", tiny_path, *options, "--dtype", "bf16", "--kv-dtype", "fp8").stdout)
    assert half["weights_bytes"] * 2 == whole["weights_bytes"]
    assert half["kv_bytes_per_token"] * 2 == whole["kv_bytes_per_token"]
    assert "error[ZL0701]" in run("bench", "llm", tiny_path, "--dtype", "int3").output


@pytest.mark.parametrize("as_json", [False, True])
def test_an_interrupted_bench_keeps_what_it_measured(
    tiny_path: Path, bandwidth: float, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    def interrupted(*sizes: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(measuring.Bench, "decode", interrupted)
    result = run("bench", "llm", tiny_path, "--prefill", "8,9", "--repeats", 1, *(["--json"] if as_json else []))
    assert result.exit_code != 0
    if as_json:
        made = json.loads(result.stdout)
        assert not made["complete"] and [r["prompt_tokens"] for r in made["rows"]] == [8, 9]
    else:
        assert [line.split()[2] for line in result.stdout.splitlines() if line.startswith("prefill")] == ["8", "9"]


def test_the_bandwidth_kernel_is_proved_and_reads_everything() -> None:
    import numpy as np

    x = np.random.default_rng(0).integers(0, 5, (3, 2500)).astype(np.float32)
    assert np.array_equal(measuring.row_sums(x).numpy(), x.sum(1))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--batches", "a"),
        ("--prefill", "0"),
        ("--bandwidth", "-1"),
        ("--bandwidth", "inf"),
        ("--batches", "1,-2"),
        ("--batches", "", "--prefill", ""),
        ("--batches", "1,257"),
    ],
)
def test_mistakes_in_a_bench_are_told(tiny_path: Path, arguments: tuple[str, ...]) -> None:
    result = run("bench", "llm", tiny_path, *arguments)
    assert result.exit_code == 1 and "error[ZL0134]" in result.output


def test_random_weights_need_the_name_of_a_known_size() -> None:
    assert "error[ZL0134]" in run("bench", "llm", "--dummy").output
    assert "error[ZL0604]" in run("bench", "llm", "nothing", "--dummy").output


def test_a_size_that_is_none_raises() -> None:
    with pytest.raises(ZelligeError):
        parse_size("")


@pytest.mark.parametrize(
    "command", [("show",), ("draw",), ("plan",), ("profile",), ("bench",), ("bench", "cpu"), ("bench", "llm")]
)
def test_help_has_examples(command: tuple[str, ...]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0 and "Examples:" in result.output and f"zellige {' '.join(command)}" in result.output


# --- tune
def test_tuning_keeps_the_fastest_tile_of_each_size_and_later_runs_use_it(tiny_path, tmp_path, monkeypatch) -> None:
    from zellige.cli import tune
    from zellige.runtime import cpu_tuned

    monkeypatch.setenv("ZELLIGE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tune, "TOKENS", (8,))
    cpu_tuned.measured.cache_clear()
    try:
        report = json.loads(run("tune", tiny_path, "--json").stdout)
        assert report["entries"] and not report["stopped"]
        assert {e["kernel"] for e in report["entries"]} == {"linear_matrix"}
        for entry in report["entries"]:
            assert cpu_tuned.statics(entry["kernel"], entry["dims"]) == entry["statics"]
    finally:
        cpu_tuned.measured.cache_clear()


def test_tuning_that_is_interrupted_keeps_what_it_found(tiny_path, tmp_path, monkeypatch) -> None:
    from zellige.cli import tune
    from zellige.runtime import cpu_tuned

    monkeypatch.setenv("ZELLIGE_CACHE_DIR", str(tmp_path))
    cpu_tuned.measured.cache_clear()
    seen = []

    def measured(case):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(case)
        return {"kernel": case.kernel.name, "dims": case.dims, "statics": case.statics, "us": 2.0 - len(seen)}

    monkeypatch.setattr(tune, "measured", measured)
    try:
        result = run("tune", tiny_path, "--json")
        assert result.exit_code == 130
        assert json.loads(result.stdout)["stopped"] is True
        assert cpu_tuned.statics(seen[1].kernel.name, seen[1].dims) == seen[1].statics
    finally:
        cpu_tuned.measured.cache_clear()
