"""Names on the wire: what each stands for, and what a wrong one is answered with."""

from pathlib import Path

import pytest

from stretto import artifacts
from stretto.artifacts import Artifact
from stretto.catalog import BUILT_IN, Catalog, Learned
from stretto.config import Settings, parse
from stretto.errors import ConfigError, UnknownModel
from stretto.policies.cascade import Cascade
from stretto.policies.fallback import Fallback
from stretto.policies.fuse import Fuse
from stretto.policies.route import Route, Uniform
from stretto.policies.solo import Solo
from stretto.types import Card, Price

SURE = frozenset({"text", "logprobs"})
CARDS = (
    Card("dear", Price.per_million(5, 25), abilities=SURE),
    Card("cheap", Price.per_million(0.1, 0.4), abilities=SURE),
    Card("middling", Price.per_million(1, 4), abilities=SURE),
)
TABLE = Artifact(
    "stretto.route-table/1",
    data={
        "tasks": {"t": {"prior": 1.0, "workers": {"cheap": [9, 10]}}},
        "words": {},
        "unseen": {"t": -9.0},
    },
)


def settings(text: str = "", file: str = "stretto.toml") -> Settings:
    """Settings from the text of a file."""
    return parse(text, file=file, environ={})


def catalog(text: str = "", learned: Learned | None = None) -> Catalog:
    """The catalogue of three workers."""
    return Catalog(CARDS, settings(text), learned or Learned())


def refused(text: str) -> str:
    """What the error about a configuration says."""
    with pytest.raises(ConfigError) as caught:
        catalog(text)
    return str(caught.value)


def test_every_worker_and_every_built_in_name_stands_for_a_policy() -> None:
    """Workers are asked alone, and the built-in names exist for any pool."""
    names = catalog()
    assert names.resolve("dear") == Solo("dear")
    assert isinstance(names.resolve("route"), Route)
    assert isinstance(names.resolve("cascade"), Cascade)
    assert isinstance(names.resolve("fuse"), Fuse)
    assert names.resolve("fallback") == Fallback(("dear", "cheap", "middling"))
    assert [card.id for card in names.models()] == ["dear", "cheap", "middling", *BUILT_IN]
    assert {card.labels.get("kind") for card in names.models()[3:]} == {"policy"}


def test_a_name_gives_the_same_object_every_time() -> None:
    """The engine remembers versions by identity, so a name must not be rebuilt for each call."""
    names = catalog()
    assert all(names.resolve(card.id) is names.resolve(card.id) for card in names.models())


def test_the_headline_models_are_what_they_are_documented_as() -> None:
    """`stretto` is the cascade until a table is learned, then the route; `stretto-ultra` is the panel."""
    names = catalog()
    assert names.resolve("stretto") is names.resolve("cascade")
    assert names.resolve("stretto-ultra") is names.resolve("fuse")
    taught = catalog(learned=Learned(table=TABLE))
    assert taught.resolve("stretto") is taught.resolve("route")


def test_a_cascade_climbs_from_cheap_to_dear_by_what_its_workers_can_show() -> None:
    """The default ladder is ordered by price and checks confidence; without log-probabilities the dearest checks the cheapest."""
    ladder = catalog().resolve("cascade")
    assert isinstance(ladder, Cascade)
    assert [rung.name for rung in ladder.rungs] == ["cheap", "middling", "dear"]
    assert ladder.check == "confidence"
    mute = Catalog((Card("a", Price(1)), Card("b", Price(2)), Card("c", Price(3))), settings()).resolve(
        "cascade"
    )
    assert isinstance(mute, Cascade)
    assert [rung.name for rung in mute.rungs] == ["a", "c"]
    assert (mute.check, mute.verifier) == ("verifier", "c")


