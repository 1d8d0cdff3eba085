"""The gateway's own look-out: when it checks, who does so, what it follows, and that its troubles stay its own."""

import asyncio
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")

from stretto.artifacts import Artifact
from stretto.catalog import Catalog, Learned
from stretto.catalog.masks import Masks
from stretto.catalog.watch import LOOK, Watch, asked
from stretto.config import Settings, WatchSettings
from stretto.engine.run import Engine
from stretto.errors import ConfigError
from stretto.learning.promotion import Promise, Promotions
from stretto.ledger.journal import JournalStore
from stretto.policies.route import TABLE_SCHEMA, Route, Table
from stretto.testing import ScriptedPool
from stretto.types import Card, Message, Price, Request

ALL = WatchSettings(hours=1.0, demote=True, mask=True, mask_hours=2.0)


class Enough(Exception):
    """The time that a test gives is over."""


class Day:
    """Time that passes only while the watch waits, and what it asked for meanwhile."""

    def __init__(self, seconds: float) -> None:
        self.now = 0.0
        self.asked: list[tuple[float, tuple[str, ...]]] = []
        self.renewed: list[float] = []
        self.says: dict[str, Any] = {}
        self._end = seconds
        self.at: dict[float, Any] = {}

    async def pause(self, seconds: float) -> None:
        """Jump ahead, and do what is to happen at that time."""
        self.now += seconds
        if (act := self.at.get(self.now)) is not None:
            act()
        if self.now >= self._end:
            raise Enough

    async def run(self, arguments: Sequence[str]) -> bytes:
        """A command of ours."""
        self.asked.append((self.now, tuple(arguments)))
        return json.dumps(self.says.get(arguments[0], [] if arguments[0] == "demote" else {})).encode()

    def watch(self, data: Path, settings: WatchSettings = ALL) -> Watch:
        """A watch that lives in this day."""
        return Watch(
            data,
            settings,
            lambda: self.renewed.append(self.now),
            run=self.run,
            pause=self.pause,
            clock=lambda: self.now,
        )


def lived(day: Day, *watches: Watch) -> None:
    """Until the day is over."""

    async def all_day() -> None:
        for watch in watches:
            with pytest.raises(Enough):
                await watch.keep()

    asyncio.run(all_day())


def folder(tmp_path: Path) -> Path:
    """A data folder in which something was promoted once."""
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "promotions.jsonl").write_text("")
    return tmp_path


def test_it_checks_at_the_start_and_every_so_often(tmp_path: Path) -> None:
    """Promises and workers, at 0, 1 and 2 hours, on this data folder."""
    day = Day(2.5 * 3600)
    lived(day, day.watch(folder(tmp_path)))
    assert [round(t / 3600) for t, a in day.asked if a[0] == "demote"] == [0, 1, 2]
    assert day.asked[0][1] == ("demote", "--check", "--data", str(tmp_path), "--json")
    assert day.asked[1][1] == ("drift", "--mask", "--hours", "2", "--data", str(tmp_path), "--json")


@pytest.mark.parametrize(
    ("settings", "kinds"),
    [
        (WatchSettings(), {"demote"}),
        (WatchSettings(demote=False), set()),
        (WatchSettings(demote=False, mask=True), {"drift"}),
        (WatchSettings(hours=0, mask=True), set()),
    ],
)
def test_what_is_looked_after_is_the_owners_choice(
    tmp_path: Path, settings: WatchSettings, kinds: set[str]
) -> None:
    """By default promises alone; 0 hours: nothing."""
    day = Day(7200)
    lived(day, day.watch(folder(tmp_path), settings))
    assert {a[0] for _, a in day.asked} == kinds


def test_where_nothing_was_ever_promoted_nothing_is_started(tmp_path: Path) -> None:
    """A newcomer's gateway starts no process beside itself, and leaves no file behind."""
    day = Day(7200)
    lived(day, day.watch(tmp_path))
    assert day.asked == []
    assert list(tmp_path.iterdir()) == []


def test_one_process_of_a_data_folder_checks(tmp_path: Path) -> None:
    """The second one does not while the first lives, and takes over once it has ended."""
    data, first, second = folder(tmp_path), Day(3600), Day(3600)
    one, two = first.watch(data), second.watch(data)
    first.at[LOOK] = lambda: lived_in_between.append(True)
    lived_in_between: list[bool] = []

    async def both() -> None:
        begun = asyncio.Event()
        gate = asyncio.Event()

        async def hold(seconds: float) -> None:
            begun.set()
            await gate.wait()
            raise Enough

        one._pause = hold
        task = asyncio.create_task(one.keep())
        await begun.wait()
        with pytest.raises(Enough):
            await two.keep()
        assert second.asked == []
        gate.set()
        with pytest.raises(Enough):
            await task
        third = Day(60)
        with pytest.raises(Enough):
            await third.watch(data).keep()
        assert third.asked

    asyncio.run(both())
    assert len(first.asked) == 2


