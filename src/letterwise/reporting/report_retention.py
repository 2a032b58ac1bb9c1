"""The report's section on what training left of the base model's English.

Knows the retention results; computes no figure.
"""

from __future__ import annotations

from letterwise.analysis_results import Retention
from letterwise.reporting.report_document import Section, Table, Text
from letterwise.reporting.report_model import ROLES
from letterwise.reporting.summary import NOTHING, number_text, share_text
from letterwise.results import Estimate

COLUMNS = ("model", "perplexity", "ratio to the base", "unchanged choices", "divergence")


def retention_rows(retention: Retention) -> list[list[str]]:
    """A row for each model, by `COLUMNS`."""
    rows = []
    for role, perplexity in retention.perplexity.items():
        against = retention.against_base[role] if role != "base" else None
        shares = against and against.unchanged_choices
        rows.append(
            [
                ROLES.get(role, role),
                _number(perplexity),
                _number(against.perplexity_ratio) if against else NOTHING,
                share_text(shares.value, shares.interval) if shares and shares.value is not None else NOTHING,
                _number(against.kl_divergence) if against else NOTHING,
            ]
        )
    return rows


def retention_sentence(retention: Retention) -> str:
    """Whether the tuned model predicts plain English as well as before; empty where it was not measured."""
    tuned = retention.against_base.get("finetuned")
    ratio = tuned and tuned.perplexity_ratio
    if not ratio or ratio.value is None or ratio.interval is None:
        return ""
    low, high = ratio.interval
    verdict = (
        "Tuning made plain English harder to predict"
        if low > 1
        else "Tuning made plain English easier to predict"
        if high < 1
        else "No change in how well plain English is predicted could be shown"
    )
    times = number_text(ratio.value, ratio.interval)
    return f"{verdict}: the tuned model's perplexity is {times} times the base model's."


def retention_section(retention: Retention) -> Section:
    """Perplexity, and how far predictions moved from the base model's."""
    text = retention.text
    return Section(
        "Retention",
        [
            Text(retention_sentence(retention) or "Only controls were measured."),
            Table(
                f"Predictions of {text.tokens:,} tokens in {text.passages:,} passages of English ({text.source}), in "
                f"{retention.dtype}. Unchanged choices: where greedy decoding takes the same next token as the base, "
                "both given the text up to there. Divergence: Kullback-Leibler, from the base's next-token "
                "distribution, in nats. Brackets: 95% intervals, the same resampled passages for both models.",
                list(COLUMNS),
                retention_rows(retention),
                right=False,
                widths=[10, 24, 22, 22, 22],
            ),
        ],
    )


def _number(estimate: Estimate) -> str:
    return NOTHING if estimate.value is None else number_text(estimate.value, estimate.interval)
