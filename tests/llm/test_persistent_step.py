"""The decode step as one kernel: what is recorded, without a GPU; and where the option does not apply."""

from __future__ import annotations

from typing import Any

import pytest
from tests.llm.test_invariant import CONFIG

from zellige.diagnostics import ZelligeError
from zellige.llm import LLM
from zellige.llm.fused_runner import FusedRunner
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.cuda.sequence import SequenceExecutor, SequenceRecording, make_plan


class Planner(SequenceExecutor):
    """Records and plans; compiles nothing."""

    def finish(self, recording: SequenceRecording) -> None:
        recording.plan = make_plan(recording.launches, self.form)


class Compiler(CudaExecutor):
    def persistent(self) -> SequenceExecutor:
        return Planner(self)


@pytest.mark.parametrize("batch", [1, 8])
def test_a_step_is_one_chain_of_launches_over_few_kernels(batch: int) -> None:
    runner = FusedRunner(
        None, CONFIG, num_pages=8, page_size=8, max_context=64, executor=Compiler(None, "sm_90"), step="persistent"
    )
    graph: Any = runner.decode_pass(batch, 64).graph
    plan = graph._recording.plan
    assert len(plan.launches) == len(graph)
    assert len(plan.bodies) < len(plan.launches), "layers share their kernels"
    assert plan.waits[0] == () and all(plan.waits[1:]), "each launch of a step waits for one before it"
    assert all(max(own) < j for j, own in enumerate(plan.waits) if own)


@pytest.mark.parametrize("more", [{}, {"device": "cuda", "batch_invariant": True}, {"device": "cuda", "step": "graph"}])
def test_where_it_does_not_apply_it_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ZelligeError, match="step") as caught:
        LLM("Qwen3-0.6B", load_format="dummy", **{"step": "persistent", **more})
    assert caught.value.code == "ZL0701"
