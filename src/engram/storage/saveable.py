"""What all objects share that are written to a file of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

from engram.storage import checkpoint


class Saveable:
    """An object that is one file: a class names what it is made of and what it has learned, or overrides both ways."""

    _made_of: ClassVar[tuple[str, ...]] = ()  # arguments, kept as attributes of these names
    _learned: ClassVar[tuple[str, ...]] = ()  # what is set afterwards

    def _content(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*self._made_of, *self._learned)}

    @classmethod
    def _from_content(cls, content: dict[str, Any]) -> Self:
        made = cls(**{name: content[name] for name in cls._made_of})
        for name in cls._learned:
            setattr(made, name, content[name])
        return made

    def save(self, path: str | Path) -> None:
        """Write it to one safetensors file, with what is no tensor as JSON in its header, atomically.

        A process that is killed leaves the old file or the new one.

        Raises:
            TypeError: It holds what cannot be stored: neither tensors nor arrays nor plain values.
            CannotWriteError: The old file is as before.
        """
        checkpoint.save_object(Path(path), type(self).__name__, self._content())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            CorruptFileError: The file is truncated, altered, or of something else.
            FileNotFoundError: There is no such file.
        """
        return cls._from_content(checkpoint.load_object(Path(path), cls.__name__))
