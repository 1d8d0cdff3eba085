"""Silent faults and the drift monitor on recorded tables: how soon it is noticed, what it costs, and false alarms.

    python recipes/evidence_drift.py --data FOLDER --set mmlu_pro [--u 0.1] [--size 6] [--text] [--out FILE.json]

Everything is fitted on train; streams are drawn from dev with replacement. A fault: from the first request on, three in ten of
one worker's replies are wrong (an answer that nobody gave, or, one time in ten, somebody else's wrong one), and the policy does
not know. The monitor (`ledger.drift`) sees what a served run records. After its alarm the worker is left out: by the values
solved without it (`re-solved`), or by the old ones (`masked`).
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stretto.evaluation.tables import Table, read
from stretto.learning.evidence.drift import fit_agreement
from stretto.learning.evidence.lattice import Lattice, solve
from stretto.learning.evidence.matrices import renumbered
from stretto.learning.evidence.posterior import fit_posterior
from stretto.learning.evidence.success import Logistic, Means, cross_fitted, folds, log_odds
from stretto.learning.evidence.training import Prompts, is_exclusive, matrix, shortlist
from stretto.ledger.drift import Compared, Monitor
from stretto.policies.evidence.agreement import signs
from stretto.policies.evidence.beliefs import Beliefs, view, views

SETS = {
    "mmlu_pro": ("mmlu_pro", lambda worker: True),
    "zeroeval": ("zeroeval_reasoning", lambda worker: not worker.startswith("o1")),
    "bfcl": ("bfcl_aug2024", lambda worker: True),
    "routerbench": ("routerbench_subset", lambda worker: True),
}


def usable(table: Table) -> list[str]:
    """The workers that cover the items and whose calls were all priced."""
    said = {w: [s for i in table.items if (s := table.said(i.id, w)) is not None] for w in table.covering()}
    return [w for w, found in said.items() if all(s.cost is not None for s in found)]


@dataclass
class States:
    """Of every subset and item: the score of the best answer, its chance, the runner-up's, and what is chosen next."""

    score: np.ndarray
    best: np.ndarray
    first: np.ndarray
    second: np.ndarray
    classes: np.ndarray
    choice: dict[str, np.ndarray]


def choices(weights, workers, first, second, logits) -> np.ndarray:
    """What is chosen at every subset of `workers` (places), by the values of a solution among them; 0 stops, 1 + k asks k."""
    count = logits.shape[1]
    out = np.zeros((1 << count, len(logits)), dtype=np.int64)
    for small, by_price in weights.items():
        mask = sum(1 << w for k, w in enumerate(workers) if small >> k & 1)
        x = views(logits) if mask == 0 else view(first[mask], second[mask], logits, rich=False)
        picked = (x @ by_price[0]).argmax(1)
        out[mask] = np.where(picked > 0, 1 + np.array(workers)[picked - 1], 0)
    return out


def barred(weights, without, first, second, logits) -> np.ndarray:
    """The same by the whole solution, but that one worker is never asked: only masked."""
    count = logits.shape[1]
    out = np.zeros((1 << count, len(logits)), dtype=np.int64)
    for mask, by_price in weights.items():
        x = views(logits) if mask == 0 else view(first[mask], second[mask], logits, rich=False)
        worth = x @ by_price[0]
        worth[:, 1 + without] = -1e9
        out[mask] = worth.argmax(1)
    return out


def states(posterior, classes, scores, logits, solved) -> States:
    """Every subset's beliefs on these items, and what each of the solutions chooses there."""
    items, count = classes.shape
    shape = (1 << count, items)
    first, second, score = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    best = np.full(shape, -9)
    for mask in range(1, 1 << count):
        asked = np.broadcast_to([bool(mask >> k & 1) for k in range(count)], classes.shape)
        found = Beliefs.after(posterior, classes, logits, asked)
        first[mask], second[mask] = found.first, found.second
        score[mask], best[mask] = scores[np.arange(items), found.speaker], found.best
    choice = {name: make(first, second, logits) for name, make in solved.items()}
    return States(score, best, first, second, classes, choice)


def played(found: States, which: str, items: np.ndarray) -> np.ndarray:
    """The subset that has been asked when the policy stops, an item each."""
    mask = np.zeros(len(items), dtype=np.int64)
    for _ in range(found.classes.shape[1]):
        picked = found.choice[which][mask, items]
        mask = np.where(picked > 0, mask | 1 << np.maximum(picked - 1, 0), mask)
    return mask


