"""A run on a device that is not there meets every pass of the real one, and what it leaves behind is all that one needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.llm.test_fused_runner import CONFIG, steps

from zellige.llm.engine import Engine
from zellige.llm.fused_runner import FusedRunner
from zellige.llm.requests import GenerateRequest
from zellige.llm.sampling import SamplingParams
from zellige.runtime.cpu import CpuExecutor
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.execution import Executor, executor_named


class NotCompiling(CudaExecutor):
    """A GPU that is not there, of which only the passes are of interest."""

    def _ready(self, *args: Any, **kwargs: Any) -> None:
        return None


def met(executor: Executor, requests: list[GenerateRequest]) -> tuple[set[Any], set[Any], set[Any]]:
    """The decode passes, the prefill passes and the draws of a run of all requests together."""
    runner = FusedRunner(None, CONFIG, num_pages=40, page_size=8, max_context=128, executor=executor)
    engine = Engine(runner, None, max_sequences=12, max_step_tokens=64)
    for request in requests:
        engine.submit(request)
    for _ in steps(engine):
        pass
    draws = {
        (key, graph)
        for passes in (runner._decodes, runner._prefills)
        for key, todo in passes.items()  # type: ignore[attr-defined]
        for graph in todo.draws._graphs
    }
    return set(runner._decodes), set(runner._prefills), draws


def requests(sampling: dict[str, Any]) -> list[GenerateRequest]:
    """Long prompts that are cut, short ones, ones with a common beginning; more than fit at once."""
    rng = np.random.default_rng(3)
    common = rng.integers(0, 199, 20).tolist()
    prompts = [rng.integers(0, 199, n).tolist() for n in (100, 1, 70, 5, 33)]
    prompts += [common + rng.integers(0, 199, n).tolist() for n in (3, 9, 14)]
    prompts += [rng.integers(0, 199, 12).tolist() for _ in range(8)]
    params = [SamplingParams(max_tokens=3 + i % 7, ignore_eos=True, **sampling) for i in range(len(prompts))]
    return [GenerateRequest(tuple(p), each) for p, each in zip(prompts, params, strict=True)]


@pytest.mark.parametrize("sampling", [{"temperature": 0.0}, {"top_p": 0.9, "logprobs": True, "frequency_penalty": 0.5}])
def test_a_dry_run_meets_the_passes_of_a_real_one(sampling: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = requests(sampling)
    real = met(executor_named("cpu"), asked)
    assert len(real[0]) > 1 and len(real[1]) > 2, "the run is too simple to tell"
    monkeypatch.delattr(CpuExecutor, "default")  # who runs on a GPU needs nothing of the CPU's
    assert met(NotCompiling(None, "sm_90"), asked) == real


SCRIPT = """
import sys
from tests.llm.test_dry_run import CONFIG, Engine, FusedRunner, GenerateRequest, SamplingParams, steps
from zellige.runtime.cuda.executor import CudaExecutor
if sys.argv[1] == "without":
    sys.modules["z3"] = None
executor = CudaExecutor(None, "sm_90")
runner = FusedRunner(None, CONFIG, num_pages=8, page_size=8, max_context=32, executor=executor)
engine = Engine(runner, None)
engine.submit(GenerateRequest((5,), SamplingParams(max_tokens=3, temperature=0.0, ignore_eos=True)))
print(sum(1 for _ in steps(engine)), "events")
"""


def test_what_a_dry_run_leaves_serves_where_there_is_no_solver(tmp_path: Path) -> None:
    def run(solver: str, cache: str) -> subprocess.CompletedProcess[str]:
        root = Path(__file__).parents[2]
        variables = {**os.environ, "ZELLIGE_CACHE_DIR": str(tmp_path / cache), "PYTHONPATH": f"{root / 'src'}:{root}"}
        return subprocess.run([sys.executable, "-c", SCRIPT, solver], env=variables, capture_output=True, text=True)

    assert "4 events" in run("with", "cache").stdout
    assert "4 events" in run("without", "cache").stdout
    assert "import of z3 halted" in (refused := run("without", "empty")).stderr and refused.returncode
