"""The final report of a run: what it found, judged and written down, as JSON, HTML and PDF.

Knows which section follows which; the sections, judgements and renderings are made beside it.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from letterwise.files import atomic_path, write_text
from letterwise.reporting.over_seeds import seed_figures
from letterwise.reporting.report_advice import limitations, recommendations
from letterwise.reporting.report_closing import (
    appendices,
    deployment_section,
    limitations_section,
    recommendations_section,
    references_section,
)
from letterwise.reporting.report_criteria import success_criteria
from letterwise.reporting.report_document import Document, to_html, to_pdf
from letterwise.reporting.report_error_section import errors_section
from letterwise.reporting.report_errors import analyse_errors
from letterwise.reporting.report_findings import first_paragraph, made_worse
from letterwise.reporting.report_items import items_section
from letterwise.reporting.report_middle import comparison_section, results_section, transfer_section
from letterwise.reporting.report_model import Conclusion, FinalReport, TransferLearningAnalysis
from letterwise.reporting.report_opening import data_section, method_section, summary_section, training_section
from letterwise.reporting.report_probes import probes_section
from letterwise.reporting.report_record import RunRecord, configuration, read_record
from letterwise.reporting.report_retention import retention_section
from letterwise.reporting.report_seeds import seeds_section
from letterwise.results import write_results

REPORT_FILES = ("final_report.json", "final_report.html", "final_report.pdf")


def write_report(folder: Path, adapter: Path | None = None) -> FinalReport:
    """Write ``final_report.json``, ``.html`` and ``.pdf`` into the run folder.

    Args:
        folder: a finished run.
        adapter: folder of the tuned adapter, for its calibration and its size.

    Raises:
        LetterwiseError: the run is not finished, a file is broken, or the report cannot be written.
    """
    record = read_record(folder, adapter)
    report = make_report(record)
    document = make_document(record, report)
    pdf = to_pdf(document)
    write_results(folder / "final_report.json", report)
    write_text(folder / "final_report.html", to_html(document))
    with atomic_path(folder / "final_report.pdf") as temporary:
        temporary.write_bytes(pdf)
    return report


def make_report(record: RunRecord) -> FinalReport:
    """The run in the brief's structure, with every judgement and the test behind it."""
    errors = analyse_errors(record.predictions["spelling"], record.predictions["position_count"])
    criteria = success_criteria(record)
    model, dataset = record.publication.model, record.publication.dataset
    transfer = record.transfer
    return FinalReport(
        run_name=record.config.run_name,
        model_repository=model.url if model and model.uploaded_to_hugging_face else None,
        dataset_repository=dataset.url if dataset and dataset.uploaded_to_hugging_face else None,
        configuration=configuration(record),
        environment=record.environment,
        evaluation_results=record.results,
        over_seeds=seed_figures(record.seeds) if len(record.seeds) > 1 else [],
        transfer_learning_analysis=TransferLearningAnalysis(
            spelling_to_position_count_correlation=transfer.correlation,
            transfer_efficiency=transfer.transfer_efficiency,
            share_of_ceiling=transfer.share_of_ceiling,
            generalization_capability=transfer.generalization,
            control_adjusted_gain=transfer.control_adjusted_gain,
            item_phi=transfer.item_phi,
        ),
        error_analysis=errors,
        conclusion=Conclusion(
            summary=first_paragraph(record.results),
            success_criteria_met={criterion.name: criterion.met for criterion in criteria},
            success_criteria=criteria,
            made_worse=list(map(str, made_worse(record.results))),
            limitations=limitations(record, errors),
            recommendations=recommendations(record),
        ),
    )


def make_document(record: RunRecord, report: FinalReport) -> Document:
    """The report as sections."""
    judged, environment = report.conclusion, record.environment
    facts = [
        ("Run", f"`{report.run_name}`"),
        ("Base model", f"{record.results.base_model.id}, revision `{environment.base_revision}`"),
        ("Measured", f"{environment.created[:10]}, on {environment.gpu or environment.cpu}, {environment.cores} cores"),
        (
            "Made by",
            f"letterwise {environment.letterwise}"
            + (f", commit `{environment.commit[:12]}`" if environment.commit else ""),
        ),
        ("Model", report.model_repository or "not published"),
        ("Data set", report.dataset_repository or "not published"),
    ]
    return Document(
        title="Does spelling carry over to letter counts and positions?",
        subtitle=f"Final report of the run `{report.run_name}`",
        facts=facts,
        created=datetime.fromisoformat(environment.created),
        sections=[
            summary_section(record, judged),
            method_section(record),
            data_section(record),
            training_section(record),
            results_section(record),
            *([seeds_section(record.seeds)] if len(record.seeds) > 1 else []),
            comparison_section(record, judged.made_worse),
            transfer_section(record),
            *([probes_section(record.probes, record.figures.get("probes"))] if record.probes else []),
            errors_section(report.error_analysis, record.figures.get("confusion")),
            *([items_section(record.item_analysis)] if record.item_analysis else []),
            *([retention_section(record.retention)] if record.retention else []),
            limitations_section(judged),
            deployment_section(record),
            recommendations_section(judged),
            references_section(),
        ],
        appendices=appendices(record),
    )
