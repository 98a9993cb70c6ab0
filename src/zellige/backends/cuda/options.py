"""How to schedule a kernel on a GPU. Options never change what a kernel computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Options:
    """One schedule; also what the launch promises about its arguments (``multiples``, ``aligned``, ``layouts``)."""

    num_warps: int = 4
    num_stages: int = 3
    """Software-pipelining depth of loops that feed a matrix product."""
    loop_stages: int | None = None
    """Pipelining depth given to every loop, matrix product or not."""
    persistent: int = 0
    """Programs per multiprocessor of a persistent grid; 0: one program per tile."""
    flatten: bool = False
    """Of a persistent grid: fuse the loop over tiles with the loops in it, so that the epilogue of one tile overlaps the next."""
    warp_specialize: bool = False
    """Give loads and matrix products different warps, in loops that allow it."""
    consumers: int = 0
    """Of products on sm_90: programs that share a block, each a group of four warps, beside one warp that copies their operands,
    which must be in ``descriptors``; the grid is persistent (``warp_groups.py``, ``chained_groups.py``). 0: not divided so."""
    descriptors: frozenset[str] = frozenset()
    """Arrays to access by bulk tensor copy (TMA) wherever an access is a box of them."""
    streamed: frozenset[str] = frozenset()
    """Arrays touched once: their lines leave the cache first."""
    carried: bool = False
    """Loops carry the pointers of their loads instead of computing them in each turn."""
    group: int | None = None
    """Rows of tiles that run together, instead of the kernel's own hint."""
    last_first: bool = False
    """Run the grid backwards: for kernels whose last programs have the most work."""
    pdl: bool = False
    """Programmatic dependent launch: start while the kernel before is still running, wait before touching what it may write."""
    constant: frozenset[str] = frozenset()
    """Inputs that no kernel in flight writes (weights); under ``pdl`` they may be read before the wait."""
    fresh: frozenset[str] = frozenset()
    """Of ``constant``: what kernels that have ended wrote. The first cache may have older lines, so it is read past that."""
    holds: bool = False
    """Under ``pdl``: let the kernel after this one start only after the wait, so that all in front of this one have ended by then and
    what they wrote is ``constant`` to that one. Free where a grid has more programs than run at once."""
    early: int = 0
    """Under ``pdl``: short loops are written out, and so many loads of each ``constant`` input are in registers before the wait;
    lines of the others are asked for. As many registers as that leaves decide how many programs wait beside each other."""
    max_registers: int | None = None
    multiples: Mapping[str, int] = field(default_factory=dict)
    """Dims left symbolic that the launch promises to be multiples of a number."""
    unaligned: frozenset[str] = frozenset()
    """Arrays whose address may not be a multiple of 16 bytes."""
    layouts: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    """Strides, in elements, of arrays that are not contiguous; None: given at the launch."""

    @property
    def beginning(self) -> list[str]:
        """Statements with which a program begins that touches nothing before the wait."""
        if not self.pdl:
            return []
        return ["gdc_wait()", "gdc_launch_dependents()"] if self.holds else ["gdc_launch_dependents()", "gdc_wait()"]

    def as_json(self) -> dict[str, Any]:
        """The options as JSON-ready data, sorted so that equal options give equal text."""
        data = asdict(self)
        for name, value in data.items():
            if isinstance(value, frozenset):
                data[name] = sorted(value)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Options:
        """Options written by ``as_json``. TypeError on an unknown name."""
        sets = {f.name for f in fields(cls) if str(f.type).startswith("frozenset")}
        made: dict[str, Any] = {name: frozenset(value) if name in sets else value for name, value in data.items()}
        if "layouts" in made:
            made["layouts"] = {name: tuple(strides) for name, strides in made["layouts"].items()}
        return cls(**made)
