"""The pass over packed weights is written in plain kernels; the recorded pass is what the compiler makes of it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from tests.llm.tiny_model import write_tiny_gguf

from zellige.llm.models.packed import Workspace, schedule_for
from zellige.llm.runner import KernelRunner
from zellige.llm.weights.model_file import open_model
from zellige.runtime.graph import Graph, record


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    path = write_tiny_gguf(tmp_path_factory.mktemp("fused") / "tiny.gguf")
    model = open_model(path)
    return KernelRunner(model, model.config, num_pages=16, page_size=4, max_context=32)


def names(graph: Graph) -> Counter[str]:
    return Counter(step.launch.instance.function.name for step in graph._steps)


@pytest.mark.parametrize("tokens", [1, 8, 16])
def test_a_recorded_pass_has_no_launch_for_residuals_and_gates_and_the_bits_of_the_plain_one(runner, tokens):
    schedule = schedule_for(tokens)
    rows = schedule.rows or tokens
    inputs = runner._inputs(rows, own_tables=True)
    room = Workspace.of(runner._model.config, rows, sequences=True)
    with record() as plain:
        runner._model.forward(inputs, schedule, room)
    fused = plain.fused(room.temporaries())
    layers, found = runner._model.config.layers, names(fused)
    assert not {"add", "silu_mul"} & found.keys() and len(fused) <= len(plain) - 4 * layers
    assert found[f"{schedule.linear.name}_then_add"] == 2 * layers
    assert sum(count for name, count in found.items() if name.endswith("_then_silu_mul")) == layers
    results = []
    for graph in (plain, fused):
        for cache in runner._model.cache:
            cache.keys.write(np.zeros(cache.keys.shape, np.float16))
            cache.values.write(np.zeros(cache.values.shape, np.float16))
        inputs.ids.write(np.arange(rows, dtype=np.int32) + 3)
        inputs.slot.write(np.arange(rows, dtype=np.int32) * 4)
        inputs.table.write(np.broadcast_to(np.arange(rows, dtype=np.int32)[:, None] % 16, inputs.table.shape).copy())
        inputs.length.write(np.ones(rows, np.int32))
        graph.replay()
        results.append(room.hidden.numpy().copy())
    assert np.isfinite(results[0]).all() and np.ptp(results[0]) > 0
    np.testing.assert_array_equal(results[1], results[0])
