"""The orchestrators by name: what their options mean, what is refused, and who answers before they plan."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stretto import artifacts
from stretto.artifacts import Artifact, packed
from stretto.catalog import Catalog, Learned
from stretto.errors import ConfigError
from stretto.policies.conductor import CONDUCTOR_SCHEMA, Conductor
from stretto.policies.coordinator import TRINITY_SCHEMA
from stretto.policies.fuse import Fuse
from stretto.policies.judging import COMPACT
from stretto.policies.outright import Outright
from stretto.policies.route import Route
from stretto.policies.ultra import Ultra
from tests.unit.test_catalog import CARDS, TABLE, catalog, refused, settings

TRAINED = {
    "workers": ["cheap", "dear"],
    "plan": "{models} {question}",
    "again": "{models} {question} {reply}",
    "forms": "given",
}
HEAD = {"kind": "linear", "weight": packed(np.eye(5))}


def test_a_conductor_of_ones_own_takes_its_options() -> None:
    """A named planner, its workers and the wordings; where a table was learned, `route` answers without a plan."""
    text = """
[policy.team]
type = "conductor"
planner = "dear"
among = ["cheap", "middling"]
steps = 2
depth = 1
itself = true
doubt = 0.5
"""
    team = catalog(text).resolve("team")
    assert isinstance(team, Conductor)
    assert (team.planner, team.workers, team.steps) == ("dear", ("cheap", "middling"), 2)
    assert (team.depth, team.itself, team.doubt, team.otherwise) == (1, True, 0.5, None)
    taught = catalog(text + "alone = 1\n", Learned(table=TABLE)).resolve("team")
    assert isinstance(taught, Conductor)
    assert isinstance(taught.otherwise, Route)
    assert "there is no worker" in refused('[policy.x]\ntype = "conductor"\nplanner = "nobody"')


def test_who_is_known_to_be_right_answers_before_a_conductor_plans() -> None:
    """Where a table was learned, among the conductor's own workers; ultra asks for itself and holds the planning one."""
    text = '[policy.team]\ntype = "conductor"\namong = ["cheap"]\nalone = 0.5\n[policy.best]\ntype = "ultra"\nconductor = "team"'
    names = catalog(text, Learned(table=TABLE))
    team, usual, best = names.resolve("team"), names.resolve("conductor"), names.resolve("best")
    assert isinstance(team, Outright)
    assert (team.name, team.least, team.among) == ("team", 0.5, ("cheap",))
    assert isinstance(usual, Outright)
    assert (usual.name, usual.least, usual.among, usual.temperature) == ("conductor", 0.9, (), None)
    assert isinstance(best, Outright)
    assert (best.name, best.least) == ("best", 0.9)
    assert isinstance(best.policy, Ultra)
    assert best.policy.conductor.workers == ("cheap",)
    assert next(c for c in names.models() if c.id == "conductor").labels["type"] == "conductor"


def test_ultra_checks_by_confidence_where_something_was_learned() -> None:
    """A pool that is known and tells how sure it is needs no verifier: each doubtful step gets company."""
    for text in ("", '[policy.stretto-ultra]\ntype = "ultra"\nalone = 1'):
        ultra = catalog(text, Learned(table=TABLE)).resolve("stretto-ultra")
        if not text:
            assert isinstance(ultra, Outright)
            ultra = ultra.policy
        assert isinstance(ultra, Ultra)
        assert (ultra.check, ultra.verifier, ultra.writer) == ("confidence", "", "")
        assert ultra.conductor.doubt == 0.9
        assert (ultra.conductor.want, ultra.conductor.otherwise) == (
            "logprobs",
            None,
        )  # checked without a plan, too


def test_ultra_takes_its_options() -> None:
    """Another conductor, a verifier and a writer of the owner's; what is no conductor is refused."""
    text = """
[policy.team]
type = "conductor"
planner = "middling"

[policy.best]
type = "ultra"
conductor = "team"
verifier = "cheap"
panel = ["dear", "cheap"]
writer = "dear"
wordings = "compact"
"""
    best = catalog(text).resolve("best")
    assert isinstance(best, Ultra)
    assert (best.conductor.planner, best.check, best.verifier) == ("middling", "verifier", "cheap")
    assert (best.panel, best.writer, best.wordings) == (("dear", "cheap"), "dear", COMPACT)
    assert "no policy of type conductor" in refused('[policy.x]\ntype = "ultra"\nconductor = "fuse"')


