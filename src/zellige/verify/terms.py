"""Terms over integers and booleans: what index values mean, in a normal form.

An integer term (``Int``) is a polynomial over *atoms*: variables, applications of unknown functions, quotients and
conditionals. Equal polynomials are one object, so comparing normal forms is comparing identities. A boolean term
(``Bool``) is built from ``t >= 0`` and ``t == 0``.

Terms live in a ``Pool``; ``with session():`` opens one for the duration of a verification. Everything is ordered by
creation inside the pool, which makes proofs repeatable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from math import gcd
from typing import Any

from zellige.diagnostics.errors import InternalError

Monomial = tuple["Atom", ...]


class Node:
    """Base of all terms; ``id`` is the order of creation."""

    __slots__ = ("id",)
    id: int


class Int(Node):
    """A polynomial: pairs of monomial (atoms in order; () for the constant) and coefficient, in order."""

    __slots__ = ("terms",)
    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: Int | int) -> Int:
        return _combine(self, 1, _int(other), 1)

    __radd__ = __add__

    def __sub__(self, other: Int | int) -> Int:
        return _combine(self, 1, _int(other), -1)

    def __rsub__(self, other: Int | int) -> Int:
        return _combine(_int(other), 1, self, -1)

    def __neg__(self) -> Int:
        return self * -1

    def __mul__(self, other: Int | int) -> Int:
        return _product(self, _int(other))

    __rmul__ = __mul__

    @property
    def constant(self) -> int | None:
        """The value if this is a constant, else None."""
        if not self.terms:
            return 0
        if len(self.terms) == 1 and not self.terms[0][0]:
            return self.terms[0][1]
        return None

    @property
    def atom(self) -> Atom | None:
        """The atom if this is just one atom, else None."""
        if len(self.terms) == 1 and self.terms[0][1] == 1 and len(self.terms[0][0]) == 1:
            return self.terms[0][0][0]
        return None

    def __repr__(self) -> str:
        parts = []
        for monomial, c in self.terms:
            body = "*".join(map(repr, monomial))
            parts.append(str(c) if not monomial else body if c == 1 else f"{c}*{body}")
        return "(" + " + ".join(parts) + ")" if len(parts) != 1 else parts[0] if parts else "0"


class Atom(Node):
    """What polynomials are made of."""

    __slots__ = ()


class Var(Atom):
    """A variable with inclusive bounds (None: unbounded). ``kind`` says what it stands for."""

    __slots__ = ("high", "kind", "low", "name")
    name: str
    kind: str
    low: Int | None
    high: Int | None

    def __repr__(self) -> str:
        return self.name


class App(Atom):
    """An unknown function applied to arguments. ``guard`` is what holds wherever the value was computed; it is no part
    of the function's meaning: two applications that differ in guards only are the same number."""

    __slots__ = ("args", "function", "guard")
    function: Function
    args: tuple[Int, ...]
    guard: Bool

    def __repr__(self) -> str:
        return f"{self.function.name}({', '.join(map(repr, self.args))})"


class Div(Atom):
    """⌊numerator / denominator⌋; unspecified where the denominator is 0."""

    __slots__ = ("denominator", "numerator")
    numerator: Int
    denominator: Int

    def __repr__(self) -> str:
        return f"{self.numerator}//{self.denominator}"


class Ite(Atom):
    """``then`` if ``condition`` else ``orelse``."""

    __slots__ = ("condition", "orelse", "then")
    condition: Bool
    then: Int
    orelse: Int

    def __repr__(self) -> str:
        return f"ite({self.condition}, {self.then}, {self.orelse})"


class Bool(Node):
    """A truth value; ``kind`` is one of true, false, ge (term ≥ 0), eq (term = 0), app, not, and, or."""

    __slots__ = ("args", "call", "kind", "term")
    kind: str
    term: Int
    args: tuple[Bool, ...]
    call: App

    def __repr__(self) -> str:
        match self.kind:
            case "ge":
                return f"{self.term} >= 0"
            case "eq":
                return f"{self.term} == 0"
            case "app":
                return repr(self.call)
            case "not":
                return f"not({self.args[0]})"
            case "and" | "or":
                return "(" + f" {self.kind} ".join(map(repr, self.args)) + ")"
        return self.kind


