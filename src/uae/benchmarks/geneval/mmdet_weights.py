"""The official detector's weights, under the names of transformers.

mmdet 2.x `mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco` (Apache-2.0) -> the names that
`Mask2FormerForUniversalSegmentation` has on disk. Two tensors are laid out differently:

- Swin's query, key and value, and those of the decoder's self-attention, are one matrix there
- a patch merging reads its four pixels channel by channel there (`nn.Unfold`: channel, row, column)
  and pixel by pixel here (column, row, channel)

Not checked against the published file: the names follow mmdet's source, and each part with another
layout is tested against a plain version of mmdet's.
"""

import re
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from uae.core.errors import UsageError

_HEAD = r"panoptic_head\."
_SWIN = "model.pixel_level_module.encoder."
_PIXELS = "model.pixel_level_module.decoder."
_DECODER = "model.transformer_module."

_UNREADABLE = (
    RuntimeError,
    EOFError,
    torch.serialization.pickle.UnpicklingError,
    LookupError,
    ValueError,
    TypeError,
    AssertionError,
    struct.error,
)
"""What torch's unpickler raises on a file that is none of its own, or a damaged one: it takes any
byte for an instruction."""
_UNUSED = re.compile(r".*\.relative_position_index")
_SPLIT: tuple[tuple[str, str, tuple[str, str, str]], ...] = (
    (
        r"backbone\.stages\.(\d+)\.blocks\.(\d+)\.attn\.w_msa\.qkv\.(weight|bias)",
        _SWIN + r"encoder.layers.\1.blocks.\2.attention.self.{}.\3",
        ("query", "key", "value"),
    ),
    (
        _HEAD + r"transformer_decoder\.layers\.(\d+)\.attentions\.1\.attn\.in_proj_(weight|bias)",
        _DECODER + r"decoder.layers.\1.self_attn.{}.\2",
        ("q_proj", "k_proj", "v_proj"),
    ),
)
"""One tensor there, three here, along the first axis."""
_MERGED = (
    r"backbone\.stages\.(\d+)\.downsample\.(norm|reduction)\.(weight|bias)",
    _SWIN + r"encoder.layers.\1.downsample.\2.\3",
)
_BLOCK, _BLOCK_HERE = (
    r"backbone\.stages\.(\d+)\.blocks\.(\d+)\.",
    _SWIN + r"encoder.layers.\1.blocks.\2.",
)
_INPUT, _INPUT_HERE = (
    _HEAD + r"pixel_decoder\.input_convs\.(\d+)\.",
    _PIXELS + r"input_projections.\1.",
)
_LAYER, _LAYER_HERE = (
    _HEAD + r"pixel_decoder\.encoder\.layers\.(\d+)\.",
    _PIXELS + r"encoder.layers.\1.",
)
_QUERY, _QUERY_HERE = (
    _HEAD + r"transformer_decoder\.layers\.(\d+)\.",
    _DECODER + r"decoder.layers.\1.",
)
_RENAMED = (
    (
        r"backbone\.patch_embed\.projection\.(.*)",
        _SWIN + r"embeddings.patch_embeddings.projection.\1",
    ),
    (r"backbone\.patch_embed\.norm\.(.*)", _SWIN + r"embeddings.norm.\1"),
    (_BLOCK + r"norm1\.(.*)", _BLOCK_HERE + r"layernorm_before.\3"),
    (_BLOCK + r"norm2\.(.*)", _BLOCK_HERE + r"layernorm_after.\3"),
    (
        _BLOCK + r"attn\.w_msa\.relative_position_bias_table",
        _BLOCK_HERE + "attention.self.relative_position_bias_table",
    ),
    (_BLOCK + r"attn\.w_msa\.proj\.(.*)", _BLOCK_HERE + r"attention.output.dense.\3"),
    (_BLOCK + r"ffn\.layers\.0\.0\.(.*)", _BLOCK_HERE + r"intermediate.dense.\3"),
    (_BLOCK + r"ffn\.layers\.1\.(.*)", _BLOCK_HERE + r"output.dense.\3"),
    *(
        (rf"backbone\.norm{i}\.(.*)", _SWIN + rf"hidden_states_norms.stage{i + 1}.\1")
        for i in range(4)
    ),
    (_INPUT + r"conv\.(.*)", _INPUT_HERE + r"0.\2"),
    (_INPUT + r"gn\.(.*)", _INPUT_HERE + r"1.\2"),
    (_HEAD + r"pixel_decoder\.lateral_convs\.0\.conv\.(.*)", _PIXELS + r"adapter_1.0.\1"),
    (_HEAD + r"pixel_decoder\.lateral_convs\.0\.gn\.(.*)", _PIXELS + r"adapter_1.1.\1"),
    (_HEAD + r"pixel_decoder\.output_convs\.0\.conv\.(.*)", _PIXELS + r"layer_1.0.\1"),
    (_HEAD + r"pixel_decoder\.output_convs\.0\.gn\.(.*)", _PIXELS + r"layer_1.1.\1"),
    (_HEAD + r"pixel_decoder\.mask_feature\.(.*)", _PIXELS + r"mask_projection.\1"),
    (_HEAD + r"pixel_decoder\.level_encoding\.weight", _PIXELS + "level_embed"),
    (_LAYER + r"attentions\.0\.(.*)", _LAYER_HERE + r"self_attn.\2"),
    (_LAYER + r"norms\.0\.(.*)", _LAYER_HERE + r"self_attn_layer_norm.\2"),
    (_LAYER + r"norms\.1\.(.*)", _LAYER_HERE + r"final_layer_norm.\2"),
    (_LAYER + r"ffns\.0\.layers\.0\.0\.(.*)", _LAYER_HERE + r"fc1.\2"),
    (_LAYER + r"ffns\.0\.layers\.1\.(.*)", _LAYER_HERE + r"fc2.\2"),
    (_QUERY + r"attentions\.0\.attn\.(.*)", _QUERY_HERE + r"cross_attn.\2"),
    (_QUERY + r"attentions\.1\.attn\.out_proj\.(.*)", _QUERY_HERE + r"self_attn.out_proj.\2"),
    (_QUERY + r"norms\.0\.(.*)", _QUERY_HERE + r"cross_attn_layer_norm.\2"),
    (_QUERY + r"norms\.1\.(.*)", _QUERY_HERE + r"self_attn_layer_norm.\2"),
    (_QUERY + r"norms\.2\.(.*)", _QUERY_HERE + r"final_layer_norm.\2"),
    (_QUERY + r"ffns\.0\.layers\.0\.0\.(.*)", _QUERY_HERE + r"fc1.\2"),
    (_QUERY + r"ffns\.0\.layers\.1\.(.*)", _QUERY_HERE + r"fc2.\2"),
    (_HEAD + r"transformer_decoder\.post_norm\.(.*)", _DECODER + r"decoder.layernorm.\1"),
    (_HEAD + r"query_embed\.weight", _DECODER + "queries_embedder.weight"),
    (_HEAD + r"query_feat\.weight", _DECODER + "queries_features.weight"),
    (_HEAD + r"level_embed\.weight", _DECODER + "level_embed.weight"),
    (_HEAD + r"cls_embed\.(.*)", r"class_predictor.\1"),
    (_HEAD + r"mask_embed\.0\.(.*)", _DECODER + r"decoder.mask_predictor.mask_embedder.0.0.\1"),
    (_HEAD + r"mask_embed\.2\.(.*)", _DECODER + r"decoder.mask_predictor.mask_embedder.1.0.\1"),
    (_HEAD + r"mask_embed\.4\.(.*)", _DECODER + r"decoder.mask_predictor.mask_embedder.2.0.\1"),
)


