"""Recorded launches: captured once with everything a launch must check, replayed with one native call.

    with zl.record() as graph:          # launches inside are recorded, not run
        y = kernel_a(x)
        z = kernel_b(y)
    graph.replay()                      # or, on a stream:  with stream: graph.replay()

A graph owns the tensors it captured. Its meaning is that of its launches run in order. Contracts on its inputs were checked
at capture; a replay checks again those whose contents somebody else has written since. What is captured is in
``capture.py``, other sizes in ``resizing.py``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zellige.diagnostics.errors import ZelligeError
from zellige.ir.dtypes import DType
from zellige.ir.extent import Dim
from zellige.runtime import resizing
from zellige.runtime.admission import check_contract
from zellige.runtime.binding import Binding, check_scalar
from zellige.runtime.capture import Capture, Need, Part, Step
from zellige.runtime.completion import LOCK, Completion
from zellige.runtime.contracts import broken
from zellige.runtime.execution import current_executor, using
from zellige.runtime.fusion_search import Accept, Launch, Proposal, Search, pays
from zellige.runtime.instances import Instance
from zellige.runtime.memory import CLOCK, GraphUse, Memory, Unwritten, claim_graph_locked, wait_for
from zellige.runtime.tensor import Tensor

Form = Literal["launches", "persistent"]


class Graph:
    """A sequence of launches that owns its tensors. Made by ``record``.

    Any thread may replay it, at once or on a stream; changes (``resize``, ``set_scalars``) wait for a replay in flight."""

    asynchronous = False
    copies = False

    def __init__(self, executor: Any, form: Form = "launches") -> None:
        # what a stream records runs wherever the graph is replayed
        self._executor = getattr(executor, "_executor", executor) if executor.asynchronous else executor
        if not hasattr(self._executor, "new_recording"):
            raise ZelligeError(
                "ZL0521",
                "this backend cannot record launches",
                facts={"executor": type(self._executor).__name__},
                help="record on 'cpu' or 'cuda': with zl.using('cpu'), zl.record() as graph:",
            )
        if form == "persistent":
            self._executor = _persistent(self._executor)
        self._recording = self._executor.new_recording()
        self._capture = Capture()
        self._needs: list[Need] | None = None
        self._sizes: dict[str, int] = {}
        self._use = GraphUse()
        self._lock = threading.RLock()
        self._state = "open"
        self._fresh = True

    def __len__(self) -> int:
        return len(self._capture.steps)

    @property
    def _steps(self) -> list[Step]:
        return self._capture.steps

    # --- an executor, while recording
    @property
    def plan_key(self) -> str:
        key: str = self._executor.plan_key
        return key

    @property
    def place(self) -> str:
        """Where its launches run."""
        place: str = self._executor.place
        return place

    @property
    def turn(self) -> AbstractContextManager[Any]:
        """Launches are recorded by one thread."""
        return nullcontext()

    def empty(self, shape: Sequence[int], dtype: DType) -> Tensor:
        """An uninitialised tensor where the graph will run."""
        made: Tensor = self._executor.empty(shape, dtype)
        return made

    def zeros(self, shape: Sequence[int], dtype: DType) -> Tensor:
        """A cleared tensor where the graph will run."""
        made: Tensor = self._executor.zeros(shape, dtype)
        return made

    def tensor(self, values: NDArray[Any], dtype: DType) -> Tensor:
        """A tensor where the graph will run, with a copy of a host array."""
        made: Tensor = self._executor.tensor(values, dtype)
        return made

    def gathered(self, pieces: Sequence[NDArray[Any]], shape: Sequence[int], dtype: DType) -> Tensor:
        """A tensor where the graph will run, with a copy of host arrays, one after the other."""
        made: Tensor = self._executor.gathered(pieces, shape, dtype)
        return made

    def fetch(self, source: Tensor) -> Callable[[], NDArray[Any]]:
        """Not while recording: nothing has run."""
        raise ZelligeError("ZL0504", "a tensor is read while launches are recorded", help="replay the graph first")

    def statics(self, kernel: str, dims: dict[str, int]) -> dict[str, Any]:
        """Static parameters that the graph's executor prefers."""
        chosen: dict[str, Any] = self._executor.statics(kernel, dims)
        return chosen

    def launch(self, instance: Instance, binding: Binding) -> None:
        """Records one launch (called by kernels inside ``record``)."""
        with self._lock:
            if self._state != "open":
                raise ZelligeError("ZL0521", "launches are recorded inside 'with zl.record()' only")
            launch = self._executor.prepare(instance, binding)
            for i, start in binding.plan.fills:
                self._record_fill(binding.held[i], start)
            self._append(launch, binding)

    def _append(self, launch: Any, binding: Binding, parts: tuple[Part, ...] = ()) -> None:
        self._capture.add(launch, binding, lambda: self._recording.append(launch)).parts = parts

    def _record_fill(self, held: Tensor, start: float) -> None:
        from zellige.runtime.fill import fill_binding

        if not held.storage.flags.c_contiguous:
            raise ZelligeError(
                "ZL0521", "an Acc(init=…) argument with gaps between its rows cannot be recorded", help="pass it whole"
            )
        binding = fill_binding(self, held, start)
        self._append(self._executor.prepare(binding.plan.instance, binding), binding)

    def close(self) -> None:
        """Ends the capture: nothing has run yet, so what it will write is not readable until the first replay."""
        self._capture.read_copies(self._executor.alike)
        self._executor.finish(self._recording)
        with LOCK:
            for tensor, exclusive in self._capture.uses():
                self._use.add(tensor, exclusive=exclusive)
        self._state = "closed"

    def abandon(self) -> None:
        """The recording was left by an exception: the graph cannot be used."""
        self._state = "abandoned"

    def __del__(self) -> None:
        use = getattr(self, "_use", None)
        if use is not None:
            use.alive = False

    # --- running
    def replay(self) -> None:
        """Runs all launches in order: at once, returning when they have ended, or on the current stream.

        ZelligeError ZL0505 if an input written since the capture breaks the contract that the graph relies on; ZL0504 if
        one was never written; AliasError ZL0503 if it would write memory of which the host or another thread holds an array."""
        current = current_executor()
        if isinstance(current, Graph):
            raise ZelligeError("ZL0521", "a graph cannot be replayed while launches are recorded")
        with self._lock, self._executor.turn:
            if self._state != "closed":
                raise ZelligeError(
                    "ZL0521", f"this graph's recording is {'not finished' if self._state == 'open' else 'incomplete'}"
                )
            undo: list[tuple[Memory, Unwritten]] = []
            if current.asynchronous:
                current.submit(  # type: ignore[attr-defined]
                    "graph", lambda done: self._borrow(done, undo, asynchronous=True), self._run, lambda: self._forget(undo)
                )  # fmt: skip
                return
            completion = Completion("graph")
            before = self._borrow(completion, undo, asynchronous=False)
            try:
                wait_for(before)
                self._run()
            except BaseException:
                self._forget(undo)
                completion.abandon(before)
                raise
            completion.finish()

    def _borrow(
        self, completion: Completion, undo: list[tuple[Memory, Unwritten]], *, asynchronous: bool
    ) -> list[Completion]:
        """Takes the graph's place in the order of uses, and checks what it relies on. Costs nothing per launch.

        ``undo`` gets what of memory was unwritten that counts as written now, until it turns out that the replay did not run.
        What others may write is copied first; the copy is checked, and is what launches read."""
        if self._fresh:
            self._clear_rows_never_written()
        if self._needs is None:
            self._needs = self._capture.contracts_of_inputs()
        with LOCK:
            unknown = [(n, n.held.memory.stamp()) for n in self._needs if not n.copied and not n.held.keeps(n.fact)]
            exposed = any(n.in_place and n.held.memory.seen_by_others for n, _ in unknown)
            before = claim_graph_locked("graph", self._use, completion, asynchronous=asynchronous)
            if self._fresh:
                for tensor in self._capture.made():
                    if tensor.memory.unwritten is not None:
                        undo.append((tensor.memory, tensor.memory.unwritten))
                        tensor.memory.mark_written(tensor)
                self._fresh = False
            for tensor, facts in self._capture.established(self._sizes):
                for fact in facts:
                    tensor.learn(fact)
        try:
            if unknown or self._capture.copies:
                wait_for(before)
                if exposed:  # since the last replay
                    self._capture.read_copies(self._executor.alike)
                    self._executor.finish(self._recording)
                    self._needs = self._capture.contracts_of_inputs()
                    unknown = [
                        (n, stamp) for n, stamp in unknown if not (n.in_place and self._capture.is_copied(n.given))
                    ]
                for given, copy in self._capture.copies.values():
                    self._executor.copy_over(given, copy)
                    copy.forget()
                    copy.initialised = True
                unknown += [(n, n.held.memory.stamp()) for n in self._needs if n.copied]
                for need, stamp in unknown:
                    check_contract(need.kernel, need.name, need.fact, need.held, stamp)
        except BaseException:
            self._forget(undo)
            completion.abandon(before)
            raise
        return before

    def _run(self) -> None:
        if getattr(self._executor, "checks", 0):
            from zellige.runtime.checked import replay_checked

            replay_checked(self._executor, self._steps, compare=self._executor.checks > 1)
        else:
            self._executor.replay(self._recording)
        for step in self._capture.guarded:
            step.launch.check_guards()

    def _forget(self, undo: list[tuple[Memory, Unwritten]]) -> None:
        """The replay did not run, or not to its end: nothing is known of what it should have written."""
        with LOCK:
            self._use.stamp = next(CLOCK)
            for memory, unwritten in reversed(undo):
                memory.unwritten = unwritten
                self._fresh = True  # the next replay writes it

    def _clear_rows_never_written(self) -> None:
        """A graph that is smaller now than captured leaves the last rows of its tensors alone: they are zeros, not garbage."""
        for tensor in self._capture.made() if self._sizes else ():
            tensor.memory.clear_unwritten(tensor)

    # --- changing
    def resize(self, **dims: int) -> None:
        """Makes the recorded launches work on smaller extents: ``graph.resize(T=37)`` uses the first 37 rows.

        A dim may be resized if it is the leading axis of every array that names it, up to its size at capture, and if
        every condition of every launch still holds. ZelligeError ZL0521, ZL0507 or ZL0505 otherwise; nothing has changed then."""
        with self._lock:
            if all(self._sizes.get(name) == size for name, size in dims.items()):
                return
            self._check_changeable()
            sizes = {**self._sizes, **dims}
            changed = resizing.check(self._capture, sizes, dims)
            self._quiet()
            for step, known in changed:
                for name in dims.keys() & step.launch.dims.keys():
                    if step.launch.dims[name] != known[name]:
                        step.launch.set_dim(name, known[name])
                self._recording.changed(step.position, step.launch)
            self._sizes = sizes
            self._needs = None

    def set_scalars(self, kernel: str, **scalars: Any) -> None:
        """Changes scalar arguments of every recorded launch of the kernel of that name, also where it is part of a fused one.

        ZelligeError ZL0505, ZL0501 or ZL0507 if one does not take them; nothing has changed then. ZL0502: no such scalar."""
        with self._lock:
            self._check_changeable()
            steps = [(step, names) for step in self._steps if (names := step.scalars_of(kernel))]
            known = {own for _, named in steps for names in named for own in names}
            if steps and not scalars.keys() <= known:
                raise ZelligeError("ZL0502", f"{kernel} has no scalar '{min(scalars.keys() - known)}'")
            checked = []
            for step, named in steps:
                given = {names[own]: value for names in named for own, value in scalars.items() if own in names}
                new = dict(step.binding.scalars)
                for scalar in step.launch.instance.function.scalars:
                    if scalar.name in given:
                        new[scalar.name] = check_scalar(kernel, scalar, given[scalar.name], step.launch.dims)
                resizing.check_preconditions(step, step.launch.dims, new)
                checked.append((step, new))
            self._quiet()
            for step, new in checked:
                step.binding.scalars = new
                step.launch.set_scalars(new)
                self._recording.changed(step.position, step.launch)

    # --- fusing
    def fusions(self, temporaries: Iterable[Tensor] = (), accept: Accept = pays) -> list[Proposal]:
        """Which launches can go into others, and what that saves: what ``fused`` does, in order. Nothing changes."""
        return self._searched(temporaries, accept).proposals

    def fused(self, temporaries: Iterable[Tensor] = (), accept: Accept = pays) -> Graph:
        """A graph that does the same in fewer launches, each proved again; this one stays as it is.

        A value that is overwritten before the end of the step may stay in registers. ``temporaries``: tensors whose last
        contents nobody reads after a replay; they may then not be written at all. ``accept``: which proposals are taken (default:
        those that save more than they cost, by an estimate). ZelligeError ZL0521 if the graph is not complete, or was resized."""
        search = self._searched(temporaries, accept)
        graph = Graph(self._executor)
        for launch in search.launches:
            launch.binding.plan.check_overlap(launch.binding.held)
            prepared = self._executor.prepare(launch.instance, launch.binding)
            graph._append(prepared, launch.binding, launch.parts if len(launch.places) > 1 else ())
        graph.close()
        return graph

    def _searched(self, temporaries: Iterable[Tensor], accept: Accept) -> Search:
        with self._lock:
            if self._state != "closed" or self._sizes:
                raise ZelligeError("ZL0521", "only a complete graph at the sizes of its recording can be fused")
            launches = []
            for i, step in enumerate(self._steps):
                bound = step.binding
                binding = Binding(bound.plan, list(bound.held), dict(bound.scalars))
                own = Part(bound.plan.kernel, {n: n for n in bound.scalars}, {d: Dim(d) for d in bound.dims})
                launches.append(Launch(step.launch.instance, binding, (i,), step.parts or (own,)))
        search = Search(launches, list(temporaries), accept)
        search.run()
        return search

    def update(self, tensor: Tensor, values: Any) -> None:
        """Writes new contents to an input, if they keep every contract that the graph relies on; waits for its users.

        ZelligeError ZL0505 names what they break; the old contents stay."""
        with self._lock:
            new = np.asarray(values, dtype=tensor.storage.dtype)
            for need in self._capture.contracts_of_inputs():
                given, rows = need.given, need.held.shape[:1]
                if given.memory is tensor.memory and given.address == tensor.address and new.shape == tensor.shape:
                    problem = broken(need.fact, new[: rows[0]] if rows and new.ndim == len(given.shape) else new)
                    if problem:
                        raise ZelligeError(
                            "ZL0505",
                            f"{need.kernel}: '{need.name}' breaks its contract {need.fact}: {problem}",
                            help="correct the values",
                        )
            tensor.write(new)

    def _check_changeable(self) -> None:
        if not hasattr(self._recording, "changed"):
            raise ZelligeError(
                "ZL0521", "sizes and scalars of a graph on the GPU are fixed when it is recorded",
                help="record a graph for each of them",
            )  # fmt: skip

    def _quiet(self) -> None:
        """Waits for a replay in flight, which reads what is about to change."""
        if self._use.running is not None:
            self._use.running.wait()


def _persistent(executor: Any) -> Any:
    """What records for ``executor`` into one kernel. ZelligeError ZL0521 if it cannot."""
    if not hasattr(executor, "persistent"):
        raise ZelligeError(
            "ZL0521",
            "this backend does not run recorded launches as one kernel",
            facts={"executor": type(executor).__name__},
            help="leave the graph's form at 'launches'",
        )
    return executor.persistent()


@contextmanager
def record(form: Form = "launches") -> Iterator[Graph]:
    """Launches inside the ``with`` are recorded, for the current executor, instead of run.

    ``form``: run them as launches, or (on GPUs) as one kernel whose programs stay and go through all of them in order; what
    they compute is the same. ZelligeError ZL0908 or ZL0526 at the end of the ``with`` if they cannot be one kernel.

    A block that is left by an exception leaves a graph that cannot be replayed, and every tensor as it was."""
    current = current_executor()
    if isinstance(current, Graph):
        raise ZelligeError("ZL0521", "launches are being recorded already", help="one graph at a time")
    graph = Graph(current, form)
    with using(graph):
        try:
            yield graph
        except BaseException:
            graph.abandon()
            raise
    graph.close()
