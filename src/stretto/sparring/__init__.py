"""Sparring: problems with one right answer, their graders, and a pool of small real models to solve them."""

from stretto.sparring.graders import grade, normalise
from stretto.sparring.pool import PoolEntry, entries
from stretto.sparring.problems import FAMILIES, Problem, Split, problems, split_of

__all__ = [
    "FAMILIES",
    "PoolEntry",
    "Problem",
    "Split",
    "entries",
    "grade",
    "normalise",
    "problems",
    "split_of",
]
