"""Finds launches of a recorded step that can be one launch, and says what that saves. What it finds is data; what becomes of it is
verified like any kernel.

A launch may go into those that read what it writes if, in the recorded order,

- they are all fused with it, or it keeps writing for the others;
- nothing in between writes what it reads, or touches what it writes: it runs later than before;
- an array that is dropped is dead: the next to touch it overwrites all of it, or nobody does and the caller calls it temporary.

Which launch touches what is known from the ownership of arrays; whether two kernels can be one is for ``passes/fusion.py`` to say, and
the verifier to prove.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

from zellige.diagnostics.findings import VerificationError
from zellige.ir.extent import Dim, Extent
from zellige.ir.ops import Function
from zellige.ir.types import ArrayParam, Role
from zellige.passes.fusion import FusionError, Names, Parameters, common_names, fuse
from zellige.passes.traffic import accesses
from zellige.runtime.binding import Binding
from zellige.runtime.capture import Part
from zellige.runtime.instances import Instance
from zellige.runtime.plan import plan_of
from zellige.runtime.tensor import Tensor

LAUNCH_BYTES = 32 << 10
"""What a launch costs, as bytes of memory traffic: some 2 µs at 16 GB/s."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A launch that can go into those that read its result. Bytes are of arrays that are read or written; all are estimates."""

    producer: str
    consumers: tuple[str, ...]
    results: tuple[str, ...]
    """The fused kernels, one for each consumer."""
    launches: tuple[int, ...]
    """Places in the recorded step of the launches that take part, the producer's first."""
    dropped: tuple[str, ...]
    """Arrays of the producer that are no longer written."""
    bytes_saved: int
    """Reads and writes that no program makes any more, cached or not."""
    bytes_again: int
    """Reads that are made more often, by programs that compute again what one program computed."""

    @property
    def gain(self) -> int:
        """Bytes saved, all in all, a launch counted as ``LAUNCH_BYTES``."""
        return LAUNCH_BYTES + self.bytes_saved - self.bytes_again


class Use(NamedTuple):
    """An argument: the parameter, the tensor, and the first and the end address of its memory."""

    array: ArrayParam
    tensor: Tensor
    low: int
    high: int

    @property
    def role(self) -> Role:
        """Its ownership."""
        return self.array.role

    def overlaps(self, other: Use) -> bool:
        """Whether the two may have a byte in common."""
        return self.low < other.high and other.low < self.high


def _areas(bindings: Sequence[Binding]) -> dict[tuple[int, int], int]:
    """For each range of addresses, the number of the area that it lies in: ranges of different areas have no byte in common."""
    found: dict[tuple[int, int], int] = {}
    reach = area = 0
    for low, high in sorted({held.span for binding in bindings for held in binding.held}):
        area += low >= reach
        reach = max(reach, high)
        found[low, high] = area
    return found


class Launch:
    """A launch of the step as it is at this point of the search."""

    __slots__ = ("areas", "binding", "instance", "parts", "places", "uses")

    def __init__(self, instance: Instance, binding: Binding, places: tuple[int, ...], parts: tuple[Part, ...]) -> None:
        self.instance, self.binding, self.places, self.parts = instance, binding, places, parts
        arrays = zip(instance.function.arrays, binding.held, strict=True)
        self.uses = [Use(array, held, *held.span) for array, held in arrays]
        self.areas: dict[int, list[Use]] = {}
        """The uses by area, once the search has numbered those."""

    def number(self, areas: Mapping[tuple[int, int], int]) -> None:
        """Notes which areas it uses."""
        for use in self.uses:
            self.areas.setdefault(areas[use.low, use.high], []).append(use)

    @property
    def name(self) -> str:
        """The kernel's."""
        return self.instance.function.name


Accept = Callable[[Proposal], bool]


def pays(proposal: Proposal) -> bool:
    """Whether a proposal saves more than it costs, by its own estimate."""
    return proposal.gain > 0


