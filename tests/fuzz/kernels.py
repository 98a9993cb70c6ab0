"""Draws kernels as source text: mostly right, often nearly wrong.

A kernel has one or two grid axes, some inputs (plain or with contracts), and one output whose shape is that of the grid.
Indices are drawn for the axis that they stand on; with some probability they are off by one, of another axis, shifted,
unmasked, or bounded by the wrong extent, contracts lose a flag, and stores lose a branch.
"""

from __future__ import annotations

import linecache
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import zellige as zl
from tests.fuzz.composed import draw_composed
from tests.fuzz.shapes import draw_shape
from zellige.ir.ops import Function

DIMS = ("M", "N", "K")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A kernel's source and the seed that it was drawn from."""

    seed: int
    source: str

    def lower(self) -> Function:
        """Its IR. LanguageError if it is not in the language."""
        return lowered(self.source, f"<drawn kernel {self.seed}>")


def kernel_of(source: str, name: str) -> zl.Kernel:
    """The kernel called ``k`` that this source defines, given the dims M, N and K."""
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    names: dict[str, Any] = {"zl": zl, "f32": zl.f32, "i32": zl.i32, **{d: zl.dims(d) for d in DIMS}}
    exec(compile(source, name, "exec"), names)
    kernel: zl.Kernel = names["k"]
    return kernel


def lowered(source: str, name: str) -> Function:
    """Its IR."""
    return kernel_of(source, name).lower({}, {})


@dataclass(slots=True)
class Index:
    """A variable that can index: the extent that it is below, and the spans that its lanes run along."""

    name: str
    extent: str
    lanes: tuple[str, ...] = ()
    masked: bool = True


