"""Recorded outcomes: what each worker answered to each prompt, how good that was and what it cost, read from a folder.

A folder holds `items` and `outcomes`, perhaps `samples` and `texts`, each as `.parquet`, `.csv` or `.jsonl`:

| file | one row per | columns (in brackets: may be absent or null) |
|---|---|---|
| items | prompt | `item_id`, `prompt`, [`dataset`], [`task`], [`reference`], [`split`: `train`/`dev`/`test`], [`tools`: JSON] |
| outcomes | item and worker | `item_id`, `model`, `score` 0..1, [`cost_usd`], [`answer`], [`latency_s`], |
|  |  | [`prompt_tokens`], [`completion_tokens`] |
| samples | completion | `item_id`, `model`, `sample`, `score`, [`answer`], [`completion_tokens`] |
| texts | item and worker | `item_id`, `model`, `text` |
"""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from stretto.errors import ConfigError

__all__ = ["PARTLY", "Item", "Said", "Table", "read", "read_rows"]

PARTLY: Final = 0.4
"""A worker with gaps counts if it knows this share of the items."""

_MOST: Final = 1e6
_KINDS: Final = (".parquet", ".csv", ".jsonl")
_HALF: Final = re.compile(r"\\u[dD][89a-fA-F]")
"""Half of a character outside the first plane, as JSON writes it."""


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt. `tools` is JSON text; `more` holds the columns that Stretto does not know."""

    id: str
    prompt: str
    dataset: str = ""
    task: str = ""
    reference: str | None = None
    split: str = "train"
    tools: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Said:
    """What a worker answered once: score 0..1, USD, tokens in and out, seconds. `None`: not recorded.

    `confidence`: the probability of the least certain token, 0..1.
    """

    score: float
    cost: float | None = None
    input: int | None = None
    output: int | None = None
    seconds: float | None = None
    answer: str | None = None
    text: str | None = None
    confidence: float | None = None


class Table:
    """Items and what was said to them. `workers` in the order of the file; not every worker need know every item."""

    def __init__(
        self, name: str, items: Sequence[Item], said: Mapping[str, Mapping[str, Sequence[Said]]]
    ) -> None:
        self.name = name
        self.items = tuple(items)
        self.workers = tuple(said)
        self._said = said
        self._by_id = {item.id: item for item in items}

    def item(self, id: str) -> Item | None:
        """The item of an id."""
        return self._by_id.get(id)

    def said(self, item: str, worker: str, sample: int = 0) -> Said | None:
        """What a worker said to an item (sample 0 is the first, or the only one); `None` if that was not recorded."""
        found = self._said.get(worker, {}).get(item, ())
        return found[sample] if sample < len(found) else None

    def samples(self, item: str, worker: str) -> int:
        """How many completions are recorded."""
        return len(self._said.get(worker, {}).get(item, ()))

    def covering(self, share: float = 0.985) -> tuple[str, ...]:
        """The workers that know at least this share of the items."""
        return tuple(w for w in self.workers if len(self._said[w]) >= share * len(self.items))

    def partly(self, least: float = PARTLY) -> tuple[str, ...]:
        """The workers with gaps: they know this share of the items at least, but not nearly all."""
        whole = set(self.covering())
        return tuple(w for w in self.covering(least) if w not in whole)

    def only(
        self,
        keep: Callable[[Item], bool] = lambda item: True,
        workers: Sequence[str] | None = None,
        *,
        complete: bool = False,
    ) -> "Table":
        """A part of it: the items that `keep` lets pass and the named workers; `complete`: items that all of these know."""
        named = self.workers if workers is None else tuple(workers)
        if unknown := [w for w in named if w not in self._said]:
            raise ConfigError(f"{self.name}: no outcomes of {', '.join(unknown)}")
        items = [
            i for i in self.items if keep(i) and (not complete or all(i.id in self._said[w] for w in named))
        ]
        ids = {i.id for i in items}
        said = {w: {i: s for i, s in self._said[w].items() if i in ids} for w in named}
        return Table(self.name, items, said)

    def unrolled(self) -> "Table":
        """Every further sample as a worker of its own, `NAME#2`, `NAME#3`: what a same-model panel may ask."""
        said: dict[str, dict[str, Sequence[Said]]] = {}
        for worker, by_item in self._said.items():
            for item, found in by_item.items():
                for number, one in enumerate(found, 1):
                    said.setdefault(worker if number == 1 else f"{worker}#{number}", {})[item] = (one,)
        return Table(self.name, self.items, said)


def read(folder: Path, *, texts: bool = False) -> Table:
    """Read a folder of recorded outcomes; `texts` also reads the whole answers. Raises `ConfigError`: file, row and fault."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder")
    items = _items(folder, _needed(folder, "items"))
    ids = {item.id for item in items}
    said: dict[str, dict[str, tuple[Said, ...]]] = {}
    file = _needed(folder, "outcomes")
    for number, row in enumerate(read_rows(file), 1):
        where = f"{file.name} row {number}"
        item, worker = _key(row, where, ids)
        if item in said.setdefault(worker, {}):
            raise ConfigError(
                f"{where}: {worker} has answered {item} before; more than one answer belongs in samples"
            )
        said[worker][item] = (_said(row, where),)
    if not said:
        raise ConfigError(f"{file}: has no rows")
    if (extra := _file(folder, "samples")) is not None:
        _take_samples(extra, ids, said)
    if texts and (extra := _file(folder, "texts")) is not None:
        _take_texts(extra, ids, said)
    return Table(folder.name, items, said)


