"""The codes of this package's findings, each with what `streams explain` says about it."""

from __future__ import annotations

EXPLANATIONS: dict[str, str] = {
    "T101": "The file is not well-formed YAML 1.2.\n\n"
    "Read from the place shown backwards: the cause is often an unclosed quote or bracket, a tab "
    "used for indentation, or a second document after `---`.",
    "T102": "A key stands twice in one mapping.\n\n"
    "Most YAML readers keep the last one without a word, so the file would mean something else "
    "than it shows. Both lines are given; remove one.",
    "T103": "A YAML feature that topologies do not take.\n\n"
    "Tags (`!!python/...`), merge keys (`<<`), anchors that multiply the file, and nesting "
    "deeper than 100 levels are refused, because they hide or inflate what the file says.",
    "T104": "A field that does not exist.\n\n"
    "Unknown fields are refused at every level: a misspelt field would otherwise be ignored in "
    "silence. The finding lists the fields that exist there.",
    "T105": "No stage type of this name is registered.\n\n"
    "Stage types come from built-ins, installed plugins and `plugins.stages` of the file. "
    "`streams stages list` shows them.",
    "T106": "A stage is named that the file does not have.\n\n"
    "Stages are named by their id: `id`, else the slug of `name` (`Wait for System` is "
    "`wait-for-system`).",
    "T107": "A parameter that the file does not declare.\n\n"
    "A file with `params:` declares all of them, so that a misspelt name is found before a job "
    "runs. Declare it, or remove `params:` to leave names open.",
    "T108": "A value of the wrong kind, for instance text where a whole number is expected.\n\n"
    "Only YAML 1.2 forms are read as numbers and booleans: `1_0`, `010` and `12:30:45` are text, "
    "so are `yes`, `no`, `on` and `off`.",
    "T109": "A field that must be there is missing.",
    "T110": "A name or id that cannot be used.\n\n"
    "Ids make topics, rows and metrics: letters, digits, `_` and `-`, at most 100 characters, "
    "and none of intake, hold, ledger, control, done, dead, events, which are the pipeline's own.",
    "T111": "Two things have the same id (upper and lower case count as equal).\n\n"
    "Give one of them another `id`.",
    "T112": "A stage does not say what it does.\n\n"
    "Give it `type:`, or one telling key: `echo`, `sleep`, `uses`, `raise`, `gate`.",
    "T113": "A stage says two different things at once, or a field stands where it has no "
    "meaning.\n\nOne stage does one thing; make two stages of it.",
    "T114": "Stages wait for each other in a circle, so none could ever start.\n\n"
    "The finding prints the circle; remove one of its dependencies.",
    "T115": "A dependency is listed twice.",
    "T116": "A duration that cannot be read.\n\n"
    "Write a number with its unit: `500ms`, `30s`, `30m`, `1h30m`, `3d`. Plain numbers are "
    "seconds, and only in fields whose name ends in `_seconds`. Longer than 0, at most 10 years.",
    "T117": "A number outside its limits. The finding names them.",
    "T118": "Settings of the broker or its client stand in a topology.\n\n"
    "A topology says what happens, not where. Addresses and credentials belong to the settings "
    "of the process (`streams config show --origin`).",
    "T119": "The file cannot be read: missing, larger than 512 KiB, or not UTF-8.",
    "T120": "`uses` does not have the form `path/function@tag`, for example "
    "`notifications/send@v1`.",
    "T121": "No function of this name and tag is registered. Register it with `@tag`.",
    "T122": "No policy of this name. Declare it under `policies:`, or use `default`, `gpu-bound` "
    "or `polite-io`.",
    "T123": "`callable` does not have the form `package.module:name`.",
    "T124": "A secret stands where it would end up in a row, a log or an event.\n\n"
    "`${{ secrets.x }}` is resolved in `config`, `with` and `args` only.",
    "T125": "A name that has no value at this place, for instance `item` outside a loop, "
    "`result` outside `sets`, or the output of a stage that does not come before this one.",
    "T126": "A default, or a list of choices, that does not fit the parameter's type.",
    "T127": "The stages that the file brings (`plugins`) cannot be loaded.\n\n"
    "The message is the import's own: a missing module, an error in the file, a name it does not "
    "have, or a place stages may not be loaded from. Everything else that is unknown may follow "
    "from it.",
    "T130": "The stage type refuses its `config`. `streams stages show TYPE` prints its fields.",
    "T140": "A `source` does not say where to begin in a way that can be read.\n\n"
    "`start:` is `earliest`, `latest`, or a time with its zone: `2026-03-01T00:00:00Z`. It counts "
    "once, when the pipeline has never read the topic.",
    "T141": "The file of a `source`'s schema cannot be read, or holds no Avro schema.\n\n"
    "`schema: orders.avsc` is looked for beside the topology file. Its content becomes part of the "
    "plan, so workers need no file.",
    "T142": "The address of a schema registry is not one.\n\n"
    "`registry:` is a URL that begins with `http://` or `https://`. Credentials do not belong into "
    "a topology: put the whole URL into the setting `kafka.registry` instead.",
    "T150": "A kind of stage, or a setting, that this version does not have yet.\n\n"
    "It is refused rather than ignored, so that no pipeline runs with a step left out.",
    "T160": "The version manifest lists this version with another content.\n\n"
    "Revisions are immutable: jobs end on the plan they began with. Raise `version:` in the "
    "file, or restore its former content.",
    "T161": "The version manifest itself is damaged or lists a version twice.",
    "T201": "A gate reads the output of a stage that does not come before it.\n\n"
    "The output can never be there while the gate waits. Make the gate depend on that stage, or "
    "read a fact.",
    "T202": "Nobody could open this gate: its condition is missing, constant, or reads only "
    "values that never change (`params`, `data`, `job`).\n\n"
    "Let it read something that can become true, for instance `until: facts.reviewed`.",
    "T203": "A gate stage names a gate that is not declared under `gates:`.",
    "T204": "A gate is declared and nothing uses it.\n\n"
    "Say `after: STAGE` at the gate, or name it in a stage: `type: gate` with "
    "`config: {gate: NAME}`.",
    "T205": "A gate is described twice, in ways that differ. Say each thing once.",
    "T206": "`resume_stage` names a stage that does not come after the gate.",
    "T207": "`on_timeout` is none of fail, skip, continue, nor a stage that can follow the gate.",
    "T208": "`poll_interval_seconds` has no effect: gates are not polled, they are judged the "
    "moment something they read changes. The field is accepted so that older files load.",
    "X001": "The expression is not well-formed. `${{ }}` holds CEL: `params.n > 3 && "
    "facts.reviewed`, strings in quotes, no Python.",
    "X002": "The expression uses a name or function that is not allowed.\n\n"
    "Expressions see params, data, payload, stages, job, facts, metadata, ledger, secrets, item, "
    "loop and result, and the listed functions; no environment, files or Python objects.",
    "X003": "The expression, or a value it reads or makes, is larger than the limits.\n\n"
    "4 KiB of text, 24 levels of nesting, 8 list macros, 50,000 steps, strings of 1 MiB. Do "
    "heavier work in a stage.",
    "X004": "The expression reads a value that is not there. The message names the path. "
    "Use `has(a.b)` or `coalesce(a.b, 0)` for values that may be absent.",
    "X005": "The expression combines values of kinds that do not go together. CEL does not "
    "convert by itself: use `int(x)`, `double(x)`, `str(x)`.",
    "X006": "A condition gave something that is not true or false. Compare it: "
    "`params.mode == 'fast'`.",
    "X007": "The expression failed while it was evaluated (division by zero, overflow, an index "
    "outside the list).",
    "X008": "The braces are not right: `${{` without `}}`, nothing between them, or braces in "
    "braces.",
    "P001": "The pipeline declares no parameter of this name.",
    "P002": "A required parameter was not given.",
    "P003": "A parameter's value does not fit its type.",
    "P004": "A parameter's value is none of its choices.",
}
"""Code → what it means, why it is refused, and the next step."""
