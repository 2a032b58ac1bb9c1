"""Which templates the plain spellings of an experiment fill, and how often each.

Knows the templates and the settings that choose among them; knows nothing about words, or how texts are dealt.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from letterwise.data_config import DataConfig, Tone
from letterwise.errors import LetterwiseError
from letterwise.tasks.spelling import LENGTH_TEMPLATES, SPELLING_TEMPLATES, Direction, SpellingTemplate


@dataclass(frozen=True, slots=True)
class TemplateGroup:
    """Templates that are used equally often, and the share of the plain spellings that they make together."""

    share: float
    templates: tuple[SpellingTemplate, ...]


def template_groups(config: DataConfig) -> list[TemplateGroup]:
    """The templates in groups; one group of all where neither tones nor spelling_first_share are set.

    Raises:
        LetterwiseError: what is asked for has no template.
    """
    possible = [
        template
        for template in (*SPELLING_TEMPLATES, *(LENGTH_TEMPLATES if config.length_sentences else ()))
        if template.separator in (config.separators or [template.separator])
        and template.letter_case in (config.letter_cases or [template.letter_case])
    ]
    groups = []
    for tone, weight in _tones(config):
        for direction, share in _directions(config):
            chosen = (each for each in possible if tone in (None, each.tone) and direction in (None, each.direction))
            groups.append(TemplateGroup(weight * share, tuple(chosen)))
            if not groups[-1].templates:
                raise LetterwiseError(_none_left(config, tone, direction))
    _require_use(config, [template for group in groups for template in group.templates])
    return groups


def _tones(config: DataConfig) -> list[tuple[Tone | None, float]]:
    """The share of each tone; None stands for all of them."""
    if config.tones is None:
        return [(None, 1.0)]
    total = sum(config.tones.values())
    return [(tone, weight / total) for tone, weight in sorted(config.tones.items())]


def _directions(config: DataConfig) -> list[tuple[Direction | None, float]]:
    """The share of each direction that has one; None stands for both of them."""
    first = config.spelling_first_share
    if first is None:
        return [(None, 1.0)]
    shares: list[tuple[Direction | None, float]] = [("word_first", 1 - first), ("spelling_first", first)]
    return [(direction, share) for direction, share in shares if share]


def _none_left(config: DataConfig, tone: Tone | None, direction: Direction | None) -> str:
    narrow = " and ".join(f"data.{name}" for name in ("separators", "letter_cases") if getattr(config, name))
    kind = f"{tone} template" if tone else "template"
    if direction:
        kind += f" that gives the {'word' if direction == 'word_first' else 'spelling'} first"
    return (
        f"With {narrow} as set there is no {kind}; allow more there, or change data.tones or data.spelling_first_share."
    )


def _require_use(config: DataConfig, used: list[SpellingTemplate]) -> None:
    _require_each("separators", config.separators, {template.separator for template in used})
    _require_each("letter_cases", config.letter_cases, {template.letter_case for template in used})
    if config.length_sentences and not set(used) & set(LENGTH_TEMPLATES):
        raise LetterwiseError(
            "data.length_sentences adds templates that are plain or structured, give the word first and have spaces "
            "between small letters; allow these in the other settings of data, or set it to false."
        )


def _require_each(setting: str, wanted: Iterable[str] | None, found: Collection[str]) -> None:
    if missing := next((name for name in wanted or () if name not in found), None):
        raise LetterwiseError(
            f"No template has the {missing!r} of data.{setting} and is as the other settings of data want it; leave it "
            "out, or allow more there."
        )
