"""An expression's text, read once: what it reads, and the CEL text that is run for it.

The CEL engine has no step budget and no tree to look at, so the text is parsed here first. Names
and functions outside the allowed lists are refused, and every place where work or size can
multiply gets a counted call around it: `each_(list)` before a list macro, `grow_(value)` around
what a macro's body builds. Two forms are made friendlier than bare CEL: `has(a.b.c)` is false
when `a.b` is missing, and `coalesce` passes over arguments that are missing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from streams.errors import ExpressionError

ROOTS: frozenset[str] = frozenset(
    "params data payload stages job facts metadata ledger secrets item loop result".split()
)
"""Names an expression may begin with."""
RECORD_ROOTS: frozenset[str] = frozenset("key headers event".split())
"""Those of a record that is read from a topic of others; elsewhere they may name a macro's item."""
FUNCTIONS: frozenset[str] = frozenset(
    "upper lower title int str keys values coalesce size string double uint bytes type dyn "
    "timestamp duration contains startsWith endsWith matches "
    "getFullYear getMonth getDate getDayOfMonth getDayOfWeek getDayOfYear getHours getMinutes "
    "getSeconds getMilliseconds".split()
)
MACROS: frozenset[str] = frozenset("all exists exists_one map filter".split())
MAX_TEXT = 4096
MAX_DEPTH = 24
MAX_MACROS = 8
FREE_SUMS = 8
"""Additions outside macros that need no counting: they can at most multiply by nine."""

