"""Tiles of sums on their way from a warp group to memory by the copy engine: through shared memory, in boxes of some columns.

The engine stores a box, or adds it to what memory holds, while the group goes on to its next tile; a group waits only before it
fills shared memory that the engine may still be reading.
"""

from __future__ import annotations

from dataclasses import dataclass

from zellige.backends.cuda.descriptors import Descriptors
from zellige.ir import ops
from zellige.ir.dtypes import DType, f32
from zellige.ir.ops import UpdateOp

PRELUDE = '''from triton._C.libtriton import ir
from triton.experimental.gluon.language._core import builtin
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared


@builtin
def _add_box(box, corner, held, _semantic=None):
    """Gluon has no name for what Triton's dialect has: the copy engine adds shared memory to a box of an array."""
    corner = _semantic._convert_to_ir_values(corner, require_i64=False)
    _semantic.builder.create_async_tma_reduce(ir.DESCRIPTOR_REDUCE_KIND.ADD, box.handle, corner, held.handle)


@gluon.jit
def _halves(tile):
    """Of its columns."""
    rows: tl.constexpr = tile.shape[0]
    columns: tl.constexpr = tile.shape[1] // 2
    return tl.permute(tl.reshape(tile, (rows, 2, columns)), (0, 2, 1)).split()


'''
COLUMNS = 64
"""Of a box: more would take shared memory from the operands, fewer more turns of waiting (8192×4096×4096: 32 lost 5 %)."""
BYTES = 16384
"""Of shared memory for each group, in as many boxes as that holds."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """How one array's tiles leave."""

    box: str
    """The descriptor."""
    corners: tuple[str, ...]
    """Of a tile's boxes, from left to right."""
    shape: tuple[int, ...]
    """Of a box."""
    dtype: DType
    adds: bool

    @property
    def buffers(self) -> int:
        """Boxes that each group has in shared memory; a tile's boxes take turns, so that they divide their number."""
        size = self.shape[0] * self.shape[1] * self.dtype.bits // 8
        return min(len(self.corners), 1 << max(BYTES // size, 1).bit_length() - 1)

    def statements(self, name: str, fresh: list[str], buffers: str) -> list[str]:
        """Sends the tile of that name. ``fresh``: names for its boxes; ``buffers``: of shared memory."""
        parts, made = [name], []
        names = iter(fresh)
        while len(parts) < len(self.corners):
            halves = [(part, next(names), next(names)) for part in parts]
            made += [f"{left}, {right} = _halves({part})" for part, left, right in halves]
            parts = [half for _, *both in halves for half in both]
        send = "_add_box" if self.adds else "tma.async_copy_shared_to_global"
        for i, (part, corner) in enumerate(zip(parts, self.corners, strict=True)):
            held = f"{buffers}.index(MEMBER * {self.buffers} + {i % self.buffers})"
            made += [
                f"tma.store_wait({self.buffers - 1})",
                "tl.thread_barrier()",  # one thread has sent the box that was here, and so waits for all
                f"{held}.store({part})",
                "fence_async_shared()",
                f"{send}({self.box}, [{corner}], {held})",
            ]
        return made


def outgoing(descriptors: Descriptors, op: ops.Store | ops.Update) -> Outgoing | None:
    """How what an operation stores leaves by the copy engine; None if it is no box of an array in ``descriptors``, or added otherwise
    than as f32."""
    if isinstance(op, ops.Update) and (op.op is not UpdateOp.ADD or op.value.type.dtype is not f32):
        return None
    found = descriptors.columns(op, COLUMNS)
    if found is None or len(found[2]) != 2:
        return None
    box, corners, shape = found
    return Outgoing(box, corners, shape, descriptors.memory.function.array(op.array).dtype, isinstance(op, ops.Update))