def test_a_pool_of_one_worker_has_nothing_to_conduct() -> None:
    """There `stretto-ultra` resamples it, as `fuse` does."""
    names = Catalog((CARDS[0],), settings())
    alone = names.resolve("stretto-ultra")
    assert isinstance(alone, Fuse)
    assert alone.panel == ("dear", "dear", "dear")


def planned_by(folder: Path, options: str = "", learned: Learned | None = None, **data: Any) -> Catalog:
    """The catalogue with a conductor `team` of an artefact with this data."""
    artifacts.write(Artifact(CONDUCTOR_SCHEMA, data={**TRAINED, **data}), folder / "conductor.json")
    text = f'[policy.team]\ntype = "conductor"\nartifact = "conductor.json"\n{options}'
    return Catalog(CARDS, settings(text, str(folder / "stretto.toml")), learned or Learned())


def test_a_trained_conductor_knows_its_workers_and_their_seats(tmp_path: Path) -> None:
    """By their places in the artefact; a newcomer sits in the place of one of them."""
    team = planned_by(tmp_path, 'seats = ["middling=dear"]', seats={"late": "cheap"}).resolve("team")
    assert isinstance(team, Conductor)
    assert team.workers == ("cheap", "dear")
    assert team.seats == {"late": "cheap", "middling": "dear"}
    asking = planned_by(tmp_path, learned=Learned(table=TABLE)).resolve("team")
    assert isinstance(asking, Outright)
    assert (asking.least, asking.temperature) == (0.5, 0.0)


@pytest.mark.parametrize(
    ("options", "data", "told"),
    [
        ('seats = ["middling=nobody"]', {}, 'not trained with "nobody"; its workers are cheap, dear'),
        ('seats = ["nobody=dear"]', {}, 'there is no worker "nobody"'),
        ('planner = "dear"', {}, "leave `planner` out, or the artefact"),
        ('among = ["dear"]', {}, "knows the workers of its artefact only"),
        ("", {"plan": "{model}"}, "is not what `stretto train conductor` writes: 'model'"),
        ("", {"again": "{}"}, "is not what `stretto train conductor` writes"),
        ("", {"forms": "other"}, "is not what `stretto train conductor` writes"),
    ],
)
def test_what_a_trained_conductor_cannot_be_is_said_at_the_start(
    tmp_path: Path, options: str, data: dict[str, Any], told: str
) -> None:
    """Nothing waits for the first request."""
    with pytest.raises(ConfigError) as caught:
        planned_by(tmp_path, options, **data)
    assert told in str(caught.value)


def test_a_general_planner_has_no_seats() -> None:
    """It is told of workers by description; numbers of a training mean nothing to it."""
    assert "general planner has no seats" in refused(
        '[policy.x]\ntype = "conductor"\nplanner = "dear"\nseats = ["cheap=dear"]'
    )


def test_a_trinity_of_ones_own_asks_before_it_takes_turns(tmp_path: Path) -> None:
    """Where a table was learned and `alone` is below 1, at the temperature of the training; a wrong artefact is refused."""
    data = {"workers": ["cheap", "dear"], "head": HEAD, "forms": "given", "temperature": 0}
    artifacts.write(Artifact(TRINITY_SCHEMA, data=data), tmp_path / "trinity.json")

    def resolved(options: str = "") -> object:
        text = f'[policy.team]\ntype = "trinity"\nartifact = "trinity.json"\n{options}'
        return Catalog(CARDS, settings(text, str(tmp_path / "stretto.toml")), Learned(table=TABLE)).resolve(
            "team"
        )

    team = resolved()
    assert isinstance(team, Outright)
    assert (team.least, team.temperature) == (0.5, 0)
    assert not isinstance(resolved("alone = 1"), Outright)
    artifacts.write(
        Artifact(TRINITY_SCHEMA, data={**data, "head": {"kind": "cubic"}}), tmp_path / "trinity.json"
    )
    with pytest.raises(ConfigError, match="no head of kind 'cubic'"):
        resolved()
