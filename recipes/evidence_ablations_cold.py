"""A worker with 0, 20, 50, 200 labels, played by the best single: what the others' posterior and reader make of it.

`whole`: the answer of the full shortlist, with nobody choosing whom to ask (EVIDENCE.md section 6, like for like), with nothing
read and with replies read; means of five draws of labels. `cold`: the sequential policy, two draws, each with its own split; its
values are solved by chances, as nobody scored the newcomer.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from evidence_ablations_study import Form, Study, counted, halves, mean_of, points, row

from stretto.learning.evidence import success
from stretto.learning.evidence.assurance import moved
from stretto.learning.evidence.lattice import Lattice, Walk, solve
from stretto.learning.evidence.posterior import fit_posterior
from stretto.learning.evidence.reading import fit_reading
from stretto.policies.evidence.beliefs import Beliefs
from stretto.policies.evidence.trees import Trees

LABELS = (0, 20, 50, 200)
DRAWS = 5


def places(study: Study) -> tuple[int, list[int]]:
    """Who plays the newcomer, and the others."""
    new = list(study.found.workers).index(study.found.pool[study.found.best])
    return new, [k for k in range(len(study.found.workers)) if k != new]


def guessed(study: Study, labels: int, draw: int) -> Any:
    """The log-odds of everybody by the prompt, the newcomer's from so many labels and the others' log-odds."""
    new, old = places(study)
    fold, logits = study.fold(draw % study.splits), study.logits("all", draw % study.splits).copy()
    rng = np.random.default_rng(draw)
    for f in range(5):
        at, other = fold == f, np.flatnonzero(fold != f)
        newcomer = success.Newcomer()
        if labels:
            some = rng.choice(other, min(labels, len(other)), replace=False)
            newcomer.fit(logits[some][:, old], study.few.scores[some][:, [new]])
        logits[at, new] = success.log_odds(newcomer.predict(logits[at][:, old])[:, 0])
    return logits


def against_usual(study: Study) -> Any:
    """The marks of every reply against its worker's own usual ones: how a newcomer writes says nothing of whether it is right.

    That takes replies of each worker, but no scores.
    """

    def made() -> Any:
        known = ~np.isnan(study.read)
        count = np.maximum(known.sum(0), 1)
        away = study.read - np.where(known, study.read, 0.0).sum(0) / count
        deviation = np.sqrt((np.where(known, away, 0.0) ** 2).sum(0) / count)
        return away / np.where(deviation > 1e-6, deviation, 1.0)

    return study.once(("marks against usual ones",), made)


def readers(study: Study, split: int) -> Sequence[Any]:
    """A reader a fold, of the others' replies only."""

    def made() -> list[Any]:
        _, old = places(study)
        fold, logits = study.fold(split), study.logits("all", split)
        return [
            fit_reading(
                *(a[fold != f][:, old] for a in (logits, against_usual(study), study.few.scores)),
                rounds=160,
            )
            for f in range(5)
        ]

    return study.once(("readers of others", split), made)


def read_by(study: Study, logits: Any, split: int) -> Any:
    """The log-odds after the replies, read by those who know the others only: the newcomer comes after them."""
    fold, after = study.fold(split), logits.copy()
    new, old = places(study)
    order = [*old, new]
    for f, reader in enumerate(readers(study, split)):
        at = np.flatnonzero(fold == f)[:, None]
        after[at, order] = reader.after(logits[at, order], against_usual(study)[at, order])
    return after


def judges(study: Study, keep: Sequence[int], split: int, read: bool, identity: bool) -> Sequence[Any]:
    """A posterior a fold, of these workers' replies."""

    def made() -> list[Any]:
        few, fold, logits = study.few.of(keep), study.fold(split), study.logits("all", split)[:, keep]
        others_only = len(keep) < len(study.found.workers)
        after = logits
        if read:
            whole = study.logits("all", split)
            after = (read_by(study, whole, split) if others_only else study.after(Form(), split))[:, keep]
        parts = few.classes, logits, few.scores, study.lengths[:, keep], after, few.there
        kind = {
            "identity": identity,
            "exclusive": study.found.posterior.exclusive,
            "trees": isinstance(study.found.posterior.form, Trees),
        }
        return [fit_posterior(*(a[fold != f] for a in parts), **kind) for f in range(5)]

    return study.once(("judges", tuple(keep), split, read, identity), made)


