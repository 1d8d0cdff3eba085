"""Silent faults and the drift monitor on recorded tables: how soon it is noticed, what it costs, and false alarms.

    python recipes/evidence_drift.py --data FOLDER --set mmlu_pro [--u 0.1] [--most 3000] [--out FILE.json]
    python recipes/evidence_drift.py --page FILE.json [FILE.json ...]       # their tables, as Markdown

The policy as it serves (`learn`), fitted on train; streams are drawn from dev with replacement. A fault: from the first request
on, three in ten of one worker's replies are wrong (an answer that nobody gave, or, one time in ten, somebody else's wrong one),
and nobody knows. With `--text healthy`, the worst case, neither text nor length of the reply shows it; with `--text wrong` it
reads like one of that worker's usual wrong replies. The monitor (`ledger.drift`) sees what a served run records.
After its alarm the worker is left out: by the values solved without it (`re-solved`), or by the old ones (`masked`).
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from evidence_ablations import masked
from evidence_ablations_shown import told
from evidence_ablations_study import points
from evidence_tables import SETS, loaded

from stretto.learning.evidence import success
from stretto.learning.evidence.drift import fit_agreement
from stretto.learning.evidence.lattice import Lattice, choices, solve
from stretto.learning.evidence.matrices import Matrix, renumbered
from stretto.learning.evidence.reading import read_replies
from stretto.learning.evidence.training import LONGEST, Learned, learn
from stretto.ledger.drift import Compared, Monitor
from stretto.policies.evidence.agreement import signs
from stretto.policies.evidence.beliefs import Beliefs

FAULT = 0.3


def played(lattice: Lattice, choice: np.ndarray) -> np.ndarray:
    """The subset that has been asked when the policy stops, an item each."""
    items = np.arange(len(lattice.logits))
    mask = np.zeros(len(items), dtype=np.int64)
    for _ in range(lattice.workers):
        picked = choice[mask, items]
        mask = np.where(picked > 0, mask | 1 << np.maximum(picked - 1, 0), mask)
    return mask


def spent(lattice: Lattice, ended: np.ndarray) -> np.ndarray:
    """The cost of each item."""
    return sum((ended >> k & 1) * lattice.costs[:, k] for k in range(lattice.workers))


@dataclass
class Dev:
    """The dev items with what the policy knows of them."""

    found: Learned
    few: Matrix
    logits: Any
    after: Any
    lengths: Any

    @classmethod
    def of(cls, data: Matrix, found: Learned) -> "Dev":
        """`data`: train and dev, as they were learned from."""
        few = data.at(np.array([i.split != "train" for i in data.items]))
        places = [found.pool.index(w) for w in found.workers]
        few, logits = few.of(places), success.log_odds(found.router[1][:, places])
        after = logits if found.reading is None else found.reading.after(logits, read_replies(few))
        mean, deviation = found.usual
        long = np.nan_to_num(np.clip((few.tokens - mean) / deviation, -LONGEST, LONGEST))
        return cls(found, few, logits, after, long)

    def lattice(self) -> Lattice:
        """What is believed of each subset."""
        few, found = self.few, self.found
        said = few.classes, self.logits, few.scores, few.costs
        fold = np.zeros(len(few.items), dtype=int)
        heard = self.lengths, self.after, few.there, found.moves
        near = None if found.dev is None else found.dev.near
        return replace(Lattice.of([found.posterior], fold, *said, *heard), near=near)

    def broken(self, worker: int, rng, text: str) -> "Dev":
        """The items as they are when a worker is wrong on all of them."""
        classes, scores = self.few.classes.copy(), self.few.scores.copy()
        after, lengths = self.after.copy(), self.lengths.copy()
        others = np.delete(np.arange(classes.shape[1]), worker)
        there = np.flatnonzero(self.few.there[:, worker])
        usual = there[scores[there, worker] < 0.5]
        for item in there:
            wrong = [j for j in others if scores[item, j] < 0.5 and classes[item, j] >= 0]
            lucky = wrong and rng.random() < 0.1
            classes[item, worker] = classes[item, rng.choice(wrong)] if lucky else 99
            if text == "wrong" and len(usual):
                like = rng.choice(usual)
                moved = self.after[like, worker] - self.logits[like, worker]
                after[item, worker] = self.logits[item, worker] + moved
                lengths[item, worker] = self.lengths[like, worker]
        scores[there, worker] = 0.0
        few = replace(self.few, classes=renumbered(classes), scores=scores)
        return replace(self, few=few, after=after, lengths=lengths)

    def heard(self, lattice: Lattice, choice: np.ndarray) -> list[tuple[list[int], list]]:
        """Of each item who was asked, and every reply after the first held against what was believed before it."""
        return [self._heard(lattice, choice, item) for item in range(len(self.few.items))]

    def _heard(self, lattice: Lattice, choice: np.ndarray, item: int) -> tuple[list[int], list]:
        names, classes, mask = self.found.workers, self.few.classes, 0
        asked: list[int] = []
        compared: list[Compared] = []
        while (picked := int(choice[mask, item])) > 0:
            k = picked - 1
            if mask:
                first, second = float(lattice.first[mask, item]), float(lattice.second[mask, item])
                mine, before = classes[item, k], classes[item, asked]
                z = float(signs(first, second, self.logits[item, k]) @ self.found.agreement[k])
                chance = float(1 / (1 + np.exp(-z)))
                alone = names[asked[0]] if len(asked) == 1 else ""
                compared.append(Compared(names[k], bool(mine >= 0 and mine in before), chance, alone))
                if len(asked) == 2 and before[0] != before[1] and second > 0:
                    best = self._best(item, asked)
                    for j in asked:
                        share = (first if classes[item, j] == best else second) / (first + second)
                        same = bool(mine >= 0 and mine == classes[item, j])
                        compared.append(Compared(names[j], same, chance * share))
            asked.append(k)
            mask |= 1 << k
        return asked, compared

    def _best(self, item: int, asked: Sequence[int]) -> int:
        classes = self.few.classes
        there = np.zeros((1, classes.shape[1]), dtype=bool)
        there[0, asked] = True
        odds = np.where(there, self.after[[item]], self.logits[[item]])
        said = Beliefs.after(self.found.posterior, classes[[item]], odds, there, self.lengths[[item]])
        return int(said.best[0])


def stream(healthy, faulty, requests: int, until: bool, seed: int, count: int):
    """The alarms (who, asks of everybody until then), the first only with `until`; and the asks of everybody."""
    rng = np.random.default_rng(seed)
    monitor, asks, alarms = Monitor(fault=FAULT), np.zeros(count, dtype=int), []
    for _ in range(requests):
        item = int(rng.integers(len(healthy)))
        who, compared = (faulty if faulty is not None and rng.random() < FAULT else healthy)[item]
        asks[who] += 1
        if (alarm := monitor.see(*compared)) is not None:
            alarms.append((alarm.worker, asks.copy()))
        if alarms and until:
            break
    return alarms, asks


def watched(given, name: str, worker: int, healthy, faulty, count: int) -> dict:
    """How soon the monitor notices a faulty worker, in that worker's asks."""
    waits, wrongly, missed = [], 0, 0
    for seed in range(given.streams):
        alarms, _ = stream(healthy, faulty, given.requests, True, seed, count)
        if not alarms:
            missed += 1
        elif alarms[0][0] == name:
            waits.append(int(alarms[0][1][worker]))
        else:
            wrongly += 1
    return {
        "waits": waits,
        "asks until alarm": [int(np.percentile(waits, q)) for q in (10, 50, 90)] if waits else None,
        "noticed within 50 asks": round(sum(w <= 50 for w in waits) / given.streams, 3),
        "another accused": round(wrongly / given.streams, 3),
        "never": round(missed / given.streams, 3),
    }


