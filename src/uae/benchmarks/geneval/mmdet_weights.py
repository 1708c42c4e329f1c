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
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from uae.core.errors import UsageError

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
_NAMES = """
backbone.                       model.pixel_level_module.encoder.
  patch_embed.projection.*        embeddings.patch_embeddings.projection.*
  patch_embed.norm.*              embeddings.norm.*
  stages.#.downsample.*           encoder.layers.#.downsample.*
  norm0.*                         hidden_states_norms.stage1.*
  norm1.*                         hidden_states_norms.stage2.*
  norm2.*                         hidden_states_norms.stage3.*
  norm3.*                         hidden_states_norms.stage4.*
backbone.stages.#.blocks.#.     model.pixel_level_module.encoder.encoder.layers.#.blocks.#.
  norm1.*                         layernorm_before.*
  norm2.*                         layernorm_after.*
  attn.w_msa.relative_position_bias_table  attention.self.relative_position_bias_table
  attn.w_msa.qkv.*                attention.self.{query,key,value}.*
  attn.w_msa.proj.*               attention.output.dense.*
  ffn.layers.0.0.*                intermediate.dense.*
  ffn.layers.1.*                  output.dense.*
panoptic_head.pixel_decoder.    model.pixel_level_module.decoder.
  input_convs.#.conv.*            input_projections.#.0.*
  input_convs.#.gn.*              input_projections.#.1.*
  lateral_convs.0.conv.*          adapter_1.0.*
  lateral_convs.0.gn.*            adapter_1.1.*
  output_convs.0.conv.*           layer_1.0.*
  output_convs.0.gn.*             layer_1.1.*
  mask_feature.*                  mask_projection.*
  level_encoding.weight           level_embed
panoptic_head.pixel_decoder.encoder.layers.#.  model.pixel_level_module.decoder.encoder.layers.#.
  attentions.0.*                  self_attn.*
  norms.0.*                       self_attn_layer_norm.*
  norms.1.*                       final_layer_norm.*
  ffns.0.layers.0.0.*             fc1.*
  ffns.0.layers.1.*               fc2.*
panoptic_head.transformer_decoder.layers.#.  model.transformer_module.decoder.layers.#.
  attentions.0.attn.*             cross_attn.*
  attentions.1.attn.in_proj_*     self_attn.{q_proj,k_proj,v_proj}.*
  attentions.1.attn.out_proj.*    self_attn.out_proj.*
  norms.0.*                       cross_attn_layer_norm.*
  norms.1.*                       self_attn_layer_norm.*
  norms.2.*                       final_layer_norm.*
  ffns.0.layers.0.0.*             fc1.*
  ffns.0.layers.1.*               fc2.*
panoptic_head.                  model.transformer_module.
  transformer_decoder.post_norm.*  decoder.layernorm.*
  query_embed.weight              queries_embedder.weight
  query_feat.weight               queries_features.weight
  level_embed.weight              level_embed.weight
  mask_embed.0.*                  decoder.mask_predictor.mask_embedder.0.0.*
  mask_embed.2.*                  decoder.mask_predictor.mask_embedder.1.0.*
  mask_embed.4.*                  decoder.mask_predictor.mask_embedder.2.0.*
panoptic_head.cls_embed.        class_predictor.
  *                               *
"""
"""mmdet's names and transformers': `#` is a number, `*` any end; of {a,b,c} each has a third of the
tensor, along its first axis."""


def _rules() -> Iterator[tuple[re.Pattern[str], str]]:
    """Read `_NAMES`: patterns of mmdet's names, and what transformers calls them."""
    there = here = ""
    for line in _NAMES.strip().splitlines():
        old, new = line.split()
        if not line.startswith(" "):
            there, here = old, new
            continue
        pattern = re.escape(there + old).replace(r"\#", r"(\d+)").replace(r"\*", "(.*)")
        yield re.compile(pattern), here + new


_RULES = tuple(_rules())


def read_mmdet(path: Path) -> dict[str, Tensor]:
    """Read mmdet's `.pth` file, tensors and plain values alone; raises `UsageError`."""
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
        UsageError: A name is not that model's, as those of mmdet 3.x, or a shape does not fit.
    """
    parts = {x: _renamed(x, value) for x, value in state.items() if not _UNUSED.fullmatch(x)}
    unknown = [key for key, renamed in parts.items() if not renamed]
    if unknown:
        raise UsageError(
            f"{len(unknown)} weights are not of mmdet 2.x's Mask2Former with Swin-S, such as "
            f"{unknown[0]!r} (a checkpoint of mmdet 3.x does not fit)"
        )
    return {name: value for renamed in parts.values() for name, value in renamed.items()}


def _renamed(key: str, value: Tensor) -> dict[str, Tensor]:
    matches = ((pattern.fullmatch(key), name) for pattern, name in _RULES)
    match, name = next((x for x in matches if x[0]), (None, ""))
    if match is None:
        return {}
    varying = iter(match.groups())
    name = re.sub("[#*]", lambda _: next(varying), name)
    if ".downsample." in name:
        _check_shape(key, value, axis=-1, multiple=4)
        return {name: pixel_by_pixel(value)}
    before, brace, rest = name.partition("{")
    if not brace:
        return {name: value}
    _check_shape(key, value, axis=0, multiple=3)
    thirds, _, after = rest.partition("}")
    names = (f"{before}{third}{after}" for third in thirds.split(","))
    return dict(zip(names, value.chunk(3), strict=True))


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
