"""The step of each loop, made of the pieces of `work.py` in the order of the loop."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from PIL import Image

from uae.data.shapes import Bucket
from uae.data.sources import Sample
from uae.planning.work import Work
from uae.recipe.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Blanks:
    """Squares of one color, as many as are wanted; see `ImageSource`."""

    side_px: int
    caption: str | None = None

    def buckets(self, batch_size: int) -> Sequence[Bucket]:
        return [Bucket((self.side_px, self.side_px), tuple(range(batch_size)))]

    def sample(self, index: int, wording_seed: int) -> Sample:
        image = Image.new("RGB", (self.side_px, self.side_px))
        return Sample(str(index), image, image, self.caption)


def encoder_rl(work: Work, recipe: Recipe) -> None:
    """Do a step of `train.encoder_rl`."""
    config, captioning = recipe.encoder_rl, recipe.encoder_rl.captioning
    num_captions = config.num_images * captioning.num_captions
    redraws = work.hold_redraws(num_captions * config.num_redraws)
    prompts = work.caption(config.num_images, captioning)
    work.draw(
        num_captions,
        config.num_redraws,
        config.micro_redraws,
        captioning.max_new_tokens,
        config.sampling,
    )
    work.score(config.num_images, redraws, captioning.max_new_tokens)
    work.update_encoder(prompts, config)


def decoder_rl(work: Work, recipe: Recipe) -> None:
    """Do a step of `train.decoder_rl`."""
    config, captioning = recipe.decoder_rl, recipe.decoder_rl.captioning
    num_captions = config.num_images * captioning.num_captions
    redraws = work.hold_redraws(num_captions * config.num_redraws)
    work.caption(config.num_images, captioning)
    update = work.explore(num_captions, captioning.max_new_tokens, config)
    work.score(config.num_images, redraws, captioning.max_new_tokens)
    update()


def joint(work: Work, recipe: Recipe) -> None:
    """Do a step of `train.joint`."""
    encoder = recipe.encoder_rl
    decoder = replace(recipe.decoder_rl, num_images=encoder.num_images)
    captioning = encoder.captioning
    num_captions = encoder.num_images * captioning.num_captions
    redraws = work.hold_redraws(num_captions * decoder.num_redraws)
    prompts = work.caption(encoder.num_images, captioning)
    update = work.explore(num_captions, captioning.max_new_tokens, decoder)
    work.score(encoder.num_images, redraws, captioning.max_new_tokens)
    update()
    work.update_encoder(prompts, encoder)


STEPS: Mapping[str, Callable[[Work, Recipe], None]] = {
    "pretrain": lambda work, recipe: work.fit_pairs(recipe.pretrain),
    "cold_start": lambda work, recipe: work.render(recipe.cold_start),
    "encoder_rl": encoder_rl,
    "decoder_rl": decoder_rl,
    "joint": joint,
}
"""What does a step of each loop, by the loop's name."""
