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

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zellige.diagnostics.findings import VerificationError
from zellige.ir.ops import Function
from zellige.ir.types import Role
from zellige.passes.fusion import FusionError, Names, Parameters, common_names, fuse
from zellige.runtime.binding import Binding
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
    """Writes and reads of what stays in registers."""
    bytes_again: int
    """Reads of the producer's inputs by programs that compute again what one program computed."""

    @property
    def gain(self) -> int:
        """Bytes saved, all in all, a launch counted as ``LAUNCH_BYTES``."""
        return LAUNCH_BYTES + self.bytes_saved - self.bytes_again


Parts = tuple[tuple[str, dict[str, str]], ...]
"""The kernels that a launch is made of, each with what its scalars are called now."""


@dataclass(eq=False, slots=True)
class Launch:
    """A launch of the step as it is at this point of the search."""

    instance: Instance
    binding: Binding
    places: tuple[int, ...]
    parts: Parts

    def touched(self) -> Iterator[tuple[Role, Tensor]]:
        """The arrays with their ownership."""
        for array, held in zip(self.instance.function.arrays, self.binding.held, strict=True):
            yield array.role, held

    @property
    def programs(self) -> int:
        """Programs of its grid."""
        count = 1
        for axis in self.instance.function.grid:
            count *= axis.programs.evaluate(self.binding.dims)
        return count


Accept = Callable[[Proposal], bool]


def pays(proposal: Proposal) -> bool:
    """Whether a proposal saves more than it costs, by its own estimate."""
    return proposal.gain > 0


