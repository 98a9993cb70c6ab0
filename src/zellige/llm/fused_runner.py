"""Runs forward passes in bf16, fp16 or fp8 with fused kernels, on a GPU or (where it is tested) the CPU: a `Runner`.

Decode steps are graphs, one for each size of batch and length of context that occurs (rounded up), replayed with tokens fed back on the
device: in place while the batch stays the same, else through `lanes.Lanes`. The host waits for nothing but what it shows.
Prefill passes are graphs as well, one for each shape (`packing.Shape`); each holds the prompts of as many sequences as fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from zellige.diagnostics import InternalError
from zellige.ir.dtypes import bf16, f8e4m3, f16, f32, i32
from zellige.ir.types import ContractKind
from zellige.kernels.sampling import log_probability
from zellige.llm import packing
from zellige.llm.draw import Draws, Sampler
from zellige.llm.lanes import Drawn, Lanes
from zellige.llm.models.fused import Caches, DecodeInputs, PrefillInputs, Weights, decode_step, prefill_step
from zellige.llm.models.invariant import MOST_WITH_PARTS, SCHEDULES, TILE, InvariantProducts
from zellige.llm.models.loading import KVPrecision, Loader, Precision, random_weights
from zellige.llm.models.products import MOST_WITH_EXPERTS, SHORT, Products, Scaled
from zellige.llm.page_copier import PageCopier
from zellige.llm.protocol import UNKNOWN, Float32Array, Int32Array, StepBatch, StepResult
from zellige.llm.weights.config import ModelConfig
from zellige.llm.weights.finite import check_weights
from zellige.llm.weights.model_file import ModelFile
from zellige.runtime.contracts import Fact
from zellige.runtime.execution import Executor, using
from zellige.runtime.graph import Form, Graph, record
from zellige.runtime.tensor import Tensor

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Sizes of recorded decode steps."""
CONTEXTS = (SHORT, 8192)
"""Positions up to which recorded decode steps hold contexts, beside the longest: attention is scheduled by what its table can hold."""
SCORED = 128
"""Most tokens of a pass whose every row gets logits."""


@dataclass(slots=True)
class _Decode:
    """A recorded decode step; it leaves the tokens that it draws where it reads them."""

    graph: Graph
    inputs: DecodeInputs
    places: Tensor
    """The inputs' position, slot and length, i32 [3, ≥ B]: rows of one tensor, so that one copy brings them to a device."""
    logits: Tensor
    draws: Draws
    drawn: Drawn
    known: Int32Array | None = None
    """The block table of the batch that the device has, if it is all of it: the same object is sent once."""


@dataclass(slots=True)
class _Prefill:
    """A recorded prefill pass."""

    graph: Graph
    inputs: PrefillInputs
    logits: Tensor
    draws: Draws
    drawn: Drawn


