"""Captions of other tools, read by the name of their image."""

import csv
import importlib.util
import json
from pathlib import Path

import pytest

from uae.core.errors import EnvironmentFault, UsageError
from uae.data.captions import CaptionRow, CaptionsWriter
from uae.data.given_captions import read_given_captions

CAPTIONS = {"0": "A red tram, twice.", "1": ""}


def captions_of(path: Path) -> dict[str, str | None]:
    return {row.name: row.caption for row in read_given_captions(path)}


def torchumm(folder: Path) -> Path:
    rows = [
        {"id": name, "ref_path": f"/ref/{name}.jpg", "caption": f" {text}\n", "gen_path": ""}
        for name, text in CAPTIONS.items()
    ]
    path = folder / "captions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def table(folder: Path) -> list[list[str | int | None]]:
    rows = [[int(name), "q", text or None] for name, text in CAPTIONS.items()]
    return [["index", "question", "prediction"], *rows]


def mmgenbench_tsv(folder: Path) -> Path:
    path = folder / "uae_MMGenBench-Test.tsv"
    with path.open("w", newline="") as file:
        csv.writer(file, dialect="excel-tab").writerows(table(folder))
    return path


def mmgenbench_xlsx(folder: Path) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    path = folder / "uae_MMGenBench-Test.xlsx"
    book = openpyxl.Workbook()
    for row in table(folder):
        book.active.append(row)
    book.save(path)
    return path


@pytest.mark.parametrize("write", [torchumm, mmgenbench_tsv, mmgenbench_xlsx])
def test_a_file_of_another_tool_gives_captions_by_name(tmp_path, write):
    assert captions_of(write(tmp_path)) == CAPTIONS


def test_our_own_files_name_images_whatever_id_they_have(tmp_path):
    path = tmp_path / "captions.jsonl"
    with CaptionsWriter(path) as writer:
        writer.append(CaptionRow(image="a/0.jpg", caption=" A tram. "))
    path.write_text(path.read_text() + '{"image": "b.png", "id": "7", "caption": "A cat."}\n')
    assert captions_of(path) == {"a/0.jpg": "A tram.", "b.png": "A cat."}


@pytest.mark.parametrize(
    ("name", "data", "fault"),
    [
        ("a.jsonl", '{"caption": "x"}\n', "line 1: key 'file_name' or 'image' or 'id' is missing"),
        ("a.jsonl", '{"id": "0"}\n', "line 1: key 'caption' or 'text' is missing beside '0'"),
        ("a.jsonl", '{"id": true, "caption": "x"}\n', "line 1: key 'id' is True: expected text"),
        ("a.jsonl", '{"id": "0", "caption": 3}\n', "line 1: key 'caption' is 3: expected text"),
        ("a.jsonl", "[1]\n", "line 1: expected an object with image and caption"),
        ("a.jsonl", '{"id": "0", "caption": "\\udfff"}\n', "line 1: key 'caption': character 1 is"),
        ("a.csv", 'file_name,text\n0.jpg,"x\n', "no comma-separated text in UTF-8"),
        ("a.json", "{", "is no JSON file"),
        ("a.json", '{"0": {"caption": 3}}', "key '0': 'caption' or 'tags' is no text"),
        ("a.json", '{"0": {"tags": "\\ud800"}}', "key '0': key 'caption': character 1 is"),
        ("a.jsonl", '{"id": "0", "caption": "x"}\n{"id": 0, "caption": "y"}\n', "two captions for"),
        ("a.tsv", "index\tanswer\n0\tx\n", "column 'prediction' is missing"),
        ("a.tsv", "index\tprediction\n0\n", "line 2: the number of cells differs"),
        ("a.tsv", "index\tprediction\n\tx\n", "a caption has no image: expected a name beside 'x'"),
        ("a.tsv", "index\tprediction\n0\tx\n0\ty\n", "two captions for '0'"),
        ("a.xlsx", "index", "is no .xlsx file"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path, name, data, fault):
    if name.endswith(".xlsx"):
        pytest.importorskip("openpyxl")
    (tmp_path / name).write_text(data)
    with pytest.raises(UsageError) as caught:
        read_given_captions(tmp_path / name)
    assert name in str(caught.value)
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "fault"),
    [(["index"], "columns prediction are missing; found index"), ([], "found none")],
)
def test_a_sheet_without_predictions_is_refused(tmp_path, columns, fault):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    if columns:
        book.active.append(columns)
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(UsageError, match=fault):
        read_given_captions(tmp_path / "a.xlsx")


def test_a_sheet_needs_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EnvironmentFault, match=r'pip install "uae\[xlsx\]"'):
        read_given_captions(tmp_path / "a.xlsx")
