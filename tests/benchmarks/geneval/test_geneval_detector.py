# transformers' models are untyped
# pyright: reportOptionalMemberAccess=false, reportAttributeAccessIssue=false, reportArgumentType=false
"""The detector's input and output against plain versions; its weights against mmdet's layout."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from transformers import Mask2FormerForUniversalSegmentation
from transformers.models.swin.modeling_swin import SwinPatchMerging

from uae.benchmarks.geneval import detector as module
from uae.benchmarks.geneval.decisions import DecisionConfig, Detections, confident_objects
from uae.benchmarks.geneval.detector import Detector, to_detections, to_input
from uae.benchmarks.geneval.mmdet_weights import converted, pixel_by_pixel, read_mmdet
from uae.core.errors import NonFinite, UsageError

PADDED, SCALED, ORIGINAL = (64, 96), (60, 90), (40, 61)
SIZES = (PADDED, SCALED, ORIGINAL)


def tiny_config(mask2former_folder):
    return Mask2FormerForUniversalSegmentation.from_pretrained(mask2former_folder).config


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def random_logits(seed: int, num_queries: int = 100):
    generator = torch.Generator().manual_seed(seed)
    class_logits = 4 * torch.randn(num_queries, 81, generator=generator)
    return class_logits, 3 * torch.randn(num_queries, 16, 24, generator=generator)


# -- plain versions ------------------------------------------------------------------------------


def plain_bilinear(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Interpolate (h, w, ...) between pixel centres, edges repeated, without antialiasing."""
    for axis, length in enumerate(size):
        old = values.shape[axis]
        centre = np.clip((np.arange(length) + 0.5) * old / length - 0.5, 0, old - 1)
        lower = np.floor(centre).astype(int)
        upper = np.minimum(lower + 1, old - 1)
        share = (centre - lower).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
        values = values.take(lower, axis) * (1 - share) + values.take(upper, axis) * share
    return values


def plain_detections(class_logits: torch.Tensor, mask_logits: torch.Tensor):
    """The official post-processing, in loops and double precision: (class, score, box, mask)."""
    candidates = []
    for query, row in enumerate(class_logits.double().numpy()):
        shares = np.exp(row - row.max())
        shares /= shares.sum()
        candidates += [(shares[c], query, c) for c in range(80)]
    found = []
    for share, query, class_id in sorted(candidates, reverse=True)[:100]:
        large = plain_bilinear(mask_logits[query].double().numpy(), PADDED)
        logits = plain_bilinear(large[: SCALED[0], : SCALED[1]], ORIGINAL)
        total, count, box = 0.0, 0, None
        for y in range(ORIGINAL[0]):
            for x in range(ORIGINAL[1]):
                if logits[y, x] > 0:
                    total, count = total + 1 / (1 + np.exp(-logits[y, x])), count + 1
                    left, top, right, bottom = box or (x, y, x + 1, y + 1)
                    box = min(left, x), min(top, y), max(right, x + 1), max(bottom, y + 1)
        score = share * total / (count + 1e-6)
        found.append((class_id, score, box or (0, 0, 0, 0), logits > 0))
    return found


def test_post_processing_is_the_plain_one():
    class_logits, mask_logits = random_logits(0)
    mask_logits[3] -= 100  # an empty mask
    class_logits[3, 7] = 30
    class_logits[5, 11] = class_logits[5, 12] = 30  # two classes of one query
    got = to_detections(class_logits, mask_logits, SIZES)
    plain = plain_detections(class_logits, mask_logits)
    assert len(got.scores) == len(plain) == 100
    key = {(c, round(s, 4), box): (s, mask) for c, s, box, mask in plain}
    for class_id, score, box, mask in zip(
        got.class_id, got.scores, got.boxes, got.masks, strict=True
    ):
        name = (int(class_id), round(float(score), 4), tuple(box.tolist()))
        plain_score, plain_mask = key[name]
        # float32 against float64 over about a thousand pixels
        assert score == pytest.approx(plain_score, abs=1e-5)
        assert (mask == plain_mask).all()
    empty = got.class_id == 7
    assert (got.scores[empty].max(), got.boxes[got.scores == 0].max()) == (0, 0)
    assert {11, 12} <= set(got.class_id.tolist())


