"""Lets `python -m letterwise` do what `letterwise` does."""

from letterwise.cli import main

main()
