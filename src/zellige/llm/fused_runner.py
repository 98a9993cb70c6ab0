"""Runs forward passes in bf16 with fused kernels, on a GPU or (where it is tested) the CPU: a `Runner`.

Decode steps are graphs, one for each size of batch that occurs (rounded up), replayed with tokens fed back on the device.
Prefill passes are graphs as well, one for each shape (`packing.Shape`); each holds the prompts of as many sequences as fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np

from zellige.ir.dtypes import bf16, f32, i32
from zellige.ir.types import ContractKind
from zellige.kernels.sampling import log_probability
from zellige.llm import packing
from zellige.llm.draw import draw
from zellige.llm.models.fused import Caches, DecodeInputs, PrefillInputs, Weights, decode_step, prefill_step
from zellige.llm.models.loading import Loader, random_weight
from zellige.llm.models.products import MOST_WITH_EXPERTS
from zellige.llm.protocol import Float32Array, Int32Array, SampleSpec, StepBatch, StepResult
from zellige.llm.weights.config import ModelConfig
from zellige.llm.weights.model_file import ModelFile
from zellige.runtime.contracts import Fact
from zellige.runtime.execution import Executor, using
from zellige.runtime.graph import Graph, record
from zellige.runtime.tensor import Tensor

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Sizes of recorded decode steps."""
SCORED = 128
"""Most tokens of a pass whose every row gets logits."""


@dataclass(slots=True)
class _Decode:
    """A recorded decode step."""

    graph: Graph
    inputs: DecodeInputs
    logits: Tensor
    table: Int32Array
    """What the device's block table holds."""


@dataclass(slots=True)
class _Rows:
    """The inputs of a decode step on the host, padded to the size of its graph; ``count`` sequences are real."""

    count: int
    ids: Int32Array
    position: Int32Array
    slot: Int32Array
    length: Int32Array
    table: Int32Array

    def equal(self, other: _Rows) -> bool:
        """Whether both ask for the same step."""
        return self.count == other.count and all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("ids", "position", "slot", "length", "table")
        )

    def following(self, page_size: int) -> _Rows | None:
        """The next step if every sequence goes on, its tokens not known yet; None if one needs another page for that."""
        n = self.count
        if np.any((self.position[:n] + 1) % page_size == 0) or np.any(self.slot[:n] < 0):
            return None
        grow = np.zeros_like(self.position)
        grow[:n] = 1
        return _Rows(n, np.zeros_like(self.ids), self.position + grow, self.slot + grow, self.length + grow, self.table)


@dataclass(slots=True)
class _Ahead:
    """A decode step that runs on a guess."""

    todo: _Decode
    rows: _Rows
    arriving: Callable[[], Any]


@dataclass(slots=True)
class _Prefill:
    """A recorded prefill pass."""

    graph: Graph
    inputs: PrefillInputs
    logits: Tensor


