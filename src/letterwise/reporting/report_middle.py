"""The report's middle: results, comparison and transfer analysis.

Knows the record of a run; computes no metric.
"""

from __future__ import annotations

from letterwise.reporting import other_controls
from letterwise.reporting.other_controls import other_control_rows
from letterwise.reporting.report_document import Block, Items, Picture, Section, Table, Text
from letterwise.reporting.report_findings import HEADLINES, capital, carried_over, position_classes
from letterwise.reporting.report_model import ROLES
from letterwise.reporting.report_record import RunRecord
from letterwise.reporting.summary import (
    COLUMNS,
    NOTE,
    NOTHING,
    difference_text,
    is_significant,
    number_text,
    p_text,
    share_text,
    standing,
    summary_cells,
    summary_rows,
)
from letterwise.results import QUESTION_TYPES, TRANSFER_FIGURES, Estimate, QuestionType

COMPARISONS = {
    "base_to_finetuned": "tuned − base",
    "control_to_finetuned": "tuned − control",
    "base_to_control": "control − base",
}
PICTURES = {
    "model_bars": (
        "Accuracy of each model, answer mode direct, with the baselines.",
        "Bar charts: spelling, letter count and letter position accuracy of base, control and tuned model.",
    ),
    "answer_modes": (
        "Letter counts and positions in each answer mode.",
        "Bar charts: accuracy of each model in the modes direct, spell first and computed.",
    ),
    "accuracy_by_word_length": (
        "Accuracy by the number of letters in the word.",
        "Line charts: accuracies of each model by word length.",
    ),
    "accuracy_by_n_tokens": (
        "Accuracy by the number of tokens that the word is split into.",
        "Line charts: accuracies of each model by number of tokens.",
    ),
    "accuracy_by_position": (
        "Letter positions: accuracy by the position asked for.",
        "Line chart: position accuracy of each model for the first, an inner and the last letter.",
    ),
}


def results_section(record: RunRecord) -> Section:
    """The table of all figures, and the pictures of it."""
    rows = [
        [f"`{row[0]}`" if " " not in row[0] else _coded(row[0]), *row[1:]]
        for row in map(summary_cells, summary_rows(record.results))
    ]
    blocks: list[Block] = [
        Table(
            f"Results on the {record.results.split} split. {NOTE}",
            list(COLUMNS),
            rows,
            widths=[25, 14, 14, 14, 14, 15, 8, 8],
        )
    ]
    if controls := other_control_rows(record.results):
        blocks.append(
            Table(
                "The tuned model beside the further controls and the ceiling, answer mode direct. Each was trained for "
                "as many steps; the ceiling alone saw questions, and is not published. Brackets: 95% intervals.",
                list(other_controls.COLUMNS),
                [list(row) for row in controls],
                right=False,
                widths=[13, 33, 18, 18, 18],
            )
        )
    blocks += _pictures(record, *PICTURES)
    if record.results.calibration:
        blocks.append(
            Text(
                "Confidence is the probability that the model gives to its answer, over the valid answers. It is "
                "calibrated on validation words; the error below is of the evaluated split."
            )
        )
        blocks.append(
            Table(
                "Expected calibration error of the tuned model's confidence; lower is better.",
                ["confidence in", "uncalibrated", "calibrated", "n"],
                [
                    [f"`{name}`", number_text(error.uncalibrated), number_text(error.calibrated), f"{error.n:,}"]
                    for name, error in record.results.calibration.items()
                ],
            )
        )
    return Section("Results", blocks)


