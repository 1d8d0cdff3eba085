"""The tables of docs/reference/evidence.md, from what the other recipes wrote.

python recipes/evidence_page.py --out RESULTS > tables.md
"""

import argparse
import json
from pathlib import Path

SETS = ("mmlu_pro", "zeroeval", "zeroeval_o1", "reasoning_gym", "reasoning_gym_easy", "bfcl", "routerbench")
PRICES = (0.01, 0.05, 0.1, 0.18, 0.25, 0.4)


def cell(row: dict) -> str:
    """Difference, interval, cost."""
    return f"{row['difference']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}] x{row['cost']:.2f}"


def one(body: dict) -> list[str]:
    """A set: a line a policy, train and dev beside each other."""
    rows = {split: {r["policy"]: r for r in found} for split, found in body["rows"].items()}
    train, dev = rows["train"], rows["dev"]
    base = next(iter(train.values()))
    n = f"train n {base['n']:,}, dev n {next(iter(dev.values()))['n']:,}"
    lines = [f"### {body['set']}", ""]
    lines += [
        f"{base['policy']}: {base['score']:.2f} on train, {dev[base['policy']]['score']:.2f} on dev; {n}."
    ]
    lines += [f"Shortlist: {', '.join(body['shortlist'])}.", ""]
    lines += [
        "| | train, cross-fitted | dev, once | calls | ECE on train (95th of a calibrated one) |",
        "|---|---|---|--:|--:|",
    ]
    names = [r for r in train if "u" not in train[r] and not r.startswith("best")]
    routers = [r for r in names if r.startswith("text router")]
    best = max(routers, key=lambda r: train[r]["difference"])
    for name in names:
        if name in routers and name != best:
            continue
        told = "text router, the best on train" if name == best else name
        lines.append(f"| {told} | {cell(train[name])} | {cell(dev[name])} | {train[name]['calls']:.0f} | |")
    for kind in ("sequential", "two rounds"):
        for u in PRICES:
            r, d = train[f"{kind} u={u}"], dev[f"{kind} u={u}"]
            share = f"; o1-mini on {100 * r['share']:.0f} %" if "share" in r else ""
            lines.append(
                f"| {kind}, u = {u} | {cell(r)}{share} | {cell(d)} | {r['calls']:.1f} | {r['ece']:.3f} ({r['ece95']:.3f}) |"
            )
    for name, r in body["chosen"]["train"].items():
        u = body["picks"][name.split(",")[0]][name.split(", ")[1]].split("u=")[1]
        lines.append(
            f"| **{name}** (u = {u}, chosen on train) | {cell(r)} | {cell(body['chosen']['dev'][name])} | {r['calls']:.1f} | |"
        )
    for split in ("train", "dev"):
        test = body["certified"][split]
        lines += [
            "" if split == "train" else None,
            f"Certified on {split} (n {test['n']:,}): u = {test['u']}: {test['told']}.",
        ]
    chosen = {k: v for k, v in body["chosen between"].items() if k != "success nats"}
    lines += ["", f"Chosen between, on train: {json.dumps(chosen)}.", ""]
    return [line for line in lines if line is not None]


def main() -> None:
    """All sets that are there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    for name in SETS:
        file = given.out / f"{name}.json"
        if file.exists():
            print("\n".join(one(json.loads(file.read_text()))))


if __name__ == "__main__":
    main()
