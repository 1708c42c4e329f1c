"""Unified-Bench from the command line: halves by name, bad input, and its pages."""

import base64
import csv
import json
import os
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from tests.stub_endpoint import fault, painted, said, stub
from uae.backends.load import kinds, stamp_of
from uae.backends.reference import Given, Spec, _commit
from uae.backends.roles import Captioner, Chat, Generator
from uae.cli.unified_bench import OFFICIAL, counted_of
from uae.data.captions import CaptionRow, CaptionsWriter, read_rows
from uae.scenes.folder import QUESTIONS, write_scenes


@pytest.fixture
def backbones(random_model_folder):
    folders = {name: random_model_folder.with_name(name) for name in ("clip", "dinov2")}
    return [x for name, folder in folders.items() for x in ("--backbone", f"{name}={folder}")]


@pytest.fixture
def bench(photos, random_model_folder, backbones):
    return ("eval", "unified-bench", photos, "--model", random_model_folder, *backbones)


def test_a_run_ends_with_scores_and_a_page_and_goes_on_with_the_same_command(run, bench, tmp_path):
    code, out, _ = run(*bench, "--out", "run", "--json")
    assert code == 0
    result = json.loads(out)
    names = [score["name"] for score in result["scores"]]
    assert names == ["clip", "dinov2", "overall", "tokens"]
    assert result["num_items"] == 3
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert set(result["settings"]["model"]["files"]) == {"captioner/weights", "generator/weights"}
    assert run(*bench, "--out", "run", "--json")[1] == out
    code, _, err = run(*bench, "--out", "run", "--seed", 1)
    assert code == 2
    assert "run with other settings" in err


def test_a_name_that_is_no_unicode_ends_no_run(run, bench, photos):
    name = b"caf\xe9.jpg".decode(errors="surrogateescape")
    (photos / "b.jpg").rename(photos / name)
    for _ in range(2):
        assert run(*bench, "--out", "run")[0] == 0
        page = Path("run/report.html").read_text()
        assert "caf\ufffd.jpg" in page
    rows = [json.loads(line) for line in Path("run/items.jsonl").read_text().splitlines()]
    assert name in [row["item"] for row in rows]


def test_captions_by_id_of_names_with_dots_are_found_and_counted(run, bench, photos):
    dots = photos.with_name("dots")
    dots.mkdir()
    for stem in ("photo.v1", "photo.v2", "2024.05.01 trip"):
        shutil.copy(photos / "a.png", dots / f"{stem}.png")
    ids = [{"id": x, "caption": "A circle."} for x in ("photo.v1", "photo.v2", "2024.05.01 trip")]
    Path("ids.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ids))
    command = ("eval", "unified-bench", dots, *bench[3:], "--out", "run")
    code, out, err = run(*command, "--captioner", "file:ids.jsonl", "--json")
    assert code == 0
    assert "captions for 3 of 3 images (from ids.jsonl)" in err
    assert json.loads(out)["num_items"] == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--captioner", "file:c.jsonl"),
            r"c.jsonl, line 1: key 'caption': character 2 is \ud800",
        ),
        (("--prompt", "Describe \ud800"), r"--prompt: character 10 is \ud800"),
    ],
)
def test_text_that_is_no_unicode_is_refused_before_any_work(run, bench, options, said):
    Path("c.jsonl").write_text('{"image": "a.png", "caption": "a\\ud800"}\n')
    code, _, err = run(*bench, "--out", "run", *options)
    assert code == 2
    assert said in err
    assert not Path("run/items.jsonl").exists()


def test_the_next_command_can_be_copied(run, bench):
    code, out, _ = run(*bench, "--out", "my runs/it's", "--format", "human")
    assert code == 0
    [line] = [line for line in out.splitlines() if line.startswith("next")]
    assert shlex.split(line)[1:] == ["uae", "compare", "OTHER", "my runs/it's"]


