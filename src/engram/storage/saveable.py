"""Objects that can be saved to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

from engram import checks
from engram.storage import checkpoint
from engram.storage.files import CorruptFileError


class Saveable:
    """An object saved as one file; a class sets ``_made_of`` and ``_learned``, or overrides the two methods below."""

    _made_of: ClassVar[tuple[str, ...]] = ()  # constructor arguments, kept as attributes of the same names
    _learned: ClassVar[tuple[str, ...]] = ()  # attributes that are set later

    def _content(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*self._made_of, *self._learned)}

    @classmethod
    def _from_content(cls, content: dict[str, Any]) -> Self:
        instance = cls(**{name: content[name] for name in cls._made_of})
        for name in cls._learned:
            setattr(instance, name, content[name])
        return instance

    def save(self, path: str | Path) -> None:
        """Write the object to one safetensors file, with everything but tensors as JSON in its header.

        The write is atomic: a process that is killed leaves the old file or the new one.

        Raises:
            TypeError: The content is not made of tensors, arrays and plain values.
            CannotWriteError: The file cannot be written; an old file is unchanged.
        """
        checks.arguments()
        checkpoint.save_object(Path(path), type(self).__name__, self._content())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The object that ``save`` wrote.

        Raises:
            CorruptFileError: The file is truncated, altered, or holds something else.
            FileNotFoundError: There is no such file.
        """
        checks.arguments()
        content = checkpoint.load_object(Path(path), cls.__name__)
        try:
            return cls._from_content(content)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise CorruptFileError(Path(path), f"it holds no {cls.__name__}: {error!r}") from error
