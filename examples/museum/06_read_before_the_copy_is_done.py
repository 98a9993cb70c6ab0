"""Exhibit 6. The host reads a result before the copy that brings it has completed.

What happened (vllm-project/vllm#36942): sampled tokens were copied from the device to pinned memory asynchronously, with an event
to wait for. The host read the pinned copy first and waited afterwards: now and then it saw the tokens of the step before.

What Zellige says: a tensor knows whether the work that writes it has completed, and there is no way to its memory past that
knowledge. ``numpy()`` gives the contents once they are there. Of a captured graph that has not run there is nothing to wait
for, so it is an error, ZL0504, and not the bytes of an earlier step. The view that it gives cannot be written.
"""

from __future__ import annotations

import numpy as np
from exhibit import refusal, show

import zellige as zl
from zellige import f32

B, V = zl.dims("B V")


@zl.kernel
def sample(logits: zl.In[f32, B, V], *, token: zl.Out[zl.Index[V], B]):
    zl.requires(V >= 1)
    b = zl.grid(B)
    token[b] = zl.argmax(logits[b, :])


LOGITS = np.random.default_rng(6).random((3, 50), np.float32)


def wrong() -> str:
    with zl.record():
        token = sample(zl.tensor(LOGITS))
    return refusal(token.numpy)


def right() -> None:
    logits = zl.tensor(LOGITS)
    with zl.record() as graph:
        token = sample(logits)
    for step in range(3):
        logits.write(np.roll(LOGITS, step, axis=1))
        graph.replay()
        np.testing.assert_array_equal(token.numpy(), np.roll(LOGITS, step, axis=1).argmax(1))


if __name__ == "__main__":
    show(wrong, right)
