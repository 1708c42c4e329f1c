"""Generation for understanding: the encoder learns captions that the frozen decoder can redraw.

GRPO over tokens (arXiv 2509.09666, stage 2). Where we leave the paper: the loss is normalised by
the step's number of tokens (DAPO) or by a constant (Dr.GRPO), never per sequence, which favours
length.
"""

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor

from uae.models.batches import parts_of
from uae.models.drawing import redraw
from uae.models.vlm.encoder import Captions
from uae.models.vlm.family import Prompts
from uae.recipe.encoder_rl import EncoderRLConfig
from uae.rl.advantage import Advantages, group_advantages
from uae.rl.objective import Diagnostics, ratio_metrics, token_denominator, token_loss
from uae.train.learner import check_finite
from uae.train.rollout import original_pixels, redraw_noise, write_captions
from uae.train.session import Session
from uae.train.step_metrics import caption_metrics, reward_metrics, sampling_metrics


def train(session: Session, config: EncoderRLConfig, num_steps: int) -> None:
    """Run a turn of encoder RL: caption, redraw, score, compare, update."""
    n, m = config.captioning.num_captions, config.num_redraws
    for _ in session.steps("encoder_rl", num_steps):
        samples = session.samples(config.num_images)
        with session.timed("caption", "encoder"):
            prompts, captions = write_captions(session, samples, config.captioning)
        with session.timed("redraw", *session.model.drawing):
            noise = redraw_noise(session, samples, n, m)
            redraws = redraw(
                session.model, captions.texts, noise, config.sampling, config.micro_redraws
            )
        with session.timed("score", "rewards"):
            scores = session.rewarder(original_pixels(samples), redraws, captions.texts)
        rewards = reduce(scores, "(n m) -> n", "mean", m=m)
        advantages = compare(rewards, captions, config)
        session.say_if_idle("encoder", advantages, int(captions.truncated.sum()))
        with session.timed("update", "encoder"):
            old = scored_again(session, prompts, captions, config)
            measured = improve(session, prompts, captions, old, advantages, config)
        session.log(
            reward_metrics(rewards, advantages)
            | caption_metrics(captions)
            | measured
            | sampling_metrics(captions, old, config)
        )


def compare(
    rewards: Float[Tensor, " n"], captions: Captions, config: EncoderRLConfig
) -> Advantages:
    """Compare the captions of each image; a truncated one is out."""
    return group_advantages(
        rewards, captions.group_id, ~captions.truncated.cpu(), scale=config.advantage_scale
    )


def scored_again(
    session: Session, prompts: Prompts, captions: Captions, config: EncoderRLConfig
) -> Float[Tensor, "n t"]:
    """Return the captions' log-probabilities before the update, in the update's batches."""
    parts = parts_of(len(prompts), config.micro_images)
    with torch.set_grad_enabled(session.model.encoder.is_compiled):  # by the update's own graph
        scored = [score(session, prompts, captions, part, config).detach() for part in parts]
    return torch.cat(scored)


def improve(
    session: Session,
    prompts: Prompts,
    captions: Captions,
    old: Float[Tensor, "n t"],
    advantages: Advantages,
    config: EncoderRLConfig,
) -> dict[str, float]:
    """Update the encoder on one rollout, `num_updates` times; return what the last update did."""
    n = config.captioning.num_captions
    mask = captions.mask & advantages.kept[:, None].to(captions.mask.device)
    denominator = token_denominator(mask, config.normalization, config.captioning.max_new_tokens)
    for update in range(config.num_updates):
        parts_seen: list[Diagnostics] = []
        for part in parts_of(len(prompts), config.micro_images):
            rows = slice(part.start * n, part.stop * n)
            reference = None
            if config.kl_beta:
                with session.model.encoder_reference():
                    reference = score(session, prompts, captions, part, config)
            new = score(session, prompts, captions, part, config)
            loss, diagnostics = token_loss(
                new,
                old[rows],
                advantages.values[rows].to(new.device),
                mask[rows],
                denominator,
                clip_low=config.clip_low,
                clip_high=config.clip_high,
                ref_log_probs=reference,
                beta=config.kl_beta,
            )
            check_finite(loss, f"encoder loss of step {session.step}", "encoder_rl.optimizer.lr")
            loss.backward()
            parts_seen.append(diagnostics)
        measured = ratio_metrics(
            "encoder",
            parts_seen,
            clip=min(config.clip_low, config.clip_high),
            rounding=None if update else session.rounding,
        )
        measured |= session.learners["encoder"].step().metrics()
    return measured


def score(
    session: Session, prompts: Prompts, captions: Captions, part: slice, config: EncoderRLConfig
) -> Float[Tensor, "n t"]:
    """Return the log-probabilities of the captions of the images in `part`."""
    encoder, n = session.model.encoder, config.captioning.num_captions
    rows = slice(part.start * n, part.stop * n)
    return encoder.log_probs(
        prompts[part],
        captions.token_ids[rows],
        captions.mask[rows],
        config.captioning.temperature,
    )
