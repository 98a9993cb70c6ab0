"""What a graph has captured: its launches, what they need from outside, and what they establish for each other.

Nothing of this touches the tensors themselves: while launches are recorded, nothing has been written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from zellige.diagnostics.errors import ZelligeError
from zellige.ir.extent import Extent
from zellige.ir.types import ArrayParam, Role
from zellige.runtime.admission import check_contract
from zellige.runtime.binding import Binding, fact_of
from zellige.runtime.completion import LOCK
from zellige.runtime.contracts import Fact
from zellige.runtime.memory import Memory, Unwritten
from zellige.runtime.tensor import Tensor
from zellige.runtime.tensor_type import fact_of_part, host_use


@dataclass(frozen=True, slots=True)
class Part:
    """A kernel that was recorded and is part of a fused launch, with what its names have become."""

    kernel: str
    scalars: dict[str, str]
    dims: dict[str, Extent]


@dataclass(slots=True, eq=False)
class Step:
    """One recorded launch."""

    launch: Any
    """What the executor prepared: its ``instance``, ``dims`` and ``guards``."""
    binding: Binding
    position: int
    parts: tuple[Part, ...] = ()
    """Of a fused launch: the kernels that it is made of."""

    def scalars_of(self, kernel: str) -> list[dict[str, str]]:
        """For each time that this launch runs the kernel of that name: what its scalars are called here."""
        own = [{name: name for name in self.binding.scalars}] if self.binding.plan.kernel == kernel else []
        return own + [part.scalars for part in self.parts if part.kernel == kernel]


@dataclass(frozen=True, slots=True, eq=False)
class Need:
    """A contract of an input that a graph relies on."""

    given: Tensor
    """The input."""
    held: Tensor
    """The rows that are read at the present sizes: of the input, or of the copy that launches read instead."""
    fact: Fact
    kernel: str
    name: str
    copied: bool
    """``held`` is of a copy that is made anew for each replay."""
    in_place: bool
    """Launches read memory that others may write, and could read a copy."""


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """A contract of an argument that an earlier launch of the graph establishes."""

    consumer: Step
    wanted: ArrayParam
    producer: Step
    given: ArrayParam
    part: bool
    """The consumer takes a view of what the producer writes."""


class Capture:
    """Launches in order, with what is known inside the graph at this point of it."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.guarded: list[Step] = []
        self.links: list[Link] = []
        self._inputs: list[tuple[Step, ArrayParam]] = []
        self.copies: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}
        """By how they lie: arrays under contract that others may write, and the copies that launches read instead."""
        self._written: dict[int, tuple[Memory, Unwritten]] = {}
        """By the ``id`` of memory that some launch writes: it, and what of it is still unwritten at this point."""
        self._spans: list[tuple[int, int]] = []
        """The ranges of addresses that launches write."""
        self._made: dict[int, list[Tensor]] = {}
        """By the ``id`` of memory of which something was unwritten: the tensors over it that launches write."""
        self._known: dict[int, tuple[Tensor, Step, ArrayParam]] = {}
        """By the ``id`` of a tensor: the launch that established its contract, if nothing wrote to it or its memory since."""

    def add(self, launch: Any, binding: Binding, position: Callable[[], int]) -> Step:
        """Notes a launch. ZelligeError ZL0504 if it reads what nothing has written, ZL0505 if a contract does not hold.

        Nothing is noted then, and ``position`` (which appends it to the native recording) is not called."""
        plan, held = binding.plan, binding.held
        step = Step(launch, binding, -1)
        for i in plan.reads:
            if not self._is_written(held[i]):
                raise ZelligeError(
                    "ZL0504", f"{plan.kernel} reads '{plan.names[i]}', to which nothing was written yet",
                    help="zl.tensor(np.zeros(shape, dtype)) makes a cleared one",
                )  # fmt: skip
        arrays = plan.instance.function.arrays
        links, inputs = [], []
        for i, fact in plan.needs:
            if self._writes_to(held[i]):
                links.append(self._link(step, arrays[i], held[i], fact))
            else:
                _check_at_capture(plan.kernel, plan.names[i], held[i], fact)
                inputs.append((step, arrays[i]))
        step.position = position()
        self.steps.append(step)
        self.links += links
        self._inputs += inputs
        if launch.guards:
            self.guarded.append(step)
        for i, exclusive in enumerate(plan.exclusive):
            if exclusive:
                self._write(step, arrays[i], held[i])
        return step

    def _writes_to(self, held: Tensor) -> bool:
        """Whether a launch before writes memory of a tensor, maybe through another that lends or borrows it."""
        memory = held.memory
        return id(memory) in self._written or (memory.shared and any(_overlap(held.span, s) for s in self._spans))

    def _is_written(self, held: Tensor) -> bool:
        entry = self._written.get(id(held.memory))
        return held.initialised if entry is None else held.memory.covers(entry[1], held)

    def _write(self, step: Step, array: ArrayParam, held: Tensor) -> None:
        memory = held.memory
        if id(memory) not in self._written:
            self._written[id(memory)] = (memory, memory.unwritten)
            if memory.unwritten is not None:
                self._made[id(memory)] = []
        if id(memory) in self._made:
            self._made[id(memory)].append(held)
        self._written[id(memory)] = (memory, memory.without(self._written[id(memory)][1], held))
        self._spans.append(held.span)
        for key, (tensor, _, _) in list(self._known.items()):
            if tensor.memory is memory or _overlap(tensor.span, held.span):
                del self._known[key]
        if array.contract is not None:
            self._known[id(held)] = (held, step, array)

    def _link(self, step: Step, wanted: ArrayParam, held: Tensor, fact: Fact) -> Link:
        """Who establishes the contract of an argument that the graph itself writes. ZelligeError ZL0505 if nobody does."""
        tensor: Tensor | None = held
        while tensor is not None:
            found = self._known.get(id(tensor))
            if found is not None:
                link = Link(step, wanted, found[1], found[2], tensor is not held)
                if given_by(link, found[1].binding.dims, fact):
                    return link
            tensor = tensor.parent
        raise ZelligeError(
            "ZL0505", f"{step.binding.plan.kernel}: '{wanted.name}' is written in this graph, by nothing that is proved to keep {fact}",
            help="give the output that writes it that element type",
        )  # fmt: skip

    # --- when it is complete
    def made(self) -> Iterator[Tensor]:
        """What launches write of memory that did not hold values everywhere before the graph."""
        for written in self._made.values():
            yield from written

    def uses(self) -> Iterator[tuple[Tensor, bool]]:
        """All arguments, each with whether it is used exclusively."""
        for step in self.steps:
            yield from step.binding.borrowed_arguments()

    def established(self, sizes: dict[str, int]) -> Iterator[tuple[Tensor, tuple[Fact, ...]]]:
        """Contracts that hold of whole tensors after a replay at these sizes."""
        for tensor, step, array in self._known.values():
            assert array.contract is not None
            full = step.binding.dims
            if all(sizes.get(name, full[name]) == full[name] for name in full):
                yield tensor, (fact_of(array.contract, full),)

    def contracts_of_inputs(self) -> list[Need]:
        """What must hold of the inputs at the present sizes, each thing once."""
        needs = {}
        for step, array in self._inputs:
            assert array.contract is not None
            given = step.binding.tensors[array.name]
            fact = fact_of(array.contract, step.launch.dims)
            rows = array.shape[0].evaluate(step.launch.dims) if array.shape else 0
            shared = array.role is Role.IN
            key = (*_lies(given), rows, fact, shared)
            if key not in needs:
                copied = shared and self.is_copied(given)
                held = self.copies[_lies(given)][1] if copied else given
                part = held if not held.shape or rows == held.shape[0] else held[:rows]
                needs[key] = Need(
                    given, part, fact, step.binding.plan.kernel, array.name, copied, shared and not copied
                )
        return list(needs.values())

    def is_copied(self, given: Tensor) -> bool:
        """Whether launches that only read an array read a copy of it."""
        return _lies(given) in self.copies

    def read_copies(self, alike: Callable[[Tensor], Tensor]) -> None:
        """Launches read copies of the arrays under contract that others may write: what was checked is what is read.

        ``alike`` makes a tensor for the copy. Arrays that the graph itself writes, before or by the launch, stay as they are."""
        for step, array in self._inputs:
            held = step.binding.tensors[array.name]
            key = _lies(held)
            if (
                array.role is not Role.IN
                or not (key in self.copies or held.memory.seen_by_others)
                or not held.storage.size
            ):
                continue
            if key not in self.copies:
                self.copies[key] = held, alike(held)
            step.launch.read_instead(array.name, self.copies[key][1])


def given_by(link: Link, dims: dict[str, int], wanted: Fact) -> bool:
    """Whether what the producer establishes when its dims are these is enough for the consumer."""
    assert link.given.contract is not None
    fact: Fact | None = fact_of(link.given.contract, dims)
    if link.part and fact is not None:
        fact = fact_of_part(fact)
    return fact is not None and fact.suffices_for(wanted)


def _check_at_capture(kernel: str, name: str, held: Tensor, fact: Fact) -> None:
    with host_use(held, exclusive=False, name=kernel):
        with LOCK:
            known, stamp = held.keeps(fact), held.memory.stamp()
        if not known:
            check_contract(kernel, name, fact, held, stamp)


def _lies(held: Tensor) -> tuple[Any, ...]:
    """Where and how a tensor lies; the graph keeps its memory alive."""
    return id(held.memory), held.address, held.shape, held.storage.strides, held.dtype


def _overlap(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] < b[1] and b[0] < a[1]
