"""Transfer Learning: does the served model do what its evaluation measured, and does spelling carry over?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from panels import dashboard, graph
from queries import INSTANCE

QUESTIONS = f'{INSTANCE}, question_type=~"$question_type"'


def transfer_learning() -> Dashboard:
    """Make it."""
    sources = f'{INSTANCE}, source=~"evaluation|canary"'
    return (
        dashboard(
            "letterwise-transfer",
            "Transfer Learning",
            "Spelling against letter counts and positions: evaluated once, live by the canary, and for users.",
            ["instance", "question_type"],
        )
        .with_panel(
            graph(
                "Spelling accuracy",
                "Held-out words spelled exactly: live (canary) against what the evaluation measured.",
                "percentunit",
                {"{{source}} {{instance}}": f"letterwise_spelling_accuracy{{{sources}}}"},
                top=1,
            )
        )
        .with_panel(
            graph(
                "Count and position accuracy",
                "Live (canary) against the evaluation; compare lines of the same mode.",
                "percentunit",
                {
                    "count {{source}} {{mode}}": f"letterwise_letter_count_accuracy{{{sources}}}",
                    "position {{source}} {{mode}}": f"letterwise_letter_position_accuracy{{{sources}}}",
                },
                top=1,
            )
        )
        .with_panel(
            graph(
                "Drop against the evaluation",
                "Evaluation minus canary; the line is the alert's threshold.",
                "percentunit",
                {
                    f"{kind} {{{{mode}}}} {{{{instance}}}}": f"instance:letterwise_{metric}:drop{{{INSTANCE}}}"
                    for kind, metric in (
                        ("spelling", "spelling_accuracy"),
                        ("count", "letter_count_accuracy"),
                        ("position", "letter_position_accuracy"),
                    )
                },
                limit=0.1,
            )
        )
        .with_panel(
            graph(
                "Correlation of spelling and answering",
                "Evaluation: Spearman over the training checkpoints. Canary: phi over the words of its window. Two "
                "measures: compare each with itself over time. Near 0 is normal for a model whose spelling does not "
                "carry over; the alert's threshold is 0.7.",
                "none",
                {
                    "{{source}} {{question_type}} {{mode}}": f"letterwise_correlation{{{sources}, "
                    'question_type=~"$question_type|position_count"}'
                },
                top=1,
            )
        )
        .with_panel(
            graph(
                "Transfer efficiency",
                "Gain on questions over headroom there, divided by the same of spelling; from the evaluation.",
                "none",
                {
                    "{{question_type}} {{instance}}": f"letterwise_transfer_efficiency{{{INSTANCE}, "
                    'question_type=~"$question_type|position_count"}'
                },
            )
        )
        .with_panel(
            graph(
                "Gain over the control",
                "Accuracy minus that of an adapter trained on shuffled letters: what is due to knowing the spelling.",
                "percentunit",
                {"{{question_type}} {{instance}}": f"letterwise_control_adjusted_gain{{{QUESTIONS}}}"},
            )
        )
        .with_panel(
            graph(
                "Right answers to users",
                "Scored against the truth, over the last hour; what users ask is not what the evaluation asked.",
                "percentunit",
                {
                    "{{question_type}} {{mode}}": "question_type:letterwise_answers:accuracy_rate1h"
                    '{question_type=~"$question_type"}'
                },
                top=1,
            )
        )
        .with_panel(
            graph(
                "Questions of users",
                "By kind and mode: what the model is used for.",
                "reqps",
                {
                    "{{question_type}} {{mode}}": "sum by (question_type, mode) (rate(letterwise_answers_total"
                    f"{{{QUESTIONS}}}[$__rate_interval]))"
                },
            )
        )
        .with_panel(
            graph(
                "Generalization",
                "Spelling accuracy on held-out words divided by that on training tokens; from the evaluation.",
                "none",
                {"{{instance}}": f"letterwise_generalization{{{INSTANCE}}}"},
            )
        )
        .with_panel(
            graph(
                "Canary",
                "Probes answered and failed a second. A flat zero is a silent canary.",
                "ops",
                {
                    "answered {{question_type}}": "sum by (question_type) (rate(letterwise_canary_probes_total"
                    f"{{{QUESTIONS}}}[$__rate_interval]))",
                    "failed": f"sum(rate(letterwise_canary_failures_total{{{INSTANCE}}}[$__rate_interval]))",
                },
            )
        )
    )
