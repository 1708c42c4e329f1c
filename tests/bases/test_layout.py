import numpy as np
import torch

from bases.encoder_tasks import told
from bases.layout import (
    EMPTY_WEIGHT,
    LOGITS,
    NUM_CLASSES,
    UNSTATED,
    LayoutHead,
    LayoutProbe,
    layout_loss,
    layout_of,
    layout_told,
)
from uae.scenes.graph import CELLS, Scene, SceneObject, scene_at
from uae.scenes.language import long_caption, short_caption, terse_caption
from uae.scenes.reading import read_caption

SCENES = [scene_at(i, "train") for i in range(60)]
ONE = Scene("teal", (SceneObject("cross", "pink", "large", 5 / 6, 1 / 6),))


def test_an_object_stands_in_its_cell():
    layout = layout_of([ONE])
    assert layout.cells[0, CELLS.index("top right")].tolist() == [4, 7, 3]
    assert int((layout.cells > 0).sum()) == 3
    assert layout.background.tolist() == [2]


def test_long_captions_tell_the_whole_layout():
    rng = np.random.default_rng(0)
    read = layout_told([read_caption(long_caption(s, rng)) for s in SCENES])
    whole = layout_of(SCENES)
    assert torch.equal(read.cells, whole.cells)
    assert torch.equal(read.background, whole.background)


def test_what_a_text_leaves_open_is_no_target():
    read = layout_told([read_caption("A pink cross in the top right.")])
    assert read.cells[0, CELLS.index("top right")].tolist() == [4, 7, UNSTATED]
    assert read.background.tolist() == [UNSTATED]
    unplaced = layout_told([read_caption("A pink cross on a teal background.")])
    assert (unplaced.cells == UNSTATED).all()
    assert unplaced.background.tolist() == [2]


def test_no_text_contradicts_its_scene():
    rng = np.random.default_rng(1)
    whole = layout_of(SCENES)
    for make in (terse_caption, told, short_caption):
        read = layout_told([read_caption(make(s, rng)) for s in SCENES])
        stated = read.cells > 0
        assert torch.equal(read.cells[stated], whole.cells[stated])
        assert int(stated.sum()) > len(SCENES)


def perfect(layout):
    """Logits that are sure of the targets."""
    parts = [
        20.0 * torch.nn.functional.one_hot(layout.cells[..., k].clamp(min=0), n)
        for k, n in enumerate(NUM_CLASSES)
    ]
    background = 20.0 * torch.nn.functional.one_hot(layout.background.clamp(min=0), 6)
    return torch.cat(parts, dim=-1), background


def test_the_loss_is_small_at_the_truth_and_grows_with_an_error():
    layout = layout_of(SCENES)
    cells, background = perfect(layout)
    loss, right = layout_loss((cells, background), layout)
    assert loss < 1e-6
    assert set(right.values()) == {1.0}
    wrong, right = layout_loss((cells.roll(1, dims=1), background), layout)
    assert wrong > 1
    assert right["color"] < 0.5


def test_uniform_logits_cost_the_logarithm_of_the_classes():
    layout = layout_of(SCENES)
    loss, _ = layout_loss(
        (torch.zeros(len(SCENES), 9, LOGITS), torch.zeros(len(SCENES), 6)), layout
    )
    expected = sum(np.log(n) for n in NUM_CLASSES) + 0.2 * np.log(6)
    assert abs(loss.item() - expected) < 1e-5
    assert EMPTY_WEIGHT < 1


def test_a_probe_ignores_what_is_masked():
    torch.manual_seed(0)
    probe, head = LayoutProbe(16), LayoutHead(16)
    states, mask = torch.randn(3, 7, 16), torch.ones(3, 7, dtype=torch.bool)
    mask[:, 5:] = False
    other = states.clone()
    other[:, 5:] = 9.0
    cells, background = probe(states, mask)
    assert torch.equal(cells, probe(other, mask)[0])
    assert cells.shape == (3, 9, LOGITS)
    assert background.shape == (3, 6)
    assert head(states[:, 0])[0].shape == (3, 9, LOGITS)
