"""Rewriting and walking terms: substitution that keeps normal forms, renaming to a second program, the atoms of a term."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from zellige.verify.terms import (
    App,
    Atom,
    Bool,
    Div,
    Int,
    Ite,
    Node,
    Var,
    conjunction,
    const,
    disjunction,
    div,
    equal,
    ite,
    make_app,
    negate,
    nonneg,
    of_atom,
    predicate,
    variable,
)  # fmt: skip


class Substitution:
    """Replaces atoms and booleans, keeping normal forms. ``atom`` may give None to leave one as it is (its parts are
    then rewritten)."""

    def __init__(
        self, atom: Callable[[Atom], Int | None], truth: Callable[[Bool], Bool | None] = lambda b: None
    ) -> None:
        self._atom = atom
        self._truth = truth
        self._memo: dict[Node, Any] = {}

    def int(self, t: Int) -> Int:
        """The rewritten term."""
        known = self._memo.get(t)
        if known is None:
            known = const(0)
            for monomial, c in t.terms:
                part = const(c)
                for a in monomial:
                    part = part * self.atom(a)
                known = known + part
            self._memo[t] = known
        result: Int = known
        return result

    def atom(self, a: Atom) -> Int:
        """The rewritten atom."""
        known = self._memo.get(a)
        if known is None:
            known = self._atom(a)
            if known is None:
                known = self._rebuilt(a)
            self._memo[a] = known
        result: Int = known
        return result

    def _rebuilt(self, a: Atom) -> Int:
        match a:
            case App():
                return of_atom(self.call(a))
            case Div():
                return div(self.int(a.numerator), self.int(a.denominator))
            case Ite():
                return ite(self.bool(a.condition), self.int(a.then), self.int(a.orelse))
        return of_atom(a)

    def call(self, a: App) -> App:
        """The application with arguments and guard rewritten."""
        return make_app(a.function, tuple(self.int(x) for x in a.args), self.bool(a.guard))

    def bool(self, b: Bool) -> Bool:
        """The rewritten truth value."""
        known = self._memo.get(b)
        if known is None:
            known = self._truth(b)
            if known is None:
                match b.kind:
                    case "ge":
                        known = nonneg(self.int(b.term))
                    case "eq":
                        known = equal(self.int(b.term), 0)
                    case "app":
                        call = self.call(b.call)
                        known = predicate(call)
                    case "not":
                        known = negate(self.bool(b.args[0]))
                    case "and":
                        known = conjunction(self.bool(a) for a in b.args)
                    case "or":
                        known = disjunction(self.bool(a) for a in b.args)
                    case _:
                        known = b
            self._memo[b] = known
        result: Bool = known
        return result


def replacing(values: Mapping[Var, Int]) -> Substitution:
    """Substitution of variables."""
    return Substitution(lambda a: values.get(a) if isinstance(a, Var) else None)


class Placed(Substitution):
    """Substitution of variables by a place that may not exist: what is known of an application there, holds under ``guard``."""

    def __init__(self, values: Mapping[Var, Int], guard: Bool) -> None:
        super().__init__(lambda a: values.get(a) if isinstance(a, Var) else None)
        self._guard = guard

    def call(self, a: App) -> App:
        """The application with arguments and guard rewritten, and ``guard`` added."""
        moved = super().call(a)
        return make_app(moved.function, moved.args, conjunction((moved.guard, self._guard)))


def atoms_of(*roots: Int | Bool, guards: bool = True) -> Iterator[Atom]:
    """All atoms in terms, each once, however deep (bounds of variables and facts of applications are not entered)."""
    seen: set[Node] = set()
    stack: list[Node] = list(reversed(roots))
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        match node:
            case Int():
                stack.extend(a for m, _ in reversed(node.terms) for a in m)
            case Bool():
                stack.extend(reversed(node.args))
                if node.kind in ("ge", "eq"):
                    stack.append(node.term)
                elif node.kind == "app":
                    stack.append(node.call)
            case App():
                yield node
                stack.extend(reversed(node.args))
                if guards:
                    stack.append(node.guard)
            case Div():
                yield node
                stack.extend((node.denominator, node.numerator))
            case Ite():
                yield node
                stack.extend((node.orelse, node.then, node.condition))
            case Atom():
                yield node


def variables_of(*roots: Int | Bool) -> list[Var]:
    """The variables in terms, in order of first occurrence."""
    return [a for a in atoms_of(*roots) if isinstance(a, Var)]


class Renaming(Substitution):
    """The same terms of another program: its ids, iterations and lanes are its own; dims, scalars and arrays are shared."""

    def __init__(self, suffix: str, kinds: frozenset[str] = frozenset(("pid", "iteration", "lane"))) -> None:
        super().__init__(self._renamed)
        self._suffix = suffix
        self._kinds = kinds

    def _renamed(self, a: Atom) -> Int | None:
        if not isinstance(a, Var) or a.kind not in self._kinds:
            return None
        low = None if a.low is None else self.int(a.low)
        high = None if a.high is None else self.int(a.high)
        return variable(a.name + self._suffix, a.kind, low, high)
