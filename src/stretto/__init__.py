"""Stretto: an open orchestration model. A policy proposes steps, one engine executes them, a ledger records everything."""

__version__ = "0.1.0"
