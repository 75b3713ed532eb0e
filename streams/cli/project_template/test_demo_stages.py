"""Tests of the demo's stages: a stage is a function, so a test is a call."""

from demo_stages import summarise


def test_summary_is_the_first_sentence() -> None:
    document = {"title": "Salt", "text": "It melts ice. Roads are salted."}
    assert summarise(document) == {"title": "Salt", "summary": "It melts ice", "words": 3}
