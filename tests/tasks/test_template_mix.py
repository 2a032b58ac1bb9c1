from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from letterwise.data_config import DataConfig
from letterwise.errors import LetterwiseError
from letterwise.tasks.spelling import LENGTH_TEMPLATES, SPELLING_TEMPLATES, SpellingTemplate
from letterwise.tasks.template_mix import TemplateGroup, template_groups


def mix(**settings: Any) -> list[TemplateGroup]:
    return template_groups(DataConfig.model_validate(settings))


def used(groups: Iterable[TemplateGroup]) -> list[SpellingTemplate]:
    return [template for group in groups for template in group.templates]


def test_by_default_every_template_is_used_alike() -> None:
    assert mix() == [TemplateGroup(1.0, SPELLING_TEMPLATES)]
    assert mix(length_sentences=True) == [TemplateGroup(1.0, (*SPELLING_TEMPLATES, *LENGTH_TEMPLATES))]


def test_tones_have_their_weights_however_many_templates_they_have() -> None:
    groups = mix(tones={"structured": 1, "formal": 3})
    assert [(group.share, {each.tone for each in group.templates}) for group in groups] == [
        *((0.75, {"formal"}), (0.25, {"structured"}))
    ]
    tones = Counter(template.tone for template in SPELLING_TEMPLATES)
    assert [len(group.templates) for group in groups] == [tones["formal"], tones["structured"]]
    assert mix(tones={"formal": 6, "structured": 2}) == groups


def test_only_templates_with_the_separators_and_the_letter_case_are_left() -> None:
    spaces = used(mix(separators=["space"], letter_cases=["lower"]))
    assert {(template.separator, template.letter_case) for template in spaces} == {("space", "lower")}
    every = {template for template in SPELLING_TEMPLATES if template.separator == "space"}
    assert set(spaces) == {template for template in every if template.letter_case == "lower"} < every
    joined_left_out = used(mix(separators=["space", "comma", "hyphen", "dash", "dots", "arrow"]))
    assert set(SPELLING_TEMPLATES) - set(joined_left_out) == {
        template for template in SPELLING_TEMPLATES if template.separator == "none"
    }


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_texts_gives_the_spelling_and_asks_for_the_word(share: float) -> None:
    for groups in (mix(spelling_first_share=share), mix(spelling_first_share=share, tones={"plain": 1, "formal": 1})):
        shares = Counter[str]()
        for group in groups:
            (direction,) = {template.direction for template in group.templates}
            shares[direction] += group.share  # type: ignore[assignment]
        assert shares["spelling_first"] == pytest.approx(share)
        assert sum(shares.values()) == pytest.approx(1)


def test_each_tone_can_give_either_first() -> None:
    kinds = {(template.tone, template.direction) for template in SPELLING_TEMPLATES}
    assert len(kinds) == 2 * len({template.tone for template in SPELLING_TEMPLATES})


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            {"tones": {"plain": 1}, "separators": ["space", "dash"]},
            "No template has the 'dash' of data.separators and is as the other settings of data want it; leave it out",
        ),
        (
            {"tones": {"plain": 1, "narrative": 1}, "separators": ["none"]},
            "With data.separators as set there is no narrative template; allow more there",
        ),
        (
            {"tones": {"formal": 1}, "separators": ["space"], "spelling_first_share": 1.0},
            "With data.separators as set there is no formal template that gives the spelling first; allow more there, "
            "or change data.tones or data.spelling_first_share.",
        ),
        (
            {"letter_cases": ["upper"], "separators": ["hyphen"], "spelling_first_share": 0.5},
            "With data.separators and data.letter_cases as set there is no template that gives the spelling first",
        ),
        (
            {"letter_cases": ["lower", "upper"], "separators": ["comma"]},
            "No template has the 'upper' of data.lett",
        ),
        (
            {"letter_cases": ["lower"], "separators": ["none"]},
            "data.separators and data.letter_cases as set there",
        ),
        ({"length_sentences": True, "tones": {"formal": 1}}, "data.length_sentences adds templates that are plain or"),
        ({"length_sentences": True, "spelling_first_share": 1.0}, "data.length_sentences adds templates that"),
    ],
)
def test_what_no_template_can_give_is_refused_in_a_sentence(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(LetterwiseError) as refused:
        mix(**settings)
    sentence = str(refused.value)
    assert problem in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
