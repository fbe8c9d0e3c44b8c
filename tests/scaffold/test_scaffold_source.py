"""Data in whatever form it lies become the same records."""

import json

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from hft_ray.config import ConfigError
from hft_ray.scaffold import read_source

ROWS = [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(30)]


def write(folder, kind):
    """Write ``ROWS`` in one form; return its name."""
    path = folder / f"data.{kind}"
    match kind:
        case "csv" | "tsv":
            mark = "," if kind == "csv" else "\t"
            lines = [mark.join(ROWS[0]), *(mark.join(row.values()) for row in ROWS)]
            path.write_text("\n".join(lines), encoding="utf-8-sig")
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        case "json":
            path.write_text(json.dumps(ROWS))
        case "parquet":
            parquet.write_table(pa.Table.from_pylist(ROWS), path)
        case "saved":
            datasets.Dataset.from_list(ROWS).save_to_disk(str(path))
    return str(path)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "parquet", "saved"])
def test_every_form_gives_the_same_records(tmp_path, kind):
    source = read_source(write(tmp_path, kind))
    assert list(source.train) == ROWS
    assert source.test is None


def test_a_folder_with_splits_holds_out_its_own(tmp_path):
    (tmp_path / "train.csv").write_text("question,answer\na,1\nb,2\n")
    (tmp_path / "my_test.jsonl").write_text('{"question": "c", "answer": "3"}\n')
    source = read_source(str(tmp_path))
    assert [row["question"] for row in source.train] == ["a", "b"]
    assert source.test is not None
    assert [row["question"] for row in source.test] == ["c"]


def test_saved_splits_are_found(tmp_path):
    parts = {"train": ROWS[:20], "validation": ROWS[20:]}
    made = datasets.DatasetDict({k: datasets.Dataset.from_list(v) for k, v in parts.items()})
    made.save_to_disk(str(tmp_path / "set"))
    source = read_source(str(tmp_path / "set"))
    assert (len(source.train), len(source.test or [])) == (20, 10)


def test_a_folder_of_texts(tmp_path):
    (tmp_path / "one.txt").write_text("Once.")
    (tmp_path / "two.md").write_text("Twice.")
    assert list(read_source(str(tmp_path)).train) == [{"text": "Once."}, {"text": "Twice."}]


def test_the_test_part_may_lie_elsewhere(tmp_path):
    (tmp_path / "held.csv").write_text("question,answer\nc,3\n")
    source = read_source(write(tmp_path, "csv"), str(tmp_path / "held.csv"))
    assert source.test is not None
    assert len(source.test) == 1


def test_cells_with_line_breaks_and_commas(tmp_path):
    (tmp_path / "a.csv").write_text('question,answer\n"one,\ntwo","x ""y"""\nplain,\n')
    found = list(read_source(str(tmp_path / "a.csv")).train)
    assert found == [
        {"question": "one,\ntwo", "answer": 'x "y"'},
        {"question": "plain", "answer": None},
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "question,answer\n", "no row below its first"),
        ("a.csv", "question,answer\n1,2,3\n", "does not have 2 values"),
        ("a.csv", 'question,answer\n"open,1\n', "cannot be read as a table"),
        ("a.txt", "  \n", "the texts are empty"),
        ("a.xlsx", "PK", "data is a .jsonl, .json or .parquet file"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_source(str(tmp_path / name))


def test_bytes_that_are_not_utf8(tmp_path):
    (tmp_path / "a.csv").write_bytes("question,answer\ncafé,1\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="in UTF-8"):
        read_source(str(tmp_path / "a.csv"))


def test_a_folder_without_data(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"holds none of \.csv, \.tsv"):
        read_source(str(tmp_path))
