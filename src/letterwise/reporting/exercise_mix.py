"""Which templates and spelling exercises the training texts were made of, in words.

Knows the settings and the audit of the data; knows nothing about the exercises themselves.
"""

from __future__ import annotations

from letterwise.data_config import DataConfig
from letterwise.reporting.summary import share_text
from letterwise.results import DataAudit
from letterwise.tasks.template_mix import template_groups

PLAIN = "spelling"


def mix_sentences(audit: DataAudit) -> str:
    """How many of the texts are plain spelling and how many each exercise; "" where all are plain spelling."""
    shares = {name: share for name, share in audit.exercise_shares.items() if name != PLAIN}
    if not shares:
        return ""
    ordered = sorted(shares, key=lambda name: (-shares[name], name))
    listed = ", ".join(f"{name} {share_text(shares[name])}" for name in ordered)
    debatable = [name for name in ordered if audit.exercise_purity.get(name) != "plain"]
    sentences = (
        f"Of the texts, {share_text(audit.exercise_shares.get(PLAIN, 0.0))} are plain spelling and the others spelling "
        f"exercises: {listed}. What an exercise asks for are letters of the word or the word itself."
    )
    if debatable:
        sentences += (
            f" Debatable, because how often or where a letter occurs can be read off what is written: "
            f"{', '.join(debatable)}."
        )
    return sentences


def template_sentences(config: DataConfig) -> str:
    """How many templates plain spelling has, of which kinds, and in which proportions they were asked for."""
    groups = template_groups(config)
    templates = [template for group in groups for template in group.templates]
    tones: dict[str, float] = {}
    spelling_first = 0.0
    for group in groups:
        for template in group.templates:
            share = group.share / len(group.templates)
            tones[template.tone] = tones.get(template.tone, 0.0) + share
            spelling_first += share * (template.direction == "spelling_first")
    separators = dict.fromkeys(template.separator for template in templates)
    cases = dict.fromkeys(template.letter_case for template in templates)
    even = "All are" if len(groups) == 1 else "Within a tone and direction all are"
    return (
        f"Plain spellings fill {len(templates)} templates: tones "
        f"{', '.join(f'{tone} {share_text(share)}' for tone, share in tones.items())}; separators "
        f"{', '.join(separators)}; letters in {' and '.join(cases)} case; {share_text(spelling_first)} give the "
        f"spelling and ask for the word. {even} used equally often."
    )
