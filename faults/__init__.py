"""Full fault trials: `python -m faults` runs all and rewrites the table of docs/faults.md."""
