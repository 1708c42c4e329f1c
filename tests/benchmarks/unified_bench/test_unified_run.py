"""Unified-Bench end to end on a tiny random model: files, scores, failures, kills."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from uae.backends import transformers
from uae.backends.diffusers import Diffusers
from uae.backends.failure import Failure
from uae.backends.files import CaptionsFile, ImageFolder
from uae.backends.roles import Caption, Request, Written
from uae.backends.transformers import Transformers
from uae.backends.uae import HiddenStates, Uae
from uae.benchmarks.unified_bench import making, run
from uae.benchmarks.unified_bench.budgets import Curve, Tokens
from uae.benchmarks.unified_bench.run import evaluate, settings_of, summary_text
from uae.benchmarks.unified_bench.task import Task
from uae.core.errors import UsageError
from uae.core.provenance import ModelStamp
from uae.data.captions import CaptionRow, CaptionsWriter, read_rows
from uae.data.folder import NamedImage
from uae.data.opening import open_image
from uae.data.sources import to_images, to_pixels
from uae.flow.noise import stream
from uae.models.plain_text import PlainText
from uae.models.unified import UnifiedAutoEncoder
from uae.models.vlm.encoder import Encoder
from uae.rewards.loading import load_similarity
from uae.rewards.similarity import cosine
from uae.runs.rows import read_rows as read_items
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image

NAMES = ("a.png", "b.jpg", "sub/c.webp")
CURVE = Curve(methods=("cut",), sizes=(2, 4))


@pytest.fixture(scope="module")
def model(random_model_folder):
    return UnifiedAutoEncoder.from_pretrained(random_model_folder)


@pytest.fixture(scope="module")
def backbones(random_model_folder):
    folders = {name: random_model_folder.with_name(name) for name in ("clip", "dinov2")}
    return {name: load_similarity(folder) for name, folder in folders.items()}


@pytest.fixture
def images(tmp_path) -> dict[str, Path]:
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for i, name in enumerate(NAMES):
        render_image(scene_at(i, "test"), 64).save(folder / name)
    return {name: folder / name for name in NAMES}


@pytest.fixture
def task(images, tmp_path, model, backbones) -> Task:
    return task_of(images, tmp_path / "run", model, backbones)


def task_of(images, out, model, backbones, **changes) -> Task:
    parts = {
        "captioner": lambda: Uae(model, 0),
        "generator": lambda: Uae(model, 0),
        "backbones": lambda: backbones,
        "tokens": Tokens(model.encoder.tokenizer),
        "curve": CURVE,
        "batch_size": 2,
    }
    return Task(images=images, out=out, **(parts | changes))


def evaluated(task: Task, *, retry_failed: bool = False):
    stamp = ModelStamp(name="tiny", dtype="float32", backend="test")
    digests = {"clip": "1", "dinov2": "2"}
    settings = settings_of(task, stamp, digests, sees_image=False)
    return evaluate(
        task,
        settings,
        ["clip", "dinov2"],
        resume="auto",
        retry_failed=retry_failed,
        show=lambda *_: None,
    )


def rows_of(task: Task):
    return {row.item: row for row in read_items(task.out / "items.jsonl")}


def test_scores_are_cosines_of_images_and_redraws(task, backbones):
    result = evaluated(task)
    for name in NAMES:
        samples = rows_of(task)[name].samples
        original = to_pixels([open_image(task.images[name])])
        redraw = to_pixels([open_image(task.out / "images/plain" / Path(name).with_suffix(".png"))])
        each = {
            k: cosine(b.features(original), b.features(redraw)).item() for k, b in backbones.items()
        }
        assert {k: samples[k] for k in each} == pytest.approx(each, abs=1e-6)
        assert samples["overall"] == pytest.approx(sum(each.values()) / 2)
    by_hand = sum(row.samples["clip"] for row in rows_of(task).values()) / 3
    assert result.by_name("clip").value == pytest.approx(by_hand)
    assert result.by_name("clip").n == 3
    assert "unified-bench-other-backbones: tiny" in summary_text(result)


def test_redraws_are_those_of_the_captions_that_are_kept(task, model):
    evaluated(task)
    row = next(r for r in read_rows(task.out / "captions/cut-4.jsonl") if r.image == NAMES[0])
    assert row.num_tokens is not None
    assert row.num_tokens <= 4
    drawn = Uae(model, 0).draw([Caption(row.image, row.caption)])[0]
    assert largest_difference(drawn, open_image(task.out / "images/cut-4/a.png")) <= 1


def test_the_area_of_a_curve_of_two_points_is_their_mean(task):
    evaluated(task)
    for row in rows_of(task).values():
        ends = [row.samples[f"cut-{size} overall"] for size in CURVE.sizes]
        assert row.samples["cut area"] == pytest.approx(sum(ends) / 2)


def test_batches_change_nothing(images, tmp_path, model, backbones):
    tasks = [
        task_of(images, tmp_path / str(size), model, backbones, batch_size=size) for size in (1, 3)
    ]
    one, all_at_once = (evaluated(task) for task in tasks)
    for name in ("overall", "cut area", "tokens"):
        assert one.by_name(name).value == pytest.approx(all_at_once.by_name(name).value, abs=1e-5)


class Kill(BaseException):
    """Stands for a kill."""


def test_a_run_that_is_killed_anywhere_ends_with_the_same_result(
    images, tmp_path, model, backbones, monkeypatch
):
    whole = task_of(images, tmp_path / "whole", model, backbones)
    evaluated(whole)
    killed = task_of(images, tmp_path / "killed", model, backbones)
    save, append = making.save, CaptionsWriter.append
    add, calls, num_kills = run.BenchRun.add, 0, 0

    def counted(work):
        def step(*arguments):
            nonlocal calls
            calls += 1
            if calls == num_kills + 2:
                raise Kill
            return work(*arguments)

        return step

    monkeypatch.setattr(making, "save", counted(save))
    monkeypatch.setattr(CaptionsWriter, "append", counted(append))
    monkeypatch.setattr(run.BenchRun, "add", counted(add))
    for num_kills in range(10):  # noqa: B007
        calls = 0
        try:
            evaluated(killed)
            break
        except Kill:
            pass
    assert num_kills >= 3
    for name in ("result.json", "captions/plain.jsonl", "captions/cut-2.jsonl"):
        assert (killed.out / name).read_bytes() == (whole.out / name).read_bytes()
    assert rows_of(killed) == rows_of(whole)


def test_a_torn_redraw_is_drawn_again(task):
    evaluated(task)
    before = (task.out / "result.json").read_bytes()
    redraw = task.out / "images/plain/a.png"
    redraw.write_bytes(redraw.read_bytes()[:60])
    for name in ("items.jsonl", "result.json"):
        (task.out / name).unlink()
    evaluated(task)
    assert (task.out / "result.json").read_bytes() == before


def test_nothing_is_loaded_again_once_a_run_is_done(task):
    before = evaluated(task)

    def refuse():
        raise AssertionError("loaded without need")

    again = replace(task, captioner=refuse, generator=refuse, backbones=refuse)
    assert evaluated(again) == before


def test_failures_are_left_out_and_counted(images, tmp_path, model, backbones):
    images["sub/c.webp"].write_bytes(b"no image")
    captions = tmp_path / "captions.jsonl"
    with CaptionsWriter(captions) as writer:
        writer.append(CaptionRow(image="a.jpg", caption="A red circle."))  # of another suffix
        writer.append(CaptionRow(image="sub/c.webp", caption="A blue square."))
    task = task_of(
        images,
        tmp_path / "run",
        model,
        backbones,
        captioner=lambda: CaptionsFile(captions, images),
    )
    result = evaluated(task)
    assert result.by_name("overall").n == 1
    assert {x: list(of) for x, of in result.excluded.items()} == {
        "the captions file has no caption for it": ["b.jpg"],
        "unreadable image": ["sub/c.webp"],
    }
    assert json.loads((task.out / "result.json").read_text())["num_excluded"] == 2


def test_a_folder_of_redraws_is_found_by_name_stem_and_prefix(images, tmp_path, model, backbones):
    redraws = tmp_path / "redraws"
    (redraws / "sub").mkdir(parents=True)
    for source, place in (("a.png", "a.png"), ("b.jpg", "recon_b.png")):
        open_image(images[source]).save(redraws / place)
    task = task_of(
        images, tmp_path / "run", model, backbones, generator=lambda: ImageFolder(redraws, NAMES)
    )
    result = evaluated(task)
    assert rows_of(task)["a.png"].samples["overall"] == pytest.approx(1.0, abs=1e-5)
    assert rows_of(task)["b.jpg"].samples["overall"] == pytest.approx(1.0, abs=1e-5)
    assert list(result.excluded) == ["the folder has no redraw of it"]


@pytest.mark.parametrize("pair", [("a.png", "a.jpg"), ("a.png", "recon_a.png")])
def test_two_redraws_of_one_image_are_refused(tmp_path, pair):
    for name in pair:
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    with pytest.raises(UsageError, match=r"2 redraws of a\.webp") as error:
        ImageFolder(tmp_path, ["a.webp"])
    assert all(name in str(error.value) for name in pair)
    assert ImageFolder(tmp_path, ["b.png"]).extra == sorted(pair)


def test_redraws_in_subfolders_are_found_by_relative_path(tmp_path):
    for i, name in enumerate(("a.png", "plain/a.png", "plain/sub/recon_c.PNG")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / name)
    below = ImageFolder(tmp_path / "plain", NAMES)
    assert below.found == {"a.png": "a.png", "sub/c.webp": "sub/recon_c.PNG"}
    # one file stands where it is looked for: the other folder is another matter
    assert ImageFolder(tmp_path, NAMES).found == {"a.png": "a.png"}
    (tmp_path / "a.png").unlink()
    above = ImageFolder(tmp_path, NAMES)
    assert above.found == {"a.png": "plain/a.png", "sub/c.webp": "plain/sub/recon_c.PNG"}
    drawn = above.draw([Caption("a.png", "")])[0]
    assert isinstance(drawn, Image.Image)
    assert drawn.getpixel((0, 0)) == (1, 0, 0)


def test_what_failed_for_now_is_tried_again_when_asked(images, tmp_path, model, backbones):
    class Flaky(Uae):
        broken = True

        def draw(self, captions):
            drawn = super().draw(captions)
            fault = Failure("generator: timed out", can_retry=True)
            return [
                fault if c.name == "a.png" and self.broken else x
                for c, x in zip(captions, drawn, strict=True)
            ]

    generator = Flaky(model, 0)
    task = task_of(images, tmp_path / "run", model, backbones, generator=lambda: generator)
    assert evaluated(task).num_excluded == 1
    generator.broken = False
    assert evaluated(task).num_excluded == 1
    assert evaluated(task, retry_failed=True).num_excluded == 0


def test_two_images_of_one_stem_are_refused(images, tmp_path, model, backbones):
    images["a.jpg"] = images["a.png"]
    task = task_of(images, tmp_path / "run", model, backbones)
    with pytest.raises(UsageError, match=r"a\.png and a\.jpg have the same name"):
        evaluated(task)


def test_a_captions_file_with_two_captions_for_one_image_is_refused(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"image": "a.png", "caption": "x"}\n' * 2)
    with pytest.raises(UsageError, match=r"two captions for 'a\.png'"):
        CaptionsFile(path, {})


def test_of_a_captions_file_only_the_stem_that_two_share_is_refused(tmp_path):
    path = tmp_path / "c.jsonl"
    with CaptionsWriter(path) as writer:
        for name in ("a.png", "b.png", "c.jpg", "c.png"):
            writer.append(CaptionRow(image=name, caption=f"of {name}"))

    def captions_of(*names):
        return CaptionsFile(path, {name: tmp_path / name for name in names})

    assert captions_of("a.webp", "b.webp", "c.png").texts == {
        "a.webp": "of a.png",
        "b.webp": "of b.png",
        "c.png": "of c.png",
    }
    assert captions_of("a.webp", "c.png").extra == ["b.png", "c.jpg"]
    with pytest.raises(UsageError, match=r"meant for c\.webp, of c\.jpg and c\.png"):
        captions_of("c.webp")


@pytest.mark.parametrize(
    ("rows", "texts", "extra"),
    [
        (["photo.v1", "2024.05.01 trip", "photo.v3"], ["photo.v1.jpg", "2024.05.01 trip.jpg"], 1),
        (["photos/photo.v1.jpg", "./2024.05.01 trip.JPG"], None, 0),
        (["D:\\photos\\photo.v1.png", "photo.v2"], ["photo.v1.jpg", "photo.v2.jpg"], 0),
    ],
)
def test_given_captions_are_found_as_those_of_a_folder(tmp_path, rows, texts, extra):
    names = ("photo.v1.jpg", "photo.v2.jpg", "2024.05.01 trip.jpg")
    images = {name: tmp_path / "photos" / name for name in names}
    path = tmp_path / "ids.jsonl"
    path.write_text("".join(json.dumps({"id": x, "caption": "x"}) + "\n" for x in rows))
    captions = CaptionsFile(path, images)
    assert sorted(captions.texts) == sorted(texts or (names[0], names[2]))
    assert len(captions.extra) == extra


def test_two_spellings_of_one_image_in_given_captions_are_refused(tmp_path):
    path = tmp_path / "ids.jsonl"
    path.write_text('{"id": "a.png", "caption": "x"}\n{"id": "./a.png", "caption": "y"}\n')
    with pytest.raises(UsageError, match=r"two captions that may be meant for a\.png, of a\.png"):
        CaptionsFile(path, {"a.png": tmp_path / "a.png"})


def test_a_captions_file_can_be_cut_and_not_asked(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"image": "a.png", "caption": "x"}\n')
    with pytest.raises(UsageError, match="a budget can only cut it"):
        CaptionsFile(path, {}).write([], Request(instruction="Use at most 8 words."))


def test_hidden_states_depend_on_the_image_and_words_alone_do_not(images, model):
    generator = HiddenStates(model, images, 0)
    same = generator.draw([Caption("a.png", "A red circle.")])[0]
    others = HiddenStates(model, {"a.png": images["b.jpg"]}, 0)
    other = others.draw([Caption("a.png", "A red circle.")])[0]
    assert same.tobytes() != other.tobytes()


def test_hidden_states_are_those_of_the_captioning_pass(images, model):
    """As cold start reads them: states of the caption's tokens, after the captioning prompt."""
    image = open_image(images["a.png"])
    item = NamedImage("a.png", image)
    text = Uae(model, 0).write([item], Request())[0]
    assert isinstance(text, Written)
    captions = model.encoder.sample(model.encoder.prompts([image]), None, max_new_tokens=16)
    with torch.no_grad():
        states = model.encoder.caption_states(model.encoder.prompts([image]), captions.token_ids)
        noise = model.decoder.noise([stream(0, "draw", "a.png")])
        drawn = model.draw_conditions(
            model.projector(states, captions.mask), noise, model.settings.sampling
        )
    found = HiddenStates(model, images, 0).draw([Caption("a.png", text.text)])[0]
    assert largest_difference(to_images(drawn)[0], found) <= 1


