"""What each code of an event error means, for `streams explain CODE`."""

from __future__ import annotations

from typing import Final

from streams import event_rules as rules

_RULES: Final = "The record or request is refused and kept as it came; nothing of it was run."

EXPLANATIONS: Final[dict[str, str]] = {
    rules.INVALID: f"""\
**The event breaks a rule of CloudEvents 1.0.**

{_RULES}

Next: read the message and `field`, mend the sender, send again.
""",
    rules.MISSING: f"""\
**A required attribute is missing.**

Every event needs `id`, `source`, `type` and `specversion`. None is ever invented here: a made-up
`id` would turn each re-send into a new job. {_RULES}

Next: let the sender set it. An `id` must be the same when the same event is sent again.
""",
    rules.BLANK: f"""\
**An attribute is there but empty or only white space.**

{_RULES}

Next: give it a value, or leave an optional attribute out.
""",
    rules.SPECVERSION: f"""\
**`specversion` is not `1.0`.**

Versions 0.3 and earlier have other attributes with other meanings, so they are not guessed at. The
text must be exactly `1.0`, without spaces. {_RULES}

Next: switch the sender to CloudEvents 1.0.
""",
    rules.NAME: f"""\
**An attribute has a name that is not allowed.**

Names are made of `a-z` and `0-9`, begin best with a letter, are best at most 20 (here: at most
{rules.EXTENSION_NAME_LENGTH}) characters long, and never `data`. The content type travels as the
header `content-type`, not as an attribute header. {_RULES}

Next: rename the extension: `FooBar` or `foo_bar` becomes `foobar`.
""",
    rules.TEXT: f"""\
**An attribute holds a character that none may hold.**

Control characters (line ends too), lone surrogates and code points that Unicode will never use
are refused: in a header or a log they would pass for something else. {_RULES}

Next: take the character out; in HTTP headers write other than ASCII as percent-encoded UTF-8.
""",
    rules.VALUE_TYPE: f"""\
**An attribute's value has a type that attributes cannot have.**

Allowed are text, booleans, integers of 32 bits, and bytes; never lists, maps or fractions. {_RULES}

Next: send large numbers and fractions as text, and put structure into `data`.
""",
    rules.TIME: f"""\
**A time is not RFC 3339 with a zone.**

{_RULES}

Next: write it like `2026-11-21T13:00:00Z` or `2026-11-21T14:00:00.5+01:00`.
""",
    rules.URI: f"""\
**`source` or `dataref` is not a URI reference, or `dataschema` not an absolute URI.**

{_RULES}

Next: percent-encode what a URI may not hold, such as spaces (`%20`).
""",
    rules.CONTENT_TYPE: f"""\
**The content type cannot be read.**

{_RULES} Over HTTP the answer is 415.

Next: write it like `application/json` or `text/plain; charset=utf-8`.
""",
    rules.TOO_LARGE: f"""\
**Something is longer than allowed.**

Limits in bytes of UTF-8: {", ".join(f"`{k}` {v:,}" for k, v in rules.LENGTHS.items())}; one
extension {rules.EXTENSION_LENGTH:,}; at most {rules.EXTENSION_COUNT} extensions; all attributes
together {rules.ATTRIBUTES_LENGTH:,}. {_RULES} Over HTTP the answer is 413.

Next: put bulk into `data`.
""",
    rules.NOT_UTF8: f"""\
**Text is not UTF-8, or its percent-encoding is broken.**

{_RULES}

Next: encode attributes and JSON as UTF-8; in HTTP headers write a `%` itself as `%25`.
""",
    rules.BROKEN_JSON: f"""\
**What should be JSON is not.**

Strict JSON is asked for: no NaN or infinity, no number out of range, no lone surrogates, no
comments; an event is an object and a batch an array. {_RULES}

Next: mend the sender; numbers beyond a double's range travel as strings.
""",
    rules.DUPLICATE_KEY: f"""\
**An object in the JSON holds a key twice.**

Readers disagree which one counts, so what one checks another may not see. {_RULES}

Next: send each key once.
""",
    rules.TOO_DEEP: f"""\
**The JSON is nested too deeply.**

Beyond 512 levels readers run out of stack. {_RULES}

Next: flatten the data.
""",
    rules.DATA_FORM: f"""\
**The data is in a form that its envelope does not allow.**

`data` and `data_base64` exclude each other; `data_base64` is strict base64; `data` under a content
type other than JSON is a string; a structured record has a value. {_RULES}

Next: send one of the two, in the form of its content type.
""",
    rules.CHARSET: f"""\
**The data is not in its charset, or the charset is not supported.**

JSON is UTF-8 only. Text may also be ASCII, ISO 8859-1 or -15, Windows-1252 or UTF-16. {_RULES}
Over HTTP the answer is 415.

Next: send UTF-8.
""",
    rules.REPEATED: f"""\
**An HTTP header of the event comes twice.**

Proxies disagree which one counts. {_RULES}

Next: send each `ce-` header and `Content-Type` once.
""",
    rules.UNENCODABLE: """\
**A value cannot be written as event data.**

JSON has no NaN, no infinity and no arbitrary objects; text types take strings. Nothing was sent.

Next: convert the value before it is returned or sent.
""",
    rules.FOREIGN: """\
**The record or request is not a CloudEvent.**

It has neither the content type of a structured event nor the headers of a binary one. In a stage's
topic the stage's policy for foreign records decides (`wrap`, `dlq`, `skip`); a null value without
headers is such a record too and deletes nothing. Over HTTP the answer is 415.

Next: send `application/cloudevents+json`, or the four required attributes as headers.
""",
    rules.UNSUPPORTED_FORMAT: f"""\
**The event is in a format that is not read here.**

Structured events are read as `application/cloudevents+json`; batches only over HTTP, since a record
holds one event. {_RULES} Over HTTP the answer is 415.

Next: send the JSON format or binary mode.
""",
}