def _items(folder: Path, file: Path) -> list[Item]:
    items: list[Item] = []
    seen: set[str] = set()
    known = {"item_id", "prompt", "dataset", "task", "reference", "split", "tools"}
    for number, row in enumerate(read_rows(file), 1):
        where = f"{file.name} row {number}"
        id, prompt = _text(row, "item_id", where), _text(row, "prompt", where)
        if id in seen:
            raise ConfigError(f"{where}: item_id {id!r} is there twice")
        seen.add(id)
        split = row.get("split") or "train"
        if split not in ("train", "dev", "test"):
            raise ConfigError(f"{where}: split is {split!r}; it must be train, dev or test")
        reference, tools = row.get("reference"), row.get("tools")
        items.append(
            Item(
                id,
                prompt,
                str(row.get("dataset") or folder.name),
                str(row.get("task") or ""),
                None if reference is None else str(reference),
                split,
                _tools(tools, where),
                {k: v for k, v in row.items() if k not in known},
            )
        )
    if not items:
        raise ConfigError(f"{file}: has no rows")
    return items


def _tools(value: Any, where: str) -> str:
    if value is None or value == "":
        return ""
    try:
        found = json.loads(value)
    except (ValueError, TypeError, RecursionError):
        raise ConfigError(f"{where}: tools is not JSON text") from None
    if not isinstance(found, list | dict):
        raise ConfigError(f"{where}: tools is JSON text, but neither a tool nor a list of them")
    return str(value)


def _take_samples(file: Path, ids: set[str], said: dict[str, dict[str, tuple[Said, ...]]]) -> None:
    """Put the recorded completions in the place of their mean. An answer cut short in samples keeps its first one whole."""
    found: dict[tuple[str, str], dict[int, Said]] = {}
    for number, row in enumerate(read_rows(file), 1):
        where = f"{file.name} row {number}"
        item, worker = _key(row, where, ids)
        sample = _number(row, "sample", where, needed=True)
        assert sample is not None
        one = _said(row, where)
        base = said.get(worker, {}).get(item)
        if base is None:
            raise ConfigError(f"{where}: {worker} has no row in outcomes for {item}")
        cost = one.cost if one.cost is not None else base[0].cost
        answer = base[0].answer if int(sample) == 0 and base[0].answer is not None else one.answer
        if int(sample) in found.setdefault((worker, item), {}):
            raise ConfigError(f"{where}: sample {int(sample)} of {worker} for {item} is there twice")
        found[worker, item][int(sample)] = Said(
            one.score, cost, one.input or base[0].input, one.output or base[0].output, base[0].seconds, answer
        )
    for (worker, item), by_number in found.items():
        said[worker][item] = tuple(by_number[n] for n in sorted(by_number))


def _take_texts(file: Path, ids: set[str], said: dict[str, dict[str, tuple[Said, ...]]]) -> None:
    for number, row in enumerate(read_rows(file), 1):
        item, worker = _key(row, f"{file.name} row {number}", ids)
        if (found := said.get(worker, {}).get(item)) and row.get("text") is not None:
            s = found[0]
            whole = replace(s, text=str(row["text"]))
            said[worker][item] = (whole, *found[1:])


def _key(row: Mapping[str, Any], where: str, ids: set[str]) -> tuple[str, str]:
    item, worker = _text(row, "item_id", where), _text(row, "model", where)
    if item not in ids:
        raise ConfigError(f"{where}: item_id {item!r} is not among the items")
    return item, worker