def largest_difference(image: Image.Image, other: Image.Image) -> int:
    """In levels of 255: batches of another size round differently."""
    return int(np.abs(np.asarray(image).astype(int) - np.asarray(other).astype(int)).max())


def test_a_vision_language_model_samples_by_seed_name_and_draw(images, random_model_folder):
    vlm = Transformers.from_pretrained(str(random_model_folder), prompt="Describe the image.")
    items = [NamedImage(name, open_image(images[name])) for name in NAMES[:2]]

    def written(draw: int):
        return vlm.write(items, Request(temperature=1.0, draw=draw))

    assert written(0) == written(0)
    assert written(0) != written(1)
    assert vlm.write(items[1:], Request(temperature=1.0)) == written(0)[1:]
    greedy = vlm.write(items, Request())
    assert greedy == vlm.write(items, Request(draw=1))


def test_a_vision_language_model_says_which_captions_reached_the_limit(
    images, random_model_folder, monkeypatch
):
    vlm = Transformers.from_pretrained(str(random_model_folder), prompt="Describe the image.")
    item = NamedImage("a.png", open_image(images["a.png"]))
    monkeypatch.setattr(transformers, "MAX_NEW_TOKENS", 3)
    [cut] = vlm.write([item], Request())
    assert isinstance(cut, Written)
    assert cut.is_truncated
    last = vlm.processor.tokenizer(cut.text, add_special_tokens=False)["input_ids"][-1]
    vlm.model.generation_config.eos_token_id = last  # now the same words end by themselves
    [ended] = vlm.write([item], Request())
    assert isinstance(ended, Written)
    assert not ended.is_truncated


