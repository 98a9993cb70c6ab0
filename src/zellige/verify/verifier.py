"""Verifies a kernel: makes its obligations, tries the rules, asks the solver, explains what fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter

from zellige.diagnostics.findings import Finding
from zellige.diagnostics.span import Span
from zellige.ir import ops, spec
from zellige.ir.ops import BinaryOp, Function, Value
from zellige.ir.types import ArrayParam, Role
from zellige.ir.walk import operands
from zellige.verify import coverage, findings, obligations, overflow, races, relations, terms
from zellige.verify.invariants import Invariants
from zellige.verify.obligations import Access, Claim, Kind
from zellige.verify.ranges import Ranges, Simplifier, known_nonneg
from zellige.verify.solver import Outcome, Solver
from zellige.verify.symbolic import Symbols
from zellige.verify.terms import Bool, Int, Var
from zellige.verify.verdict import Record, Verdict


def verify(function: Function, dump: Callable[[str], None] | None = None) -> Verdict:
    """Proves a kernel safe for all sizes, or says why not.

    ``dump`` is given every solver query as SMT-LIB2 text.
    """
    started = perf_counter()
    spec.check(function)
    with terms.session():
        run = _Run(function, dump)
        run.everything()
    return Verdict(
        function.name,
        tuple(run.findings),
        tuple(run.records),
        perf_counter() - started,
        tuple(block.reason for block in function.unsafe),
    )


class _Run:
    def __init__(self, function: Function, dump: Callable[[str], None] | None) -> None:
        self.function = function
        self.ranges = Ranges()
        self.symbols = Symbols(function, self.ranges)
        self.required = tuple(self._requirements())
        self.solver = Solver(self.required, dump)
        self.findings: list[Finding] = []
        self.records: list[Record] = []
        self._overflows: dict[tuple[str, int], tuple[int, int]] = {}
        """Of lines with an overflow: the number of its finding, and the sum of the sizes that it shows."""

    def _requirements(self) -> Iterator[Bool]:
        """What the launch has checked: ``ir.spec`` sees to it that it is about dims and scalars only."""
        for op in self.function.body.ops:
            if isinstance(op, ops.Require):
                yield from self._required(op.condition)

    def _required(self, condition: Value) -> Iterator[Bool]:
        """The parts of a condition that rest on integers: floats may round otherwise where a launch checks them."""
        op, _ = self.symbols.definitions[condition]
        if isinstance(op, ops.Binary) and op.op is BinaryOp.AND:
            yield from self._required(op.x)
            yield from self._required(op.y)
        elif not self._rests_on_floats(condition):
            yield self.symbols.bool_at(condition, ())

    def _rests_on_floats(self, value: Value) -> bool:
        op, _ = self.symbols.definitions[value]
        return value.type.dtype.is_float or any(map(self._rests_on_floats, operands(op)))

    def everything(self) -> None:
        Invariants(self.symbols, self.solver).everywhere()
        found = obligations.accesses(self.symbols)
        by_op = {access.op: access for access in found}
        for number, (op, block) in enumerate(obligations.operations(self.function.body)):
            for claim in obligations.value_claims(self.symbols, op, block, f".v{number}"):
                self._decide(claim)
            for claim in overflow.width_claims(self.symbols, op, block, f".v{number}"):
                self._decide(claim)
            if isinstance(op, ops.Load | ops.Store | ops.Update):
                self._access(by_op[op])
        self._races(found)
        for param in self.function.arrays:
            if param.role is Role.OUT:
                self._coverage(param, [a for a in found if a.array == param.name])
        for param in filter(relations.relates, self.function.arrays):
            stores = [a for a in found if a.array == param.name and isinstance(a.op, ops.Store)]
            if stores:
                self._relation(param, stores)
            elif param.role is Role.OUT and not relations.by_distinct_values(param):  # no element, which may be too few
                self._find(findings.relational_output(self.function, param.name, str(param.contract)))

    def _relation(self, param: ArrayParam, stores: list[Access]) -> None:
        """The elements of a written array together keep its contract."""
        if param.role is Role.OUT and relations.constructed(self.function, param):
            ends = relations.ends_claim(self.symbols, param, stores[0])
            if ends is not None and not self._decide(ends):
                return
            self._record(
                Kind.CONTRACT,
                stores[0].op.span,
                f"'{param.name}' keeps {param.contract}",
                "constructed",
                perf_counter(),
            )
        elif relations.by_distinct_values(param) or relations.by_ordered_values(param):
            ordered = relations.by_ordered_values(param)
            claims = (relations.ordered_claims if ordered else relations.distinct_claims)(self.symbols, param, stores)
            for claim in claims:
                if not self._by_solver(claim, perf_counter()):
                    break
        else:
            self._find(findings.relational_output(self.function, param.name, str(param.contract)))

    def _access(self, access: Access) -> None:
        for claim in obligations.bounds_claims(self.symbols, access):
            self._decide(claim)
        offset = overflow.offset_claim(self.symbols, access)
        if offset is not None:
            self._decide(offset)
        for claim in obligations.contract_claims(self.symbols, access):
            self._decide(claim)

    # --- deciding
    def _decide(self, claim: Claim) -> bool:
        started = perf_counter()
        if self._opted_out(claim.span):
            self._record(claim.kind, claim.span, claim.what, "unsafe", started)
            return True
        if self._by_rule(claim):
            self._record(claim.kind, claim.span, claim.what, "range", started)
            return True
        return self._by_solver(claim, started)

    def _opted_out(self, span: Span) -> bool:
        """Whether a place stands in a ``zl.unsafe`` block of its own source (not of a function that calls it)."""
        return any(
            block.span.file == span.file
            and (block.span.line, block.span.column) <= (span.line, span.column)
            and (span.end_line, span.end_column) <= (block.span.end_line, block.span.end_column)
            for block in self.function.unsafe
        )

    def _by_rule(self, claim: Claim) -> bool:
        """Rule *range*: the goal follows from the bounds of its variables and from at most a few masks."""
        assumed = terms.conjunction((*self.required, *claim.assumptions))
        if assumed.kind == "false":
            return True
        goal = Simplifier(self.ranges, assumed).bool(claim.goal)
        facts = known_nonneg(terms.conjuncts(assumed))
        return all(
            part.kind == "true"
            or (part.kind == "ge" and self.ranges.nonneg(part.term, facts))
            or (part.kind == "not" and part.args[0].kind == "eq" and self._not_zero(part.args[0].term, facts))
            for part in terms.conjuncts(goal)
        )

    def _not_zero(self, t: Int, facts: tuple[Int, ...]) -> bool:
        return self.ranges.nonneg(t - 1, facts) or self.ranges.nonneg(-t - 1, facts)

    def _by_solver(self, claim: Claim, started: float) -> bool:
        outcome = self.solver.prove(claim.hypotheses(), claim.goal)
        proved = outcome is Outcome.PROVED
        if not proved:
            self._tell(claim, outcome)
        if not proved and claim.kind in (Kind.OVERFLOW, Kind.DIVISION):
            # the kernel is refused; what follows from the same mistake need not be told again
            self.solver.assume(terms.implies(terms.conjunction(claim.hypotheses()), claim.goal))
        self._record(claim.kind, claim.span, claim.what, "smt" if proved else "failed", started)
        return proved

    def _tell(self, claim: Claim, outcome: Outcome) -> None:
        """Keeps what there is to tell of a claim, unless it says again what is known; of overflows of one line, a later
        one takes the place of the first if it shows at sizes less than half as large."""
        line = (claim.span.file, claim.span.line)
        known = self._is_known(claim.code, claim.span)
        if known and (claim.kind is not Kind.OVERFLOW or line not in self._overflows):
            return
        finding, sizes = findings.of_claim(self.symbols, self.solver, claim, outcome)
        if not known:
            self.findings.append(finding)
        elif finding.refuted and 2 * sizes < self._overflows[line][1]:
            self.findings[self._overflows[line][0]] = finding
        else:
            return
        if claim.kind is Kind.OVERFLOW and finding.refuted:
            place = self._overflows[line][0] if known else len(self.findings) - 1
            self._overflows[line] = place, sizes

    def _is_known(self, code: str, span: Span) -> bool:
        """Whether a finding with this code is about the same place (for arithmetic: the same line)."""
        whole_line = code.startswith("ZL04")
        return any(
            f.code == code and f.span.file == span.file and f.span.line == span.line
            and (whole_line or f.span.column == span.column)
            for f in self.findings
        )  # fmt: skip

    def _find(self, finding: Finding) -> None:
        """Keeps a finding, unless it says again what is known."""
        if not self._is_known(finding.code, finding.span):
            self.findings.append(finding)

    def _record(self, kind: Kind, span: Span, what: str, how: str, started: float) -> None:
        self.records.append(Record(kind.value, span, what, how, perf_counter() - started))

    # --- several programs
    def _races(self, found: list[Access]) -> None:
        programs = frozenset(v for p in self.symbols.programs if isinstance(v := p.atom, Var))
        for write, other in races.race_pairs(found):
            started = perf_counter()
            claim = races.race_claim(self.symbols, write, other)
            if self._opted_out(write.op.span) or self._opted_out(other.op.span):
                self._record(Kind.RACE, claim.span, claim.what, "unsafe", started)
                continue
            if races.tiles_apart(self.ranges, write, other, frozenset(), programs):
                self._record(Kind.RACE, claim.span, claim.what, "partition", started)
            elif not self._by_solver(claim, started):
                break
        for access in found:
            lanes_claim = races.lanes_claim(self.symbols, access)
            if lanes_claim is None:
                continue
            started = perf_counter()
            if self._opted_out(access.op.span):
                self._record(Kind.LANES, lanes_claim.span, lanes_claim.what, "unsafe", started)
                continue
            lanes = frozenset(v for lane in access.lanes if isinstance(v := lane.atom, Var))
            shared = races.differing(*access.coordinates, access.active) - lanes
            if races.tiles_apart(self.ranges, access, access, shared, lanes):
                self._record(Kind.LANES, lanes_claim.span, lanes_claim.what, "partition", started)
            else:
                self._by_solver(lanes_claim, started)

    def _coverage(self, param: ArrayParam, found: list[Access]) -> None:
        started = perf_counter()
        what = f"every element of '{param.name}' is written"
        stores = [a for a in found if coverage.covers(self.symbols, a)]
        unsure = [a for a in found if isinstance(a.op, ops.Store) and a not in stores]
        span = stores[0].op.span if stores else self.function.span
        anywhere = coverage.target(self.symbols, param)
        ways = [coverage.witness(self.symbols, store, anywhere) for store in stores]
        if any(self._shown(way) for way in ways):
            self._record(Kind.COVERAGE, span, what, "partition", started)
            return
        inside = tuple(
            b for c in anywhere if isinstance(v := c.atom, Var) and v.high is not None
            for b in (terms.le(0, c), terms.le(c, v.high))
        )  # fmt: skip
        goal = terms.disjunction(terms.conjunction(way.conditions) for way in ways)
        claim = Claim(
            Kind.COVERAGE, "ZL0303", span, inside, goal, what, {f"axis {k}": c for k, c in enumerate(anywhere)}, (), (),
            param.name,
        )  # fmt: skip
        outcome = self.solver.prove(claim.hypotheses(), goal)
        finding = None
        if outcome is not Outcome.PROVED:
            finding = findings.of_coverage(self.symbols, self.solver, claim, param, stores, unsure, anywhere)
        self._record(Kind.COVERAGE, span, what, "smt" if finding is None else "failed", started)
        if finding is not None:
            self._find(finding)

    def _shown(self, way: coverage.Witness) -> bool:
        """Rule *partition*: the witness is in range, active and right, by bounds of coordinates alone."""
        ranges = Ranges(applications=False)
        facts = known_nonneg(self.required)
        return all(b.kind == "true" or (b.kind == "ge" and ranges.nonneg(b.term, facts)) for b in way.conditions)
