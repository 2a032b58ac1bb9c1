import pytest

from letterwise.tasks.answer_text import tidy


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" R\n", "r"),
        ("**Three**", "three"),
        ("`_r_`", "r"),
        ("It’s “r”", 'it\'s "r"'),
        (" 3\n\nQuestion: How many e's are in 'tree'?\nAnswer: 2", "3"),
        ("3\nQ: And in 'tree'?", "3"),
        ("Question: how many?\nAnswer: 3", "question: how many?\nanswer: 3"),
    ],
)
def test_tidy_keeps_only_the_answer(text: str, answer: str) -> None:
    assert tidy(text) == answer