class FusedRunner:
    """Runs one model on the device of `executor`; see `protocol.Runner`. With no `model` the weights are random.

    Errors: ZL0506 (memory)."""

    def __init__(
        self,
        model: ModelFile | None,
        config: ModelConfig,
        *,
        num_pages: int,
        page_size: int,
        max_context: int,
        executor: Executor,
        overlap: bool = True,
        progress: Callable[[int, int | None], None] = lambda done, total: None,
    ) -> None:
        self.page_size, self.num_pages = page_size, num_pages
        self.vocab_size, self.max_context = config.vocab_size, max_context
        self.config = config
        self.executor = executor
        self._pages = -(-(max_context + 1) // page_size)  # a step ahead may look one position too far
        with using(self.executor):
            if model is None:
                self.weights = Weights.made(config, partial(random_weight, self.executor))
                factors = None
            else:
                loader = Loader(model, self.executor, progress)
                self.weights = Weights.made(config, loader.weight)
                factors = loader.rope_factors()
            self._cache = self._new_cache(factors)
        self._decodes: dict[int, _Decode] = {}
        self._prefills: dict[packing.Shape, _Prefill] = {}
        self._buffers: dict[str, Tensor] = {}
        self._ahead: _Ahead | None = None
        self.overlap = overlap

    def _new_cache(self, factors: Float32Array | None) -> Caches:
        c, make = self.config, self.executor
        shape = (self.num_pages, self.page_size, c.kv_heads, c.head_dim)
        angles = np.arange(self._pages * self.page_size)[:, None] * c.inverse_frequencies(factors)[None, :]
        keys, values = (tuple(make.zeros(shape, bf16) for _ in range(c.layers)) for _ in range(2))
        return Caches(
            keys,
            values,
            make.tensor((c.rope_magnitude * np.cos(angles)).astype(np.float32), f32),
            make.tensor((c.rope_magnitude * np.sin(angles)).astype(np.float32), f32),
        )

    def _integers(self, shape: tuple[int, ...], kind: ContractKind, bound: int, **flags: bool) -> Tensor:
        """An i32 tensor on the device that keeps a contract: what is written to it later is checked on the host."""
        made = self.executor.empty(shape, i32)
        made.write(np.full(shape, -1 if flags.get("optional") else 0, np.int32))
        made.learn(Fact(kind, bound, **flags))
        return made

    def _row_inputs(self, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """ids, position, slot."""
        slots = self.num_pages * self.page_size
        return (
            self._integers((rows,), ContractKind.INDEX, self.vocab_size),
            self._integers((rows,), ContractKind.INDEX, self._cache.cosine.shape[0]),
            self._integers((rows,), ContractKind.INDEX, slots, distinct=True, optional=True),
        )

    # --- recorded passes
    def decode_pass(self, rows: int) -> _Decode:
        """The recorded decode step for up to ``rows`` sequences (made on first use)."""
        size = next(b for b in BATCHES if b >= rows)
        if size not in self._decodes:
            ids, position, slot = self._row_inputs(size)
            length = self._integers((size,), ContractKind.UP_TO, self._pages * self.page_size)
            table = self._integers((size, self._pages), ContractKind.INDEX, self.num_pages)
            inputs = DecodeInputs(ids, position, slot, length, table)
            with using(self.executor), record() as graph:
                logits = decode_step(self.config, self.weights, self._cache, inputs, self.executor)
            self._decodes[size] = _Decode(graph, inputs, logits, np.zeros((size, self._pages), np.int32))
        return self._decodes[size]

    def prefill_pass(self, shape: packing.Shape) -> _Prefill:
        """The recorded prefill pass of that shape (made on first use)."""
        if shape not in self._prefills:
            rows, positions = shape.rows, self._pages * self.page_size
            ids, position, slot = self._row_inputs(rows)
            index, up_to = ContractKind.INDEX, ContractKind.UP_TO
            tiles = (rows // shape.tile,)
            inputs = PrefillInputs(
                ids,
                position,
                slot,
                table=self._integers((shape.sequences, self._pages), index, self.num_pages),
                length=self._integers((shape.sequences,), up_to, positions),
                owner=self._integers(tiles, index, shape.sequences),
                start=self._integers(tiles, up_to, positions),
                base=self._integers(tiles, index, rows),
                last=self._integers((shape.wanted,), index, rows),
                token=self._integers((shape.wanted,), index, self.vocab_size),
            )
            with using(self.executor), record() as graph:
                logits = prefill_step(
                    self.config,
                    self.weights,
                    self._cache,
                    inputs,
                    self.executor,
                    fresh=shape.fresh,
                    buffers=self._buffers,
                )
            self._prefills[shape] = _Prefill(graph, inputs, logits)
        return self._prefills[shape]

    def prepare(self, *, sequences: tuple[int, ...] = (), prefills: tuple[packing.Shape, ...] = ()) -> int:
        """Records decode steps for these numbers of sequences and prefill passes of these shapes, before they are needed.

        Gives the number of launches."""
        launches = sum(len(self.decode_pass(n).graph) for n in sequences)
        return launches + sum(len(self.prefill_pass(shape).graph) for shape in prefills)

    # --- one step
    def step(self, batch: StepBatch) -> StepResult:
        """One forward pass; results are on the host when it returns."""
        tokens = np.full(batch.sequences, -1, np.int32)
        logprobs = np.full(batch.sequences, np.nan, np.float32)
        row_logprobs = row_argmax = None
        if batch.targets is not None:
            row_logprobs, row_argmax = np.full(batch.tokens, np.nan, np.float32), np.zeros(batch.tokens, np.int32)
        sizes = np.diff(batch.offsets)
        singles = np.flatnonzero(sizes == 1) if batch.targets is None else np.zeros(0, np.int64)
        for first in range(0, len(singles), BATCHES[-1]):
            self._run_singles(batch, singles[first : first + BATCHES[-1]], tokens, logprobs)
        if row_logprobs is not None and row_argmax is not None:
            self._score(batch, row_logprobs, row_argmax)
        else:
            most = MOST_WITH_EXPERTS if self.config.experts else packing.ROWS[-1]
            for pieces in packing.passes(batch, np.flatnonzero(sizes > 1).tolist(), most):
                self._prefill(batch, pieces, tokens, logprobs)
        return StepResult(tokens, logprobs, row_logprobs, row_argmax)

    def _run_singles(self, batch: StepBatch, which: Any, tokens: Int32Array, logprobs: Float32Array) -> None:
        """Sequences with one token each, together.

        While the host waits for the tokens of a greedy step, the device runs the next one already, on the guess that all
        sequences go on. A wrong guess costs a step's time and nothing else: what it wrote to the cache lies behind the end
        of its sequence, in that sequence's own page, and whoever gets the page later writes after it, on the same stream.
        """
        todo = self.decode_pass(len(which))
        rows = _rows(batch, which, todo)
        places = [i for i, b in enumerate(which) if batch.sample[b] is not None]
        wanted = [int(which[i]) for i in places]
        specs = [spec for b in which if (spec := batch.sample[b]) is not None]
        greedy = all(_greedy(spec) for spec in specs)
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.todo is todo and ahead.rows.equal(rows):
            arriving = ahead.arriving
        else:
            arriving = self._start(todo, rows, known_ids=None)
        if greedy and len(places) == len(which) and self.overlap:
            after = rows.following(self.page_size)
            if after is not None:
                self._ahead = _Ahead(todo, after, self._start(todo, after, known_ids=True))
        if greedy:
            ids = arriving()
            if self._ahead is not None:
                self._ahead.rows.ids[: len(which)] = ids[: len(which)]
            tokens[wanted] = ids[places]
            return
        self._draw(todo.logits.numpy()[places], specs, wanted, tokens, logprobs)

    def _start(self, todo: _Decode, rows: _Rows, *, known_ids: bool | None) -> Callable[[], Any]:
        """Gives a decode step to the device; what is given back waits for its tokens. ``known_ids``: they are there already."""
        inputs = todo.inputs
        if not known_ids:
            inputs.ids.write(rows.ids)
        inputs.position.write(rows.position)
        inputs.slot.write(rows.slot)
        inputs.length.write(rows.length)
        if not np.array_equal(rows.table, todo.table):
            inputs.table.write(rows.table)
            todo.table = rows.table
        with using(self.executor):
            todo.graph.replay()
        return self.executor.fetch(inputs.ids)

    def _prefill(
        self, batch: StepBatch, pieces: list[packing.Piece], tokens: Int32Array, logprobs: Float32Array
    ) -> None:
        """One pass over the prompts of several sequences; draws the tokens of those that are complete."""
        todo = self._replay(batch, pieces, packing.shape_of(batch, pieces))
        ends = [i for i, p in enumerate(pieces) if p.first + p.count == batch.offsets[p.sequence + 1]]
        drawn = [(i, pieces[i].sequence, spec) for i in ends if (spec := batch.sample[pieces[i].sequence]) is not None]
        if not drawn:
            return
        places, wanted, specs = (list(column) for column in zip(*drawn, strict=True))
        if all(_greedy(spec) for spec in specs):
            tokens[wanted] = todo.inputs.token.numpy()[places]
        else:
            self._draw(todo.logits.numpy()[places], specs, wanted, tokens, logprobs)

    def _score(self, batch: StepBatch, row_logprobs: Float32Array, row_argmax: Int32Array) -> None:
        """Log-probabilities of the given next tokens, a stretch of one sequence at a time."""
        assert batch.targets is not None
        for b in range(batch.sequences):
            for first in range(int(batch.offsets[b]), int(batch.offsets[b + 1]), SCORED):
                piece = packing.Piece(b, first, min(SCORED, int(batch.offsets[b + 1]) - first))
                shape = packing.shape_of(batch, [piece])
                todo = self._replay(batch, [piece], replace(shape, wanted=shape.rows))
                rows = slice(first, first + piece.count)
                wanted = batch.targets[rows]
                found, best = log_probability(todo.logits.numpy()[: piece.count], wanted)
                row_logprobs[rows] = np.where(wanted >= 0, found.numpy(), np.nan)
                row_argmax[rows] = best.numpy()

    def _replay(self, batch: StepBatch, pieces: list[packing.Piece], shape: packing.Shape) -> _Prefill:
        """Writes a prefill pass's inputs and gives it to the device."""
        todo = self.prefill_pass(shape)
        laid = packing.lay(batch, pieces, shape, self._pages)
        for field in fields(laid):
            getattr(todo.inputs, field.name).write(getattr(laid, field.name))
        with using(self.executor):
            todo.graph.replay()
        return todo

    def _draw(
        self,
        logits: Float32Array,
        specs: list[SampleSpec],
        sequences: list[int],
        tokens: Int32Array,
        logprobs: Float32Array,
    ) -> None:
        """Draws on the host from downloaded logits."""
        with using("cpu"):
            drawn, found = draw(np.ascontiguousarray(logits), specs)
        tokens[sequences] = drawn
        if found is not None:
            logprobs[sequences] = found


def _rows(batch: StepBatch, which: Any, todo: _Decode) -> _Rows:
    """The inputs of a decode step for some sequences of a batch."""
    first, size = batch.offsets[which], todo.inputs.ids.shape[0]
    table = np.zeros_like(todo.table)
    table[: len(which), : batch.block_table.shape[1]] = batch.block_table[which]
    return _Rows(
        len(which), _padded(batch.token_ids[first], size), _padded(batch.positions[first], size),
        _padded(batch.slots[first], size, -1), _padded(batch.context_lengths[which], size), table,
    )  # fmt: skip


def _greedy(spec: SampleSpec) -> bool:
    plain = spec.repetition_penalty == 1.0 or not len(spec.penalised)
    return spec.temperature == 0.0 and plain and not spec.want_logprob


def _padded(values: Any, size: int, rest: int = 0) -> Int32Array:
    """A vector of ``size`` that starts with ``values`` and goes on with ``rest``."""
    whole = np.full(size, rest, np.int32)
    whole[: len(values)] = values
    return whole
