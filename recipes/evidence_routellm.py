"""RouteLLM's figures like for like: APGR and CPT on its MMLU and GSM8K items, by a router that was trained on none of them.

    python recipes/evidence_routellm.py --data FOLDER

Trained on mmlu_pro (gpt-4o against Mixtral-8x7B-Instruct) and zeroeval without GSM8K (gpt-4o against Mixtral or the like),
without any prompt whose question also stands in the evaluation. Only the public 70 % of the items are here: not the whole set.
"""

import argparse
import re
from pathlib import Path

import numpy as np

from stretto.evaluation.tables import Item, Table, read
from stretto.evaluation.two_models import two_models
from stretto.learning.features import fit_features
from stretto.learning.success import Logistic, Nearest

STRONG, WEAK = "gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1"
PAIRS = {
    "mmlu_pro": ("gpt-4o-2024-05-13(apr-may-2024 run)", "Mixtral-8x7B-Instruct-v0.1"),
    "zeroeval_reasoning": ("gpt-4o-2024-08-06", "Mixtral-8x7B-Instruct-v0.1"),
}


def stem(prompt: str) -> str:
    """The question without options and spaces, for finding the same one again."""
    question = re.split(r"\n\(?A[).:]|\nOptions", prompt)[0]
    return re.sub(r"\W+", "", question).casefold()[-200:]


def outcomes(table: Table, items: list[Item], pair: tuple[str, str]) -> np.ndarray:
    """Scores of the strong and the weak model."""
    return np.array([[table.said(i.id, w).score for w in pair] for i in items])


def main() -> None:
    """Train, score, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    target = read(given.data / "routellm_eval")
    clean = [i for i in target.items if not i.more.get("contaminated")]
    barred = {stem(i.prompt) for i in target.items}
    prompts, scores = [], []
    for name, pair in PAIRS.items():
        table = read(given.data / name)
        if pair[1] not in table.workers:
            close = [w for w in table.covering() if "mixtral" in w.lower()] or ["gemma-2-9b-it"]
            pair = (pair[0], close[0])
        kept = [
            i
            for i in table.items
            if "gsm" not in i.task and stem(i.prompt) not in barred and all(table.said(i.id, w) for w in pair)
        ]
        print(f"{name}: {len(kept)} of {len(table.items)} prompts, {pair[0]} against {pair[1]}")
        prompts += [i.prompt for i in kept]
        scores.append(outcomes(table, kept, pair))
    features = fit_features(prompts)
    x, y = features.matrix(prompts), np.concatenate(scores)
    fitted = {"logistic": Logistic().fit(x, y), "nearest": Nearest().fit(x, y)}
    for task in ("mmlu", "gsm8k"):
        items = [i for i in clean if (i.dataset == task or i.task == task or task in i.id)]
        seen = outcomes(target, items, (STRONG, WEAK))
        z = features.matrix([i.prompt for i in items])
        for name, fit in fitted.items():
            chance = fit.predict(z)
            for what, score in (("gap", chance[:, 0] - chance[:, 1]), ("weak fails", 1 - chance[:, 1])):
                found = two_models(score, seen[:, 1], seen[:, 0])
                rng = np.random.default_rng(0)
                draws = []
                for _ in range(200):
                    at = rng.integers(0, len(items), len(items))
                    draws.append(two_models(score[at], seen[at, 1], seen[at, 0]).apgr)
                low, high = np.percentile(draws, [2.5, 97.5])
                print(
                    f"{task} {name} by {what}: n {found.n} weak {found.weak:.3f} strong {found.strong:.3f} "
                    f"APGR {found.apgr:.3f} [{low:.3f}, {high:.3f}] CPT50 {found.cpt[0.5]:.3f} CPT80 {found.cpt[0.8]}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
