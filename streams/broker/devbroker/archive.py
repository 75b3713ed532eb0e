"""The archive of loaded classes that brings a start down to about a second.

The JVM writes it when a broker ends, and reads it at the next start. It fits one Java, one class
path and one set of flags, all of which are in its name. It can only ever help: a JVM that refuses
it starts without, and one that ends early with it is started again without.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from streams.broker.devbroker.java import Java

SINCE_AOT = 25
"""From here on the archive also holds linked classes and profiles, and has other flags."""


class Archive(msgspec.Struct, frozen=True):
    """Where it lies, and how this Java is told."""

    path: Path
    aot: bool

    @classmethod
    def fitting(cls, cache: Path, java: Java, class_path: str, flags: Sequence[str]) -> Archive:
        """The one for just this Java, class path and flags, whether or not it is there."""
        text = "\n".join([java.full, str(java.path), class_path, *flags])
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        return cls(cache / f"classes-{name}.jsa", java.version >= SINCE_AOT)

    def there(self) -> bool:
        return self.path.is_file()

    def reading(self) -> list[str]:
        """Flags of a start that uses it; what does not fit is passed over, and not talked about."""
        option = "AOTCache" if self.aot else "SharedArchiveFile"
        return ["-Xlog:disable", f"-XX:{option}={self.path}"]

    def recording(self, target: Path) -> list[str]:
        """Flags of a start that writes one to `target` when it ends."""
        option = "AOTCacheOutput" if self.aot else "ArchiveClassesAtExit"
        return ["-Xlog:disable", f"-XX:{option}={target}"]

    def drop(self) -> None:
        """It is not there."""
        self.path.unlink(missing_ok=True)
