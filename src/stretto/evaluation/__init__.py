"""Measuring ways to orchestrate on the same items, through the same engine, with intervals."""
