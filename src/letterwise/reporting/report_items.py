"""The report's item analysis: what answers depend on, by properties of the items.

Knows the item analysis; computes no figure.
"""

from __future__ import annotations

from letterwise.analysis_results import SPELLED, ItemAnalysis, ItemProperty, ItemResults, OddsRatio
from letterwise.reporting.report_document import Block, Section, Table, Text
from letterwise.reporting.report_findings import HEADLINES, capital
from letterwise.reporting.report_model import ROLES
from letterwise.reporting.summary import NOTHING, number_text, p_text, share_text
from letterwise.results import QUESTION_TYPES, Estimate, QuestionType

PROPERTY_NAMES: dict[ItemProperty, str] = {
    "word_length": "letters in the word",
    "n_tokens": "tokens of the word",
    "zipf": "Zipf frequency of the word",
    "position_class": "place of the letter in the word",
    "token_place": "place of the letter in its token",
    "true_count": "true count",
}


def items_section(analysis: ItemAnalysis) -> Section:
    """Whether a model answers where it can spell, and what else makes an item easy or hard."""
    blocks: list[Block] = [
        Text(
            "A model may answer well about words that it spells well because both are easy words. A logistic "
            "regression holds equal what else an item is like: letters and tokens of the word, its frequency, and the "
            "true count or the letter's place in word and token. An odds ratio above 1 says that right answers go "
            "with it."
        )
    ]
    blocks += [Text(_sentence(analysis, kind)) for kind in QUESTION_TYPES if analysis.find("finetuned", kind, "direct")]
    blocks.append(
        Table(
            "Odds of a right answer where the model spelled the word right, as a multiple of those where it did not; "
            "95% intervals clustered by word, or the reason why there is no odds ratio.",
            ["questions", "mode", "model", "odds ratio", "p", "n"],
            [
                [_what(found.question_type), found.mode, ROLES[found.model], *_cells(found.odds_ratios[SPELLED])]
                for found in analysis.items
                if found.model in ROLES
            ],
            right=False,
            widths=[17, 13, 9, 43, 9, 9],
        )
    )
    for kind in QUESTION_TYPES:
        tuned = analysis.find("finetuned", kind, "direct")
        if tuned and len(tuned.odds_ratios) > 1:
            blocks.append(_covariates(tuned))
        if table := _accuracies(analysis, kind):
            blocks.append(table)
    return Section("Item analysis", blocks)


def _sentence(analysis: ItemAnalysis, question_type: QuestionType) -> str:
    tuned = analysis.find("finetuned", question_type, "direct")
    ratio = tuned.odds_ratios[SPELLED] if tuned else OddsRatio(value=None, n=0)
    what = f"{_what(question_type)}, mode direct"
    if ratio.value is None or ratio.interval is None or ratio.p_value is None:
        return f"{what}: whether spelling a word goes with answering about it cannot be said. {ratio.reason or ''}"
    certain = ratio.interval[0] > 1 or ratio.interval[1] < 1
    verdict = (
        f"the tuned model is {'more' if ratio.value > 1 else 'less'} often right about words that it spells right"
        if certain
        else "whether the tuned model spells a word makes no difference to its answers that could be shown"
    )
    return f"{what}: {verdict} (odds ratio {number_text(ratio.value, ratio.interval)}, p {_p(ratio)}, n = {ratio.n:,})."


def _covariates(found: ItemResults) -> Table:
    return Table(
        f"{_what(found.question_type)}, mode direct, tuned model: odds ratios of the whole regression.",
        ["what", "compared with", "odds ratio", "p", "n"],
        [[_term(name), _against(name, ratio), *_cells(ratio)] for name, ratio in found.odds_ratios.items()],
        right=False,
        widths=[34, 17, 31, 9, 9],
    )


def _term(name: str) -> str:
    if name == SPELLED:
        return "word spelled right by the model"
    for key, words in PROPERTY_NAMES.items():
        if name == key:
            return words
        if name.startswith(f"{key}."):
            return f"{words}: {name.removeprefix(f'{key}.')}"
    return name


def _against(name: str, ratio: OddsRatio) -> str:
    if ratio.value is None:
        return NOTHING
    return ratio.compared_with or ("spelled wrong" if name == SPELLED else "one less")


def _accuracies(analysis: ItemAnalysis, question_type: QuestionType) -> Table | None:
    """Accuracy of each model by each property, mode direct; None where nobody answered."""
    models = {name: found for role, name in ROLES.items() if (found := analysis.find(role, question_type, "direct"))}
    if not models:
        return None
    first = next(iter(models.values()))
    rows = [
        [
            f"{PROPERTY_NAMES[key]}: {group}",
            *(_share(found.accuracy_by[key].get(group)) for found in models.values()),
            f"{estimate.n:,}",
        ]
        for key, groups in first.accuracy_by.items()
        for group, estimate in groups.items()
    ]
    width = 60 // len(models)
    return Table(
        f"{_what(question_type)}, mode direct: accuracy by properties of the items, with 95% Wilson intervals.",
        ["items", *models, "n"],
        rows,
        widths=[32, *([width] * len(models)), 8],
    )


def _what(question_type: QuestionType) -> str:
    return capital(HEADLINES[f"{question_type}_accuracy"])


def _cells(ratio: OddsRatio) -> list[str]:
    value = ratio.reason or NOTHING if ratio.value is None else number_text(ratio.value, ratio.interval)
    return [value, NOTHING if ratio.p_value is None else p_text(ratio.p_value), f"{ratio.n:,}"]


def _p(ratio: OddsRatio) -> str:
    text = p_text(ratio.p_value or 0.0)
    return text if text.startswith("<") else f"= {text}"


def _share(estimate: Estimate | None) -> str:
    return NOTHING if estimate is None or estimate.value is None else share_text(estimate.value, estimate.interval)