class FusedRunner:
    """Runs one model on the device of `executor`; see `protocol.Runner`. With no `model` the weights are random.

    `dtype`, `kv_dtype`: see `loading.Precision` and `loading.KVPrecision`; sums are f32 whatever they are. A KV cache in fp8 is half as
    large, and has no scales. `step`: the form of a recorded decode step.
    `invariant`: what a request gets depends on nothing but itself, bit for bit. `num_pages`: of the KV cache, or a function
    that says how many of so many bytes, asked once the weights are there.

    Errors: ZL0506 (memory), ZL0611 (a weight is not a number)."""

    def __init__(
        self,
        model: ModelFile | None,
        config: ModelConfig,
        *,
        num_pages: int | Callable[[int], int],
        page_size: int,
        max_context: int,
        executor: Executor,
        dtype: Precision = "auto",
        kv_dtype: KVPrecision = "auto",
        lanes: int = 1024,
        lookahead: bool = True,
        invariant: bool = False,
        step: Form = "launches",
        progress: Callable[[int, int | None], None] = lambda done, total: None,
    ) -> None:
        schedules = getattr(executor, "schedules", SCHEDULES)
        if invariant and schedules != SCHEDULES:
            raise InternalError(f"an invariant runner on an executor with the schedules of {schedules}")
        self.page_size = page_size
        self.vocab_size, self.max_context = config.vocab_size, max_context
        self.config = config
        self.executor = executor
        self._pages = -(-(max_context + 1) // page_size)  # a step ahead may look one position too far
        with using(self.executor):
            if model is None:
                self.weights = random_weights(executor, config, dtype)
                factors = None
            else:
                loader = Loader(model, executor, dtype, progress)
                self.weights = Weights.made(config, loader.weight, loader.matrix)
                factors = loader.rope_factors()
                check_weights(model, self.weights.tensors(), executor)
            page_bytes = config.kv_bytes(page_size) // (2 if kv_dtype == "fp8" else 1)
            self.num_pages = num_pages if isinstance(num_pages, int) else num_pages(page_bytes)
            self._cache = self._new_cache(factors, kv_dtype)
        self._decodes: dict[tuple[int, int], _Decode] = {}
        """By sequences, and pages of the longest context."""
        self._prefills: dict[packing.Shape, _Prefill] = {}
        self._buffers: dict[str, Tensor] = {}
        self._decode_buffers: dict[str, Tensor] = {}
        self.lanes, self.lookahead = lanes, lookahead
        # a GPU reads the weights once a pass: a few rows fewer do not make it shorter, but a single one needs none of its own
        self.least_tail = page_size if hasattr(executor, "schedules") else 1
        self._copier = PageCopier(executor, [*self._cache.keys, *self._cache.values])
        self._invariant, self._step = invariant, step
        parts = invariant and any(isinstance(layer.down, Scaled) for layer in self.weights.layers)
        self._most_rows = (
            MOST_WITH_EXPERTS if config.experts else MOST_WITH_PARTS if parts else packing.ROWS[-1]
        )  # of a prefill pass
        self._products = InvariantProducts if invariant else Products
        self._lanes = Lanes(executor, lanes, config.vocab_size)
        self._sampler = Sampler(executor, config.vocab_size)
        self._held: Drawn | None = None
        """Of the last decode pass, if its tokens are not in the lanes yet."""

    def _new_cache(self, factors: Float32Array | None, kv_dtype: KVPrecision) -> Caches:
        c, make = self.config, self.executor
        shape = (self.num_pages, self.page_size, c.kv_heads, c.head_dim)
        held = {"auto": self.weights.dtype, "bf16": bf16, "fp16": f16, "fp8": f8e4m3}[kv_dtype]
        angles = np.arange(self._pages * self.page_size)[:, None] * c.inverse_frequencies(factors)[None, :]
        keys, values = (tuple(make.zeros(shape, held) for _ in range(c.layers)) for _ in range(2))
        return Caches(
            keys,
            values,
            make.tensor((c.rope_magnitude * np.cos(angles)).astype(np.float32), f32),
            make.tensor((c.rope_magnitude * np.sin(angles)).astype(np.float32), f32),
        )

    def _integers(self, shape: tuple[int, ...], fact: Fact) -> Tensor:
        """An i32 tensor on the device that keeps a contract: what is written to it later is checked on the host."""
        made = self.executor.empty(shape, i32)
        made.write(np.full(shape, -1 if fact.optional else 0, np.int32))
        made.learn(fact)
        return made

    def _row_facts(self) -> tuple[Fact, Fact, Fact]:
        """Of ids, position and slot."""
        slots = self.num_pages * self.page_size
        return (
            Fact(ContractKind.INDEX, self.vocab_size),
            Fact(ContractKind.INDEX, self._cache.cosine.shape[0]),
            Fact(ContractKind.INDEX, slots, distinct=True, optional=True),
        )

    def _places(self, rows: int, positions: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """position, slot and length of some rows, and the tensor that they are rows of, each at 16 bytes."""
        _, position, slot = self._row_facts()
        places = self.executor.empty((3, -(-rows // 4) * 4), i32)
        places.write(np.array([[0], [-1], [0]], np.int32).repeat(places.shape[1], 1))
        parts = [places[i, :rows] for i in range(3)]
        for part, fact in zip(parts, (position, slot, Fact(ContractKind.UP_TO, positions)), strict=True):
            part.learn(fact)
        return parts[0], parts[1], parts[2], places

    # --- recorded passes
    def decode_pass(self, rows: int, longest: int) -> _Decode:
        """The recorded decode step for up to ``rows`` sequences of up to ``longest`` positions (made on first use)."""
        size = next(b for b in BATCHES if b >= rows)
        held = () if self._invariant else (positions // self.page_size for positions in CONTEXTS)
        pages = next((p for p in held if longest <= p * self.page_size and p < self._pages), self._pages)
        if (size, pages) not in self._decodes:
            ids = self._integers((size,), self._row_facts()[0])
            position, slot, length, places = self._places(size, pages * self.page_size)
            table = self._integers((size, pages), Fact(ContractKind.INDEX, self.num_pages))
            inputs = DecodeInputs(ids, position, slot, length, table)
            with using(self.executor), record(self._step) as graph:
                logits = decode_step(
                    self.config,
                    self.weights,
                    self._cache,
                    inputs,
                    self.executor,
                    products_of=self._products,
                    buffers=self._decode_buffers,
                )
            draws, drawn = Draws(self._sampler, size, recorded=True), self._lanes.drawn(ids)
            self._decodes[size, pages] = _Decode(graph, inputs, places, logits, draws, drawn)
        return self._decodes[size, pages]

    def prefill_pass(self, shape: packing.Shape) -> _Prefill:
        """The recorded prefill pass of that shape (made on first use)."""
        if shape not in self._prefills:
            rows, positions = shape.rows, self._pages * self.page_size
            ids, position, slot = (self._integers((rows,), fact) for fact in self._row_facts())
            tiles, up_to = (rows // shape.tile,), Fact(ContractKind.UP_TO, positions)

            def index(of: tuple[int, ...], bound: int) -> Tensor:
                return self._integers(of, Fact(ContractKind.INDEX, bound))

            inputs = PrefillInputs(
                ids,
                position,
                slot,
                table=index((shape.sequences, self._pages), self.num_pages),
                length=self._integers((shape.sequences,), up_to),
                owner=index(tiles, shape.sequences),
                start=self._integers(tiles, up_to),
                base=index(tiles, rows),
                last=index((shape.wanted,), rows),
                token=index((shape.wanted,), self.vocab_size),
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
                    products_of=self._products,
                )
            draws, drawn = Draws(self._sampler, shape.wanted, recorded=True), self._lanes.drawn(inputs.token)
            self._prefills[shape] = _Prefill(graph, inputs, logits, draws, drawn)
        return self._prefills[shape]

    # --- one step
    def start(self, batch: StepBatch) -> Callable[[], StepResult]:
        """Gives one forward pass to the device; what is given back waits for its results (but score mode waits at once)."""
        self._copier.copy(batch.copies)
        row_logprobs = row_argmax = None
        scored: set[int] = set()
        if batch.targets is not None:
            row_logprobs, row_argmax = np.full(batch.tokens, np.nan, np.float32), np.zeros(batch.tokens, np.int32)
            scored = {b for b in range(batch.sequences) if np.any(batch.targets[slice(*batch.offsets[b : b + 2])] >= 0)}
            self._score(batch, sorted(scored), row_logprobs, row_argmax)
        sizes = np.diff(batch.offsets)
        singles = np.array([b for b in np.flatnonzero(sizes == 1).tolist() if b not in scored], np.int64)
        prompts = [b for b in np.flatnonzero(sizes > 1).tolist() if b not in scored]
        for first in range(0, len(singles), BATCHES[-1]):
            self._decode(batch, singles[first : first + BATCHES[-1]])
        if prompts:
            self._release()  # before a prompt gets a lane that one of an earlier step had
        for pieces in packing.passes(batch, prompts, self._most_rows):
            self._prefill(batch, pieces)
        arriving = self._fetch(batch, singles if len(singles) == batch.sequences <= BATCHES[-1] else None)

        def wait() -> StepResult:
            return StepResult(*arriving(), row_logprobs, row_argmax)

        return wait

    def _decode(self, batch: StepBatch, which: Any) -> None:
        """Sequences with one token each, together. Their next tokens stay in ``_held``."""
        lengths = batch.context_lengths[which]
        todo = self.decode_pass(len(which), int(lengths.max()))
        inputs, (size, pages) = todo.inputs, todo.inputs.table.shape
        lanes, ids = _padded(batch.lanes[which], size, -1), batch.token_ids[batch.offsets[which]]
        stay = self._held is todo.drawn and np.array_equal(lanes, todo.drawn.lanes) and bool(np.all(ids == UNKNOWN))
        if not stay:
            self._release()
            todo.drawn.set_lanes(lanes)
            self._lanes.pick(todo.drawn, ids)
        first = batch.offsets[which]
        width = todo.places.shape[1]
        rows = (batch.positions[first], 0), (batch.slots[first], -1), (lengths, 0)
        todo.places.write(
            np.stack([_padded(values, width, rest) for values, rest in rows]),
            parts=(inputs.position, inputs.slot, inputs.length),
        )
        if batch.block_table is not todo.known or len(which) < batch.sequences:
            table = np.zeros((size, pages), np.int32)
            known = batch.block_table[which, :pages]
            table[: len(which), : known.shape[1]] = known
            inputs.table.write(table)
            todo.known = batch.block_table if len(which) == batch.sequences else None
        with using(self.executor):
            todo.graph.replay()
        todo.drawn.logprobs = None
        specs = [batch.sample[b] for b in which] if len(which) < batch.sequences else batch.sample
        if not all(spec is None or spec.greedy for spec in set(specs)):
            histories = {i: batch.histories[b] for i, b in enumerate(which.tolist()) if b in batch.histories}
            todo.drawn.logprobs = todo.draws.draw(
                todo.logits, inputs.length, inputs.ids, specs, batch.lanes[which], histories
            )
        self._held = todo.drawn

    def _release(self) -> None:
        """Puts the tokens of the last decode pass into the lanes, before something else needs them or their place."""
        if self._held is not None:
            self._lanes.keep(self._held)
            self._held = None

    def _prefill(self, batch: StepBatch, pieces: list[packing.Piece]) -> None:
        """One pass over the prompts of several sequences; draws the tokens of those that are complete, into their lanes."""
        todo = self._replay(batch, pieces, self._shape_of(batch, pieces))
        ends = [p.first + p.count == batch.offsets[p.sequence + 1] for p in pieces]
        specs = [batch.sample[p.sequence] if end else None for p, end in zip(pieces, ends, strict=True)]
        if all(spec is None for spec in specs):
            return
        lanes = batch.lanes[[p.sequence for p in pieces]]
        todo.drawn.logprobs = None
        if not all(spec is None or spec.greedy for spec in specs):
            histories = {
                i: batch.histories[p.sequence]
                for i, p in enumerate(pieces)
                if ends[i] and p.sequence in batch.histories
            }
            todo.drawn.logprobs = todo.draws.draw(
                todo.logits, todo.inputs.length, todo.inputs.token, specs, lanes, histories
            )
        todo.drawn.set_lanes(np.where([spec is None for spec in specs], np.int32(-1), lanes))
        self._lanes.keep(todo.drawn)

    def _fetch(self, batch: StepBatch, decoded: Any) -> Callable[[], tuple[Int32Array, Float32Array]]:
        """Starts to copy the tokens of a batch and their log-probabilities; ``decoded``: all of them are in ``_held``."""
        kinds = set(batch.sample)
        logprobs = any(spec is not None and spec.want_logprob for spec in kinds)
        if decoded is not None and self._held is not None:
            places, tokens = decoded, self.executor.fetch(self._held.tokens)
            chances = self.executor.fetch(self._held.logprobs) if self._held.logprobs is not None else None
        else:
            self._release()
            places = batch.lanes
            tokens, chances = self._lanes.fetch(logprobs=logprobs)
        absent = np.array([spec is None for spec in batch.sample]) if None in kinds else np.False_

        def wait() -> tuple[Int32Array, Float32Array]:
            found = np.where(absent, np.int32(-1), tokens()[places])
            if chances is None:
                return found, np.full(len(found), np.nan, np.float32)
            wanted = [spec is not None and spec.want_logprob for spec in batch.sample]
            return found, np.where(wanted, chances()[places], np.float32(np.nan))

        return wait

    def _score(
        self, batch: StepBatch, sequences: list[int], row_logprobs: Float32Array, row_argmax: Int32Array
    ) -> None:
        """Log-probabilities of the given next tokens, a stretch of one sequence at a time."""
        assert batch.targets is not None
        for b in sequences:
            for first in range(int(batch.offsets[b]), int(batch.offsets[b + 1]), SCORED):
                piece = packing.Piece(b, first, min(SCORED, int(batch.offsets[b + 1]) - first))
                shape = self._shape_of(batch, [piece])
                todo = self._replay(batch, [piece], replace(shape, wanted=shape.rows))
                rows = slice(first, first + piece.count)
                wanted = batch.targets[rows]
                found, best = log_probability(todo.logits.numpy()[: piece.count], wanted)
                row_logprobs[rows] = np.where(wanted >= 0, found.numpy(), np.nan)
                row_argmax[rows] = best.numpy()

    def _shape_of(self, batch: StepBatch, pieces: list[packing.Piece]) -> packing.Shape:
        shape = packing.shape_of(batch, pieces)
        return replace(shape, tile=TILE, fresh=False) if self._invariant else shape

    def _replay(self, batch: StepBatch, pieces: list[packing.Piece], shape: packing.Shape) -> _Prefill:
        """Writes a prefill pass's inputs and gives it to the device."""
        todo = self.prefill_pass(shape)
        laid = packing.lay(batch, pieces, shape, self._pages)
        for field in fields(laid):
            getattr(todo.inputs, field.name).write(getattr(laid, field.name))
        with using(self.executor):
            todo.graph.replay()
        return todo


def _padded(values: Any, size: int, rest: int = 0) -> Int32Array:
    """A vector of ``size`` that starts with ``values`` and goes on with ``rest``."""
    whole = np.full(size, rest, np.int32)
    whole[: len(values)] = values
    return whole
