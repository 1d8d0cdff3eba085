"""RouteLLM's figures like for like: APGR and CPT on its MMLU and GSM8K items, by a router that was trained on none of them.

    python recipes/evidence_routellm.py --data FOLDER [--out RESULTS]

Trained on mmlu_pro, zeroeval without GSM8K, llmrouter_default and routerbench (ARC, Winogrande), without any prompt whose
question also stands in the evaluation. The score of a prompt is how likely a model of the weak one's kind fails: the target is
the MEAN score of several such models, which tells how hard a question is with less noise than one model's answer. Also the gap to
strong models, nearest neighbours, and the mean of both forms; each over TF-IDF, the static embedding, and both. The row that
counts is the one whose APGR is best on the TRAINING prompts of other folds ("chosen"), so that nothing is picked on the
evaluation. Only the public 70 % of the items are here: not the whole set.
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np

from stretto.evaluation.tables import Item, Table, read
from stretto.evaluation.two_models import two_models
from stretto.learning.evidence.features import fit_features
from stretto.learning.evidence.success import Logistic, Nearest, cross_fitted, folds
from stretto.policies.embedding import shipped

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
}
CHOICES = (
    "mmlu",
    "arc_challenge",
    "commonsense_qa",
    "openbook_qa",
    "gpqa",
    "gsm8k",
    "math",
    "agentverse_mgsm",
)
"""Tasks of llmrouter_default that are like the evaluation's."""


FORMS = {"logistic": lambda: Logistic(0.003), "nearest": lambda: Nearest(60, 10)}
BY = {"gap": lambda chance: chance[:, 0] - chance[:, 1], "weak fails": lambda chance: 1 - chance[:, 1]}


def stem(prompt: str) -> str:
    """The question without options and spaces, for finding the same one again."""
    question = re.split(r"\n\(?A[).:]|\nOptions", prompt)[0]
    return re.sub(r"\W+", "", question).casefold()[-200:]


def means(table: Table, items: list[Item], workers: tuple[str, ...]) -> np.ndarray:
    """The mean score of some workers on each item."""
    return np.array([np.mean([table.said(i.id, w).score for w in workers]) for i in items])


def training(data: Path, barred: set[str]) -> tuple[list[str], np.ndarray]:
    """Prompts, and what strong and weak models make of them."""
    prompts, scores = [], []
    for name, (strong, weak) in KINDS.items():
        table = read(data / name)
        kept = [
            i
            for i in table.items
            if "gsm" not in i.task or name == "llmrouter_default"
            if stem(i.prompt) not in barred and all(table.said(i.id, w) for w in (*strong, *weak))
            if name != "routerbench_subset" or i.task != "mbpp"
            if name != "llmrouter_default" or i.task.casefold().replace("-", "_") in CHOICES
        ]
        print(f"{name}: {len(kept)} of {len(table.items)} prompts", flush=True)
        prompts += [i.prompt for i in kept]
        scores.append(np.stack([means(table, kept, strong), means(table, kept, weak)], axis=1))
    return prompts, np.concatenate(scores)


def measured(score: np.ndarray, real: np.ndarray) -> dict:
    """APGR with its bootstrap interval, and CPT."""
    found = two_models(score, real[:, 1], real[:, 0])
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(200):
        at = rng.integers(0, len(real), len(real))
        draws.append(two_models(score[at], real[at, 1], real[at, 0]))
    row = {"n": found.n, "apgr": round(found.apgr, 3), "cpt50": round(found.cpt[0.5], 3)}
    for name, values in (("apgr", [d.apgr for d in draws]), ("cpt50", [d.cpt[0.5] for d in draws])):
        row[f"{name} 95 %"] = [round(float(v), 3) for v in np.percentile(values, [2.5, 97.5])]
    return row | {"cpt80": round(found.cpt[0.8], 3)}


def main() -> None:
    """Train, score, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    target = read(given.data / "routellm_eval")
    clean = [i for i in target.items if not i.more.get("contaminated")]
    prompts, y = training(given.data, {stem(i.prompt) for i in target.items})
    words, sense = fit_features(prompts), shipped()

    def seen(texts: list[str], which: str) -> np.ndarray:
        parts = []
        if which != "embedding":
            parts.append(words.matrix(texts))
        if which != "TF-IDF":
            parts.append(8.0 * np.stack([sense.vector(t) for t in texts]))
        return np.hstack(parts)

    rows = []
    fold = folds(len(prompts))
    for which in ("TF-IDF", "embedding", "both"):
        x = seen(prompts, which)
        crossed = {name: cross_fitted(make, x, y, fold) for name, make in FORMS.items()}
        crossed["mean of both"] = sum(crossed.values()) / 2
        fitted = [make().fit(x, y) for make in FORMS.values()]
        tried = {
            (name, what): two_models(by(chance), y[:, 1], y[:, 0]).apgr
            for name, chance in crossed.items()
            for what, by in BY.items()
        }
        for task in ("mmlu", "gsm8k"):
            items = [i for i in clean if i.dataset == task]
            real = np.array([[target.said(i.id, w).score for w in (STRONG, WEAK)] for i in items])
            z = seen([i.prompt for i in items], which)
            chances = dict(zip(FORMS, (fit.predict(z) for fit in fitted), strict=True))
            chances["mean of both"] = sum(chances.values()) / 2
            for (name, what), known in tried.items():
                row = {
                    "task": task,
                    "by": f"{name} of {which}, {what}",
                    "on training prompts": round(known, 3),
                }
                rows.append(row | measured(BY[what](chances[name]), real))
                print(rows[-1], flush=True)
    for task in ("mmlu", "gsm8k"):
        best = max((r for r in rows if r["task"] == task), key=lambda r: r["on training prompts"])
        best["chosen"] = True
        print("chosen", best)
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "routellm.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
