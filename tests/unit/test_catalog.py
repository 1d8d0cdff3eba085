"""Names on the wire: what each stands for, and what a wrong one is answered with."""

from pathlib import Path

import pytest

from stretto import artifacts
from stretto.artifacts import Artifact
from stretto.catalog import BUILT_IN, Catalog, Learned
from stretto.config import Settings, parse
from stretto.errors import ConfigError, RequestError, UnknownModel
from stretto.gateway.wish import Wish
from stretto.policies.auto import Auto
from stretto.policies.cascade import Cascade
from stretto.policies.conductor import Conductor
from stretto.policies.fallback import Fallback
from stretto.policies.fuse import Fuse
from stretto.policies.fusion import Fusion
from stretto.policies.judging import COMPACT, STANDARD
from stretto.policies.route import Route, Uniform
from stretto.policies.solo import Solo
from stretto.policies.ultra import Ultra
from stretto.policies.unlearned import Unlearned
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
    assert isinstance(names.resolve("conductor"), Conductor)
    usual = [name for name in BUILT_IN if name != "trinity"]  # which needs an artefact
    assert [card.id for card in names.models()] == ["dear", "cheap", "middling", *usual]
    assert {card.labels.get("kind") for card in names.models()[3:]} == {"policy"}


def test_trinity_needs_what_was_learned() -> None:
    """Without an artefact the name does not exist, and the error says what makes one."""
    with pytest.raises(UnknownModel, match="stretto train trinity"):
        catalog().resolve("trinity")


def test_a_name_gives_the_same_object_every_time() -> None:
    """The engine remembers versions by identity, so a name must not be rebuilt for each call."""
    names = catalog()
    assert all(names.resolve(card.id) is names.resolve(card.id) for card in names.models())


def test_the_headline_models_are_what_they_are_documented_as() -> None:
    """`stretto` is a prior and checks until something is learned, then the table; `stretto-ultra` checks the conductor."""
    names = catalog()
    auto = names.resolve("stretto")
    assert isinstance(auto, Auto)
    assert [(way.name, way.policy) for way in auto.ways] == [
        ("unlearned", Unlearned(("cheap", "middling", "dear"), "dear"))
    ]
    ultra = names.resolve("stretto-ultra")
    assert isinstance(ultra, Ultra)
    assert ultra.conductor.planner == "dear"
    assert (ultra.check, ultra.verifier, ultra.writer) == ("verifier", "dear", "dear")
    taught = catalog(learned=Learned(table=TABLE)).resolve("stretto")
    assert isinstance(taught, Auto)
    assert [(way.name, type(way.policy)) for way in taught.ways] == [("route", Route)]


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


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ('panel = ["dear"]\nsamples = 3\nhow = "vote"', Fuse(("dear",) * 3)),
        ('samples = 2\nhow = "vote"', Fuse(("dear",) * 2)),
        (
            'panel = ["dear", "cheap"]\nwriter = "dear"\nlayers = 2\nsequential = true',
            Fuse(("dear", "cheap"), how="synthesise", writer="dear", layers=2, window=4),
        ),
        (
            'panel = ["dear", "cheap"]\nwriter = "dear"\njudge = "cheap"\nanalysis = true\ndeadline = 3.0',
            Fuse(
                ("dear", "cheap"), how="synthesise", writer="dear", judge="cheap", analysis=True, deadline=3.0
            ),
        ),
        (
            'panel = ["dear", "cheap"]\nhow = "pairs"\njudge = "dear"\nwordings = "compact"',
            Fuse(("dear", "cheap"), how="pairs", judge="dear", wordings=COMPACT),
        ),
    ],
)
def test_a_fuse_is_built_as_its_options_say(options: str, wanted: Fuse) -> None:
    """A writer writes, a judge picks; samples repeat members, alone the dearest; `sequential` is a window of four."""
    assert catalog(f'[policy.p]\ntype = "fuse"\n{options}\n').resolve("p") == wanted


def test_readers_with_a_short_context_get_compact_wordings() -> None:
    """The standard texts alone would fill the context of a tiny model; the configuration may say otherwise."""
    tiny = (Card("a", Price(1), context=2048), Card("b", Price(2), context=2048))
    by_default = Catalog(tiny, settings()).resolve("fuse")
    asked_for = Catalog(
        tiny, settings('[policy.fuse]\ntype = "fuse"\njudge = "b"\nwordings = "standard"\n')
    ).resolve("fuse")
    checked = Catalog(tiny, settings()).resolve("cascade")
    assert isinstance(by_default, Fuse)
    assert isinstance(asked_for, Fuse)
    assert isinstance(checked, Cascade)
    assert (by_default.wordings, asked_for.wordings, checked.wordings) == (COMPACT, STANDARD, COMPACT)


# --- fusion ---


def test_a_wish_for_fusion_is_filled_in_from_the_pool() -> None:
    """By default the dearest answer, and the first of them decides, compares and writes; what a request says counts first."""
    names = catalog()
    plain = names.fusion(Wish(), "openrouter/fusion")
    assert isinstance(plain, Fusion)
    assert (plain.asks, plain.fuse.panel) == (True, ("dear", "middling", "cheap"))
    assert (plain.fuse.writer, plain.fuse.judge, plain.fuse.analysis) == ("dear", "dear", True)
    own = names.fusion(
        Wish(
            outer="cheap",
            analyst="middling",
            panel=("nobody", "dear"),
            max_tokens=99,
            temperature=0.3,
            effort="high",
        ),
        "cheap",
    )
    assert isinstance(own, Fusion)
    assert (own.fuse.writer, own.fuse.judge, own.fuse.panel) == ("cheap", "middling", ("nobody", "dear"))
    assert (own.fuse.draft_tokens, own.fuse.analysis_tokens) == (99, 99)
    assert own.fuse.draft_params == {"temperature": 0.3, "reasoning_effort": "high"}


