import json
from pathlib import Path

import pytest
from PIL import Image

from uae.benchmarks.geneval.layout import (
    ImageFolder,
    folder_of,
    read_folder,
    sample_path,
    write_metadata,
)
from uae.benchmarks.geneval.prompts import PromptSet, official_prompts
from uae.core.errors import UsageError
from uae.report.format import listed

PROMPTS = PromptSet("a few", official_prompts().lines[176:182])


def drawn(root: Path, num_samples: int = 2) -> Path:
    write_metadata(root, PROMPTS)
    for prompt_id in range(len(PROMPTS.lines)):
        for sample_id in range(num_samples):
            Image.new("RGB", (4, 3), "red").save(sample_path(root, prompt_id, sample_id))
    return root


def incomplete(root: Path) -> ImageFolder:
    """Read a folder that has gaps: refused first, then allowed."""
    with pytest.raises(UsageError, match="is no complete set of 2 images for each of the 6"):
        read_folder(root, PROMPTS, 2)
    return read_folder(root, PROMPTS, 2, allow_missing=True)


def test_what_is_written_is_official_and_complete(tmp_path):
    drawn(tmp_path)
    assert (tmp_path / "00003" / "samples" / "0001.png").is_file()
    line = json.loads((tmp_path / "00003" / "metadata.jsonl").read_text())
    assert line == json.loads(PROMPTS.lines[3].metadata)
    found = read_folder(tmp_path, PROMPTS, 2)
    assert found.gaps.is_empty
    assert found.gaps.summary() == ""
    assert [(s.prompt_id, s.path.name) for s in found.samples] == [
        (i, f"000{j}.png") for i in range(6) for j in range(2)
    ]


def test_what_the_official_scorer_ignores_is_ignored(tmp_path):
    drawn(tmp_path)
    (tmp_path / "grids").mkdir()
    (tmp_path / "99999").write_text("a file")
    (tmp_path / "00000" / "grid.png").write_text("")
    for name in ("a.png", "0002.jpg", "0002.png.part", "-1.png"):
        (tmp_path / "00000" / "samples" / name).write_text("")
    assert read_folder(tmp_path, PROMPTS, 2).gaps.is_empty


def test_longer_names_are_samples_too(tmp_path):
    drawn(tmp_path, 1)
    for folder in tmp_path.iterdir():
        (folder / "samples" / "0000.png").rename(folder / "samples" / "00000.png")
    assert len(read_folder(tmp_path, PROMPTS, 1).samples) == 6


def test_two_files_of_one_sample_are_refused(tmp_path):
    drawn(tmp_path, 1)
    samples = tmp_path / "00002" / "samples"
    (samples / "00000.png").write_bytes((samples / "0000.png").read_bytes())
    for allow in (False, True):
        with pytest.raises(
            UsageError, match=r"holds 0000\.png and 00000\.png, two files of sample"
        ):
            read_folder(tmp_path, PROMPTS, 2, allow_missing=allow)


def test_samples_are_in_the_order_of_their_numbers(tmp_path):
    drawn(tmp_path, 1)
    samples = tmp_path / "00002" / "samples"
    for name in ("0010.png", "00002.png"):
        (samples / name).write_bytes((samples / "0000.png").read_bytes())
    found = incomplete(tmp_path)
    assert found.gaps["extra samples"] == ["00002/samples/0010.png"]
    of_two = [sample.path.name for sample in found.samples if sample.prompt_id == 2]
    assert of_two == ["0000.png", "00002.png"]


def test_missing_and_extra_folders(tmp_path):
    drawn(tmp_path)
    for name, new in (("00001", "1"), ("00004", "00044")):
        (tmp_path / name).rename(tmp_path / new)
    found = incomplete(tmp_path)
    assert found.gaps.by_kind() == {
        "missing folders": ["00001", "00004"],
        "extra folders": ["00044", "1"],
    }
    assert {s.prompt_id for s in found.samples} == {0, 2, 3, 5}


def test_a_refusal_names_the_flag_that_allows_an_incomplete_set(tmp_path):
    drawn(tmp_path)
    (tmp_path / "00001").rename(tmp_path / "1")
    with pytest.raises(UsageError, match="or give --allow-missing, and the result will be marked"):
        read_folder(tmp_path, PROMPTS, 2)


def test_missing_and_extra_samples(tmp_path):
    drawn(tmp_path)
    (tmp_path / "00000" / "samples" / "0001.png").unlink()
    for sample in (tmp_path / "00002" / "samples").iterdir():
        sample.unlink()
    (tmp_path / "00003" / "samples").rename(tmp_path / "00003" / "images")
    Image.new("RGB", (4, 3)).save(sample_path(tmp_path, 5, 2))
    Image.new("RGB", (4, 3)).save(sample_path(tmp_path, 5, 10))
    found = incomplete(tmp_path)
    assert found.gaps.by_kind() == {
        "folders with missing samples": ["00000 (1 of 2)", "00002 (0 of 2)", "00003 (0 of 2)"],
        "extra samples": ["00005/samples/0002.png", "00005/samples/0010.png"],
    }
    assert len(found.samples) == 1 + 2 + 0 + 0 + 2 + 2


def test_images_of_another_prompt_set(tmp_path):
    drawn(tmp_path)
    other = official_prompts().lines[0]
    (tmp_path / "00000" / "metadata.jsonl").write_text(other.metadata)
    (tmp_path / "00001" / "metadata.jsonl").write_text("{}")
    (tmp_path / "00002" / "metadata.jsonl").write_bytes(b"\xff")
    (tmp_path / "00003" / "metadata.jsonl").unlink()
    (tmp_path / "00004" / "metadata.jsonl").write_text(PROMPTS.lines[4].metadata + "\n")
    found = incomplete(tmp_path)
    assert found.gaps.by_kind() == {
        "folders of another prompt": [
            f"00000 ({other.prompt!r}, expected {PROMPTS.lines[0].prompt!r})",
            "00001 (key 'tag' is missing)",
            "00002 (not UTF-8)",
            "00003 (no metadata.jsonl)",
        ]
    }
    assert {s.prompt_id for s in found.samples} == {4, 5}


def test_unreadable_samples(tmp_path):
    drawn(tmp_path)
    whole = (tmp_path / "00001" / "samples" / "0000.png").read_bytes()
    (tmp_path / "00001" / "samples" / "0000.png").write_bytes(whole[:-20])
    (tmp_path / "00002" / "samples" / "0001.png").write_bytes(b"")
    found = incomplete(tmp_path)
    faults = [sample.fault for sample in found.unreadable]
    assert [fault.split(":")[0] for fault in faults] == [
        "00001/samples/0000.png",
        "00002/samples/0001.png",
    ]
    assert "truncated" in faults[0]
    assert "empty file" in faults[1]
    assert len(found.samples) == 10


def test_nothing_to_score_is_never_allowed(tmp_path):
    with pytest.raises(UsageError, match="is no folder"):
        read_folder(tmp_path / "images", PROMPTS)
    with pytest.raises(UsageError, match=r"no image of 'a few' to score:\n  6 missing folders"):
        read_folder(tmp_path, PROMPTS, allow_missing=True)


def test_a_long_list_is_cut_and_counted(tmp_path):
    drawn(tmp_path, 1)
    gaps = read_folder(tmp_path, PROMPTS, 4, allow_missing=True).gaps
    assert listed(gaps.by_kind(), 2) == (
        "  6 folders with missing samples: 00000 (1 of 4), 00001 (1 of 4), and 4 more"
    )


def test_folders_have_five_digits(tmp_path):
    assert folder_of(tmp_path, 552).name == "00552"