def same_objects(first: Detections, second: Detections, tag: str) -> bool:
    one, two = (confident_objects(d, tag, DecisionConfig()) for d in (first, second))
    return {k: [(o.score, o.box) for o in v] for k, v in one.items()} == {
        k: [(o.score, o.box) for o in v] for k, v in two.items()
    }


@pytest.mark.parametrize(("tag", "min_score"), [("colors", 0.3), ("counting", 0.9)])
def test_leaving_out_the_hopeless_changes_no_decision(tag, min_score):
    class_logits, mask_logits = random_logits(1)
    mask_logits += 6  # certain masks, so that some scores pass
    everything = to_detections(class_logits, mask_logits, SIZES)
    fewer = to_detections(class_logits, mask_logits, SIZES, min_score)
    assert 0 < len(fewer.scores) < len(everything.scores)
    assert confident_objects(fewer, tag, DecisionConfig())
    assert same_objects(everything, fewer, tag)


def test_no_candidate_is_no_detection():
    class_logits, mask_logits = random_logits(2)
    class_logits[:, -1] = 50
    got = to_detections(class_logits, mask_logits, SIZES, 0.3)
    assert (len(got.scores), got.boxes.shape, got.masks.shape) == (0, (0, 4), (0, *ORIGINAL))


# -- input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "scaled", "padded"),
    [
        ((512, 512), (800, 800), (800, 800)),
        ((1024, 1024), (800, 800), (800, 800)),
        ((400, 300), (1067, 800), (1088, 800)),
        ((300, 400), (800, 1067), (800, 1088)),
        ((1500, 500), (1333, 444), (1344, 448)),
        ((800, 800), (800, 800), (800, 800)),
    ],
)
def test_sizes_as_mmdet_computes_them(size, scaled, padded):
    pixels, (height, width) = to_input(Image.new("RGB", size))
    assert (width, height) == scaled
    assert tuple(pixels.shape) == (1, 3, padded[1], padded[0])


