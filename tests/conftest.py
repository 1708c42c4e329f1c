"""What all tests share: the package of trials beside `src`, and a tiny random model."""

import logging
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest


@pytest.fixture(scope="session")
def random_model_folder():
    """A model folder with random weights, in the layout of a trained one."""
    from faults import random_model

    return random_model.random_model_folder()


@pytest.fixture(autouse=True)
def _logging_as_before():
    """Put back what a command sets for its process."""
    logger = logging.getLogger("uae")
    handlers, level = logger.handlers, logger.level
    yield
    logger.handlers = handlers
    logger.setLevel(level)  # forgets what was enabled, too


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport():
    """Escape what is no Unicode in captured logs: workers cannot send it."""
    outcome = yield
    report = outcome.get_result()
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
