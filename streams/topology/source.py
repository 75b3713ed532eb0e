"""A YAML file as a tree that knows where each piece stands.

Built from parser events, not from loaded objects, so that every limit holds while reading:
duplicate keys keep both places, aliases are counted, nothing is constructed from a tag.
Plain words follow YAML 1.2; forms that readers disagree on (`010`, `1_0`, `12:30:45`) are text, and
so is `.nan`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from streams.topology.findings import Finding

MAX_BYTES = 512 * 1024
MAX_DEPTH = 100
MAX_NODES = 100_000
"""Pieces a file may have once its aliases are written out."""

Path = tuple[str | int, ...]

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)$|0o[0-7]+$|0x[0-9a-fA-F]+$")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_WORDS: dict[str, Any] = {"": None, "~": None, "true": True, "false": False, "null": None}
SYNONYMS = {
    "with": ("args",),
    "depends_on": ("needs",),
    "raise": ("message",),
    "if": ("condition",),
    "until": ("condition",),
    "pipeline": ("name",),
    "choices": ("options",),
}
"""Field → other spellings under which it may stand in the file."""


class Node:
    """A mapping, list or scalar with its place (from 1)."""

    __slots__ = ("column", "items", "keys", "length", "line", "size", "value")

    def __init__(self, line: int, column: int, length: int = 1, value: Any = None) -> None:
        self.line = line
        self.column = column
        self.length = length
        self.value = value
        """Of a scalar."""
        self.items: list[Node] | None = None
        """Of a mapping or list."""
        self.keys: list[Node] | None = None
        """Of a mapping; the n-th belongs to the n-th item."""
        self.size = 1

    def pairs(self) -> Iterator[tuple[str, Node, Node]]:
        """Key, its node, its value; nothing if this is no mapping."""
        for key, item in zip(self.keys or (), self.items or (), strict=False):
            yield str(key.value), key, item

    def find(self, step: str | int) -> tuple[Node, Node] | None:
        """The key (or the item itself) and the item; a number also counts a mapping's items."""
        if isinstance(step, int):
            if self.items is None or step >= len(self.items):
                return None
            return (self.keys[step] if self.keys else self.items[step]), self.items[step]
        spellings = (step, step.replace("_", "-"), *SYNONYMS.get(step, ()))
        for key, node, item in self.pairs():
            if key in spellings:
                return node, item
        return None

    def plain(self) -> Any:
        """The value without places. Shared pieces come out as separate ones."""
        if self.keys is not None:
            return {key: item.plain() for key, _, item in self.pairs()}
        if self.items is not None:
            return [item.plain() for item in self.items]
        return self.value


