"""What the engine's error codes mean, for `streams explain CODE`."""

EXPLANATIONS: dict[str, str] = {
    "G001": """\
**A gate's timeout has passed.** Nobody opened it in time, and its `on_timeout` is `fail`.
Next: `streams retry JOB` begins again at the gate; `on_timeout: skip`, `continue` or a stage's
name says what else may follow.""",
    "G002": """\
**Somebody rejected the job at a gate** (`streams gate reject`). Who and why stand in the message.
Next: mend what was wrong, then `streams retry JOB`.""",
    "K030": """\
**More events are unfinished than one commit can list.** Offsets are never committed past an
unfinished event, so the partition is paused until some of them end.
Next: look for a stage that hangs: `streams list --status running`.""",
    "K031": """\
**The offsets were committed by a newer worker.** This version cannot read what it noted beside
them, and guessing could lose or repeat events.
Next: run the newer version again, or wait until it has left in order.""",
    "K040": """\
**A job was begun on a plan that the control topic does not hold.** Plans stay there as long as
jobs use them. Next: start a worker with the file of that version: it writes the plan again.""",
    "K041": """\
**An event arrived without the ledger row it was written with.** Both stand in one transaction, so
one of them was deleted by hand. The event is among the dead letters.
Next: `streams dlq list`, and see who may delete from the pipeline's topics.""",
    "S002": """\
**A `raise` stage was reached.** It fails the job with its own message, as the topology says.
Next: nothing is broken; change what leads there, or `streams retry JOB --from STAGE`.""",
    "S040": """\
**A stage routed to a name that is no way on from it.** `route(branch)` takes the id of a stage
that depends on this one. Next: correct the branch, or add the stage.""",
    "S041": """\
**Workers died while they ran this event**, several times in a row, and nothing else was running.
It is set aside, so that it takes no more of them down.
Next: see the workers' last output (out of memory, a crash in native code), then
`streams dlq redrive`.""",
    "V040": """\
**A job of this id exists with another body.** The same submission sent twice is one job; another
body under the same id is a mistake. Next: give the new work an id of its own.""",
    "V041": """\
**The data of a submission is not of its form**: an object with `params`, `data`, `deadline`.
Next: let `streams submit` write it, or send an event of a type of your own: then its data is the
job's data.""",
    "V042": """\
**This is no id for a job.** 1 to 128 letters, digits or `. _ : @ -`, not beginning with `@`.""",
    "V043": """\
**The data of a signal is not of its form.** It names its `kind` and what that kind needs.
Next: send signals with `streams fact set`, `gate release`, `cancel`, `retry`.""",
    "V044": """\
**A signal names no job.** Only shared facts, pauses and resumes belong to no job.
Next: set the extension `job`.""",
    "V045": """\
**Too many signals wait for a job that is not here.** A hundred are kept for an hour.
Next: submit the job first, or correct the id.""",
    "V046": """\
**A signal's job did not come within an hour.** The signal is among the dead letters.
Next: correct the id; `streams list` shows the jobs there are.""",
    "V047": """\
**A record on one of the engine's own topics is not the engine's.** Stage topics and `hold` are
written by workers only. Next: publish to the intake topic.""",
    "V048": """\
**An engine event's data cannot be read.** It was changed on its way, or comes from a newer version.
The event is among the dead letters with its original bytes.""",
    "V050": """\
**The parameters of a job are too large.** They travel with every event, so they take at most 48 KiB
together. Next: send the large part as data: it goes to the blob store, and a reference travels.""",
    "V051": """\
**A submission asks for a priority that there is not.** It is `high`, `normal` or `low`.
Next: correct the word, or leave it out: a job is normal by itself.""",
    "V060": """\
**A signal is too large,** or with it the facts of its job would be. One signal holds at most 48 KiB, a
job's facts 128 KiB together: gates read them, and events carry them.
Next: keep large values in the blob store or elsewhere, and set their address as the fact.""",
    "X020": """\
**`sleep` is not a number of seconds from 0 to 1800.** The expression gave something else.
Next: convert it, for example `${{ int(params.seconds) }}`.""",
}
