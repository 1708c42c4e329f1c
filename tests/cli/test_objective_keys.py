"""Keys of the decoder's objective, through `uae train`: from a file, a flag and a variable."""

import pytest
import yaml

MOVED = (
    *("window", "window_starts", "rule", "noise_level", "reduction", "kl_weighting"),
    "num_noisings",
)
"""Keys that stood in `decoder_rl` itself."""


@pytest.fixture(params=["file", "flag", "variable"])
def trained_with(request, run, tmp_path, monkeypatch):
    """Give keys of `decoder_rl` in one form; return exit code, stdout, stderr and their names."""

    def command(**values: str) -> tuple[int, str, str, dict[str, str]]:
        text, tokens, names = "seed: 0\n", [], {}
        for key, value in values.items():
            name = f"decoder_rl.{key.replace('__', '.')}"
            if request.param == "file":
                names[key] = name
            elif request.param == "flag":
                names[key] = "--" + name.replace("_", "-")
                tokens += [names[key], value]
            else:
                names[key] = "UAE_" + name.replace(".", "_").upper()
                monkeypatch.setenv(names[key], value)
        if request.param == "file":
            section: dict = {}
            for key, value in values.items():
                *parents, last = key.split("__")
                place = section
                for parent in parents:
                    place = place.setdefault(parent, {})
                place[last] = yaml.safe_load(value)
            text += yaml.safe_dump({"decoder_rl": section})
        (tmp_path / "mine.yaml").write_text(text)
        return *run("train", "--recipe", "mine.yaml", "--print-config", *tokens), names

    return command


def test_the_settings_are_those_of_the_named_objective(trained_with):
    code, out, _, _ = trained_with(objective__name="awm", objective__num_noisings="3")
    assert code == 0
    objective = yaml.safe_load(out)["decoder_rl"]["objective"]
    assert objective == {"name": "awm", "num_noisings": 3, "min_sigma": 0.75}


def test_an_unknown_objective_is_refused_with_those_there_are(trained_with):
    code, out, err, names = trained_with(objective__name="ppo")
    assert (code, out) == (2, "")
    assert "decoder_rl.objective.name is 'ppo': expected one of flow_grpo, awm, nft\n" in err
    assert len(err.splitlines()) == 1
    source = names["objective__name"]
    assert (source if source.startswith(("--", "UAE_")) else "mine.yaml, line 4") in err


def test_a_key_of_another_objective_is_refused_with_its_place(trained_with):
    code, _, err, names = trained_with(objective__name="awm", objective__window="2")
    assert code == 2
    assert "decoder_rl.objective.window is no setting of decoder_rl.objective.name awm" in err
    assert "expected one of name, num_noisings, min_sigma\n" in err
    source = names["objective__window"]
    assert (source if source.startswith(("--", "UAE_")) else "mine.yaml, line 5") in err


@pytest.mark.parametrize("key", MOVED)
def test_an_old_key_is_refused_with_the_new_one(trained_with, key):
    code, _, err, names = trained_with(**{key: "1"})
    assert code == 2
    old = names[key]
    cut = len(old) - len(key)
    between = "OBJECTIVE_" if old.isupper() else "objective."
    assert f"did you mean {old[:cut]}{between}{old[cut:]}?\n" in err


def test_the_old_name_of_an_objective_is_refused_with_where_it_goes(trained_with):
    code, _, err, names = trained_with(objective="awm")
    assert code == 2
    source = names["objective"]
    if source.startswith(("--", "UAE_")):
        joint = "_NAME" if source.isupper() else ".name"
        assert f"{source} is a section: set a key of it: {source}{joint}" in err
    else:
        assert "decoder_rl.objective holds no keys: expected {name: awm, ...}\n" in err
