"""Sizes are watched: a big file is allowed, with its reason written here."""

from tests.architecture.sizes import ROOT, measure, report

BIG_FILES: dict[str, str] = {}
"""Files above 600 lines → why they are one file."""


def test_a_file_above_600_lines_is_named_with_its_reason():
    """A list with names and reasons ages better than a number (style 4)."""
    sizes = measure(ROOT / "streams")

    unnamed = {place for lines, place in sizes.files if lines > 600} - set(BIG_FILES)
    assert unnamed == set(), report(sizes)


def test_the_report_counts_code_and_not_docstrings(tmp_path):
    """A well documented function is not a long one."""
    package = tmp_path / "p"
    package.mkdir()
    (package / "m.py").write_text(
        '"""A\n\nB."""\n\n\ndef f(a, *, b):\n    """C."""\n    return a\n'
    )

    sizes = measure(package)

    assert sizes.files == [(5, "p/m.py")]
    assert sizes.functions == [(2, "p/m.py:f")]
    assert sizes.parameters == [(2, "p/m.py:f")]
