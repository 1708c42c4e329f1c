"""`uae eval BENCHMARK-images` by generators of every kind: drawn, stopped, failed, refused."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from test_judged import PP_LINES, lines
from test_unified_bench_command import hub_model

from tests.stub_endpoint import fault, painted, refusing, stub
from uae.backends import diffusers as halves
from uae.backends import own
from uae.backends import reference as spec
from uae.benchmarks.image_origin import drawn_by

TEXTS = ("a red circle", "two blue bars", "a green square")
G2_LINES = [
    {"prompt": x, "atom_count": 1, "vqa_list": [["Is it?", "Yes"]], "skills": ["object"]}
    for x in TEXTS
]
GENEVAL_LINES = [
    {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": x}
    for x in TEXTS
]


@dataclass(frozen=True)
class Case:
    """A command with its prompts, and the files that it draws: three, of so many samples each."""

    tokens: tuple[object, ...]
    files: tuple[str, str, str]
    num_samples: int = 1


@pytest.fixture(params=["geneval", "dpg", "geneval2", "geneval-pp"])
def case(request, tmp_path) -> Case:
    jsonl = tmp_path / "prompts.jsonl"
    given = ("eval", f"{request.param}-images", "--out", "drawn", "--prompts")
    if request.param == "geneval":
        few = ("--num-samples", 1)
        files = tuple(f"0000{i}/samples/0000.png" for i in range(3))
        return Case((*given, lines(jsonl, GENEVAL_LINES), *few), files)
    if request.param == "dpg":
        (tmp_path / "dpg").mkdir()
        for name, text in zip("abc", TEXTS, strict=True):
            (tmp_path / f"dpg/{name}.txt").write_text(text)
        return Case((*given, "dpg"), ("a.png", "b.png", "c.png"), 4)
    if request.param == "geneval2":
        return Case((*given, lines(jsonl, G2_LINES)), ("0000.png", "0001.png", "0002.png"))
    pp = [PP_LINES[0] | {"prompt": text} for text in TEXTS]
    return Case((*given, lines(jsonl, pp)), ("1.jpg", "2.jpg", "3.jpg"))


@pytest.fixture
def no_loading(monkeypatch) -> Callable[[], None]:
    """Return what makes any further loading of a model fail."""

    def forbid(*_, **__):
        raise AssertionError("a model was loaded")

    def end() -> None:
        monkeypatch.setattr(own, "load", forbid)
        monkeypatch.setattr(halves.AutoPipelineForText2Image, "from_pretrained", forbid)

    return end


def files_in(folder: str) -> dict[str, bytes]:
    files = (path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_pipeline_draws_and_goes_on_to_the_same_files(run, case, pipeline_folder, no_loading):
    command = (*case.tokens, "--model", f"diffusers:{pipeline_folder}")
    code, out, err = run(*command, "--json")
    assert code == 0
    assert "drawing 3/3" in err
    assert "pipeline components" not in err
    values = json.loads(out)
    assert (values["num_drawn"], values["num_left_out"], values["left_out"]) == (3, 0, {})
    before = files_in("drawn")
    assert set(case.files) <= before.keys()
    assert len({before[file] for file in case.files}) == 3, "two prompts share an image"
    with Image.open(f"drawn/{case.files[0]}") as image:
        side = 16 * round(case.num_samples**0.5)
        assert image.size == (side, side)
        squares = {
            image.crop((x, y, x + 16, y + 16)).tobytes()
            for x in range(0, side, 16)
            for y in range(0, side, 16)
        }
    assert len(squares) == case.num_samples, "two samples share their noise"

    torn, gone = (Path("drawn", file) for file in case.files[:2])
    torn.write_bytes(torn.read_bytes()[:40])
    gone.unlink()
    assert "drawn   2, 1 kept" in run(*command, "--format", "human")[1]
    assert files_in("drawn") == before

    no_loading()
    assert run(*command)[0] == 0  # all is there
    for other, said in (
        (("--seed", 1), "seed: 0 in the run, 1 now"),
        (("--dtype", "bfloat16"), "dtype: float32 in the run, bfloat16 now"),
        (("--size", "32x32"), "size: absent in the run, 32x32 now"),
    ):
        code, _, err = run(*command, *other)
        assert (code, said in err) == (2, True), err
    for other in ("uae-tiny", "endpoint:m@http://localhost:1/v1"):
        code, _, err = run(*command[:-1], other)
        assert code == 2
        assert f"(model: diffusers:{pipeline_folder} in the run, {other} now; model_sha256" in err
    assert files_in("drawn") == before


def test_what_an_address_does_not_draw_is_left_out_by_reason_and_tried_again(run, case):
    def answer(_, body):
        if body.get("prompt") == TEXTS[1]:
            return fault(400, "no such thing", "content_policy_violation")
        return painted(body)

    with stub(answer) as server:
        command = (*case.tokens, "--model", f"endpoint:painter@{server.url}")
        code, out, err = run(*command, "--json")
        assert code == 4
        values = json.loads(out)
        assert (values["num_drawn"], values["num_left_out"]) == (2, 1)
        assert values["left_out"] == {"generator: refused": 1}
        assert "left out 1 of 3 images: the same command tries again" in err
        assert f"  drawn/{case.files[1]}: generator: refused: Error code: 400 - no such" in err
        assert not Path("drawn", case.files[1]).exists()
        assert len(server.asked) == 2 * case.num_samples + 1
        kept = files_in("drawn")
        assert run(*command, "--format", "human")[1].count("drawn   0, 2 kept, 1 left out") == 1

        server.answer = lambda _, body: painted(body)
        assert run(*command, "-q")[0] == 0
        assert kept.items() <= files_in("drawn").items()
        whole = ["whole" if token == "drawn" else token for token in command]
        assert run(*whole, "-q")[0] == 0
        pictures = [files_in(folder)[file] for folder in ("drawn", "whole") for file in case.files]
        assert pictures[:3] == pictures[3:]
        asked = [(body["prompt"], body["seed"]) for body in server.asked[-3 * case.num_samples :]]
        assert len(set(asked)) == len({seed for _, seed in asked}) == 3 * case.num_samples


def test_a_seed_that_an_address_refuses_is_said_of_the_images(run, case):
    with stub(refusing("seed", answer=painted({}))) as server:
        command = (*case.tokens, "--model", f"endpoint:painter@{server.url}", "--json")
        code, out, _ = run(*command)
        assert (code, json.loads(out)["refused"]) == (0, ["seed"])
        server.answer = lambda *_: fault(503)
        assert json.loads(run(*command)[1])["refused"] == ["seed"]  # all are drawn already
    assert drawn_by(Path("drawn"))["refused"] == ["seed"]


def test_an_address_that_is_down_ends_the_run(run, tmp_path):
    prompts = lines(tmp_path / "prompts.jsonl", GENEVAL_LINES)
    with stub(lambda *_: fault(503, "gone")) as server:
        model = ("--model", f"endpoint:painter@{server.url}")
        command = ("eval", "geneval-images", *model, "--prompts", prompts, "--out", "drawn")
        code, out, err = run(*command)
    assert (code, out) == (1, "")
    assert "5 items running failed, geneval/1/0 last (generator: server error: " in err
    assert "drawn keeps all that is done: mend the generator, then repeat the command" in err
    assert not list(Path("drawn").rglob("*.png"))


def test_a_uae_model_may_be_given_by_its_kind(run, case, random_model_folder, no_loading):
    assert run(*case.tokens, "--model", random_model_folder, "-q")[0] == 0
    before = files_in("drawn")
    origin = json.loads(before["images.json"])
    assert list(origin) == ["model", "model_sha256", "seed", "prompts", "prompts_sha256"]
    assert origin["model"] == str(random_model_folder)
    code, out, _ = run(*case.tokens, "--model", f"uae:{random_model_folder}", "--json")
    assert (code, json.loads(out)["num_kept"]) == (0, 3)
    assert files_in("drawn") == before


def test_a_pipeline_of_the_hub_is_named_by_its_commit(run, tmp_path, pipeline_folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    load = halves.AutoPipelineForText2Image.from_pretrained
    loaded = []

    def from_pretrained(name, *, revision, **options):
        loaded.append((name, revision))
        return load(pipeline_folder, **options)

    monkeypatch.setattr(halves.AutoPipelineForText2Image, "from_pretrained", from_pretrained)
    prompts = lines(tmp_path / "prompts.jsonl", GENEVAL_LINES[:1])
    command = ("eval", "geneval-images", "--model", "diffusers:them/tiny", "--prompts", prompts)
    ends = []
    for commit in ("a" * 40, "b" * 40):
        hub_model(tmp_path / "hub", commit, "model_index.json")
        spec._commit.cache_clear()
        ends.append(run(*command, "--num-samples", 1, "--out", "drawn", "--json"))
    assert json.loads(ends[0][1])["commit"] == "a" * 40
    assert loaded == [("them/tiny", "a" * 40)]
    assert ends[1][0] == 2
    assert f"commit: {'a' * 40} in the run, {'b' * 40} now" in ends[1][2]


@pytest.fixture
def upscaler(pipeline_folder, tmp_path) -> Path:
    """A folder of a pipeline that draws from no text."""
    folder = tmp_path / "upscaler"
    folder.mkdir()
    index = json.loads((pipeline_folder / "model_index.json").read_text())
    values = index | {"_class_name": "LDMSuperResolutionPipeline"}
    (folder / "model_index.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--model", "."), "--model uae:. is no model folder (it has no uae.json): expected a "),
        (("--model", "run"), "it is the folder of a run: name its model, run/model; a model of"),
        (("--model", "sd/x/y"), "a model of another kind is named KIND:NAME"),
        (("--model", "folder:x"), "--model uae:folder:x is no model folder"),
        (("--model", "diffusers:"), "--model diffusers:: expected one of uae:..., diffusers:..."),
        (("--model", "diffusers:."), "error: --model diffusers:. cannot be loaded"),
        (("--model", "diffusers:upscaler"), "diffusers:upscaler is no text-to-image pipeline"),
        (("--model", "endpoint:x"), "--model endpoint:x: expected endpoint:MODEL@URL"),
        (("--model", "endpoint:m@http://127.0.0.1:9/v1"), "http://127.0.0.1:9/v1 does not answer"),
        (("--model", "endpoint:m@http://u:p@host/v1"), "is no address"),
        (("--model", "diffusers:x", "--rewrite"), "--rewrite with --model diffusers:x: the enc"),
        (("--model", "endpoint:m@http://h/v1", "--rewrite"), "leave --rewrite out, or give a uae"),
        (("--dtype", "int8"), "--dtype"),
        (("--dtype", "float16"), "--dtype float16 is for vlm or diffusers models"),
        (("--size", "64x64"), "--size 64x64 with --model uae:uae-tiny: a uae model draws in one"),
        (("--model", "diffusers:.", "--size", "64"), "--size 64: expected WIDTHxHEIGHT"),
        (("--model", "diffusers:.", "--size", "0x64"), "--size 0x64: expected WIDTHxHEIGHT"),
    ],
)
def test_bad_input_names_the_flag_and_what_would_be_right(run, upscaler, options, said, tmp_path):
    prompts = lines(tmp_path / "prompts.jsonl", GENEVAL_LINES)
    (tmp_path / "run/model").mkdir(parents=True)
    (tmp_path / "run/model/uae.json").write_text("{}")
    code, out, err = run("eval", "geneval-images", "--prompts", prompts, *options, "--out", "drawn")
    assert (code, out) == (2, "")
    assert said in err
    assert not Path("drawn").exists()


def test_a_pipeline_is_not_let_into_another_folder(run, case, pipeline_folder, no_loading):
    no_loading()
    Path("drawn").mkdir()
    Path("drawn/notes.txt").write_text("mine")
    code, _, err = run(*case.tokens, "--model", f"diffusers:{pipeline_folder}")
    assert code == 2
    assert "was not written by this command" in err
