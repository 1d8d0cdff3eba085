"""The tables of the parts' worth as Markdown, and their picture, from what `evidence_ablations.py` wrote.

python recipes/evidence_ablations_shown.py --out RESULTS > parts.md     # and RESULTS/parts.svg
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SETS = ("mmlu_pro", "zeroeval", "reasoning_gym", "bfcl", "routerbench")
SHOWN = (0.05, 0.18)
TITLES = {
    "parts": "the parts",
    "sizes": "how many workers",
    "removed": "a worker gone",
    "cold": "the best single as a newcomer",
}
READ = {"nothing read": "score", "read": "score read"}


def told(pair: Sequence[float] | None, digits: int = 2) -> str:
    """A difference and its interval."""
    if pair is None:
        return ""
    value, low, high = pair
    return f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def cell(one: Mapping[str, Any]) -> str:
    """Points against the best single worker, and cost."""
    return f"{told(one['difference'])} x{one['cost']:.2f}"


def page(out: Path) -> None:
    """The tables of what is there, and the picture of the parts' worth."""
    files = {name: out / f"ablations-{name}.json" for name in SETS}
    bodies = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    for name, body in bodies.items():
        print(f"### {name}: what its parts are worth (train, cross-fitted, n {body['n']:,})\n")
        print(f"Shortlist: {', '.join(body['shortlist'])}. Posterior: {body['form']}.\n")
        for part, title in TITLES.items():
            if part in body:
                table(body[part], title)
        if "whole" in body:
            answers(body["whole"])
    having = {name: {r["family"]: r for r in b["families"]} for name, b in bodies.items() if "families" in b}
    if having:
        print("| family | " + " | ".join(f"{name}, n {bodies[name]['n']:,}" for name in having) + " |")
        print("|---|" + "---|" * len(having))
        for family in next(iter(having.values())):
            cells = [
                f"{r['nats']:.4f}, {told(r['against'], 4)}; {r['auc']:.3f}; {r['ece']:.3f}; {told(r['worth'])}"
                for r in (rows[family] for rows in having.values())
            ]
            print(f"| {family} | {' | '.join(cells)} |")
    if any("parts" in body for body in bodies.values()):
        (out / "parts.svg").write_text(picture(bodies))
    (out / "sizes.svg").write_text(sizes(bodies))


def table(rows: list[dict], title: str) -> None:
    """A variant a line: points against the best single and cost at two prices; its worth against the served form."""
    print(f"| {title} | " + " | ".join(f"u = {u}" for u in SHOWN) + " | worth, mean over the prices |")
    print(f"|---|{'---|' * len(SHOWN)}---|")
    for r in rows:
        cells = [cell(r["prices"][str(u)]) for u in SHOWN]
        print(f"| {r['variant']} | {' | '.join(cells)} | {told(r.get('worth'))} |")
    print()


def answers(rows: list[dict]) -> None:
    """The answer of the full shortlist: points against the best single worker, and its score."""
    kinds = [kind for kind in READ if kind in rows[0]]
    print("| the answer of the full shortlist | " + " | ".join(kinds) + " |")
    print(f"|---|{'---|' * len(kinds)}")
    for r in rows:
        print(
            f"| {r['variant']} | "
            + " | ".join(f"{told(r[kind])}: {r[READ[kind]]:.2f}" for kind in kinds)
            + " |"
        )
    print()


DRAWN = (
    ("question alone (text router)", "only the question (text router)"),
    ("agreement alone", "only agreement"),
    ("question and agreement", "question and agreement"),
    ("without the question", "without the question"),
    ("without slopes of tasks", "without slopes of tasks"),
    ("without reading", "without reading replies"),
    ("without options", "without options as marks"),
    ("without reply lengths", "without reply lengths"),
    ("exchangeable workers", "workers exchangeable"),
    ("without the standing rule", "without the standing rule"),
    ("values from scores alone", "values from scores alone"),
)
COLOURS = {
    "mmlu_pro": "#1f6feb",
    "zeroeval": "#1a7f37",
    "reasoning_gym": "#b7791f",
    "bfcl": "#8250df",
    "routerbench": "#cf222e",
}