@dataclass(eq=False)
class Function:
    """An unknown function.

    ``bounds`` gives inclusive bounds of an application, true wherever its guard holds; ``facts`` what else is known of
    one application, ``pair_facts`` of two (both include the guards where they need them)."""

    name: str
    bounds: Callable[[App], tuple[Int | None, Int | None]] = lambda app: (None, None)
    facts: Callable[[App], list[Bool]] = lambda app: []
    pair_facts: Callable[[App, App], list[Bool]] | None = None
    injective: bool = False
    """Whether equal values that are not negative come from equal arguments only."""
    permutes: Callable[[App], Int] | None = None
    """If, for given other arguments, the function maps 0 … n−1 as last argument onto 0 … n−1: n."""
    shown: str = ""
    """How a counterexample calls it ("table"); empty if it has nothing to say about it."""
    approximate: bool = False
    """Whether the real value is known more precisely than what is assumed of it (a loop-carried value, say)."""


# --- the pool --------------------------------------------------------------------------------------------------------


@dataclass
class Pool:
    """All terms of one verification."""

    table: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    count: int = 0

    def intern(self, key: tuple[Any, ...], node_type: type[Any], **fields: Any) -> Any:
        """The node with this key, made if there is none."""
        node = self.table.get(key)
        if node is None:
            node = object.__new__(node_type)
            for name, value in fields.items():
                setattr(node, name, value)
            self.count += 1
            node.id = self.count
            self.table[key] = node
        return node


_pool: ContextVar[Pool] = ContextVar("zellige_terms")


@contextmanager
def session() -> Iterator[Pool]:
    """Opens a fresh pool; terms made inside must not leave it."""
    pool = Pool()
    token = _pool.set(pool)
    try:
        yield pool
    finally:
        _pool.reset(token)


# --- integers


def _polynomial(parts: Mapping[Monomial, int]) -> Int:
    terms = tuple(sorted(((m, c) for m, c in parts.items() if c), key=_monomial_order))
    key = ("int", *((tuple(a.id for a in m), c) for m, c in terms))
    node: Int = _pool.get().intern(key, Int, terms=terms)
    return node


def _monomial_order(item: tuple[Monomial, int]) -> tuple[int, tuple[int, ...]]:
    return len(item[0]), tuple(a.id for a in item[0])


def const(value: int) -> Int:
    """An integer constant."""
    return _polynomial({(): int(value)})


def _int(value: Int | int) -> Int:
    return value if isinstance(value, Int) else const(value)


def of_atom(atom: Atom) -> Int:
    """An atom as a term."""
    return _polynomial({(atom,): 1})


def of_monomial(monomial: Monomial, coefficient: int = 1) -> Int:
    """One monomial as a term."""
    return _polynomial({monomial: coefficient})


def _combine(x: Int, a: int, y: Int, b: int) -> Int:
    parts = {m: c * a for m, c in x.terms}
    for m, c in y.terms:
        parts[m] = parts.get(m, 0) + c * b
    return _polynomial(parts)


def _product(x: Int, y: Int) -> Int:
    plain: dict[Monomial, int] = {}
    extra: Int | None = None
    for m, c in x.terms:
        for n, d in y.terms:
            atoms = sorted((*m, *n), key=lambda a: a.id)
            if len(atoms) > 1 and (ite_ := next((a for a in atoms if isinstance(a, Ite)), None)) is not None:
                atoms.remove(ite_)
                rest = _polynomial({tuple(atoms): c * d})
                spread = ite(ite_.condition, ite_.then * rest, ite_.orelse * rest)
                extra = spread if extra is None else extra + spread
            else:
                monomial = tuple(atoms)
                plain[monomial] = plain.get(monomial, 0) + c * d
    result = _polynomial(plain)
    return result if extra is None else result + extra


