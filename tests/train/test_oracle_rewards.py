"""Flow-GRPO follows rewards that say exactly what is wanted: brightness, and darkness.

AWM and DiffusionNFT do not yet (docs/log.md).
"""

import pytest

from bench.oracle import SIGNS, change


@pytest.mark.slow
@pytest.mark.parametrize("reward", SIGNS)
@pytest.mark.parametrize("objective", ["flow_grpo", "flow_grpo-cps"])
def test_an_objective_follows_an_oracle(objective, reward, tmp_path):
    assert SIGNS[reward] * change(objective, reward, 2e-3, 12, tmp_path) > 0.02
