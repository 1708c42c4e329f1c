"""A recipe from file, environment and flags: what goes before what, and what is refused and how."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from uae.core.errors import UsageError
from uae.core.yaml_text import to_yaml
from uae.recipe.decoder_rl import OBJECTIVES
from uae.recipe.keys import RecipeKey, recipe_keys
from uae.recipe.loading import (
    RECIPES,
    Setting,
    build,
    find_recipe,
    read_environment,
    read_file,
    read_flags,
)
from uae.recipe.recipe import Recipe

KEYS = recipe_keys()
LEAVES = [key for key in KEYS.values() if key.kind]


def in_file(folder: Path, text: str) -> list[Setting]:
    path = folder / "mine.yaml"
    path.write_text(text)
    return read_file(path, KEYS)


def message(call, *arguments) -> str:
    with pytest.raises(UsageError) as caught:
        call(*arguments)
    return str(caught.value)


def value_of(config: object, name: str) -> object:
    for part in name.split("."):
        config = getattr(config, part)
    return config


# -- the keys are those of the dataclasses --------------------------------------------------------


def leaves_of(config: object, prefix: str = "") -> dict[str, object]:
    found = {}
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            found |= leaves_of(value, f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = value
    return found


def test_keys_and_defaults_are_those_of_the_dataclasses():
    section = "decoder_rl.objective."
    expected = {name: str(value) for name, value in leaves_of(Recipe()).items()}
    for name, settings in OBJECTIVES.items():
        of_objective = {k: str(v) for k, v in leaves_of(settings(), section).items()}
        own = {key.name for key in LEAVES if name in key.only_with} | {f"{section}name"}
        assert of_objective.keys() == own
        expected = of_objective | expected
    assert {key.name: key.default for key in LEAVES} == expected


@pytest.mark.parametrize("key", KEYS.values(), ids=lambda key: key.name)
def test_every_key_says_what_it_is(key: RecipeKey):
    assert len(key.help) > 3


# -- precedence -----------------------------------------------------------------------------------


def test_a_flag_goes_before_the_environment_and_that_before_the_file(tmp_path):
    file = in_file(tmp_path, "seed: 1\ncheckpoint_every: 1\nencoder_rl: {kl_beta: 0.1}")
    environment = read_environment({"UAE_SEED": "2", "UAE_CHECKPOINT_EVERY": "2"}, KEYS)
    recipe = build(Recipe, file, environment, read_flags(["--seed", "3"], KEYS))
    assert (recipe.seed, recipe.checkpoint_every, recipe.encoder_rl.kl_beta) == (3, 2, 0.1)


def test_one_key_of_a_section_leaves_the_others_as_the_recipe_has_them(tmp_path):
    recipe = build(Recipe, in_file(tmp_path, "tune_pretrain: {rank: 4}"))
    assert recipe.tune_pretrain.rank == 4
    assert recipe.tune_pretrain.mode == "full", "the class's default is lora"
    recipe = build(Recipe, read_flags(["--encoder-rl.optimizer.warmup-steps", "3"], KEYS))
    assert recipe.encoder_rl.optimizer.lr == Recipe().encoder_rl.optimizer.lr


def test_a_table_is_replaced_by_the_source_that_names_an_entry(tmp_path):
    file = in_file(tmp_path, "reward: {clip: 0.5, other: 0.5}")
    flags = read_flags(["--reward.clip", "1", "--reward.dinov2=2"], KEYS)
    assert build(Recipe, file, flags).reward == {"clip": 1.0, "dinov2": 2.0}
    assert build(Recipe, file).reward == {"clip": 0.5, "other": 0.5}
    environment = read_environment({"UAE_REWARD_DINOV2": "3"}, KEYS)
    assert build(Recipe, file, environment).reward == {"dinov2": 3.0}


def test_the_printed_recipe_gives_the_recipe_again(tmp_path):
    recipe = build(Recipe, read_flags(["--encoder-rl.kl-beta=0.1", "--reward.x=2"], KEYS))
    text = yaml.safe_dump(TypeAdapter(Recipe).dump_python(recipe, mode="json"))
    assert build(Recipe, in_file(tmp_path, text)) == recipe


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_packaged_recipe_is_one(path: Path):
    assert find_recipe(path.stem) == path
    assert build(Recipe, read_file(path, KEYS)) != Recipe()


# -- how values are written -----------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1e-5", "1.0e-5", "0.00001"])
def test_small_numbers_in_all_three_sources(tmp_path, text):
    sources = [
        in_file(tmp_path, f"encoder_rl: {{kl_beta: {text}}}"),
        read_environment({"UAE_ENCODER_RL_KL_BETA": text}, KEYS),
        read_flags(["--encoder-rl.kl-beta", text], KEYS),
        read_flags([f"--encoder_rl.kl_beta={text}"], KEYS),
    ]
    assert [build(Recipe, source).encoder_rl.kl_beta for source in sources] == [1e-5] * 4


def test_a_negative_number_is_a_value_and_text_is_taken_as_it_is():
    assert read_flags(["--pretrain.sigma-mean", "-0.5"], KEYS)[0].value == -0.5
    assert read_flags(["--data.folder", "2026"], KEYS)[0].value == "2026"
    assert read_flags(["--data.folder", "a: b"], KEYS)[0].value == "a: b"


def test_a_switch_needs_no_value():
    assert [s.value for s in read_flags(["--track", "--seed", "1"], KEYS)] == [True, 1]
    assert build(Recipe, read_flags(["--track"], KEYS)).track is True
    assert build(Recipe, read_flags(["--track", "false"], KEYS)).track is False


@pytest.mark.parametrize("text", ["off", "on", "yes", "no", "Off", "NO"])
def test_true_and_false_alone_are_booleans_in_a_file(tmp_path, text):
    file = in_file(tmp_path, f"gate: off\ndata: {{folder: {text}}}\ntrack: true")
    recipe = build(Recipe, file)
    assert (recipe.gate, recipe.data.folder, recipe.track) == ("off", text, True)
    printed = yaml.safe_dump(TypeAdapter(Recipe).dump_python(recipe, mode="json"))
    assert build(Recipe, in_file(tmp_path, printed)) == recipe


REFUSED = None
"""The value is refused with file, line and key."""


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("10", 10),
        ("010", 10),
        ("0o10", REFUSED),
        ("0x10", REFUSED),
        ("0b11", REFUSED),
        ("1:30", REFUSED),
        ("1:30.5", REFUSED),
        ("1_000", 1000),
        ("1,000", REFUSED),
        ("1 000", REFUSED),
        ("0,0001", REFUSED),
        ("1e3", 1000),
        ("1E3", 1000),
        ("1.5e3", 1500),
        ("+3", 3),
        (".inf", REFUSED),
        ("-.INF", REFUSED),
        (".nan", REFUSED),
        ("nan", REFUSED),
        ("1e999", REFUSED),
        ("2026-11-30", REFUSED),
        ("2026-11-30 10:00:00", REFUSED),
        ("yes", REFUSED),
        ("on", REFUSED),
        ("true", REFUSED),
        ("~", REFUSED),
        ("=", REFUSED),
        ("50%", REFUSED),
        ("!!int 010", 10),
        ("!!int 1:30", REFUSED),
        ("!!int ten", REFUSED),
        ("!!timestamp 2026-11-30", REFUSED),
    ],
)
@pytest.mark.parametrize("key", ["checkpoint_every", "decoder_rl.max_advantage", "reward.clip"])
def test_a_number_is_read_as_it_is_written_or_refused_by_its_place(tmp_path, key, text, number):
    section, _, name = key.rpartition(".")
    file = in_file(
        tmp_path, f"{section}:\n  {name}: {text}\n" if section else f"\n{name}: {text}\n"
    )
    flag = f"--{key.replace('_', '-')}"
    flags = read_flags([f"{flag}={text}"], KEYS)
    if number is REFUSED:
        line = 1 if section == "reward" else 2  # of a table, where it begins
        assert f"mine.yaml, line {line}: {key} is " in message(build, Recipe, file)
        assert f"{flag}: {key} is " in message(build, Recipe, flags)
        return
    recipe = build(Recipe, file)
    assert (recipe.reward["clip"] if section == "reward" else value_of(recipe, key)) == number
    if not text.startswith("!!"):  # which is of files
        assert build(Recipe, flags) == recipe


TEXTS = ["010", "1:30", "0o10", "1_000", "2026-11-30", "0,5", "=", "y", "NO", "1e-5", ".5", "~", ""]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_that_looks_like_something_else_comes_back_from_a_printed_recipe(tmp_path, text):
    recipe = build(Recipe, [Setting("data.folder", text, "--data.folder")])
    printed = to_yaml(TypeAdapter(Recipe).dump_python(recipe, mode="json"))
    assert build(Recipe, in_file(tmp_path, printed)) == recipe
    assert yaml.safe_load(printed)["data"]["folder"] == text, "other readers agree"


@pytest.mark.parametrize("text", ["010", "1:30", "0o10", "1_000", "2026-11-30", "0,5", "=", "NO"])
def test_a_plain_text_of_a_file_is_taken_as_it_is_written(tmp_path, text):
    assert build(Recipe, in_file(tmp_path, f"data:\n  folder: {text}")).data.folder == text


@pytest.mark.parametrize(("text", "expected"), [("on", True), ("yes", True), ("off", False)])
def test_other_words_for_true_and_false_still_turn_a_switch(tmp_path, text, expected):
    assert build(Recipe, in_file(tmp_path, f"track: {text}")).track is expected
    assert build(Recipe, read_flags(["--track", text], KEYS)).track is expected


def test_an_empty_file_and_an_empty_section_change_nothing(tmp_path):
    assert build(Recipe, in_file(tmp_path, "# all default\n")) == Recipe()
    assert build(Recipe, in_file(tmp_path, "encoder_rl:\n  # kl_beta: 1\n")) == Recipe()


# -- what is refused ------------------------------------------------------------------------------


def test_a_misspelt_key_is_named_with_its_place_and_a_guess(tmp_path):
    text = message(in_file, tmp_path, "seed: 1\nencoder_rl:\n  kl_bta: 0.1\n")
    assert text.startswith(f"{tmp_path / 'mine.yaml'}, line 3: ")
    assert "encoder_rl.kl_bta" in text
    assert text.endswith("did you mean encoder_rl.kl_beta?")
    text = message(read_flags, ["--encoder-rl.kl-bta", "1"], KEYS)
    assert text == "unknown option --encoder-rl.kl-bta: did you mean --encoder-rl.kl-beta?"
    text = message(read_environment, {"UAE_ENCODER_RL_KL_BTA": "1", "HOME": "/"}, KEYS)
    assert "UAE_ENCODER_RL_KL_BTA" in text
    assert text.endswith("did you mean UAE_ENCODER_RL_KL_BETA?")


def test_the_command_s_own_flags_are_guessed_too():
    text = message(read_flags, ["--overwrit"], KEYS, ["--overwrite"])
    assert text.endswith("did you mean --overwrite?")


@given(st.sampled_from(LEAVES), st.data())
def test_a_key_with_a_letter_lost_is_never_taken(key: RecipeKey, data):
    place = data.draw(st.integers(0, len(key.name) - 1))
    wrong = key.name[:place] + key.name[place + 1 :]
    if wrong in KEYS or wrong.startswith("reward."):
        return
    with pytest.raises(UsageError, match=r"did you mean|unknown"):
        read_flags([f"--{wrong}", "1"], KEYS)


def test_a_key_written_twice_is_refused(tmp_path):
    text = message(in_file, tmp_path, "seed: 1\nencoder_rl:\n  kl_beta: 1\n  kl_beta: 2\n")
    assert "line 4: key encoder_rl.kl_beta is there twice, first in line 3" in text
    assert "line 2: key seed" in message(in_file, tmp_path, "seed: 1\nseed: 1\n")
    assert "reward.clip is there twice" in message(in_file, tmp_path, "reward: {clip: 1, clip: 2}")
    assert message(read_flags, ["--seed=1", "--seed=2"], KEYS) == "--seed is given twice: keep one"


@pytest.mark.parametrize("text", ["seed: [1\nother: 2", "\tseed: 1", "seed: 'a", "a: b: c", "%"])
def test_what_is_no_yaml_is_named_with_file_and_line(tmp_path, text):
    assert re.search(r"mine\.yaml, line \d+: not YAML: \w", message(in_file, tmp_path, text))


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"seed: \xff\xfe")
    assert "byte 6 is not UTF-8" in message(read_file, path, KEYS)


@pytest.mark.parametrize("text", ["- seed", "seed", "encoder_rl: 3", "encoder_rl: [1]"])
def test_a_value_where_keys_belong(tmp_path, text):
    assert "holds no keys" in message(in_file, tmp_path, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: ten", "seed is 'ten': expected a whole number"),
        ("seed: 2.5", "seed is 2.5: expected a whole number"),
        ("seed: true", "seed is True: expected a number"),
        ("seed:", "seed is None: expected a whole number"),
        ("track: maybe", "track is 'maybe': expected true or false"),
        ("model: 3", "model is 3: expected text"),
        ("schedule: both", "expected 'encoder', 'decoder', 'alternate' or 'joint'"),
        ("encoder_rl: {kl_beta: high}", "encoder_rl.kl_beta is 'high': expected a number"),
        ("encoder_rl: {kl_beta: .nan}", "expected a finite number"),
        ("reward: {clip: much}", "reward.clip is 'much': expected a number"),
        ("reward: clip", "reward is 'clip': expected names with values"),
        ("placement: {frozen: float16}", "'float32', 'bfloat16', 'float8' or 'nf4'"),
        ("placement: {vae_batch: -1}", "placement.vae_batch is -1: expected 0 or more"),
        ("placement: {offload: decoder}", "placement.offload is 'decoder': expected a list"),
        ("placement: {offload: [vae]}", "expected 'encoder', 'decoder' or 'rewards'"),
        ("checkpoint_every: 0", "checkpoint_every is 0: expected more than 0"),
        ("seed: -1", "seed is -1: expected 0 or more"),
        (
            "decoder_rl: {objective: {window: -2}}",
            "decoder_rl.objective.window is -2: expected more than 0",
        ),
    ],
)
def test_a_mistyped_value_is_named_with_its_place(tmp_path, text, expected):
    said = message(build, Recipe, in_file(tmp_path, text))
    assert "mine.yaml, line 1: " in said
    assert expected in said
    assert "pydantic" not in said


def test_all_mistyped_values_are_said_at_once_each_with_its_source(tmp_path):
    flags = read_flags(["--checkpoint-every", "often"], KEYS)
    lines = message(build, Recipe, in_file(tmp_path, "seed: ten"), flags).splitlines()
    assert len(lines) == 2
    assert any("mine.yaml, line 1: seed" in line for line in lines)
    assert any("--checkpoint-every: checkpoint_every" in line for line in lines)


def test_numbers_that_do_not_divide_are_shown_with_the_sum_and_their_places(tmp_path):
    file = in_file(tmp_path, "encoder_rl: {micro_images: 7}")
    text = message(build, Recipe, file, read_flags(["--encoder-rl.num-images=16"], KEYS))
    assert "16 = 2 x 7 + 2" in text
    assert "encoder_rl.num_images is set by --encoder-rl.num-images" in text
    assert "encoder_rl.micro_images is set by" in text
    assert "mine.yaml, line 1" in text


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["--seed"], "--seed needs a value (int)"),
        (["--seed", "--track"], "--seed needs a value"),
        (["seed=1"], "unexpected argument 'seed=1'"),
        (["--seed", "1", "2"], "unexpected argument '2'"),
        (["--data", "x"], "--data is a section: set a key of it: --data.folder"),
    ],
)
def test_what_is_no_flag_with_a_value(tokens, said):
    assert said in message(read_flags, tokens, KEYS)


def test_an_unknown_recipe_lists_those_there_are(tmp_path):
    assert message(find_recipe, "dmo").endswith("did you mean demo?")
    assert "is a folder" in message(find_recipe, str(tmp_path))
