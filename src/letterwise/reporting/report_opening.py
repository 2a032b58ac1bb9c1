"""The report's first half: executive summary, method, data and training.

Knows the record of a run and what each of its figures is called; judgements come from findings and criteria.
"""

from __future__ import annotations

from letterwise.config import AnswerMode, LoraSection
from letterwise.reporting.exercise_mix import mix_sentences, template_sentences
from letterwise.reporting.other_controls import NAMES as OTHER_NAMES
from letterwise.reporting.report_document import Block, Items, Picture, Section, Table, Text
from letterwise.reporting.report_model import Conclusion
from letterwise.reporting.report_record import RunRecord, TrainingSummary
from letterwise.reporting.summary import NOTHING, conclusion, share_text, summary_rows, value_text
from letterwise.results import OTHER_CONTROLS, Estimate, ModelRole

TRAINED: dict[ModelRole, str] = {
    "finetuned": "tuned",
    "control": "control",
    **{role: OTHER_NAMES[role] for role in OTHER_CONTROLS},
}
MODES: dict[AnswerMode, str] = {
    "direct": (
        "`direct`: a few fixed examples and the question. The headline, and the only mode that speaks of transfer "
        "inside the model."
    ),
    "spell_first": "`spell_first`: the same, with the model's own spelling of the word before the answer.",
    "computed": (
        "`computed`: the model spells, and a program counts or indexes in what it wrote. No claim of transfer."
    ),
}


def summary_section(record: RunRecord, judged: Conclusion) -> Section:
    """What came out, for a reader who reads no further."""
    criteria = [
        [criterion.criterion, "met" if criterion.met else "not met", criterion.test]
        for criterion in judged.success_criteria
    ]
    met = sum(judged.success_criteria_met.values())
    return Section(
        "Executive summary",
        [
            Text(judged.summary, lead=True),
            Text(
                f"The base model, {record.results.base_model.id}, was trained to spell, "
                f"{'in all its weights' if record.config.lora.full_finetuning else 'with a small adapter (LoRA)'} "
                "and on nothing else, and then asked how often a letter occurs in a word and which letter stands at a "
                "position. No word asked about was trained on. A control was trained in the same way on shuffled "
                "letters: it learns the form of the texts and no spelling. Baselines answer without seeing the word's "
                "letters."
            ),
            _key_figures(record),
            Text(f"In figures: {conclusion(record.results, record.transfer)}"),
            Text(f"Success criteria of the project: {met} of {len(criteria)} met."),
            Table(
                "Success criteria, each with the test behind it.",
                ["criterion", "verdict", "test"],
                criteria,
                right=False,
                widths=[26, 9, 65],
            ),
        ],
    )


def _key_figures(record: RunRecord) -> Table:
    def cell(metric: str, estimate: Estimate | None) -> str:
        if estimate is None or estimate.value is None:
            return NOTHING
        return value_text(metric, estimate.value, estimate.interval)

    rows = [
        [
            f"`{row.metric}`",
            f"{share_text(row.baseline.value)} ({row.baseline_name})" if row.baseline else NOTHING,
            *(cell(row.metric, estimate) for estimate in (row.base, row.control, row.finetuned)),
            f"{row.n:,}" if row.n else NOTHING,
        ]
        for row in summary_rows(record.results)
        if row.metric.endswith("accuracy") and row.mode in (None, "direct") and row.metric != "character_level_accuracy"
    ]
    return Table(
        f"The three headline figures, {record.results.split} split. Brackets: 95% intervals.",
        ["metric", "best baseline", "base", "control", "tuned", "n"],
        rows,
        widths=[24, 20, 17, 17, 17, 7],
    )


