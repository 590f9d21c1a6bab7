"""Text out of files, on its way to a terminal or a spreadsheet."""

import pytest

from samplecnn.text import counted, csv_text, is_printable, lines, printable, shown, unique


@pytest.mark.parametrize(
    "text", ["rock", "Köln", "日本", "\u0645\u06cc\u200c\u062e\u0648", "[/rock]", "a | b", "a\u3000\xa0b"]
)
def test_words_of_any_script_stay(text: str) -> None:
    assert is_printable(text)
    assert printable(text) == text
    assert csv_text(text) == text


@pytest.mark.parametrize("text", ["\x1b[2Jrock", "a\nb", "\u202egpj", "a\x00", "\x9b31m"])
def test_what_steers_a_terminal_does_not(text: str) -> None:
    assert not is_printable(text)
    assert printable(text).isprintable()
    assert csv_text(text).lstrip("'").isprintable()


@pytest.mark.parametrize("text", ["=1+1", "+1", "-2", "@SUM(A1)", "=HYPERLINK(1)", "\t=1", "\r=1"])
def test_what_a_spreadsheet_would_compute_becomes_text(text: str) -> None:
    assert csv_text(text).startswith("'")


def test_values_in_messages_are_short_and_flat() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    for value in (nested, "x" * 10**6, {"a": list(range(10**5))}, "\x1b[2J", 10**200):
        assert len(shown(value)) < 200
        assert shown(value).isprintable()
    assert shown("rock") == "'rock'"
    while nested:  # or Python's own clean-up would recurse
        nested = nested.pop()  # type: ignore[assignment]


def test_messages_keep_their_lines() -> None:
    assert lines(ValueError("a \x1b[2Jtag\nanother")) == "a \\x1b[2Jtag\nanother"


def test_one_thing_is_not_several() -> None:
    assert [counted(number, "file") for number in (0, 1, 2, 1000)] == [
        "0 files",
        "1 file",
        "2 files",
        "1,000 files",
    ]
    assert [counted(number, "file was", "files were") for number in (1, 2)] == ["1 file was", "2 files were"]


def test_names_that_differ_in_case_only_are_numbered() -> None:
    assert unique(["a", "A", "b", "a (2)", "a"]) == ["a", "A (2)", "b", "a (2) (2)", "a (3)"]