@pytest.mark.parametrize("size", [(40, 30), (1100, 1000)])
def test_pixels_are_interpolated_rounded_normalised_and_then_padded(size):
    image = noise(*size)
    pixels, (height, width) = to_input(image)
    levels = np.rint(plain_bilinear(np.asarray(image, dtype=np.float64), (height, width)))
    expected = (levels - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    got = pixels[0].permute(1, 2, 0).numpy()
    # float32 turns a half now and then: one level of 255, in few pixels
    different = np.abs(got[:height, :width] - expected) > 1e-5
    assert different.mean() < 1e-3
    assert np.abs(got[:height, :width] - expected).max() < 1.01 / 57
    assert (got[height:] == 0).all()
    assert (got[:, width:] == 0).all()


# -- weights -------------------------------------------------------------------------------------


def pair(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def swin_names(swin) -> dict[str, tuple[int, ...]]:
    shapes = pair("backbone.patch_embed.projection", swin.embed_dim, 3, 4, 4)
    shapes |= pair("backbone.patch_embed.norm", swin.embed_dim)
    area = swin.window_size**2
    for i, depth in enumerate(swin.depths):
        dim = swin.embed_dim * 2**i
        for block in (f"backbone.stages.{i}.blocks.{j}." for j in range(depth)):
            shapes |= pair(block + "norm1", dim) | pair(block + "norm2", dim)
            shapes |= {
                block + "attn.w_msa.relative_position_bias_table": (
                    (2 * swin.window_size - 1) ** 2,
                    swin.num_heads[i],
                ),
                block + "attn.w_msa.relative_position_index": (area, area),
            }
            shapes |= pair(block + "attn.w_msa.qkv", 3 * dim, dim)
            shapes |= pair(block + "attn.w_msa.proj", dim, dim)
            shapes |= pair(block + "ffn.layers.0.0", 4 * dim, dim)
            shapes |= pair(block + "ffn.layers.1", dim, 4 * dim)
        if i < 3:
            shapes |= pair(f"backbone.stages.{i}.downsample.norm", 4 * dim)
            shapes[f"backbone.stages.{i}.downsample.reduction.weight"] = (2 * dim, 4 * dim)
        shapes |= pair(f"backbone.norm{i}", dim)
    return shapes


def pixel_decoder_names(config) -> dict[str, tuple[int, ...]]:
    hidden, swin_dim = config.hidden_dim, config.backbone_config.embed_dim
    pixel, wide = "panoptic_head.pixel_decoder.", config.encoder_feedforward_dim
    shapes = pair(pixel + "mask_feature", hidden, hidden, 1, 1)
    shapes[pixel + "level_encoding.weight"] = (3, hidden)
    for i in range(3):
        shapes |= pair(f"{pixel}input_convs.{i}.conv", hidden, swin_dim * 2 ** (3 - i), 1, 1)
        shapes |= pair(f"{pixel}input_convs.{i}.gn", hidden)
    shapes[pixel + "lateral_convs.0.conv.weight"] = (hidden, swin_dim, 1, 1)
    shapes[pixel + "output_convs.0.conv.weight"] = (hidden, hidden, 3, 3)
    shapes |= pair(pixel + "lateral_convs.0.gn", hidden) | pair(pixel + "output_convs.0.gn", hidden)
    num_points = config.num_attention_heads * 3 * 4
    for layer in (f"{pixel}encoder.layers.{i}." for i in range(config.encoder_layers)):
        shapes |= pair(layer + "attentions.0.sampling_offsets", 2 * num_points, hidden)
        shapes |= pair(layer + "attentions.0.attention_weights", num_points, hidden)
        shapes |= pair(layer + "attentions.0.value_proj", hidden, hidden)
        shapes |= pair(layer + "attentions.0.output_proj", hidden, hidden)
        shapes |= pair(layer + "ffns.0.layers.0.0", wide, hidden)
        shapes |= pair(layer + "ffns.0.layers.1", hidden, wide)
        shapes |= pair(layer + "norms.0", hidden) | pair(layer + "norms.1", hidden)
    return shapes


def query_decoder_names(config) -> dict[str, tuple[int, ...]]:
    hidden, wide, head = config.hidden_dim, config.dim_feedforward, "panoptic_head."
    shapes = pair(head + "transformer_decoder.post_norm", hidden)
    for layer in (
        f"{head}transformer_decoder.layers.{i}." for i in range(config.decoder_layers - 1)
    ):
        for k in range(2):
            shapes[f"{layer}attentions.{k}.attn.in_proj_weight"] = (3 * hidden, hidden)
            shapes[f"{layer}attentions.{k}.attn.in_proj_bias"] = (3 * hidden,)
            shapes |= pair(f"{layer}attentions.{k}.attn.out_proj", hidden, hidden)
        shapes |= pair(layer + "ffns.0.layers.0.0", wide, hidden)
        shapes |= pair(layer + "ffns.0.layers.1", hidden, wide)
        for k in range(3):
            shapes |= pair(f"{layer}norms.{k}", hidden)
    shapes[head + "query_embed.weight"] = shapes[head + "query_feat.weight"] = (100, hidden)
    shapes[head + "level_embed.weight"] = (3, hidden)
    shapes |= pair(head + "cls_embed", 81, hidden)
    for k in (0, 2, 4):
        shapes |= pair(f"{head}mask_embed.{k}", hidden, hidden)
    return shapes


def mmdet_names(config) -> dict[str, tuple[int, ...]]:
    """Names and shapes in an mmdet 2.x checkpoint of a network of this size."""
    return (
        swin_names(config.backbone_config)
        | pixel_decoder_names(config)
        | query_decoder_names(config)
    )


@pytest.fixture
def mmdet_state(mask2former_folder):
    generator = torch.Generator().manual_seed(3)
    names = mmdet_names(tiny_config(mask2former_folder))
    return {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in names.items()}


def test_every_official_weight_finds_its_place(
    mmdet_state, mask2former_folder, tmp_path, monkeypatch
):
    path = tmp_path / "mask2former.pth"
    meta = {"CLASSES": ("person",), "epoch": 50, "config": "text"}
    torch.save({"meta": meta, "state_dict": mmdet_state}, path)
    monkeypatch.setattr(module, "official_config", lambda: tiny_config(mask2former_folder))
    detector = Detector.from_mmdet(path)
    assert detector.variant == "geneval"
    loaded = detector.model.state_dict()
    placed = converted(mmdet_state)
    num_unused = sum("relative_position_index" in name for name in mmdet_state)
    num_split = sum("qkv" in n or "attentions.1.attn.in_proj" in n for n in mmdet_state)
    assert len(placed) == len(mmdet_state) - num_unused + 2 * num_split
    everything = torch.cat([value.flatten() for value in placed.values()]).sort().values
    used = torch.cat(
        [
            v.flatten()
            for n, v in loaded.items()
            if "criterion" not in n and "swin.layernorm" not in n
        ]
    )
    assert torch.equal(everything, used.sort().values)
    query = loaded["model.transformer_module.decoder.layers.1.cross_attn_layer_norm.weight"]
    norm = mmdet_state["panoptic_head.transformer_decoder.layers.1.norms.0.weight"]
    assert torch.equal(query, norm)


def test_the_official_network_is_swin_small():
    config = module.official_config()
    assert config.num_labels == 80
    assert config.backbone_config.depths == [2, 2, 18, 2]
    assert (config.backbone_config.embed_dim, config.backbone_config.window_size) == (96, 7)
    assert (config.num_queries, config.hidden_dim, config.decoder_layers) == (100, 256, 10)


def test_patch_merging_reads_its_pixels_in_another_order():
    """mmdet's PatchMerging: nn.Unfold(2, stride 2), norm, reduction."""
    torch.manual_seed(0)
    dim, height, width = 5, 4, 6
    theirs = nn.Sequential(nn.LayerNorm(4 * dim), nn.Linear(4 * dim, 2 * dim, bias=False))
    nn.init.normal_(theirs[0].weight)
    nn.init.normal_(theirs[0].bias)
    ours = SwinPatchMerging(dim)
    ours.load_state_dict(
        {
            "norm.weight": pixel_by_pixel(theirs[0].weight),
            "norm.bias": pixel_by_pixel(theirs[0].bias),
            "reduction.weight": pixel_by_pixel(theirs[1].weight),
        }
    )
    x = torch.randn(2, height * width, dim)
    image = x.transpose(1, 2).reshape(2, dim, height, width)
    expected = theirs(F.unfold(image, 2, stride=2).transpose(1, 2))
    torch.testing.assert_close(ours(x, (height, width)), expected, atol=1e-6, rtol=1e-5)


def test_swin_has_the_same_relative_positions(mask2former_folder):
    """mmdet builds the index as (a + a^T) flipped, a = row x (2 w - 1) + column."""
    model = Mask2FormerForUniversalSegmentation.from_pretrained(mask2former_folder)
    window = model.config.backbone_config.window_size
    a = torch.arange(window)[:, None] * (2 * window - 1) + torch.arange(window)
    index = (a.reshape(1, -1) + a.reshape(1, -1).T).flip(1)
    indices = [
        value for name, value in model.named_buffers() if name.endswith("relative_position_index")
    ]
    assert indices
    assert all(torch.equal(ours.reshape(index.shape), index) for ours in indices)


def test_self_attention_is_split_as_torch_joins_it(mmdet_state):
    layer = "panoptic_head.transformer_decoder.layers.0.attentions.1.attn."
    joined = nn.MultiheadAttention(32, 2)
    joined.load_state_dict({n.removeprefix(layer): v for n, v in mmdet_state.items() if layer in n})
    placed = converted(mmdet_state)
    here = "model.transformer_module.decoder.layers.0.self_attn."

    def project(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, placed[f"{here}{name}_proj.weight"], placed[f"{here}{name}_proj.bias"])

    x = torch.randn(7, 32)
    q, k, v = (project(name, x).reshape(7, 2, 16).transpose(0, 1) for name in "qkv")
    attended = F.scaled_dot_product_attention(q, k, v).transpose(0, 1).reshape(7, 32)
    torch.testing.assert_close(project("out", attended), joined(x, x, x)[0], atol=1e-6, rtol=1e-5)


def test_foreign_weights_are_refused(mmdet_state, tmp_path):
    newer = {
        "panoptic_head.transformer_decoder.layers.0.self_attn.attn.in_proj_weight": torch.ones(1)
    }
    with pytest.raises(UsageError, match=r"1 weights are not of mmdet 2.x.*self_attn.*mmdet 3.x"):
        converted(mmdet_state | newer)
    path = tmp_path / "mask2former.pth"
    with pytest.raises(UsageError, match="is no file"):
        read_mmdet(path)
    # the first byte decides what torch's unpickler does: e is a KeyError, ( or } an IndexError
    contents = (b"", b"not a checkpoint", b"PK\x03\x04", b"e", b"hello", b"}", b"R.", b"M", b"X")
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(UsageError, match="is no checkpoint that holds tensors and plain"):
            read_mmdet(path)
    torch.save({"state_dict": mmdet_state, "optimizer": Detector}, path)
    with pytest.raises(UsageError, match="is no checkpoint that holds tensors and plain"):
        read_mmdet(path)
    for values in ([1], {"state_dict": [torch.ones(1)]}):
        torch.save(values, path)
        with pytest.raises(UsageError, match="holds list: expected a dict of tensors"):
            read_mmdet(path)
    for values in ({}, {"state_dict": {"epoch": 50}}):
        torch.save(values, path)
        with pytest.raises(UsageError, match="holds no tensors"):
            read_mmdet(path)


def test_weights_of_other_shapes_are_refused(
    mmdet_state, mask2former_folder, tmp_path, monkeypatch
):
    path = tmp_path / "mask2former.pth"
    monkeypatch.setattr(module, "official_config", lambda: tiny_config(mask2former_folder))
    merging = "backbone.stages.0.downsample.reduction.weight"
    joined = "backbone.stages.0.blocks.0.attn.w_msa.qkv.bias"
    head = "panoptic_head.cls_embed.bias"
    for key, value, said in (
        (merging, torch.ones(8, 7), r"\(8, 7\): expected a multiple of 4 along the last axis"),
        (joined, torch.ones(2), r"\(2,\): expected a multiple of 3 along the first axis"),
        (joined, torch.tensor(1.0), r"\(\): expected a multiple of 3"),
        (head, torch.ones(5), r"'class_predictor\.bias' have the shape \(5,\): expected \(81,\)"),
    ):
        torch.save({"state_dict": {**mmdet_state, key: value}}, path)
        with pytest.raises(UsageError, match=said):
            Detector.from_mmdet(path)


def test_missing_weights_are_refused(mmdet_state, mask2former_folder, tmp_path, monkeypatch):
    del mmdet_state["panoptic_head.cls_embed.bias"]
    path = tmp_path / "mask2former.pth"
    torch.save({"state_dict": mmdet_state}, path)
    monkeypatch.setattr(module, "official_config", lambda: tiny_config(mask2former_folder))
    with pytest.raises(UsageError, match=r"lacks 1 weight \(class_predictor\.bias\) of "):
        Detector.from_mmdet(path)


def test_other_models_are_refused(clip_folder, mask2former_folder, tmp_path):
    with pytest.raises(UsageError, match="is a clip model with 2 classes: expected mask2former"):
        Detector.from_pretrained(clip_folder)
    config = tiny_config(mask2former_folder)
    config.num_labels = 133
    config.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="is a mask2former model with 133 classes"):
        Detector.from_pretrained(tmp_path)


# -- whole ---------------------------------------------------------------------------------------


def test_an_image_of_any_shape(mask2former_folder, monkeypatch):
    monkeypatch.setattr(module, "SHORT_PX", 48)
    detector = Detector.from_pretrained(mask2former_folder)
    assert detector.variant == "geneval-hf"
    for size in ((64, 64), (30, 50), (90, 70)):
        got = detector.detect(noise(*size))
        n = len(got.scores)
        assert n == 100
        assert got.masks.shape == (n, size[1], size[0])
        assert (got.boxes[:, 2] <= size[0]).all()
        assert (got.boxes[:, 3] <= size[1]).all()
        assert got.class_id.max() < 80
        assert ((got.scores >= 0) & (got.scores <= 1)).all()


def test_output_that_is_not_finite(mask2former_folder, monkeypatch):
    monkeypatch.setattr(module, "SHORT_PX", 48)
    detector = Detector.from_pretrained(mask2former_folder)
    detector.model.class_predictor.bias.data[0] = float("nan")
    with pytest.raises(NonFinite, match="detector's output is not finite"):
        detector.detect(noise(32, 32))
