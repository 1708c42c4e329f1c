"""Our encoder behind the protocol, with random weights."""

import math
from pathlib import Path

import pytest
import torch
from thirty_questions import evaluate, rows, write

from uae.backends.answers import ChatAnswers
from uae.backends.first_token import Vocabulary, letter_tokens
from uae.backends.uae import Uae, encoder_stamp
from uae.core.errors import UsageError
from uae.models.unified import UnifiedAutoEncoder
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image


@pytest.fixture(scope="module")
def model(random_model_folder) -> ChatAnswers:
    return ChatAnswers(Uae(UnifiedAutoEncoder.from_pretrained(random_model_folder)), 4)


def test_a_file_is_answered(model: ChatAnswers, random_model_folder: Path, tmp_path: Path):
    stamp = encoder_stamp("random", random_model_folder, 4)
    assert (stamp.dtype, stamp.options) == ("float32", {"max_new_tokens": 4})
    assert "encoder/model.safetensors" in stamp.files
    tsv = write(tmp_path / "q.tsv", rows(6))
    result = evaluate(model, tsv, tmp_path / "run", stamp)
    assert result.num_excluded == 0
    assert result.by_name("likelihood/VAL/overall").n == 6


def test_letters_have_the_probability_of_their_tokens(model: ChatAnswers):
    assert isinstance(model.model, Uae)
    image, encoder = render_image(scene_at(0, "train")), model.model.encoder
    log_probs = model.reply([image], "Which?", "ABC").log_probs
    total = encoder.next_log_probs(encoder.prompts([image], ["Which?"])).exp().sum()
    assert total == pytest.approx(1, abs=1e-5)  # float32 sums over the vocabulary
    assert all(math.isfinite(x) for x in log_probs)
    assert sum(map(math.exp, log_probs)) < 1
    prompts, both = encoder.prompts([image], ["Which?"]), torch.ones(1, 2).bool()
    for letter, log_prob in zip("ABC", log_probs, strict=True):
        forms = [encoder.tokenizer(form)["input_ids"] for form in (letter, f" {letter}")]
        alone = [
            encoder.log_probs(prompts, torch.tensor([[*ids, encoder.end_id]]), both)[0, 0].item()
            for ids in forms
            if len(ids) == 1
        ]
        assert log_prob == pytest.approx(math.log(sum(map(math.exp, alone))), abs=1e-4)


def test_a_letter_counts_with_and_without_a_blank_where_these_are_tokens():
    class Tokenizer:
        def get_vocab(self) -> dict[str, int]:
            return {"A": 1, "\u0120A": 2, "B": 3, "BC": 4, "\u2581C": 0, "\u0120CA": 5}

    assert [letter_tokens(Tokenizer(), x) for x in "ABC"] == [[1, 2], [3], [0]]
    p = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.05, 0.1, 0.1])
    assert Vocabulary(Tokenizer(), p.log(), p).letters("ABC") == pytest.approx(
        [math.log(x) for x in (0.5, 0.15, 0.1)]
    )


def test_a_letter_without_a_token_is_refused(model: ChatAnswers):
    with pytest.raises(UsageError, match=r"no single token for the letter qqq: .*--no-likelihood"):
        model.reply([render_image(scene_at(0, "train"))], "Which?", ["qqq"])
