"""In batch-invariant mode every sum of a kernel has one order, whatever the number of tokens: seen in what the compiler makes of it.

How lanes and warps share an axis decides the order in which it is summed. Products and maxima are not looked at: the order of a
product is that of its loop, and a maximum has none.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import triton
from tests.llm.test_fused_runner import steps

from zellige.llm.engine import Engine
from zellige.llm.fused_runner import FusedRunner
from zellige.llm.models.invariant import SCHEDULES
from zellige.llm.requests import GenerateRequest
from zellige.llm.sampling import SamplingParams
from zellige.llm.weights.known import known_config
from zellige.runtime.cuda import executor as cuda
from zellige.runtime.cuda import tuned
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.schedules import Schedules

REDUCE = re.compile(
    r'"tt\.reduce"\(.*?\) <\{axis = (\d+) : i32.*?\}> \(\{(.*?)\}\) : \(tensor<([^>]*?(?:<\{.*?\}>)?)>\) ->', re.S
)
BLOCKED = re.compile(r"sizePerThread = \[(.*?)\], threadsPerWarp = \[(.*?)\], warpsPerCTA = \[(.*?)\]")
Order = tuple[str, ...]
ALIKE = (
    ("norm_rows_kernel", "sum_parts_norm_kernel"),
    ("norm_turned_kernel", "sum_parts_norm_turned_kernel"),
    ("paged_decode_folded_kernel", "paged_decode_tiles_kernel", "paged_prefill_folded_kernel"),
)
"""Kernels that do the same for different numbers of tokens."""


class Compiling(CudaExecutor):
    """A GPU that is not there, for which all is compiled, whatever was before."""

    def __init__(self) -> None:
        super().__init__(None, "sm_90", schedules=SCHEDULES)
        self.seen: set[int] = set()

    def _scheduled(self, launch: Any, earlier: Any) -> Any:
        if id(launch.instance) not in self.seen:
            self.seen.add(id(launch.instance))
            launch.instance.compiled.clear()
        return super()._scheduled(launch, earlier)


def orders_of(text: str) -> Order:
    """How each sum of a compiled kernel is shared: of blocked tiles what one thread, a warp and the program take along the axis."""
    layouts = dict(re.findall(r"^(#\w+) = (.*)$", text, re.M))
    found = []
    for axis, body, type_ in REDUCE.findall(text):
        if "arith.addf" not in body or "arith.cmp" in body or "arith.max" in body:
            continue
        shape, layout = type_.split("xf32, ", 1)
        layout = re.sub(r"#\w+$|#\w+(?=\W)", lambda name: layouts.get(name[0], name[0]), layout)
        blocked = BLOCKED.search(layout) if not layout.startswith("#ttg.slice") else None
        along = [each.split(", ")[int(axis)] for each in blocked.groups()] if blocked else [layout]
        found.append(" ".join([shape.split("x")[int(axis)], *along]))
    return tuple(found)


def orders(
    monkeypatch: pytest.MonkeyPatch, model: str, dtype: Any, entries: Mapping[str, Any] | None = None
) -> dict[str, list[Order]]:
    """By kernel, the orders of the sums of all that passes of 1 to 256 tokens compile."""
    made: dict[str, list[Order]] = defaultdict(list)
    real, compile_ = triton.compile, cuda.compile

    def spy(source: Any, **how: Any) -> Any:
        compiled = real(source, **how)
        if found := orders_of(compiled.asm["ttgir"]):
            made[source.fn.__name__].append(found)
        return compiled

    monkeypatch.setattr(triton, "compile", spy)
    monkeypatch.setattr(cuda, "compile", lambda *given: compile_(*given[:4], None))
    if entries:
        held = tuned._tables()
        mixed = {**held, SCHEDULES: Schedules(SCHEDULES, {**held[SCHEDULES].entries, **entries})}
        monkeypatch.setattr(tuned, "_tables", lambda: mixed)
    config = replace(known_config(model), layers=1, vocab_size=512)
    runner = FusedRunner(
        None, config, num_pages=64, page_size=16, max_context=512, executor=Compiling(), dtype=dtype, invariant=True
    )
    rng = np.random.default_rng(1)
    for count, length in ((1, 3), (3, 20), (9, 40), (1, 200)):
        engine = Engine(runner, None, max_sequences=16, max_step_tokens=256)
        for _ in range(count):
            prompt = tuple(rng.integers(0, 500, length).tolist())
            engine.submit(GenerateRequest(prompt, SamplingParams(max_tokens=2, temperature=0.0, ignore_eos=True)))
        for _ in steps(engine):
            pass
    return made


@pytest.mark.parametrize(("model", "dtype"), [("Qwen3-0.6B", "bf16"), ("Qwen3-0.6B", "fp8"), ("Qwen3-30B-A3B", "bf16")])
def test_sums_have_one_order(model: str, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = orders(monkeypatch, model, dtype)
    assert {name: found for name, found in made.items() if len(set(found)) > 1} == {}
    for names in ALIKE:
        assert len({frozenset(found) for name in names for found in made[name]}) <= 1, names
    assert len(made["head_norm_rope_rows_kernel"]) > 2, "the run is too simple to tell"


def test_another_order_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """One warp for one token as for four: in a run on a GPU, 37 answers of 40 had other bits than alone."""
    entries = json.loads("""[
        {"kernel": "head_norm_rope_rows", "dims": {"T": 1}, "statics": {"BT": 1}, "options": {"num_warps": 1}},
        {"kernel": "head_norm_rope_rows", "dims": {"T": 8}, "statics": {"BT": 4}, "options": {"num_warps": 1}}]""")
    made = orders(monkeypatch, "Qwen3-0.6B", "bf16", {"head_norm_rope_rows": entries})
    assert len(set(made["head_norm_rope_rows_kernel"])) == 2
