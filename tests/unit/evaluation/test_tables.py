"""Recorded tables: what is read, and that a broken one is told by file, row and reason."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stretto.errors import ConfigError
from stretto.evaluation.tables import read
from tests.recorded_tables import made, write

ITEMS = [
    {"item_id": "1", "prompt": "one?", "task": "a", "reference": "x", "colour": "red"},
    {"item_id": "2", "prompt": "two?", "split": "dev"},
]
OUTCOMES = [
    {"item_id": "1", "model": "m", "score": 1, "cost_usd": 0.5, "answer": "x"},
    {"item_id": "2", "model": "m", "score": 0.25},
    {"item_id": "1", "model": "k", "score": 0},
]


def lines(file: Path, rows: list[dict]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def folder(tmp_path: Path, items: object = ITEMS, outcomes: object = OUTCOMES) -> Path:
    lines(tmp_path / "items.jsonl", items)
    lines(tmp_path / "outcomes.jsonl", outcomes)
    return tmp_path


def test_a_table_is_read_whole(tmp_path: Path) -> None:
    """Items keep unknown columns, workers need not cover every item, absent values are None."""
    table = read(folder(tmp_path))
    assert [i.id for i in table.items] == ["1", "2"]
    assert table.items[0].more == {"colour": "red"}
    assert (table.items[1].split, table.items[1].dataset) == ("dev", tmp_path.name)
    assert table.workers == ("m", "k")
    assert table.covering() == ("m",)
    first = table.said("1", "m")
    assert first is not None
    assert (first.score, first.cost, first.answer, first.seconds) == (1.0, 0.5, "x", None)
    assert table.said("2", "k") is None


def test_csv_reads_as_json_lines_do(tmp_path: Path) -> None:
    """The same table as CSV is the same table."""
    a, b = tmp_path / "a", tmp_path / "b"
    a.mkdir(), b.mkdir()
    folder(a)
    (b / "items.csv").write_text("item_id,prompt,task,split\n1,one?,a,\n2,two?,,dev\n")
    (b / "outcomes.csv").write_text("item_id,model,score,cost_usd,answer\n1,m,1,0.5,x\n2,m,0.25,,\n1,k,0,,\n")
    one, two = read(a), read(b)
    for worker in one.workers:
        assert [one.said(i, worker) for i in "12"] == [two.said(i, worker) for i in "12"]


def test_parquet_reads_as_json_lines_do(tmp_path: Path) -> None:
    """The same table as Parquet is the same table; what is no Parquet is told."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    one = read(folder(tmp_path))
    other = tmp_path / "p"
    other.mkdir()
    for name, rows in (("items", ITEMS), ("outcomes", OUTCOMES)):
        columns = list(dict.fromkeys(c for row in rows for c in row))
        full = [{c: row.get(c) for c in columns} for row in rows]
        parquet.write_table(pyarrow.Table.from_pylist(full), other / f"{name}.parquet")
    two = read(other)
    assert [one.said("1", w) for w in one.workers] == [two.said("1", w) for w in two.workers]
    (other / "items.parquet").write_bytes(b"PAR?")
    with pytest.raises(ConfigError, match="is not a Parquet file"):
        read(other)


def test_samples_stand_behind_the_outcome(tmp_path: Path) -> None:
    """Recorded completions take the place of their mean; unrolled, each further one is a worker of its own."""
    where = folder(tmp_path)
    rows = [{"item_id": "1", "model": "m", "sample": k, "score": k % 2, "answer": f"s{k}"} for k in range(3)]
    lines(where / "samples.jsonl", rows)
    table = read(where)
    assert table.samples("1", "m") == 3
    first, second = table.said("1", "m", 0), table.said("1", "m", 1)
    assert first is not None
    assert second is not None
    assert (first.answer, second.answer, second.score, second.cost) == ("x", "s1", 1.0, 0.5)
    assert table.unrolled().workers == ("m", "m#2", "m#3", "k")


def test_a_part_keeps_what_was_asked_for(tmp_path: Path) -> None:
    """`only` filters items and workers; `complete` leaves items that all of these answered."""
    table = read(write(tmp_path, made(30)))
    dev = table.only(lambda i: i.split == "dev", ("cheap", "dear"), complete=True)
    assert dev.workers == ("cheap", "dear")
    assert len(dev.items) == 5
    with pytest.raises(ConfigError, match="no outcomes of nobody"):
        table.only(workers=("nobody",))


def test_what_a_data_frame_does_not_know_is_nothing(tmp_path: Path) -> None:
    """`NaN`, as data frames write it: a cost and an answer that are not known, and no answer "nan"."""
    unknown = {"cost_usd": float("nan"), "answer": float("nan"), "completion_tokens": float("nan")}
    folder(tmp_path, ITEMS, [OUTCOMES[0] | unknown])
    said = read(tmp_path).said(OUTCOMES[0]["item_id"], OUTCOMES[0]["model"])
    assert said is not None
    assert (said.cost, said.answer, said.output) == (None, None, None)


def test_a_long_prompt_fits_into_csv(tmp_path: Path) -> None:
    """The usual limit of a field, 131,072 characters, does not hold here."""
    long = "word " * 40_000
    (tmp_path / "items.csv").write_text(f"item_id,prompt\n1,{long}\n")
    (tmp_path / "outcomes.csv").write_text("item_id,model,score\n1,k,1\n")
    assert read(tmp_path).items[0].prompt == long


