"""What probes found, in sentences, and the report's section on it.

Knows the shape of ``probes.json``; computes no metric.
"""

from __future__ import annotations

from pathlib import Path

from letterwise.probe_results import (
    EMBEDDING,
    PROBE_QUESTIONS,
    PlaceProbes,
    ProbeAccuracy,
    ProbeDifference,
    ProbedModel,
    ProbeQuestion,
    ProbeResults,
)
from letterwise.reporting.report_document import Block, Items, Picture, Section, Table, Text
from letterwise.reporting.report_model import ROLES
from letterwise.reporting.summary import NOTHING, share_text

QUESTIONS: dict[ProbeQuestion, str] = {
    "contains_letter": "Which letters a token contains",
    "first_letter": "Its first letter",
    "last_letter": "Its last letter",
}
TITLE = "Where the letters are known"


def what_probes_found(results: ProbeResults) -> list[str]:
    """Where each question could be answered before training, and where training changed that; one text each."""
    return [_sentence(results, question) for question in PROBE_QUESTIONS]


def probes_section(results: ProbeResults, figure: Path | None) -> Section:
    """What was probed and found: sentences, the figure, every place, every letter."""
    tokens, families = results.tokens, results.families
    left_out = f" Too rare for a probe: {', '.join(results.letters_left_out)}." if results.letters_left_out else ""
    blocks: list[Block] = [
        Text(
            "Linear probes say what can be read off a token's representation: its input embedding, and what each layer "
            "gives at the token, which stands alone behind one token that opens a text. They are fitted on "
            f"{tokens['fit']:,} tokens of the vocabulary, their penalty is chosen on {tokens['validation']:,}, and "
            f"they are tested on {tokens['test']:,} tokens of {families['test']:,} word families of which they have "
            "seen none (Kaushal and Mahowald, 2022). For each letter as many test tokens contain it as do not. The "
            "spelling training has seen these tokens: probes say where knowledge is, not whether it generalizes."
            + left_out
        ),
        Items(what_probes_found(results)),
    ]
    if figure:
        blocks.append(
            Picture(
                figure,
                "What probes read off each layer of each model, with baselines.",
                "Line charts: accuracy of base, control and tuned model from the embedding to the last layer, for the "
                "letters that a token contains, its first and its last letter.",
            )
        )
    blocks += [
        _baseline_table(results),
        *(_place_table(results, question) for question in PROBE_QUESTIONS),
        _letter_table(results),
    ]
    return Section(TITLE, blocks)


def _sentence(results: ProbeResults, question: ProbeQuestion) -> str:
    base = results.models["base"]
    best = _best(base, question)
    name, baseline = max(results.baselines.items(), key=lambda item: item[1].accuracy[question].value)
    text = (
        f"{QUESTIONS[question]}: before training the embedding tells {_text(base.places[0].accuracy[question])}, and "
        f"most of all {_place(best.place)}, {_text(best.accuracy[question])}; the best baseline, "
        f"{name.replace('_', ' ')}, has {_text(baseline.accuracy[question])}. "
    )
    if not (tuned := results.models.get("finetuned")):
        return text + "No tuned model was probed."
    best = _best(tuned, question)
    text += f"After training {_place(best.place)} tells most, {_text(best.accuracy[question])}. "
    return text + " ".join(
        _change(_differences(results, comparison, question), than)
        for comparison, than in (("base_to_finetuned", "the base model"), ("control_to_finetuned", "the control"))
        if comparison in results.differences
    )


def _change(differences: list[ProbeDifference], than: str) -> str:
    """Where the tuned model tells significantly more or less than another, and where most so."""
    parts = []
    for word, sign in (("more", 1), ("less", -1)):
        found = [entry for entry in differences if entry.is_significant and sign * entry.difference > 0]
        if found:
            most = max(found, key=lambda entry: abs(entry.difference))
            parts.append(
                f"tells significantly {word} than {than} at {len(found)} of {len(differences)} places, most so "
                f"{_place(most.place, 'at')} ({_points(most)} points)"
            )
    return f"It {' and '.join(parts)}." if parts else f"Nowhere does it differ significantly from {than}."


def _baseline_table(results: ProbeResults) -> Table:
    return Table(
        "What the same questions come to without a representation of the token. Brackets: 95% intervals.",
        ["baseline", *QUESTIONS.values()],
        [
            [baseline.description, *(_text(baseline.accuracy[question]) for question in PROBE_QUESTIONS)]
            for baseline in results.baselines.values()
        ],
        widths=[37, 21, 21, 21],
    )


def _place_table(results: ProbeResults, question: ProbeQuestion) -> Table:
    models = {role: results.models[role] for role in ROLES if role in results.models}
    comparisons = {
        label: {entry.place: entry for entry in _differences(results, comparison, question)}
        for comparison, label in (
            ("base_to_finetuned", "tuned − base"),
            ("control_to_finetuned", "tuned − control"),
        )
        if comparison in results.differences
    }
    n = results.models["base"].places[0].accuracy[question].n
    return Table(
        f"{QUESTIONS[question]}: right answers by place, n = {n:,}. Brackets: 95% bootstrap intervals over word "
        "families; differences paired, in percentage points, not corrected for the number of places.",
        ["place", *(ROLES[role] for role in models), *comparisons],
        [
            [
                _name(place.place),
                *(_text(model.places[number].accuracy[question]) for model in models.values()),
                *(_points(entries[place.place]) for entries in comparisons.values()),
            ]
            for number, place in enumerate(results.models["base"].places)
        ],
        widths=[12, *([88 // (len(models) + len(comparisons))] * (len(models) + len(comparisons)))],
    )


def _letter_table(results: ProbeResults) -> Table:
    """Each letter in the base model's embedding, and where each model tells most."""
    base, tuned = results.models["base"], results.models.get("finetuned")
    columns = {"base, embedding": base.places[0], "base": _best(base, "contains_letter")}
    columns |= {"tuned": _best(tuned, "contains_letter")} if tuned else {}
    header = [name if place.place == EMBEDDING else f"{name}, {_name(place.place)}" for name, place in columns.items()]
    return Table(
        f"{QUESTIONS['contains_letter']}, letter by letter, in the embedding and where each model tells most. "
        "Brackets: 95% Wilson intervals.",
        ["letter", *header, "n"],
        [
            [
                f"`{letter}`",
                *(_text(place.letters[letter]) if letter in place.letters else NOTHING for place in columns.values()),
                f"{accuracy.n:,}",
            ]
            for letter, accuracy in base.places[0].letters.items()
        ],
    )


def _best(model: ProbedModel, question: ProbeQuestion) -> PlaceProbes:
    return max(model.places, key=lambda place: place.accuracy[question].value)


def _differences(results: ProbeResults, comparison: str, question: ProbeQuestion) -> list[ProbeDifference]:
    return [entry for entry in results.differences[comparison] if entry.question == question]


def _name(place: str) -> str:
    return place.replace("_", " ")


def _place(place: str, preposition: str = "") -> str:
    named = "the embedding" if place == EMBEDDING else _name(place)
    return f"{preposition} {named}".strip()


def _text(accuracy: ProbeAccuracy) -> str:
    return share_text(accuracy.value, accuracy.interval)


def _points(entry: ProbeDifference) -> str:
    values = (entry.difference, *entry.interval)
    value, low, high = (f"{100 * number:+z.1f}".replace("-", "−") for number in values)
    return f"{value} [{low}, {high}]"
