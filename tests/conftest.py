"""What all tests share: the package of trials beside `src`, and a tiny random model."""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest


@pytest.fixture(scope="session")
def random_model_folder():
    """A model folder with random weights, in the layout of a trained one."""
    from faults import random_model

    return random_model.random_model_folder()
