"""What an evaluation leaves behind: `report.html`, `report.md`, `results.parquet`, `summary.json`, and a table of outcomes.

The table, `items.jsonl` and `outcomes.jsonl`, is what every worker came to on every item, in the form that `stretto train` reads;
the audit reads `items.jsonl`, too.

The HTML file is one file: no script, nothing fetched, light or dark as the reader's system is.
"""

import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

from stretto.errors import ConfigError
from stretto.evaluation import pictures
from stretto.evaluation.comparison import Comparison, Row
from stretto.evaluation.intervals import Interval
from stretto.evaluation.runner import Log, Result
from stretto.evaluation.tasks import Item
from stretto.types import usd

__all__ = ["BETWEEN_TOLD", "Graded", "between_lines", "html", "markdown", "sample", "save"]

_TASKS: Final = 120
"""More kinds of task than this are no longer a table that anyone reads."""

_KINDS: Final = {
    "policy": "Policies",
    "control": "Controls: what a policy has to beat",
    "bound": "Bounds: what nobody can do",
    "worker": "Workers alone",
}


def save(
    folder: Path,
    comparison: Comparison,
    items: Sequence[Item],
    results: Mapping[str, Sequence[Result]],
    *,
    title: str,
    provenance: Mapping[str, Any],
) -> list[str]:
    """Write the files into `folder`; returns their names. Without pyarrow there is no Parquet file."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in (
        "outcomes.jsonl",
        "samples.jsonl",
        "results.parquet",
    ):  # of an earlier evaluation, with other items
        (folder / left).unlink(missing_ok=True)
    summary = asdict(comparison) | {
        "verdict": comparison.verdict,
        "title": title,
        "provenance": dict(provenance),
    }
    text = json.dumps(_finite(summary), indent=1, ensure_ascii=False)
    (folder / "summary.json").write_text(text + "\n", encoding="utf-8")
    (folder / "report.md").write_text(markdown(comparison, title, provenance), encoding="utf-8")
    (folder / "report.html").write_text(html(comparison, title, provenance), encoding="utf-8")
    with (folder / "items.jsonl").open("w", encoding="utf-8") as out:
        asked = {r.item for found in results.values() for r in found}
        for item in (i for i in items if i.id in asked):
            prompt = (
                "\n\n".join(f"{m.role}: {m.text}" for m in item.messages)
                if len(item.messages) > 1
                else item.prompt
            )
            row = {"item_id": item.id, "task": item.task, "split": item.split, "prompt": item.prompt}
            if prompt != item.prompt:
                row["conversation"] = prompt
            if item.tools:
                row["tools"] = json.dumps(item.tools, ensure_ascii=False)
            out.write(
                json.dumps(row | {"reference": item.reference, "grader": item.grader}, ensure_ascii=False)
                + "\n"
            )
    names = ["report.html", "report.md", "summary.json", "items.jsonl"]
    workers = [row.name for row in comparison.rows if row.kind == "worker" and row.name in results]
    names += _outcomes(folder, {name: results[name] for name in workers}, results)
    return [*names, "results.parquet"] if _parquet(folder / "results.parquet", items, results) else names


def _outcomes(
    folder: Path, alone: Mapping[str, Sequence[Result]], results: Mapping[str, Sequence[Result]]
) -> list[str]:
    """Write what the workers came to; further answers of one go into `samples.jsonl`, with its first one. An answer that failed
    is none: it says nothing of what the worker knows. But for one that is empty: the worker had nothing to say.
    """
    if not alone:
        return []
    again = {n: [alone[n], *(found for x, found in results.items() if x.startswith(f"{n}#"))] for n in alone}
    written: dict[str, Iterable[tuple[int | None, Result]]] = {
        "outcomes.jsonl": ((None, r) for found in alone.values() for r in found)
    }
    if any(len(found) > 1 for found in again.values()):
        several = (found for found in again.values() if len(found) > 1)
        written["samples.jsonl"] = ((k, r) for found in several for k, part in enumerate(found) for r in part)
    for file, rows in written.items():
        with (folder / file).open("w", encoding="utf-8") as out:
            for sample, r in rows:
                if r.error and r.error != "empty":
                    continue
                row = {
                    "item_id": r.item,
                    "model": r.contender.partition("#")[0],
                    **({} if sample is None else {"sample": sample}),
                    "score": r.score,
                    "answer": r.answer,
                    "cost_usd": usd(r.cost),
                    "prompt_tokens": r.input,
                    "completion_tokens": r.output,
                    "latency_s": round(r.seconds, 4),
                    "confidence": r.confidence,
                }
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
    return list(written)


def _finite(value: Any) -> Any:
    """The same with `None` for what is no number: JSON has no word for it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value


