"""A plan counts the operations of a step as torch counts them in a real one."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop, sdpa_flop

from uae.models.vlm.encoder import Encoder
from uae.planning.needs import needs_of
from uae.planning.steps import Blanks
from uae.planning.work import text_of
from uae.recipe.recipe import Recipe
from uae.rewards.reward import Rewarder
from uae.runs.run import Run
from uae.train import cold_start, decoder_rl, encoder_rl, joint, pretrain
from uae.train.run import load_backbones, load_model, rl_learners, supervised_learner
from uae.train.session import Session

aten = torch.ops.aten
ATTENTION = {
    aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop.__wrapped__,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_backward_flop.__wrapped__,
}
"""For which torch has no formula, though it is what CPUs compute."""

SMALL = {
    "num_images": 4,
    "micro_images": 2,
    "num_steps": 1,
    "captioning": {"num_captions": 3, "max_new_tokens": 9},
}
ENCODER = SMALL | {"num_redraws": 2, "micro_redraws": 6, "sampling": {"num_steps": 3}}
DECODER = SMALL | {"num_redraws": 2, "micro_redraws": 3, "num_sampling_steps": 4}
GUIDED = {"num_steps": 2, "guidance_scale": 3.0}
SUPERVISED = {"num_steps": 1, "batch_size": 4, "micro_batch": 2}
RECIPES = {
    "encoder_rl": {"schedule": "encoder", "encoder_rl": ENCODER},
    "encoder_rl guided": {"schedule": "encoder", "encoder_rl": ENCODER | {"sampling": GUIDED}},
    "encoder_rl checkpointed": {
        "schedule": "encoder",
        "encoder_rl": ENCODER | {"num_updates": 2},
        "placement": {"frozen": "bfloat16", "checkpointing": True, "vae_batch": 2},
    },
    "decoder_rl": {"schedule": "decoder", "decoder_rl": DECODER},
    "decoder_rl awm": {
        "schedule": "decoder",
        "decoder_rl": DECODER | {"objective": {"name": "awm"}, "micro_redraws": 0},
        "placement": {"frozen": "bfloat16", "checkpointing": True},
    },
    "decoder_rl full": {
        "schedule": "decoder",
        "decoder_rl": DECODER | {"objective": {"name": "nft"}, "optimizer": {"lr": 1e-4}},
        "tune_decoder": {"mode": "full"},
    },
    "joint": {"schedule": "joint", "encoder_rl": ENCODER, "decoder_rl": DECODER},
    "pretrain": {"pretrain": SUPERVISED | {"condition_dropout": 0.0}},
    "cold_start": {
        "cold_start": SUPERVISED | {"captioning": SMALL["captioning"] | {"num_captions": 1}}
    },
}


def real_flop(loop: str, recipe: Recipe, folder, monkeypatch) -> int:
    """Run a step of a loop with real numbers, all of its captions of full length."""
    model = load_model(recipe.model, recipe)
    rewards = load_backbones(model, recipe, "cpu")
    config = getattr(recipe, "encoder_rl" if loop == "joint" else loop)
    is_rl = loop in ("encoder_rl", "decoder_rl", "joint")
    if is_rl:
        learners = rl_learners(model, recipe)
    else:
        learners = {"decoder": supervised_learner(model, recipe, loop, config)}
    model.encoder.family.end_ids = torch.tensor([], dtype=torch.long)
    rewarder = Rewarder({name: (rewards[name], w) for name, w in recipe.reward.items()})
    longest = model.settings.max_caption_tokens
    text = text_of(model, longest if loop == "pretrain" else config.captioning.max_new_tokens)
    source = Blanks(model.decoder.size_px, text)
    with Run.open(folder / "run", {}) as run:
        session = Session(loop, model, source, rewarder, learners, run, 0, 10, 1.0)
        monkeypatch.setattr(Encoder, "decode", lambda self, token_ids: [text] * len(token_ids))
        with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
            if loop == "joint":
                joint.train(session, recipe.encoder_rl, recipe.decoder_rl, 1)
            elif loop == "pretrain":
                pretrain.train(session, config, None)
            elif loop == "cold_start":
                cold_start.train(session, config)
            else:
                {"encoder_rl": encoder_rl, "decoder_rl": decoder_rl}[loop].train(session, config, 1)
    return counter.get_total_flops()


SLOW = {"decoder_rl awm", "decoder_rl full", "joint"}


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=pytest.mark.slow if x in SLOW else ()) for x in RECIPES]
)
def test_operations_are_those_of_a_real_step(name, random_model_folder, tmp_path, monkeypatch):
    loop = name.split()[0]
    recipe = Recipe(model=str(random_model_folder), **RECIPES[name])
    [needs] = needs_of(recipe)
    assert needs.name == loop
    planned = {phase.name: phase.flop.total() for phase in needs.phases}
    assert sum(planned.values()) == real_flop(loop, recipe, tmp_path, monkeypatch), planned
