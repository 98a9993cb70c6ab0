"""Draws next tokens where the logits are: penalties, filters, one draw a row, log-probabilities, by the verified kernels.

Nothing comes back to the host but what is fetched later. Parameters are vectors on the device, written when the requests
in a batch change; what a request's penalties need (counts of its tokens, biases) lives on the device for as long as it runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zellige.ir.dtypes import DType, f32, i32, u64
from zellige.ir.types import ContractKind
from zellige.kernels import sampling
from zellige.llm.protocol import GREEDY, History, Int32Array, SampleSpec
from zellige.runtime.contracts import Fact
from zellige.runtime.execution import Executor, using
from zellige.runtime.graph import Graph, record
from zellige.runtime.tensor import Tensor

_FIRST_SLOTS = 4
_SHORTEST = 16
"""Lists of ids are padded to this length times a power of two, so that few lengths occur."""


@dataclass(slots=True)
class _States:
    """Counts of tokens and biases of the requests that alter their logits, by slot; and whose slot is whose."""

    counts: Tensor  # i32 [A, V]
    bias: Tensor  # f32 [A, V]
    slots: dict[int, int] = field(default_factory=dict)  # by lane
    free: list[int] = field(default_factory=list)


class Sampler:
    """Draws for all requests of one runner on the device of `executor`; `vocab_size` is V."""

    def __init__(self, executor: Executor, vocab_size: int) -> None:
        self.executor = executor
        self.vocab_size = vocab_size
        self.parts = -(-vocab_size // sampling.BLOCK_SIZE)
        self.states: _States | None = None

    def slots(
        self, specs: Sequence[SampleSpec | None], lanes: Int32Array, histories: Mapping[int, History]
    ) -> Int32Array:
        """The slot of each row's state, −1 where its request has none. Rows with a history begin anew."""
        found = np.full(len(specs), -1, np.int32)
        for row, (spec, lane) in enumerate(zip(specs, lanes.tolist(), strict=True)):
            if spec is not None and spec.alters:
                if row in histories:
                    self._begin(spec, lane, histories[row])
                assert self.states is not None  # a request that alters brings its history when it first draws
                found[row] = self.states.slots[lane]
            elif self.states is not None and lane in self.states.slots:
                self.states.free.append(self.states.slots.pop(lane))
        return found

    def _begin(self, spec: SampleSpec, lane: int, history: History) -> None:
        states = self.states = self._with_room(lane)
        slot = states.slots.get(lane)
        if slot is None:
            slot = states.slots[lane] = states.free.pop()
        bias = np.zeros(self.vocab_size, np.float32)
        for token, value in spec.bias:
            bias[token] = value
        with using(self.executor):
            sampling.start_row(self.executor.tensor(bias, f32), slot, counts=states.counts, bias=states.bias)
            for ids, kernel in ((history.prompt, sampling.mark_prompt), (history.answer, sampling.count_answer)):
                if ids:
                    kernel(self._ids(ids), slot, counts=states.counts)

    def _ids(self, ids: Sequence[int]) -> Tensor:
        length = _SHORTEST
        while length < len(ids):
            length *= 2
        padded = np.full(length, -1, np.int32)
        padded[: len(ids)] = ids
        return contracted(self.executor, padded, ContractKind.INDEX, self.vocab_size, optional=True)

    def _with_room(self, lane: int) -> _States:
        """States with a slot for `lane`: twice as many when all are taken."""
        old = self.states
        if old is not None and (old.free or lane in old.slots):
            return old
        had = 0 if old is None else old.counts.shape[0]
        size = max(_FIRST_SLOTS, 2 * had)
        shape = (size, self.vocab_size)
        made = _States(
            self.executor.zeros(shape, i32), self.executor.zeros(shape, f32), free=list(range(had, size))[::-1]
        )
        if old is not None:
            with using(self.executor):
                sampling.copy_states(old.counts, old.bias, to_counts=made.counts, to_bias=made.bias)
            made.slots = old.slots
        return made


class _Parameters:
    """What the rows of one draw ask for, and what it leaves for its own launches; R rows."""

    def __init__(self, sampler: Sampler, rows: int) -> None:
        make = sampler.executor

        def vector(dtype: DType) -> Tensor:
            return make.zeros((rows,), dtype)

        self.floats = {
            name: vector(f32)
            for name in (
                "temperature",
                "top_p",
                "min_p",
                "repetition_penalty",
                "presence_penalty",
                "frequency_penalty",
            )
        }
        self.top_k, self.seed = vector(i32), vector(u64)
        self.best, self.total = (make.empty((rows, sampler.parts), f32) for _ in range(2))
        self.logprob = make.empty((rows,), f32)
        self.slot: Tensor | None = None  # Index[A, distinct, optional] [R]
        self.altered: Tensor | None = None  # f32 [R, V]