def comparison_section(record: RunRecord, made_worse: list[str]) -> Section:
    """Every paired comparison, where the models stand to the baselines, and the whole list of what got worse."""
    results = record.results
    rows = [
        [
            f"`{entry.metric}`",
            label,
            difference_text(entry),
            p_text(entry.p_value) if entry.p_value is not None else NOTHING,
            "yes" if is_significant(entry) else "no",
            f"{entry.n:,}",
        ]
        for comparison, label in COMPARISONS.items()
        for entry in results.significance.get(comparison, [])
    ]
    blocks: list[Block] = [
        Table(
            "Every paired comparison: difference on the same items with its 95% interval (in percentage points for "
            "shares), exact McNemar p where answers are right or wrong. For `levenshtein_distance` and "
            "`letter_count_mae` lower is better.",
            ["metric", "models", "difference", "p", "significant", "n"],
            rows,
            widths=[34, 17, 22, 9, 12, 8],
        )
    ]
    standings = [
        [
            HEADLINES[metric],
            ROLES[role],
            share_text(model.metrics[metric], model.intervals.get(metric)),
            f"{share_text(baseline.value)} ({baseline.description})",
            standing(model.metrics[metric], model.intervals.get(metric), baseline.value),
        ]
        for question_type in QUESTION_TYPES
        for metric in [f"{question_type}_accuracy"]
        for name, baseline in results.baselines.items()
        if name.startswith(question_type)
        for role in ROLES
        if (model := results.model(role)) and metric in model.metrics
    ]
    if standings:
        caption = "Where each model stands to each baseline, mode direct; above: its whole interval is."
        header = ["questions", "model", "right", "baseline", "the model is"]
        blocks.append(Table(caption, header, standings, right=False, widths=[16, 9, 20, 40, 15]))
    if made_worse:
        blocks += [
            Text(
                "Everything measured that tuning made worse, by a paired comparison where there is one and otherwise "
                "by intervals that have nothing in common:"
            ),
            Items([f"{capital(text)}." for text in made_worse]),
        ]
    else:
        blocks.append(Text("Nothing that was measured got significantly worse by tuning."))
    return Section("Comparison with base, control and baselines", blocks)


def transfer_section(record: RunRecord) -> Section:
    """What carried over, by every figure that speaks of it."""
    transfer = record.transfer
    rows = [
        _estimate_row(figure, what, estimate)
        for figure in TRANSFER_FIGURES
        for what, estimate in getattr(transfer, figure).items()
    ]
    rows.append(_estimate_row("generalization", "spelling", transfer.generalization))
    classes = position_classes(record.results)
    blocks: list[Block] = [
        Items([_transfer_sentence(record, kind) for kind in QUESTION_TYPES]),
        *([Text(f"By position: {'; '.join(map(str, classes.values()))}.")] if classes else []),
        Table(
            "Transfer in figures, or the reason why there is no figure.",
            ["figure", "of", "value", "n"],
            rows,
            right=False,
            widths=[24, 20, 46, 8],
        ),
        Items(
            [
                "`correlation`: Spearman, between spelling accuracy and accuracy of questions over the checkpoints "
                "of the training, and of further seeds.",
                "`item_phi`: association between “word spelled right” and “question about it answered right”, tuned "
                "model.",
                "`transfer_efficiency`: share of the headroom gained in questions ÷ share of the headroom gained in "
                "spelling.",
                "`control_adjusted_gain`: gain over the control, that is, what is due to knowing the spelling.",
                *(
                    [
                        "`share_of_ceiling`: gain over the base ÷ that of the ceiling adapter, which was trained on as "
                        "many tokens of the questions themselves."
                    ]
                    if transfer.share_of_ceiling
                    else []
                ),
                "`generalization`: spelling accuracy on held-out words ÷ that on training tokens, tuned model.",
            ]
        ),
    ]
    if path := record.figures.get("item_table"):
        blocks.append(
            Picture(
                path,
                "Questions answered by whether the word is spelled right, tuned model.",
                "Two tables of counts: word spelled wrong or right against question answered wrong or right.",
            )
        )
    return Section("Transfer analysis", blocks)


def _pictures(record: RunRecord, *names: str) -> list[Block]:
    return [Picture(path, *PICTURES[name]) for name in names if (path := record.figures.get(name))]


def _coded(cell: str) -> str:
    """'name (mode)' with the name as code."""
    name, _, rest = cell.partition(" ")
    return f"`{name}` {rest}"


def _estimate_row(figure: str, what: str, estimate: Estimate) -> list[str]:
    value = estimate.reason or NOTHING if estimate.value is None else number_text(estimate.value, estimate.interval)
    return [f"`{figure}`", f"`{what}`", value, f"{estimate.n:,}" if estimate.n is not None else NOTHING]


def _transfer_sentence(record: RunRecord, question_type: QuestionType) -> str:
    verdict = {
        True: "knowing the spelling carried over: the tuned model is significantly better than base model and control.",
        False: "no transfer shown: the gains in spelling, over base model and over control are not all significant.",
        None: "no control was evaluated, so transfer cannot be told from the form of the texts.",
    }[carried_over(record.results, question_type)]
    gain = record.transfer.control_adjusted_gain.get(question_type)
    if gain and gain.value is not None:
        verdict += f" Gain over the control: {number_text(gain.value, gain.interval)}."
    return f"{capital(HEADLINES[f'{question_type}_accuracy'])}: {verdict}"