def measured(data: Matrix, found: Learned, given) -> dict:
    """Break each worker in turn, watch, and say what it costs."""
    dev = Dev.of(data, found)
    price, count = [given.u / found.unit], len(found.workers)
    lattice = dev.lattice()
    items = np.arange(len(dev.few.items))
    solved = solve(found.train, price, rich=found.rich)
    choice = choices(solved, lattice)[0]
    ended = played(lattice, choice)
    whole = data.at(np.array([i.split != "train" for i in data.items]))
    unit = float(whole.costs[:, found.best].mean())
    base, single = lattice.score[ended, items], whole.scores[:, found.best]
    healthy = dev.heard(lattice, choice)
    share = [float((ended >> k & 1).mean()) for k in range(count)]
    cost = spent(lattice, ended)
    print(
        f"{given.set}, u {given.u}, {len(found.fold)} train and {len(items)} dev items; best single {100 * single.mean():.2f}, "
        f"policy {told(points(base, single))} x{cost.mean() / unit:.2f} in {sum(share):.2f} asks",
        flush=True,
    )
    rng, rows = np.random.default_rng(1), []
    for k, name in enumerate(found.workers):
        ill = dev.broken(k, rng, given.text)
        sad = ill.lattice()
        way = choices(solved, sad)[0]
        sad_end = played(sad, way)
        stay = [j for j in range(count) if j != k]
        rest, learnt = lattice.among(stay).judged(), found.train.among(stay).judged()
        ways = {"re-solved": solve(learnt, price, rich=found.rich), "masked": masked(solved, stay)}
        lost = FAULT * (base - sad.score[sad_end, items])
        row: dict[str, Any] = {"worker": name, "asked on": round(share[k], 3)}
        row["loss unaware"] = points(lost, np.zeros(len(items)))
        unaware = (1 - FAULT) * cost + FAULT * spent(sad, sad_end)
        row["cost"] = {"unaware": round(float(unaware.mean() / unit), 3)}
        for kind, other in ways.items():
            end = played(rest, choices(other, rest)[0])
            row[f"loss {kind}"] = points(base, rest.score[end, items])
            row["cost"][kind] = round(float(spent(rest, end).mean() / unit), 3)
        row |= watched(given, name, k, healthy, ill.heard(sad, way), count)
        known = row["waits"] + [10**9] * (given.streams - len(row["waits"]))
        aware, blind = row["loss re-solved"][0], row["loss unaware"][0]
        after = [aware if w <= at else blind for w in known for at in range(51, 151)]
        row["mean loss over asks 51 to 150"] = round(float(np.mean(after)), 2)
        rows.append(row)
        print({key: value for key, value in row.items() if key != "waits"}, flush=True)
    alarms, asks = stream(healthy, None, given.healthy, False, 999, count)
    false = {name: sum(a[0] == name for a in alarms) for name in found.workers}
    per = round(10_000 * len(alarms) / int(asks.sum()), 2)
    print(f"without any fault: {len(alarms)} alarms in {int(asks.sum())} asks, {per} per 10,000; {false}")
    return {
        "set": given.set,
        "u": given.u,
        "text": given.text,
        "train": len(found.fold),
        "dev": len(items),
        "policy": points(base, single),
        "cost": round(float(cost.mean() / unit), 3),
        "streams": given.streams,
        "requests": given.requests,
        "rows": rows,
        "false alarms per 10,000 asks": per,
        "false alarms": false,
    }