def _parquet(file: Path, items: Sequence[Item], results: Mapping[str, Sequence[Result]]) -> bool:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return False
    by_id = {item.id: item for item in items}
    rows = []
    for found in results.values():
        for r in found:
            item = by_id[r.item]
            row = asdict(r) | {
                "asked": list(r.asked),
                "cost_usd": usd(r.cost),
                "task": item.task,
                "split": item.split,
            }
            del row["cost"]
            rows.append(row)
    if not rows:
        return False
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return True


# --- reading -----------------------------------------------------------------------------------------------------


def _cells(row: Row) -> list[str]:
    c = row.compared
    d = c.difference
    ratio = "–" if math.isnan(c.cost) else f"x{c.cost:.3f}"
    gap = "–" if row.verdict == "the measure" else _gap(d)
    p = "–" if row.verdict == "the measure" else ("< .001" if c.p < 0.001 else f"{c.p:.3f}")
    errors = f"; {row.errors} without an answer" if row.errors else ""
    return [
        row.name,
        f"{100 * c.score:.2f}",
        gap,
        "–" if math.isnan(row.usd) else f"{row.usd:.4g}",
        ratio,
        f"{c.calls:.2f}",
        p,
        row.verdict + errors,
    ]


_HEAD: Final = ("", "score", "to best single [95 %]", "USD / 1,000", "cost", "calls", "McNemar p", "verdict")


def _grouped(comparison: Comparison) -> list[tuple[str, list[Row]]]:
    groups = [(told, [r for r in comparison.rows if r.kind == kind]) for kind, told in _KINDS.items()]
    workers = groups[-1][1]
    workers.sort(key=lambda r: -r.compared.score)
    return [(told, rows) for told, rows in groups if rows]


def _about(comparison: Comparison) -> str:
    return (
        f"{comparison.n} items. Best single worker: {comparison.best}, chosen on {comparison.chosen_on}. "
        "Differences are paired over the same items, in points, with 95 % bootstrap intervals."
    )


def _by_task(comparison: Comparison) -> list[Row]:
    shown = [r for r in comparison.rows if r.kind == "policy" or r.verdict == "the measure"]
    workers = [r for r in comparison.rows if r.kind == "worker" and r.verdict != "is the best single"]
    return [*shown, *sorted(workers, key=lambda r: -r.compared.score)[:4]]


def _apart(comparison: Comparison, name: str) -> str:
    """The expected calibration error of a policy, in words, and how much of it is no sign of a fault."""
    stated = next((r.stated for r in comparison.rows if r.name == name), None)
    if stated is None:
        return "nothing was stated"
    return f"stated and realised are {stated.error:.3f} apart; luck alone would allow {stated.lucky:.3f}"


