"""A launch borrows its arguments: in one step, with everything that depends on their contents; or not at all."""

from __future__ import annotations

from collections.abc import Sequence

from zellige.diagnostics.errors import ZelligeError
from zellige.runtime.binding import Binding
from zellige.runtime.completion import LOCK, Completion
from zellige.runtime.contracts import Fact, broken
from zellige.runtime.memory import CLOCK, Memory, Unwritten, claim_locked, conflicts_locked, wait_for
from zellige.runtime.plan import Plan
from zellige.runtime.tensor import Tensor, copied_here


class Admission:
    """Borrowed arguments of one launch, until ``completion`` ends.

    Made, it has its place in the order of all uses, and what it will write counts as written for those after it. It may
    run when ``settle`` has returned; if it does not run, ``abandon`` takes back what was noted."""

    __slots__ = ("_before", "_binding", "_held", "_plan", "_unchecked", "_undo", "completion")

    def __init__(self, binding: Binding, completion: Completion, *, asynchronous: bool) -> None:
        """ZelligeError ZL0504 if something is read that was never written; AliasError ZL0503 if a host array is in the way."""
        plan, held = binding.plan, binding.held
        self._binding = binding
        self._plan = plan
        self._held = held
        self.completion = completion
        self._unchecked: list[tuple[int, Fact, int]] = []
        self._undo: list[tuple[Memory, Unwritten]] = []
        self._before: list[Completion] = []
        with LOCK:
            for i in plan.reads:
                if held[i].memory.unwritten is not None and not held[i].initialised:
                    conflicts_locked(
                        held[i].memory.ledger, *held[i].span, False, []
                    )  # raises the error of who failed to
                    raise _unwritten(plan, i)
            for i, fact in plan.needs:
                if not held[i].keeps(fact):
                    self._unchecked.append((i, fact, held[i].memory.stamp()))
            self._before = claim_locked(
                plan.kernel, tuple(zip(held, plan.exclusive, strict=True)), completion, asynchronous=asynchronous
            )
            try:
                self._note_locked()
                problem = None
            except MemoryError as error:
                problem = error
        if problem is not None:
            self.abandon()
            raise problem

    def _note_locked(self) -> None:
        """What the launch will write is newer than anything known, and will be there."""
        for i in self._plan.writes:
            memory = self._held[i].memory
            memory.version = next(CLOCK)
            if memory.unwritten is not None:
                self._undo.append((memory, memory.unwritten))
                memory.mark_written(self._held[i])
        for i, fact in self._plan.establishes:
            self._held[i].learn(fact)

    @property
    def before(self) -> list[Completion]:
        """What must end before the launch may run."""
        return self._before

    def check_contracts(self) -> None:
        """Checks contracts that are not known to hold, once their arrays have been written. ZelligeError ZL0505.

        Of what others may write meanwhile the launch gets a copy, and that is checked."""
        if not self._unchecked:
            return
        wait_for(self._before)  # among them whoever writes these arrays, or has just given them to others
        for i, fact, stamp in self._unchecked:
            held = self._held[i]
            if held.memory.seen_by_others and not self._plan.exclusive[i]:
                held = copied_here(held)
                self._binding.replace(i, held)
            check_contract(self._plan.kernel, self._plan.names[i], fact, held, stamp)

    def settle(self) -> None:
        """Waits for earlier users, and checks. ZelligeError ZL0505, or the error of an earlier launch that failed."""
        if self._before:
            wait_for(self._before)
        self.check_contracts()

    def abandon(self) -> None:
        """The launch does not run, or failed, and the host has been told."""
        self.withdraw()
        self.completion.abandon(self._before)

    def withdraw(self) -> None:
        """Nothing is known of what the launch should have written."""
        with LOCK:
            for i in self._plan.writes:
                self._held[i].memory.version = next(CLOCK)
            for memory, unwritten in self._undo:
                memory.unwritten = unwritten


def check_contract(kernel: str, parameter: str, fact: Fact, held: Tensor, stamp: int) -> None:
    """Checks a contract on an array that nobody writes meanwhile; it is remembered. ZelligeError ZL0505."""
    problem = broken(fact, held.values())
    if problem:
        raise ZelligeError(
            "ZL0505", f"{kernel}: '{parameter}' breaks its contract {fact}: {problem}", help="correct the values"
        )
    with LOCK:
        held.learn(fact, stamp)


def _unwritten(plan: Plan, i: int) -> ZelligeError:
    return ZelligeError(
        "ZL0504",
        f"{plan.kernel} reads '{plan.names[i]}', to which nothing was written yet",
        help="zl.tensor(np.zeros(shape, dtype)) makes a cleared one",
    )


def check_contents(plan: Plan, held: Sequence[Tensor]) -> None:
    """The checks of a launch on a device, in its turn. ZelligeError ZL0504 or ZL0505."""
    for i in plan.reads:
        if held[i].memory.unwritten is not None and not held[i].initialised:
            raise _unwritten(plan, i)
    for i, fact in plan.needs:
        if not held[i].keeps(fact):
            check_contract(plan.kernel, plan.names[i], fact, held[i], held[i].memory.stamp())
