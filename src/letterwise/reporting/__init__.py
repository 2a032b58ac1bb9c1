"""Figures, tables, cards and reports, made from result files."""
