"""Parts that take turns on the device."""

import pytest

from uae.models.offload import Offload


@pytest.fixture
def moves() -> list[str]:
    return []


@pytest.fixture
def offload(moves) -> Offload:
    def mover(name):
        return lambda device: moves.append(f"{name} {device}")

    made = Offload({name: mover(name) for name in ("encoder", "decoder")}, "cuda")
    assert sorted(moves) == ["decoder cpu", "encoder cpu"]
    moves.clear()
    return made


def test_a_part_stays_until_another_phase_begins_without_it(offload, moves):
    with offload.at_work("encoder"):
        assert moves == ["encoder cuda"]
    with offload.at_work("encoder"):
        pass
    assert moves == ["encoder cuda"]
    with offload.at_work("decoder"):
        assert moves[1:] == ["encoder cpu", "decoder cuda"]
        assert offload.here == {"decoder"}
    with offload.at_work():
        assert offload.here == set()


def test_a_phase_within_another_takes_nothing_away(offload, moves):
    with offload.at_work("decoder"):
        with offload.at_work("encoder"):
            assert offload.here == {"decoder", "encoder"}
        with offload.at_work("decoder"):
            assert offload.here == {"decoder"}
    assert moves == ["decoder cuda", "encoder cuda", "encoder cpu"]


def test_a_fault_ends_a_phase(offload):
    with pytest.raises(ValueError, match="fault"), offload.at_work("encoder"):
        raise ValueError("fault")
    with offload.at_work("decoder"):
        assert offload.here == {"decoder"}


def test_parts_that_do_not_take_turns_stay_where_they_are(offload, moves):
    with offload.at_work("rewards"):
        assert moves == []
