"""Cold start (optional): similarity of image and redraw, back-propagated through a short render.

    L = mean(1 - cos(f(x'), f(x)))        (PKU-YuanGroup/UAE `clip_score.py`; arXiv 2509.09666v1)

Conditioner and decoder learn; the encoder is frozen. By default the condition is read from the
caption's text alone, so that text stays the bottleneck. The paper's code takes the hidden states of
caption tokens that attended to the image: `condition: image`, which a report must name.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from uae.flow.noise import stream
from uae.models.batches import parts_of
from uae.models.conditions import Conditions
from uae.models.unified import UnifiedAutoEncoder
from uae.models.vlm.encoder import Captions
from uae.models.vlm.family import Prompts
from uae.recipe.supervised import ColdStartConfig
from uae.train.learner import check_finite
from uae.train.rollout import original_pixels, size_of, write_captions
from uae.train.session import Session
from uae.train.step_metrics import caption_metrics


def train(session: Session, config: ColdStartConfig) -> None:
    """Run the cold start: caption, render with gradients, compare, update."""
    model, learner = session.model, session.learners["decoder"]
    for step in session.steps("cold_start", config.num_steps):
        samples = session.samples(config.batch_size)
        with session.timed("caption", "encoder", *model.drawing):
            prompts, captions = write_captions(session, samples, config.captioning)
            reading = read(model, prompts, captions, config)
        with session.timed("update", *model.drawing, "rewards"):
            noise = model.decoder.noise(
                [stream(session.seed, "cold_start", step, sample.name) for sample in samples],
                size_of(samples),
            )
            originals = original_pixels(samples).to(model.decoder.device)
            total = 0.0
            for part in parts_of(len(samples), config.micro_batch):
                loss = render_loss(
                    session,
                    config,
                    reading[part],
                    noise[part],
                    originals[part],
                    captions.texts[part],
                )
                loss = loss / len(samples)
                check_finite(loss, f"cold-start loss of step {step}", "cold_start.optimizer.lr")
                loss.backward()
                total += loss.item()
            report = learner.step()
        session.log({"loss/semantic": total} | report.metrics() | caption_metrics(captions))


def render_loss(
    session: Session,
    config: ColdStartConfig,
    reading: Conditions,
    noise: Float[Tensor, "n c h w"],
    originals: Float[Tensor, "n 3 y x"],
    texts: Sequence[str],
) -> Float[Tensor, ""]:
    """Render a micro-batch with gradients; return the sum of its losses."""
    model = session.model
    conditions = model.conditioner.finish(reading)
    negative = None
    if config.sampling.guidance_scale != 1.0:
        negative = model.condition([model.settings.negative_caption] * len(conditions))
    latents = model.decoder.sample(conditions, noise, config.sampling, negative)
    return (1 - session.rewarder.mean(originals, model.decoder.to_pixels(latents), texts)).sum()


def read(
    model: UnifiedAutoEncoder, prompts: Prompts, captions: Captions, config: ColdStartConfig
) -> Conditions:
    """Do the frozen part of the condition, of all captions at once."""
    if config.condition == "text":
        return model.conditioner.read(captions.texts)
    return model.conditioner.read_in_sight(prompts, captions.token_ids, captions.mask)