def comparisons(found: States, which: str, item: int, weights, logits, names):
    """Who was asked, and every reply after the first held against what was believed before it."""
    mask, told, asked = 0, [], []
    while (picked := int(found.choice[which][mask, item])) > 0:
        k = picked - 1
        asked.append(k)
        if mask:
            mine, others = found.classes[item, k], found.classes[item, asked[:-1]]
            alone = names[asked[0]] if len(asked) == 2 else ""
            z = float(signs(found.first[mask, item], found.second[mask, item], logits[item, k]) @ weights[k])
            chance = float(1 / (1 + np.exp(-z)))
            told.append(Compared(names[k], bool(mine >= 0 and mine in others), chance, alone))
            if len(others) == 2 and others[0] != others[1] and found.second[mask, item] > 0:
                first, second = found.first[mask, item], found.second[mask, item]
                for j in asked[:-1]:
                    top = found.classes[item, j] == found.best[mask, item]
                    share = float((first if top else second) / (first + second))
                    same = bool(mine >= 0 and mine == found.classes[item, j])
                    told.append(Compared(names[j], same, chance * share))
        mask |= 1 << k
    return asked, told, mask


def broken(classes, scores, k, rng):
    """The items as they are when worker `k` is wrong on all of them."""
    classes, scores = classes.copy(), scores.copy()
    others = np.delete(np.arange(classes.shape[1]), k)
    for item in range(len(classes)):
        wrong = [j for j in others if scores[item, j] < 0.5 and classes[item, j] >= 0]
        lucky = wrong and rng.random() < 0.1
        classes[item, k] = classes[item, rng.choice(wrong)] if lucky else 99
    scores[:, k] = 0.0
    return renumbered(classes), scores


