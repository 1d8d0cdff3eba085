"""What is read off the text of a reply, and what that changes."""

import math
import random

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")
pytest.importorskip("lightgbm")

from stretto import artifacts  # noqa: E402
from stretto.evaluation.recorded import RecordedPool, question  # noqa: E402
from stretto.evaluation.tables import Item, Said, Table  # noqa: E402
from stretto.learning.evidence.lattice import walk  # noqa: E402
from stretto.learning.evidence.reading import fit_reading, read_replies  # noqa: E402
from stretto.learning.evidence.training import artefact, learn, matrix, nats, values  # noqa: E402
from stretto.policies.evidence.reading import MARKS, Asked, Reading, bare, marks, written  # noqa: E402
from stretto.policies.sequential import EVIDENCE_SCHEMA, Evidence, Sequential  # noqa: E402
from stretto.steps import Ask  # noqa: E402
from stretto.testing import by_hand  # noqa: E402
from stretto.types import Answer, Message, Reply, Usage  # noqa: E402

PROMPT = "A train runs 120 km in 3 hours. How fast is it?\nA. 36 km/h\nB. 40 km/h\nC. 360 km/h"


def read(text: str, value: str | None, prompt: str = PROMPT) -> dict[str, float]:
    """The marks of a reply by their names."""
    return dict(zip(MARKS, marks(Asked.of(prompt), text, value), strict=True))


def test_a_chosen_option_is_held_against_the_working() -> None:
    """Whether the working came to the number that the chosen option says, or to another option's."""
    good = read("120 / 3 = 40, so the answer is (B)", "B")
    bad = read("120 * 3 = 360, so the answer is (A)", "A")
    assert (good["option place"], good["options"]) == (2, 3)
    assert good["option number reached"] == 1
    assert good["another option's number reached"] == 0
    assert bad["option number reached"] == 0
    assert bad["another option's number reached"] == 1


def test_doubts_and_numbers_are_counted() -> None:
    """Sayings are counted whatever their case; numbers are told apart from those that the prompt gave."""
    found = read("Closest is 41. However, 120 / 3 is the nearest.", "41")
    assert found["closest"] == pytest.approx(math.log1p(2))
    assert found["however"] == pytest.approx(math.log1p(1))
    assert found["numbers"] == pytest.approx(math.log1p(3))
    assert found["numbers from prompt"] == pytest.approx(2 / 4)
    assert (found["number"], found["whole"], found["value reached"]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", ""),
        ("x" * 9000, None),
        ("1,2,,3.. 5.", "inf"),
        ("½ ٣ 1e400 " + "9" * 400, "nan"),
        ("\x00\n(A)", "A"),
    ],
)
def test_any_reply_can_be_read(text: str, value: str | None) -> None:
    """Whatever a model writes, the marks are finite numbers, one a name."""
    found = marks(Asked.of(PROMPT), text, value)
    assert len(found) == len(MARKS) == len(set(MARKS))
    assert all(math.isfinite(mark) for mark in found)


def test_thoughts_are_read_where_they_are_shown() -> None:
    """The working is in a model's thoughts, if it shows them, else in its reply; where whole replies were learned from, there."""
    both = Message("assistant", "40", reasoning="120 / 3")
    assert written(both, last_line=False) == "120 / 3"
    assert written(both, last_line=True) == "40"
    assert written(Message("assistant", "120 / 3 = 40"), last_line=False) == "120 / 3 = 40"


def table(n: int = 1200) -> Table:
    """Two workers with numbers for answers whose replies give them away: they hedge before most of what is wrong."""
    rng = random.Random(5)
    items, said = [], {"small": {}, "large": {}}
    for number in range(n):
        id = f"i{number}"
        items.append(
            Item(
                id,
                f"question {number} of {rng.choice(['red', 'blue'])}",
                split="train" if number % 6 else "dev",
            )
        )
        for worker, chance, cost in (("small", 0.6, 0.001), ("large", 0.8, 0.02)):
            good = rng.random() < chance
            answer = str(number) if good else str(number + rng.randint(1, 9))
            doubts = rng.random() < (0.1 if good else 0.8)
            text = f"{'It is probably close to' if doubts else 'It is exactly'} {answer}."
            said[worker][id] = (Said(float(good), cost, 20, 5, 1.0, answer, text),)
    return Table("told", items, said)


TABLE = table()
DATA = matrix(TABLE, ["small", "large"])
LEARNED = learn(DATA)