@dataclass(slots=True)
class Search:
    """The search through one step. ``temporaries``: tensors whose last contents nobody reads."""

    launches: list[Launch]
    temporaries: Collection[Tensor]
    accept: Accept
    proposals: list[Proposal] = field(default_factory=list)
    _refused: set[tuple[object, ...]] = field(default_factory=set)
    _areas: dict[tuple[int, int], int] = field(default_factory=dict)
    _accesses: dict[tuple[object, ...], dict[str, int]] = field(default_factory=dict)

    def run(self) -> list[Launch]:
        """The launches when everything that is accepted has been fused; what was, is in ``proposals``."""
        self._areas = _areas([launch.binding for launch in self.launches])
        for launch in self.launches:
            launch.number(self._areas)
        before = -1
        while before != len(self.proposals):  # what has been fused may go into something else
            before, at = len(self.proposals), 0
            while at < len(self.launches):
                at += not self._fuse(at)
        return self.launches

    def _fuse(self, at: int) -> bool:
        """Fuses the launch at a place with its readers, if that is possible and accepted."""
        producer = self.launches[at]
        every = self._readers(at)
        whole = all(self._dead(use, at, every) for use in producer.uses if use.role is Role.OUT)
        for chosen, keep in ((every, False), (every[:1], True)):
            if not chosen or (keep and whole and len(every) == 1) or (not keep and not whole):
                continue
            key = (keep, producer, *(self.launches[j] for j in chosen))
            if key in self._refused:
                continue
            made = self._made(at, chosen, keep=keep) if self._may_move(at, chosen) else None
            proposal = None if made is None else self._proposal(at, chosen, made)
            if made is None or proposal is None or not self.accept(proposal):
                self._refused.add(key)
                continue
            self.proposals.append(proposal)
            for j, launch in zip(chosen, made, strict=True):
                launch.number(self._areas)
                self.launches[j] = launch
            del self.launches[at]
            return True
        return False

    # --- what the order allows
    def _readers(self, at: int) -> list[int]:
        """Launches after a place that read what the launch there writes, until it is overwritten."""
        found: set[int] = set()
        for use in self.launches[at].uses:
            if use.role not in (Role.OUT, Role.MUT):
                continue
            area = self._areas[use.low, use.high]
            for j in range(at + 1, len(self.launches)):
                roles = [other.role for other in self.launches[j].areas.get(area, ()) if use.overlaps(other)]
                if any(r is not Role.OUT for r in roles):
                    found.add(j)
                if any(r is not Role.IN for r in roles):
                    break  # from here on it is another value
        return sorted(found)

    def _may_move(self, at: int, chosen: Sequence[int]) -> bool:
        """Whether the launch may run at the places of its readers instead."""
        last = max(chosen)
        for j in range(at + 1, last + 1):
            both = self.launches[j].areas.keys() & self.launches[at].areas.keys()
            for area in both:
                uses, mine = self.launches[j].areas[area], self.launches[at].areas[area]
                for use, own in product(uses, mine):
                    if not use.overlaps(own):
                        continue
                    if j not in chosen and (use.role is not Role.IN or own.role is not Role.IN):
                        return False
                    if j in chosen and j < last and use.role is not Role.IN:
                        return False  # the next reader's copy would see what this one writes
        return True

    def _dead(self, use: Use, at: int, readers: Sequence[int]) -> bool:
        """Whether nobody reads what a launch writes to a tensor, but these readers."""
        temporary = any(_lies_in(use.tensor, t) for t in self.temporaries)
        area = self._areas[use.low, use.high]
        for j in (*range(at + 1, len(self.launches)), *range(at + 1)):
            if j <= at and not temporary:
                return False
            for other in self.launches[j].areas.get(area, ()):
                if not use.overlaps(other):
                    continue
                if j in readers:
                    if other.role is not Role.IN:
                        return not any(k > j for k in readers)  # it goes on as that launch's result
                elif other.role is not Role.OUT:
                    return False
                elif _lies_in(use.tensor, other.tensor) and _as_many_rows(use.array, other.array):
                    return True
        return temporary

    # --- the fused launches
    def _made(self, at: int, chosen: Sequence[int], *, keep: bool) -> list[Launch] | None:
        producer = self.launches[at]
        made = []
        for j in chosen:
            launch = self._pair(producer, self.launches[j], keep=keep)
            if launch is None:
                return None
            made.append(launch)
        written = [use.tensor for use in producer.uses if use.role is not Role.IN]
        if len(chosen) > 1 and any(held is mine for launch in made for held in launch.binding.held for mine in written):
            return None  # each of them would write what one wrote
        return made

    def _pair(self, producer: Launch, consumer: Launch, *, keep: bool) -> Launch | None:
        """The launch that does what two do; None if they cannot be one."""
        first, second = producer.instance.function, consumer.instance.function
        pairs: dict[str, str] = {}
        for mine, theirs in product(producer.uses, consumer.uses):
            if mine.overlaps(theirs):
                a, b = mine.array.name, theirs.array.name
                if _same(mine.tensor, theirs.tensor) and a not in pairs and b not in pairs.values():
                    pairs[a] = b
                elif mine.role is not Role.IN or theirs.role is not Role.IN:
                    return None  # another view of memory that one of them writes
        kept = [a.name for a in first.arrays if a.name in pairs and a.role is Role.OUT] if keep else []
        dims = (producer.binding.dims, consumer.binding.dims)
        one = frozenset(d for d in dims[0].keys() & dims[1].keys() if dims[0][d] == dims[1][d])
        key = (producer.instance, consumer.instance, tuple(pairs.items()), tuple(kept), one)
        if key not in _FUSED:
            _FUSED[key] = _fused(first, second, pairs, kept, one)
        names, instance = _FUSED[key] or (None, None)
        if names is None or instance is None or not _consistent(names, *dims):
            return None
        return _launch(instance, producer, consumer, names)

    def _proposal(self, at: int, chosen: Sequence[int], made: Sequence[Launch]) -> Proposal:
        old = [self.launches[j] for j in (at, *chosen)]
        before, after = self._traffic(old), self._traffic(made)
        changes = [before.get(key, 0) - after.get(key, 0) for key in before.keys() | after.keys()]
        still = {id(held) for launch in made for held in launch.binding.held}
        return Proposal(
            old[0].name,
            tuple(launch.name for launch in old[1:]),
            tuple(launch.name for launch in made),
            tuple(p for launch in old for p in launch.places),
            tuple(use.array.name for use in old[0].uses if id(use.tensor) not in still),
            sum(c for c in changes if c > 0),
            -sum(c for c in changes if c < 0),
        )

    def _traffic(self, launches: Sequence[Launch]) -> dict[tuple[int, int], int]:
        """Bytes that launches read and write, by the memory and address of what they touch; each access counts, cached or not."""
        found: dict[tuple[int, int], int] = {}
        for launch in launches:
            key = (launch.instance, *launch.binding.dims.values())
            if key not in self._accesses:
                self._accesses[key] = accesses(launch.instance.function, launch.binding.dims)
            for use in launch.uses:
                place = (id(use.tensor.memory), use.low)
                moved = use.array.dtype.bytes_for(self._accesses[key].get(use.array.name, 0))
                found[place] = found.get(place, 0) + moved
        return found