def main() -> None:
    """Fit, break each worker in turn, watch, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", choices=SETS, required=True)
    parser.add_argument("--u", type=float, default=0.1)
    parser.add_argument("--size", type=int, default=6)
    parser.add_argument("--text", action="store_true", help="the prompt counts, too")
    parser.add_argument("--fault", type=float, default=0.3)
    parser.add_argument("--streams", type=int, default=40)
    parser.add_argument("--healthy", type=int, default=100_000, help="requests without any fault")
    parser.add_argument("--requests", type=int, default=3000, help="of a stream with a fault, at most")
    parser.add_argument("--most", type=int, help="so many items of train, by chance")
    parser.add_argument("--lead", type=float, default=1.0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    folder, keep = SETS[given.set]
    table = read(given.data / folder)
    names = [w for w in usable(table) if keep(w)]
    data = matrix(table, names)
    split = np.array([i.split == "train" for i in data.items])
    train, dev = data.at(split), data.at(~split)
    if given.most and given.most < len(train.items):
        train = train.at(np.random.default_rng(0).permutation(len(train.items)) < given.most)
    best = int(train.scores.mean(0).argmax())
    unit = float(train.costs[:, best].mean())
    prompts = Prompts.learned(train.items) if given.text else Prompts(None)
    x, x_dev = prompts.matrix(train.items), prompts.matrix(dev.items)

    def make():
        return Logistic(0.01) if given.text else Means()

    chance = cross_fitted(make, x, train.scores, folds(len(train.items)))
    chance_dev = make().fit(x, train.scores).predict(x_dev)
    chosen = shortlist(train, log_odds(chance), given.size, best)
    few, few_dev = train.of(chosen), dev.of(chosen)
    logits, logits_dev = log_odds(chance[:, chosen]), log_odds(chance_dev[:, chosen])
    posterior = fit_posterior(few.classes, logits, few.scores, exclusive=is_exclusive(few), trees=False)
    fold = folds(len(train.items))
    fits = [
        fit_posterior(
            few.classes[fold != f],
            logits[fold != f],
            few.scores[fold != f],
            exclusive=is_exclusive(few),
            trees=False,
        )
        for f in range(5)
    ]
    lattice = Lattice.of(fits, fold, few.classes, logits, few.scores, few.costs)
    weights = fit_agreement(posterior, few.classes, logits, None)
    count, price = len(chosen), [given.u / unit]
    whole = solve(lattice, price).weights
    solved = {"whole": lambda a, b, c: choices(whole, range(count), a, b, c)}
    for k in range(count):
        rest = [j for j in range(count) if j != k]
        part = solve(lattice.among(rest), price).weights
        solved[f"re-solved {k}"] = lambda a, b, c, part=part, rest=rest: choices(part, rest, a, b, c)
        solved[f"masked {k}"] = lambda a, b, c, k=k: barred(whole, k, a, b, c)
    rng = np.random.default_rng(1)
    healthy = states(posterior, few_dev.classes, few_dev.scores, logits_dev, solved)
    items = np.arange(len(few_dev.items))
    ended = played(healthy, "whole", items)
    base = float(healthy.score[ended, items].mean())
    paid = few_dev.costs / dev.costs[:, best].mean()

    def cost(ended: np.ndarray) -> float:
        """What was asked, relative to the best single worker."""
        return float(sum(((ended >> k & 1) * paid[:, k]).mean() for k in range(count)))

    share = [float((ended >> k & 1).mean()) for k in range(count)]
    print(f"{given.set}, u {given.u}, {len(train.items)} train and {len(items)} dev items, text {given.text}; "
          f"best single {100 * dev.scores[:, best].mean():.2f} ({data.workers[best]}), "
          f"policy {100 * base:.2f} in {sum(share):.2f} asks")  # fmt: skip

    def stream(faulty: States | None, requests: int, until: int, seed: int):
        """The alarms (who, asks of everybody until then, requests), the first only with `until`; and the asks of everybody."""
        rng = np.random.default_rng(seed)
        monitor, asked = Monitor(fault=0.3, lead=given.lead), np.zeros(count, dtype=int)
        alarms = []
        for number in range(requests):
            item = int(rng.integers(len(items)))
            found = faulty if faulty is not None and rng.random() < given.fault else healthy
            who, told, _ = comparisons(found, "whole", item, weights, logits_dev, few.workers)
            asked[who] += 1
            for one in told:
                if (alarm := monitor.see(one)) is not None:
                    alarms.append((alarm.worker, asked.copy(), number))
            if alarms and until:
                break
        return alarms, asked

    rows = []
    for k, name in enumerate(few.workers):
        faulty = states(posterior, *broken(few_dev.classes, few_dev.scores, k, rng), logits_dev, solved)
        sad = played(faulty, "whole", items)
        unaware = (1 - given.fault) * base + given.fault * float(faulty.score[sad, items].mean())
        after = {}
        for kind in ("re-solved", "masked"):
            ended_k = played(healthy, f"{kind} {k}", items)
            after[kind] = float(healthy.score[ended_k, items].mean())
            after[f"{kind} cost"] = cost(ended_k)
        waits, wrongly, missed = [], 0, 0
        for seed in range(given.streams):
            alarms, asked = stream(faulty, given.requests, 1, seed)
            if not alarms:
                missed += 1
                continue
            who, when, _ = alarms[0]
            if who == name:
                waits.append(int(when[k]))
            else:
                wrongly += 1
        by_50 = sum(w <= 50 for w in waits) / given.streams
        row = {
            "worker": name,
            "asked on": round(share[k], 3),
            "unaware loss": round(100 * (base - unaware), 2),
            "cost": [round(c, 3) for c in (cost(ended), cost(sad), after["re-solved cost"], after["masked cost"])],
            "loss re-solved": round(100 * (base - after["re-solved"]), 2),
            "loss masked": round(100 * (base - after["masked"]), 2),
            "asks until alarm": [int(np.percentile(waits, q)) for q in (10, 50, 90)] if waits else None,
            "noticed within 50 asks": round(by_50, 2),
            "another accused": round(wrongly / given.streams, 3),
            "never": round(missed / given.streams, 3),
            "loss after 50 asks": round(100 * (base - (by_50 * after["re-solved"] + (1 - by_50) * unaware)), 2),
            "mean loss over asks 51 to 150": round(100 * (base - float(np.mean([
                after["re-solved"] if w <= at else unaware for w in [*waits, *[10**9] * (given.streams - len(waits))]
                for at in range(51, 151)]))), 2),
        }  # fmt: skip
        rows.append(row)
        print(row, flush=True)
    alarms, asked = stream(None, given.healthy, 0, 999)
    false = {name: sum(1 for a in alarms if a[0] == name) for name in few.workers}
    per = {n: round(10_000 * false[n] / max(1, int(asked[k])), 2) for k, n in enumerate(few.workers)}
    total = round(10_000 * len(alarms) / int(asked.sum()), 2)
    print(
        f"false alarms without fault: {len(alarms)} in {int(asked.sum())} asks, {total} per 10,000; by worker {per}"
    )
    if given.out:
        body = {
            "set": given.set,
            "u": given.u,
            "text": given.text,
            "base": base,
            "rows": rows,
            "false": total,
        }
        given.out.write_text(json.dumps(body | {"by worker": per}, indent=1) + "\n")


if __name__ == "__main__":
    main()
