"""The measurement of the orchestrators: a reply is asked for once, and the tables say what the answers were."""

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from stretto.engine.run import Engine
from stretto.evaluation.graders import Grade
from stretto.evaluation.runner import Result
from stretto.evaluation.tasks import Item
from stretto.ledger.memory import MemoryStore
from stretto.policies.solo import Solo
from stretto.steps import Ask, Outcome
from stretto.types import Answer, Message, Request, TokenLogprob, Usage
from tests.unit.engine.doubles import FunctionPool

RECIPES = Path(__file__).parents[3] / "recipes"


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ModuleType, ModuleType, ModuleType]]:
    """The three modules, importable as they are for who runs them."""
    monkeypatch.syspath_prepend(str(RECIPES))
    import orchestrators_kept
    import orchestrators_pictures
    import orchestrators_shown

    yield orchestrators_kept, orchestrators_shown, orchestrators_pictures
    for name in ("orchestrators_kept", "orchestrators_shown", "orchestrators_pictures"):
        sys.modules.pop(name, None)


def _pool(asked: list[str]) -> FunctionPool:
    async def attempt(ask: Ask, *_: object) -> Outcome:
        text = ask.messages[-1].text if ask.messages else ""
        asked.append(f"{ask.worker}: {text}")
        return Outcome(
            Message("assistant", text.upper()),
            usage=Usage(3, 2),
            logprobs=(TokenLogprob("A", -0.5),) if ask.want == "logprobs" else (),
        )

    return FunctionPool(attempt)


def _said(pool: object, worker: str, text: str, **params: object) -> Answer:
    request = Request(messages=(Message("user", text),), params=params, max_tokens=20)
    run = asyncio.run(Engine(pool, MemoryStore()).run(Solo(worker, "logprobs"), request))  # type: ignore[arg-type]
    return run.answer


def test_what_is_asked_alike_is_asked_once(tmp_path: Path, recipes: tuple[ModuleType, ...]) -> None:
    """At temperature 0 the second run gets the kept reply, with its usage and log-probabilities, also from the file."""
    asked: list[str] = []
    kept = recipes[0].Kept(_pool(asked), tmp_path / "replies.jsonl", {"a": "1"})
    first = _said(kept, "a", "hello", temperature=0)
    assert _said(kept, "a", "hello", temperature=0) == replace(first)
    kept.close()
    with (tmp_path / "replies.jsonl").open("ab") as file:
        file.write(b'["half a li')  # a kill
    again = recipes[0].Kept(_pool(asked), tmp_path / "replies.jsonl", {"a": "1"})
    answer = _said(again, "a", "hello", temperature=0)
    assert (answer.text, answer.logprobs[0].logprob) == ("HELLO", -0.5)
    assert asked == ["a: hello"]
    _said(again, "a", "more", temperature=0)
    again.close()
    third = recipes[0].Kept(_pool(asked), tmp_path / "replies.jsonl", {"a": "1"})
    _said(third, "a", "more", temperature=0)
    third.close()
    assert asked == ["a: hello", "a: more"]


def test_what_is_drawn_or_another_model_is_asked_again(
    tmp_path: Path, recipes: tuple[ModuleType, ...]
) -> None:
    """A temperature above 0 is never kept; another worker, another file and another question are other questions."""
    asked: list[str] = []
    kept = recipes[0].Kept(_pool(asked), tmp_path / "replies.jsonl", {"a": "1", "b": "2"})
    for _ in range(2):
        _said(kept, "a", "x", temperature=0.7)
        _said(kept, "a", "x", temperature=0)
        _said(kept, "b", "x", temperature=0)
        _said(kept, "a", "y", temperature=0)
    assert len(asked) == 5
    kept.close()
    other = recipes[0].Kept(_pool(asked), tmp_path / "replies.jsonl", {"a": "trained anew", "b": "2"})
    _said(other, "a", "x", temperature=0)
    _said(other, "b", "x", temperature=0)
    other.close()
    assert len(asked) == 6


async def _free(answer: Answer, reference: str) -> Grade:
    return Grade(0.0, "")