def test_a_panel_that_does_not_tell_how_sure_it_is_is_judged_by_its_dearest_member() -> None:
    """Free prose gets no two equal votes, so by default the dearest picks; who asks for a vote gets one."""
    cards = (Card("a", Price(1)), Card("b", Price(2)))
    judged = Catalog(cards, settings()).resolve("fuse")
    assert isinstance(judged, Fuse)
    assert (judged.how, judged.judge) == ("select", "b")
    voting = Catalog(cards, settings('[policy.fuse]\ntype = "fuse"\nhow = "vote"\n')).resolve("fuse")
    assert isinstance(voting, Fuse)
    assert voting.how == "vote"


def test_a_control_by_lot_can_be_named() -> None:
    """`type = "random"` draws among the workers that are listed."""
    assert catalog('[policy.lot]\ntype = "random"\namong = ["cheap", "dear"]\n').resolve("lot") == Uniform(
        ("cheap", "dear")
    )


def test_a_pool_of_one_is_resampled() -> None:
    """With a single worker the panel is three samples of it."""
    alone = Catalog(CARDS[:1], settings()).resolve("fuse")
    assert isinstance(alone, Fuse)
    assert alone.panel == ("dear", "dear", "dear")


def test_of_a_large_pool_the_built_in_policies_play_the_usual_workers() -> None:
    """Nobody meets the bill of an extreme or unpriced worker without naming it; a tied vote goes to the dearest of the panel."""
    many = tuple(Card(f"w{n:03}", Price.per_million(1 + n / 50, 5 + n / 10)) for n in range(140))
    extreme = Card("extreme", Price.per_million(150, 600))
    pool = (
        extreme,
        Card("unpriced", priced=False),
        Card("vectors", abilities=frozenset({"embedding"})),
        *many,
    )
    names = Catalog(pool, settings())
    ladder, panel, line = (names.resolve(name) for name in ("cascade", "fuse", "fallback"))
    assert isinstance(ladder, Cascade)
    assert [rung.name for rung in ladder.rungs] == ["w000", "w139"]
    assert isinstance(panel, Fuse)
    assert panel.panel == ("w139", "w138", "w137", "w136")
    assert names.resolve("stretto-ultra") is panel
    assert isinstance(line, Fallback)
    assert "vectors" not in line.workers


def test_a_pool_that_was_chosen_by_hand_is_played_whole() -> None:
    """With few workers there is nothing to leave out, however far apart their prices are."""
    few = (
        Card("a", Price.per_million(0.1, 0.1), abilities=frozenset({"text", "logprobs"})),
        Card("b", Price.per_million(100, 100), abilities=frozenset({"text", "logprobs"})),
        Card("c", priced=False),
    )
    ladder = Catalog(few, settings()).resolve("cascade")
    assert isinstance(ladder, Cascade)
    assert [rung.name for rung in ladder.rungs] == ["a", "b", "c"]


