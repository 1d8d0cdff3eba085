"""What a comparer of free texts is worth: reasoning texts of real models, whose answers are known but are not looked at.

    OMP_NUM_THREADS=1 python recipes/evidence_freetext.py DATA --out FILE.json [--set mmlu_pro] [--items 2500] [--model FOLDER]

The replies are whole texts. Equal answers (letters, numbers) are known, so every way to tell who agrees with whom can be held
against the truth: exact classes, nobody comparing, the shipped static embedding (hard classes as if it never erred, and with its
error counted), a coin, and judges of known error, which are simulated and marked as such. Cross-fitted over `train`; dev is not
read. With --model (a sentence encoder's folder, as for `stretto.learning.embedding`) that encoder compares, too.
"""

import argparse
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stretto.evaluation.tables import Table, read
from stretto.learning.evidence import comparing
from stretto.learning.evidence.lattice import Lattice, Walk, solve, walk
from stretto.learning.evidence.posterior import fit_posterior
from stretto.learning.evidence.success import Logistic, cross_fitted, folds, log_odds
from stretto.learning.evidence.training import PRICES, Matrix, Prompts, cross_walk, matrix
from stretto.policies.embedding import shipped
from stretto.policies.evidence.equivalence import LONGEST, SHIPPED, Comparer

SETS = {
    "mmlu_pro": (
        "gpt-4o-2024-05-13(apr-may-2024 run)",
        "gemini-1.5-pro-002",
        "gemini-1.5-flash-002",
        "Meta-Llama-3_1-70B-Instruct",
        "jamba-1.5-large",
    ),
    "zeroeval_reasoning": (
        "claude-3-5-sonnet-20241022",
        "gpt-4o-mini-2024-07-18",
        "deepseek-v2.5-0908",
        "gemini-1.5-flash",
        "Meta-Llama-3.1-70B-Instruct",
    ),
}
PENALTY = {"mmlu_pro": 0.01, "zeroeval_reasoning": 0.003}
SHOWN = (0.01, 0.05, 0.1)
FOLDS = 5


def texts_of(table: Table, items: Any, workers: tuple[str, ...]) -> list[list[str]]:
    """The whole replies, an item a row."""
    found = []
    for item in items:
        said = [table.said(item.id, w) for w in workers]
        found.append([(one.text or "") if one else "" for one in said])
    return found


def vectors_static(texts: list[list[str]]) -> Any:
    """Of the shipped embedding."""
    model = shipped()
    return np.stack([[model.vector(t[-LONGEST:]) for t in row] for row in texts]).astype(np.float64)


def vectors_encoder(texts: list[list[str]], folder: Path, tokens: int = 256) -> Any:
    """Of a real sentence encoder: the last tokens of each reply."""
    from stretto.learning.embedding import Encoder

    encoder = Encoder(folder)
    flat = [encoder.pieces.ids(t[-LONGEST:])[-tokens:] or [100] for row in texts for t in row]
    order = np.argsort([len(ids) for ids in flat], kind="stable")
    out: dict[int, Any] = {}
    for start in range(0, len(order), 16):
        part = order[start : start + 16]
        for k, row in zip(part, encoder.embed([flat[k] for k in part], most=tokens + 2), strict=True):
            out[int(k)] = row
    wide = np.stack([out[k] for k in range(len(flat))])
    return wide.reshape(len(texts), len(texts[0]), -1).astype(np.float64)


def hard(near: Any, speaks: Any) -> Any:
    """Classes as if a comparer never erred: each reply joins the first one before it that it is called the same as."""
    workers = speaks.shape[1]
    found = np.where(speaks, np.arange(workers), -1)
    for new in range(workers):
        for earlier in reversed(range(new)):
            joins = (near[:, earlier, new] == 1) & speaks[:, earlier] & speaks[:, new]
            found[:, new] = np.where(joins, found[:, earlier], found[:, new])
    return found