def _rows(
    name: str, scores: dict[str, list[float]], split: str = "dev", calls: int = 1
) -> list[tuple[Item, Result]]:
    rows = []
    for kind, each in scores.items():
        for at, score in enumerate(each):
            item = Item(f"{split}/{kind}/{at}", (Message("user", "?"),), _free, "sparring", "", kind, split)
            rows.append((item, Result(item.id, name, score, "", str(score), 1000 * calls, calls, 0.1, name)))
    return rows


SETS = ("simple", "composite", "pairs", "wordings")


def test_the_best_single_worker_is_chosen_elsewhere_and_by_set(recipes: tuple[ModuleType, ...]) -> None:
    """Each set's best is the worker that was right most often on that set's calibration problems, whatever it does later."""
    shown = recipes[1]
    answers = {
        "a": (
            "worker",
            _rows("a", {"simple": [1, 1], "composite": [0, 0]}, "train") + _rows("a", {"simple": [0, 0]}),
        ),
        "b": (
            "worker",
            _rows("b", {"simple": [0, 1], "composite": [1, 0]}, "train") + _rows("b", {"simple": [1, 1]}),
        ),
    }
    assert shown.chosen(answers, ["a", "b"]) == {"simple": "a", "composite": "b", "mix": "a"}


def test_the_tables_say_what_the_answers_were(tmp_path: Path, recipes: tuple[ModuleType, ...]) -> None:
    """Rates, paired differences, votes over samples and the oracle are of the same problems; pictures and data are written."""
    shown = recipes[1]
    good, half, bad = (dict.fromkeys(SETS, each) for each in ([1.0] * 20, [1.0, 0.0] * 10, [0.0] * 20))
    train = {kind: [1.0, 0.0] for kind in SETS}
    answers = {
        "string-north": ("worker", _rows("string-north", train, "train") + _rows("string-north", half)),
        "general-large": (
            "worker",
            _rows("general-large", {k: [0.0, 0.0] for k in SETS}, "train") + _rows("general-large", bad),
        ),
        "route": ("policy", _rows("route", half)),
        "trinity-1": ("policy", _rows("trinity-1", good, calls=4)),
        "conductor-1": ("policy", _rows("conductor-1", good, calls=3)),
        "trinity-stage-1": ("ablation", _rows("z", half)),
        "conductor-1 without list-north": ("pool", _rows("x", half)),
        "conductor-less-list-north": ("ablation", _rows("y", good)),
        "conductor-added-list-north": ("ablation", _rows("v", half)),
        "trinity-reduced": ("ablation", _rows("u", half)),
        "trinity-reduced-mean": ("ablation", _rows("t", bad)),
        "trinity-1, 5 turns": ("turns", _rows("w", {"triples": [0.0] * 20})),
        "trinity-1, 9 turns": ("turns", _rows("w", {"triples": [1.0, 0.0] * 10})),
        **{f"string-north sample {k}": ("sample", _rows("s", half if k < 3 else bad)) for k in (1, 2, 3)},
    }
    docs = tmp_path / "docs"
    (docs / "reference").mkdir(parents=True)
    names = ("mix", "against", "seeds", "turns", "ablations", "pool")
    page = "".join(f"<!-- {name} -->\n\nold\n\n<!-- end -->\n" for name in names)
    (docs / "reference" / "orchestrators.md").write_text(page)
    shown.show(answers, tmp_path, tmp_path, docs)
    text = (docs / "reference" / "orchestrators.md").read_text()
    assert "old" not in text
    assert "| trinity-1 - best single | +0.500 [+0.300, +0.700]" in text
    assert "| trinity-1 | 1.000 [0.839, 1.000] |" in text
    assert "| string-north x 3, vote | 0.500 [0.299, 0.701] |" in text
    assert "| string-north x 3, last | 0.000 [0.000, 0.161] |" in text
    assert "| trinity-1 - trinity-stage-1 | +0.500" in text
    assert "| masked against retrained | -0.500" in text
    assert "| added against left out | -0.500" in text
    assert (
        "| trinity-reduced-mean | 0.000 [0.000, 0.161] | 0.000 [0.000, 0.161] | trinity-reduced | -0.500"
        in text
    )
    assert "| trinity-1, 9 turns | 0.500 [0.299, 0.701] | +0.500" in text
    assert (docs / "images" / "orchestrators-sets.svg").read_text().count("<rect") > 20
    assert '"trinity-1":{"simple":{"n":20' in (docs / "reference" / "orchestrators.json").read_text()
