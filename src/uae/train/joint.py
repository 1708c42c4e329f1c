"""Both sides in every step, from one rollout of N captions per image and M redraws per caption.

The encoder compares the N captions of an image by their mean over M redraws; the decoder compares
the M redraws of one caption. The decoder explores, so a caption's redraws differ in noise; the
captions of an image share the noise they start from.
"""

from einops import reduce

from uae.recipe.decoder_rl import DecoderRLConfig
from uae.recipe.encoder_rl import EncoderRLConfig
from uae.rl.decoder.table import objective_of
from uae.train import decoder_rl, encoder_rl
from uae.train.rollout import original_pixels, write_captions
from uae.train.session import Session
from uae.train.step_metrics import caption_metrics, reward_metrics, sampling_metrics


def train(
    session: Session, encoder: EncoderRLConfig, decoder: DecoderRLConfig, num_steps: int
) -> None:
    """Run a turn of joint RL: caption, redraw, score, compare both ways, update both."""
    objective = objective_of(decoder)
    for _ in session.steps("joint", num_steps):
        samples = session.samples(encoder.num_images)
        with session.timed("caption", "encoder"):
            prompts, captions = write_captions(session, samples, encoder.captioning)
        with session.timed("redraw", *session.model.drawing):
            batches, redraws = decoder_rl.explore(
                session, objective, samples, captions.texts, decoder
            )
        with session.timed("score", "rewards"):
            rewards = session.rewarder(original_pixels(samples), redraws, captions.texts)
        of_each = reduce(rewards, "(n m) -> n", "mean", m=decoder.num_redraws)
        of_captions = encoder_rl.compare(of_each, captions, encoder)
        of_redraws = decoder_rl.compare(rewards, decoder)
        session.say_if_idle("encoder", of_captions, int(captions.truncated.sum()))
        session.say_if_idle("decoder", of_redraws)
        with session.timed("update", "decoder"):
            decoder_step = decoder_rl.improve(session, objective, batches, of_redraws, decoder)
        with session.timed("update", "encoder"):
            old = encoder_rl.scored_again(session, prompts, captions, encoder)
            encoder_step = encoder_rl.improve(session, prompts, captions, old, of_captions, encoder)
        encoder_step |= sampling_metrics(captions, old, encoder) | {
            "group/excluded_samples": float(of_captions.num_excluded),
        }
        session.log(
            reward_metrics(rewards, of_redraws)
            | caption_metrics(captions)
            | {f"encoder/{name}": value for name, value in encoder_step.items()}
            | {f"decoder/{name}": value for name, value in decoder_step.items()}
        )
