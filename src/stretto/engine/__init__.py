"""The only place where anything happens."""
