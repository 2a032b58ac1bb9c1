"""Data sets built from words and tasks, audited for leaks."""