_FUSED: dict[Any, tuple[Names, Instance] | None] = {}
"""By two kernels, their arrays that are one, those that are kept and their dims that are one: the proved kernel made of them, if
there is one. Steps of one model have few different pairs, and record them again at other sizes."""


def _fused(
    first: Function, second: Function, pairs: Mapping[str, str], kept: Sequence[str], one: Collection[str]
) -> tuple[Names, Instance] | None:
    """The proved kernel made of two; None if they cannot be one, or the result is not proved."""
    same = [d for d in one if d in first.dims() and d in second.dims()]
    try:
        names = common_names(Parameters.of(first), Parameters.of(second), pairs, one=same, keep=kept)
        return names, Instance.verified(fuse(first, second, names, keep=[names.producer[k] for k in kept]))
    except (FusionError, VerificationError):
        return None


def _launch(instance: Instance, producer: Launch, consumer: Launch, names: Names) -> Launch:
    """The launch of a fused kernel with the arguments of both."""
    held = {names.consumer.get(n, n): t for n, t in consumer.binding.tensors.items()}
    held |= {names.producer[n]: t for n, t in producer.binding.tensors.items()}
    dims = {names.producer[d]: size for d, size in producer.binding.dims.items() if d in names.producer}
    dims |= consumer.binding.dims
    scalars = {names.producer[n]: v for n, v in producer.binding.scalars.items()} | consumer.binding.scalars
    function = instance.function
    needed = {*function.dims(), *(d for s in function.scalars if s.contract for d in s.contract.bound.dims())}
    parts = (
        *(
            Part(
                p.kernel,
                {own: names.producer[new] for own, new in p.scalars.items()},
                _renamed(p.dims, names.producer_dims),
            )
            for p in producer.parts
        ),
        *(Part(p.kernel, p.scalars, _renamed(p.dims, names.consumer_dims)) for p in consumer.parts),
    )
    kernels = tuple(part.kernel for part in parts)
    plan = plan_of(instance, {d: size for d, size in dims.items() if d in needed}, {}, {}, parts=kernels)
    return Launch(
        instance,
        Binding(plan, [held[a.name] for a in function.arrays], scalars),
        (*producer.places, *consumer.places),
        parts,
    )