def test_captions_of_somebody_else_are_redrawn_and_cut(run, bench, photos, tmp_path):
    captions = tmp_path / "theirs.jsonl"
    with CaptionsWriter(captions) as writer:
        for name in ("a.png", "b.jpg"):
            writer.append(CaptionRow(image=name, caption="A red circle on a gray background."))
    curve = ("--curve", "cut", "--budgets", 2, "--budgets", 4)
    theirs = (*bench, "--captioner", f"file:{captions}", *curve, "--out", "run", "--json")
    code, out, err = run(*theirs)
    assert code == 2
    assert "1 images without a caption: sub/c.webp" in err
    code, out, err = run(*theirs, "--allow-missing")
    assert code == 4
    assert "left out 1 of 3" in err
    assert "sub/c.webp: the captions file has no caption for it" in err
    scores = {x["name"]: x for x in json.loads(out)["scores"]}
    assert scores["cut area"]["n"] == 2
    assert scores["cut-2 tokens"]["value"] == 2
    gaps = json.loads(out)["settings"]["options"]["gaps"]
    assert gaps == {"images without a caption": {"num": 1, "first": ["sub/c.webp"]}}
    assert json.loads(out)["marks"][0] in (tmp_path / "run" / "report.html").read_text()


def test_other_captions_and_images_are_refused_by_name(run, bench, photos, tmp_path):
    captions = tmp_path / "theirs.jsonl"
    rows = [{"image": x, "caption": "A red circle."} for x in ("a.png", "b.jpg", "sub/c.webp")]

    def write() -> None:
        captions.write_text("".join(json.dumps(row) + "\n" for row in rows))

    write()
    theirs = (*bench, "--captioner", f"file:{captions}", "--out", "run", "-q")
    assert run(*theirs)[0] == 0
    rows[1]["caption"] = "A green circle."
    write()
    shutil.copy(photos / "b.jpg", photos / "a.png")
    code, _, err = run(*theirs)
    assert code == 2
    assert "images: 1 changed (first a.png)\n  captions: 1 changed (first b.jpg)" in err


def test_a_captioner_that_does_not_load_leaves_a_folder_for_the_mended_command(
    run, photos, random_model_folder, backbones, tmp_path
):
    """Whatever is mended: another captioner, another seed, other images."""
    broken = tmp_path / "broken"
    shutil.copytree(random_model_folder, broken)
    (broken / "encoder" / "model.safetensors").write_bytes(b"x")
    command = ("eval", "unified-bench", photos, *backbones, "--out", "run", "-q")
    assert run(*command, "--model", broken)[0] != 0
    (photos / "b.jpg").unlink()
    assert run(*command, "--model", random_model_folder, "--seed", 1)[0] == 0


def test_an_address_that_dies_within_a_curve_is_told_by_image_and_point(run, bench, tmp_path):
    def answer(path, body):
        asked = json.dumps(body)
        return fault(503, "gone") if "Use at most" in asked else said("A red circle.")

    curve = ("--curve", "ask", "--budgets", 8, "--budgets", 16, "--out", "run")
    with stub(answer) as server:
        described = (*bench, "--captioner", f"endpoint:m@{server.url}", *curve)
        code, out, err = run(*described, "--format", "human")
        assert code == 4
        assert "3 images, 0 left out" in out
        assert "PARTS FAILED, items by part: 3 ask-16, 3 ask-8" in out
        rows = [" ".join(line.split()) for line in out.splitlines()]
        for score in ("ask-8 overall", "ask-16 overall", "ask area"):
            assert f"{score} n/a no interval n = 0, 3 left out" in rows
        assert "6 parts of items failed" in err
        assert "sub/c.webp, ask-16: captioner: server error" in err
        result = json.loads((tmp_path / "run" / "result.json").read_text())
        assert [(x["part"], x["num_items"]) for x in result["failed"]] == [
            ("ask-16", 3),
            ("ask-8", 3),
        ]
        assert "ask-16: 3" in (tmp_path / "run" / "report.html").read_text()
        # a run that is done says it again
        assert run(*described, "--format", "human")[0] == 4
        server.answer = lambda *_: said("A red circle.")
        assert run(*described, "--retry-failed", "-q")[0] == 0


@pytest.fixture
def redraws(photos, tmp_path):
    folder = tmp_path / "redraws"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/recon_c.webp"):
        source = photos / name.replace("recon_", "")
        (folder / name).write_bytes(source.read_bytes())
    return folder