def page(files: Sequence[Path]) -> None:
    """A table a file."""
    for body in (json.loads(file.read_text()) for file in files):
        print(f"### Silent faults: {body['set']}, u = {body['u']}, text {body['text']}\n")
        print(f"{body['streams']} streams of {body['requests']:,} requests from {body['dev']:,} dev items, "
              f"learned from {body['train']:,} items; healthy {told(body['policy'])} against the best single worker, "
              f"x{body['cost']:.2f}.\n")  # fmt: skip
        print("| worker | asked on | loss, nobody notices | its asks until noticed, 10 / 50 / 90 % | noticed within 50 | "
              "another accused | never | loss solved again | loss masked only |")  # fmt: skip
        print("|---|--:|---|---|--:|--:|--:|---|---|")
        for r in body["rows"]:
            waits = " / ".join(map(str, r["asks until alarm"])) if r["asks until alarm"] else "-"
            cells = [f"{r['asked on']:.2f}", f"{told(r['loss unaware'])} x{r['cost']['unaware']:.2f}", waits]
            cells += [f"{100 * r[k]:.0f} %" for k in ("noticed within 50 asks", "another accused", "never")]
            cells += [f"{told(r[f'loss {k}'])} x{r['cost'][k]:.2f}" for k in ("re-solved", "masked")]
            print(f"| {r['worker']} | {' | '.join(cells)} |")
        print(f"\nFalse alarms per 10,000 asks without any fault: {body['false alarms per 10,000 asks']}.\n")


def main() -> None:
    """Learn, break each worker in turn, watch, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--set", choices=SETS)
    parser.add_argument("--u", type=float, default=0.1)
    parser.add_argument("--size", type=int, default=7)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--healthy", type=int, default=100_000, help="requests without any fault")
    parser.add_argument("--requests", type=int, default=3000, help="of a stream with a fault, at most")
    parser.add_argument("--most", type=int, help="so many items of train, by chance")
    parser.add_argument("--text", choices=("healthy", "wrong"), default="healthy", help="how a fault reads")
    parser.add_argument(
        "--by-chance", action="store_true", help="what to expect learned from sets by chance only"
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--page", type=Path, nargs="+")
    given = parser.parse_args()
    if given.page:
        page(given.page)
        return
    if given.data is None or given.set is None:
        parser.error("--data FOLDER --set SET")
    begun = time.process_time()
    data = loaded(given.data, given.set)
    split = np.array([i.split == "train" for i in data.items])
    if given.most and given.most < split.sum():
        kept = np.zeros(len(split), dtype=bool)
        kept[np.flatnonzero(split)] = np.random.default_rng(0).permutation(int(split.sum())) < given.most
        data = data.at(kept | ~split)
    found = learn(data, size=given.size)
    if given.by_chance:
        chosen = [found.pool.index(w) for w in found.workers]
        few = data.at(np.array([i.split == "train" for i in data.items])).of(chosen)
        found = replace(found, agreement=fit_agreement(found.train, few.classes))
    print(f"learned after {time.process_time() - begun:.0f} s: {', '.join(found.workers)}", flush=True)
    body = measured(data, found, given)
    body["cpu_seconds"] = round(time.process_time() - begun, 1)
    if given.out:
        given.out.write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    main()
