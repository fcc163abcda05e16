"""Objects that are saved to a file of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

from engram import checks
from engram.storage import checkpoint


class Saveable:
    """An object that is one file: a class names its arguments and its state, or overrides both methods."""

    _made_of: ClassVar[tuple[str, ...]] = ()  # arguments, kept as attributes of these names
    _learned: ClassVar[tuple[str, ...]] = ()  # attributes that are set afterwards

    def _content(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*self._made_of, *self._learned)}

    @classmethod
    def _from_content(cls, content: dict[str, Any]) -> Self:
        made = cls(**{name: content[name] for name in cls._made_of})
        for name in cls._learned:
            setattr(made, name, content[name])
        return made

    def save(self, path: str | Path) -> None:
        """Write the object to one safetensors file, atomically; what is not a tensor is JSON in its header.

        A process that is killed leaves the old file or the new one.

        Raises:
            TypeError: A part is neither a tensor nor an array nor a plain value.
            CannotWriteError: The old file is as before.
        """
        checks.arguments()
        checkpoint.save_object(Path(path), type(self).__name__, self._content())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The object that ``save`` wrote.

        Raises:
            CorruptFileError: The file is truncated, altered, or of something else.
            FileNotFoundError: There is no such file.
        """
        return cls._from_content(checkpoint.load_object(Path(path), cls.__name__))
