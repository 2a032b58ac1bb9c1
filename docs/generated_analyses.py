"""What docs/transfer_learning.md shows of the final run's analyses: probes, what was forgotten, items and errors.

Called from cog blocks and run by `make docs`. Knows the recorded analyses of the run's own seed; of what is not there
it says so.
"""

from __future__ import annotations

from final_run import FinalRun, figure, markdown, of_final_run, read_analysis, read_findings
from generated_study import NOT_RECORDED

from letterwise.analysis_results import ITEM_ANALYSIS_FILE, RETENTION_FILE, ItemAnalysis, Retention
from letterwise.probe_results import PROBE_QUESTIONS, PROBES_FILE, ProbeResults
from letterwise.reporting.report_document import Items
from letterwise.reporting.report_error_section import errors_section
from letterwise.reporting.report_items import items_section
from letterwise.reporting.report_model import ROLES
from letterwise.reporting.report_probes import QUESTIONS, what_probes_found
from letterwise.reporting.report_retention import retention_section
from letterwise.reporting.summary import share_text
from letterwise.reporting.templating import markdown_table

BEST_NOTE = (
    "A best place is chosen on the tokens that it is shown on, for every model alike: it is a little overestimated."
)


@of_final_run
def mechanism(run: FinalRun) -> str:
    """What probes found, by layer, before and after training."""
    if not (probes := read_analysis(PROBES_FILE, ProbeResults)):
        return NOT_RECORDED
    return "\n\n".join(
        [
            f"Linear probes on {probes.tokens['test']:,} tokens of the vocabulary, of word families that they were not "
            "fitted on:",
            markdown([Items(what_probes_found(probes))]),
            _best_places(probes),
            figure("probes.png", "What probes read off each layer of base, control and tuned model, with baselines"),
        ]
    )


def _best_places(probes: ProbeResults) -> str:
    """For each question the embedding before training, and where each model tells most."""
    roles = [role for role in ROLES if role in probes.models]
    rows = []
    for question in PROBE_QUESTIONS:
        embedding = probes.models["base"].places[0].accuracy[question]
        cells = [share_text(embedding.value, embedding.interval)]
        for role in roles:
            best = max(probes.models[role].places, key=lambda place: place.accuracy[question].value)
            told = best.accuracy[question]
            cells.append(f"{share_text(told.value, told.interval)} ({best.place.replace('_', ' ')})")
        rows.append((QUESTIONS[question], *cells, f"{embedding.n:,}"))
    header = ("question", "base, embedding", *(f"{ROLES[role]}, best place" for role in roles), "n")
    return f"{markdown_table(header, rows)}\n\n{BEST_NOTE}"


@of_final_run
def forgetting(run: FinalRun) -> str:
    """What training on spelling left of the base model's English."""
    retention = read_analysis(RETENTION_FILE, Retention)
    return markdown(retention_section(retention).blocks) if retention else NOT_RECORDED


@of_final_run
def items(run: FinalRun) -> str:
    """What right answers go with."""
    analysis = read_analysis(ITEM_ANALYSIS_FILE, ItemAnalysis)
    return markdown(items_section(analysis).blocks) if analysis else NOT_RECORDED


@of_final_run
def errors(run: FinalRun) -> str:
    """How answers are wrong, with examples of each kind."""
    findings = read_findings()
    return markdown(errors_section(findings.error_analysis, None).blocks) if findings else NOT_RECORDED
