"""Draws kernels around one question: a value holds under a condition; what is it where the condition does not hold?

A kernel makes values one from another: an element under contract, an element of a held tile, a value that a loop carries, a quotient,
a number of fixed width near its ends. Each says below which extent it is, and what it *needs* to be so. It is then computed at a *place*
(a branch, a loop that may not run, a mask, behind an early return), elsewhere stands a default, and the result is *used*: as an index, a bound, a
condition of a store, a stored contract, a scatter. A right kernel asks for what is needed and leaves room for the default; a wrong one forgets one
of these.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

DIMS = ("M", "N", "K")


def _reads(text: str) -> bool:
    """Whether a place that there may not be is read (a condition is asked in full)."""
    return any(word in text for word in ("[", "gather(", "//", "%"))


@dataclass(frozen=True, slots=True)
class Value:
    """An integer of a kernel: text, the extent that it is below (and not below 0) where what it needs holds."""

    text: str
    top: str
    needs: tuple[str, ...] = ()
    lanes: str = ""
    """The extent of its one axis; a scalar has none."""
    distinct: bool = False
    """Whether two programs never have the same."""


@dataclass(slots=True)
class Composer:
    """A kernel being composed."""

    rng: np.random.Generator
    mistakes: float
    """How likely each decision is a wrong one."""
    left: int = 100
    """How many more wrong ones there may be."""
    params: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    requires: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    """Conditions on what is at hand: branches are drawn from them."""
    program: str = "1"
    """How many there are."""
    huge: bool = False
    """Whether sizes may be as large as they like."""
    ends: list[str] = field(default_factory=list)
    """Conditions under which an operation leaves its type."""
    names: int = 0

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def wrong(self, p: float = 1.0) -> bool:
        """Whether to make a mistake here."""
        if self.left and self.chance(self.mistakes * p):
            self.left -= 1
            return True
        return False

    def pick(self, options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def fresh(self, stem: str) -> str:
        self.names += 1
        return f"{stem}{self.names}"

    def extent(self) -> str:
        return str(self.pick([*DIMS, *DIMS, "1", "2", "3"]))

    # --- what there is at the top
    def begin(self) -> None:
        """Grid, scalars and preconditions."""
        self.program = self.pick(["1", "1", *DIMS, "2 * M", "3 * N"])
        self.lines.append(f"t = zl.grid({self.program})")
        if self.program != "1":
            self.values.append(Value("t", self.program, distinct=True))
        for _ in range(int(self.rng.integers(0, 3))):
            name, bound = self.fresh("n"), self.pick(DIMS)
            kind = self.pick(["UpTo", "UpTo", "Index", "i32", "i64"])
            if kind.startswith("i"):
                self.params.append(f"{name}: zl.{kind}")
                top = self.pick([bound, "8"])
                self.values.append(Value(f"(t * 0 + {name})", top, (f"{name} >= 0", f"{name} < {top}")))
            else:
                self.params.append(f"{name}: zl.{kind}[{bound}]")
                self.values.append(Value(name, bound if kind == "Index" else f"{bound} + 1"))
            self.conditions += [f"{name} {self.pick(['>', '==', '<', '<='])} {self.pick(['0', '1', '2', *DIMS])}"]
        self.conditions += [f"{self.pick(DIMS)} {self.pick(['>', '==', '<='])} {self.pick(['0', '1', *DIMS])}"]
        if self.program != "1":
            self.conditions.append(f"t {self.pick(['<', '==', '>', '<='])} {self.pick(['0', '1', *DIMS])}")
        if self.chance(0.15):
            self.requires.append(self.pick(self.conditions[-2:]))
        if any("t " in r for r in self.requires):
            self.requires = []

    # --- values from values
    def value(self, body: list[str], depth: int = 2) -> Value:
        """A value; what it takes is added to ``body``."""
        made = [
            self.element, self.element, self.gathered, self.gathered, self.carried, self.carried, self.difference, self.quotient,
            self.combined, self.reduced, self.changed, self.fixed,
        ]  # fmt: skip
        return self.pick(made)(body, depth - 1)  # type: ignore[no-any-return]

    def scalar(self, body: list[str], depth: int) -> Value:
        """A scalar to make another value from: one at hand, or a new one."""
        scalars = [v for v in self.values if not v.lanes]
        if scalars and (depth <= 0 or self.chance(0.6)):
            return self.pick(scalars)  # type: ignore[no-any-return]
        if depth <= 0:
            return Value(*self.pick([("0", "1"), ("1", "2"), ("t * 0 + 2", "3")]))
        made = self.value(body, depth)
        return made if not made.lanes else Value(f"zl.max({made.text})", made.top, (*made.needs, f"{made.lanes} > 0"))

    def position(self, body: list[str], depth: int, extent: str) -> Value:
        """A value below an extent."""
        kind = self.pick(["at hand", "at hand", "first", "last", "number", "before", "reversed"])
        if kind == "first":
            return Value("0", extent, (f"{extent} > 0",))
        if kind == "last":
            return Value(f"{extent} - 1", extent, (f"{extent} > 0",))
        if kind == "number":
            c = int(self.rng.integers(1, 3))
            return Value(f"{c}", extent, (f"{extent} > {c}",))
        v = self.scalar(body, depth)
        below = () if v.top == extent else (f"{v.text} < {extent}",)
        if kind == "before":
            return Value(f"{v.text} - 1", extent, (*v.needs, f"{v.text} > 0", f"{v.text} <= {extent}"))
        if kind == "reversed":
            return Value(f"{extent} - 1 - {v.text}", extent, (*v.needs, *below), distinct=v.distinct)
        return Value(v.text, extent, (*v.needs, *below), distinct=v.distinct)

    def array(self, extent: str, role: str = "In") -> tuple[str, str, bool, bool]:
        """An array of integers under contract: its name, what its elements are below, whether they may be absent, or are distinct."""
        name, bound = self.fresh("p"), self.pick([*DIMS, "2", "3"])
        kind = self.pick(["Index", "Index", "Index", "UpTo", "Permutation"])
        flags = [f for f in ("zl.distinct", "zl.optional") if self.chance(0.25)] if kind == "Index" else []
        if kind == "Permutation":
            bound = extent
        declared = f"{name}: zl.{role}[zl.{kind}[{', '.join([bound, *flags])}], {extent}]"
        (self.params if role == "In" else self.outputs).append(declared)
        top = f"{bound} + 1" if kind == "UpTo" else bound
        return name, top, "zl.optional" in flags, kind == "Permutation" or "zl.distinct" in flags

    def element(self, body: list[str], depth: int) -> Value:
        """An element under contract."""
        extent = self.extent()
        at = self.position(body, depth, extent)
        name, top, optional, distinct = self.array(extent)
        if self.chance(0.4) and not any(map(_reads, at.needs)):  # a mask says where it is read; elsewhere it is 0
            mask = self.condition(tuple(c for c in at.needs if not _reads(c)))
            loaded = f"{name}[zl.only(zl.arange(1) * 0 + {at.text}, (zl.arange(1) == 0) & {mask})]"
            return Value(f"zl.max({loaded}, pad=0)", top, ())
        text = f"{name}[{at.text}]"
        needs = (*at.needs, *((f"{text} >= 0",) if optional and not self.wrong(0.5) else ()))
        return Value(text, top, needs, distinct=distinct and at.distinct)

    def changed(self, body: list[str], depth: int) -> Value:
        """An element of an array that the kernel writes, read before or after, or both."""
        extent = self.program if self.program != "1" else self.pick(["2", "3"])
        at = "t" if self.program != "1" else "1"
        name, top, optional, distinct = self.array(extent, "Mut")
        first, second = self.fresh("a"), self.fresh("b")
        body.append(f"{first} = {name}[{at}]")
        small = self.pick(["0", "-1"] if optional else ["0", "0", f"{first}"])
        needs: tuple[str, ...] = (f"{top} > 0",) if small == "0" else ()
        ordered = self.chance(0.5)
        if ordered:
            body.append(
                f"{name}[{at}] = {small if not needs else f'zl.minimum(0, {top} - 1)' if self.wrong() else small}"
            )
        body.append(f"{second} = {name}[{at}]")
        if not ordered and self.chance(0.5):
            body.append(f"{name}[{at}] = {first}")
        present = (f"{second} >= 0",) if optional else ()
        if self.wrong():
            present = tuple(c.replace(second, first) for c in present)
        either = self.pick([second, second, f"zl.minimum({first}, {second})", f"zl.maximum({first}, {second})"])
        return Value(either, top, (*present, *needs), distinct=distinct and either == second and self.wrong())

    def held(self, body: list[str], depth: int) -> Value:
        """A tile of integers."""
        extent = str(self.pick(["1", "2", "2", *DIMS]))
        kind = self.pick(["array", "array", "order", "order", "iota", "bounded"])
        if kind == "array":
            name, top, optional, _ = self.array(extent)
            tile = Value(self.fresh("held"), top, lanes=extent)
            body.append(f"{tile.text} = {name}[:]" + (" * 1" if not optional else ""))
            if optional:
                body.append(f"{tile.text} = zl.maximum({tile.text}, 0)")
                tile = replace(tile, needs=(f"{top} > 0",))
        elif kind == "order":
            x = self.fresh("x")
            self.params.append(f"{x}: zl.In[f32, {extent}]")
            tile = Value(self.fresh("order"), extent, lanes=extent)
            body.append(f"_, {tile.text} = zl.sort({x}[:])")
        elif kind == "iota":
            tile = Value(self.fresh("held"), extent, lanes=extent)
            body.append(f"{tile.text} = zl.arange({extent})")
        else:
            bound = self.scalar(body, depth)
            tile = Value(self.fresh("held"), bound.top, bound.needs, extent)
            body.append(f"{tile.text} = zl.minimum(zl.arange({extent}), {bound.text})")
        if self.chance(0.4):
            self.loop(body, depth, tile)
        elif self.chance(0.2):
            body.append(f"{tile.text} = zl.flip({tile.text}, 0)")
        return tile

    def gathered(self, body: list[str], depth: int) -> Value:
        """An element of a held tile, at a position or at a tile of them."""
        tile = self.held(body, depth)
        besides = self.chance(0.5)
        if besides:  # it is made at the top, and used besides
            self.lines += body
            body.clear()
        if self.chance(0.3) and not besides:
            lanes = self.extent()
            at, needs = f"zl.arange({lanes})", () if lanes == tile.lanes else (f"{lanes} <= {tile.lanes}",)
        else:
            lanes, place = tile.lanes if besides else self.pick(["1", "2"]), self.position(body, depth, tile.lanes)
            at, needs = f"zl.arange({lanes}) * 0 + {place.text}", place.needs
        found = Value(f"zl.gather({tile.text}, {at}, 0)", tile.top, (*tile.needs, *needs), lanes)
        if besides:
            self.values.append(Value(tile.text, tile.top, tile.needs, tile.lanes))
        return found

    def reduced(self, body: list[str], depth: int) -> Value:
        """The largest or the smallest of a tile, or the place of the largest."""
        if self.chance(0.3):
            x, extent = self.fresh("x"), self.extent()
            self.params.append(f"{x}: zl.In[f32, {extent}]")
            return Value(f"zl.argmax({x}[:], axis=0)", extent, (f"{extent} > 0",))
        tile = self.held(body, depth)
        if self.chance(0.3):
            j, mask = self.fresh("j"), self.condition(())
            body.append(f"{j} = zl.only({tile.text}, {mask})")
            return Value(f"zl.max({j}, pad=0)", f"{tile.top} + 1", tile.needs)
        return Value(f"zl.{self.pick(['max', 'min'])}({tile.text})", tile.top, (*tile.needs, f"{tile.lanes} > 0"))

    def difference(self, body: list[str], depth: int) -> Value:
        v, c = self.scalar(body, depth), int(self.rng.integers(1, 3))
        return Value(f"({v.text} - {c})", v.top, (*v.needs, f"{v.text} >= {c}"))

    def quotient(self, body: list[str], depth: int) -> Value:
        v, d = self.scalar(body, depth), self.scalar(body, depth)
        if self.chance(0.5):
            c = int(self.rng.integers(2, 4))
            return self.pick([Value(f"({v.text} // {c})", v.top, v.needs), Value(f"({v.text} % {c})", f"{c}", v.needs)])  # type: ignore[no-any-return]
        needs = (*v.needs, *d.needs, f"{d.text} > 0")
        return self.pick(
            [Value(f"({v.text} // {d.text})", v.top, needs), Value(f"({v.text} % {d.text})", d.top, needs)]
        )  # type: ignore[no-any-return]

    def combined(self, body: list[str], depth: int) -> Value:
        """Bits, sums and products; products of sizes that may leave 64 bits."""
        v, w = self.scalar(body, depth), self.scalar(body, depth)
        kind = self.pick(["bits", "bits", "sum", "least", "product", "product"])
        needs = (*v.needs, *w.needs)
        if kind == "sum":
            return Value(f"({v.text} + {w.text})", f"{v.top} + {w.top}", needs)
        if kind == "least":
            return Value(f"zl.minimum({v.text}, {w.text})", v.top, needs)
        if kind == "bits":
            return Value(f"({v.text} {self.pick(['|', '^'])} {w.text})", f"{v.top} + {w.top}", needs)
        self.huge = True
        s = self.fresh("s")
        self.params.append(f"{s}: zl.i64")
        self.ends = [self.pick([f"{s} > (1 << 60)", f"{s} > (1 << 60)", f"{s} < 0"]), "M > (1 << 29)", "N > (1 << 29)"]
        product = f"{s} * {self.pick(['N * M', 'M * N', 'N', 'M'])}"
        product = self.pick([product, f"(({product}) | 1)", f"(1 | ({product}))", f"(({product}) | 2)"])
        return Value(f"zl.minimum({product}, 7)", "8", (f"{s} >= 0", f"{s} < 2"))

    def fixed(self, body: list[str], depth: int) -> Value:
        """A number of fixed width, near the ends of its type, under an operation that may leave it; only its sign is used."""
        a, d = self.fresh("a"), self.fresh("d")
        kind = self.pick(["i64", "i64", "i32"])
        extent = self.program if self.program != "1" else "1"
        source = self.fresh("far")
        self.params.append(f"{source}: zl.In[zl.{kind}, {extent}]")
        self.params.append(f"{d}: zl.{self.pick([kind, kind, 'i32'])}")
        body.append(f"{a} = zl.arange(1) * 0 + {source}[t]")
        op = self.pick(["//", "//", "//", "%", "*", "+", "-", "neg", "abs"])
        r = {"neg": f"-{a}", "abs": f"zl.abs({a})"}.get(op, f"{a} {op} {d}")
        asked = {
            "//": [f"{d} == -2", f"{d} > 0", f"{d} < -1"], "%": [f"{d} > 0", f"{d} == -2"], "*": [f"({d} >= -1) & ({d} <= 1)"],
            "+": [f"{d} == 0"], "-": [f"{d} == 0"],
        }.get(op, [])  # fmt: skip
        wrongly = {"//": [f"{d} != 0", f"{d} == -1", f"{d} < 0"], "%": [f"{d} != 0", f"{d} == -1"]}.get(
            op, [f"{d} > 0"]
        )
        slip = bool(self.mistakes) and self.chance(0.5)
        if op in ("*", "+", "-", "neg", "abs") and not slip:
            body.append(f"{a} = zl.clamp({a}, -9, 9)")
            self.requires.append(f"({d} > -9) & ({d} < 9)")
        elif asked:
            self.requires.append(self.pick(wrongly if slip else asked))
        return Value(f"zl.where({r} < {self.pick(['0', '1'])}, t, t)" if self.program != "1" else f"zl.where({r} < 0, 0, 1)",
                     self.program if self.program != "1" else "2", (), "1", distinct=True)  # fmt: skip

    # --- loops
    def head(self, body: list[str], depth: int, counter: str) -> tuple[str, str]:
        """The head of a loop, which may run no time, and what stands at the end of its body."""
        kind = self.pick(["few", "dim", "value", "value", "while", "data"])
        if kind == "few":
            return f"for _ in range({self.pick(['3', '3', '0', '1'])}):", ""
        if kind == "dim":
            return f"for _ in range({self.pick(DIMS)}):", ""
        if kind == "value":
            v = self.scalar([], 0)
            return f"for _ in range({v.text if not v.needs else f'zl.minimum({v.text}, 3)'}):", ""
        body.append(f"{counter} = 0")
        if kind == "while":
            return f"while zl.bounded({counter} < {self.pick(['3', *DIMS])}, {self.pick(['5', '3', *DIMS])}):", counter
        x, extent = self.fresh("x"), self.pick(DIMS)
        self.params.append(f"{x}: zl.In[f32, {extent}]")
        at = f"zl.minimum({counter}, {extent} - 1)"
        self.requires.append(f"{extent} >= {0 if self.wrong() else 1}")
        return f"while zl.bounded({x}[{at}] > 0.0, {self.pick([extent, f'{extent} - 1', '4'])}):", counter

    def step(self, name: str, top: str) -> str:
        """What an iteration makes of a value below ``top`` so that it stays there."""
        return str(self.pick([
            f"{name} // 2", f"{name} // 2", f"zl.maximum({name} - 1, 0)", f"zl.minimum({name} + 1, {top} - 1)",
            f"zl.minimum({name} * 2, {top} - 1)", f"{name} - {name} % 2",
        ] if not self.wrong(0.5) else [f"{name} + 1", f"{name} - 1", f"zl.minimum({name} + 1, {top})"]))  # fmt: skip

    def loop(self, body: list[str], depth: int, v: Value, *others: str) -> None:
        """Carries a named value (and others) through a loop."""
        counter = self.fresh("j")
        head, counted = self.head(body, depth, counter)
        body.append(head)
        inner = [f"{v.text} = {self.step(v.text, v.top)}", *others]
        if self.chance(0.3) and not v.lanes:
            x = self.fresh("x")
            self.params.append(f"{x}: zl.In[f32, {v.top}]")
            use = f"z[0] = {x}[{v.text}]" if self.program == "1" else f"if {x}[{v.text}] > 0.0:"
            if use.startswith("z") and not any(o.startswith("z:") for o in self.outputs):
                self.outputs.append("z: zl.Mut[f32, 1]")
            # read before or after the step
            if use.startswith("z"):
                inner.insert(self.pick([0, 0, len(inner)]), use)
            else:
                inner = [use, *("    " + l for l in inner)]
        if counted:
            inner.append(f"{counted} = {counted} + 1")
        body += ["    " + l for l in inner]

    def carried(self, body: list[str], depth: int) -> Value:
        """A value that a loop changes, or two."""
        start = self.scalar(body, depth)
        v = Value(self.fresh("v"), start.top, start.needs)
        if self.wrong(0.7):
            body.append(f"{v.text} = t * 0 + {self.pick([start.top, '5', f'{start.top} + 1'])}")
        else:
            body.append(f"{v.text} = {start.text}" if self.chance(0.5) else f"{v.text} = t * 0 + {start.text}")
        others = []
        if self.chance(0.3):
            w = self.fresh("w")
            body.append(f"{w} = {self.pick(['0', start.text, 't * 0'])}")
            others = [self.pick([
                f"{w} = zl.minimum({w} + 1, {v.text})", f"{v.text}, {w} = {w}, {v.text}", f"{w} = {v.text}", f"{w} = {w} + 1",
            ])]  # fmt: skip
            if self.chance(0.5):
                self.values.append(Value(w, start.top, start.needs))
        self.loop(body, depth, v, *others)
        return v

    # --- where it is computed, and what is there elsewhere
    def condition(self, needs: tuple[str, ...]) -> str:
        """A condition under which ``needs`` hold (unless one is forgotten), maybe with another."""
        wanted = list(dict.fromkeys(needs))
        if wanted and self.wrong():
            wanted.remove(self.pick(wanted))
        if self.chance(0.4) or not wanted:
            wanted.insert(self.pick([0, len(wanted)]), self.pick(self.conditions))
        return " & ".join(f"({c})" for c in wanted)

    def placed(self) -> Value:
        """A value computed where what it needs holds, and a default elsewhere."""
        slip = (
            self.pick(["default", "default", "room", "room", "need", "any"])
            if self.mistakes and self.chance(0.8)
            else ""
        )
        left, self.left = self.left, 0 if slip != "any" else self.left  # here, and then nowhere else
        body: list[str] = []
        v = self.value(body, self.pick([1, 1, 1, 2]))
        if v.distinct and self.chance(0.8):
            self.lines += body
            return v
        w = self.fresh("w")
        lanes = f"zl.arange({v.lanes}) * 0" if v.lanes else "t * 0"
        room = f"{v.top} + 1"
        default, form = "0", self.pick(["if", "if", "if", "if", "else", "loop", "while", "where", "nested"])
        if self.ends:
            form = "else"
            slip = "default" if slip and self.chance(0.6) else slip
        if slip == "default" and form != "else":
            default = self.pick(["5", "50", v.top, f"{v.top} + 1", *DIMS])
        elif slip == "room":
            room = v.top  # the default does not fit where nothing does
        others = [o for o in self.values if o.lanes == v.lanes and not o.needs]
        if default == "0" and others and self.chance(0.2):
            other = self.pick(others)
            default, room = other.text, f"{room} + {other.top}"
        made = {name for l in body for name in re.findall(r"\w+", l.split(" = ")[0])}
        inside = [c for c in v.needs if _reads(c) or made & set(re.findall(r"\w+", c))]
        asked = [c for c in dict.fromkeys(v.needs) if c not in inside]
        if slip == "need" and (asked or inside):
            forgotten = self.pick([*asked, *inside])
            asked, inside = ([c for c in part if c != forgotten] for part in (asked, inside))
        condition = self.condition(tuple(asked))
        self.lines.append(f"{w} = {lanes} + {default}")
        assign = f"{w} = {v.text}"
        if inside and self.wrong():
            inside.remove(self.pick(inside))
        early = not any(_reads(l) for l in body) and self.chance(0.3)  # what is asked may be asked before it is used
        block = [
            *([] if early else body),
            *(f"{'    ' * i}if {c}:" for i, c in enumerate(inside)),
            f"{'    ' * len(inside)}{assign}",
        ]
        self.lines += body if early else []
        if form == "where" and not inside and not _reads(v.text):
            self.lines += [*([] if early else body), f"{w} = zl.where({condition}, {v.text}, {w})"]
        elif form == "else":
            self.lines += [f"if {condition}:", *("    " + l for l in block), f"elif {self.far()}:", f"    {w} = {lanes} + "
                           + (self.pick(["50", v.top, f"{v.top} + 1"]) if slip == "default" else "0")]  # fmt: skip
        elif form == "loop" and not v.lanes:
            count = self.pick([f"zl.where({condition}, 2, 0)", f"zl.where({condition}, 1, 0)"])
            self.lines += [f"for _ in range({count}):", *("    " + l for l in block)]
        elif form == "while" and not v.lanes:
            j = self.fresh("j")
            self.lines += [
                f"{j} = 0",
                f"while zl.bounded(({j} < 2) & {condition}, 3):",
                *("    " + l for l in block),
                f"    {j} = {j} + 1",
            ]
        elif form == "nested":
            self.lines += [
                f"if {condition}:",
                f"    if {self.pick(self.conditions)}:",
                *("        " + l for l in block),
            ]
        else:
            self.lines += [f"if {condition}:", *("    " + l for l in block)]
        self.left = left if slip == "any" else 0
        return Value(w, room, lanes=v.lanes)

    def far(self) -> str:
        """One or two conditions."""
        if self.ends and self.chance(0.7):
            return " & ".join(f"({c})" for c in self.ends)
        return " & ".join(f"({self.pick(self.conditions)})" for _ in range(self.pick([1, 2, 2])))

    # --- what it is used for
    def use(self, w: Value) -> None:
        """An index, a bound, a condition, a contract."""
        beside = [v for v in self.values if not v.needs and v.lanes and v.lanes == w.lanes]
        if w.lanes and beside and self.chance(0.8):
            other = self.pick(beside)
            mirrored = f" + zl.flip({other.text}, 0)" if self.chance(0.6) else ""
            w = Value(
                f"{w.text} + {other.text}{mirrored}",
                f"{w.top} + {other.top}" + (f" + {other.top}" if mirrored else ""),
                lanes=w.lanes,
            )
        one = self.program == "1"
        y = self.fresh("y")
        if w.lanes and w.lanes != "1":
            index = f"zl.only({w.text}, zl.arange({w.lanes}) == {self.pick(['0', '0', '1', '2'])})"
        else:
            index = w.text
        kind = self.pick(
            ["store", "store", "store", "load", "load", "covered", "contract", "bound", "divisor", "once", "once"]
        )
        if self.ends:
            kind = self.pick(["store", "load"])
        if w.distinct:
            kind = self.pick(["scatter", "scatter", "load"])
        if kind == "scatter" and w.distinct and (not w.lanes or w.lanes == "1"):
            self.outputs.append(f"{y}: zl.{'Mut' if not self.wrong(0.3) else 'Out'}[f32, {w.top}]")
            needed = [c for c in w.needs if self.program != "1" or "t" not in c]
            if needed and not self.wrong() and not w.lanes:
                self.lines += [f"if {' & '.join(f'({c})' for c in needed)}:", f"    {y}[{w.text}] = 1.0"]
            else:
                self.lines.append(f"{y}[{w.text}] = 1.0")
        elif kind == "load":
            x = self.fresh("x")
            self.params.append(f"{x}: zl.In[f32, {w.top}]")
            self.outputs.append(f"{y}: zl.Out[f32, {self.program}]")
            self.lines.append(f"{y}[t] = {f'zl.sum({x}[{index}])' if w.lanes else f'{x}[{index}]'}")
        elif kind == "covered" and not w.lanes:
            self.outputs.append(f"{y}: zl.Out[f32, {self.program}]")
            always = f"({w.text} > 5) | ({w.text} <= 5)" if self.chance(0.5) else f"{w.text} < {w.top}"
            self.lines += [f"if {always}:", f"    {y}[t] = 1.0"]
        elif kind == "once" and not w.lanes:
            extent = self.pick(["8", *DIMS])
            self.outputs.append(f"{y}: zl.Out[f32, {extent}]")
            if not one:
                self.requires.append(f"{self.program} >= {0 if self.wrong() else 1}")
            first = "t == 0" if not one or self.chance(0.5) else "t <= 0"
            if self.chance(0.6):
                self.lines += [
                    f"for i in range({w.text} + 1):",
                    f"    if ({first}) & (i == 0):",
                    f"        {y}[:] = 1.0",
                ]
            else:
                self.lines += [f"if ({first}) & (({w.text} > 1) | ({w.text} <= 1)):", f"    {y}[:] = 1.0"]
        elif kind == "contract" and not w.lanes:
            bound = self.pick([f"zl.Index[{w.top}]", f"zl.UpTo[{w.top}]", f"zl.Index[{w.top}, zl.optional]"])
            self.outputs.append(f"{y}: zl.Out[{bound}, {self.program}]")
            self.lines.append(f"{y}[t] = {w.text}")
        elif kind == "bound" and not w.lanes:
            self.outputs.append(f"{y}: zl.Mut[f32, {self.program}, {w.top}]")
            self.lines += [f"for i in range({w.text}{' + 1' if self.wrong() else ''}):", f"    {y}[t, i] = 1.0"]
        elif kind == "divisor" and not w.lanes:
            self.outputs.append(f"{y}: zl.Out[f32, {self.program}]")
            self.lines += [f"{y}[t] = 0.0", f"if {100} // ({w.text} + 1) > 3:", f"    {y}[t] = 1.0"]
        else:
            self.outputs.append(f"{y}: zl.Mut[f32, {w.top}]" if one else f"{y}: zl.Mut[f32, {self.program}, {w.top}]")
            self.lines.append(f"{y}[{index}] = 1.0" if one else f"{y}[t, {index}] = 1.0")

    def text(self) -> str:
        """The kernel's source, without the decorator."""
        head = " ".join([*self.params, *self.outputs])
        loose = [
            d for d in DIMS if not any(p.endswith((f"[f32, {d}]", f", {d}]")) for p in (*self.params, *self.outputs))
        ]
        used = [d for d in loose if d in head or any(d in l for l in (*self.lines, *self.requires))]
        large = ", 0" if self.huge or self.chance(0.5) else ""
        self.params += [f"size_{d}: zl.In[f32, {d}{large}]" for d in used]
        lines = [*(f"zl.requires({r})" for r in dict.fromkeys(self.requires)), *self.lines]
        return f"\ndef k({', '.join([*self.params, '*', *self.outputs])}):\n" + "".join(f"    {l}\n" for l in lines)

    def digits(self) -> None:
        """Reads and writes elements whose coordinates are digits of the program's number, to one base or to two."""
        a, y = int(self.program[0]), self.fresh("y")
        dim, wide = self.program[-1], a + self.pick([0, 1, 2])
        self.outputs.append(f"{y}: zl.Mut[f32, {dim}, {wide}]")
        right = self.pick([f"t // {a}, t % {a}", f"t // {a}, {a - 1} - t % {a}", f"{dim} - 1 - t // {a}, t % {a}"])
        near = (
            f"t // {wide}, t % {wide}",
            f"t // {a}, t % {wide}",
            f"t // {a}, 0",
            f"t // {wide}, t % {a}",
            f"t // {a}, (t + 1) % {a}",
        )
        first, second = (
            self.pick(near) if wrong else right
            for wrong in self.pick(((0, 0), (1, 0), (0, 1)) if self.mistakes else ((0, 0),))
        )
        v = self.fresh("v")
        self.lines += [f"{v} = {y}[{first}]", f"{y}[{second}] = {v} + 1.0"]


def draw_composed(rng: np.random.Generator, mistakes: float) -> str:
    """The source of a composed kernel, without the decorator."""
    composer = Composer(rng, mistakes, 1 if rng.random() < 0.6 else 100)
    composer.begin()
    if "*" in composer.program and composer.chance(0.6):
        composer.digits()
        return composer.text()
    for _ in range(composer.pick([1, 1, 1, 2])):
        w = composer.placed()
        if not w.lanes and not w.distinct:
            composer.values.append(w)
    composer.use(w)
    return composer.text()
