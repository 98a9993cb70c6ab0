"""Runs forward passes of a model with verified kernels on the CPU: the `Runner` of `protocol.py`.

Recorded graphs do the work: for single tokens of several sequences (decode), and for a chunk of tokens of one sequence
(prefill), each in a few sizes with a schedule that suits. A graph is recorded at its largest size when first needed, and
resized afterwards; a step crosses Python a handful of times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from zellige import i32
from zellige.ir.dtypes import ALL
from zellige.ir.types import ContractKind
from zellige.kernels.embedding import take_rows
from zellige.kernels.sampling import argmax, log_probability
from zellige.llm.draw import Draws, Sampler
from zellige.llm.models.packed import Cache, Inputs, PackedDecoder, Rotary, Schedule, Workspace, schedule_for
from zellige.llm.page_copier import PageCopier
from zellige.llm.protocol import Float32Array, Int32Array, StepBatch, StepResult
from zellige.llm.weights.config import ModelConfig
from zellige.llm.weights.finite import not_finite
from zellige.llm.weights.model_file import ModelFile
from zellige.runtime.contracts import Fact
from zellige.runtime.execution import executor_named
from zellige.runtime.graph import Graph, record
from zellige.runtime.tensor import Tensor, borrow, zeros

CHUNK = 512
"""Most tokens of one prefill pass."""
ROWS = 16
"""Most sequences of one decode pass."""
_SHORT = 16
"""Prompts up to this length share one recorded pass."""
SCORE_ROWS = 32
"""Rows of logits at a time in score mode."""


@dataclass(slots=True)
class _Pass:
    """A recorded forward pass and the tensors it reads and writes; ``rows`` most tokens (or sequences)."""

    graph: Graph
    inputs: Inputs
    hidden: Tensor
    rows: int
    placed: tuple[int, int] = (0, 0)
    tabled: tuple[Int32Array, bytes] | None = None
    """The block table of which `inputs.table` holds rows, and which rows."""

    def set_table(self, source: Int32Array, which: np.ndarray) -> None:
        """Writes rows ``which`` of a block table, unless they were written last; a step's table is the last one's if nothing changed."""
        rows = which.tobytes()
        if self.tabled is not None and self.tabled[0] is source and self.tabled[1] == rows:
            return
        table = np.zeros(self.inputs.table.shape, np.int32)
        table[: len(which), : source.shape[1]] = source[which]
        self.inputs.table.write(table)
        self.tabled = source, rows

    def place(self, tokens: int, start: int) -> None:
        """Makes a pass over a chunk work on ``tokens`` tokens, the first at position ``start``."""
        if self.placed == (tokens, start):
            return
        if self.placed[0] != tokens:
            self.graph.set_scalars("attention_prefill", start=0)  # start + tokens must fit at all times
            self.graph.resize(T=tokens)
        self.graph.set_scalars("attention_prefill", start=start)
        self.placed = tokens, start


@dataclass(slots=True)
class _Head:
    """Recorded logits of some rows of a hidden state, and the likeliest token of each."""

    graph: Graph
    picked: Tensor
    logits: Tensor
    likeliest: Tensor


class KernelRunner:
    """Runs one model; see `protocol.Runner`."""

    lookahead = False
    least_tail = 1
    lanes = 1 << 30  # none of its own: tokens come with each step

    def __init__(
        self,
        model: ModelFile,
        config: ModelConfig,
        *,
        num_pages: int,
        page_size: int,
        max_context: int,
    ) -> None:
        self.page_size, self.num_pages = page_size, num_pages
        self.vocab_size, self.max_context = config.vocab_size, max_context
        self._pages = -(-max_context // page_size)
        self._file = model
        tensors = {name: weight_tensor(weight) for name, weight in model.tensors.items()}
        factors = tensors.get("rope_freqs.weight")
        rotary = Rotary.table(config, max_context, None if factors is None else factors.numpy())
        cache = [Cache.of(config, num_pages, page_size) for _ in range(config.layers)]
        self._model = PackedDecoder(config, tensors.__getitem__, rotary, cache)
        self._copier = PageCopier(executor_named("cpu"), [held for c in cache for held in (c.keys, c.values)])
        self._decode: dict[int, _Pass] = {}
        self._prefill: dict[int, _Pass] = {}
        self._heads: dict[Any, _Head] = {}
        self._sampler = Sampler(executor_named("cpu"), config.vocab_size)
        self._draws: dict[int, Draws] = {}

    # --- recorded passes
    def _inputs(self, rows: int, *, own_tables: bool) -> Inputs:
        """Input tensors whose contracts hold of their first contents, so that later writes are checked against them."""
        position = _contracted((rows,), ContractKind.INDEX, self.max_context)
        slot = _contracted((rows,), ContractKind.INDEX, self.num_pages * self.page_size, distinct=True, optional=True)
        ids = _contracted((rows,), ContractKind.INDEX, self.vocab_size)
        shape = (rows, self._pages) if own_tables else (self._pages,)
        table = _contracted(shape, ContractKind.INDEX, self.num_pages)
        length = _contracted((rows,), ContractKind.UP_TO, self._pages * self.page_size) if own_tables else None
        return Inputs(ids, position, slot, table, length)

    def _record(self, rows: int, schedule: Schedule, *, own_tables: bool) -> _Pass:
        inputs = self._inputs(rows, own_tables=own_tables)
        room = Workspace.of(self._model.config, rows, sequences=own_tables)
        with record() as graph:
            self._model.forward(inputs, schedule, room)
        return _Pass(graph.fused(room.temporaries()), inputs, room.hidden, rows)

    def _decode_pass(self, sequences: int) -> _Pass:
        schedule = schedule_for(sequences)
        rows = schedule.rows or ROWS
        if rows not in self._decode:
            self._decode[rows] = self._record(rows, schedule, own_tables=True)
        return self._decode[rows]

    def _prefill_pass(self, tokens: int) -> _Pass:
        """The pass for a chunk: short prompts have one of their own, whose tiles are not mostly empty."""
        schedule = schedule_for(max(tokens, _SHORT))
        rows = min(schedule.rows or CHUNK, self.max_context)
        if rows not in self._prefill:
            self._prefill[rows] = self._record(rows, schedule, own_tables=False)
        return self._prefill[rows]

    def _head(self, source: _Pass, rows: int) -> _Head:
        """The recorded head over ``rows`` rows picked from the hidden state of ``source``."""
        schedule = schedule_for(rows)
        most = schedule.rows or max(ROWS, SCORE_ROWS)
        key = (id(source), most)
        if key not in self._heads:
            picked = _contracted((most,), ContractKind.INDEX, source.rows)
            with record() as graph:
                chosen = take_rows(source.hidden, picked)
                logits = self._model.logits(chosen, schedule)
                likeliest = argmax(logits)
            self._heads[key] = _Head(graph, picked, logits, likeliest)
        return self._heads[key]

    # --- one step
    def start(self, batch: StepBatch) -> Callable[[], StepResult]:
        """One forward pass; results are there when it returns."""
        self._copier.copy(batch.copies)
        tokens = np.full(batch.sequences, -1, np.int32)
        logprobs = np.full(batch.sequences, np.nan, np.float32)
        row_logprobs = row_argmax = None
        if batch.targets is not None:
            row_logprobs, row_argmax = np.full(batch.tokens, np.nan, np.float32), np.zeros(batch.tokens, np.int32)
        sizes = np.diff(batch.offsets)
        singles = np.flatnonzero(sizes == 1)
        for first in range(0, len(singles), ROWS):
            self._run_singles(batch, singles[first : first + ROWS], tokens, logprobs, row_logprobs, row_argmax)
        for b in np.flatnonzero(sizes > 1):
            self._run_chunk(batch, int(b), tokens, logprobs, row_logprobs, row_argmax)
        result = StepResult(tokens, logprobs, row_logprobs, row_argmax)
        return lambda: result

    def _run_singles(
        self,
        batch: StepBatch,
        which: np.ndarray,
        tokens: Int32Array,
        logprobs: Float32Array,
        row_logprobs: Float32Array | None,
        row_argmax: Int32Array | None,
    ) -> None:
        """Sequences that have one token in this step, together."""
        count = len(which)
        todo = self._decode_pass(count)
        rows = batch.offsets[which]
        todo.graph.resize(T=count, B=count)
        inputs = todo.inputs
        _fill(inputs.ids, batch.token_ids[rows])
        _fill(inputs.position, batch.positions[rows])
        _fill(inputs.slot, batch.slots[rows], rest=-1)
        assert inputs.length is not None
        _fill(inputs.length, batch.context_lengths[which])
        todo.set_table(batch.block_table, which)
        todo.graph.replay()
        wanted = [int(b) for b in which if batch.sample[b] is not None]
        if wanted:
            places = np.asarray([i for i, b in enumerate(which) if batch.sample[b] is not None], np.int32)
            self._draw(todo, places, batch, wanted, tokens, logprobs)
        if row_logprobs is not None and row_argmax is not None and batch.targets is not None:
            self._score(todo, count, rows, batch.targets, row_logprobs, row_argmax)

    def _run_chunk(
        self,
        batch: StepBatch,
        b: int,
        tokens: Int32Array,
        logprobs: Float32Array,
        row_logprobs: Float32Array | None,
        row_argmax: Int32Array | None,
    ) -> None:
        """Several tokens of one sequence, in passes of at most CHUNK."""
        todo = self._prefill_pass(int(batch.offsets[b + 1] - batch.offsets[b]))
        inputs = todo.inputs
        table = np.zeros(inputs.table.shape, np.int32)
        table[: batch.block_table.shape[1]] = batch.block_table[b]
        inputs.table.write(table)
        begin, end = int(batch.offsets[b]), int(batch.offsets[b + 1])
        for first in range(begin, end, todo.rows):
            rows = np.arange(first, min(first + todo.rows, end))
            count = len(rows)
            todo.place(count, int(batch.positions[first]))
            _fill(inputs.ids, batch.token_ids[rows])
            _fill(inputs.position, batch.positions[rows])
            _fill(inputs.slot, batch.slots[rows], rest=-1)
            todo.graph.replay()
            if row_logprobs is not None and row_argmax is not None and batch.targets is not None:
                self._score(todo, count, rows, batch.targets, row_logprobs, row_argmax)
        if batch.sample[b] is not None:
            self._draw(todo, np.asarray([count - 1], np.int32), batch, [b], tokens, logprobs)

    # --- from hidden state to tokens
    def _run_head(self, source: _Pass, places: Int32Array) -> _Head:
        head = self._head(source, len(places))
        head.graph.resize(T=len(places), B=len(places))
        _fill(head.picked, places)
        head.graph.replay()
        return head

    def _draw(
        self,
        source: _Pass,
        places: Int32Array,
        batch: StepBatch,
        sequences: list[int],
        tokens: Int32Array,
        logprobs: Float32Array,
    ) -> None:
        """One token for each row of ``places``, which belong to ``sequences`` of the batch."""
        rows = len(places)
        head = self._run_head(source, places)
        values = head.logits.numpy()[:rows]
        if np.isnan(values.max(axis=1)).any():
            raise not_finite(self._file)
        specs = [batch.sample[b] for b in sequences]
        if all(spec is None or spec.greedy for spec in specs):
            tokens[sequences] = head.likeliest.numpy()[:rows]
            return
        logits = borrow(values)
        if rows not in self._draws:
            self._draws[rows] = Draws(self._sampler, rows, recorded=False)
        drawn = zeros((rows,), i32)
        histories = {i: batch.histories[b] for i, b in enumerate(sequences) if b in batch.histories}
        found = self._draws[rows].draw(
            logits, borrow(batch.context_lengths[sequences]), drawn, specs, batch.lanes[sequences], histories
        )
        tokens[sequences] = drawn.numpy()
        if found is not None:
            wanted = [spec is not None and spec.want_logprob for spec in specs]
            logprobs[sequences] = np.where(wanted, found.numpy(), np.float32(np.nan))

    def _score(
        self,
        source: _Pass,
        count: int,
        rows: np.ndarray,
        targets: Int32Array,
        row_logprobs: Float32Array,
        row_argmax: Int32Array,
    ) -> None:
        """Log-probabilities of the given next tokens after each row."""
        for first in range(0, count, SCORE_ROWS):
            places = np.arange(first, min(first + SCORE_ROWS, count), dtype=np.int32)
            logits = borrow(self._run_head(source, places).logits.numpy()[: len(places)])
            wanted = targets[rows[places]]
            found, best = log_probability(logits, wanted)
            row_logprobs[rows[places]] = np.where(wanted >= 0, found.numpy(), np.nan)
            row_argmax[rows[places]] = best.numpy()


def weight_tensor(weight: Any) -> Tensor:
    """A weight of the model file over its mapped bytes; vectors (norms, biases) as f32, which the kernels take."""
    if weight.kind in ALL:
        return borrow(weight.data, ALL[weight.kind], weight.shape)
    import ml_dtypes

    kinds = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
    values = weight.data.view(kinds[weight.kind]).reshape(weight.shape)
    return borrow(values.astype(np.float32) if values.ndim == 1 else values)


def _contracted(shape: tuple[int, ...], kind: ContractKind, bound: int, **flags: bool) -> Tensor:
    """An i32 tensor that keeps a contract from the start: every later write to it is checked."""
    made = zeros(shape, i32)
    if flags.get("optional"):
        made.write(np.full(shape, -1, np.int32))
    made.learn(Fact(kind, bound, **flags))
    return made


def _fill(tensor: Tensor, values: np.ndarray, rest: int = 0) -> None:
    """Writes the first elements of a vector, and ``rest`` behind them."""
    whole = np.full(tensor.shape, rest, np.int32)
    whole[: len(values)] = values
    tensor.write(whole)