def test_a_folder_that_lacks_redraws_is_refused_by_name_unless_allowed(
    run, bench, redraws, tmp_path
):
    theirs = (*bench, "--generator", f"folder:{redraws}", "--out", "run")
    (redraws / "z.png").write_bytes((redraws / "a.png").read_bytes())
    code, _, err = run(*theirs)
    assert code == 2
    assert "1 images without a redraw: b.jpg" in err
    assert "--allow-missing" in err
    assert not (tmp_path / "run" / "captions").exists()
    code, out, err = run(*theirs, "--allow-missing", "--format", "human")
    assert code == 4
    assert "1 redraws of no image: z.png" in err
    assert "INCOMPLETE" in out
    assert "1 images without a redraw: b.jpg" in out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    gap = {"num": 1, "first": ["b.jpg"]}
    assert result["settings"]["options"]["gaps"] == {"images without a redraw": gap}
    assert result["scores"][0]["n"] == 2
    assert "INCOMPLETE" in (tmp_path / "run" / "report.html").read_text()


@pytest.fixture
def damaged(photos):
    """An image that does not open, beside three that do."""
    (photos / "d.png").write_bytes(b"no picture")
    return "1 unreadable images: d.png: not an image: its first bytes are not those"


def test_an_image_that_does_not_open_is_refused_unless_allowed(run, bench, damaged, tmp_path):
    code, _, err = run(*bench, "--out", "run")
    assert code == 2
    assert "not all of 4 images can be measured" in err
    assert damaged in err
    assert not (tmp_path / "run").exists()
    code, out, _ = run(*bench, "--out", "run", "--json", "--allow-missing")
    result = json.loads(out)
    assert (code, result["num_excluded"]) == (4, 1)
    assert damaged in result["marks"][0]
    assert result["marks"][0].startswith("INCOMPLETE")


def test_a_given_redraw_that_does_not_open_is_refused_unless_allowed(run, bench, photos, tmp_path):
    theirs = (*bench, "--generator", f"folder:{tmp_path / 'theirs'}", "--out", "run")
    shutil.copytree(photos, tmp_path / "theirs")
    (tmp_path / "theirs" / "a.png").write_bytes(b"")
    code, _, err = run(*theirs)
    assert code == 2
    assert "1 unreadable redraws: a.png: empty file" in err
    code, out, _ = run(*theirs, "--json", "--allow-missing")
    assert code == 4
    assert "unreadable redraws" in json.loads(out)["marks"][0]


def test_a_folder_of_which_nothing_opens_is_refused(run, bench, photos):
    for path in [x for x in photos.rglob("*") if x.is_file()]:
        path.write_bytes(b"no picture")
    code, _, err = run(*bench, "--out", "run", "--allow-missing")
    assert code == 2
    assert "none of 3 images opens" in err


def test_captions_of_no_image_are_told(run, bench, photos, tmp_path):
    with CaptionsWriter(tmp_path / "theirs.jsonl") as writer:
        for name in ("a.png", "b.jpg", "sub/c.webp", "y.png", "z.png"):
            writer.append(CaptionRow(image=name, caption="A red circle."))
    code, _, err = run(*bench, "--captioner", "file:theirs.jsonl", "--out", "run", "-q")
    assert code == 0
    assert "theirs.jsonl: not used" in err
    assert "2 captions of no image: y.png, z.png" in err


