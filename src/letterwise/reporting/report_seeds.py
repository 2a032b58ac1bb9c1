"""The report's section on further seeds of the training.

Knows what each seed came to; computes no metric.
"""

from __future__ import annotations

from letterwise.reporting.over_seeds import SEED_NOTE, SeedResults, seed_columns, seed_rows
from letterwise.reporting.report_document import Section, Table


def seeds_section(found: SeedResults) -> Section:
    """Every accuracy over the seeds."""
    widths = [26, 14, 20, *(60 // len(found) for _ in found), 8]
    note = f"{len(found)} seeds. {SEED_NOTE}"
    return Section("Over seeds", [Table(note, seed_columns(found), seed_rows(found), widths=widths)])
