"""Long-context pre-training: the decoder learns to draw from long captions.

The encoder is frozen; projector and decoder learn from image + caption by the flow-matching loss
    L = mean_b mean_dims w(sigma) || v_theta(x_sigma, sigma, c) - (eps - x_0) ||^2
(PKU-YuanGroup/UAE `modeling_longcontext.py`), sigma logit-normal, the condition dropped at random.

Guidance distillation (not in the paper) is the same loss with another target: the guided velocity
of the model the run began with (arXiv 2210.03142, section 3.1, at one scale). Redraws of RL then
need one forward pass a step and not two.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from uae.data.shapes import Size
from uae.data.sources import Sample
from uae.flow.noise import stream
from uae.flow.path import flow_matching_loss, logit_normal_sigma, noised, velocity_target
from uae.models.batches import parts_by_length
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.supervised import PretrainConfig
from uae.train.learner import check_finite
from uae.train.rollout import original_pixels, size_of
from uae.train.session import Session


@dataclass(frozen=True, slots=True)
class Noising:
    """What is drawn for a batch, before it is split: noise levels, noise, dropped conditions."""

    sigma: Float[Tensor, " b"]
    eps: Float[Tensor, "b c h w"]
    dropped: Bool[Tensor, " b"]

    def rows(self, index: list[int]) -> "Noising":
        return Noising(self.sigma[index], self.eps[index], self.dropped[index])


def train(session: Session, config: PretrainConfig, untrained: UnifiedAutoEncoder | None) -> None:
    """Run stage 1: noise the image, predict the velocity from the caption, update.

    Where guidance is distilled, `untrained` is the teacher: the model before the stage.
    """
    model, learner = session.model, session.learners["decoder"]
    teacher = Teacher(untrained, config.distilled_guidance_scale)
    for step in session.steps("pretrain", config.num_steps):
        with session.timed("data", "encoder"):
            samples = session.samples(config.batch_size)
            captions = training_captions(model, samples, session.seed, step)
            generator = stream(session.seed, "pretrain", step)
            noising = draw_noising(model, config, size_of(samples), generator)
        with session.timed("update", *model.drawing):
            total = 0.0
            for part in parts_by_length(captions, config.micro_batch):
                loss = flow_matching(
                    model,
                    [samples[i] for i in part],
                    [captions[i] for i in part],
                    noising.rows(part),
                    teacher,
                )
                loss = loss * len(part) / len(samples)
                check_finite(loss, f"flow-matching loss of step {step}", "pretrain.optimizer.lr")
                loss.backward()
                total += loss.item()
            report = learner.step()
        session.log({"loss/flow_matching": total} | report.metrics())


def draw_noising(
    model: UnifiedAutoEncoder, config: PretrainConfig, size: Size, generator: torch.Generator
) -> Noising:
    """Draw a batch's sigma (logit-normal), noise and dropped conditions."""
    b = config.batch_size
    return Noising(
        logit_normal_sigma(b, config.sigma_mean, config.sigma_std, generator),
        torch.randn(b, *model.decoder.latent_shape(size), generator=generator),
        torch.rand(b, generator=generator) < config.condition_dropout,
    )


def training_captions(
    model: UnifiedAutoEncoder, samples: Sequence[Sample], seed: int, step: int
) -> list[str]:
    """Return the captions the source knows; the frozen encoder writes the others."""
    unknown = [i for i, sample in enumerate(samples) if sample.caption is None]
    own_seed = stream(seed, "own captions", step).initial_seed()
    written = iter(
        model.caption([samples[i].image for i in unknown], seed=own_seed) if unknown else []
    )
    return [next(written) if s.caption is None else s.caption for s in samples]


@dataclass(frozen=True, slots=True)
class Teacher:
    """Says which velocity is right: that of the path, or a model's own with guidance."""

    model: UnifiedAutoEncoder | None
    guidance_scale: float

    def target(
        self,
        x_0: Float[Tensor, "b c h w"],
        eps: Float[Tensor, "b c h w"],
        sigma: Float[Tensor, " b"],
        texts: Sequence[str],
    ) -> Float[Tensor, "b c h w"]:
        """Return the target; where a text is the negative caption, guidance changes nothing."""
        if self.guidance_scale == 1.0:
            return velocity_target(x_0, eps)
        model = self.model
        assert model is not None, "guidance is distilled from a model"
        negative = model.condition([model.settings.negative_caption] * len(texts))
        return model.decoder.guided_velocity(
            noised(x_0, eps, sigma), sigma, model.condition(texts), negative, self.guidance_scale
        )


def flow_matching(
    model: UnifiedAutoEncoder,
    samples: Sequence[Sample],
    captions: Sequence[str],
    noising: Noising,
    teacher: Teacher,
) -> Float[Tensor, ""]:
    """Return the mean loss of a micro-batch; gradients reach conditioner and decoder."""
    texts = [
        model.settings.negative_caption if drop else caption
        for drop, caption in zip(noising.dropped.tolist(), captions, strict=True)
    ]
    device = model.decoder.device
    sigma, eps = noising.sigma.to(device), noising.eps.to(device)
    with torch.no_grad():
        x_0 = model.decoder.to_latents(original_pixels(samples).to(device))
        target = teacher.target(x_0, eps, sigma, texts)
    velocity = model.decoder.velocity(noised(x_0, eps, sigma), sigma, model.condition(texts))
    return flow_matching_loss(velocity, target, torch.ones_like(sigma)).mean()