def _renamed(dims: Mapping[str, Extent], names: Mapping[str, Extent]) -> dict[str, Extent]:
    return {own: extent.substitute(names) for own, extent in dims.items()}


def _consistent(names: Names, producer: Mapping[str, int], consumer: Mapping[str, int]) -> bool:
    """Whether dims that became one, because a contract of an array says so, have one size."""
    sizes = {names.producer[d]: size for d, size in producer.items() if d in names.producer} | dict(consumer)
    return all(
        extent.evaluate(sizes) == own[dim]
        for extents, own in ((names.producer_dims, producer), (names.consumer_dims, consumer))
        for dim, extent in extents.items()
        if dim in own
    )


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are one view of one memory."""
    return a is b or (a.memory is b.memory and a.address == b.address and a.layout is b.layout)


def _lies_in(part: Tensor, whole: Tensor) -> bool:
    """Whether every byte of a tensor is one of another, as far as their ranges of addresses tell."""
    low, high = whole.span
    within = low <= part.span[0] and part.span[1] <= high
    return _same(part, whole) or (within and whole.storage.flags.c_contiguous)


def _as_many_rows(a: ArrayParam, b: ArrayParam) -> bool:
    """Whether ``b`` is not resized (``Graph.resize``) where ``a`` is not."""
    return not b.shape or not isinstance(b.shape[0], Dim) or a.shape[:1] == b.shape[:1]


def table(proposals: Sequence[Proposal]) -> str:
    """Proposals as text: what goes into what, and what it saves."""
    rows: dict[tuple[Any, ...], list[Proposal]] = {}
    for p in proposals:
        rows.setdefault((p.producer, p.consumers, p.dropped, p.bytes_saved, p.bytes_again), []).append(p)
    cells = [("times", "kernel", "goes into", "dropped", "KB saved", "KB again")]
    for (producer, consumers, dropped, saved, again), found in rows.items():
        n = len(found)
        cells.append(
            (str(n), producer, " + ".join(consumers), ", ".join(dropped) or "none", f"{n * saved / 1024:.1f}", f"{n * again / 1024:.1f}")
        )  # fmt: skip
    widths = [max(len(row[i]) for row in cells) for i in range(6)]
    lines = ["  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in cells]
    lines.append(f"{len(proposals)} launches fewer")
    return "\n".join(lines)