def picture(bodies: Mapping[str, dict]) -> str:
    """What the policy loses in worth without each part, with 95 % intervals, a row a variant and a mark a set."""
    found = {
        name: {r["variant"]: r["worth"] for r in b["parts"] if "worth" in r}
        for name, b in bodies.items()
        if "parts" in b
    }
    drawn = [(key, shown) for key, shown in DRAWN if any(key in rows for rows in found.values())]
    left, wide, step, top = 216, 760, 13, 56
    high_row = step * len(found) + 14
    low = top + high_row * len(drawn)
    lowest = min(rows[key][1] for rows in found.values() for key, _ in drawn if key in rows)
    floor, roof = max(-8.0, math.floor(lowest)), 1.5

    def x(value: float) -> float:
        return left + (min(max(value, floor), roof) - floor) / (roof - floor) * (wide - left - 24)

    title = "What is lost without each part"
    marks = [f'<text x="12" y="20" font-size="15" font-weight="bold">{title}</text>']
    marks.append(
        '<text x="12" y="38" fill="#555">points of worth (score less the price of what was asked) against the policy as it '
        "serves; mean over six prices, 95 %</text>"
    )
    for number in range(1, len(drawn), 2):
        y0 = top + number * high_row
        marks.append(f'<rect x="0" y="{y0}" width="{wide}" height="{high_row}" fill="#f3f4f6"/>')
    for value in range(math.ceil(floor), math.floor(roof) + 1):
        colour, heavy = ("#555", 2) if value == 0 else ("#d0d4da", 1)
        at = f"{x(value):.0f}"
        marks.append(f'<path d="M{at},{top} V{low}" stroke="{colour}" stroke-width="{heavy}"/>')
        marks.append(
            f'<text x="{at}" y="{low + 16}" text-anchor="middle">{f"{value:+d}" if value else 0}</text>'
        )
    for number, (key, shown) in enumerate(drawn):
        y0 = top + number * high_row
        marks.append(
            f'<text x="{left - 12}" y="{y0 + high_row / 2 + 4:.0f}" text-anchor="end">{shown}</text>'
        )
        for place, (name, rows) in enumerate(found.items()):
            if key not in rows:
                continue
            colour = COLOURS.get(name, "#555")
            value, least, most = rows[key]
            y = y0 + 7 + step * (place + 0.5)
            marks.append(
                f'<path d="M{x(least):.1f},{y:.1f} H{x(most):.1f}" stroke="{colour}" stroke-width="2"/>'
                f'<circle cx="{x(value):.1f}" cy="{y:.1f}" r="4" fill="{colour}">'
                f"<title>{name}: {told(rows[key])}</title></circle>"
            )
            if value < floor:
                marks.append(
                    f'<text x="{x(floor) + 8:.0f}" y="{y + 4:.0f}" fill="{colour}" font-size="10">{value:+.1f}</text>'
                )
    for place, name in enumerate(found):
        at, colour = left + place * 113, COLOURS.get(name, "#555")
        marks.append(
            f'<circle cx="{at}" cy="{low + 38}" r="4" fill="{colour}"/>'
            f'<text x="{at + 9}" y="{low + 42}" fill="{colour}">{name}</text>'
        )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {low + 54}" font-family="sans-serif" font-size="12"'
    back = f'<rect width="{wide}" height="{low + 54}" fill="white"/>'
    return f'{head} role="img" aria-label="{title}">{back}{"".join(marks)}</svg>\n'


def sizes(bodies: Mapping[str, dict]) -> str:
    """What shorter shortlists lose in worth, with 95 % intervals: a line a set."""
    found = {
        name: [(int(r["variant"].split()[-1]), r["worth"]) for r in b["sizes"] if "worth" in r]
        + [(7, [0, 0, 0])]
        for name, b in bodies.items()
        if "sizes" in b
    }
    left, wide, top, low, floor, roof = 46, 560, 52, 330, -5.0, 1.0
    title = "What shorter shortlists lose"

    def x(size: float) -> float:
        return left + 24 + (size - 2) * 90

    def y(value: float) -> float:
        return low - (max(value, floor) - floor) / (roof - floor) * (low - top)

    marks = [
        f'<text x="12" y="20" font-size="15" font-weight="bold">{title}</text>',
        '<text x="12" y="38" fill="#555">worth against the seven that serve, by how many are left, in points; 95 %</text>',
    ]
    for value in range(int(floor), int(roof) + 1):
        colour, heavy = ("#555", 2) if value == 0 else ("#d0d4da", 1)
        marks.append(
            f'<path d="M{left},{y(value):.0f} H{wide - 12}" stroke="{colour}" stroke-width="{heavy}"/>'
        )
        marks.append(f'<text x="{left - 8}" y="{y(value) + 4:.0f}" text-anchor="end">{value:+d}</text>')
    for size in range(2, 8):
        marks.append(f'<text x="{x(size):.0f}" y="{low + 18}" text-anchor="middle">{size}</text>')
    for place, (name, line) in enumerate(found.items()):
        colour, off = COLOURS.get(name, "#555"), 6 * (place - (len(found) - 1) / 2)
        path = " ".join(f"{x(k) + off:.1f},{y(worth[0]):.1f}" for k, worth in line)
        marks.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for k, worth in line:
            across = f"{x(k) + off:.1f}"
            marks.append(f'<path d="M{across},{y(worth[1]):.1f} V{y(worth[2]):.1f}" stroke="{colour}"/>')
            marks.append(
                f'<circle cx="{across}" cy="{y(worth[0]):.1f}" r="4" fill="{colour}">'
                f"<title>{name}, {k} workers: {told(worth)}</title></circle>"
            )
        at = left + 30 * place + 7 * sum(len(other) for other in list(found)[:place])
        marks.append(f'<circle cx="{at}" cy="{low + 40}" r="4" fill="{colour}"/>')
        marks.append(f'<text x="{at + 9}" y="{low + 44}" fill="{colour}">{name}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {low + 56}" font-family="sans-serif" font-size="12"'
    back = f'<rect width="{wide}" height="{low + 56}" fill="white"/>'
    return f'{head} role="img" aria-label="{title}">{back}{"".join(marks)}</svg>\n'


def main() -> None:
    """Print the tables, draw the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    page(parser.parse_args().out)


if __name__ == "__main__":
    main()