def markdown(comparison: Comparison, title: str, provenance: Mapping[str, Any]) -> str:
    """The report as Markdown: verdict, table, tasks, use, calibration."""
    lines = [f"# {title}", "", f"**{comparison.verdict}**", ""]
    lines += [line for doubt in comparison.doubts for line in (f"**Look into this:** {doubt}", "")]
    lines += [_about(comparison), ""]
    for told, rows in _grouped(comparison):
        lines += [f"## {told}", "", "| " + " | ".join(_HEAD) + " |", "|---|--:|---|--:|--:|--:|--:|---|"]
        lines += ["| " + " | ".join(x.replace("|", "\\|") for x in _cells(row)) + " |" for row in rows]
        lines.append("")
    rows = _by_task(comparison)
    if 1 < len(comparison.tasks) <= _TASKS:
        lines += [
            "## By task",
            "",
            f"| task | n | {' | '.join(r.name for r in rows)} |",
            "|---|--:|" + "--:|" * len(rows),
        ]
        for task, n in comparison.tasks.items():
            scores = " | ".join(f"{100 * r.by_task[task]:.1f}" for r in rows)
            lines.append(f"| {task or '-'} | {n} | {scores} |")
        lines.append("")
    lines += _evenly(comparison)
    lines += _between(comparison)
    if used := {r.name: r.asked for r in comparison.rows if r.asked}:
        lines += ["## Whom each policy asked", ""]
        lines += [
            f"- {name}: " + ", ".join(f"{w} {n}" for w, n in asked.items()) for name, asked in used.items()
        ]
        lines.append("")
    for name, bins in comparison.calibration.items():
        lines += [
            f"## Calibration of {name}: {_apart(comparison, name)}",
            "",
            "| n | stated | right [95 %] |",
            "|--:|--:|---|",
        ]
        lines += [
            f"| {b.n} | {b.stated:.3f} | {b.right.value:.3f} [{b.right.low:.3f}, {b.right.high:.3f}] |"
            for b in bins
        ]
        lines.append("")
    lines += [f"- {note}" for note in comparison.notes]
    lines += ["", "Made with: " + ", ".join(f"{k} {v}" for k, v in provenance.items()) + ".", ""]
    return "\n".join(lines)


def _evenly(comparison: Comparison) -> list[str]:
    """Policies beside the best single worker that is asked again for the same money."""
    if not (rows := _even(comparison)):
        return []
    lines = [
        "## At equal budget",
        "",
        "| policy | for about the same money | difference [95 %] |",
        "|---|---|---|",
    ]
    return [*lines, *("| " + " | ".join(cells) + " |" for cells in rows), ""]


def _even(comparison: Comparison) -> list[tuple[str, str, str]]:
    """Of each policy the vote of the best single worker that its money buys and the difference to that, or why there is none."""
    rows = []
    for row in comparison.rows:
        if row.equal_budget is not None:
            rival, d = row.equal_budget
            rows.append((row.name, rival, _gap(d)))
        elif row.budget:
            rows.append((row.name, row.budget, "–"))
    return rows


def _gap(d: Interval) -> str:
    return f"{100 * d.value:+.2f} [{100 * d.low:+.2f}, {100 * d.high:+.2f}]"


_BETWEEN: Final = ("policy", "from", "to", "dials", "APGR [95 %]", "CPT50", "CPT80")
BETWEEN_TOLD: Final = (
    "APGR: how much of the gap between the two workers is won back, averaged over all shares of calls to the stronger one; "
    "choosing by lot comes to 0.5. CPT50, CPT80: the least share of calls to it that wins back 50 or 80 % of the gap (by "
    "lot 50 and 80 %). As RouteLLM defines them (arXiv 2406.18665); between the dials the line is straight."
)


def _betweens(comparison: Comparison) -> list[tuple[str, ...]]:
    """The published figures of each policy that was turned between two workers."""
    rows = []
    for one in comparison.between:
        apgr, *least = one.figures.apgr, one.figures.cpt50, one.figures.cpt80
        shares = (f"{100 * d.value:.0f} % [{100 * d.low:.0f}, {100 * d.high:.0f}]" for d in least)
        ends = f"{one.weak} ({100 * one.low:.1f})", f"{one.strong} ({100 * one.high:.1f})"
        area = f"{apgr.value:.3f} [{apgr.low:.3f}, {apgr.high:.3f}]"
        rows.append((one.name, *ends, str(len(one.points)), area, *shares))
    return rows


def between_lines(comparison: Comparison) -> list[str]:
    """The same as lines to print."""
    return [
        f"{name} between {weak} and {strong}, {dials} dials: APGR {apgr}, CPT50 {half}, CPT80 {most}"
        for name, weak, strong, dials, apgr, half, most in _betweens(comparison)
    ]


def _between(comparison: Comparison) -> list[str]:
    if not (rows := _betweens(comparison)):
        return []
    head = ["## Between two workers", "", "| " + " | ".join(_BETWEEN) + " |", "|---|---|---|--:|---|---|---|"]
    return [*head, *("| " + " | ".join(cells) + " |" for cells in rows), "", BETWEEN_TOLD, ""]


_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1d2330;--soft:#667085;--line:#e4e7ec;--page:#fbfbfd;--card:#fff;--hot:#3257d6;
  --good:#0a7d4b;--bad:#b3261e;--ring:#b7791f}
