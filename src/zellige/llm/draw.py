"""Draws next tokens from logits that are on the host: penalties, filters, one draw a row, by the verified kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zellige.kernels.sampling import argmax, log_probability, penalise, sample
from zellige.llm.protocol import Float32Array, Int32Array, SampleSpec
from zellige.runtime.tensor import borrow


def draw(logits: Float32Array, specs: Sequence[SampleSpec]) -> tuple[Int32Array, Float32Array | None]:
    """A token for each row of f32 [B, V], and its log-probability where a spec wants one (else None)."""
    plain = altered = borrow(logits)
    if any(spec.repetition_penalty != 1.0 and len(spec.penalised) for spec in specs):
        altered = borrow(logits.copy())
        for row, spec in enumerate(specs):
            if spec.repetition_penalty != 1.0 and len(spec.penalised):
                penalise(spec.penalised, row, spec.repetition_penalty, logits=altered)
    if all(spec.temperature == 0.0 for spec in specs):
        drawn = argmax(altered)
    else:
        drawn = sample(
            altered,
            np.asarray([spec.temperature for spec in specs], np.float32),
            np.asarray([spec.top_k for spec in specs], np.int32),
            np.asarray([spec.top_p for spec in specs], np.float32),
            np.asarray([spec.min_p for spec in specs], np.float32),
            np.asarray([spec.seed for spec in specs], np.uint64),
            np.asarray([spec.step for spec in specs], np.uint64),
        )
    if not any(spec.want_logprob for spec in specs):
        return drawn.numpy(), None
    found, _ = log_probability(plain, drawn)
    return drawn.numpy(), found.numpy()