def variable(name: str, kind: str, low: Int | int | None = None, high: Int | int | None = None) -> Int:
    """A variable; its name is its identity."""
    return of_atom(make_var(name, kind, low, high))


def make_var(name: str, kind: str, low: Int | int | None = None, high: Int | int | None = None) -> Var:
    """As ``variable``, as an atom."""
    var: Var = _pool.get().intern(
        ("var", name), Var, name=name, kind=kind,
        low=None if low is None else _int(low), high=None if high is None else _int(high),
    )  # fmt: skip
    if (
        var.kind != kind
        or var.low is not (None if low is None else _int(low))
        or (var.high is not (None if high is None else _int(high)))
    ):
        raise InternalError(f"two variables are called {name}")
    return var


def apply(function: Function, args: Iterable[Int], guard: Bool | None = None) -> Int:
    """An application of an unknown function to integers, as an integer."""
    return of_atom(make_app(function, args, guard))


def make_app(function: Function, args: Iterable[Int], guard: Bool | None = None) -> App:
    """As ``apply``, as an atom."""
    args = tuple(args)
    guard = true() if guard is None else guard
    app: App = _pool.get().intern(
        ("app", id(function), tuple(a.id for a in args), guard.id), App, function=function, args=args, guard=guard
    )
    return app


def div(x: Int, d: Int) -> Int:
    """⌊x/d⌋, with multiples of d taken out of x."""
    c = d.constant
    if c is not None:
        if c < 0:
            return div(-x, const(-c))
        if c == 1:
            return x
        if c == 0:
            return _div_atom(x, d)
        # coefficients round to 0, which keeps their signs; the constant rounds down, so that 0 <= constant < c
        whole = {m: _towards_zero(k, c) if m else k // c for m, k in x.terms}
        remainder = _polynomial({m: k - c * whole[m] for m, k in x.terms})
        if remainder.constant is not None:
            return _polynomial(whole)
        return _polynomial(whole) + _div_atom(remainder, d)
    if len(d.terms) == 1 and d.terms[0][1] == 1:
        factor = d.terms[0][0]
        whole_, rest_ = {}, {}
        for m, k in x.terms:
            quotient = _without(m, factor)
            if quotient is None:
                rest_[m] = k
            else:
                whole_[quotient] = k
        remainder = _polynomial(rest_)
        return _polynomial(whole_) + (_div_atom(remainder, d) if remainder.terms else const(0))
    return _div_atom(x, d)


def _towards_zero(a: int, b: int) -> int:
    return a // b if a >= 0 else -(-a // b)


def _without(monomial: Monomial, factor: Monomial) -> Monomial | None:
    rest = list(monomial)
    for atom in factor:
        if atom not in rest:
            return None
        rest.remove(atom)
    return tuple(rest)


def _div_atom(x: Int, d: Int) -> Int:
    return of_atom(_pool.get().intern(("div", x.id, d.id), Div, numerator=x, denominator=d))


def mod(x: Int, d: Int) -> Int:
    """x − d·⌊x/d⌋."""
    return x - d * div(x, d)


def ite(condition: Bool, then: Int, orelse: Int) -> Int:
    """``then`` if ``condition`` else ``orelse``."""
    if condition.kind == "true" or then is orelse:
        return then
    if condition.kind == "false":
        return orelse
    if condition.kind == "not":
        return ite(condition.args[0], orelse, then)
    key = ("ite", condition.id, then.id, orelse.id)
    return of_atom(_pool.get().intern(key, Ite, condition=condition, then=then, orelse=orelse))


def minimum(x: Int, y: Int) -> Int:
    """The smaller of two."""
    return ite(le(x, y), x, y)


def maximum(x: Int, y: Int) -> Int:
    """The larger of two."""
    return ite(le(x, y), y, x)


# --- booleans


def _bool(key: tuple[Any, ...], kind: str, **fields: Any) -> Bool:
    node: Bool = _pool.get().intern(("bool", kind, *key), Bool, kind=kind, **fields)
    return node


def true() -> Bool:
    """Always."""
    return _bool((), "true", args=())


def false() -> Bool:
    """Never."""
    return _bool((), "false", args=())


def nonneg(t: Int) -> Bool:
    """t ≥ 0."""
    c = t.constant
    if c is not None:
        return true() if c >= 0 else false()
    common = gcd(*(k for m, k in t.terms if m))
    if common > 1:
        t = _polynomial({m: k // common for m, k in t.terms})  # the constant rounds down: exact over integers
    return _bool((t.id,), "ge", term=t, args=())


def le(x: Int | int, y: Int | int) -> Bool:
    """x ≤ y."""
    return nonneg(_int(y) - _int(x))


def lt(x: Int | int, y: Int | int) -> Bool:
    """x < y."""
    return nonneg(_int(y) - _int(x) - 1)


def equal(x: Int | int, y: Int | int) -> Bool:
    """x = y."""
    t = _int(x) - _int(y)
    c = t.constant
    if c is not None:
        return true() if c == 0 else false()
    common = gcd(*(k for m, k in t.terms if m))
    if common > 1:
        if any(k % common for m, k in t.terms):
            return false()
        t = _polynomial({m: k // common for m, k in t.terms})
    if t.terms[-1][1] < 0:
        t = -t
    return _bool((t.id,), "eq", term=t, args=())


def negate(b: Bool) -> Bool:
    """Not b."""
    match b.kind:
        case "true":
            return false()
        case "false":
            return true()
        case "ge":
            return nonneg(-b.term - 1)
        case "not":
            return b.args[0]
        case "and":
            return disjunction(negate(a) for a in b.args)
        case "or":
            return conjunction(negate(a) for a in b.args)
    return _bool((b.id,), "not", args=(b,))


def conjunction(parts: Iterable[Bool]) -> Bool:
    """All of them."""
    flat: dict[Bool, None] = {}
    for part in parts:
        if part.kind == "false":
            return part
        for p in part.args if part.kind == "and" else (part,):
            if p.kind != "true":
                flat[p] = None
    return _junction("and", flat, true())


def disjunction(parts: Iterable[Bool]) -> Bool:
    """Any of them."""
    flat: dict[Bool, None] = {}
    for part in parts:
        if part.kind == "true":
            return part
        for p in part.args if part.kind == "or" else (part,):
            if p.kind != "false":
                flat[p] = None
    return _junction("or", flat, false())


def _junction(kind: str, parts: dict[Bool, None], empty: Bool) -> Bool:
    args = tuple(parts)
    if not args:
        return empty
    if len(args) == 1:
        return args[0]
    return _bool(tuple(sorted(a.id for a in args)), kind, args=args)


def implies(a: Bool, b: Bool) -> Bool:
    """b, if a."""
    return disjunction((negate(a), b))


def holds(function: Function, args: Iterable[Int], guard: Bool | None = None) -> Bool:
    """An application of an unknown predicate."""
    return predicate(make_app(function, args, guard))


def predicate(call: App) -> Bool:
    """An application as a truth value."""
    return _bool((call.id,), "app", call=call, args=())


def between(low: Int | int, x: Int, high: Int | int) -> Bool:
    """low ≤ x ≤ high."""
    return conjunction((le(low, x), le(x, high)))


def conjuncts(b: Bool) -> tuple[Bool, ...]:
    """The parts of a conjunction."""
    return b.args if b.kind == "and" else () if b.kind == "true" else (b,)


def ceildiv(a: Int, b: Int) -> Int:
    """a/b rounded up."""
    c = b.constant
    return div(a + (c - 1), b) if c is not None and c > 0 else -div(-a, b)