@dataclass(slots=True)
class Kernel:
    """A kernel being drawn."""

    rng: np.random.Generator
    wrongness: float
    left: int = 100
    """How many more mistakes there may be."""
    params: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    indices: list[Index] = field(default_factory=list)
    indent: int = 1
    names: int = 0

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def wrong(self, p: float = 1.0) -> bool:
        """Whether to make a mistake here."""
        if self.left and self.chance(self.wrongness * p):
            self.left -= 1
            return True
        return False

    def pick(self, options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def fresh(self, stem: str) -> str:
        self.names += 1
        return f"{stem}{self.names}"

    def line(self, text: str) -> None:
        self.lines.append("    " * self.indent + text)

    # --- declarations
    def grid(self) -> None:
        """One or two axes: plain, tiled, or tiled by hand."""
        axes, targets, later = [], [], []
        for _ in range(1 if self.chance(0.55) else 2):
            extent, size = self.pick(DIMS), self.pick([1, 2, 3, 4])
            kind = self.pick(["each", "each", "tiles", "tiles", "hand"])
            name = self.fresh({"each": "t", "tiles": "rows", "hand": "p"}[kind])
            targets.append(name)
            if kind == "each":
                axes.append(extent)
                self.indices.append(Index(name, extent))
            elif kind == "tiles":
                axes.append(f"{extent}.tiles({size})")
                self.indices.append(Index(name, extent, (name,)))
            else:
                programs = f"zl.ceildiv({extent}, {size})"
                if self.wrong(0.4):
                    programs = self.pick([f"{extent} // {size}", f"zl.ceildiv({extent}, {size}) + 1", extent])
                axes.append(programs)
                lanes = self.fresh("lanes")
                stride = size if not self.wrong(0.4) else self.pick([max(size - 1, 1), size + 1])
                later.append(f"{lanes} = {name} * {stride} + zl.arange({size})")
                bound = extent if not self.wrong(0.4) else self.pick([f"{extent} + 1", *DIMS])
                if not self.wrong(0.4):
                    later.append(f"{lanes} = zl.only({lanes}, {lanes} < {bound})")
                self.indices.append(Index(lanes, extent, (lanes,)))
        self.line(f"{', '.join(targets)} = zl.grid({', '.join(axes)})")
        for text in later:
            self.line(text)

    def array(self, rank: int, extents: list[str] | None = None) -> tuple[str, list[str]]:
        """A plain input of f32 and its extents."""
        name = self.fresh("x")
        shape = extents or [self.pick([*DIMS, *(i.extent for i in self.indices)]) for _ in range(rank)]
        self.params.append(f"{name}: zl.In[f32, {', '.join(shape)}]")
        return name, shape

    # --- indices
    def index(self, extent: str, own: list[Index] | None = None, wrong: float = 0.6) -> tuple[str, tuple[str, ...]]:
        """An expression for an axis of ``extent``, and its lanes."""
        candidates = own or self.indices
        fitting = [i for i in candidates if i.extent == extent]
        if self.wrong(wrong) or not fitting:
            i = self.pick(candidates)
            if not fitting and not self.wrong(wrong):
                choice = self.pick(["mod", "whole", "clamped", "only"])
            else:
                choice = self.pick(
                    ["plain", "plus", "minus", "twice", "half", "mod", "reversed", "clamped", "only", "zero"]
                )
            return self.bent(choice, i, extent)
        i = self.pick(fitting)
        if self.chance(0.12):
            return self.bent(self.pick(["reversed", "mod", "clamped", "rotated", "whole", "back and forth"]), i, extent)
        return i.name, i.lanes

    def bent(self, choice: str, i: Index, extent: str) -> tuple[str, tuple[str, ...]]:
        """An index made of a variable, right or wrong."""
        c = int(self.rng.integers(1, 4))
        text = {
            "plain": i.name,
            "plus": f"{i.name} + {c}",
            "minus": f"{i.name} - {c}",
            "twice": f"{i.name} * 2",
            "half": f"{i.name} // 2",
            "mod": f"{i.name} % {extent}",
            "rotated": f"({i.name} + {c}) % {extent}",
            "reversed": f"{extent} - 1 - {i.name}",
            "clamped": f"zl.minimum({i.name}, {extent} - 1)",
            "only": f"zl.only({i.name} + {c}, {i.name} + {c} < {extent})",
            "back and forth": f"({i.name} * {c + 1} + {c}) // {c + 1}",
            "whole": ":",
            "zero": "0",
        }[choice]
        if choice == "whole":
            return ":", (f":{extent}",)
        return text, () if choice == "zero" else i.lanes

    def load(self, lanes: tuple[str, ...], own: list[Index] | None = None) -> str:
        """An f32 expression on ``lanes``: a load, reduced to a scalar if it has others."""
        fit = own or self.indices
        extents = [self.pick(fit).extent for _ in range(int(self.rng.integers(1, 3)))]
        if self.chance(0.2):
            extents.append(self.pick(DIMS))
        name, shape = self.array(len(extents), extents)
        parts, found = [], []
        for extent in shape:
            text, own_lanes = self.index(extent, own)
            parts.append(text)
            found += [l for l in own_lanes if l not in found]
        loaded = f"{name}[{', '.join(parts)}]"
        if tuple(found) == lanes or not found:
            return loaded
        return f"zl.sum({loaded})"

    # --- statements
    def contract_index(self) -> None:
        """An index loaded from an array with a contract."""
        by = self.pick(self.indices)
        extent, name, loaded = self.pick(DIMS), self.fresh("table"), self.fresh("s")
        kind = self.pick(["Index", "Index", "Index", "UpTo", "Permutation"])
        flags = [f for f in ("zl.distinct", "zl.optional") if self.chance(0.35)] if kind == "Index" else []
        shape = extent if kind == "Permutation" else by.extent
        wanted = extent if not self.wrong(0.3) else self.pick([f"{extent} + 1", *DIMS])
        self.params.append(f"{name}: zl.In[zl.{kind}[{', '.join([wanted, *flags])}], {shape}]")
        position, lanes = self.index(shape, [by], wrong=0.3)
        self.line(f"{loaded} = {name}[{position}]")
        present = kind != "UpTo" or self.wrong()
        if not present:
            self.line(f"{loaded} = zl.only({loaded}, {loaded} < {wanted})")
        if "zl.optional" in flags and not self.wrong(0.5):
            self.line(f"{loaded} = zl.only({loaded}, {loaded}.present)")
        self.indices.append(Index(loaded, extent, lanes))

    def offsets_loop(self) -> str:
        """A sum over the rows of a segment."""
        by = self.pick([i for i in self.indices if not i.lanes])
        name, x, row, total = self.fresh("offsets"), self.fresh("x"), self.fresh("r"), self.fresh("acc")
        extent = self.pick(DIMS)
        count = f"{by.extent} + 1" if not self.wrong(0.5) else by.extent
        self.params.append(f"{name}: zl.In[zl.Offsets[{extent}], {count}]")
        self.params.append(f"{x}: zl.In[f32, {extent if not self.wrong(0.5) else self.pick(DIMS)}]")
        step = "" if not self.wrong(0.5) else " + 1"
        self.line(f"{total} = 0.0")
        self.line(f"for {row} in range({name}[{by.name}], {name}[{by.name} + 1]{step}):")
        self.line(f"    {total} = {total} + {x}[{row}]")
        return total

    def loop(self) -> str:
        """A sum over a loop; the loop variable may index."""
        total, extent = self.fresh("acc"), self.pick(DIMS)
        variable = self.fresh("i")
        if self.chance(0.5):
            head, index = f"{extent}.tiles({self.pick([2, 3])})", Index(variable, extent, (variable,))
        else:
            low = self.pick(["0", "0", "1"])
            high = extent if not self.wrong(0.5) else f"{extent} + 1"
            head, index = f"range({low}, {high})", Index(variable, extent)
            if self.chance(0.3):
                step = self.pick(["2", "-1", "-2", f"zl.maximum({self.pick(DIMS)}, 1)", f"zl.ceildiv({extent} + 1, 2)"])
                ends = (
                    f"{high} - 1, {low} - {2 if self.wrong(0.5) else 1}" if step.startswith("-") else f"{low}, {high}"
                )
                head = f"range({ends}, {step})"
        self.line(f"{total} = 0.0")
        self.line(f"for {variable} in {head}:")
        self.indent += 1
        inner = self.load((), [*[i for i in self.indices if not i.lanes], index])
        self.line(
            f"{total} = {total} + {inner if inner.startswith('zl.sum') or not index.lanes else f'zl.sum({inner})'}"
        )
        self.indent -= 1
        return total

    def value(self, lanes: tuple[str, ...]) -> str:
        """What is stored: a sum of loads and the like."""
        parts = [self.load(lanes) for _ in range(int(self.rng.integers(1, 3)))]
        if self.chance(0.25):
            parts.append(self.loop())
        if self.chance(0.12) and any(not i.lanes for i in self.indices):
            parts.append(self.offsets_loop())
        return " + ".join(parts)

    def guarded(self) -> None:
        """An index from plain integers, guarded or not."""
        by, extent = self.pick(self.indices), self.pick(DIMS)
        name, loaded = self.fresh("n"), self.fresh("g")
        self.params.append(f"{name}: zl.In[i32, {by.extent}]")
        position, lanes = self.index(by.extent, [by], wrong=0.2)
        below = extent if not self.wrong(0.5) else self.pick([f"{extent} + 1", *DIMS])
        if self.wrong(0.3):
            self.line(f"{loaded} = {name}[{position}]")
        else:
            self.line(f"{loaded} = zl.guard({name}[{position}], below={below})")
        self.indices.append(Index(loaded, extent, lanes))

    def store(self, target: list[Index]) -> None:
        """The store that covers the output."""
        role = self.pick(["Out", "Out", "Out", "Mut", "Acc"])
        out = self.fresh("y")
        extents = [i.extent for i in target]
        if self.wrong(0.3):
            extents = self.pick([extents[::-1], [f"{e} + 1" for e in extents], [self.pick(DIMS) for _ in extents]])
        if role == "Acc":
            self.outputs.append(f"{out}: zl.Acc(init=0)[f32, {', '.join(extents)}]")
        else:
            self.outputs.append(f"{out}: zl.{role}[f32, {', '.join(extents)}]")
        parts, lanes = [], []
        for i, extent in zip(target, extents, strict=True):
            if self.wrong(0.35):
                text, own = self.index(extent)
            elif self.chance(0.08):
                text, own = self.bent("reversed", i, extent)
            else:
                text, own = i.name, i.lanes
            parts.append(text)
            lanes += [l for l in own if l not in lanes]
        subscript = ", ".join(parts)
        value = self.value(tuple(lanes))
        if role == "Mut" and self.chance(0.5):
            before = subscript if not self.wrong(0.5) else ", ".join(self.index(e)[0] for e in extents)
            value = f"{out}[{before}] + {value}"
        branch = self.chance(0.2)
        scalars = [i for i in self.indices if not i.lanes]
        if branch and scalars:
            i = self.pick(scalars)
            bound = self.pick([i.extent, "1", "2", f"{i.extent} - 1", *DIMS])
            self.line(f"if {i.name} {self.pick(['<', '<=', '==', '>'])} {bound}:")
            self.indent += 1
        self.write(role, out, subscript, value)
        if branch and scalars:
            self.indent -= 1
            if not self.wrong(0.7):
                self.line("else:")
                self.indent += 1
                self.write(role, out, subscript, "1.0")
                self.indent -= 1

    def write(self, role: str, out: str, subscript: str, value: str) -> None:
        if role == "Acc":
            self.line(f"{out}.add(({subscript.replace(':', 'slice(None)')},), {value})")
        else:
            self.line(f"{out}[{subscript}] = {value}")

    def text(self) -> str:
        parameters = ", ".join([*self.params, "*", *self.outputs])
        return f"@zl.kernel\ndef k({parameters}):\n" + "\n".join(self.lines) + "\n"


def with_sizes(source: str) -> str:
    """Gives the dims that only the body names a value, by an input that nothing reads."""
    head, mark, body = source.partition("):\n")
    loose = [d for d in DIMS if re.search(rf"\b{d}\b", body) and not re.search(rf"\b{d}\b", head)]
    if loose:
        head = head.replace("*, ", f"sizes: zl.In[f32, {', '.join(loose)}], *, ", 1)
    return head + mark + body


def draw(seed: int) -> Drawn:
    """The kernel of a seed."""
    rng = np.random.default_rng(seed)
    wrongness = float(rng.choice([0.0, 0.1, 0.25, 0.5]))
    kind = rng.random()
    if kind < 0.7:
        source = draw_shape(rng, wrongness) if kind < 0.3 else draw_composed(rng, wrongness)
        decorator = "@zl.kernel(index_bits=32)" if rng.random() < 0.2 else "@zl.kernel"
        return Drawn(seed, decorator + with_sizes(source))
    kernel = Kernel(rng, wrongness, 1 if rng.random() < 0.5 else 100)
    if kernel.chance(0.1):
        kernel.line(f"zl.requires({kernel.pick(DIMS)} {kernel.pick(['<=', '==', '>'])} {kernel.pick([*DIMS, '2'])})")
    kernel.grid()
    target = list(kernel.indices)
    if kernel.chance(0.35):
        kernel.contract_index()
        if kernel.chance(0.35):
            target[-1:] = [kernel.indices[-1]]
    if kernel.chance(0.12):
        kernel.guarded()
    kernel.store(target)
    if kernel.chance(0.15):
        kernel.store(target)
    return Drawn(seed, with_sizes(kernel.text()))
