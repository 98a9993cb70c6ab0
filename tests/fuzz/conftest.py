"""The seed of this run's fuzzing: ZELLIGE_FUZZ_SEED, or a new one each time; printed in the header."""

from __future__ import annotations

import os
import random

import pytest

SEED = int(os.environ.get("ZELLIGE_FUZZ_SEED") or random.SystemRandom().randrange(10**9))


def pytest_report_header() -> str:
    return f"fuzzing: ZELLIGE_FUZZ_SEED={SEED}"


@pytest.fixture
def fuzz_seed() -> int:
    return SEED
