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


def drift(body: dict) -> list[str]:
    """The drift monitor on one set: a line for each worker that silently fails on 30 % of the items."""
    lines = [
        f"### Silent faults: {body['set']}, u = {body['u']}",
        "",
        "| worker | asked on | loss, nobody notices | its asks until noticed, 10 / 50 / 90 % | noticed within 50 "
        "| another accused | never | loss solved again, cost | loss masked only, cost |",
        "|---|--:|--:|---|--:|--:|--:|---|---|",
    ]
    for r in body["rows"]:
        waits = " / ".join(map(str, r["asks until alarm"])) if r["asks until alarm"] else "-"
        lines.append(
            f"| {r['worker']} | {r['asked on']:.2f} | {r['unaware loss']:.2f} x{r['cost'][1]:.2f} | {waits} "
            f"| {100 * r['noticed within 50 asks']:.0f} % | {100 * r['another accused']:.0f} % | {100 * r['never']:.0f} % "
            f"| {r['loss re-solved']:.2f} x{r['cost'][2]:.2f} | {r['loss masked']:.2f} x{r['cost'][3]:.2f} |"
        )
    return [*lines, "", f"False alarms per 10,000 asks without any fault: {body['false']}.", ""]


def routellm(rows: list[dict]) -> list[str]:
    """RouteLLM's metrics: the row that the training prompts chose, and how it was found."""
    lines = [
        "| items | n | by | APGR [95 %] | CPT50 [95 %] | CPT80 | APGR on training prompts |",
        "|---|--:|---|---|---|--:|--:|",
    ]
    for r in rows:
        low, high = r["apgr 95 %"]
        cheap, dear = r["cpt50 95 %"]
        mark = "**" if r.get("chosen") else ""
        by = r["by"] + (", chosen" if mark else "")
        apgr = f"{r['apgr']:.3f} [{low:.3f}, {high:.3f}]"
        cpt = f"{100 * r['cpt50']:.1f} % [{100 * cheap:.1f}, {100 * dear:.1f}] | {100 * r['cpt80']:.1f} %"
        lines.append(
            f"| {mark}{r['task']}{mark} | {r['n']:,} | {by} | {apgr} | {cpt} | {r['on training prompts']:.3f} |"
        )
    return ["### RouteLLM's items", "", *lines, ""]


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
    for file in sorted(given.out.glob("drift-*.json")):
        print("\n".join(drift(json.loads(file.read_text()))))
    if (file := given.out / "routellm.json").exists():
        print("\n".join(routellm(json.loads(file.read_text()))))


if __name__ == "__main__":
    main()