def without(key: str) -> list[dict]:
    return [{k: v for k, v in OUTCOMES[0].items() if k != key}]


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda p: p.rmdir(), "there is no such folder"),
    "nothing in it": (lambda p: None, r"there is no items.parquet, items.csv or items.jsonl"),
    "no outcomes": (lambda p: lines(p / "items.jsonl", ITEMS), "there is no outcomes"),
    "empty items": (lambda p: folder(p, []), "items.jsonl: has no rows"),
    "empty outcomes": (lambda p: folder(p, ITEMS, []), "has no rows"),
    "item without prompt": (lambda p: folder(p, [{"item_id": "1"}]), "items.jsonl row 1: prompt is missing"),
    "item without id": (lambda p: folder(p, [{"prompt": "1"}]), "items.jsonl row 1: item_id is missing"),
    "item twice": (lambda p: folder(p, [ITEMS[0], ITEMS[0]]), "item_id '1' is there twice"),
    "cost of a bank": (
        lambda p: folder(p, ITEMS, [OUTCOMES[0] | {"cost_usd": 1e300}]),
        "cost_usd is 1e\\+300; it is what one answer cost",
    ),
    "strange split": (lambda p: folder(p, [ITEMS[0] | {"split": "half"}]), "must be train, dev or test"),
    "tools that are no JSON": (lambda p: folder(p, [ITEMS[0] | {"tools": "{"}]), "tools is not JSON"),
    "tools that are no list": (lambda p: folder(p, [ITEMS[0] | {"tools": "5"}]), "neither a tool nor a list"),
    "prompt that is a list": (
        lambda p: folder(p, [ITEMS[0] | {"prompt": ["a"]}]),
        "prompt is list, not a text",
    ),
    "JSON too deep": (
        lambda p: (folder(p), (p / "items.jsonl").write_text('{"a":' * 100_000)),
        "items.jsonl line 1: is not JSON",
    ),
    "confidence above one": (
        lambda p: folder(p, ITEMS, [OUTCOMES[0] | {"confidence": 2}]),
        "confidence is 2.0; it must lie",
    ),
    "CSV with semicolons": (
        lambda p: (p / "items.csv").write_text("item_id;prompt\n1;a\n"),
        "item_id is missing or empty; the row has item_id;prompt",
    ),
    "column twice": (
        lambda p: (p / "items.csv").write_text("item_id,prompt,prompt\n1,a,b\n"),
        "items.csv: the head has the column 'prompt' twice",
    ),
    "unknown item": (
        lambda p: folder(p, ITEMS, [OUTCOMES[0] | {"item_id": "9"}]),
        "'9' is not among the items",
    ),
    "no model": (lambda p: folder(p, ITEMS, without("model")), "outcomes.jsonl row 1: model is missing"),
    "no score": (lambda p: folder(p, ITEMS, without("score")), "score is missing"),
    "score above one": (
        lambda p: folder(p, ITEMS, [OUTCOMES[0] | {"score": 87}]),
        "must lie between 0 and 1",
    ),
    "score that is no number": (lambda p: folder(p, ITEMS, [OUTCOMES[0] | {"score": "A"}]), "not a number"),
    "score NaN": (lambda p: folder(p, ITEMS, [OUTCOMES[0] | {"score": float("nan")}]), "score is missing"),
    "cost without end": (lambda p: folder(p, ITEMS, [OUTCOMES[0] | {"cost_usd": float("inf")}]), "finite"),
    "negative cost": (lambda p: folder(p, ITEMS, [OUTCOMES[0] | {"cost_usd": -1}]), "not negative"),
    "answered twice": (lambda p: folder(p, ITEMS, [OUTCOMES[0], OUTCOMES[0]]), "has answered 1 before"),
    "no JSON": (
        lambda p: (folder(p), (p / "items.jsonl").write_text("{]\n")),
        "items.jsonl line 1: is not JSON",
    ),
    "no object": (lambda p: (folder(p), (p / "items.jsonl").write_text("[1]\n")), "is not a JSON object"),
    "no UTF-8": (lambda p: (folder(p), (p / "items.jsonl").write_bytes(b"\xff\xfe")), "is not UTF-8"),
    "half a character": (
        lambda p: (folder(p), (p / "items.jsonl").write_text('{"item_id": "1", "prompt": "\\ud83d"}\n')),
        "items.jsonl line 1: holds half of a character",
    ),
    "two of a kind": (lambda p: (folder(p), (p / "items.csv").write_text("item_id\n")), "keep one"),
    "ragged CSV": (
        lambda p: (p / "items.csv").write_text("item_id,prompt\n1,a,b\n"),
        "items.csv line 2: has another number of columns",
    ),
    "sample of nothing": (
        lambda p: lines(
            folder(p) / "samples.jsonl", [{"item_id": "2", "model": "k", "sample": 0, "score": 1}]
        ),
        "has no row in outcomes",
    ),
    "sample twice": (
        lambda p: lines(
            folder(p) / "samples.jsonl", [{"item_id": "1", "model": "k", "sample": 0, "score": 1}] * 2
        ),
        "is there twice",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_table_is_told_by_its_fault(tmp_path: Path, name: str) -> None:
    """Each way of being broken gives one error that names place and reason."""
    where = tmp_path / "set"
    where.mkdir()
    breaks, told = BROKEN[name]
    breaks(where)
    with pytest.raises(ConfigError, match=told):
        read(where)