def _said(row: Mapping[str, Any], where: str) -> Said:
    score = _number(row, "score", where, needed=True)
    assert score is not None
    if not 0 <= score <= 1:
        raise ConfigError(f"{where}: score is {score}; it must lie between 0 and 1")
    cost = _number(row, "cost_usd", where)
    if cost is not None and cost > _MOST:
        raise ConfigError(
            f"{where}: cost_usd is {cost:g}; it is what one answer cost, in USD, at most {_MOST:g}"
        )
    given, written = _number(row, "prompt_tokens", where), _number(row, "completion_tokens", where)
    answer = row.get("answer")
    return Said(
        score,
        cost,
        None if given is None else int(given),
        None if written is None else int(written),
        _number(row, "latency_s", where),
        None if answer is None else str(answer),
        confidence=_share(row, where),
    )


def _share(row: Mapping[str, Any], where: str) -> float | None:
    """The confidence of a row, if it tells one."""
    found = _number(row, "confidence", where)
    if found is not None and found > 1:
        raise ConfigError(f"{where}: confidence is {found}; it must lie between 0 and 1")
    return found


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    if value is None or value == "":
        there = f"; the row has {', '.join(map(str, row))}" if column not in row else ""
        raise ConfigError(f"{where}: {column} is missing or empty{there}")
    if not isinstance(value, str | int | float):
        raise ConfigError(f"{where}: {column} is {type(value).__name__}, not a text")
    return str(value)


def _number(row: Mapping[str, Any], column: str, where: str, *, needed: bool = False) -> float | None:
    value = row.get(column)
    try:
        number = math.nan if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{where}: {column} is {value!r}, not a number") from None
    if math.isnan(number):  # so data frames write what is not known
        if needed:
            raise ConfigError(f"{where}: {column} is missing")
        return None
    if not math.isfinite(number) or number < 0:
        raise ConfigError(f"{where}: {column} is {number}; it must be finite and not negative")
    return number


def _needed(folder: Path, stem: str) -> Path:
    found = _file(folder, stem)
    if found is None:
        raise ConfigError(f"{folder}: there is no {stem}.parquet, {stem}.csv or {stem}.jsonl")
    return found


def _file(folder: Path, stem: str) -> Path | None:
    found = [folder / f"{stem}{kind}" for kind in _KINDS if (folder / f"{stem}{kind}").is_file()]
    if len(found) > 1:
        raise ConfigError(f"{folder}: {' and '.join(f.name for f in found)} say the same; keep one")
    return found[0] if found else None


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a `.parquet`, `.csv` or `.jsonl` file; `NaN` is nothing. Raises `ConfigError` if it cannot be read as that."""
    try:
        if file.suffix == ".parquet":
            return _parquet(file)
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not UTF-8 text; save it as that, not packed") from None
    if file.suffix == ".csv":
        return _csv(file, text)
    if file.suffix != ".jsonl":
        raise ConfigError(f"{file}: is neither .parquet nor .csv nor .jsonl")
    return _jsonl(file, text)


def _csv(file: Path, text: str) -> list[dict[str, Any]]:
    csv.field_size_limit(
        max(csv.field_size_limit(), len(text) + 1)
    )  # a prompt may be longer than the usual limit
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        rows = list(reader)
    except csv.Error as error:
        raise ConfigError(f"{file.name} line {reader.line_num}: is not CSV ({error})") from None
    head = list(reader.fieldnames or ())
    if twice := [name for name in head if head.count(name) > 1]:
        raise ConfigError(f"{file.name}: the head has the column {twice[0]!r} twice")
    for number, row in enumerate(rows, 2):
        if None in row or any(v is None for v in row.values()):
            raise ConfigError(f"{file.name} line {number}: has another number of columns than the head")
    return [{k: (None if v == "" else v) for k, v in row.items()} for row in rows]


def _jsonl(file: Path, text: str) -> list[dict[str, Any]]:
    found = []
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: JSON text may hold other line ends
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_constant)
        except (ValueError, RecursionError) as error:
            raise ConfigError(
                f"{file.name} line {number}: is not JSON ({error}); every line must be one whole JSON object"
            ) from None
        if not isinstance(row, dict):
            raise ConfigError(f"{file.name} line {number}: is not a JSON object; every line must be one")
        if _HALF.search(line) and _halved(row):
            raise ConfigError(
                f"{file.name} line {number}: holds half of a character (`\\ud...` alone); replace or remove it"
            )
        found.append(row)
    return found


def _constant(name: str) -> float | None:
    """What is no JSON and yet written by Python: `NaN` is what a data frame does not know."""
    return None if name == "NaN" else float(name)


def _halved(row: Mapping[str, Any]) -> bool:
    """Whether a text of a row cannot be written as UTF-8."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _parquet(file: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ConfigError(
            f"{file}: reading Parquet needs pyarrow; install stretto[evidence], or give .csv or .jsonl"
        ) from None
    try:
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(file).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise ConfigError(f"{file}: is not a Parquet file ({error})") from None
    return rows
