"""Text features: what serves is written for speed, and equals the plain form that says what is meant."""

import itertools
import math
import re
import zlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from stretto.learning.evidence.features import fit_features  # noqa: E402
from stretto.policies.evidence.features import BUCKETS, TextFeatures, buckets, counts  # noqa: E402
from stretto.policies.evidence.odds import Odds, task_nearness, task_slopes  # noqa: E402

TEXTS = [f"what is {a} + {b}? (A) {a + b} (B) {a * b}\ncolour {'red' if a > b else 'blue'}" for a in range(9)
         for b in range(9)]  # fmt: skip
CUSTOM = st.text(
    alphabet=st.sampled_from("abcXYZAJ 019.):([{}\n\t\x1c\x0b\x85éßıſK²٣+-*/=<>^\\$_"), max_size=80
)


def plain_buckets(text: str) -> list[int]:
    """Words as the pattern says, one CRC each, and a hash of each neighbouring pair."""
    if len(text) > 6000:
        text = text[:3000] + text[-3000:]
    found = re.findall(r"[a-z]+|\d|[^\sa-z\d]", text.casefold(), re.IGNORECASE)
    words = [zlib.crc32(w.encode("utf-8", "replace")) for w in found]
    pairs = [(a * 2654435761 + b * 40503) % 2**64 >> 7 for a, b in itertools.pairwise(words)]
    return [n % BUCKETS for n in [*words, *pairs]]


def plain_counts(text: str) -> list[float]:
    """Each count by itself."""
    raw = (
        len(text),
        text.count(" ") + 1,
        sum(map(str.isdigit, text[:6000])),
        text.count("\n"),
        sum(text.count(c) for c in "+-*/=<>^\\$"),
        sum(text.count(c) for c in "()[]{}"),
        len(re.findall(r"(?:^|\s)\(?[A-J][.):]", text[:6000], re.MULTILINE)),
    )
    return [math.log1p(n) for n in raw]


@given(CUSTOM)
@example("")
@example("A. one B) two (C) three\n(D: ((E) A.B. xF.")
@example("word 7 " * 1500)
@example("wörd ² " * 1500)
def test_words_and_counts_are_those_of_the_plain_form(text: str) -> None:
    """ASCII takes a shorter way to the same numbers; control characters and other digits are where it could differ."""
    assert buckets(text).tolist() == plain_buckets(text)
    assert counts(text) == plain_counts(text)


def plain_vector(features: TextFeatures, text: str) -> Any:
    """TF-IDF over the known buckets, one at a time."""
    times: dict[int, int] = {}
    for row in features.rows[plain_buckets(text)].tolist() if plain_buckets(text) else []:
        if row >= 0:
            times[row] = times.get(row, 0) + 1
    values = {row: (1 + math.log(n)) * float(features.weights[row]) for row, n in times.items()}
    norm = math.sqrt(sum(v * v for v in values.values())) or 1.0
    pressed = sum((v / norm * features.projection[row] for row, v in values.items()),
                  np.zeros(features.projection.shape[1]))  # fmt: skip
    return (np.concatenate([pressed, plain_counts(text)]) - features.mean) / features.deviation


@pytest.mark.parametrize("text", ["", "what", "zebra zebra", "red red red + 7 7", "what is 3 + 4? (A) 7 été"])
def test_the_vector_is_that_of_the_plain_form(text: str) -> None:
    """With no word known, one, and some of them several times."""
    features = fit_features(TEXTS, dimensions=6)
    assert np.allclose(features.vector(text), plain_vector(features, text), atol=1e-4)


@pytest.mark.parametrize(("tasks", "counts"), [(0, 0), (3, 0), (3, 2)])
def test_worker_odds_are_those_of_features_nearness_and_slopes(tasks: int, counts: int) -> None:
    """One product in the place of two; the slopes beside it."""
    rng = np.random.default_rng(0)
    x, success = rng.normal(size=(5, 8)), rng.normal(size=(1 + 8 + tasks * (1 + counts), 4))
    centres = rng.normal(size=(tasks, 8)) if tasks else None
    spread = rng.random((tasks, counts)) + 0.05 if counts else None
    wide = x if centres is None else np.hstack([x, task_nearness(x, centres)])
    if spread is not None:
        wide = np.hstack([wide, task_slopes(x, wide[:, 8:], centres, spread)])
    odds = Odds.of(success, centres, spread)
    found = np.stack([odds.after(row) for row in x])
    assert np.allclose(found, wide @ success[1:] + success[0])
