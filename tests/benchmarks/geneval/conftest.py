"""A tiny Mask2Former and a tiny CLIP with random weights, as folders."""

import pytest

from faults.random_detector import random_clip_folder, random_mask2former_folder


@pytest.fixture(scope="session")
def mask2former_folder():
    return random_mask2former_folder()


@pytest.fixture(scope="session")
def clip_folder():
    return random_clip_folder()
