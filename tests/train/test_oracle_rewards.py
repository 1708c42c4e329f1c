"""Each decoder objective follows rewards that say exactly what is wanted: brightness, darkness."""

import pytest

from bench.oracle import SIGNS, change


@pytest.mark.slow
@pytest.mark.parametrize("reward", SIGNS)
@pytest.mark.parametrize(
    ("objective", "lr", "num_steps"),
    [("flow_grpo", 2e-3, 12), ("flow_grpo-cps", 2e-3, 12), ("awm", 1e-3, 8), ("nft", 1e-3, 8)],
)
def test_an_objective_follows_an_oracle(objective, lr, num_steps, reward, tmp_path):
    assert SIGNS[reward] * change(objective, reward, lr, num_steps, tmp_path) > 0.02