def test_a_folder_of_images_that_may_not_be_read_is_told(run, bench, photos, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("photos/sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    code, _, err = run(*bench, "--out", "run", "-q")
    assert code == 4
    assert "1 folders could not be read" in err
    assert "photos/sub" in err


def hub_model(place, commit: str, name: str) -> None:
    """Put a model into a cache as the hub's client does, with one file."""
    snapshot = place / "models--them--tiny" / "snapshots" / commit
    snapshot.mkdir(parents=True, exist_ok=True)
    (snapshot / name).write_text("{}")
    refs = place / "models--them--tiny" / "refs"
    refs.mkdir(exist_ok=True)
    (refs / "main").write_text(commit)


@pytest.mark.parametrize(
    ("flag", "kind", "expected", "name"),
    [
        ("--captioner", "vlm", kinds(Captioner), "config.json"),
        ("--generator", "diffusers", kinds(Generator), "model_index.json"),
        ("--model", "vlm", kinds(Chat), "config.json"),
    ],
)
def test_a_model_of_the_hub_is_stamped_by_its_commit(
    flag, kind, expected, name, tmp_path, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    given = Given("", 0, "cpu", torch.float32, Path("unused"))
    spec = Spec.read(flag, f"{kind}:them/tiny", expected)
    for commit in ("a" * 40, "b" * 40):
        hub_model(tmp_path, commit, name)
        _commit.cache_clear()
        assert stamp_of(spec, given).files == {"commit": commit}
    hub_model(tmp_path, "c" * 40, name)
    assert spec.commit == "b" * 40  # what is loaded is what was stamped


def test_without_backbones_the_models_own_are_taken(run, photos, random_model_folder):
    model = ("--model", random_model_folder)
    code, out, _ = run("eval", "unified-bench", photos, *model, "--out", "run", "--json")
    assert code == 0
    result = json.loads(out)
    assert [score["name"] for score in result["scores"]][:2] == ["clip", "dinov2"]
    assert result["settings"]["benchmark"] == "unified-bench-other-backbones"


def test_hidden_states_are_another_benchmark(run, bench):
    code, out, _ = run(*bench, "--hidden-states", "--out", "run", "--json")
    assert code == 0
    name = "unified-bench-hidden-states-other-backbones"
    assert json.loads(out)["settings"]["benchmark"] == name


@pytest.mark.parametrize(
    "options",
    [
        ("--captioner", "vlm:org/model"),
        ("--captioner", "vlm:nowhere"),
        ("--generator", "diffusers:org/model"),
        ("--backbone", "other=org/model"),
        ("--backbone", "longclip"),
        ("--tokenizer", "org/model", "--curve", "cut", "--budgets", 2, "--budgets", 4),
    ],
    ids=str,
)
def test_a_hub_that_cannot_be_reached_is_one_line_about_the_surroundings(run, bench, options):
    code, out, err = run(*bench, *options, "--out", "run")
    assert (code, out) == (3, "")
    [line] = [line for line in err.splitlines() if line.startswith("error: ")]
    assert options[1] in line
    assert line.endswith("(HF_HUB_OFFLINE is set): check the name and the network")
    assert "Traceback" not in err
    assert "couldn't connect" not in err


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (("--captioner", "gpt-4o"), "--captioner gpt-4o: expected one of uae:..., vlm:..."),
        (("--generator", "uae:nowhere"), "--generator uae:nowhere is no model folder"),
        (("--generator", "folder:nowhere"), "folder:nowhere does not exist: expected a folder"),
        (("--captioner", "file:none.jsonl"), "--captioner file:none.jsonl does not exist"),
        (("--captioner", "endpoint:x"), "expected endpoint:MODEL@URL"),
        (("--captioner", "vlm:./nowhere"), "--captioner vlm:./nowhere cannot be loaded"),
        (("--backbone", "resnet"), "--backbone resnet: expected clip, longclip"),
        (("--backbone", "clip=elsewhere"), "expected a name that no other one has"),
        (("--backbone", "other=./nowhere"), "--backbone other=./nowhere cannot be loaded"),
        (("--backbone", "x=dreamsim:vgg"), "dreamsim:vgg: expected one of dreamsim:ensemble"),
        (("--curve", "cut", "--budgets", 8), "budgets 8: expected at least two"),
        (("--hidden-states", "--captioner", "uae:uae-tiny"), "expected one uae model for both"),
        (
            ("--captioner", "file:a.jsonl", "--curve", "ask"),
            "--curve ask with --captioner file:a.jsonl: a file holds one caption an image",
        ),
        (("--dtype", "float16"), "--dtype float16 is for vlm or diffusers models"),
    ],
)
def test_bad_input_names_the_flag_and_what_would_be_right(run, bench, options, fault, tmp_path):
    code, _, err = run(*bench, *options, "--out", "run")
    assert code == 2
    assert fault in err
    assert (
        not (tmp_path / "run" / "items.jsonl").exists()
        or (tmp_path / "run" / "items.jsonl").read_bytes() == b""
    )


@pytest.mark.parametrize(
    ("model", "before", "flag"), [("nowhere", "uae-tiny", "--model"), ("uae-tiny", ".", "--before")]
)
def test_an_audit_names_the_flag_of_the_model_that_is_not_there(run, photos, model, before, flag):
    models = ("--model", model, "--before", before)
    code, _, err = run("eval", "audit", photos, *models, "--backbone", "clip", "--out", "run")
    assert code == 2
    assert f"error: {flag} uae:" in err


def test_the_papers_backbones_count_as_hub_ids_or_copies_and_others_beside_them(tmp_path):
    assert counted_of(OFFICIAL) == tuple(OFFICIAL)
    assert counted_of(OFFICIAL | {"siglip2": "them/siglip"}) == tuple(OFFICIAL)
    assert counted_of(OFFICIAL | {"longclip": str(tmp_path)}) == tuple(OFFICIAL)
    assert counted_of(OFFICIAL | {"clip": "openai/clip-vit-base-patch32"}) == ()
    assert counted_of({"clip": OFFICIAL["clip"]}) == ()


def test_a_curve_of_strangers_needs_a_tokenizer(run, photos, backbones, tmp_path):
    captions = tmp_path / "theirs.jsonl"
    captions.write_text("")
    code, _, err = run(
        "eval",
        "unified-bench",
        photos,
        *("--captioner", f"file:{captions}", "--generator", f"folder:{photos}"),
        *backbones,
        *("--curve", "cut", "--out", "run"),
    )
    assert code == 2
    assert "give --tokenizer" in err


def test_a_judge_without_verdicts_is_counted_and_gives_no_score(
    run, photos, random_model_folder, tmp_path
):
    for name in ("one", "two"):
        with CaptionsWriter(tmp_path / f"{name}.jsonl") as writer:
            for image in ("a.png", "b.jpg", "sub/c.webp"):
                writer.append(CaptionRow(image=image, caption=f"{name} circle"))
    code, out, err = run(
        *("eval", "caption-duel", photos, "--first", "one.jsonl", "--second", "two.jsonl"),
        *("--judge", f"local:{random_model_folder}", "--out", "run", "--json"),
    )
    assert code == 4
    for name in ("one", "two"):
        assert f"captions for 3 of 3 images (from {name}.jsonl)" in err
    assert "left out 3 of 3" in err
    assert "judge: not the form asked for" in err
    assert json.loads(out)["scores"][0]["n"] == 0


@pytest.fixture
def auditing(photos, random_model_folder, backbones):
    models = ("--model", random_model_folder, "--before", random_model_folder)
    return ("eval", "audit", photos, *models, *backbones)


def test_an_audit_and_a_duel_refuse_images_that_do_not_open(
    run, auditing, photos, damaged, tmp_path
):
    captions = tmp_path / "theirs.jsonl"
    with CaptionsWriter(captions) as writer:
        for name in ("a.png", "b.jpg", "sub/c.webp", "d.png"):
            writer.append(CaptionRow(image=name, caption="A red circle."))
    with stub(lambda *_: said("no verdict")) as server:
        files = ("--first", captions, "--second", captions)
        judge = ("--judge", server.url, "--judge-model", "m")
        duel = ("eval", "caption-duel", photos, *files, *judge)
        for command, out in ((auditing, "audit"), (duel, "duel")):
            code, _, err = run(*command, "--out", out)
            assert (code, damaged in err) == (2, True), err
            code, _, err = run(*command, "--out", out, "--allow-missing")
            assert code == 4
            result = json.loads((tmp_path / out / "result.json").read_text())
            assert damaged in result["marks"][0]


@pytest.mark.parametrize(("half", "kept"), [("captioner", 1), ("generator", 9)])
def test_a_dead_address_ends_a_run_which_goes_on_when_it_is_back(run, bench, photos, half, kept):
    for i in range(6):
        shutil.copy(photos / "a.png", photos / f"e{i}.png")
    good = {"captioner": said("A red circle."), "generator": painted({})}[half]
    answers = iter([good, good])  # of the probe and of one image

    with stub(lambda *_: next(answers, fault(503, "gone"))) as server:
        theirs = (*bench, f"--{half}", f"endpoint:m@{server.url}", "--tries", 1, "--out", "run")
        code, _, err = run(*theirs)
        assert code == 1
        assert f"5 items running failed, e3.png last ({half}: server error: " in err
        assert len(list(read_rows(Path("run/captions/plain.jsonl")))) == kept
        assert len(server.asked) == 1 + 5, "more was asked of an address that is down"
        server.answer = lambda *_: good
        code, out, _ = run(*theirs, "--json")
    assert (code, json.loads(out)["num_excluded"]) == (0, 0)


def test_a_dead_judge_ends_a_duel(run, photos, tmp_path):
    for i in range(7):
        shutil.copy(photos / "a.png", photos / f"e{i}.png")
    captions = tmp_path / "theirs.jsonl"
    with CaptionsWriter(captions) as writer:
        for path in photos.rglob("*.*"):
            name = path.relative_to(photos).as_posix()
            writer.append(CaptionRow(image=name, caption="A red circle."))
    with stub(lambda path, _: fault(503) if "chat" in path else {}) as server:
        files = ("--first", captions, "--second", captions, "--judge-tries", 1)
        judge = ("--judge", server.url, "--judge-model", "m")
        code, _, err = run("eval", "caption-duel", photos, *files, *judge, "--out", "duel")
    assert code == 1
    assert "5 items running failed" in err
    assert len((tmp_path / "duel/items.jsonl").read_text().splitlines()) == 5


def test_a_model_audited_against_itself_gives_no_alarm(run, auditing):
    code, out, _ = run(*auditing, "--out", "run", "--json")
    assert code == 0
    values = {x["name"]: x["value"] for x in json.loads(out)["scores"]}
    cells = {x for name, x in values.items() if name.endswith("decoder: clip")}
    assert len(cells) == 1
    assert json.loads(out)["settings"]["options"]["reward"] == ["clip"]


def test_an_audit_asks_both_sides_questions_and_is_taken_up_again(run, auditing, tmp_path):
    write_scenes(tmp_path / "scenes", 12, "test", seed=0, size_px=64, questions_per_subtask=2)
    asking = (*auditing, "--questions", tmp_path / "scenes" / QUESTIONS, "--out", "run", "--json")
    code, first, err = run(*asking)
    assert code == 0, err
    for side in ("before", "after"):
        result = json.loads((tmp_path / "run" / "questions" / side / "result.json").read_text())
        assert result["num_items"] == 10
    audits = json.loads((tmp_path / "run" / "audits.json").read_text())
    [understanding] = (audit for audit in audits if audit["name"] == "Understanding")
    assert understanding["status"] != "not measured"
    assert run(*asking)[:2] == (code, first)
    settings = json.loads(first)["settings"]
    assert len(settings["data"]["questions understanding"]) == 64
    assert settings["options"]["prompt"] == "vlmevalkit"
    assert "after understanding" in {x["name"] for x in json.loads(first)["scores"]}
    code, _, err = run(*asking, "--prompt", "compact")
    assert code == 2
    assert "options.prompt" in err


@pytest.mark.parametrize("text", [None, "index\tquestion\n1\twhat?\n"])
def test_questions_that_are_not_there_or_wrong_are_found_before_anything_is_made(
    run, auditing, tmp_path, text
):
    if text:
        (tmp_path / "q.tsv").write_text(text)
    code, _, err = run(*auditing, "--questions", "q.tsv", "--out", "run")
    assert code == 2
    assert "q.tsv" in err
    assert not (tmp_path / "run").exists()


def test_questions_whose_images_do_not_open_are_named_and_counted(run, auditing, tmp_path):
    write_scenes(tmp_path / "scenes", 12, "test", seed=0, size_px=64, questions_per_subtask=1)
    csv.field_size_limit(2**30)
    with (tmp_path / "scenes" / QUESTIONS).open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    for row in rows[:3]:
        row["image"] = base64.b64encode(b"no image at all").decode()
    with (tmp_path / "q.tsv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    asking = (*auditing, "--questions", "q.tsv", "--allow-missing", "--out", "run", "--json")
    code, out, err = run(*asking)
    assert code == 4
    result = json.loads(out)
    assert result["num_excluded"] == 3
    for row in rows[:3]:
        assert f"understanding question {row['index']}: image: " in err
    scores = {x["name"]: x for x in result["scores"]}
    assert scores["after understanding"]["n"] == len(rows) - 3
    assert scores["after understanding"]["num_excluded"] == 3


def test_a_reward_that_is_no_backbone_is_refused(run, auditing):
    code, _, err = run(*auditing, "--reward", "dino", "--out", "run")
    assert code == 2
    assert "--reward dino: expected one of clip, dinov2" in err
