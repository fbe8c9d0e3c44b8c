"""Reading records, and what is said about files that are wrong."""

import json
import shutil
from pathlib import Path

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from hft_ray.config import ConfigError
from hft_ray.data import read_records
from hft_ray.data.records import fingerprint

RECORDS = [{"text": f"number {i}"} for i in range(5)]


def read(name, limit=None):
    return read_records(str(name), path="data.train", split="train", limit=limit)


def message(name, limit=None):
    with pytest.raises(ConfigError) as caught:
        read(name, limit)
    text = str(caught.value)
    assert len(text.splitlines()) < 24, "more than one screen"
    return text


@pytest.fixture(params=["jsonl", "json", "parquet"])
def file(request, tmp_path):
    path = tmp_path / f"data.{request.param}"
    if request.param == "jsonl":
        path.write_text("\n".join(map(json.dumps, RECORDS)))
    elif request.param == "json":
        path.write_text(json.dumps(RECORDS, indent=1))
    else:
        parquet.write_table(pyarrow.Table.from_pylist(RECORDS), path)
    return path


def test_every_file_kind_gives_the_same_records(file):
    assert read(file) == RECORDS
    assert read(file, limit=2) == RECORDS[:2]
    assert read(file, limit=9) == RECORDS


def test_records_know_their_line_or_number(tmp_path, file):
    end = ":3" if file.suffix == ".jsonl" else ", record 3"
    assert read(file).where(2) == f"{file}{end}"
    path = tmp_path / "blank.jsonl"
    path.write_text('\n{"text": "a"}\n\n  \n{"text": "b"}\n')
    records = read(path)
    assert records == [{"text": "a"}, {"text": "b"}]
    assert [records.where(0), records.where(1)] == [f"{path}:2", f"{path}:5"]


def test_byte_order_mark_and_windows_line_ends(tmp_path):
    path = tmp_path / "windows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n{"text": "\xc3\xb1"}\r\n')
    assert read(path) == [{"text": "a"}, {"text": "ñ"}]