def test_artefacts_that_change_are_served_within_seconds(tmp_path: Path) -> None:
    """A promotion, and one more; a file that is as it was is not read again."""
    day = Day(60)
    file = folder(tmp_path) / "artifacts" / "route-table.json"
    watch = day.watch(tmp_path)
    day.at[10.0] = lambda: file.write_text("one")
    day.at[30.0] = file.unlink
    lived(day, watch)
    assert day.renewed == [10.0, 30.0]


def test_its_troubles_are_told_and_reach_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What was done is logged with its reason; an artefact that cannot be served leaves what is served as it was."""
    day = Day(30)
    day.says = {
        "demote": [{"file": "evidence.json", "demoted": True, "told": "promised .9, brought .5"}],
        "drift": {"newly": ["big"], "left_out": {"big": "agreed 3 of 90 times"}},
    }
    data = folder(tmp_path)
    day.at[5.0] = lambda: (data / "artifacts" / "evidence.json").write_text("{}")

    def broken() -> None:
        raise ConfigError("artefact evidence.json: is not an artefact")

    with caplog.at_level(logging.WARNING, logger="stretto.watch"):
        lived(day, Watch(data, ALL, broken, run=day.run, pause=day.pause, clock=lambda: day.now))
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "evidence.json: promised .9, brought .5",
        "big is left out: agreed 3 of 90 times",
        "what is served stays as it was: artefact evidence.json: is not an artefact",
    ]


# --- the real commands, and the real catalogue -----------------------------------------------------------------------


def table(best: str) -> Artifact:
    """A route table that prefers one of two workers."""
    workers = {w: [90 if w == best else 10, 100] for w in ("cheap", "dear")}
    words = {word: {"ask": -1.0} for word in ("question", "0", ".")}
    data = {"tasks": {"ask": {"prior": 1.0, "workers": workers}}, "words": words, "unseen": {"ask": -6.0}}
    return Artifact(TABLE_SCHEMA, {}, data)


def test_a_promise_that_breaks_is_taken_back_by_itself(tmp_path: Path) -> None:
    """Promoted with a score of .9, answers score .2: the check of the watch, with the real command, puts nothing in its place."""
    promotions = Promotions(tmp_path)
    made = table("cheap")
    promotions.promote(
        made, Promise("dear", "a test", 500, 0.9, (0.1, 0.05, 0.15), (0.5, 0.4, 0.6), 0.01, "better")
    )
    store = JournalStore(tmp_path)

    async def year() -> None:
        engine = Engine(
            ScriptedPool({"cheap": "7", "dear": "7"}, prices={"cheap": Price.per_million(1, 1)}), store
        )
        for number in range(40):
            request = Request(messages=(Message("user", f"question {number}"),))
            run = await engine.run(Route(table=Table(made)), request, name="route")
            await engine.score(run.id, float(number % 5 == 0))
        renewed: list[int] = []
        watch = Watch(tmp_path, WatchSettings(), lambda: renewed.append(1))
        await watch.check()
        await watch.follow()
        assert renewed == [1]

    try:
        asyncio.run(year())
    finally:
        store.close()
    assert promotions.current("route-table.json") is None
    (_, record) = promotions.history("route-table.json")
    assert record.what == "demoted"
    assert "promised a score of at least 0.890" in record.reason


def test_a_command_that_fails_is_told_and_brings_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its own words stand in the log."""
    with caplog.at_level(logging.WARNING, logger="stretto.watch"):
        assert asyncio.run(asked(("demote", "nothing.json", "--data", str(tmp_path)))) == b""
    assert "stretto demote nothing.json failed: Error: nothing.json: is none of" in caplog.text


def test_of_two_who_find_the_same_fault_one_acts(tmp_path: Path) -> None:
    """Going back from a named version does not go back twice."""
    promotions, promise = (
        Promotions(tmp_path),
        Promise("x", "y", 1, 0.9, (0, 0, 0), (0, 0, 0), 0.01, "better"),
    )
    for best in ("cheap", "dear"):
        promotions.promote(table(best), promise)
    promotions.back("route-table.json", "demoted", "why", table("dear").hash)
    with pytest.raises(ConfigError, match="no longer served"):
        promotions.back("route-table.json", "demoted", "why", table("dear").hash)
    current = promotions.current("route-table.json")
    assert current is not None
    assert current.hash == table("cheap").hash


def test_a_catalogue_goes_by_other_artefacts_from_now_on(tmp_path: Path) -> None:
    """Names stay, their policies are built anew, also behind a mask; what cannot be built leaves all as it was."""
    cards = tuple(Card(w, Price.per_million(1, 1)) for w in ("cheap", "dear"))
    masks = Masks(tmp_path)
    catalog = Catalog(cards, Settings(), Learned(table=table("cheap")), masks.current)
    before, names = catalog.resolve("route"), [c.id for c in catalog.models()]
    catalog.renew(Learned(table=table("dear")))
    after = catalog.resolve("route")
    assert before != after
    assert [c.id for c in catalog.models()] == names
    with pytest.raises(ValueError, match="schema"):
        catalog.renew(Learned(evidence=table("cheap")))
    assert catalog.resolve("route") is after