class Study:
    """One set: everything that does not depend on who compares, and what a way to compare brings."""

    def __init__(self, data: Matrix, penalty: float) -> None:
        self.data, self.fold = data, folds(len(data.items), FOLDS)
        prompts = Prompts.learned(data.items)
        x = prompts.matrix(data.items)
        self.logits = log_odds(cross_fitted(lambda: Logistic(penalty), x, data.scores, self.fold))
        self.best = int(data.scores.mean(0).argmax())
        self.unit = float(data.costs[:, self.best].mean())
        self.prices = [u / self.unit for u in PRICES]
        known = ~np.isnan(data.tokens)
        mean = np.nanmean(data.tokens, 0)
        self.long = np.nan_to_num(np.clip((data.tokens - mean) / np.nanstd(data.tokens, 0), -4, 4)) * known
        self.speaks = data.classes >= 0

    def posteriors(self, classes: Any) -> list[Any]:
        """One a fold that has not seen it."""
        parts = classes, self.logits, self.data.scores, self.long
        return [
            fit_posterior(*(a[self.fold != f] for a in parts), identity=True, exclusive=True, trees=False)
            for f in range(FOLDS)
        ]

    def plain(self, fits: list[Any], classes: Any) -> Lattice:
        """Every subset, where classes are as they are."""
        d = self.data
        return Lattice.of(fits, self.fold, classes, self.logits, d.scores, d.costs, self.long)

    def soft(self, fits: list[Any], told: comparing.Told) -> Lattice:
        """Every subset, where only `told` says who agrees."""
        d = self.data
        return comparing.lattice(
            fits, self.fold, told, self.speaks, self.logits, d.scores, d.costs, self.long
        )

    def counted(self, comparer: Comparer, verdicts: Any) -> Walk:
        """With the error counted: posterior and values learned for just this comparer."""
        told = comparing.Told.of(comparer, verdicts)
        classes = comparing.assumed(told, self.data.scores, self.speaks)
        return cross_walk(self.soft(self.posteriors(classes), told), self.prices)

    def learned(self, classes: Any) -> Walk:
        """Classes taken as they are, posterior and values learned from them."""
        return cross_walk(self.plain(self.posteriors(classes), classes), self.prices)

    def believed(self, truth: Any, classes: Any) -> Walk:
        """The error not counted: learned where equality was known, served on these classes."""
        fits = self.posteriors(truth)
        return self.served(self.plain(fits, truth), self.plain(fits, classes))

    def alone(self, truth: Any, collision: float) -> Walk:
        """Learned where equality was known, served where nothing is: each reply keeps its own chance."""
        fits = self.posteriors(truth)
        nothing = np.full((*truth.shape, truth.shape[1]), np.nan)
        coin = Comparer("judge", "nobody", 0.5, 0.5, collision=collision)
        return self.served(self.plain(fits, truth), self.soft(fits, comparing.Told.of(coin, nothing)))

    def served(self, known: Lattice, served: Lattice) -> Walk:
        """Values of one lattice, followed on another."""
        half = folds(len(self.logits), 2)
        parts = [np.zeros((len(self.prices), len(half))) for _ in range(4)]
        for number in (0, 1):
            at = half == number
            went = walk(solve(known.only(~at), self.prices), served.only(at))
            for part, found in zip(parts, (went.score, went.cost, went.calls, went.sure), strict=True):
                part[:, at] = found
        return Walk(*parts)


def ece(sure: Any, score: Any) -> float:
    """How far chance and score lie apart, over ten bins."""
    edges = np.quantile(sure, np.linspace(0, 1, 11))
    place = np.clip(np.searchsorted(edges, sure, side="right") - 1, 0, 9)
    return float(sum(abs((sure - score)[place == b].sum()) for b in range(10)) / len(sure))


def interval(values: Any, seed: int = 0) -> list[float]:
    """95 % of a mean, in points, by bootstrap over items."""
    rng = np.random.default_rng(seed)
    means = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(2000)])
    return [round(100 * float(v), 2) for v in np.quantile(means, (0.025, 0.975))]


def shown(study: Study, went: Walk, beside: Walk | None) -> dict[str, Any]:
    """Score against best single (points, 95 %), relative cost, calls and calibration at three prices; and `beside` another."""
    base, rows = study.data.scores[:, study.best], {}
    for u in SHOWN:
        at = PRICES.index(u)
        score, cost = went.score[at], float(went.cost[at].mean()) / study.unit
        gain = score - base
        row: dict[str, Any] = {
            "gain": round(100 * float(gain.mean()), 2),
            "interval": interval(gain),
            "cost": round(cost, 3),
            "calls": round(float(went.calls[at].mean()), 2),
            "ece": round(ece(went.sure[at], score), 4),
            "sure": round(float(went.sure[at].mean()), 4),
        }
        if beside is not None:
            worth = (went.score[at] - study.prices[at] * went.cost[at]) - (
                beside.score[at] - study.prices[at] * beside.cost[at]
            )
            row["worth_beside_nobody"] = [round(100 * float(worth.mean()), 2), interval(worth)]
        rows[str(u)] = row
    equal = [float(w.cost.mean()) / study.unit for w in went if w.score.mean() >= base.mean()]
    worths = went.worth(study.prices)
    return {"prices": rows, "equal_quality_cost": round(min(equal), 3) if equal else None} | {
        "mean_worth": round(100 * float(np.mean(worths)), 3)
    }