def test_an_image_too_large_for_the_memory_has_no_caption(images, random_model_folder, monkeypatch):
    vlm = Transformers.from_pretrained(str(random_model_folder), prompt="Describe the image.")
    items = [NamedImage(name, open_image(images[name])) for name in NAMES[:2]]
    generate, calls = vlm.model.generate, []

    def second_is_too_large(*given, **options):
        calls.append(given)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return generate(*given, **options)

    monkeypatch.setattr(vlm.model, "generate", second_is_too_large)
    first, second = vlm.write(items, Request())
    assert isinstance(first, Written)
    assert second == Failure("captioner: out of memory", "CUDA out of memory.", can_retry=True)


class Pipeline:
    """Draws what its generator says, as a pipeline of diffusers is called."""

    def __init__(self, checked=None) -> None:
        self.checked = checked

    def __call__(self, *, prompt, generator, width=8, height=8):
        pixels = torch.rand(height, width, 3, generator=generator).numpy()
        images = [Image.fromarray((255 * pixels).astype(np.uint8))]
        return SimpleNamespace(images=images, nsfw_content_detected=self.checked)


def test_a_pipelines_noise_hangs_on_the_name_and_is_shared_by_all_captions_of_an_image():
    generator = Diffusers(Pipeline(), 0)
    one, other, elsewhere = generator.draw(
        [Caption("a.png", "A red circle."), Caption("a.png", "A bar."), Caption("b.png", "A bar.")]
    )
    assert one.tobytes() == other.tobytes() != elsewhere.tobytes()