@media (prefers-color-scheme:dark){:root{--ink:#e7eaf0;--soft:#98a2b3;--line:#2b313d;--page:#12151b;--card:#191d25;
  --hot:#8aa4ff;--good:#4fd39a;--bad:#ff8a80;--ring:#e2b04a}
}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1080px;padding:32px 20px 64px;background:var(--page);color:var(--ink);
  font:15px/1.5 system-ui,sans-serif}
h1{font-size:26px;margin:0 0 12px}
h2{font-size:17px;margin:36px 0 10px}
p{max-width:80ch}
.soft,footer{color:var(--soft);font-size:13px}
.verdict{background:var(--card);border:1px solid var(--line);border-left:4px solid var(--hot);border-radius:8px;
  padding:14px 18px;font-size:17px}
.doubt{border-left:4px solid var(--bad);padding:2px 18px}
.wide{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:8px}
table{border-collapse:collapse;width:100%;font-size:13.5px}
th,td{padding:7px 10px;text-align:left;border-bottom:1px solid var(--line);font-variant-numeric:tabular-nums}
th{color:var(--soft);font-weight:500;white-space:nowrap}
tr:last-child td{border-bottom:0}
td.n,th.n{text-align:right;white-space:nowrap}
tr.group td{font-weight:600;padding-top:16px;background:var(--page)}
.good{color:var(--good)}
.bad{color:var(--bad)}
svg{width:100%;height:auto;display:block}
svg text{font:12px system-ui,sans-serif;fill:var(--ink)}
svg text.axis{fill:var(--soft);font-size:11px}
svg g>text{paint-order:stroke;stroke:var(--card);stroke-width:3px;stroke-linejoin:round}
svg text.on{fill:#fff;font-size:11px;stroke:none}
.grid{stroke:var(--line);fill:none}
.front{stroke:var(--hot);stroke-width:1.5;fill:none;opacity:.45}
.ideal{stroke:var(--soft);stroke-dasharray:4 4;fill:none}
.bar{stroke:var(--hot);stroke-width:2}
.policy path,.policy circle{fill:var(--hot)}
.policy text{font-weight:600}
.worker circle{fill:var(--soft)}
.worker text,.worker .beyond{fill:var(--soft)}
.control .beyond,.bound .beyond{fill:var(--ring)}
.ring{fill:none;stroke:var(--ring);stroke-width:2}
.bound .ring{stroke-dasharray:2 2}
.plots{display:flex;flex-wrap:wrap;gap:24px}
.plots figure{flex:1 1 280px;max-width:320px;margin:0}
figcaption{font-weight:600;font-size:13px}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:14px}
"""


def html(comparison: Comparison, title: str, provenance: Mapping[str, Any]) -> str:
    """The report as one HTML page."""
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>",
        f'<p class="verdict">{escape(comparison.verdict)}</p>',
        *(f'<p class="doubt"><b>Look into this:</b> {escape(doubt)}</p>' for doubt in comparison.doubts),
        f'<p class="soft">{escape(_about(comparison))}</p>',
        _table(comparison),
    ]
    if plot := pictures.frontier(comparison.rows):
        told = (
            "Diamonds are policies, dots workers, rings controls, dashed rings bounds; the line joins the best. "
            "Arrows at the edge: too far down for the picture, or free."
        )
        if unknown := [r.name for r in comparison.rows if not math.isfinite(r.usd)]:
            told += f" Cost not known, so not shown: {', '.join(unknown)}."
        parts.append(
            f'<h2>Score against cost</h2><div class="card">{plot}</div><p class="soft">{escape(told)}</p>'
        )
    if even := _even(comparison):
        head = ("policy", "for about the same money", "difference [95 %]")
        parts.append(f"<h2>At equal budget</h2>{_plain(head, even)}")
    if turned := _betweens(comparison):
        figures = "".join(
            f"<figure><figcaption>{escape(one.name)}</figcaption>{pictures.between(one)}</figure>"
            for one in comparison.between
        )
        parts.append(
            f'<h2>Between two workers</h2>{_plain(_BETWEEN, turned)}<p class="soft">{escape(BETWEEN_TOLD)}</p>'
            f'<div class="card plots">{figures}</div>'
        )
    if plot := pictures.use({r.name: r.asked for r in comparison.rows if r.asked}):
        parts.append(f'<h2>Whom each policy asked</h2><div class="card">{plot}</div>')
    if comparison.calibration:
        figures = "".join(
            f"<figure><figcaption>{escape(name)}: {_apart(comparison, name)}</figcaption>"
            f"{pictures.calibration(bins, name)}</figure>"
            for name, bins in comparison.calibration.items()
        )
        told = (
            "On the dashed line, what was said was so. Bars are 95 % intervals, areas the number of answers. "
            "Who states exactly the truth is, in 95 of 100 cases, no further from it than luck would allow."
        )
        parts.append(
            f'<h2>Stated and realised</h2><div class="card plots">{figures}</div><p class="soft">{told}</p>'
        )
    parts.append(_tasks(comparison))
    notes = "".join(f"<li>{escape(note)}</li>" for note in comparison.notes)
    if notes:
        parts.append(f'<h2>To be kept in mind</h2><ul class="soft">{notes}</ul>')
    made = ", ".join(f"{k} {v}" for k, v in provenance.items())
    parts.append(f"<footer>Made with: {escape(made)}.</footer></body></html>\n")
    return "\n".join(parts)


def _plain(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of words."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>" for cells in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _table(comparison: Comparison) -> str:
    numbers = (1, 3, 4, 5, 6)
    head = "".join(
        f'<th class="n">{h}</th>' if k in numbers else f"<th>{h}</th>" for k, h in enumerate(_HEAD)
    )
    body = []
    for told, rows in _grouped(comparison):
        body.append(f'<tr class="group"><td colspan="{len(_HEAD)}">{escape(told)}</td></tr>')
        for row in rows:
            d = row.compared.difference
            mood = "" if row.kind == "bound" else " good" if d.above_zero else " bad" if d.below_zero else ""
            cells = [
                f'<td class="{"n" if k in numbers else ""}{mood if k == 2 else ""}">{escape(cell)}</td>'
                for k, cell in enumerate(_cells(row))
            ]
            body.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )


def _tasks(comparison: Comparison) -> str:
    if not 1 < len(comparison.tasks) <= _TASKS:
        return ""
    rows = _by_task(comparison)
    head = "".join(f'<th class="n">{escape(r.name)}</th>' for r in rows)
    body = []
    for task, n in comparison.tasks.items():
        cells = "".join(
            f'<td class="n" style="background:color-mix(in srgb,var(--hot) {35 * r.by_task[task]:.0f}%,transparent)">'
            f"{100 * r.by_task[task]:.1f}</td>"
            for r in rows
        )
        body.append(f'<tr><td>{escape(task or "-")}</td><td class="n">{n}</td>{cells}</tr>')
    return (
        '<h2>By task</h2><div class="wide"><table><thead><tr><th>task</th><th class="n">n</th>'
        f"{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


# --- audit -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Graded:
    """One grading decision with everything that it rests on."""

    prompt: str
    reference: str
    grader: str
    task: str
    result: Result


def sample(
    folder: Path, n: int, *, seed: int = 0, contender: str = "", wrong: bool | None = None
) -> list[Graded]:
    """`n` grading decisions of an evaluation in `folder`, drawn by lot; `wrong` keeps those scored below (or not below) .5.

    Raises `ConfigError` where there is no evaluation, or nothing to draw from.
    """
    if not (folder / "items.jsonl").is_file() or not (folder / "results.jsonl").is_file():
        raise ConfigError(f"{folder}: holds no evaluation; give the folder that `stretto eval --out` named")
    rows = map(json.loads, (folder / "items.jsonl").read_text(encoding="utf-8").split("\n")[:-1])
    items = {row["item_id"]: row for row in rows}
    log = Log(folder / "results.jsonl")
    log.close()
    found = [
        r
        for r in log.done.values()
        if r.item in items and contender in ("", r.contender) and wrong in (None, r.score < 0.5)
    ]
    if not found:
        raise ConfigError(f"{folder}: has no grading decision of that kind")
    drawn = random.Random(seed).sample(found, min(n, len(found)))
    return [
        Graded(i.get("conversation", i["prompt"]), i["reference"], i["grader"], i["task"], r)
        for r in drawn
        for i in (items[r.item],)
    ]