def method_section(record: RunRecord) -> Section:
    """What was asked, of which words, and how answers became figures."""
    config = record.config
    extra = record.audit.n.get("extra_training_words", 0)
    blocks: list[Block] = [
        Text(
            "A language model reads tokens, not letters. The question is whether a model that is taught to spell "
            "tokens and words answers questions about letter counts and letter positions better, although it was never "
            "trained on any."
        ),
        Items(
            [
                "Training words are the letter-only tokens of the base model's vocabulary, in all surface forms; "
                "number words, ordinals and the words of the prompts' examples are left out."
                + (f" {extra:,} dictionary words that are no tokens are trained on as well." if extra else ""),
                f"Held-out words are English dictionary words of {config.words.min_letters} to "
                f"{config.words.max_letters} letters with a Zipf frequency of at least {config.words.min_zipf}, which "
                "are no training words in any letter case and which the tokenizer splits into two or more tokens "
                "wherever they are asked about.",
                f"{template_sentences(config.data)} "
                + (f"{mix} " if (mix := mix_sentences(record.audit)) else "")
                + "The loss falls only on the letters (or the word) to be produced. No text holds a digit, a number "
                "word, an ordinal or wording about counts or positions; the build fails otherwise.",
                "The control is trained for as many steps on the same texts with each word's letters shuffled. What "
                "the tuned model gains over it is due to knowing the spelling, not to the form of the texts.",
            ]
        ),
        Text("Questions are answered in these modes, which are reported apart:"),
        Items([MODES[mode] for mode in config.evaluation.modes]),
        Text(
            "An answer is read by scoring all valid answers (the digits from 0 to at most 9, or the letters a to z) "
            "and taking the most probable one. Beside it the model also writes an answer, which is parsed; those "
            "figures end in `_generated`. Two baselines stand beside every accuracy of questions: the most frequent "
            "true answer, and a guesser that knows letter frequencies and the word's length."
        ),
        Text(
            "Shares have Wilson's 95% interval, means and differences a percentile bootstrap interval "
            f"({config.evaluation.bootstrap_samples:,} resamples), differences between two models are taken on the "
            "same items, and p-values are those of the exact McNemar test. A change is called significant where its "
            "interval excludes zero and p is below 0.05. A ratio whose denominator is not above zero is not given."
        ),
    ]
    return Section("Method", blocks)


def data_section(record: RunRecord) -> Section:
    """What was built, and the proof that nothing leaks."""
    audit = record.audit
    sizes = [[f"`{name}`", f"{size:,}"] for name, size in audit.n.items()]
    proof = [[f"`overlaps.{name}`", f"{count:,}"] for name, count in audit.overlaps.items()]
    proof += [[f"`purity_violations.{name}`", f"{count:,}"] for name, count in audit.purity_violations.items()]
    proof.append(["`single_token_held_out_words`", f"{audit.single_token_held_out_words:,}"])
    answers = [
        [f"`{name}`", ", ".join(f"{answer}: {count:,}" for answer, count in counts.items())]
        for name, counts in audit.answer_distribution.items()
    ]
    shares = audit.template_shares.values()
    blocks: list[Block] = [
        Text(
            f"{audit.n['training_words']:,} training words gave {audit.n['training_texts']:,} texts. "
            f"{audit.n['validation_words']:,} validation and {audit.n['test_words']:,} test words are held out; this "
            f"report is of the {record.results.split} split. The least used template makes {min(shares):.2%} of the "
            f"texts, the most used {max(shares):.2%}."
        ),
        Table("Sizes of the data sets.", ["data", "n"], sizes),
        Table("True answers: how the questions are balanced.", ["questions", "answers"], answers, right=False),
        Table(
            f"The audit, which {'passed' if audit.passed else 'did not pass'}: words shared between sets, and training "
            "texts that mention numbers, counts or positions.",
            ["check", "found"],
            proof,
        ),
    ]
    if path := record.figures.get("token_distribution"):
        blocks.append(
            Picture(
                path,
                "Letter tokens of the base model's vocabulary by length and surface form.",
                "Bar chart: number of letter tokens for each length in letters, stacked by surface form.",
            )
        )
    return Section("Data", blocks)