def answered(study: Study, fits: Sequence[Any], keep: Sequence[int], odds: Any, split: int) -> Any:
    """The score of the answer that the full set comes to."""
    few, fold = study.few.of(keep), study.fold(split)
    score = np.zeros(len(fold))
    for f, posterior in enumerate(fits):
        at = np.flatnonzero(fold == f)
        there = few.there[at]
        long = study.lengths[at][:, keep]
        speaker = Beliefs.after(posterior, few.classes[at], odds[at][:, keep], there, long).speaker
        score[at] = few.scores[at, speaker]
    return score


def whole(study: Study) -> list[dict]:
    """The answer of the full shortlist against the best single worker."""
    _, old = places(study)
    everybody = list(range(len(study.found.workers)))
    rows = [{"variant": "without the worker"}]
    rows += [{"variant": f"{n} labels"} for n in LABELS]
    rows += [{"variant": "all labels, exchangeable"}, {"variant": "all labels, with identity"}]
    for read in (False, True) if study.read is not None else (False,):
        found: list[Any] = []

        def over(splits: Sequence[int], keep: Sequence[int], odds: Any, source: Sequence[int], identity: bool,
                 read: bool = read, found: list[Any] = found) -> None:  # fmt: skip
            scores = [
                answered(
                    study,
                    judges(study, source, s % study.splits, read, identity),
                    keep,
                    odds(s),
                    s % study.splits,
                )
                for s in splits
            ]
            found.append(np.mean(scores, axis=0))

        def others(draw: int, labels: int = 0, read: bool = read) -> Any:
            logits = guessed(study, labels, draw)
            return read_by(study, logits, draw % study.splits) if read else logits

        def known(split: int, read: bool = read) -> Any:
            return study.after(Form(), split) if read else study.logits("all", split)

        splits = range(study.splits)
        over(splits, old, others, old, False)
        for labels in LABELS:
            draws = range(DRAWS) if labels else splits
            over(draws, everybody, lambda s, labels=labels: others(s, labels), old, False)
        over(splits, everybody, known, everybody, False)
        over(splits, everybody, known, everybody, True)
        for one, score in zip(rows, found, strict=True):
            one["read" if read else "nothing read"] = points(score, study.base)
            one["score read" if read else "score"] = round(100 * float(score.mean()), 2)
    for one in rows:
        print(one, flush=True)
    return rows


def cold(study: Study, draws: int = 2) -> list[dict]:
    """The sequential policy with a newcomer."""
    _, old = places(study)
    served, rich = study.served, study.found.rich
    blind = study.went(Form(identity=False, values="chance"))
    rows = [row("all labels, as it serves", served, study)]
    rows.append(row("all labels, exchangeable, values by chances", blind, study, served))
    rows.append(row("without the worker", study.went(Form(keep=tuple(old))), study, served))
    for labels in LABELS:
        walks: list[Walk] = []
        for draw in range(draws if labels else 1):
            lattice = met(study, labels, draw)
            walks.append(
                halves(
                    lattice,
                    draw,
                    lambda learnt: solve(counted(learnt, "chance"), study.per, rich=rich),
                )
            )
        rows.append(row(f"{labels} labels", mean_of(walks), study, served))
    return rows


def met(study: Study, labels: int, draw: int) -> Lattice:
    """What is believed where a newcomer is among the workers: only so many of its replies were ever scored."""
    few, split = study.few, draw % study.splits
    logits, read = guessed(study, labels, draw), study.read is not None
    after = read_by(study, logits, split) if read else None
    fits = judges(study, places(study)[1], split, read, False)
    moves = moved(logits, after, few.there, few.classes)
    said = few.classes, logits, few.scores, few.costs
    near = study.found.train.near
    lattice = Lattice.of(fits, study.fold(split), *said, study.lengths, after, few.there, moves)
    return replace(lattice, near=near)