def of_set(
    name: str, folder: Path, count: int, encoder: Path | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Everything of one set."""
    table = read(folder / name, texts=True)
    data = matrix(table, SETS[name])
    train = np.array([i.split == "train" for i in data.items])
    train &= np.array([all(row) for row in texts_of(table, data.items, data.workers)])
    places = np.flatnonzero(train)
    places = np.sort(np.random.default_rng(zlib.crc32(name.encode())).permutation(places)[:count])
    which = np.zeros(len(train), dtype=bool)
    which[places] = True
    data = data.at(which)
    study = Study(data, PENALTY[name])
    say(f"{name}: {len(data.items)} items")
    texts = texts_of(table, data.items, data.workers)
    truth, out = data.classes, {}
    nobody = study.learned(np.where(study.speaks, np.arange(len(data.workers)), -1))
    out["exact classes"] = shown(study, study.learned(truth), nobody)
    out["nobody comparing"] = shown(study, nobody, None)
    say("exact, nobody")
    compared: dict[str, Any] = {}
    sources = {"static embedding": lambda: vectors_static(texts)}
    if encoder is not None:
        sources["MiniLM encoder"] = lambda: vectors_encoder(texts, encoder)
    for label, made in sources.items():
        near = comparing.cosines(made())
        found = comparing.error(near, data.scores, "embedding", SHIPPED)
        compared[label] = {"threshold": found.comparer.threshold} | found.told
        compared[label] |= {
            "sensitivity": found.comparer.sensitivity,
            "specificity": found.comparer.specificity,
        }
        compared[label] |= {"collision": found.comparer.collision} | pooled(near, truth)
        say(f"{label}: {json.dumps(compared[label])}")
        yes = (near >= found.comparer.threshold).astype(float)
        out[f"{label}, error counted"] = shown(study, study.counted(found.comparer, yes), nobody)
        out[f"{label}, hard classes, learned from them"] = shown(
            study, study.learned(hard(yes, study.speaks)), nobody
        )
        out[f"{label}, hard classes, error not counted"] = shown(
            study, study.believed(truth, hard(yes, study.speaks)), nobody
        )
        say(label)
    wrong = (
        (truth[:, :, None] == truth[:, None, :])
        & (data.scores < 0.5)[:, :, None]
        & (data.scores < 0.5)[:, None]
    )
    upper = np.triu(np.ones(wrong.shape[1:], dtype=bool), 1)
    both = ((data.scores < 0.5)[:, :, None] & (data.scores < 0.5)[:, None] & upper).sum()
    collision = float((wrong & upper).sum() / max(1, both))
    compared["collision of wrong answers"] = round(collision, 3)
    collision = min(0.8, max(0.02, collision))
    apart = np.where(study.speaks, np.arange(len(data.workers)), -1)
    out["learned from answers, served on texts: each a class of its own"] = shown(
        study, study.believed(truth, apart), nobody
    )
    out["learned from answers, served on texts: each with its own chance"] = shown(
        study, study.alone(truth, collision), nobody
    )
    say("served on texts")
    for rate in (0.5, 0.65, 0.8, 0.95):
        judge = Comparer("judge", "simulated", rate, rate, collision=collision)
        said = comparing.drawn(judge, truth)
        label = "coin" if rate == 0.5 else f"simulated judge, right {100 * rate:.0f} %"
        out[f"{label}, error counted"] = shown(study, study.counted(judge, said), nobody)
        out[f"{label}, hard classes, error not counted"] = shown(
            study, study.believed(truth, hard(said, study.speaks)), nobody
        )
        say(label)
    base = data.scores.mean(0)
    return {
        "items": len(data.items),
        "workers": {w: round(float(s), 4) for w, s in zip(data.workers, base, strict=True)},
        "comparers": compared,
        "policies": out,
    }


def pooled(near: Any, truth: Any) -> dict[str, float]:
    """How well the measure ranks truly equal answers above others, over all pairs together: what easy prompts flatter."""
    upper = np.triu_indices(truth.shape[1], 1)
    value, same = near[:, upper[0], upper[1]].ravel(), (truth[:, upper[0]] == truth[:, upper[1]]).ravel()
    ok = ((truth[:, upper[0]] >= 0) & (truth[:, upper[1]] >= 0)).ravel() & ~np.isnan(value)
    ranks = value[ok].argsort().argsort() + 1.0
    yes = int(same[ok].sum())
    area = (ranks[same[ok]].sum() - yes * (yes + 1) / 2) / (yes * (int(ok.sum()) - yes))
    return {"auc_over_all_pairs": round(float(area), 4), "all_pairs": int(ok.sum())}


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", dest="sets", action="append", choices=list(SETS))
    parser.add_argument("--items", type=int, default=2500)
    parser.add_argument("--model", type=Path)
    given = parser.parse_args()
    found = json.loads(given.out.read_text()) if given.out.exists() else {}
    for name in given.sets or SETS:
        found[name] = of_set(name, given.data, given.items, given.model, lambda text: print(text, flush=True))
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