def training_section(record: RunRecord) -> Section:
    """How the adapters were trained, how long it took, and how it went."""
    config, environment = record.config, record.environment
    lora, training = config.lora, config.training
    settings = [
        *_trained_weights(lora),
        ["learning rate, warm-up", f"{training.learning_rate:g}, {training.warmup_steps} steps, then cosine decay"],
        [
            "optimizer step",
            f"{training.batch_size} rows of {training.row_length} tokens, accumulated {training.gradient_accumulation} "
            "times",
        ],
        ["words in a text", f"1 to {training.words_per_text}, same template"],
        ["number type", environment.dtype],
        [
            "hardware",
            f"{environment.gpu or environment.cpu}, {environment.cores} cores, {environment.memory_gib:.0f} GiB of "
            "memory",
        ],
    ]
    trainings = {role: found for role in TRAINED if (found := record.training(role))}
    rows = [_training_row(role, found) for role, found in trainings.items()]
    blocks: list[Block] = [
        Table("Settings of the training.", ["setting", "value"], settings, right=False),
        Table(
            "The trainings. Time is without evaluation; the tuned adapter is kept as it was at its best step, a "
            "control as it was at the end.",
            ["adapter", "steps", "tokens", "minutes", "tokens/s", "first loss", "last loss", "best step"],
            rows,
        ),
        Text("Energy was not measured."),
    ]
    if path := record.figures.get("training_loss"):
        blocks.append(
            Picture(path, "Training loss.", "Line chart: loss by training tokens, tuned adapter and control.")
        )
    if path := record.figures.get("learning_curves"):
        blocks.append(
            Picture(
                path,
                "Spelling, count and position accuracy on validation words during training, and at the end on the "
                f"{record.results.split} split.",
                "Line charts: three accuracies by training tokens, for tuned adapter and control, with baselines.",
            )
        )
    if (tuned := trainings.get("finetuned")) and tuned.evaluations:
        blocks.append(_evaluations_table(tuned))
    return Section("Training", blocks)


def _trained_weights(lora: LoraSection) -> list[list[str]]:
    """What moves in training, as rows of the settings."""
    if lora.full_finetuning:
        return [["trained weights", "all, without a low-rank update"]]
    chosen = lora.target_modules
    rows = [
        ["LoRA rank, alpha, dropout", f"{lora.rank}, {lora.alpha}, {lora.dropout:g}"],
        ["adapted layers", "every linear layer but the output head" if chosen == "auto" else ", ".join(chosen)],
    ]
    return [*rows, *([["modules trained whole", ", ".join(lora.modules_to_save)]] if lora.modules_to_save else [])]


def _training_row(role: ModelRole, found: TrainingSummary) -> list[str]:
    loss = [NOTHING if value is None else f"{value:.3f}" for value in (found.first_loss, found.last_loss)]
    rate = f"{found.tokens / found.seconds:,.0f}" if found.seconds else NOTHING
    best = str(found.best.step) if found.best and role == "finetuned" else NOTHING
    return [TRAINED[role], f"{found.steps:,}", f"{found.tokens:,}", f"{found.seconds / 60:.1f}", rate, *loss, best]


def _evaluations_table(found: TrainingSummary) -> Table:
    metrics = list(found.evaluations[-1].evaluation or {})
    sizes = found.evaluations[-1].evaluation_n or {}
    return Table(
        "The tuned adapter on validation words during training.",
        ["step", "tokens", *(f"`{metric}` (n\u00a0=\u00a0{sizes.get(metric, 0):,})" for metric in metrics)],
        [
            [
                f"{entry.step:,}",
                f"{entry.tokens:,}",
                *(share_text((entry.evaluation or {})[metric]) for metric in metrics),
            ]
            for entry in found.evaluations
        ],
        widths=[8, 12, *([20] * len(metrics))],
    )
