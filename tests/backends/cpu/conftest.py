"""What tests of the CPU backend share."""

import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(3)
