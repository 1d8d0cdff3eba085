"""Makes `src/stretto/pool/repute.json`: what known models are believed to be good for, from recorded outcomes, byte for byte.

    python recipes/profile_priors.py --data DIR                                 # DIR holds a folder for each set
    python recipes/profile_priors.py --data DIR --without mmlu_pro --out FILE   # see profile_priors_tried.py

Only the items of split `train` count, only the sets whose READMEs allow an artefact to be shipped, only models that were tuned to
answer: base models get no figures. Release years are of the makers' announcements.
"""

import argparse
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from stretto import artifacts
from stretto.artifacts import Artifact
from stretto.evaluation import tables
from stretto.evaluation.recorded import RecordedPool
from stretto.learning.repute import Cell, Facts, fit
from stretto.policies.route import blend
from stretto.pool import repute
from stretto.pool.profiles import profile
from stretto.pool.repute import REPUTE_SCHEMA, family, size, stem, thinks, version

SETS = {
    "mmlu_pro": ("Apache-2.0", "TIGER-AI-Lab/MMLU-Pro, f418b116db00b065c2aea046518d8fcf74d39872"),
    "reasoning_gym": (
        "Apache-2.0",
        "open-thought/reasoning-gym-eval, 5f09fecc342a25d693895b7304a9dec43b47f436",
    ),
    "zeroeval_reasoning": ("Apache-2.0", "WildEval/ZeroEval, 8c1485edf12c6efb5f69135a562927c5ad484059"),
    "llmrouter_default": ("MIT", "ulab-uiuc/LLMRouter, 4e7a796942ce26e9d5f2b93191c7c2585c99c2e3"),
    "routellm_eval": ("Apache-2.0", "lm-sys/RouteLLM, 0b64fdafe049e596a3f5657c219329f24af24198"),
}
"""The sets that artefacts may be shipped from: licence, source and commit, by their READMEs."""

BASE = re.compile(
    r"^(?:Llama-2-\d+b-hf|Meta-Llama-3(?:_1)?-\d+B|Mistral-7B-v0\.\d(?:-hf)?|Mixtral-8x7B-v0\.1|Qwen1\.5-110B|Yi-\d+B|gemma-7b)$"
)
"""Models of mmlu_pro that were not tuned to answer."""

_MATH = re.compile(
    r"math|gsm|algebra|arithmetic|geometry|statistics|physics|chemistry|engineering|econometrics"
)
_CODE = re.compile(r"code|crux|human_eval|mbpp")
_REASONING = re.compile(r"logic|algorithmic|arc/|cognition|games|graphs|induction")

YEARS: Mapping[str, float] = {
    **dict.fromkeys(("gpt-3-5-turbo", "llama-2-7b", "llama-2-13b", "llama-2-70b"), 2023.3),
    **dict.fromkeys(("gpt-4",), 2023.2),
    **dict.fromkeys(("gpt-4-turbo", "mixtral-8x7b", "mistral-7b"), 2023.9),
    **dict.fromkeys(
        ("qwen-1-5-110b", "qwen-1-5-72b", "qwen-1-5-7b", "reka-flash", "yi-6b", "yi-34b"), 2024.1
    ),
    **dict.fromkeys(
        ("claude-3-haiku", "claude-3-sonnet", "claude-3-opus", "command-r", "jamba-1-5-large"), 2024.2
    ),
    **dict.fromkeys(
        ("llama-3-8b", "llama-3-70b", "phi-3-mini-4k", "command-r-plus", "codegemma-7b", "reka-core"), 2024.3
    ),
    **dict.fromkeys(
        ("gpt-4o", "deepseek-v2", "yi-1-5-34b", "yi-1-5-9b", "yi-large", "gemini-1-5-flash"), 2024.4
    ),
    **dict.fromkeys(("gemini-1-5-pro", "llama-3-chatqa-1-5-70b", "llama-3-chatqa-1-5-8b"), 2024.4),
    **dict.fromkeys(
        ("claude-3-5-sonnet", "qwen-2-72b", "qwen-2-7b", "deepseek-coder-v2", "gemma-2-27b"), 2024.5
    ),
    **dict.fromkeys(
        ("gemma-2-9b", "gemma-2-2b", "gpt-4o-mini", "athene-70b", "mathstral-7b", "mistral-nemo"), 2024.5
    ),
    **dict.fromkeys(
        ("llama-3-1-405b", "llama-3-1-70b", "llama-3-1-8b", "mistral-large", "phi-3-5-mini"), 2024.6
    ),
    **dict.fromkeys(
        ("deepseek-v2-5", "qwen-2-5-72b", "qwen-2-5-32b", "qwen-2-5-7b", "qwen-2-5-3b", "o1-mini", "o1"),
        2024.7,
    ),
    **dict.fromkeys(("claude-3-5-haiku", "llama-3-1-nemotron-51b"), 2024.8),
    **dict.fromkeys(("llama-3-3-70b", "grok-2"), 2024.9),
    **dict.fromkeys(("deepseek-r1", "o3-mini"), 2025.1),
    **dict.fromkeys(
        ("qwq-32b", "gemma-3-27b", "mistral-small-3-1-24b", "llama-3-3-nemotron-super-49b"), 2025.2
    ),
    **dict.fromkeys(("llama-4-maverick", "llama-4-scout", "grok-3-mini"), 2025.3),
    **dict.fromkeys(("claude-4-sonnet",), 2025.4),
}