@dataclass(slots=True)
class Search:
    """The search through one step. ``temporaries``: ids of memory whose last contents nobody reads."""

    launches: list[Launch]
    temporaries: Collection[int]
    accept: Accept
    proposals: list[Proposal] = field(default_factory=list)
    _refused: set[tuple[object, ...]] = field(default_factory=set)
    _kernels: dict[Any, Instance | None] = field(default_factory=dict)

    def run(self) -> list[Launch]:
        """The launches when everything that is accepted has been fused; what was, is in ``proposals``."""
        before = -1
        while before != len(self.proposals):  # what has been fused may go into something else
            before, at = len(self.proposals), 0
            while at < len(self.launches):
                at += not self._fuse(at)
        return self.launches

    def _fuse(self, at: int) -> bool:
        """Fuses the launch at a place with its readers, if that is possible and accepted."""
        producer = self.launches[at]
        readers = self._readers(at)
        every = [j for j, _ in readers]
        whole = all(self._dead(tensor, at, every) for role, tensor in producer.touched() if role is Role.OUT)
        for chosen, keep in ((every, False), (every[:1], True)):
            if not chosen or (keep and whole and len(every) == 1) or (not keep and not whole):
                continue
            key = (keep, producer, *(self.launches[j] for j in chosen))
            if key in self._refused:
                continue
            made = self._made(at, chosen, keep=keep) if self._may_move(at, chosen, every) else None
            proposal = None if made is None else self._proposal(at, chosen, made)
            if made is None or proposal is None or not self.accept(proposal):
                self._refused.add(key)
                continue
            self.proposals.append(proposal)
            for j, launch in zip(chosen, made, strict=True):
                self.launches[j] = launch
            del self.launches[at]
            return True
        return False

    # --- what the order allows
    def _readers(self, at: int) -> list[tuple[int, Tensor]]:
        """Launches after a place that read what the launch there writes, until it is overwritten."""
        found: dict[int, Tensor] = {}
        for role, tensor in self.launches[at].touched():
            if role not in (Role.OUT, Role.MUT):
                continue
            for j in range(at + 1, len(self.launches)):
                roles = [(r, t) for r, t in self.launches[j].touched() if _meet(t, tensor)]
                if any(r is not Role.OUT for r, _ in roles):
                    found[j] = tensor
                if any(r is not Role.IN for r, _ in roles):
                    break  # from here on it is another value
        return sorted(found.items())

    def _may_move(self, at: int, chosen: Sequence[int], readers: Sequence[int]) -> bool:
        """Whether the launch may run at the places of its readers instead."""
        mine = list(self.launches[at].touched())
        last = max(chosen)
        if any(j not in chosen and j < last for j in readers):
            return False
        for j in range(at + 1, last + 1):
            for role, tensor in self.launches[j].touched():
                for own, held in mine:
                    if not _meet(tensor, held):
                        continue
                    if j not in chosen and (role is not Role.IN or own is not Role.IN):
                        return False
                    if j in chosen and j < last and role is not Role.IN:
                        return False  # the next reader's copy would see what this one writes
        return True

    def _dead(self, tensor: Tensor, at: int, readers: Sequence[int]) -> bool:
        """Whether nobody reads what a launch writes to a tensor, but these readers."""
        for j in (*range(at + 1, len(self.launches)), *range(at + 1)):
            wrapped = j <= at
            if wrapped and id(tensor.memory) not in self.temporaries:
                return False
            for role, held in self.launches[j].touched():
                if _meet(held, tensor):
                    if j in readers:
                        if role is not Role.IN:
                            return not any(k > j for k in readers)  # it goes on as that launch's result
                    elif role is not Role.OUT:
                        return False
                    elif _covers(held, tensor):
                        return True
        return id(tensor.memory) in self.temporaries

    # --- the fused launches
    def _made(self, at: int, chosen: Sequence[int], *, keep: bool) -> list[Launch] | None:
        producer = self.launches[at]
        made = []
        for j in chosen:
            launch = self._pair(producer, self.launches[j], keep=keep)
            if launch is None:
                return None
            made.append(launch)
        if len(chosen) > 1 and any(role is not Role.IN and any(t is held for launch in made for t in launch.binding.held)
                                   for role, held in producer.touched()):  # fmt: skip
            return None  # each of them would write what one wrote
        return made

    def _pair(self, producer: Launch, consumer: Launch, *, keep: bool) -> Launch | None:
        """The launch that does what two do; None if they cannot be one."""
        first, second = producer.instance.function, consumer.instance.function
        pairs: dict[str, str] = {}
        for mine, a in zip(first.arrays, producer.binding.held, strict=True):
            for theirs, b in zip(second.arrays, consumer.binding.held, strict=True):
                if not _meet(a, b) or (mine.role is Role.IN and theirs.role is Role.IN and not _same(a, b)):
                    continue
                if not _same(a, b) or mine.name in pairs or theirs.name in pairs.values():
                    if mine.role is Role.IN and theirs.role is Role.IN:
                        continue
                    return None  # another view of memory that one of them writes
                pairs[mine.name] = theirs.name
        kept = [a.name for a in first.arrays if a.name in pairs and a.role is Role.OUT] if keep else []
        dims = (producer.binding.dims, consumer.binding.dims)
        one = frozenset(d for d in first.dims() & second.dims() if dims[0][d] == dims[1][d])
        try:
            names = common_names(Parameters.of(first), Parameters.of(second), pairs, one=one, keep=kept)
        except FusionError:
            return None
        if not _consistent(names, *dims):
            return None
        key = (producer.instance, consumer.instance, tuple(pairs.items()), tuple(kept), one)
        if key not in self._kernels:
            self._kernels[key] = _verified(first, second, names, [names.producer[k] for k in kept])
        instance = self._kernels[key]
        return None if instance is None else _launch(instance, producer, consumer, names)

    def _proposal(self, at: int, chosen: Sequence[int], made: Sequence[Launch]) -> Proposal:
        producer = self.launches[at]
        names = [a.name for a in producer.instance.function.arrays]
        still = {id(t) for launch in made for role, t in launch.touched()}
        written = [(n, t) for n, (role, t) in zip(names, producer.touched(), strict=True) if role is not Role.IN]
        dropped = [(n, t) for n, t in written if id(t) not in still]
        saved = sum(_bytes(t) * (1 + len(chosen)) for _, t in dropped)
        saved += sum(_bytes(t) for _, t in written if id(t) in still)
        inputs = sum(_bytes(t) for role, t in producer.touched() if role is not Role.OUT)
        programs = sum(launch.programs for launch in made)
        again = inputs * (max(programs, 1) / max(producer.programs, 1) - 1) if dropped or len(chosen) > 1 else 0
        beside = all(launch.programs == producer.programs for launch in made) and len(chosen) == 1
        return Proposal(
            producer.instance.function.name,
            tuple(self.launches[j].instance.function.name for j in chosen),
            tuple(launch.instance.function.name for launch in made),
            tuple(p for launch in (producer, *(self.launches[j] for j in chosen)) for p in launch.places),
            tuple(n for n, _ in dropped),
            saved,
            0 if beside else max(int(again), 0),
        )


def _verified(first: Function, second: Function, names: Names, keep: Sequence[str]) -> Instance | None:
    """The proved kernel made of two; None if they cannot be one, or the result is not proved."""
    try:
        return Instance.verified(fuse(first, second, names, keep=keep))
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
    plan = plan_of(instance, {d: size for d, size in dims.items() if d in needed}, {}, {})
    parts = tuple(
        (kernel, {own: names.producer[new] for own, new in scalar.items()}) for kernel, scalar in producer.parts
    )
    return Launch(
        instance,
        Binding(plan, [held[a.name] for a in function.arrays], scalars),
        (*producer.places, *consumer.places),
        (*parts, *consumer.parts),
    )


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
    return a is b or (a.memory is b.memory and a.address == b.address and a.layout == b.layout)


def _meet(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors may have a byte in common."""
    (low, high), (start, end) = a.span, b.span
    return low < end and start < high


def _covers(a: Tensor, b: Tensor) -> bool:
    """Whether every byte of b is one of a."""
    (low, high), (start, end) = a.span, b.span
    return low <= start and end <= high and bool(a.storage.flags.c_contiguous)


def _bytes(tensor: Tensor) -> int:
    low, high = tensor.span
    return high - low


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
