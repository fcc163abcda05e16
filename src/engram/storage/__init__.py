"""Files on disk: written whole or not at all, and trees of state as safetensors."""

from engram.storage.files import CannotWriteError, CorruptFileError

__all__ = ["CannotWriteError", "CorruptFileError"]