def test_a_pipeline_gets_no_control_token_of_its_tokenizers(random_model_folder):
    tokenizer = Encoder.from_pretrained(random_model_folder / "encoder", "").tokenizer
    asked = []

    def draw(prompt, **given):
        asked.append(prompt)
        return Pipeline()(prompt=prompt, **given)

    generator = Diffusers(draw, 0, plain=[PlainText(tokenizer)])
    generator.draw([Caption("a.png", "A bar."), Caption("b.png", "A <|endoftext|> bar.")])
    assert asked == ["A bar.", "A < |endoftext|> bar."]


@pytest.mark.parametrize("checked", [None, [False], [True]])
def test_what_a_safety_checker_blacks_out_is_refused_and_no_drawing(checked):
    [drawn] = Diffusers(Pipeline(checked), 0, (16, 8)).draw([Caption("a.png", "A bar.")])
    if checked == [True]:
        assert isinstance(drawn, Failure)
        assert drawn.reason == "generator: refused"
    else:
        assert isinstance(drawn, Image.Image)
        assert drawn.size == (16, 8)


def test_other_backbones_and_hidden_states_make_other_benchmarks(task):
    stamp = ModelStamp(name="tiny", dtype="float32", backend="test")
    official = replace(task, counted=("clip",))
    names = {
        settings_of(which, stamp, {}, sees_image=sees_image).benchmark
        for sees_image in (False, True)
        for which in (task, official)
    }
    assert len(names) == 4
    assert "unified-bench" in names


