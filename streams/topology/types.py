"""What the checker asks of the registry of stage types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class ConfigFault(Protocol):
    """Something that is refused in a config; `path` leads to it from there."""

    @property
    def path(self) -> tuple[str | int, ...]: ...

    @property
    def message(self) -> str: ...

    @property
    def hint(self) -> str: ...


class StageTypes(Protocol):
    """Registered stage types and functions. Asked while a file is checked."""

    def known(self) -> Sequence[str]:
        """Names of all types."""

    def trouble(self, source: str) -> str:
        """Why the stages of a source (`module:name`) could not be loaded; empty if they were."""

    def check_config(self, type: str, config: Mapping[str, Any]) -> Sequence[ConfigFault]:
        """What the type refuses; texts may hold `${{ }}` that is only known when it runs."""

    def wants_ledger(self, type: str) -> bool:
        """Whether stages of this type get the job's ledger view."""

    def known_functions(self) -> Sequence[str]:
        """`module/name@version` of all functions of `uses`."""

    def check_arguments(self, reference: str, given: Mapping[str, Any]) -> Sequence[ConfigFault]:
        """What a known function refuses in `with`."""
