"""The `plugins:` block: what a file brings must be there before anything starts."""

from tests.unit.topology.checking import Types, findings_of


def test_a_source_that_cannot_be_loaded_is_told_with_its_cause_and_place():
    """A load failure stops the start with the true cause, not with what follows from it."""
    findings = findings_of(
        """\
        pipeline: p
        plugins:
          stages:
            - callable: "lost:stages"
        stages:
          - {name: a, type: parse}
        """,
        Types(),
    )
    assert [(f.code, f.line) for f in findings] == [("T127", 4)]
    assert findings[0].message == "`lost:stages` cannot be loaded: No module named 'lost'"


def test_replace_is_refused_rather_than_ignored():
    """M16: it has no effect yet, and silence would be a lie."""
    findings = findings_of(
        """\
        pipeline: p
        plugins: {stages: [{callable: "mine:stages", replace: true}]}
        stages:
          - {name: a, type: parse}
        """,
        Types(),
    )
    assert [f.code for f in findings] == ["T150"]
