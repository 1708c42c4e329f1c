"""Captions of a folder: the layouts of other tools, what goes before what, and what is said."""

import csv
import json
import logging
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image

from uae.core.errors import EnvironmentFault, UsageError
from uae.data.folder_captions import folder_captions, read_captions
from uae.data.shapes import Shapes
from uae.data.sources import FolderSource
from uae.data.survey import survey

NAMES = ("1.png", "2.JPG", "b/3.png")
TEXTS = {name: f"a picture of {name}" for name in NAMES}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    (root / "b").mkdir(parents=True)
    for name in NAMES:
        Image.new("RGB", (4, 4)).save(root / name)
    return root


def write_lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def jsonl(name_key: str, text_key: str, file: str) -> Callable[[Path], None]:
    return lambda root: write_lines(
        root / file, [{name_key: name, text_key: text} for name, text in TEXTS.items()]
    )


def metadata_csv(root: Path) -> None:
    with (root / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file_name", "text"), *TEXTS.items()])


def metadata_parquet(root: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"file_name": list(TEXTS), "caption": list(TEXTS.values()), "width": [4, 4, 4]}
    parquet.write_table(pyarrow.table(columns), root / "metadata.parquet")


def kohya_full_paths(root: Path) -> None:
    values = {f"{root}/{name}": {"caption": text} for name, text in TEXTS.items()}
    (root / "meta_cap.json").write_text(json.dumps(values))


def kohya_tags(root: Path) -> None:
    values = {name: {"caption": "a picture", "tags": f"of {name}"} for name in TEXTS}
    (root / "meta_lat.json").write_text(json.dumps(values))


def beside(spell: Callable[[Path], str]) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for name, text in TEXTS.items():
            path = root / name
            path.with_name(spell(path)).write_text(f"{text}\n")

    return write


def one_table_a_folder(root: Path) -> None:
    write_lines(
        root / "captions.jsonl", [{"image": name, "caption": TEXTS[name]} for name in NAMES[:2]]
    )
    write_lines(root / "b" / "metadata.jsonl", [{"file_name": "3.png", "text": TEXTS[NAMES[2]]}])


LAYOUTS = {
    "captions.jsonl": (jsonl("image", "caption", "captions.jsonl"), "captions.jsonl"),
    "captions.jsonl by id": (jsonl("id", "caption", "captions.jsonl"), "captions.jsonl"),
    "metadata.jsonl": (jsonl("file_name", "text", "metadata.jsonl"), "metadata.jsonl"),
    "metadata.jsonl, x_file_name": (
        jsonl("image_file_name", "caption", "metadata.jsonl"),
        "metadata.jsonl",
    ),
    "metadata.csv": (metadata_csv, "metadata.csv"),
    "metadata.parquet": (metadata_parquet, "metadata.parquet"),
    "kohya's full paths": (kohya_full_paths, "meta_cap.json"),
    "img.txt": (beside(lambda path: f"{path.stem}.txt"), ".txt"),
    "img.TXT": (beside(lambda path: f"{path.stem}.TXT"), ".txt"),
    "img.caption": (beside(lambda path: f"{path.stem}.caption"), ".caption"),
    "img.jpg.txt": (beside(lambda path: f"{path.name}.txt"), ".txt"),
    "img.JPG.txt": (beside(lambda path: f"{path.stem}{path.suffix.swapcase()}.txt"), ".txt"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_and_named(folder, layout):
    write, source = LAYOUTS[layout]
    write(folder)
    found = folder_captions(folder)
    assert found.texts == TEXTS
    assert found.summary == f"captions for 3 of 3 images (from {source})"


def test_tags_follow_the_caption(folder):
    kohya_tags(folder)
    assert read_captions(folder)["1.png"] == "a picture, of 1.png"


def test_each_folder_may_have_a_table_of_its_own(folder):
    one_table_a_folder(folder)
    found = folder_captions(folder)
    assert found.texts == TEXTS
    said = "captions for 3 of 3 images (2 from captions.jsonl, 1 from b/metadata.jsonl)"
    assert found.summary == said


SPELLINGS: Mapping[str, Callable[[Path, str], str]] = {
    "as it is": lambda root, name: name,
    "./": lambda root, name: f"./{name}",
    "a detour": lambda root, name: f"b/.././{name}",
    "two slashes": lambda root, name: name.replace("/", "//"),
    "own name": lambda root, name: f"{root.name}/{name}",
    "own name and above": lambda root, name: f"data/sets/{root.name}/{name}",
    "absolute": lambda root, name: f"{root}/{name}",
    "of another machine": lambda root, name: f"/mnt/d/{root.name}/{name}",
    "Windows": lambda root, name: name.replace("/", "\\"),
    "Windows, absolute": lambda root, name: f"D:\\{root.name}\\" + name.replace("/", "\\"),
    "suffix in capitals": lambda root, name: f"{name[:-4]}{name[-4:].swapcase()}",
    "decomposed": lambda root, name: unicodedata.normalize("NFD", name),
    "composed": lambda root, name: unicodedata.normalize("NFC", name),
    "without suffix": lambda root, name: name[:-4],
    "of another format": lambda root, name: f"{name[:-4]}.webp",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("stored", ["NFC", "NFD"])
def test_every_spelling_of_a_name_means_the_same_file(tmp_path, spelling, stored):
    root = tmp_path / "photos"
    names = [unicodedata.normalize(stored, x) for x in ("caf\u00e9.v1.png", "b/2024.05.01 a.JPG")]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name)
    rows = [{"image": SPELLINGS[spelling](root, name), "caption": name} for name in names]
    write_lines(root / "captions.jsonl", rows)
    assert read_captions(root) == {name: name for name in names}


def test_the_folder_may_be_named_in_any_way(folder, monkeypatch):
    write_lines(folder / "captions.jsonl", [{"image": "photos/1.png", "caption": "x"}])
    monkeypatch.chdir(folder)
    assert read_captions(".") == {"1.png": "x"}
    link = folder.parent / "link"
    link.symlink_to(folder)
    assert read_captions(link) == {"1.png": "x"}


def test_a_table_in_a_subfolder_never_means_an_image_elsewhere(folder):
    Image.new("RGB", (4, 4)).save(folder / "b" / "1.png")
    rows = [{"image": name, "caption": name} for name in ("1.png", "3.png")]
    write_lines(folder / "b" / "captions.jsonl", rows)
    assert read_captions(folder) == {"b/1.png": "1.png", "b/3.png": "3.png"}
    (folder / "b" / "1.png").unlink()
    with pytest.raises(UsageError, match=r"b/captions\.jsonl: 1 of 2 rows belong to no image"):
        read_captions(folder)


def test_a_table_in_a_subfolder_may_start_above(folder):
    write_lines(folder / "b" / "captions.jsonl", [{"image": "b/3.png", "caption": "x"}])
    assert read_captions(folder) == {"b/3.png": "x"}


def test_rows_of_no_image_are_refused_with_the_first_names(folder):
    rows = [{"image": f"gone{i}.png", "caption": "x"} for i in range(7)]
    write_lines(folder / "captions.jsonl", [{"image": "1.png", "caption": "x"}, *rows])
    with pytest.raises(UsageError) as caught:
        read_captions(folder)
    said = str(caught.value)
    assert "captions.jsonl: 7 of 8 rows belong to no image, first 'gone0.png' (line 2), " in said
    assert "'gone4.png' (line 6): expected names of images" in said
    assert "such as '1.png'" in said
    assert "gone5" not in said


@pytest.mark.parametrize("name", ["../1.png", "/etc/1.png", "c/1.png", "2.webp.bak", "1.v2"])
def test_a_name_of_another_place_belongs_to_no_image(folder, name):
    write_lines(folder / "captions.jsonl", [{"image": name, "caption": "x"}])
    with pytest.raises(UsageError, match="1 of 1 rows belong to no image"):
        read_captions(folder)


def test_a_row_of_the_file_goes_before_one_of_its_stem(folder):
    (folder / "2.webp").write_bytes((folder / "1.png").read_bytes())
    rows = [{"image": name, "caption": name} for name in ("2", "2.JPG")]
    write_lines(folder / "captions.jsonl", rows)
    assert read_captions(folder) == {"2.JPG": "2.JPG", "2.webp": "2"}
    (folder / "2.webp").unlink()
    with pytest.raises(UsageError, match=r"1 of 2 rows belong to no image, first '2' \(line 1\)"):
        read_captions(folder)


def test_two_rows_that_may_be_meant_for_one_image_are_refused(folder):
    rows = [{"image": name, "caption": name} for name in ("1.webp", "1.jpg")]
    write_lines(folder / "captions.jsonl", rows)
    with pytest.raises(UsageError, match=r"two captions may be meant for 1\.png, of 1\.webp and 1"):
        read_captions(folder)


def test_one_order_decides_between_sources_and_is_said(folder):
    for source, texts in (("captions", 1), ("metadata", 2)):
        write_lines(
            folder / f"{source}.jsonl",
            [{"image": name, "caption": source} for name in NAMES[:texts]],
        )
    for name in NAMES:
        for suffix in (".caption", ".txt"):
            (folder / name).with_suffix(suffix).write_text(suffix)
    (folder / "b" / "3.png.caption").write_text("appended")
    found = folder_captions(folder)
    assert found.texts == {"1.png": "captions", "2.JPG": "metadata", "b/3.png": "appended"}
    assert found.summary == (
        "captions for 3 of 3 images (1 from captions.jsonl, 1 from metadata.jsonl, 1 from "
        ".caption); 1 of these have one in metadata.jsonl too: captions.jsonl goes before it; 1 of "
        "these have one in .caption too: captions.jsonl goes before it; 1 of these have one in "
        ".caption too: metadata.jsonl goes before it; 1 of these have one in .txt too: "
        "captions.jsonl goes before it; 1 of these have one in .txt too: metadata.jsonl goes "
        "before it; 1 of these have one in .txt too: .caption goes before it"
    )


@pytest.mark.parametrize("bin_", ["#recycle", "b/@Recycle", "@eaDir"])
def test_what_lies_in_a_folder_of_deleted_files_is_no_caption(folder, bin_):
    write_lines(folder / "captions.jsonl", [{"image": name, "caption": "new"} for name in NAMES])
    (folder / bin_).mkdir()
    old = [{"image": name, "caption": "old"} for name in (*NAMES, "gone.png")]
    write_lines(folder / bin_ / "captions.jsonl", old)
    write_lines(folder / bin_ / "metadata.jsonl", [{"file_name": "gone.png", "text": "old"}])
    found = folder_captions(folder)
    assert found.texts == dict.fromkeys(NAMES, "new")
    assert found.summary == "captions for 3 of 3 images (from captions.jsonl)"
    assert f"{bin_}/captions.jsonl" in survey(folder).summary()


def test_blank_captions_are_none_and_the_last_of_several_holds(folder):
    rows = [
        {"image": "1.png", "caption": "old"},
        {"image": "./1.png", "caption": " from the list "},
        {"image": "2.JPG", "caption": ""},
    ]
    write_lines(folder / "captions.jsonl", rows)
    (folder / "1.txt").write_text("from the text file")
    (folder / "2.txt").write_text(" \n")
    (folder / "b" / "3.txt").write_text("\ufeffa wedge\n", encoding="utf-8")
    assert read_captions(folder) == {"1.png": "from the list", "b/3.png": "a wedge"}


def test_a_text_file_that_is_no_caption_is_named(folder):
    (folder / "1.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UsageError, match=r"1\.txt: byte 3 is not UTF-8"):
        read_captions(folder)
    (folder / "1.txt").write_bytes(b"a" * (2**20 + 1))
    with pytest.raises(UsageError, match=r"1\.txt is larger than 1 MiB"):
        read_captions(folder)


@pytest.mark.parametrize("file", ["captions.jsonl", "metadata.jsonl", "b/metadata.jsonl"])
def test_a_caption_that_is_no_unicode_is_refused_with_file_and_line(folder, file):
    name = "3.png" if file.startswith("b/") else "1.png"
    (folder / file).write_text(
        f'{{"file_name": "{name}", "text": "x"}}\n{{"file_name": "{name}", "text": "a \\ud800"}}\n'
    )
    with pytest.raises(UsageError, match=rf"{file}, line 2: key 'caption': character 3 is \\ud800"):
        read_captions(folder)


def test_metadata_without_captions_is_passed_over_and_said(folder, caplog):
    write_lines(folder / "metadata.jsonl", [{"file_name": "9.png", "label": 3}])
    (folder / "metadata.json").write_text('{"info": {"version": 1}}')
    (folder / "1.txt").write_text("a picture")
    assert read_captions(folder) == {"1.png": "a picture"}
    assert "metadata.jsonl has no captions: expected caption or text" in caplog.text
    assert "metadata.json has no captions" in caplog.text


def test_parquet_needs_its_package(folder, monkeypatch):
    metadata_parquet(folder)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EnvironmentFault, match="pip install pyarrow"):
        read_captions(folder)


@pytest.mark.parametrize(
    ("captioned", "level", "said"),
    [
        (0, logging.INFO, "captions for 0 of 3 images; in pre-training the frozen encoder writes"),
        (2, logging.WARNING, "captions for 2 of 3 images (from .txt); in pre-training the frozen "),
        (3, logging.INFO, "captions for 3 of 3 images (from .txt)"),
    ],
)
def test_training_says_at_every_start_what_it_learns_from(folder, caplog, captioned, level, said):
    for name in NAMES[:captioned]:
        (folder / name).with_suffix(".txt").write_text("a picture")
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            FolderSource(survey(folder), Shapes(8))
    records = [x for x in caplog.records if x.message.startswith(said)]
    assert [x.levelno for x in records] == [level, level]
