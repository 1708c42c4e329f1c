"""Captions longer than a generator reads: counted by its tokenizer, and standing in the result."""

import json
import shutil
from pathlib import Path

import pytest

BACKBONE = ("--backbone", "clip=uae-tiny/clip")
BENCH = ("eval", "unified-bench", "photos", "--out", "bench", *BACKBONE)


@pytest.fixture
def short_reader(random_model_folder, tmp_path) -> Path:
    """The random model, whose decoder reads three tokens."""
    folder = Path(shutil.copytree(random_model_folder, tmp_path / "short"))
    values = json.loads((folder / "uae.json").read_text())
    (folder / "uae.json").write_text(json.dumps(values | {"max_caption_tokens": 3}))
    return folder


@pytest.fixture
def captions(photos) -> Path:
    """Two captions are longer than sixteen tokens, one is not."""
    path = photos.with_name("captions.jsonl")
    words = {"a.png": "a", "b.jpg": "a red circle on blue. " * 9, "sub/c.webp": "two dots. " * 20}
    rows = [json.dumps({"image": name, "caption": text}) for name, text in words.items()]
    path.write_text("\n".join(rows))
    return path


def cut_in(folder: str) -> list[dict]:
    return json.loads((Path(folder) / "result.json").read_text())["cut_captions"]


@pytest.mark.parametrize("kind", ["uae", "diffusers"])
def test_the_result_holds_their_number_and_the_limit(
    run, kind, photos, captions, short_reader, pipeline_folder
):
    generator = f"uae:{short_reader}" if kind == "uae" else f"diffusers:{pipeline_folder}"
    limit = 3 if kind == "uae" else 16
    line = (*BENCH, "--captioner", f"file:{captions}", "--generator", generator)
    code, out, err = run(*line, "--format", "human")
    assert code == 0, err
    expected = {"captions": "plain", "max_tokens": limit, "num_cut": 2, "num_captions": 3}
    assert cut_in("bench") == [expected]
    said = f"2 of 3 captions (plain) have more than the {limit} tokens that the generator reads"
    assert f"CUT: {said}" in out
    assert f"warning: {said} (first b.jpg)" in err
    before = Path("bench/result.json").read_bytes()
    Path("bench/result.json").unlink()
    assert run(*line)[0] == 0  # nothing is drawn again
    assert Path("bench/result.json").read_bytes() == before


def test_where_none_is_too_long_the_limit_stands_alone(run, photos, random_model_folder):
    captions = photos.with_name("captions.jsonl")
    names = ("a.png", "b.jpg", "sub/c.webp")
    captions.write_text("\n".join(json.dumps({"image": x, "caption": "a"}) for x in names))
    flags = ("--captioner", f"file:{captions}", "--generator", f"uae:{random_model_folder}")
    code, out, _ = run(*BENCH, *flags, "--format", "human")
    assert code == 0
    assert [(x["num_cut"], x["num_captions"]) for x in cut_in("bench")] == [(0, 3)]
    assert "CUT" not in out


def test_of_images_that_are_there_no_limit_is_known(run, photos, captions):
    flags = ("--captioner", f"file:{captions}", "--generator", "folder:photos")
    assert run(*BENCH, *flags)[0] == 0
    assert cut_in("bench") == []


def test_prompts_that_are_too_long_stand_in_the_drawing_and_in_its_score(run, short_reader):
    Path("prompts.jsonl").write_text(
        "\n".join(
            json.dumps({"tag": "single_object", "include": [{"class": "dog", "count": 1}]} | x)
            for x in ({"prompt": "dog"}, {"prompt": "a photo of a dog, once more, of a dog"})
        )
    )
    line = ("eval", "geneval-images", "--prompts", "prompts.jsonl", "--model", short_reader)
    code, out, err = run(*line, "--num-samples", 1, "--out", "drawn", "--json")
    assert code == 0, err
    cut = {"captions": "prompts", "max_tokens": 3, "num_cut": 1, "num_captions": 2}
    assert json.loads(out)["cut_captions"] == [cut]
    from uae.benchmarks.image_origin import drawn_by

    assert drawn_by(Path("drawn"))["cut_captions"] == [cut]


def test_a_run_says_it_of_the_captions_it_learns_from(run, photos, short_reader):
    for path in [*photos.glob("*.jpg"), *photos.glob("*.png"), *photos.glob("sub/*.webp")]:
        path.with_suffix(".txt").write_text("a red circle on a blue background, and no more")
    Path("r.yaml").write_text(
        "data: {folder: photos, held_out_share: 0}\n"
        "evaluation: {num_scenes: 2, num_questions: 1, prompts_per_category: 1}\n"
        "pretrain: {num_steps: 1, batch_size: 2, micro_batch: 2}\n"
    )
    line = ("train", "--recipe", "r.yaml", "--model", short_reader, "--out", "run")
    code, _, err = run(*line)
    assert code == 0, err
    said = "3 of 3 captions (data) have more than the 3 tokens that the generator reads"
    assert said in err
    assert said in Path("run/report.html").read_text()