def test_a_fusion_preset_is_the_dearest_the_cheapest_or_a_fuse_of_the_owners() -> None:
    """An owner's `[policy.NAME]` of type fuse is a preset of that name, with its panel, judge and writer."""
    text = '[policy.lawyers]\ntype = "fuse"\npanel = ["cheap", "dear"]\nwriter = "cheap"\nquorum = 2\n'
    names = catalog(text)
    fast = names.fusion(Wish(preset="general-fast"), "stretto/fusion-flash")
    owns = names.fusion(Wish(preset="lawyers", panel=("dear",)), "stretto/fusion")
    assert isinstance(fast, Fusion)
    assert isinstance(owns, Fusion)
    assert fast.fuse.panel == ("cheap", "middling", "dear")
    assert (owns.fuse.panel, owns.fuse.writer, owns.fuse.quorum) == (("dear",), "cheap", 1)
    with pytest.raises(RequestError, match='no fusion preset "lawers"; did you mean "lawyers"'):
        names.fusion(Wish(preset="lawers"), "stretto/fusion")


def test_a_worker_that_is_called_like_an_alias_serves_its_requests_itself() -> None:
    """Who puts OpenRouter's own model into the pool under its name means that model."""
    names = Catalog((Card("openrouter/fusion", Price(1)),), settings())
    assert names.resolve("openrouter/fusion") == Solo("openrouter/fusion")
    assert names.fusion(Wish(), "openrouter/fusion") is None
    assert names.fusion(Wish(alone=True), "stretto/fusion") == Solo("openrouter/fusion")


def test_a_pool_that_writes_no_text_has_no_fusion_to_offer() -> None:
    """The names exist, and a request under them is denied instead of breaking the start."""
    names = Catalog((Card("vectors", abilities=frozenset({"embedding"})),), settings())
    found = names.resolve("stretto/fusion")
    assert isinstance(found, Fusion)
    assert found.fuse.panel == ()


def test_a_control_by_lot_can_be_named() -> None:
    """`type = "random"` draws among the workers that are listed."""
    assert catalog('[policy.lot]\ntype = "random"\namong = ["cheap", "dear"]\n').resolve("lot") == Uniform(
        ("cheap", "dear")
    )


def test_what_was_made_for_another_job_is_no_contender_and_a_checker_checks() -> None:
    """Built-in policies play solvers; who has the role of a checker verifies and judges where nobody else is named."""
    cards = (
        *CARDS,
        Card("thinks", labels={"role": "thinker"}, abilities=SURE),
        Card("checks", labels={"role": "checker"}, abilities=SURE, context=2048),
    )
    names = Catalog(
        cards,
        settings(
            '[policy.checked]\ntype = "cascade"\ncheck = "verifier"\n[policy.judged]\ntype = "fuse"\nhow = "select"'
        ),
    )
    for name in ("cascade", "fallback", "fuse", "route"):
        assert "thinks" not in str(names.resolve(name))
        assert "checks" not in str(names.resolve(name))
    checked, judged = names.resolve("checked"), names.resolve("judged")
    assert isinstance(checked, Cascade)
    assert isinstance(judged, Fuse)
    assert (checked.verifier, judged.judge) == ("checks", "checks")
    assert checked.wordings == judged.wordings == COMPACT


def test_a_cascade_over_a_learned_pool_adapts() -> None:
    """With a table and thresholds the built-in ladder is of everyone, and fitted to each prompt; the owner's rungs are not."""
    thresholds = Artifact("stretto.thresholds/1", data={"workers": {}})
    names = catalog('[policy.mine]\ntype = "cascade"\nrungs = ["cheap", "dear"]', Learned(TABLE, thresholds))
    built, mine = names.resolve("cascade"), names.resolve("mine")
    assert isinstance(built, Cascade)
    assert isinstance(mine, Cascade)
    assert (built.adapts, mine.adapts) == (True, False)


def test_a_learned_panel_is_of_those_who_together_know_most() -> None:
    """Four of six: not the dearest, but whoever is right where the others are not."""
    cards = [Card(name, Price.per_million(1, 1), abilities=SURE) for name in "abcdef"]
    right = {"t": {"a": 90, "b": 91}, "u": {"c": 50}, "v": {"d": 60}, "w": {"e": 5, "f": 9}}
    tasks = {
        task: {"prior": 0.25, "workers": {w: [n, 100] for w, n in of.items()}} for task, of in right.items()
    }
    table = Artifact("stretto.route-table/1", data={"tasks": tasks, "words": {}, "unseen": {}})
    fuse = Catalog(cards, settings(), Learned(table)).resolve("fuse")
    assert isinstance(fuse, Fuse)
    assert sorted(fuse.panel) == ["b", "c", "d", "f"]


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
    assert panel == Fuse(("dear", "middling"), how="synthesise", writer="dear", quorum=2)
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
        ('[policy.p]\ntype = "fuse"\nhow = "pairs"\n', '"pairs" needs a `judge`'),
        ('[policy.p]\ntype = "fuse"\nhow = "synthesise"\n', '"synthesise" needs a `writer`'),
        ('[policy.p]\ntype = "fuse"\nsequential = true\n', "sequential: is for a `writer`"),
        ('[policy.p]\ntype = "fuse"\nanalysis = true\n', "analysis: is for a `writer`"),
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
