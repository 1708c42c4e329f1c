# transformers types sub-configs as dicts and token ids as unions
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""What the encoder of uae-tiny is taught: to see, to read, and to talk about what it sees."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from transformers import BatchEncoding

from bases.layout import LayoutProbe, MentionHead, layout_loss, layout_of, layout_told
from uae.benchmarks.mmt_bench.prompt import compact_text
from uae.data.questions import LETTERS, Question
from uae.models.vlm.causal import READ_ROLES
from uae.models.vlm.encoder import Encoder
from uae.models.vlm.family import Prompts
from uae.scenes.graph import Scene, scene_at
from uae.scenes.language import inventory, long_caption, prompt, short_caption, terse_caption
from uae.scenes.questions import questions_for
from uae.scenes.reading import read_caption
from uae.scenes.render import render_image

LIST_PROMPT = "List the objects row by row."


@dataclass(frozen=True, kw_only=True)
class TalkingConfig:
    """What a step of talking holds."""

    num_lists: int
    """Images whose objects are listed in order."""
    num_images: int
    """Images with captions, and as many with questions."""
    num_choices: int
    """Multiple-choice questions of an image; one more is answered in words."""
    captions_per_image: int = 2


def completions(encoder: Encoder, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Tokenise answers with their end token, right padded: ids and mask, both (n, t)."""
    encoded = encoder.tokenizer(
        [f"{text}<|im_end|>" for text in texts],
        padding=True,
        padding_side="right",
        return_tensors="pt",
        add_special_tokens=False,
    )
    return encoded["input_ids"], encoded["attention_mask"].bool()


def mean_loss(encoder: Encoder, prompts: Prompts, texts: Sequence[str]) -> Tensor:
    """Return the mean loss of a token of the completions."""
    token_ids, mask = completions(encoder, texts)
    log_probs = encoder.log_probs(prompts, token_ids, mask)
    return -log_probs.sum() / mask.sum()


def told(scene: Scene, rng: np.random.Generator) -> str:
    """Tell a scene in one of the four ways in which the decoder will be told."""
    tellers = (long_caption, terse_caption, short_caption, prompt)
    return tellers[rng.choice(4, p=[0.5, 0.25, 0.15, 0.1])](scene, rng)


def in_reading_format(
    encoder: Encoder, texts: Sequence[str]
) -> tuple[Tensor, Tensor, list[list[int]]]:
    """Tokenise texts as the decoder is told: ids and mask (n, s), and where each token ends.

    Ends are characters of the text; 0 for tokens of the format before it.
    """
    chats = [
        encoder.tokenizer.apply_chat_template(
            [{"role": READ_ROLES[0], "content": t}], tokenize=False, add_generation_prompt=True
        )
        for t in texts
    ]
    encoded: BatchEncoding = encoder.tokenizer(
        chats,
        padding=True,
        padding_side="right",
        return_tensors="pt",
        add_special_tokens=False,
        return_offsets_mapping=True,
    )
    starts = torch.tensor([chat.index(t) for chat, t in zip(chats, texts, strict=True)])
    ends = (encoded["offset_mapping"][..., 1] - starts[:, None]).clamp(min=0).tolist()
    return encoded["input_ids"], encoded["attention_mask"].bool(), ends


class Reader(nn.Module):
    """What the language model's states are held to when it reads."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.probe = LayoutProbe(hidden_size)
        self.mention = MentionHead(hidden_size)

    def loss(self, encoder: Encoder, texts: Sequence[str]) -> tuple[Tensor, dict[str, float]]:
        """Next-token loss in the reading format, and what can be read off the states."""
        token_ids, mask, ends = in_reading_format(encoder, texts)
        states = encoder.model.model.language_model(token_ids, use_cache=False).last_hidden_state
        log_p = encoder.model.lm_head(states[:, :-1]).log_softmax(-1)
        chosen = log_p.gather(-1, token_ids[:, 1:, None]).squeeze(-1)
        next_token = -(chosen * mask[:, 1:]).sum() / mask[:, 1:].sum()
        mention = self.mention.in_texts(states, ends, texts)
        layout = layout_told([read_caption(t) for t in texts])
        found, right = layout_loss(self.probe(states, mask), layout)
        numbers = {"next": next_token, "mention": mention}
        shown = {k: v.item() for k, v in numbers.items()} | {
            f"read_{k}": v for k, v in right.items()
        }
        return 0.5 * next_token + 0.25 * mention + 0.5 * found, shown


def kept_states(encoder: Encoder, layer: int) -> list[Tensor]:
    """Return the list to which a layer of the language model will add its output at each pass."""
    states: list[Tensor] = []

    def keep(_layer: nn.Module, _inputs: tuple, output: Tensor) -> None:
        states.append(output)

    encoder.model.model.language_model.layers[layer].register_forward_hook(keep)
    return states


class Looker(nn.Module):
    """Holds the language model's middle to what stands where: positions are only told to it.

    The vision tower's attention knows relative places alone; absolute ones come with M-RoPE.
    """

    def __init__(self, encoder: Encoder, hidden_size: int) -> None:
        super().__init__()
        self.mention = MentionHead(hidden_size)
        self.image_token = encoder.model.config.image_token_id
        num_layers = len(encoder.model.model.language_model.layers)
        self.states = kept_states(encoder, num_layers // 2 - 1)

    def loss(self, prompts: Prompts, scenes: Sequence[Scene]) -> Tensor:
        """Return the loss at the visual tokens of the first pass since `states` was cleared."""
        is_image = prompts.token_ids == self.image_token
        states = self.states[0][is_image]
        return self.mention.in_images(rearrange(states, "(b s) d -> b s d", b=len(scenes)), scenes)


class Chooser(nn.Module):
    """Reads off the end of each option, before the last layer, whether it is the right one.

    A letter says little; this says which comparison to make, and leaves the last layer to copy.
    """

    def __init__(self, encoder: Encoder, hidden_size: int) -> None:
        super().__init__()
        self.head = nn.Linear(hidden_size, 1)
        (self.newline,) = encoder.tokenizer.encode("\n", add_special_tokens=False)
        self.states = kept_states(encoder, -2)

    def loss(self, prompts: Prompts, questions: Mapping[int, Question]) -> tuple[Tensor, float]:
        """Return the loss over the options of questions, and the share chosen rightly.

        Args:
            prompts: What the first pass since `states` was cleared has read.
            questions: Those with options, by their row of `prompts`.
        """
        scores = self.head(self.states[0]).squeeze(-1)
        losses, right = [], []
        for row, question in questions.items():
            # two lines more end after the last option: the user's turn and the assistant's role
            ends = (prompts.token_ids[row] == self.newline).nonzero().flatten()[:-2]
            of_options = scores[row, ends[-len(question.options) :]]
            answer = LETTERS.index(question.answer)
            losses.append(-of_options.log_softmax(-1)[answer])
            right.append(float(of_options.argmax() == answer))
        return torch.stack(losses).mean(), sum(right) / len(right)


class Held:
    """Holds the reading states where they are, so that what a decoder has learned stays true."""

    def __init__(self, encoder: Encoder) -> None:
        self.before = deepcopy(encoder.model.model.language_model).requires_grad_(False).eval()

    def loss(self, encoder: Encoder, texts: Sequence[str]) -> Tensor:
        """Return the squared distance to the states before, over their own mean square."""
        token_ids, mask, _ = in_reading_format(encoder, texts)
        wanted = self.before(token_ids, use_cache=False).last_hidden_state[mask]
        now = encoder.model.model.language_model(token_ids, use_cache=False).last_hidden_state[mask]
        return (now - wanted).square().mean() / wanted.square().mean()


def seeing_loss(
    encoder: Encoder, probe: LayoutProbe, scenes: Sequence[Scene]
) -> tuple[Tensor, dict[str, float]]:
    """What the probe finds in the visual tokens."""
    processed = encoder.family.image_processor(
        images=[render_image(s) for s in scenes], return_tensors="pt"
    )
    states = encoder.model.model.visual(
        processed["pixel_values"], grid_thw=processed["image_grid_thw"]
    ).pooler_output
    loss, right = layout_loss(
        probe(rearrange(states, "(b s) d -> b s d", b=len(scenes))), layout_of(scenes)
    )
    return loss, {f"see_{k}": v for k, v in right.items()}


def scenes_of(seed: int, step: int, count: int) -> list[Scene]:
    """Return the training scenes of a step; every part of the training has its own seed."""
    return [scene_at(step * count + i, "train", seed) for i in range(count)]


class Talker(nn.Module):
    """Teaches the encoder to talk; its heads watch the language model and are thrown away."""

    def __init__(self, encoder: Encoder, hidden_size: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.looker, self.chooser = Looker(encoder, hidden_size), Chooser(encoder, hidden_size)

    def forget(self) -> None:
        """Drop what was kept of the last passes: a copy of the model copies that too."""
        self.looker.states.clear()
        self.chooser.states.clear()

    def losses(
        self, config: TalkingConfig, seed: int, step: int, rng: np.random.Generator
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Losses of whole lists, of short captions and of answers given the image, and numbers.

        A list's order is fixed, so it teaches where to look.
        """
        listed = scenes_of(seed + 2, step, config.num_lists)
        lists = self.encoder.prompts([render_image(s) for s in listed], [LIST_PROMPT] * len(listed))
        shown = scenes_of(seed + 3, step, config.num_images)
        captions = [short_caption(s, rng) for s in shown for _ in range(config.captions_per_image)]
        short = self.encoder.prompts([render_image(s) for s in shown])
        losses = {}
        for name, prompts, scenes, texts in (
            ("list", lists, listed, [inventory(s, rng) for s in listed]),
            ("caption", short, shown, captions),
        ):
            self.forget()
            losses[name] = mean_loss(self.encoder, prompts, texts)
            losses[f"look_{name}"] = 0.25 * self.looker.loss(prompts, scenes)
        scenes = scenes_of(seed + 4, step, config.num_images)
        asked, chosen = self.answer_losses(scenes, config, rng)
        losses |= asked
        return losses, {name: loss.item() for name, loss in losses.items()} | {"chosen": chosen}

    def answer_losses(
        self, scenes: Sequence[Scene], config: TalkingConfig, rng: np.random.Generator
    ) -> tuple[dict[str, Tensor], float]:
        """Losses of the answers to questions, and the share of options chosen rightly.

        Some are answered in words: letters alone teach nothing for a long time.
        """
        prompts, answers, images = [], [], []
        with_options: dict[int, Question] = {}
        for scene in scenes:
            *chosen, in_words = questions_for(scene, rng, config.num_choices + 1)
            with_options |= {len(prompts) + i: question for i, question in enumerate(chosen)}
            prompts += [
                *(compact_text(q) for q in chosen),
                f"{in_words.question}\nAnswer in words.",
            ]
            answers += [
                *(q.answer for q in chosen),
                in_words.options[LETTERS.index(in_words.answer)],
            ]
            images += [render_image(scene)] * (config.num_choices + 1)
        self.forget()
        asked = self.encoder.prompts(images, prompts)
        answer = mean_loss(self.encoder, asked, answers)
        choose, right = self.chooser.loss(asked, with_options)
        return {"answer": answer, "choose": choose}, right
