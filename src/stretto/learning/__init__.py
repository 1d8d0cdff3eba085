"""Training and estimation, offline. Importing this package loads nothing heavy; its modules need the `train` extra."""
