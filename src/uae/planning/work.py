"""The work of a step in pieces, each done once by the loops' own functions, and counted.

All images, captions and redraws of a step are alike here: images are squares, captions as long as
they may be. So a micro-batch is done once and counted as often as the step has it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from uae.data.sources import Sample
from uae.models.conditions import Conditions
from uae.models.unified import UnifiedAutoEncoder
from uae.models.vlm.encoder import Captions
from uae.models.vlm.family import Prompts
from uae.models.vlm.sampling import uniforms
from uae.planning.tally import Count, Tally
from uae.recipe.decoder_rl import DecoderRLConfig
from uae.recipe.encoder_rl import EncoderRLConfig
from uae.recipe.sampling import CaptioningConfig, SamplingConfig
from uae.recipe.supervised import ColdStartConfig, PretrainConfig
from uae.rl.advantage import Advantages
from uae.rl.decoder.objective import Start
from uae.rl.decoder.table import objective_of
from uae.train import cold_start, decoder_rl, encoder_rl, pretrain
from uae.train.rollout import original_pixels, redraw_noise, size_of
from uae.train.session import Session

WORDS = "a large red circle beside two small green squares and a blue star, "
"""What captions say, over and over."""
_NUM_TOKENS_TRIED = 3  # the pass over the prompt, and two tokens that tell what one more takes


@dataclass(slots=True)
class Phase:
    """What a phase of a step takes.

    Attributes:
        name: Of the phase.
        parts: Those at work in it, as in `Session.timed`.
        flop: Operations of the whole step by precision.
        moved: Bytes that they read and write.
        peak: Most bytes at once beside the weights.
        cache: Of them keys and values of captions that are sampled.
    """

    name: str
    parts: tuple[str, ...]
    flop: Counter[torch.dtype] = field(default_factory=Counter)
    moved: float = 0.0
    peak: int = 0
    cache: int = 0

    def add(self, count: Count, times: float = 1.0) -> None:
        """Add work that the step does so many times."""
        for dtype, flop in count.flop.items():
            self.flop[dtype] += round(flop * times)
        self.moved += count.moved * times
        self.peak = max(self.peak, count.peak)


class Work:
    """A model in training, and the phases of the step that is worked through with it."""

    def __init__(self, session: Session, tally: Tally) -> None:
        self.session = session
        self.model: UnifiedAutoEncoder = session.model
        self.tally = tally
        self.phases: dict[str, Phase] = {}
        self.states = 0
        """Bytes of the optimizers' states."""
        self._held: list[Tensor] = []
        self._updates: dict[str, Count] = {}
        for side, learner in session.learners.items():
            self._clear(side)
            with tally.counting() as count:
                learner.step()
            self._updates[side] = count
        self.states = tally.now

    def begin(self) -> None:
        """Begin the step of another loop: forget the phases, and let go what the last one kept."""
        self.phases = {}
        self._held.clear()

    @contextmanager
    def phase(self, name: str, *parts: str, times: float = 1.0) -> Iterator[Count]:
        """Within this context, count for a phase; that counts so many times."""
        phase = self.phases.setdefault(name, Phase(name, parts))
        with self.tally.counting() as count:
            yield count
        phase.add(count, times)

    def hold(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return a tensor that lies there from now on, for what a step keeps."""
        with self.tally.counting():
            self._held.append(torch.empty(shape, dtype=dtype, device="meta"))
        return self._held[-1]

    def hold_redraws(self, num: int) -> Tensor:
        """Return the redraws of a step, which stay until the next has drawn its own."""
        return self.hold(num, 3, *size_of(self.samples(1)))

    def _clear(self, side: str) -> None:
        """Make gradients, as those of the micro-batches before."""
        with self.tally.counting():
            for parameter in self.session.learners[side].parameters.values():
                parameter.grad = torch.empty_like(parameter)

    def samples(self, num: int) -> list[Sample]:
        """Return as many images."""
        return [self.session.source.sample(i, 0) for i in range(num)]

    def text(self, num_tokens: int) -> str:
        """Return a caption that is read as so many tokens."""
        return text_of(self.model, num_tokens)

    # -- what steps do -------------------------------------------------------------------------

    def caption(self, num_images: int, config: CaptioningConfig) -> Prompts:
        """Look at images and write captions of full length, as `write_captions` does."""
        encoder, n = self.model.encoder, config.num_captions
        with self.phase("caption", "encoder") as seen:
            images = [sample.image for sample in self.samples(num_images)]
            prompts = encoder.family.see(encoder.prompts(images))
        length = config.max_new_tokens
        draws = uniforms([torch.Generator()] * (num_images * n), length)
        options = {"num_captions": n, "temperature": config.temperature}
        tokens = encoder.sample_tokens(prompts, draws, **options, max_new_tokens=length)
        counts = list[Count]()
        for _ in range(min(_NUM_TOKENS_TRIED, length)):
            with self.phase("caption", "encoder") as count:
                next(tokens)
            counts.append(count)
        if length > _NUM_TOKENS_TRIED:
            self._go_on(counts, length - _NUM_TOKENS_TRIED, seen.kept)
        return prompts

    def _go_on(self, counts: Sequence[Count], num_more: int, before_all: int) -> None:
        """Add the tokens that follow: each costs more than the one before by the same."""
        *_, before, last = counts
        phase = self.phases["caption"]
        rise = num_more * (num_more + 1) / 2
        for dtype, flop in last.flop.items():
            phase.flop[dtype] += round(num_more * flop + rise * (flop - before.flop[dtype]))
        phase.moved += num_more * last.moved + rise * (last.moved - before.moved)
        phase.peak += num_more * (last.kept - before.kept)
        phase.cache = last.kept - before_all + num_more * (last.kept - before.kept)

    def draw(
        self, num_captions: int, repeats: int, at_once: int, length: int, config: SamplingConfig
    ) -> None:
        """Redraw captions, as `models.drawing.redraw` does."""
        model = self.model
        captions = min(num_captions, max(1, at_once // repeats))
        rows = min(at_once, captions * repeats)
        conditions, negative = self.read(captions, num_captions, length, rows, config)
        one = replace(config, num_steps=1)
        num_redraws = num_captions * repeats
        times = num_redraws / rows
        with self.phase("draw", *model.drawing, times=times * config.num_steps):
            noise = redraw_noise(self.session, self.samples(1), 1, rows).to("meta")
            with torch.no_grad():
                latents = model.decoder.sample(conditions, noise, one, negative)
        with self.phase("decode", *model.drawing, times=times), torch.no_grad():
            model.decoder.to_pixels(latents)

    def read(
        self, captions: int, num_captions: int, length: int, rows: int, config: SamplingConfig
    ) -> tuple[Conditions, Conditions | None]:
        """Read captions for the decoder, so many at once, and with guidance the negative one."""
        model, text = self.model, self.text(length)
        times = num_captions / captions
        with self.phase("read", *model.drawing, times=times), torch.no_grad():
            conditions = model.condition([text] * captions)
            conditions = conditions.repeat_interleave(-(-rows // captions))[:rows]
        if config.guidance_scale == 1.0:
            return conditions, None
        with self.phase("read", *model.drawing, times=times), torch.no_grad():
            return conditions, model.condition([model.settings.negative_caption] * rows)

    def score(self, num_images: int, redraws: Tensor, length: int) -> None:
        """Compare all redraws of a step with their images."""
        texts = [self.text(length)] * len(redraws)
        with self.phase("score", "rewards"):
            self.session.rewarder(original_pixels(self.samples(num_images)), redraws, texts)

    def update_encoder(self, prompts: Prompts, config: EncoderRLConfig) -> None:
        """Score captions again and learn from them."""
        part = slice(0, config.micro_images)
        captions = self.captions(config)
        small = replace(config, num_images=config.micro_images, num_updates=1)
        advantages = _advantages(len(captions.texts))
        times = config.num_images / config.micro_images
        with self.phase("update encoder", "encoder", times=times):
            old = encoder_rl.scored_again(self.session, prompts[part], captions, small)

        def learn() -> None:
            encoder_rl.improve(self.session, prompts[part], captions, old, advantages, small)

        self._learn("encoder", ("encoder",), learn, times, config.num_updates)

    def captions(self, config: EncoderRLConfig) -> Captions:
        """Return captions of full length for a micro-batch of images."""
        n, length = config.captioning.num_captions, config.captioning.max_new_tokens
        rows = config.micro_images * n
        token_ids = torch.full((rows, length), self.model.encoder.end_id)
        nothing = torch.zeros(rows, length)
        return Captions(
            texts=[""] * rows,
            token_ids=token_ids,
            mask=torch.ones_like(token_ids, dtype=torch.bool),
            log_probs=nothing,
            entropies=nothing,
            truncated=torch.zeros(rows, dtype=torch.bool),
            group_id=torch.arange(config.micro_images).repeat_interleave(n),
            policy_version=0,
        )

    def explore(
        self, num_captions: int, length: int, config: DecoderRLConfig
    ) -> Callable[[], None]:
        """Redraw captions as the objective does; return what learns from it."""
        model, num_redraws = self.model, num_captions * config.num_redraws
        group = num_captions * config.micro_images // config.num_images * config.num_redraws
        rows = min(config.micro_redraws or group, group)
        captions, times = -(-rows // config.num_redraws), num_redraws / rows
        objective, before = objective_of(config), self.tally.now
        conditions, _ = self.read(captions, num_captions, length, rows, SamplingConfig())
        noise = redraw_noise(self.session, self.samples(1), 1, rows).to("meta")
        policy = decoder_rl.policy_of(model, conditions)
        with self.phase("draw", *model.drawing, times=times), torch.no_grad():
            start = Start(
                noise=noise,
                sigmas=model.decoder.sigmas(config.num_sampling_steps, noise.shape[1:]),
                group_id=decoder_rl.group_id_of(range(rows), config),
                rows=range(rows),
                seed=0,
                step=0,
            )
            latents, rollout = objective.draw(policy, start)
        with self.phase("decode", *model.drawing, times=times), torch.no_grad():
            model.decoder.to_pixels(latents)
        del latents, policy, start
        # the micro-batches before are kept until the update
        self.hold(round((times - 1) * (self.tally.now - before)), dtype=torch.uint8)
        batch = decoder_rl.MicroBatch(range(rows), conditions, rollout)
        small = replace(config, num_updates=1)

        def learn() -> None:
            advantages = _advantages(rows)
            decoder_rl.improve(self.session, objective, [batch], advantages, small)

        return lambda: self._learn("decoder", ("decoder",), learn, times, config.num_updates)

    def fit_pairs(self, config: PretrainConfig) -> None:
        """Learn to draw images from captions of full length."""
        session, model = self.session, self.model
        small = replace(config, batch_size=config.micro_batch, condition_dropout=0.0)
        samples = self.samples(config.micro_batch)
        texts = [self.text(model.settings.max_caption_tokens)] * len(samples)
        noising = pretrain.draw_noising(model, small, size_of(samples), torch.Generator())
        teacher = pretrain.Teacher(model, config.distilled_guidance_scale)

        def learn() -> None:
            pretrain.flow_matching(model, samples, texts, noising, teacher).backward()
            session.learners["decoder"].step()

        times = config.batch_size / config.micro_batch
        self._learn("decoder", model.drawing, learn, times)

    def render(self, config: ColdStartConfig) -> None:
        """Caption images, and learn through a short render of the captions."""
        session, model, rows = self.session, self.model, config.micro_batch
        prompts = self.caption(config.batch_size, config.captioning)
        times, length = config.batch_size / rows, config.captioning.max_new_tokens
        with self.phase("read", *model.drawing, times=times), torch.no_grad():
            if config.condition == "text":
                reading = model.conditioner.read([self.text(length)] * rows)
            else:
                token_ids = torch.full((rows, length), model.encoder.end_id)
                mask = torch.ones_like(token_ids, dtype=torch.bool)
                reading = model.conditioner.read_in_sight(prompts[:rows], token_ids, mask)
        samples = self.samples(rows)
        noise = redraw_noise(session, samples, 1, 1).to("meta")

        def learn() -> None:
            texts, originals = [self.text(length)] * rows, original_pixels(samples).to("meta")
            cold_start.render_loss(session, config, reading, noise, originals, texts).backward()
            session.learners["decoder"].step()

        self._learn("decoder", (*model.drawing, "rewards"), learn, times)

    def _learn(
        self,
        side: str,
        parts: Sequence[str],
        learn: Callable[[], None],
        times: float,
        num_updates: int = 1,
    ) -> None:
        """Count the backward pass of a micro-batch, beside all gradients, and an update."""
        self._clear(side)
        name = f"update {side}"
        with self.phase(name, *parts, times=times * num_updates):
            learn()
        for dtype, flop in self._updates[side].flop.items():  # one update, not one a micro-batch
            self.phases[name].flop[dtype] -= round(flop * (times - 1) * num_updates)


def text_of(model: UnifiedAutoEncoder, num_tokens: int) -> str:
    """Return a caption that is read as so many tokens."""
    return model.conditioner.head_of(WORDS * num_tokens, num_tokens)


def _advantages(num: int) -> Advantages:
    kept = torch.ones(num, dtype=torch.bool)
    return Advantages(torch.zeros(num), kept, num, 0, 0, 0)
