"""Training of TRINITY: what a coordinator reads, soft targets, evolution, and workers it never saw."""
