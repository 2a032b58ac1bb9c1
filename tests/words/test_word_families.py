from __future__ import annotations

from letterwise.words.word_families import word_families


def test_a_word_is_of_one_family_with_its_inflections_in_whatever_case() -> None:
    words = ["walk", "Walks", "WALKED", "city", "cities", "ran", "running", "table"]
    walk, walks, walked, city, cities, ran, running, table = word_families(words)
    assert walk == walks == walked
    assert city == cities
    assert ran == running
    assert len({walk, city, ran, table}) == 4


def test_what_is_no_word_is_a_family_by_itself_in_every_case() -> None:
    lower, upper, other = word_families(["tion", "TION", "sion"])
    assert lower == upper != other