def test_malformed_lines_are_all_named(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": }\n[1, 2]\n\n"x"\n{"text": "\xff"}\n{"text"\n')
    text = message(path)
    assert f"5 problems in {path}" in text
    assert f"{path}:2: is not valid JSON: Expecting value at column 10 (given: '" in text
    assert f"{path}:3: a record must be a JSON object" in text
    assert f"{path}:5: a record must be a JSON object" in text
    assert f"{path}:6: is not valid UTF-8 at byte 11 of the line" in text
    assert f"{path}:7: is not valid JSON" in text


def test_many_malformed_lines_are_counted(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text("oops\n" * 25)
    text = message(path)
    assert f"{path}:10:" in text
    assert f"{path}:11:" not in text
    assert "and 15 more like these" in text


def test_malformed_lines_beyond_the_limit_are_not_read(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": "a"}\noops\n')
    assert read(path, limit=1) == [{"text": "a"}]


@pytest.mark.parametrize(
    ("name", "content"), [("e.jsonl", ""), ("b.jsonl", "\n"), ("e.json", "[]")]
)
def test_empty(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert "data.train: the data set is empty" in message(tmp_path / name)


def test_empty_parquet(tmp_path):
    path = tmp_path / "e.parquet"
    parquet.write_table(pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), path)
    assert "data.train: the data set is empty" in message(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'[\n{"text": "a"},\n{"text" "b"}]', ":3: is not valid JSON"),
        (b'"text"', ": a .json file must hold one list of objects, or one object per line"),
        (b'[{"text": "a"}, 3]', ", record 2: a record must be a JSON object"),
        (b'["\xff"]', ": is not valid UTF-8 at byte 3"),
    ],
)
def test_malformed_json(tmp_path, content, expected):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    assert f"{path}{expected}" in message(path)


HALVES = [
    (r'{"text": "smile \ud83d"}', r"field 'text' holds half of a surrogate pair, \ud83d"),
    (r'{"messages": [{"content": "\ude00"}]}', r"field 'messages[0].content' holds half"),
    (r'{"a\ud83d": 1}', "the name of a field holds half of a surrogate pair"),
]


@pytest.mark.parametrize(("line", "expected"), HALVES)
def test_half_of_a_surrogate_pair(tmp_path, line, expected):
    whole = r'{"text": "smile \ud83d\ude00"}'
    (tmp_path / "a.jsonl").write_text(f"{whole}\n{line}\n")
    assert f"a.jsonl:2: {expected}" in message(tmp_path / "a.jsonl")
    (tmp_path / "a.json").write_text(f"[{whole}, {line}]")
    assert f"a.json, record 2: {expected}" in message(tmp_path / "a.json")
    assert read(tmp_path / "a.jsonl", limit=1) == [{"text": "smile \U0001f600"}]


@pytest.mark.parametrize("depth", [101, 100_000])
def test_deeply_nested_json(tmp_path, depth):
    nested = '{"text": ' + "[" * depth + "]" * depth + "}"
    for name, place in (("a.jsonl", ":1"), ("a.json", "")):
        (tmp_path / name).write_text(nested)
        text = message(tmp_path / name)
        assert f"{name}{place}" in text
        assert "is nested more than 100 levels deep" in text


def test_a_number_of_too_many_digits(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": ' + "1" * 5000 + "}")
    assert "a.jsonl:1: cannot be read: Exceeds the limit" in message(tmp_path / "a.jsonl")


@pytest.mark.parametrize("content", ['{"text": "a"}\n\n{"text": "b"}\n', '{"text": "a"}'])
def test_json_with_one_object_per_line(tmp_path, content):
    path = tmp_path / "lines.json"
    path.write_text(content)
    assert read(path) == [json.loads(line) for line in content.splitlines() if line]
    path.write_text('{"text": "a"}\n{oops\n')
    assert f"{path}:2: is not valid JSON" in message(path)


def test_nulls_that_parquet_puts_into_nested_objects(tmp_path):
    calls = [{"arguments": {"city": "Oslo"}}, {"arguments": {"day": 3}}]
    path = tmp_path / "calls.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([{"calls": [each]} for each in calls]), path)
    assert read(path) == [{"calls": [each]} for each in calls]


def test_parquet_text_that_is_not_utf8(tmp_path):
    raw = pyarrow.array([b"fine", b"\xff"], pyarrow.binary()).view(pyarrow.string())
    path = tmp_path / "raw.parquet"
    parquet.write_table(pyarrow.table({"text": raw}), path)
    assert f"{path}, record 2: holds text that is not valid UTF-8" in message(path)


def test_fields_can_be_left_out(tmp_path):
    path = tmp_path / "turns.jsonl"
    turn = {"role": "user", "content": "a"}
    path.write_text(json.dumps({"messages": [{**turn, "weight": 0}], "weight": 1, "id": 2}))
    left = read(path).without(["weight"])
    assert left == [{"messages": [turn], "id": 2}]
    assert left.where(0) == f"{path}:1"


def test_malformed_parquet(tmp_path):
    path = tmp_path / "bad.parquet"
    path.write_text("no parquet")
    assert f"{path}: is not a readable Parquet file" in message(path)


def test_unknown_suffix_and_directory(tmp_path):
    (tmp_path / "data.csv").write_text("a,b")
    assert "is a .csv file; data is a .jsonl, .json or .parquet file" in message(
        tmp_path / "data.csv"
    )
    assert "is a directory" in message(tmp_path)


def test_missing_file(tmp_path):
    assert f"data.train: no such file: {tmp_path}/none.jsonl" in message(tmp_path / "none.jsonl")


@pytest.fixture
def hub_cache(monkeypatch, tmp_path):
    """No network, and a hub data set ``owner/name`` that was downloaded before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "source.jsonl").write_text("\n".join(map(json.dumps, RECORDS)))
    made = datasets.load_dataset("json", data_files={"train": "source.jsonl"}, split="train")
    made = Path(made.cache_files[0]["filename"])
    kept = tmp_path / "cache" / "owner___name" / "default" / "0.0.0" / "0123456789abcdef"
    shutil.copytree(made.parent, kept)
    (kept / made.name).rename(kept / "name-train.arrow")
    return kept


@pytest.mark.usefixtures("hub_cache")
def test_hub_data_set():
    records = read("owner/name")
    assert records == RECORDS
    assert records.where(2) == "owner/name, record 3"
    assert read("owner/name", limit=2) == RECORDS[:2]
    assert read("owner/name", limit=9) == RECORDS


@pytest.mark.usefixtures("hub_cache")
def test_hub_data_set_without_the_split():
    with pytest.raises(ConfigError, match=r"split 'exam' of the hub .*Should be one of"):
        read_records("owner/name", path="data.train", split="exam", limit=None)


def test_fingerprint_of_a_hub_data_set_is_that_of_its_commit(hub_cache):
    def current():
        return fingerprint("owner/name", path="data.train", split="train")

    before = current()
    assert current() == before
    hub_cache.rename(hub_cache.with_name("fedcba9876543210"))
    assert current() != before


@pytest.mark.usefixtures("hub_cache")
def test_hub_that_is_not_reachable(tmp_path):
    text = message("nobody/nothing")
    assert f"there is no file {tmp_path}/nobody/nothing" in text
    assert "is not reachable" in text


@pytest.mark.parametrize("name", ["data.jsonl", "data.json"])
@pytest.mark.parametrize(
    "record", ['{"text": "a", "text": "b"}', '{"m": [{"text": 1, "text": 1}]}']
)
def test_a_key_that_is_there_twice(name, record, tmp_path):
    path = tmp_path / name
    path.write_text(f'{{"text": "x"}}\n{record}\n' if name.endswith("l") else f"[{record}]")
    assert "the key 'text' is there twice in one object: keep one" in message(path)
