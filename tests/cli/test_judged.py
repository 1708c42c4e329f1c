"""DPG-Bench, GenEval 2 and GenEval++ from the command line: drawn by a tiny model, judged by it."""

import json
import math
from pathlib import Path

import pytest
from PIL import Image
from stub_endpoint import DIE, fault, said, stub

from uae.backends import own as loop
from uae.benchmarks.dpg.prompts import COLUMNS
from uae.benchmarks.image_origin import ORIGIN
from uae.benchmarks.rewriting import INSTRUCTION
from uae.runs.cut_captions import CUT

KEY = "sk-secret-1234567890"
DPG_ROWS = (
    ("a", 1, 0, "entity - whole (circle)", "Is there a circle?"),
    ("a", 2, 1, "attribute - color (circle)", "Is it red?"),
    ("b", 1, 0, "entity - whole (bar)", "Is there a bar?"),
)
G2_LINES = (
    {
        "prompt": "two red circles",
        "atom_count": 3,
        "vqa_list": [["How many?", "two"], ["Red?", "Yes"]],
        "skills": ["count", "attribute"],
    },
)
PP_LINES = (
    {"tag": "counting", "include": [{"class": "cat", "count": 3}], "prompt": "three cats"},
    {"tag": "color_attr", "include": [{"class": "cup", "count": 1}], "prompt": "a cup"},
)


def lines(path: Path, values) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in values))
    return path


@pytest.fixture
def dpg(tmp_path):
    (tmp_path / "prompts").mkdir()
    for name in "ab":
        (tmp_path / f"prompts/{name}.txt").write_text("A large red circle.")
    rows = [",".join(COLUMNS), *(",".join(map(str, row)) for row in DPG_ROWS)]
    (tmp_path / "q.csv").write_text("\n".join(rows) + "\n")
    return ("--prompts", "prompts", "--csv", "q.csv")


@pytest.fixture
def g2(tmp_path):
    return ("--prompts", lines(tmp_path / "g2.jsonl", G2_LINES))


@pytest.fixture
def pp(tmp_path):
    return ("--prompts", lines(tmp_path / "pp.jsonl", PP_LINES))


