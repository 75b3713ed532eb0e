"""A pipeline in memory: one keeper, its agents, one ledger partition, a clock that is told.

It acts on the engine's decisions as the runtime does: what a step asks for becomes visible at once
or not at all. The keeper sees the ledger, its hold topic and the time in whatever order the test
wants. Every row written is held against the table of transitions.
"""

from collections import deque
from functools import partial

import msgspec

from streams.engine import intake, keeping, routing
from streams.engine import payload as payloads
from streams.engine.actions import DeadLetter, Forget, Publish, PutControl, PutRow
from streams.engine.flow import Flow
from streams.engine.messages import SIGNAL, SUBMIT, Delivery, cause_of, origin_of, read
from streams.engine.payload import Payload
from streams.engine.retrying import IN_PLACE, delay_after
from streams.engine.rows import Address, Failure, Row, decode_job, decode_row, head, is_closing
from streams.engine.transitions import change_of, is_legal
from streams.engine.turn import Turn
from streams.engine.view import explain_waits, job_view
from streams.errors import EventError, ExpressionError
from streams.event import Event
from streams.ledger.table import LedgerTable
from streams.outcome import Fail, Ok, Retry, Verdict
from streams.runtime.holds import HoldIndex
from streams.topology.plan import Naming, Part, Plan, Policy

NOW = 1_800_000_000_000
NAMING = Naming("test", "pipe")


class Work(msgspec.Struct):
    """A delivery in an agent's hands."""

    plan: Plan
    part: Part
    event: Event
    delivery: Delivery
    payload: Payload
    started: int


