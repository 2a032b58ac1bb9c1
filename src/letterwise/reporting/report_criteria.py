"""The success criteria of the project, each met or not by a test on what the run recorded.

Knows what each criterion asks for; a criterion that nothing proves is not met.
"""

from __future__ import annotations

from letterwise.publication import PUBLICATION_FILE
from letterwise.reporting.report_findings import HEADLINES, capital, carried_over, change_of
from letterwise.reporting.report_model import SuccessCriterion
from letterwise.reporting.report_record import RECORD_FILES, RunRecord
from letterwise.reporting.summary import difference_text, find_difference, p_text, share_text
from letterwise.results import QUESTION_TYPES, EvaluationResults, QuestionType


def success_criteria(record: RunRecord) -> list[SuccessCriterion]:
    """All of them, in the order of the project's brief."""
    return [
        *(_improvement(record.results, question_type) for question_type in QUESTION_TYPES),
        _documented(record),
        _uploaded(record),
        _tracked(record),
        _transfer(record.results),
    ]


def _improvement(results: EvaluationResults, question_type: QuestionType) -> SuccessCriterion:
    metric = f"{question_type}_accuracy"
    met = change_of(results, metric) == "better"
    base, tuned = results.base_model, results.finetuned_model
    test = "Not measured."
    if tuned and metric in base.metrics and metric in tuned.metrics:
        test = (
            f"`{metric}`, mode direct: {share_text(base.metrics[metric], base.intervals.get(metric))} before, "
            f"{share_text(tuned.metrics[metric], tuned.intervals.get(metric))} after, n = {tuned.n.get(metric, 0):,}; "
            f"{_comparison(results, metric, 'base_to_finetuned')}"
        )
    return SuccessCriterion(
        name=f"{question_type}_improvement",
        criterion=f"{capital(HEADLINES[metric])} significantly better than the base model's",
        met=met,
        test=test,
    )


def _comparison(results: EvaluationResults, metric: str, comparison: str) -> str:
    difference = find_difference(results, comparison, metric)
    if difference is None:
        return "the two were not compared in pairs."
    p = "" if difference.p_value is None else f", exact McNemar p = {p_text(difference.p_value)}"
    return f"difference {difference_text(difference)} points{p}.".replace("= <", "< ")


def _documented(record: RunRecord) -> SuccessCriterion:
    # `read_record` has read them all: a report of a run with a file missing is refused.
    return SuccessCriterion(
        name="properly_documented",
        criterion="Everything that the run did is on record",
        met=record.audit.passed and bool(record.figures),
        test=(
            f"{len(RECORD_FILES)} files read and valid ({', '.join(f'`{name}`' for name in RECORD_FILES)}); audit of "
            f"the data {'passed' if record.audit.passed else 'not passed'}; {len(record.figures)} figures drawn."
        ),
    )


def _uploaded(record: RunRecord) -> SuccessCriterion:
    parts = []
    for what, upload in (("model", record.publication.model), ("dataset", record.publication.dataset)):
        if upload is None:
            parts.append(f"the {what} was not uploaded")
        elif upload.uploaded_to_hugging_face:
            parts.append(f"the {what} was uploaded, downloaded again and verified ({upload.url})")
        else:
            parts.append(f"the {what} was uploaded, but not verified")
    model, dataset = record.publication.model, record.publication.dataset
    found = f"By `{PUBLICATION_FILE}`: {'; '.join(parts)}."
    return SuccessCriterion(
        name="uploaded_to_hugging_face",
        criterion="Model published on the Hugging Face Hub, and verified by downloading it again",
        met=bool(model and model.uploaded_to_hugging_face),
        test=found if model or dataset else f"The run folder records no upload (`{PUBLICATION_FILE}`).",
    )


def _tracked(record: RunRecord) -> SuccessCriterion:
    runs = sorted(path.name for path in (record.folder / "wandb").glob("*run-*") if path.is_dir())
    if not record.config.tracking.wandb:
        test = "`tracking.wandb` is off in the configuration; the same figures are in `training_log.jsonl`."
    elif not runs:
        test = "`tracking.wandb` is on, but the run folder holds no W&B record."
    else:
        test = f"The run folder holds {len(runs)} W&B records: {', '.join(f'`{name}`' for name in runs)}."
    return SuccessCriterion(
        name="tracked_in_wandb",
        criterion="Training tracked in Weights & Biases",
        met=record.config.tracking.wandb and bool(runs),
        test=test,
    )


def _transfer(results: EvaluationResults) -> SuccessCriterion:
    verdicts = {question_type: carried_over(results, question_type) for question_type in QUESTION_TYPES}
    parts = []
    for question_type, verdict in verdicts.items():
        metric = f"{question_type}_accuracy"
        answer = {True: "yes", False: "no", None: "cannot be told without a control"}[verdict]
        parts.append(
            f"{HEADLINES[metric]}: {answer} (against the control, "
            f"{_comparison(results, metric, 'control_to_finetuned')[:-1]})"
            if verdict is not None
            else f"{HEADLINES[metric]}: {answer}"
        )
    return SuccessCriterion(
        name="transfer_learning_demonstrated",
        criterion="Knowing the spelling carried over to at least one type of question",
        met=any(verdicts.values()),
        test="Spelling improved, and the tuned model beats both base model and control in mode direct, significantly: "
        + "; ".join(parts)
        + ".",
    )