PRICES: Mapping[str, float] = {"gemma-2-9b": 0.1, "qwen-2-5-7b": 0.2, "mistral-7b": 0.2, "codegemma-7b": 0.2}
"""USD per million tokens where neither a profile nor a set's costs tell: the list of llmrouter_default's source."""
_LARGE, _SMALL = 0.9, 0.2


def kind(set: str, dataset: str, task: str) -> tuple[str, str]:
    """The part of a set that an item stands in (items of like difficulty), and its kind of task."""
    name = f"{dataset} {task}".lower() if set != "mmlu_pro" else task.lower()
    found = (
        "code"
        if _CODE.search(name)
        else "math"
        if _MATH.search(name) and "logic" not in name
        else "reasoning"
        if _REASONING.search(f"{task}/" if set == "reasoning_gym" else task)
        and not (set == "routellm_eval" or "arc_challenge" in task)
        else "knowledge"
    )
    part = {"zeroeval_reasoning": dataset, "llmrouter_default": task}.get(set, f"{dataset} {found}")
    return part, found


def cells_of(table: tables.Table) -> Iterable[Cell]:
    """How often each model was right in each part of a set; dated editions of a model count as one."""
    place = {i.id: kind(table.name, i.dataset, i.task) for i in table.items if i.split == "train"}
    scores: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for worker in table.workers:
        if not BASE.match(worker) and "chatqa" not in worker:
            for item, (part, of) in place.items():
                if (said := table.said(item, worker)) is not None:
                    scores[part, of, stem(worker)].append(said.score)
    for (part, of, model), found in sorted(scores.items()):
        yield Cell(table.name, part, of, model, len(found), statistics.fmean(found))


def prices_of(given: Sequence[tables.Table]) -> dict[str, float]:
    """USD per million tokens of each model: its list price, else what explains the costs in the sets, else a list of sizes."""
    found: dict[str, list[float]] = defaultdict(list)
    for table in given:
        for card in RecordedPool(table).cards():
            known = profile(card.id) or profile(stem(card.id))
            if known is not None:
                found[stem(card.id)] = [(0.75 * known.price.input + 0.25 * known.price.output) / 1e6]
            elif card.priced and blend(card) > 0:
                found[stem(card.id)].append(blend(card) / 1e6)
            else:
                found[stem(card.id)] += []
    usual = {m: _LARGE if re.search(r"(?:49|5\d|70)b", m) else PRICES.get(m, _SMALL) for m in found}
    return {m: statistics.median(prices) if prices else usual[m] for m, prices in found.items()}


def facts_of(given: Sequence[tables.Table]) -> dict[str, Facts]:
    """What is known of every model in these sets beside its outcomes."""
    prices = prices_of(given)
    return {m: Facts(math.log10(prices[m]), YEARS[m], thinks(m), family(m)) for m in prices if m in YEARS}


def artefact(cells: Sequence[Cell], facts: Mapping[str, Facts], sets: Iterable[str]) -> Artifact:
    """What ships: figures to three places."""
    found = fit(cells, facts)
    seen = {c.model for c in cells}
    years: dict[str, dict[str, list[float]]] = {name: {} for name in found.families}
    for m in sorted(seen):
        if facts[m].family:
            told = version(m)
            years[facts[m].family].setdefault("" if told is None else f"{told:g}", []).append(facts[m].year)
    sized = [(math.log10(size(m) or 1), facts[m].price) for m in sorted(seen) if size(m)]
    slope, level = np.polyfit(*np.array(sized).T, 1)

    def short(pair: tuple[float, float]) -> list[float]:
        return [round(value, 3) for value in pair]

    data = {
        "models": {m: short(odds) for m, odds in sorted(found.models.items())},
        "families": {
            name: {
                "odds": short(odds),
                "years": {v: round(statistics.fmean(y), 2) for v, y in sorted(years[name].items())},
            }
            for name, odds in sorted(found.families.items())
        },
        "slopes": {name: short(pair) for name, pair in found.slopes.items()},
        "centre": {"price": round(found.centre.price, 3), "year": round(found.centre.year, 2)},
        "left": round(math.hypot(*found.sizes[1:3]), 3),
        "oldest": min(facts[m].year for m in seen),
        "newest": max(facts[m].year for m in seen),
        "prices": short((min(facts[m].price for m in seen), max(facts[m].price for m in seen))),
        "size": [round(float(level), 3), round(float(slope), 3)],
    }
    provenance = {
        "by": "recipes/profile_priors.py --data DIR",
        "from": {name: {"licence": SETS[name][0], "source": SETS[name][1]} for name in sets},
        "split": "train",
        "cells": found.cells,
    }
    return Artifact(REPUTE_SCHEMA, provenance, data)


def main() -> None:
    """Read, fit, write."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--data", type=Path, required=True, help="a folder with a folder for each set")
    asked.add_argument("--without", default="", choices=["", *SETS], help="leave this set out")
    asked.add_argument("--out", type=Path, default=Path(repute.__file__).with_name("repute.json"))
    given = asked.parse_args()
    sets = [name for name in SETS if name != given.without]
    read = [tables.read(given.data / name) for name in sets]
    found = artefact([cell for table in read for cell in cells_of(table)], facts_of(read), sets)
    artifacts.write(found, given.out)
    print(
        f"{given.out}: {len(found.data['models'])} models, {len(found.data['families'])} families, {found.hash}"
    )


if __name__ == "__main__":
    main()