class World:
    """`answers`: path → verdict, list of verdicts (the last one stays), or function of the work."""

    def __init__(self, plan, *older, answers=None):
        self.plans = {each.digest: each for each in (plan, *older)}
        self.active = plan.digest
        self.answers = dict(answers or {})
        self.now = NOW
        self.ledger = []
        self.truth = LedgerTable()
        self.control = {}
        self.intake = deque()
        self.hold = deque()
        self.queues = {}
        self.done = []
        self.dead = []
        self.refused = []
        self.forgotten = []
        self.echoes = []
        self.ran = []
        """(part, epoch, turn, attempt) of every call of user code."""
        self.asleep = set()
        """Stages that no agent serves for the moment."""
        self.changes = set()
        """Every change of a row there was (`engine.transitions`)."""
        self._sent = set()
        self._ids = 0
        self.start_keeper()

    # -- what comes from outside ------------------------------------------------------------

    def submit(self, job="j", *, id="", data=None, **params):
        body = msgspec.json.encode({"params": params, "data": data})
        self._send(SUBMIT, job, id or job, body)

    def signal(self, kind, job="j", *, id="", **more):
        self._ids += 1
        body = msgspec.json.encode({"kind": kind, **more})
        self._send(SIGNAL, job, id or f"signal-{self._ids}", body)

    def _send(self, kind, job, id, body):
        self.intake.append(
            Event(
                id=id,
                source="/test",
                type=kind,
                data=body,
                datacontenttype="application/json",
                extensions={"job": job} if job else {},
            )
        )

    # -- the keeper -------------------------------------------------------------------------

    def start_keeper(self):
        """A keeper that knows what the ledger says, and nothing else (K1)."""
        self.holds = HoldIndex(self.plans)
        self.table = LedgerTable(self.holds.changed)
        self.facts_changed = deque()
        for offset, (key, data) in enumerate(self.ledger):
            self.table.read(key, data, offset)
        self.turn = None
        self.finished = []
        for scope in list(self.table.scopes()):
            if "@job" in self.table.rows(scope):
                self.holds.schedule(scope, "@look", self.now)

    def open_turn(self):
        if self.turn is None:
            self.turn = Turn(
                self.table, NAMING, self.plans, active=self.active, shared=self.facts,
                now=self.now, worker="keeper",
            )  # fmt: skip
        self.turn.next_input()
        return self.turn

    def commit_turn(self):
        """All that was decided since the last commit stands; its inputs are finished."""
        turn, self.turn = self.turn, None
        if turn is None:
            return
        self.finished.clear()
        self.echoes += turn.echoes
        self._commit(turn.actions, "keeper")
        for action in turn.actions:
            if isinstance(action, PutRow):
                self.table.committed(action.scope, action.part, action.data)

    def crash_keeper(self):
        """What was not committed is lost; its inputs come again, to another keeper."""
        for queue, item in reversed(self.finished):
            queue.appendleft(item)
        self.start_keeper()

    def read_row(self):
        key, data = self.ledger[self.table.position]
        address = self.table.read(key, data, self.table.position)
        if address is None or data is None or address.part.startswith("@"):
            return
        closing, held = is_closing(data), self._holds_gate(address.scope)
        if closing or held:
            keeping.row_seen(self.open_turn(), address.scope, closing=closing, holds=held)

    def _holds_gate(self, scope):
        undecided = self.turn is not None and self.turn.holds_gate(scope)
        return undecided or self.holds.has_gates(scope)

    def take_intake(self):
        event = self.intake.popleft()
        self.finished.append((self.intake, event))
        self._decide(event, lambda turn: self._came_in(turn, intake.clean(event)))

    def take_hold(self):
        """The first hold event whose cause has been seen (K4)."""
        event = next(event for event in self.hold if not self.too_early(event))
        self.hold.remove(event)
        self.finished.append((self.hold, event))
        if event.type == SIGNAL:
            self._decide(event, lambda turn: self._came_in(turn, event))
        else:
            self._decide(event, lambda turn: keeping.arrived(turn, read(event)))

    def _came_in(self, turn, event):
        keeping.came_in(turn, event, intake.scope_of(event))

    def _decide(self, event, decide):
        turn = self.open_turn()
        try:
            decide(turn)
        except EventError as error:
            turn.undo_input()
            self.refused.append((event.id, error.code))

    def too_early(self, event):
        if event.type == SIGNAL:
            return False
        delivery = read(event)
        cause = cause_of(delivery.cause)
        rows = self.table.rows(delivery.scope)
        if cause is None or "@job" not in rows:
            return False
        part, order = cause
        return part not in rows or head(rows[part]).order < order

    def look_at_facts(self):
        name = self.facts_changed.popleft()
        for scope in self.holds.waiting_for(name):
            keeping.fact_changed(self.open_turn(), scope)

    def look_at_time(self):
        """Everything that is due now."""
        for scope, part in self.holds.pop_due(self.now, 1_000):
            turn = self.open_turn()
            if part.startswith("@early/"):
                found = keeping.unclaimed(turn, scope, part)
                if found is not None:
                    self.refused.append((found[0].id, found[1].code))
                continue
            again = keeping.time_came(turn, scope, part)
            if again is not None:
                self.holds.schedule(scope, part, max(again, self.now + 50))

    # -- agents -----------------------------------------------------------------------------

    def begin(self, path):
        """An agent takes the stage's next delivery; None if it was stopped before."""
        event = self.queues[path].popleft()
        delivery = read(event)
        if self.stopped(delivery):
            return None
        plan = self.plans[delivery.digest]
        payload = payloads.decode(delivery.data)
        return Work(plan, plan.by_path[path], event, delivery, payload, self.now)

    def show_running(self, work):
        d = work.delivery
        flow = self._flow(work)
        flow.put(
            work.part.path,
            Row(
                "RUNNING", epoch=d.epoch, turn=d.turn, attempt=d.attempt, phase=1, plan=d.digest,
                root=d.root, at=work.started, times=work.payload.tries,
            ),
        )  # fmt: skip
        self._commit(flow.actions, "agent")

    def finish(self, work, *, sees_stop=True):
        """Runs the stage and commits what follows. A zombie does not see the stop."""
        flow, d = self._flow(work), work.delivery
        common = {"turn": d.turn, "attempt": d.attempt}
        try:
            if flow.wanted(work.part, work.payload):
                self._run(flow, work, sees_stop=sees_stop)
            else:
                flow.end(
                    work.part, "SKIPPED", work.event.id, work.payload,
                    reason="if is false", **common,
                )  # fmt: skip
        except ExpressionError as error:
            failure = Failure(error.code, error.message)
            flow.fail(work.part, work.event, work.payload, failure, **common)
        self.echoes += [(d.root, *echo) for echo in flow.echoes]
        self._commit(flow.actions, "agent")

    def _run(self, flow, work, *, sees_stop):
        while True:
            d = work.delivery
            self.ran.append((work.part.path, d.epoch, d.turn, d.attempt))
            verdict = self._answer(work)
            flow.now = self.now
            answer = routing.Answer(
                verdict, work.started, self.now,
                out=msgspec.Raw(msgspec.json.encode(getattr(verdict, "value", None))),
                meta=getattr(verdict, "metadata", {}),
                error=Failure(verdict.code, verdict.message) if isinstance(verdict, Fail) else None,
                stopped=sees_stop and self.stopped(d),
            )  # fmt: skip
            delay = self._delay(work, verdict)
            if delay is None or delay > IN_PLACE:
                routing.route(flow, work.part, work.event, d, work.payload, answer, delay)
                return
            if isinstance(verdict, Fail):
                work.payload = routing.tried(d, work.payload, answer)
                work.delivery = msgspec.structs.replace(d, attempt=d.attempt + 1)

    def _answer(self, work):
        given = self.answers.get(work.part.path, Ok())
        if isinstance(given, list):
            return given.pop(0) if len(given) > 1 else given[0]
        return given if isinstance(given, Verdict) else given(work)

    def _delay(self, work, verdict):
        if isinstance(verdict, Retry):
            return verdict.after
        if not isinstance(verdict, Fail):
            return None
        policy = work.part.retry or Policy()
        return delay_after(policy, work.delivery.attempt, retriable=verdict.retriable, jitter=0.5)

    def _flow(self, work):
        return Flow(work.plan, NAMING, origin_of(work.delivery), self.now, worker="agent")

    def run(self, path, **how):
        work = self.begin(path)
        if work is not None:
            self.finish(work, **how)

    # -- the log ----------------------------------------------------------------------------

    def _commit(self, actions, writer):
        for action in actions:
            match action:
                case PutRow(scope, part, data):
                    self._check(scope, part, data, writer)
                    offset = len(self.ledger)
                    self.ledger.append((Address(scope, part).key, data))
                    self.truth.read(*self.ledger[-1], offset)
                case Publish(topic, _, event):
                    self._publish(topic, event)
                case PutControl(key, data):
                    self.control[key] = data
                    if key.startswith("fact/"):
                        self.facts_changed.append(key[5:])
                case DeadLetter():
                    self.dead.append(action)
                case Forget(root):
                    self.forgotten.append(root)

    def _publish(self, topic, event):
        if topic == NAMING.done:
            self.done.append(msgspec.json.decode(event.data))
            return
        assert event.id not in self._sent, f"sent twice: {event.type} {event.extensions}"
        self._sent.add(event.id)
        if topic == NAMING.hold:
            self.hold.append(event)
            return
        path = event.extensions["part"]
        turn = (
            event.extensions["scope"],
            path,
            event.extensions["epoch"],
            event.extensions["turn"],
        )
        assert turn not in self._sent, f"delivered twice: {turn}"
        self._sent.add(turn)
        self.queues.setdefault(path, deque()).append(event)

    def _check(self, scope, part, data, writer):
        before = self.truth.rows(scope).get(part)
        job = self.truth.rows(scope).get("@job")
        plan = self.plans[decode_job(job).plan] if job else self.plans[self.active]
        change = change_of(plan, part, before, data, writer)
        assert is_legal(*change), f"{scope}|{part}: {change}"
        self.changes.add(change)
        if before is not None and data is not None and change[1:3] != ("RUNNING", "RUNNING"):
            assert head(data).order > head(before).order, f"{scope}|{part} fell: {before} {data}"

    def stopped(self, delivery):
        data = self.control.get(f"stop/{delivery.root}")
        return data is not None and delivery.epoch < msgspec.json.decode(data)["below"]

    @property
    def facts(self):
        return {
            key[5:]: msgspec.json.decode(data)["value"]
            for key, data in self.control.items()
            if key.startswith("fact/") and data is not None
        }

    # -- everything until nothing is left to do ---------------------------------------------

    def moves(self):
        """What could happen next, without time passing."""
        found = []
        if self.table.position < len(self.ledger):
            found.append(self.read_row)
        if self.facts_changed:
            found.append(self.look_at_facts)
        if self.intake:
            found.append(self.take_intake)
        if any(not self.too_early(event) for event in self.hold):
            found.append(self.take_hold)
        due = self.holds.next_due()
        if due is not None and due <= self.now:
            found.append(self.look_at_time)
        found += [
            partial(self.run, path)
            for path, queue in self.queues.items()
            if queue and path not in self.asleep
        ]
        return found

    @staticmethod
    def path_of(move):
        """The stage whose agent makes this move; None for the keeper's."""
        return move.args[0] if isinstance(move, partial) else None

    def settle(self):
        """Everything happens that can, without time passing."""
        for _ in range(5_000):
            moves = self.moves()
            if not moves:
                return self
            moves[0]()
            self.commit_turn()
        raise AssertionError("it never comes to rest")

    def later(self, seconds):
        """Time passes, and everything happens that then can; deadlines fire at their time."""
        end = self.now + round(seconds * 1000)
        self.settle()
        while (due := self.holds.next_due()) is not None and due <= end:
            self.now = max(due, self.now)
            self.settle()
        self.now = end
        return self.settle()

    # -- looking ----------------------------------------------------------------------------

    def rows(self, job="j"):
        return self.truth.rows(job)

    def row(self, part, job="j"):
        return decode_row(self.rows(job)[part])

    def job(self, job="j"):
        return decode_job(self.rows(job)["@job"])

    def plan_of(self, job="j"):
        return self.plans[self.job(job).plan]

    def view(self, job="j"):
        return job_view(job, self.plan_of(job), self.rows(job), now=self.now)

    def statuses(self, job="j"):
        return {path: stage.status for path, stage in self.view(job).stages.items()}

    def waits(self, job="j"):
        return explain_waits(job, self.plan_of(job), self.rows(job), self.facts)