class Source:
    """A file's text, its tree, and the findings made in it."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.lines = _BREAK.split(text)
        self.findings: list[Finding] = []
        self.root: Node | None = None
        self.damaged: set[Path] = set()
        """Places that lost a faulty field, so that what follows from its absence is not told."""

    @property
    def faults(self) -> bool:
        """Whether anything found forbids the file."""
        return any(finding.severity == "error" for finding in self.findings)

    def fault(
        self,
        code: str,
        message: str,
        path: Path = (),
        hint: str = "",
        *,
        key: bool = False,
        notes: tuple[str, ...] = (),
        warning: bool = False,
    ) -> None:
        """Notes a finding at the deepest piece of `path` that the file has."""
        node = self.place(path, key)
        self.fault_at(code, message, node, hint, notes=notes, warning=warning)

    def fault_at(
        self,
        code: str,
        message: str,
        node: Node | None,
        hint: str = "",
        *,
        notes: tuple[str, ...] = (),
        warning: bool = False,
    ) -> None:
        """Notes a finding at a node (None: the file as a whole)."""
        line, column = (node.line, node.column) if node else (0, 0)
        self.findings.append(
            Finding(
                code,
                message,
                self.name,
                line,
                column,
                node.length if node else 1,
                self.lines[line - 1] if 0 < line <= len(self.lines) else "",
                hint,
                notes,
                "warning" if warning else "error",
            )
        )

    def place(self, path: Path, key: bool = False) -> Node | None:
        """The node at the path; `key`: its key instead of its value."""
        node, label = self.root, self.root
        whole = True
        for step in path:
            found = node.find(step) if node else None
            if found is None:
                whole = False
                break
            label, node = found
        scalar = node is not None and node.items is None
        return node if scalar and whole and not key else label

    def line_of(self, path: Path) -> int:
        node = self.place(path)
        return node.line if node else 0


def read_source(text: str, name: str) -> Source:
    """Reads the file; `root` stays None where its form does not allow more."""
    source = Source(text, name)
    text = text.removeprefix("\ufeff")
    try:
        source.root = _Composer(source, text).run()
    except _Refused:
        source.root = None
    return source


class _Refused(Exception):
    """Reading cannot go on; the finding is made."""


class _Composer:
    def __init__(self, source: Source, text: str) -> None:
        self.source = source
        self.text = text
        self.anchors: dict[str, Node | None] = {}
        self.nodes = 0

    def run(self) -> Node | None:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError

        yaml = YAML(typ="safe", pure=True)
        try:
            return self._document(yaml.parse(self.text))
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = self._node(mark, None) if mark else None
            hint = "indent with spaces" if "\\t" in str(error.problem) else str(error.context or "")
            self._refuse("T101", f"not well-formed YAML: {error.problem}", place, hint)
        except YAMLError as error:
            self._refuse("T101", f"not well-formed YAML: {str(error).splitlines()[0]}", None)
        except (ValueError, RecursionError) as error:
            self._refuse("T101", f"not well-formed YAML: {error}", None)
        return None

    def _refuse(self, code: str, message: str, node: Node | None, hint: str = "") -> None:
        self.source.fault_at(code, message, node, hint)
        raise _Refused

    def _node(self, start: Any, end: Any) -> Node:
        one_line = end is not None and end.line == start.line
        text = self.source.lines[start.line] if start.line < len(self.source.lines) else ""
        length = end.column - start.column if one_line else len(text.rstrip()) - start.column
        return Node(start.line + 1, start.column + 1, max(1, length))

    def _document(self, events: Any) -> Node | None:
        from ruamel.yaml import events as kinds

        root: Node | None = None
        documents = 0
        stack: list[tuple[Node, str | None, dict[str, Node]]] = []
        key: Node | None = None
        keys: list[Node | None] = []
        for event in events:
            if isinstance(event, kinds.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    place = self._node(event.start_mark, event.end_mark)
                    self._refuse("T101", "a second document", place, "one topology a file")
                continue
            if isinstance(event, kinds.CollectionEndEvent):
                node, anchor, _ = stack.pop()
                key = keys.pop()
                if anchor:
                    self.anchors[anchor] = node
            elif isinstance(event, kinds.NodeEvent):
                node = self._begin(event, kinds, len(stack))
                anchor = None if isinstance(event, kinds.AliasEvent) else event.anchor
                if isinstance(event, kinds.CollectionStartEvent):
                    if anchor:
                        self.anchors[anchor] = None
                    if stack and stack[-1][0].keys is not None and key is None:
                        self._refuse("T103", "a key that is no plain word", node)
                    stack.append((node, anchor, {}))
                    keys.append(key)
                    key = None
                    continue
                if anchor:
                    self.anchors[anchor] = node
            else:
                continue
            if not stack:
                root = node
                continue
            parent, _, seen = stack[-1]
            if parent.keys is not None and key is None:
                key = self._key(node)
                continue
            self._add(parent, key, node, seen)
            key = None
        return root

    def _begin(self, event: Any, kinds: Any, depth: int) -> Node:
        node = self._node(event.start_mark, event.end_mark)
        if isinstance(event, kinds.AliasEvent):
            target = self.anchors.get(event.anchor, node)
            if target is None:
                self._refuse("T103", f"`*{event.anchor}` contains itself", node)
            if target is node or target is None:
                self._refuse("T101", f"no anchor `&{event.anchor}` before this", node)
                return node
            self._count(target.size, node)
            return target
        self._count(1, node)
        tag = getattr(event, "tag", None)
        if tag and str(tag) not in ("!", "None"):
            self._refuse("T103", f"the tag `{tag}` is not allowed", node, "write plain values")
        if depth >= MAX_DEPTH:
            self._refuse("T103", f"nested deeper than {MAX_DEPTH} levels", node)
        if isinstance(event, kinds.CollectionStartEvent):
            node.items = []
            node.keys = [] if isinstance(event, kinds.MappingStartEvent) else None
        else:
            node.value = self._scalar(event, node)
        return node

    def _count(self, size: int, node: Node) -> None:
        self.nodes += size
        if self.nodes > MAX_NODES:
            self._refuse("T103", f"more than {MAX_NODES} values once aliases are written out", node)

    def _scalar(self, event: Any, node: Node) -> Any:
        text: str = event.value
        if event.style:
            return text
        word = text.lower()
        if word in _WORDS and text in (word, word.upper(), word.capitalize()):
            return _WORDS[word]
        if len(text) > 400 or not (text[0] in "+-." or text[0].isdigit()):
            return text
        if _INTEGER.match(text):
            value = int(text, 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10)
            if abs(value) >= 1 << 63:
                self.source.fault_at("T117", f"`{text[:30]}` does not fit 64 bits", node)
            return value
        if _NUMBER.match(text):
            number = float(text)
            if number in (float("inf"), float("-inf")):
                self.source.fault_at("T117", f"`{text[:30]}` is too large for a number", node)
            return number
        return text

    def _key(self, node: Node) -> Node:
        if node.items is not None:
            self._refuse("T103", "a key that is no plain word", node)
        if node.value == "<<":
            self._refuse(
                "T103", "merge keys (`<<`) are not supported", node, "write the fields out"
            )
        if isinstance(node.value, bool):
            node.value = "true" if node.value else "false"
        return node

    def _add(self, parent: Node, key: Node | None, node: Node, seen: dict[str, Node]) -> None:
        assert parent.items is not None
        parent.size += node.size
        if key is None or parent.keys is None:
            parent.items.append(node)
            return
        first = seen.setdefault(str(key.value), key)
        if first is not key:
            self.source.fault_at(
                "T102",
                f"duplicate key `{key.value}`",
                key,
                f"first at line {first.line}",
                notes=(f"first at {self.source.name}:{first.line}:{first.column}",),
            )
            return
        parent.keys.append(key)
        parent.items.append(node)