class Draws:
    """Draws for one tensor of logits of R rows. `recorded`: they are always the same tensors, so launches become graphs."""

    def __init__(self, sampler: Sampler, rows: int, *, recorded: bool) -> None:
        self._sampler = sampler
        self._rows = rows
        self._recorded = recorded
        self._made: _Parameters | None = None
        self._key: Any = None
        self._states: _States | None = None
        self._graphs: dict[tuple[bool, bool], Graph] = {}

    @property
    def _parameters(self) -> _Parameters:
        """Made when first needed: many passes are always greedy."""
        if self._made is None:
            self._made = _Parameters(self._sampler, self._rows)
        return self._made

    def draw(
        self,
        logits: Tensor,
        position: Tensor,
        token: Tensor,
        specs: Sequence[SampleSpec | None],
        lanes: Int32Array,
        histories: Mapping[int, History],
    ) -> Tensor | None:
        """token[b] = one draw from row b of logits; the log-probabilities too where some spec wants them.

        logits f32 [R, V]; position i32 [R], of the tokens to draw; token Index[V] [R]. `specs` and `lanes` are
        of the first rows; the others are drawn greedily and mean nothing. `histories` as in `StepBatch`, by row."""
        self._prepare(specs, lanes, histories)
        alters = any(spec is not None and spec.alters for spec in specs)
        logprobs = any(spec is not None and spec.want_logprob for spec in specs)
        with using(self._sampler.executor):
            if self._recorded:
                self.graph(logits, position, token, alters=alters, logprobs=logprobs).replay()
            else:
                self._launch(logits, position, token, alters=alters, logprobs=logprobs)
        return self._parameters.logprob if logprobs else None

    def graph(self, logits: Tensor, position: Tensor, token: Tensor, *, alters: bool, logprobs: bool) -> Graph:
        """The recorded launches of a draw of this kind (made on first use)."""
        if (alters, logprobs) not in self._graphs:
            with using(self._sampler.executor), record() as graph:
                self._launch(logits, position, token, alters=alters, logprobs=logprobs)
            self._graphs[alters, logprobs] = graph
        return self._graphs[alters, logprobs]

    def _prepare(self, specs: Sequence[SampleSpec | None], lanes: Int32Array, histories: Mapping[int, History]) -> None:
        """Brings the parameters on the device up to date."""
        key = (tuple(specs), lanes.tobytes())
        if key == self._key and not histories:
            return
        slots = self._sampler.slots(specs, lanes, histories)
        p = self._parameters
        chosen = [GREEDY if spec is None else spec for spec in specs]
        chosen += [GREEDY] * (self._rows - len(chosen))
        for name, tensor in p.floats.items():
            tensor.write(np.array([getattr(spec, name) for spec in chosen], np.float32))
        p.top_k.write(np.array([min(spec.top_k, self._sampler.vocab_size) for spec in chosen], np.int32))
        p.seed.write(np.array([spec.seed for spec in chosen], np.uint64))
        states = self._sampler.states
        if states is not None:
            padded = np.full(self._rows, -1, np.int32)
            padded[: len(slots)] = slots
            if states is not self._states or p.slot is None:  # launches with other states are other launches
                p.slot = contracted(
                    self._sampler.executor,
                    padded,
                    ContractKind.INDEX,
                    states.counts.shape[0],
                    distinct=True,
                    optional=True,
                )
                self._graphs = {kind: graph for kind, graph in self._graphs.items() if not kind[0]}
                self._states = states
            else:
                p.slot.write(padded)
        self._key = key

    def _launch(self, logits: Tensor, position: Tensor, token: Tensor, *, alters: bool, logprobs: bool) -> None:
        p = self._parameters
        best, drawn_from = p.best, logits
        if logprobs or not alters:
            sampling.row_parts(logits, best=best, total=p.total)
        if alters:
            assert self._states is not None and p.slot is not None
            if p.altered is None:
                p.altered = self._sampler.executor.empty((self._rows, self._sampler.vocab_size), f32)
            drawn_from = p.altered
            best = self._sampler.executor.empty(p.best.shape, f32)
            sampling.altered(
                logits, p.slot, self._states.counts, self._states.bias, p.floats["repetition_penalty"], p.floats["presence_penalty"],
                p.floats["frequency_penalty"], y=drawn_from, best=best,
            )  # fmt: skip
        sampling.draw(
            drawn_from,
            best,
            position,
            p.floats["temperature"],
            p.top_k,
            p.floats["top_p"],
            p.floats["min_p"],
            p.seed,
            token=token,
        )
        if alters:
            assert self._states is not None and p.slot is not None
            sampling.count_tokens(token, p.slot, counts=self._states.counts)
        if logprobs:
            sampling.token_logprob(logits, p.best, p.total, token, logprob=p.logprob)


def contracted(executor: Executor, values: Int32Array, kind: ContractKind, bound: int, **flags: bool) -> Tensor:
    """An i32 tensor that keeps a contract, which its first values keep: what is written to it later is checked on the host."""
    made = executor.tensor(values, i32)
    made.learn(Fact(kind, bound, **flags))
    return made
