"""Checkpoints: a tree of state in one safetensors file, written atomically, verified when read, never unpickled.

Tensors and arrays are stored as tensors; all else (numbers, also NumPy's, strings, None, and the shape of the tree) as
JSON in the file's header. It is one file, since two files cannot be replaced atomically.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from engram import checks
from engram.storage.files import CorruptFileError, check_regular, write_atomic
from engram.version import __version__


def save(path: Path, state: Any) -> None:
    """Write a tree of dicts, lists, tuples, tensors, numpy arrays, numbers, strings, booleans and None.

    A NamedTuple comes back as a tuple, and an array in the byte order of the machine.

    Raises:
        TypeError: The tree holds something else, or a key that is not a string or integer; the message says where.
        CannotWriteError: The file cannot be written; an old file is unchanged.
    """
    tensors: dict[str, torch.Tensor] = {}
    skeleton = json.dumps(_encode(state, "state", tensors))
    digest = _digest(skeleton, tensors)
    write_atomic(path, safetensors.torch.save(tensors, {"state": skeleton, "sha256": digest}))


def load(path: Path) -> Any:
    """The state that ``save`` wrote; tensors are on the CPU.

    Raises:
        CorruptFileError: The file is truncated or altered.
        FileNotFoundError: There is no such file.
    """
    check_regular(path)
    sys.audit("open", str(path), "rb", os.O_RDONLY)  # Python's own functions raise this event, safetensors does not
    with _reading(path):
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header.get("sha256") != _digest(header.get("state", ""), tensors):
            raise ValueError("its checksum differs")
        return _decode(json.loads(header["state"]), tensors)


def peek(path: Path, name: str) -> Any:
    """One entry of a dict that ``save`` wrote, read alone and not verified; it must not contain tensors.

    Raises:
        CorruptFileError: The file is truncated or altered, or has no such entry.
        FileNotFoundError: There is no such file.
    """
    check_regular(path)
    with _reading(path):
        with safetensors.safe_open(path, framework="pt") as file:
            entries = dict(json.loads((file.metadata() or {})["state"])["dict"])
        if name not in entries:
            raise ValueError(f"it has no entry {name!r}")
        return _decode(entries[name], {})


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn all errors of a file that exists into ``CorruptFileError``."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise CorruptFileError(path, str(error)) from None
    except (AttributeError, LookupError, RecursionError, TypeError) as error:  # from a forged header
        raise CorruptFileError(path, f"it holds no tree of state ({type(error).__name__})") from None


def save_object(path: Path, kind: str, content: dict[str, Any]) -> None:
    """Write the content of an object, with the name of its class and the version of engram.

    Args:
        path: The file.
        kind: Name of the object's class.
        content: A tree that ``save`` can write.
    """
    save(path, {"class": kind, "engram": __version__, **content})


def load_object(path: Path, kind: str) -> dict[str, Any]:
    """The content that ``save_object`` wrote; CorruptFileError if the file holds another class."""
    content = load(path)
    if not isinstance(content, dict) or content.get("class") != kind:
        raise CorruptFileError(path, f"it holds no {kind}")
    return content


def _digest(skeleton: str, tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(skeleton.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _encode(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    """``value`` as JSON: plain values as they are, every other node as an object whose only key is its kind."""
    if isinstance(value, str):
        return str.__str__(value)  # of a member of an enumeration, ``str`` gives the name
    if isinstance(value, np.generic) and value.dtype.kind in "biuf" and value.dtype.itemsize <= 8:
        return {"scalar": [value.dtype.str, value.item()]}
    if isinstance(value, torch.Tensor | np.ndarray):
        kind = "array" if isinstance(value, np.ndarray) else "tensor"
        name = path.removeprefix("state.")
        # The key "a.b", and the key "b" within "a", have the same name; safetensors keeps one name for itself.
        while name in tensors or name == "__metadata__":
            name += "'"
        tensors[name] = _tensor(value, path)
        return {kind: name}
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str | int):
                raise TypeError(f"{path} has the key {key!r}: a checkpoint stores string and integer keys")
        return {"dict": [[key, _encode(item, f"{path}.{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_encode(item, f"{path}.{i}", tensors) for i, item in enumerate(value)]}
    raise TypeError(
        f"{path} is of type {type(value).__name__}: a checkpoint stores dicts, lists, tuples, tensors, arrays, "
        "numbers, strings, booleans and None"
    )


def _tensor(value: torch.Tensor | np.ndarray, path: str) -> torch.Tensor:
    """A copy as safetensors stores it: contiguous, on the CPU, in native byte order, and sharing no memory."""
    if isinstance(value, torch.Tensor) and value.layout != torch.strided:
        raise TypeError(f"{path} has the layout {value.layout}: a checkpoint stores dense tensors")
    if checks.has_masked(value):
        raise TypeError(f"{path} is a masked array: expected one in which no number is masked")
    if value.dtype not in (torch.complex128, np.complex128):
        if isinstance(value, torch.Tensor):
            return value.detach().cpu().clone(memory_format=torch.contiguous_format)
        with contextlib.suppress(TypeError):  # NumPy has types that torch lacks
            copy = torch.from_numpy(np.array(value, value.dtype.newbyteorder("="), order="C"))
            # NumPy gives empty arrays the stride 0, with which no bytes can be read.
            return copy if copy.numel() else copy.clone(memory_format=torch.contiguous_format)
    raise TypeError(f"{path} has the type {value.dtype}: a checkpoint stores real numbers, booleans and complex64")


def _decode(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    match kind:
        case "tensor":
            return tensors[content]
        case "array":
            return tensors[content].numpy()
        case "scalar":
            dtype, number = content
            return np.dtype(dtype).type(number)
        case "dict":
            return {key: _decode(item, tensors) for key, item in content}
        case "tuple":
            return tuple(_decode(item, tensors) for item in content)
        case "list":
            return [_decode(item, tensors) for item in content]
        case _:
            raise ValueError(f"it holds a {kind!r}")