_MEANT = {
    "=": "equality is `==`",
    "&": "both is `&&`",
    "|": "either is `||`; there are no filters, use functions: `upper(params.x)`",
    "'": "the quote is not closed",
    '"': "the quote is not closed",
}
_RESERVED = frozenset(
    "as break const continue else false for function if import in let loop namespace null package "
    "return true var void while".split()
)
_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<string>[rRbB]{0,2}(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''
          |"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
      | (?P<number>0[xX][0-9a-fA-F]+[uU]?|(?:\d+\.\d+|\.\d+|\d+)(?:[eE][+-]?\d+)?[uU]?)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<braces>\$\{\{)
      | (?P<sign>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """A word of an expression."""

    kind: str
    text: str
    start: int
    end: int


class Read(NamedTuple):
    """A path an expression reads: `stages.parse.n` is ("stages", ("parse", "n"))."""

    root: str
    path: tuple[str | int, ...]
    exact: bool
    """False: what follows the path is only known when it runs."""

    def __str__(self) -> str:
        return dotted(self.root, self.path)


class Parsed(NamedTuple):
    """What is known of an expression before it runs."""

    cel: str
    reads: tuple[Read, ...]
    functions: frozenset[str]
    plain: Read | None
    """Set if the expression is nothing but one path: it needs no engine."""
    asked: tuple[Read, ...]
    """Paths whose presence is asked for; the n-th is the variable `has_n`."""


def dotted(root: str, path: Iterable[str | int]) -> str:
    """The path as an author writes it."""
    words = [root]
    for step in path:
        simple = isinstance(step, str) and re.fullmatch(r"[A-Za-z_]\w*", step)
        words.append(f".{step}" if simple else f"[{step!r}]".replace("'", '"'))
    return "".join(words)


def next_token(text: str, at: int) -> Token | None:
    """The token at `at` (spaces passed), or None at the end."""
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ExpressionError(
                f"`{text[at]}` has no meaning in an expression",
                code="X001",
                source=text,
                help=_MEANT.get(text[at], ""),
            )
        if found.lastgroup != "space":
            return Token(str(found.lastgroup), found.group(), at, found.end())
        at = found.end()
    return None


def parse(text: str) -> Parsed:
    """Reads the expression (without braces); raises ExpressionError."""
    if len(text) > MAX_TEXT:
        raise ExpressionError(
            f"expression of {len(text)} characters; at most {MAX_TEXT}",
            code="X003",
            source=text[:80],
        )
    return _Parser(text).run()


class _Term(NamedTuple):
    """A piece of CEL text; `read` if it is a path from a root."""

    cel: str
    read: Read | None = None


class _Parser:
    """Recursive descent over the grammar of CEL; each rule gives the text to run."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[Token] = []
        at = 0
        while token := next_token(text, at):
            self.tokens.append(token)
            at = token.end
        self.at = 0
        self.depth = 0
        self.macros = 0
        self.sums = 0
        self.bound: list[str] = []
        self.reads: dict[Read, None] = {}
        self.functions: set[str] = set()
        self.asked: dict[Read, int] = {}

    def run(self) -> Parsed:
        if not self.tokens:
            raise self._error("X008", "the expression is empty")
        term = self._ternary()
        if self.at < len(self.tokens):
            raise self._unexpected()
        plain = term.read if term.read and term.read.exact else None
        return Parsed(
            term.cel, tuple(self.reads), frozenset(self.functions), plain, tuple(self.asked)
        )

    # tokens

    def _peek(self) -> str:
        token = self.tokens[self.at] if self.at < len(self.tokens) else None
        return token.text if token and token.kind in ("sign", "name") else ""

    def _take(self, *signs: str) -> str | None:
        if self._peek() in signs:
            self.at += 1
            return self.tokens[self.at - 1].text
        return None

    def _need(self, sign: str) -> None:
        if not self._take(sign):
            raise self._unexpected(f"`{sign}` is expected")

    def _unexpected(self, wanted: str = "") -> ExpressionError:
        if self.at >= len(self.tokens):
            return self._error("X001", f"the expression ends too early{wanted and ', ' + wanted}")
        token = self.tokens[self.at]
        hint = "CEL has `==`, `&&`, `||`, `!`" if token.text in ("and", "or", "not") else ""
        return self._error(
            "X001", f"`{token.text}` is not expected here{wanted and ', ' + wanted}", hint
        )

    def _error(self, code: str, message: str, help: str = "") -> ExpressionError:
        return ExpressionError(message, code=code, source=self.text, help=help)

    # grammar

    def _ternary(self) -> _Term:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._error("X003", f"the expression is nested deeper than {MAX_DEPTH} levels")
        term = self._binary(0)
        if self._take("?"):
            yes = self._ternary()
            self._need(":")
            no = self._ternary()
            term = _Term(f"({term.cel} ? {yes.cel} : {no.cel})")
        self.depth -= 1
        return term

    LEVELS = (
        ("||",),
        ("&&",),
        ("==", "!=", "<", "<=", ">", ">=", "in"),
        ("+", "-"),
        ("*", "/", "%"),
    )

    def _binary(self, level: int) -> _Term:
        if level == len(self.LEVELS):
            return self._unary()
        term = self._binary(level + 1)
        while sign := self._take(*self.LEVELS[level]):
            right = self._binary(level + 1)
            cel = f"({term.cel} {sign} {right.cel})"
            if sign == "+":
                self.sums += 1
                if self.bound or self.sums > FREE_SUMS:
                    cel = self._counted("grow_", cel)
            term = _Term(cel)
        return term

    def _counted(self, function: str, cel: str) -> str:
        self.functions.add(function)
        return f"{function}({cel})"

    def _unary(self) -> _Term:
        signs = ""
        while sign := self._take("!", "-"):
            signs += sign
        if len(signs) > MAX_DEPTH:
            raise self._error("X003", "too many signs in a row")
        term = self._member()
        for sign in reversed(signs):
            term = _Term(f"({sign}{term.cel})")
        return term

    def _member(self) -> _Term:
        term = self._primary()
        while True:
            if self._take("."):
                term = self._select(term)
            elif self._take("["):
                term = self._index(term)
            else:
                break
        if term.read:
            self.reads[term.read] = None
        return term

    def _select(self, term: _Term) -> _Term:
        if self.at >= len(self.tokens) or self.tokens[self.at].kind != "name":
            raise self._unexpected("a field name is expected")
        name = self.tokens[self.at].text
        self.at += 1
        if name.startswith("__"):
            raise self._error("X002", f"`{name}` is not allowed", "expressions see data only")
        if self._take("("):
            if term.read:
                self.reads[term.read] = None
            return self._macro(term, name) if name in MACROS else self._call(name, term)
        cel = f'{term.cel}["{name}"]' if name in _RESERVED else f"{term.cel}.{name}"
        return self._step(term, name, cel)

    def _index(self, term: _Term) -> _Term:
        token = self.tokens[self.at] if self.at < len(self.tokens) else None
        key = self._ternary()
        self._need("]")
        literal = self.tokens[self.at - 2] is token and token is not None
        if literal and token is not None and token.kind == "string" and token.text[0] in "'\"":
            if "\\" not in token.text and not token.text.startswith(("'''", '"""')):
                return self._step(term, token.text[1:-1], f"{term.cel}[{token.text}]")
        if literal and token is not None and token.text.isdigit():
            return self._step(term, int(token.text), f"{term.cel}[{token.text}]")
        cel = f"{term.cel}[{key.cel}]"
        read = term.read._replace(exact=False) if term.read else None
        return _Term(cel, read)

    def _step(self, term: _Term, step: str | int, cel: str) -> _Term:
        if term.read is None or not term.read.exact:
            return _Term(cel, term.read)
        return _Term(cel, term.read._replace(path=(*term.read.path, step)))

    def _primary(self) -> _Term:
        if self.at >= len(self.tokens):
            raise self._unexpected()
        token = self.tokens[self.at]
        self.at += 1
        if token.kind in ("string", "number"):
            return _Term(token.text)
        if token.kind == "name":
            return self._name(token.text)
        if token.text == "(":
            inner = self._ternary()
            self._need(")")
            return _Term(f"({inner.cel})")
        if token.text == "[":
            return self._built("[", self._list("]", self._ternary_text), "]")
        if token.text == "{":
            return self._built("{", self._list("}", self._entry), "}")
        self.at -= 1
        raise self._unexpected()

    def _built(self, opening: str, inner: list[str], closing: str) -> _Term:
        cel = opening + ", ".join(inner) + closing
        return _Term(self._counted("grow_", cel) if self.bound else cel)

    def _ternary_text(self) -> str:
        return self._ternary().cel

    def _entry(self) -> str:
        key = self._ternary().cel
        self._need(":")
        return f"{key}: {self._ternary().cel}"

    def _list(self, closing: str, item: Callable[[], str]) -> list[str]:
        found: list[str] = []
        while not self._take(closing):
            if found:
                self._need(",")
                if self._take(closing):
                    break
            found.append(item())
        return found

    def _name(self, name: str) -> _Term:
        if name in ("true", "false", "null"):
            return _Term(name)
        if self._take("("):
            return self._call(name, None)
        if name in self.bound:
            return _Term(name)
        if name not in ROOTS and name not in RECORD_ROOTS:
            raise self._unknown_name(name)
        cel = variable(name)
        return _Term(cel, Read(name, (), True))

    def _unknown_name(self, name: str) -> ExpressionError:
        before = [token.text for token in self.tokens[max(0, self.at - 4) : self.at]]
        if before[:2] == ["stages", "."] or before[-2:-1] == ["-"]:
            return self._error(
                "X002",
                f"unknown name `{name}`",
                'an id with `-` is read as `stages["my-stage"]`',
            )
        close = difflib.get_close_matches(name, sorted(ROOTS), 1)
        hint = f"did you mean `{close[0]}`?" if close else "names: " + ", ".join(sorted(ROOTS))
        return self._error("X002", f"`{name}` is not allowed: no such name", hint)

    def _call(self, name: str, target: _Term | None) -> _Term:
        if name == "has" and target is None:
            return self._has()
        if name not in FUNCTIONS:
            close = difflib.get_close_matches(name, sorted(FUNCTIONS | MACROS), 1)
            hint = f"did you mean `{close[0]}`?" if close else ""
            raise self._error("X002", f"`{name}` is not allowed: no such function", hint)
        self.functions.add(name)
        if name == "coalesce":
            arguments = self._list(")", self._maybe_missing)
        else:
            arguments = self._list(")", self._ternary_text)
        inner = ", ".join(arguments)
        return _Term(f"{name}({inner})" if target is None else f"{target.cel}.{name}({inner})")

    def _has(self) -> _Term:
        term = self._ternary()
        self._need(")")
        if term.read is not None and term.read.exact:
            return _Term(self._presence(term.read))
        return _Term(f"has({term.cel})")

    def _maybe_missing(self) -> str:
        term = self._ternary()
        if term.read is None or not term.read.exact:
            return term.cel
        return f"({self._presence(term.read)} ? {term.cel} : null)"

    def _presence(self, read: Read) -> str:
        """A variable that is true if the path is there; set before the engine runs."""
        return f"has_{self.asked.setdefault(read, len(self.asked))}"

    def _macro(self, target: _Term, name: str) -> _Term:
        self.macros += 1
        if self.macros > MAX_MACROS:
            raise self._error("X003", f"more than {MAX_MACROS} list macros in one expression")
        token = self.tokens[self.at] if self.at < len(self.tokens) else None
        if token is None or token.kind != "name" or token.text in _RESERVED | ROOTS:
            raise self._error("X001", f"`{name}` takes a fresh name first: `.{name}(x, x > 1)`")
        if token.text.startswith("_") or token.text.endswith("_"):
            raise self._error("X002", f"`{token.text}` is not allowed as a name")
        self.at += 1
        self._need(",")
        self.bound.append(token.text)
        inner = self._list(")", self._ternary_text)
        self.bound.pop()
        if not 1 <= len(inner) <= (2 if name == "map" else 1):
            raise self._error("X001", f"`{name}` takes a name and one expression")
        source = self._counted("each_", target.cel)
        return _Term(f"{source}.{name}({token.text}, {', '.join(inner)})")


def variable(root: str) -> str:
    """The engine's name for a root; `loop` is a word CEL keeps for itself."""
    return "loop_" if root == "loop" else root