def test_the_owners_policies_are_names_on_the_wire() -> None:
    """A `[policy.NAME]` is built from its options, may refer to another one, and may replace a built-in."""
    names = catalog(
        """
        [policy.ladder]
        type = "cascade"
        rungs = ["cheap", "panel"]
        check = "verifier"
        verifier = "middling"
        [policy.panel]
        type = "fuse"
        panel = ["dear", "middling"]
        writer = "dear"
        quorum = 2
        [policy.fallback]
        type = "fallback"
        workers = ["cheap", "dear"]
        [[rule]]
        when = { contains = ["translate"], tools = false }
        use = "panel"
        """
    )
    panel = names.resolve("panel")
    assert panel == Fuse(("dear", "middling"), how="select", judge="dear", quorum=2)
    ladder = names.resolve("ladder")
    assert isinstance(ladder, Cascade)
    assert ladder.rungs[1].policy is panel
    assert names.resolve("fallback") == Fallback(("cheap", "dear"))
    route = names.resolve("route")
    assert isinstance(route, Route)
    assert route.rules[0].policy is panel
    assert route.rules[0].when.tools is False


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            '[policy.p]\ntype = "solo"\nworker = "cheep"\n',
            'p.worker: there is no worker "cheep"; did you mean "cheap"?',
        ),
        ('[policy.p]\ntype = "solo"\n', "stretto.toml:1: policy.p: needs the key `worker`"),
        (
            '[policy.p]\ntype = "fuze"\n',
            'policy.p.type: there is no policy type "fuze"; did you mean "fuse"?',
        ),
        (
            '[policy.p]\ntype = "fuse"\npanel = ["cheap", "stretto"]\n',
            'p.panel: there is no worker "stretto"',
        ),
        ('[policy.p]\ntype = "fuse"\nhow = "select"\n', '"select" needs a `judge`'),
        ('[policy.p]\ntype = "fuse"\nhow = "vote"\njudge = "dear"\n', 'a "vote" has no judge'),
        ('[policy.p]\ntype = "fuse"\nwriter = "dear"\njudge = "dear"\n', "give `judge` or `writer`"),
        ('[policy.p]\ntype = "fuse"\npanel = ["cheap"]\nquorum = 2\n', "is more than the 1 members"),
        ('[policy.p]\ntype = "cascade"\ncheck = "verifier"\n', "policy.p: needs the key `verifier`"),
        (
            '[policy.p]\ntype = "cascade"\nrungs = ["chep"]\n',
            'there is no worker or policy "chep"; did you mean "cheap"?',
        ),
        ('[policy.p]\ntype = "cascade"\nrungs = ["p"]\n', "in a circle: p -> p"),
        ('[policy.p]\ntype = "route"\ntable = "no.json"\n', "artefact no.json: cannot be read"),
        (
            '[[rule]]\nwhen = { tools = true }\nuse = "best"\n',
            'rule[0].use: there is no worker or policy "best"',
        ),
        ('[[rule]]\nwhen = { tools = true }\nuse = "route"\n', "in a circle: route -> route"),
    ],
)
def test_a_policy_that_cannot_be_built_is_refused_at_the_start(text: str, says: str) -> None:
    """What a policy or rule refers to must exist, in no circle; the error says where it stands."""
    assert says in refused(text)


def test_a_table_of_the_owners_own_is_read_from_beside_the_file(tmp_path: Path) -> None:
    """A route may name an artefact, relative to the configuration file."""
    artifacts.write(TABLE, tmp_path / "mine.json")
    text = (
        '[policy.mine]\ntype = "route"\ntable = "mine.json"\namong = ["cheap", "dear"]\ndefault = "cheap"\n'
    )
    route = Catalog(CARDS, settings(text, str(tmp_path / "stretto.toml"))).resolve("mine")
    assert isinstance(route, Route)
    assert route.table is not None
    assert route.table.artifact.hash == TABLE.hash
    assert (route.default, route.among) == ("cheap", ("cheap", "dear"))


def test_an_unknown_model_is_answered_with_the_nearest_name() -> None:
    """A slip in a model name is a 404 that says what was probably meant."""
    with pytest.raises(UnknownModel, match='There is no model "streto"; did you mean "stretto"') as caught:
        catalog().resolve("streto")
    assert caught.value.status == 404


def test_other_packages_offer_policy_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A type that is not built in is looked for among the installed entry points, and gets its options."""
    (tmp_path / "theirs.py").write_text(
        "def build(options, find):\n"
        "    if 'first' not in options:\n"
        "        raise ValueError('needs the key `first`')\n"
        "    return find(options['first'])\n"
    )
    info = tmp_path / "theirs-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[stretto.policies]\nfirst-of = theirs:build\n")
    monkeypatch.syspath_prepend(tmp_path)
    names = catalog('[policy.p]\ntype = "first-of"\nfirst = "dear"\n')
    assert names.resolve("p") is names.resolve("dear")
    assert "policy.p: needs the key `first`" in refused('[policy.p]\ntype = "first-of"\n')