def read_mmdet(path: Path) -> dict[str, Tensor]:
    """Read mmdet's `.pth` file; nothing but tensors and plain values is loaded from it.

    Raises:
        UsageError: There is no such file, or it is no checkpoint that can be read so.
    """
    if not path.is_file():
        raise UsageError(f"{path} is no file: expected mmdet's Mask2Former checkpoint (.pth)")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise UsageError(
            f"{path} is no checkpoint that holds tensors and plain values alone: expected mmdet "
            "2.x's mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco"
        ) from error
    state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, dict) else checkpoint
    if not isinstance(state, dict):
        raise UsageError(f"{path} holds {type(state).__name__}: expected a dict of tensors")
    weights = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    if not weights:
        raise UsageError(f"{path} holds no tensors: expected weights by name, in 'state_dict'")
    return weights


def converted(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return mmdet 2.x's weights under transformers' names on disk.

    Raises:
        UsageError: A name is not one of that model's (those of mmdet 3.x are not), or a tensor's
            shape does not fit it.
    """
    result: dict[str, Tensor] = {}
    unknown: list[str] = []
    for key, value in state.items():
        if _UNUSED.fullmatch(key):
            continue
        renamed = _renamed(key, value)
        result |= renamed
        unknown += [] if renamed else [key]
    if unknown:
        raise UsageError(
            f"{len(unknown)} weights are not of mmdet 2.x's Mask2Former with Swin-S, such as "
            f"{unknown[0]!r} (a checkpoint of mmdet 3.x does not fit)"
        )
    return result


def _renamed(key: str, value: Tensor) -> dict[str, Tensor]:
    for pattern, name, parts in _SPLIT:
        if match := re.fullmatch(pattern, key):
            _check_shape(key, value, axis=0, multiple=3)
            pieces = value.chunk(3)
            names = (match.expand(name.format(part)) for part in parts)
            return dict(zip(names, pieces, strict=True))
    pattern, name = _MERGED
    if match := re.fullmatch(pattern, key):
        _check_shape(key, value, axis=-1, multiple=4)
        return {match.expand(name): pixel_by_pixel(value)}
    for pattern, name in _RENAMED:
        if match := re.fullmatch(pattern, key):
            return {match.expand(name): value}
    return {}


def _check_shape(key: str, value: Tensor, *, axis: int, multiple: int) -> None:
    if not value.ndim or not value.shape[axis] or value.shape[axis] % multiple:
        raise UsageError(
            f"the weights {key!r} have the shape {tuple(value.shape)}: expected a multiple of "
            f"{multiple} along the {'first' if axis == 0 else 'last'} axis"
        )


def pixel_by_pixel(weight: Float[Tensor, "... four_c"]) -> Float[Tensor, "... four_c"]:
    """Reorder a patch merging's inputs from (channel, row, column) to (column, row, channel)."""
    return rearrange(
        weight, "... (c row column) -> ... (column row c)", row=2, column=2
    ).contiguous()