def test_a_further_backbone_is_a_column_that_changes_no_other_score(task, tmp_path):
    official = replace(task, counted=("clip",), curve=Curve(), out=tmp_path / "official")
    result = evaluated(official)
    assert result.settings["options"]["further_backbones"] == {"dinov2": "2"}
    assert "backbone dinov2" not in result.settings["data"]
    assert result.by_name("overall") == result.by_name("clip") != result.by_name("dinov2")
    every = evaluated(replace(task, curve=Curve(), out=tmp_path / "every"))
    assert every.by_name("overall") != every.by_name("clip") == result.by_name("clip")
    assert "backbone dinov2" in every.settings["data"]


def test_a_point_of_the_curve_that_failed_for_now_is_tried_again_when_asked(
    images, tmp_path, model, backbones
):
    class Flaky(Uae):
        num_calls = 0

        def draw(self, captions):
            self.num_calls += 1
            if self.num_calls == 3:  # two batches of plain captions come first
                return [Failure("generator: timed out", can_retry=True) for _ in captions]
            return super().draw(captions)

    generator = Flaky(model, 0)
    task = task_of(images, tmp_path / "run", model, backbones, generator=lambda: generator)
    first = evaluated(task)
    assert (first.by_name("overall").n, first.by_name("cut area").n) == (3, 1)
    why = "generator: timed out"
    assert first.failed == {"cut-2": {"a.png": why, "b.jpg": why}}
    assert evaluated(task).by_name("cut area").n == 1
    assert evaluated(task, retry_failed=True).by_name("cut area").n == 3