@pytest.fixture
def pp_images(tmp_path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in (1, 2):
        Image.new("RGB", (8, 8), "red").save(folder / f"{i}.jpg")
    return folder


def scores_of(out: str) -> dict[str, dict]:
    return {score["name"]: score for score in json.loads(out)["scores"]}


# -- drawn and judged by the same tiny model ------------------------------------------------------


def test_dpg_from_prompts_to_scores(
    run, dpg, random_model_folder, answering_folder, tmp_path, monkeypatch
):
    draw = ("eval", "dpg-images", "--model", random_model_folder, *dpg[:2], "--out", "drawn")
    code, out, _ = run(*draw, "--format", "human", "--batch-size", 4)
    assert code == 0
    assert "drawn   2, 0 kept" in out
    with Image.open("drawn/a.png") as grid:
        side = grid.width // 2
        assert grid.size == (2 * side, 2 * side)
        quarters = {
            grid.crop((x, y, x + side, y + side)).tobytes() for x in (0, side) for y in (0, side)
        }
    assert len(quarters) == 4, "two samples share their noise"
    before = Path("drawn/b.png").read_bytes()
    Path("drawn/b.png").unlink()
    assert json.loads(run(*draw, "--json", "--batch-size", 8)[1])["num_drawn"] == 1
    assert Path("drawn/b.png").read_bytes() == before
    assert run(*draw, "--num-images", 1)[0] == 2, "grids are not mixed with single images"

    judge = ("--judge", f"local:{answering_folder}", "--out", "scored")
    code, _, err = run("eval", "dpg", "drawn", *dpg, *judge, "--num-images", 1)
    assert code == 2
    assert "'dpg, 4 a prompt', asked for is 'dpg, 1 a prompt'" in err
    code, out, err = run("eval", "dpg", "drawn", *dpg, *judge, "--json")
    assert code == 0
    assert json.loads(out)["settings"]["options"]["drawn_by"]["seed"] == 0
    assert "dpg 8/8" in err
    assert json.loads(out)["settings"]["benchmark"] == "dpg-other-judge"
    assert scores_of(out)["DPG"]["n"] == 2
    assert {"L1/entity", "L2/attribute - color"} <= set(scores_of(out))
    monkeypatch.setattr(loop, "load", None)
    assert run("eval", "dpg", "drawn", *dpg, *judge, "--json")[1] == out
    same = ("--judge", f"vlm:{answering_folder}", "--out", "scored")
    assert run("eval", "dpg", "drawn", *dpg, *same, "--json")[1] == out
    code, _, err = run("eval", "dpg", "drawn", *dpg, *judge, "--compat")
    assert code == 2
    assert "version: uae-dpg-2 in the run, uae-dpg-2-compat now" in err


def test_geneval2_from_prompts_to_scores(run, g2, random_model_folder, answering_folder):
    draw = ("eval", "geneval2-images", "--model", random_model_folder, *g2, "--out", "drawn")
    code, out, _ = run(*draw, "-q")
    assert (code, out) == (0, "drawn/paths.json\n")
    table = json.loads(Path("drawn/paths.json").read_text())
    assert all(Path(path).is_absolute() for path in table.values())
    judge = ("--judge", f"local:{answering_folder}", "--out", "scored")
    code, out, _ = run("eval", "geneval2", "drawn/paths.json", *g2, *judge, "--format", "human")
    assert code == 0
    assert "geneval2-other-judge (uae-geneval2-2), judge local" in out
    assert "AM/skill/count" in out
    code, out, err = run("compare", "scored", "scored", "--json")
    assert (code, err) == (0, "")


def test_a_judged_run_names_the_wording_of_its_prompts(
    run, g2, random_model_folder, answering_folder
):
    draw = ("eval", "geneval2-images", "--model", random_model_folder, *g2, "--out", "drawn")
    code, out, _ = run(*draw, "--rewrite", "--json")
    assert code == 0
    assert json.loads(out)["wording"] == "rewritten by the encoder"
    [(prompt, drawn)] = json.loads(Path("drawn/paths.json").read_text()).items()
    assert prompt == "two red circles", "the scorer asks for the prompt"
    judge = ("--judge", f"local:{answering_folder}", "--out", "scored")
    code, out, _ = run("eval", "geneval2", "drawn/paths.json", *g2, *judge, "--format", "human")
    assert code == 0
    assert "\nprompts rewritten by the encoder\n" in out
    result = json.loads(Path("scored/result.json").read_text())
    assert result["settings"]["options"]["instruction"] == INSTRUCTION
    Path("raw").mkdir()
    Image.open(drawn).save("raw/0.png")
    second = {"prompt": "a bar", "atom_count": 1, "vqa_list": [["A bar?", "Yes"]]}
    lines(Path("g2.jsonl"), [*G2_LINES, {**second, "skills": ["object"]}])
    table = {prompt: "raw/0.png", "a bar": drawn}
    Path("both.json").write_text(json.dumps(table))
    code, _, err = run("eval", "geneval2", "both.json", *g2, *judge[:2], "--out", "mixed")
    assert code == 2
    assert "show prompts in different wordings" in err


@pytest.mark.parametrize("benchmark", ["dpg", "geneval2"])
@pytest.mark.parametrize("nonsense", ["I", "Sorry"])
def test_a_judge_that_says_something_else_gives_no_score(
    run, dpg, g2, tmp_path, benchmark, nonsense
):
    for name in ("x", "a", "b"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    (tmp_path / "paths.json").write_text(json.dumps({"two red circles": "x.png"}))
    (tmp_path / "x.png").rename(tmp_path / "prompts/x.png")
    (tmp_path / "paths.json").write_text(json.dumps({"two red circles": "prompts/x.png"}))
    given = {"dpg": (".", *dpg), "geneval2": ("paths.json", *g2)}[benchmark]
    num_questions, score = {"dpg": (8, "DPG"), "geneval2": (2, "AM")}[benchmark]
    top = {nonsense: math.log(0.9), "No": math.log(0.01)}
    with stub(lambda *_: said(nonsense, top=top)) as server:
        judge = ("--judge", server.url, "--judge-model", "m", "--out", "scored", "--json")
        code, out, err = run("eval", benchmark, *given, *judge)
    assert code == 4
    found = scores_of(out)[score]
    assert (found["value"], found["n"]) == (None, 0)
    [left_out] = json.loads(out)["excluded"]
    assert left_out["reason"] == "judge: no verdict"
    assert len(left_out["items"]) == num_questions
    assert f"left out {num_questions} of" in err


def test_geneval_pp_images_are_jpegs_named_by_line(run, pp, random_model_folder):
    draw = ("eval", "geneval-pp-images", "--model", random_model_folder, *pp, "--out", "drawn")
    assert run(*draw, "-q")[0] == 0
    names = sorted(path.name for path in Path("drawn").iterdir())
    assert names == ["1.jpg", "2.jpg", CUT, ORIGIN]
    with Image.open("drawn/1.jpg") as image:
        assert image.format == "JPEG"
    other = ("--prompts", lines(Path("other.jsonl"), PP_LINES[::-1]))
    judge = ("--judge", f"local:{random_model_folder}", "--out", "scored")
    code, _, err = run("eval", "geneval-pp", "drawn", *other, *judge)
    assert code == 2
    assert "drawn holds images of other prompts: its images.json has prompts_sha256" in err
    assert not Path("scored").exists()
    code = run("eval", "geneval-pp", "drawn", *pp, *judge)[0]
    assert code in (0, 4), "the tiny judge may give no verdict"


# -- judged behind an address ---------------------------------------------------------------------


def test_an_address_judges_and_its_key_is_written_nowhere(run, pp, pp_images, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    with stub(lambda *_: said('{"correct": 1, "reason": "good"}')) as server:
        judge = ("--judge", server.url, "--judge-model", "gpt-4.1", "--judge-key-env", "JUDGE_KEY")
        code, out, err = run(
            "eval", "geneval-pp", pp_images, *pp, *judge, "--out", "scored", "--json"
        )
    assert code == 0
    assert server.keys == [f"Bearer {KEY}"] * 2
    assert json.loads(out)["settings"]["benchmark"] == "geneval-pp"
    assert scores_of(out)["overall"]["value"] == 1
    assert KEY not in out + err
    assert not [path for path in Path("scored").rglob("*") if KEY in path.read_text()]


def test_an_address_that_refuses_the_key_half_way_is_taken_up_again(run, pp, pp_images):
    def answer(_path, body):
        is_first = "three cats" in str(body) or not body
        return said('{"correct": 1}') if is_first or is_up else fault(401)

    is_up = False
    with stub(answer) as server:
        judge = ("--judge", server.url, "--judge-model", "m", "--judge-tries", 1)
        command = ("eval", "geneval-pp", pp_images, *pp, *judge, "--out", "scored")
        code, out, err = run(*command)
        assert (code, out) == (2, "")
        assert "OPENAI_API_KEY" in err
        is_up = True
        code, out, _ = run(*command, "--json")
    assert code == 0
    assert scores_of(out)["overall"]["n"] == 2
    assert len(server.asked) == 3


def test_an_address_that_is_gone_half_way_is_taken_up_again(run, tmp_path):
    values = [{**PP_LINES[1], "prompt": f"cup {i}"} for i in range(9)]
    prompts = ("--prompts", lines(tmp_path / "pp.jsonl", values))
    (tmp_path / "images").mkdir()
    for i in range(1, 10):
        Image.new("RGB", (8, 8), "red").save(tmp_path / f"images/{i}.jpg")

    def dying(_path, body):
        if "cup 3" in str(body):
            first.close()  # in the middle of an answer, and nothing listens from then on
            return DIE
        return said('{"correct": 1}')

    with stub(dying) as first:
        judge = ("--judge", first.url, "--judge-model", "m", "--judge-tries", 1)
        command = ("eval", "geneval-pp", "images", *prompts, *judge, "--out", "scored")
        code, out, err = run(*command)
    assert (code, out) == (1, "")
    assert "5 items running failed, 8 last (judge: connection lost" in err
    assert len(first.asked) == 4
    code, _, err = run(*command)
    assert code == 2
    assert "does not answer" in err
    port = int(first.url.split(":")[2].removesuffix("/v1"))
    with stub(lambda *_: said('{"correct": 1}'), port) as again:
        code, out, _ = run(*command, "--retry-failed", "--json")
    assert code == 0
    assert len(again.asked) == 6
    assert (scores_of(out)["overall"]["value"], scores_of(out)["overall"]["n"]) == (1, 9)


def test_probabilities_come_from_an_address_that_tells_them(run, g2, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    (tmp_path / "paths.json").write_text(json.dumps({"two red circles": "x.png"}))
    tops = {"two": math.log(0.25), "Yes": math.log(0.5)}
    with stub(lambda *_: said("two", top=tops)) as server:
        judge = ("--judge", f"endpoint:m@{server.url}")
        command = ("eval", "geneval2", "paths.json", *g2, *judge)
        code, out, _ = run(*command, "--out", "scored", "--json")
        assert code == 0
        assert scores_of(out)["AM"]["value"] == pytest.approx(0.375)
        server.answer = lambda *_: said("two")
        code, _, err = run(*command, "--out", "other")
    assert code == 2
    assert "tells no log-probabilities" in err


def test_an_incomplete_set_is_refused_or_marked(run, pp, pp_images):
    (pp_images / "2.jpg").unlink()
    with stub(lambda *_: said('{"correct": 1}')) as server:
        judge = ("--judge", server.url, "--judge-model", "m")
        command = ("eval", "geneval-pp", pp_images, *pp, *judge, "--out", "scored")
        code, out, err = run(*command)
        assert (code, out) == (2, "")
        assert "1 missing images: 2" in err
        assert not server.asked
        code, out, err = run(*command, "--allow-missing", "--format", "human")
    assert code == 4
    assert "INCOMPLETE, no score of the benchmark: 1 missing images: 2" in out
    assert json.loads(Path("scored/result.json").read_text())["marks"][0] in out
    assert "the set of images is incomplete" in err


# -- what cannot work -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("judge", "said_of_it"),
    [
        (["--judge", "mine"], "--judge mine: expected local:FOLDER"),
        (["--judge", "local:"], "expected a folder or hub id after the colon"),
        (["--judge", "vlm:"], "expected a folder or hub id after the colon"),
        (["--judge", "vlm:x", "--judge-model", "m"], "--judge-model m is for an address"),
        (["--judge", "vlm:images"], "--judge vlm:images"),
        (["--judge", "endpoint:m"], "expected endpoint:MODEL@URL"),
        (["--judge", "endpoint:m@http://127.0.0.1:1/v1"], "does not answer"),
        (["--judge", "uae:uae-tiny"], "expected local:FOLDER"),
        (["--judge", "local:x", "--judge-model", "m"], "--judge-model m is for an address"),
        (["--judge", "http://127.0.0.1:1/v1"], "give --judge-model"),
        (["--judge", "http://127.0.0.1:1/v1", "--judge-model", "m"], "does not answer"),
        (["--judge", "http://u:p@x/v1", "--judge-model", "m"], "by the environment"),
        (["--judge", "local:./nowhere"], "--judge local:./nowhere cannot be loaded"),
        (["--judge", "local:images"], "--judge local:images"),
        ([], "--judge"),
    ],
)
def test_a_judge_that_is_none_is_refused(run, pp, pp_images, judge, said_of_it):
    code, out, err = run("eval", "geneval-pp", pp_images, *pp, *judge, "--out", "scored")
    assert (code, out) == (2, "")
    assert said_of_it in " ".join(err.replace("│", " ").split())
    assert not Path("scored").exists()


def test_a_judge_that_sees_no_images_is_refused(run, pp, pp_images, tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 8}
    LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=1)).save_pretrained("llama")
    judge = ("--judge", "local:llama", "--out", "scored")
    code, _, err = run("eval", "geneval-pp", pp_images, *pp, *judge)
    assert code == 2
    assert "--judge local:llama is no vision-language model" in err


@pytest.mark.parametrize("command", ["dpg-images", "geneval2-images", "geneval-pp-images"])
def test_images_are_not_drawn_among_other_files(run, command, dpg, g2, pp, random_model_folder):
    prompts = {"dpg-images": dpg[:2], "geneval2-images": g2, "geneval-pp-images": pp}[command]
    code, out, err = run("eval", command, "--model", random_model_folder, *prompts, "--out", ".")
    assert (code, out) == (2, "")
    assert "was not written by this command" in err
