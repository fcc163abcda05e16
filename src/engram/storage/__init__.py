"""What is kept on disk: files that are whole or not there, and trees of state as safetensors."""

from engram.storage.files import CannotWriteError, CorruptFileError

__all__ = ["CannotWriteError", "CorruptFileError"]