def test_a_bare_answer_has_no_working_to_read() -> None:
    """A reply that is nothing but its answer is not read: neither when it is learned from nor when it serves."""
    assert bare("40", "40")
    assert bare(" 1,040 km\n", "1040")
    assert bare("", "")
    assert not bare("It is 40.", "40")
    assert not bare("a long essay", None)
    assert LEARNED.unread is not None
    listener = Evidence(artefact(LEARNED, {})).listener("question 1 of red")
    assert list(listener(0, Answer(Message("assistant", "7")), 0).read) == []
    worked = Answer(Message("assistant", "7", reasoning="It is exactly 7."))
    assert len(listener(0, worked, 0).read) == len(MARKS)


def test_without_texts_it_serves_as_if_learned_without() -> None:
    """Where no reply has a text to read, what is believed is what was learned from the prompts alone."""
    evidence = Evidence(artefact(LEARNED, {}))
    assert evidence.reading is not None
    assert LEARNED.unread is not None
    request = question(TABLE.items[0])
    request = type(request)(messages=request.messages, pool=RecordedPool(TABLE).cards())
    logits = evidence.logits(request.prompt)
    expected = LEARNED.unread.chances(
        np.array([[0, -1]]), logits, np.array([[True, False]]), np.zeros((1, 2))
    )
    sure: list[float] = []
    for text in ("5", "It is exactly 5."):
        answer = Answer(message=Message("assistant", "5", reasoning=text))
        heard = {0: evidence.listener(request.prompt)(0, answer, 0)}
        sure.append(float(evidence.believed(heard, logits).first[0]))
    assert sure[0] == pytest.approx(float(expected.max()))
    assert sure[1] != pytest.approx(sure[0])


def test_reading_tells_right_from_wrong() -> None:
    """On items that it has not seen the log-odds after reading foretell far better, and are put to use."""
    assert LEARNED.reading is not None
    told = LEARNED.told["reading nats"]
    assert told["reply"] < told["question"] - 0.1
    dev = DATA.at(np.array([i.split == "dev" for i in DATA.items]))
    logits = np.full(dev.scores.shape, 0.8)
    after = LEARNED.reading.after(logits, read_replies(dev))
    assert nats(1 / (1 + np.exp(-after)), dev.scores) < nats(1 / (1 + np.exp(-logits)), dev.scores) - 0.1


def test_what_was_not_read_stays_as_it_was() -> None:
    """Where there is no text the log-odds are those of the prompt; a table without texts learns no reading at all."""
    assert LEARNED.reading is not None
    nothing = np.full((3, 2, len(MARKS)), np.nan)
    assert (LEARNED.reading.after(np.ones((3, 2)), nothing) == 1).all()
    bare = matrix(
        Table(
            "bare",
            TABLE.items,
            {
                w: {
                    i.id: (Said(s.score, s.cost, s.input, s.output, s.seconds, s.answer),)
                    for i in TABLE.items
                    if (s := TABLE.said(i.id, w))
                }
                for w in TABLE.workers
            },
        ),
        ["small", "large"],
    )
    assert bare.texts is None
    assert read_replies(bare) is None
    assert fit_reading(np.ones((3, 2)), nothing, np.ones((3, 2))) is None


def test_served_decisions_are_the_learned_ones_with_texts(tmp_path) -> None:
    """From the artefact's file, on a recorded pool that replays answers with their texts: calls and answers as foreseen."""
    artifacts.write(artefact(LEARNED, {}), tmp_path / "evidence.json")
    evidence = Evidence(artifacts.read(tmp_path / "evidence.json", EVIDENCE_SCHEMA))
    assert isinstance(evidence.reading, Reading)
    assert LEARNED.dev is not None
    pool = RecordedPool(TABLE)
    (expected,) = walk(values(LEARNED, [0.05]), LEARNED.dev)
    dev = [item for item in TABLE.items if item.split == "dev"]
    for number, item in enumerate(dev[:60]):
        request = question(item)
        asked: list[str] = []

        def answer(step: Ask, id: str = item.id, asked: list[str] = asked) -> Reply:
            asked.append(step.worker)
            one = TABLE.said(id, step.worker)
            assert one is not None
            message = Message("assistant", one.answer, reasoning=one.text or "")
            return Reply(message=message, worker=step.worker, usage=Usage(one.input or 0, one.output or 0))

        policy = Sequential(evidence, price=0.05)
        request = type(request)(messages=request.messages, pool=pool.cards())
        _, end = by_hand(policy.plan(request), answer)
        assert isinstance(end, Answer)
        assert len(asked) == expected.calls[number]
