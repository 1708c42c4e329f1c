"""Both sides in every step, from one rollout of N captions per image and M redraws per caption.

The encoder compares the N captions of an image by their mean over M redraws; the decoder compares
the M redraws of one caption. The decoder explores, so a caption's redraws differ in noise; the
captions of an image share the noise they start from.
"""

import torch
from einops import reduce

from uae.rl.advantage import group_advantages
from uae.train import decoder_rl, encoder_rl
from uae.train.decoder_rl import DecoderRLConfig
from uae.train.encoder_rl import EncoderRLConfig
from uae.train.rollout import original_pixels, write_captions
from uae.train.session import Session
from uae.train.step_metrics import caption_metrics, policy_metrics, reward_metrics, sampling_gap


def train(
    session: Session, encoder: EncoderRLConfig, decoder: DecoderRLConfig, num_steps: int
) -> None:
    """Run a turn of joint RL: caption, redraw, score, compare both ways, update both."""
    model = session.model
    for step in session.steps("joint", num_steps):
        samples = session.samples(encoder.num_images)
        with session.timed("caption"):
            captions = write_captions(model, samples, encoder.captioning, session.seed, step)
        with session.timed("redraw"):
            conditions, trajectory, redraws = decoder_rl.explore(
                session, samples, captions.texts, decoder, step
            )
        with session.timed("score"):
            rewards = session.rewarder(original_pixels(samples), redraws)
        caption_rewards = reduce(rewards, "(n m) -> n", "mean", m=decoder.num_redraws)
        of_captions = group_advantages(
            caption_rewards,
            captions.group_id,
            ~captions.truncated.cpu(),
            scale=encoder.advantage_scale,
        )
        of_redraws = group_advantages(
            rewards,
            trajectory.group_id,
            torch.ones(len(rewards), dtype=torch.bool),
            scale=decoder.advantage_scale,
            clip=decoder.max_advantage,
        )
        session.say_if_idle("encoder", of_captions, int(captions.truncated.sum()))
        session.say_if_idle("decoder", of_redraws)
        with session.timed("update"):
            drawn, drawn_report = decoder_rl.improve(
                session, conditions, trajectory, of_redraws, decoder
            )
            old = encoder_rl.scored_again(session, samples, captions, encoder)
            told, told_report = encoder_rl.improve(
                session, samples, captions, old, of_captions.values, of_captions.kept, encoder
            )
        session.log(
            reward_metrics(rewards, of_redraws)
            | caption_metrics(captions)
            | {f"encoder/{k}": v for k, v in policy_metrics(told, told_report).items()}
            | {
                "encoder/policy/sampling_gap": sampling_gap(captions, old),
                "encoder/group/excluded_samples": float(of_captions.num_excluded),
            }
            | {f"decoder/{k}": v for k, v in policy_metrics(drawn, drawn_report).items()}
        )
