"""Exhibit 6. The host reads a result before the copy that brings it has completed.

What happened (vllm-project/vllm#36942): sampled tokens were copied from the device to pinned memory asynchronously, with an event
to wait for. The host read the pinned copy first and waited afterwards: now and then it saw the tokens of the step before.

What Zellige says: a copy on a stream owns its target until it has ended, and ``numpy()`` waits for it: there is no reading
first and waiting afterwards. What one can write is to keep an array from the step before, and to look at it again: it would
change under its reader, so the copy of the next step is refused while it lives. AliasError, ZL0503, in the call, whatever the
timing.
"""

from __future__ import annotations

import numpy as np
from exhibit import Gate, in_another_thread, refusal, show

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
    s, host = zl.stream("step"), zl.empty((3,), zl.i32)
    with s:
        token = sample(LOGITS)
    s.copy(token, host)
    seen = host.numpy()  # waits, and has the tokens of this step ...
    text = refusal(lambda: s.copy(token, host))  # ... which the next step would overwrite while the host holds them
    np.testing.assert_array_equal(seen, LOGITS.argmax(1))
    return text


def right() -> None:
    s, host = zl.stream("step"), zl.empty((3,), zl.i32)
    for step in range(3):
        logits = zl.tensor(np.roll(LOGITS, step, axis=1))
        gate = Gate(s)  # the device is busy: nothing below has run when the host asks for the tokens
        with s:
            token = sample(logits)
        s.copy(token, host)
        reader = in_another_thread(lambda: host.numpy().copy())
        assert not reader.done(), "the host saw tokens that were not there yet"
        gate.open()
        np.testing.assert_array_equal(reader.result(), np.roll(LOGITS, step, axis=1).argmax(1))


if __name__ == "__main__":
    show(wrong, right)
