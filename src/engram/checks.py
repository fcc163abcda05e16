"""Validation of arguments: every error names the argument, its value and what was expected."""

from __future__ import annotations

import cmath
import contextlib
import functools
import inspect
import itertools
import math
import random
import re
import sys
import textwrap
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

import numpy as np
import torch
from beartype import BeartypeConf, FrozenDict
from beartype.door import is_bearable
from jaxtyping import jaxtyped
from torch import Tensor

from engram.numeric.threads import single_threaded

T = TypeVar("T")
LARGEST = sys.float_info.max

LARGEST_SIZE, LIMIT = 10**9, 10**4  # the maximum of any size; errors may leave out a maximum that is not below LIMIT

NUMBERS = {float: float | int | np.floating | np.integer, int: int | np.integer, bool: bool | np.bool_}
TYPES = BeartypeConf(hint_overrides=FrozenDict(NUMBERS))
ARRAYS, GENERATORS = (np.ndarray, Tensor), (np.random.Generator, torch.Generator)
OBJECT = np.dtype(object)
_ABSENT = object()
# Calls that passed, by the types, dtypes and shapes of their arguments; of a container, only the first items count.
_PASSED: set[tuple[Any, ...]] = set()
MANY = 10_000
SPLIT = 2**15  # elements from which torch divides a sum among threads


def arguments() -> None:
    """Check the arguments of the calling function against its annotations; call it as the first statement.

    Axes of the same name must have equal lengths in all arguments. Arrays with masked numbers are refused, also in
    lists, tuples and dicts, since many functions would compute with these. In ``__post_init__``, the fields are
    checked. While torch compiles, nothing is checked.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An array or tensor has the wrong shape or dtype or masked numbers, or a value is not one of the
            allowed ones.
    """
    if torch.compiler.is_compiling():
        return
    frame = sys._getframe(1)
    module, function, values = frame.f_globals["__name__"], frame.f_code.co_qualname, frame.f_locals
    values = vars(values["self"]) if function.endswith(".__post_init__") else values
    call = module, function, *map(_kind, values.values())
    if call in _PASSED:
        return
    state = random.getstate()  # of an item of a sequence, beartype draws which one to look at
    try:
        with jaxtyped("context"):  # remembers the length of each named axis
            for name, hint in _hints(module, function).items():
                if name in values and has_masked(values[name]):
                    owner = name if hasattr(values[name], "mask") else f"an item of {name}"
                    raise ValueError(f"{owner} is a masked array: expected one in which no number is masked")
                if name in values and not is_bearable(values[name], hint, conf=TYPES):
                    raise _refusal(name, values[name], hint)
    finally:
        random.setstate(state)
    if len(_PASSED) == MANY:
        _PASSED.clear()
    _PASSED.add(call)


def _kind(value: Any) -> Any:
    """The properties of a value that decide whether it fits its annotation."""
    kind = type(value)
    if isinstance(value, ARRAYS):
        return kind, value.dtype, value.shape, (kind not in ARRAYS or value.dtype is OBJECT) and has_masked(value)
    if kind is tuple:
        return len(value), has_masked(value), *map(_kind, value[:4])
    if kind in {list, dict, set}:
        items = itertools.islice(value.items() if kind is dict else value, 1)
        return kind, has_masked(value), *map(_kind, items)
    return value if kind is str else (kind, has_masked(value)) if isinstance(value, tuple) else kind


def has_masked(value: Any) -> bool:
    """Whether a value is an array in which numbers are masked, or a list, tuple, dict or cell array with such an array.

    Lists of numbers, which may be long, are not searched: NumPy reads a single masked number as NaN.
    """
    ma = sys.modules.get("numpy.ma")  # whoever has such an array has imported it
    if ma is None or isinstance(value, Tensor):
        return False
    if isinstance(value, ma.MaskedArray):
        return bool(ma.is_masked(value))
    if isinstance(value, dict):
        return any(map(has_masked, value.values()))
    if isinstance(value, list | tuple):
        is_of_numbers = bool(value) and isinstance(value[0], float | int | str | np.number | np.bool_)
        return not is_of_numbers and any(map(has_masked, value))
    return isinstance(value, np.ndarray) and value.dtype == object and any(map(has_masked, value.flat))


@functools.cache
def _hints(module: str, qualname: str) -> dict[str, Any]:
    """The annotations of a function's arguments, without names that exist only for the type checker."""
    *path, function_name = qualname.split(".")
    owner = functools.reduce(getattr, path, sys.modules[module])
    function: Any = owner if function_name == "__post_init__" else inspect.unwrap(getattr(owner, function_name))
    hints = {}
    for name, hint in function.__annotations__.items():
        with contextlib.suppress(NameError, TypeError, AttributeError, SyntaxError):
            hints[name] = eval(hint, vars(sys.modules[module])) if isinstance(hint, str) else hint
    variadic = () if inspect.isclass(function) else inspect.getargs(function.__code__)[1:]
    return {name: hint for name, hint in hints.items() if name not in ("return", *variadic)}


def _refusal(name: str, value: Any, hint: Any) -> Exception:
    if get_origin(hint) is Literal:
        return ValueError(f"{name} = {shown(value)}: expected one of {', '.join(map(repr, get_args(hint)))}")
    expected = hint.__name__ if isinstance(hint, type) else re.sub(r"\b(jax)?typing\.", "", str(hint))
    if isinstance(value, ARRAYS) and hasattr(hint, "array_type") and isinstance(value, hint.array_type):
        return ValueError(f"{name}.shape = {tuple(value.shape)}, dtype = {value.dtype}: expected {expected}")
    return TypeError(f"{name} = {shown(value)}: expected {expected}")


def shown(value: Any) -> str:
    """A value as a short text, without memory addresses; of a sequence of arrays, only the first three are shown."""
    if isinstance(value, ARRAYS):
        kind = "tensor" if isinstance(value, Tensor) else "array"
        return f"{kind} of shape {tuple(value.shape)} and dtype {value.dtype}"
    if isinstance(value, list | tuple) and any(isinstance(item, ARRAYS) for item in value):
        items = ", ".join([*map(shown, value[:3]), *["..."] * (len(value) > 3)])
        return f"[{items}]" if isinstance(value, list) else f"({items})"
    try:
        text = repr(value)
    except Exception as error:  # of a class that is not ours
        text = f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
    return textwrap.shorten(re.sub(" at 0x[0-9A-Fa-f]+", "", text), 80, placeholder=" ...")


def described(self: Any) -> str:
    """A ``__repr__`` with the constructor's arguments, if the object keeps them as attributes, public or private."""
    attributes = self._asdict() if hasattr(self, "_asdict") else vars(self)
    arguments = {name: attributes.get(name, attributes.get(f"_{name}", _ABSENT)) for name in _parameters(type(self))}
    return made_by(type(self), {name: value for name, value in arguments.items() if value is not _ABSENT})


def made_by(kind: type, arguments: Mapping[str, Any]) -> str:
    """The constructor call of an object, for its ``__repr__``; generators are left out."""
    shown_arguments = {name: value for name, value in arguments.items() if not isinstance(value, GENERATORS)}
    return f"{kind.__name__}({', '.join(f'{name}={shown(value)}' for name, value in shown_arguments.items())})"


def _parameters(kind: type) -> list[str]:
    """The names of a constructor's parameters, and of its base class's if it passes ``**kwargs`` on to it."""
    parameters = inspect.signature(kind).parameters
    named = [name for name, parameter in parameters.items() if parameter.kind is not parameter.VAR_KEYWORD]
    return named if len(named) == len(parameters) else [*dict.fromkeys((*named, *_parameters(kind.__mro__[1])))]


class noted:  # noqa: N801 - a context manager for hot code, where one of ``contextlib`` costs twice as much
    """Add the arguments as a note to the errors of other libraries, whose messages do not name them."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Exception):
            note(error, **self.values)


def note(error: Exception, **values: Any) -> None:
    """Add the arguments as a note to an error, where even the cost of a context manager such as ``noted`` counts."""
    error.add_note(", ".join(f"{name} = {shown(value)}" for name, value in values.items()))


def rng(name: str, seed: Any) -> np.random.Generator:
    """A NumPy generator from a seed, or the generator itself if one is given."""
    with noted(**{name: seed}):
        return np.random.default_rng(seed)


@contextlib.contextmanager
def restored_on_error(estimator: Any) -> Iterator[None]:
    """Restore an estimator's attributes if the block raises, so that a failed fit leaves the earlier one usable."""
    attributes = dict(vars(estimator))
    try:
        yield
    except BaseException:  # also if the user stops it
        estimator.__dict__ = attributes
        raise


def samples(estimator: Any, X: Any, y: Any = "no_validation", **options: Any) -> Any:
    """Samples, and their classes if given, validated by scikit-learn's ``validate_data``; tensors become arrays.

    Args:
        estimator: The estimator that is fitted or applied.
        X: The samples.
        y: Their classes; by default there are none.
        **options: Further arguments of ``validate_data``.
    """
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import validate_data

    with restored_on_error(estimator):
        with noted(X=X):
            valid = validate_data(estimator, as_array(X), as_array(y), **options)
        if not isinstance(y, str):
            with noted(y=y):
                check_classification_targets(valid[1])
    return valid


def size(name: str, value: Any, minimum: int = 1, maximum: int | None = LARGEST_SIZE) -> int:
    """``value`` as an int from ``minimum`` to ``maximum``.

    Args:
        name: The argument's name, for the error.
        value: The argument.
        minimum: The smallest value allowed.
        maximum: The largest value allowed (default: 10^9); None: no bound.

    Raises:
        TypeError: The value is not an integer; a bool does not count as one.
        ValueError: The value is out of range.

    Examples:
        >>> size("k", 0)
        Traceback (most recent call last):
        ValueError: k = 0: expected at least 1
    """
    if type(value) is int and value >= minimum and (maximum is None or value <= maximum):
        return value
    if isinstance(value, torch.SymInt):  # a size that torch.export leaves open
        return value  # type: ignore[return-value]
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"{name} = {value!r}: expected an int")
    if value < minimum or (maximum is not None and value > maximum):
        low = maximum is None or (maximum >= LIMIT and value < minimum)
        raise ValueError(f"{name} = {value}: expected {f'at least {minimum}' if low else f'{minimum} to {maximum}'}")
    return int(value)


def number(
    name: str,
    value: Any,
    *,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
) -> float:
    """``value`` as a float: a finite number within the bounds given.

    Args:
        name: The argument's name, for the error.
        value: The argument.
        minimum: The smallest value allowed.
        above: An exclusive lower bound.
        maximum: The largest value allowed.
        below: An exclusive upper bound.

    Raises:
        TypeError: The value is not a real number; a bool does not count as one.
        ValueError: The value is not finite, or out of range.

    Examples:
        >>> number("eta", -1, minimum=0)
        Traceback (most recent call last):
        ValueError: eta = -1: expected a number of at least 0
        >>> number("gamma", 1.5, minimum=0, maximum=1)
        Traceback (most recent call last):
        ValueError: gamma = 1.5: expected a number from 0 to 1
    """
    if not isinstance(value, float | int | np.floating | np.integer) or isinstance(value, bool):
        raise TypeError(f"{name} = {value!r}: expected {_range(minimum, above, maximum, below)}")
    plain = float(value) if isinstance(value, np.floating) else value  # a float32 cannot be compared with LARGEST
    if (
        not -LARGEST <= plain <= LARGEST
        or (minimum is not None and plain < minimum)
        or (above is not None and plain <= above)
        or (maximum is not None and plain > maximum)
        or (below is not None and plain >= below)
    ):
        raise ValueError(f"{name} = {value}: expected {_range(minimum, above, maximum, below)}")
    return float(plain)


def choice(name: str, value: T, choices: Collection[T]) -> T:
    """``value``, one of ``choices``.

    Args:
        name: The argument's name, for the error.
        value: The argument.
        choices: The allowed values.

    Raises:
        ValueError: The value is not one of them.
    """
    if isinstance(value, ARRAYS) or value not in list(choices):  # a mapping would look up its hash, which it may lack
        raise ValueError(f"{name} = {value!r}: expected one of {', '.join(map(repr, choices))}")
    return value


def instance(name: str, value: Any, kind: type[T]) -> T:
    """``value``, an instance of ``kind``.

    Args:
        name: The argument's name, for the error.
        value: The argument.
        kind: The expected class, or a union of classes.

    Raises:
        TypeError: The value is not an instance of ``kind``, or is a class, such as ``kind`` itself.
    """
    if not isinstance(value, kind):
        expected = getattr(kind, "__name__", kind)  # a union has no name
        raise TypeError(f"{name} is a {type(value).__name__}: expected an instance of {expected}")
    if isinstance(value, type):  # a class has the methods of a protocol, too
        raise TypeError(f"{name} = {value.__name__}: expected an instance, as {value.__name__}() makes, not the class")
    return value


def generator(value: Any, name: str = "generator") -> torch.Generator:
    """``value``, a ``torch.Generator``; raise TypeError if it is not one."""
    if not isinstance(value, torch.Generator):
        raise TypeError(f"{name} = {value!r}: expected a torch.Generator")
    return value


def tensor(name: str, value: Any, shape: tuple[int | str, ...], like: Tensor) -> Tensor:
    """``value``, a tensor of this shape with the dtype and device of ``like``.

    Args:
        name: The tensor's name, for the error.
        value: The tensor.
        shape: For each axis its size, or a name if any size will do.
        like: A tensor of the expected dtype and device.

    Raises:
        TypeError: The value is not a tensor.
        ValueError: It has the wrong shape, dtype or device.
    """
    instance(name, value, Tensor)
    has_shape(name, value.shape, shape)
    if value.dtype != like.dtype:
        raise ValueError(f"{name}.dtype = {value.dtype}: expected {like.dtype}, as the parameters have")
    if value.device != like.device:
        raise ValueError(f"{name}.device = {value.device}: expected {like.device}, where the parameters are")
    return value  # type: ignore[no-any-return]


def widened(value: Tensor) -> Tensor:
    """A tensor of half precision (float16 or bfloat16) in single precision; any other unchanged."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def as_array(value: Any) -> Any:
    """A tensor as an array, ``widened``, since NumPy has no bfloat16; masked numbers as NaN; all else unchanged.

    Raises:
        TypeError: What is masked is not a number.
    """
    if has_masked(value):
        if isinstance(value, dict):
            return {key: as_array(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [as_array(part) for part in value]
        if not hasattr(value, "mask"):  # a cell array
            return np.array([*map(as_array, value.flat), None], dtype=object)[:-1].reshape(value.shape)
        if value.dtype.kind not in "biufc":
            raise TypeError(f"a masked array of dtype {value.dtype}: expected one in which nothing is masked")
        return value.astype(np.result_type(value.dtype, np.float64)).filled(np.nan)
    return widened(value.detach().cpu()).numpy() if isinstance(value, Tensor) else value


def array(name: str, value: Any, shape: tuple[int | str, ...], dtype: Any = np.float64) -> np.ndarray:
    """``value`` as a finite array of this shape.

    Args:
        name: The argument's name, for the error.
        value: An array, a tensor, or nested lists of numbers.
        shape: For each axis its size, or a name if any size will do.
        dtype: The dtype to convert to.

    Raises:
        ValueError: The value does not consist of numbers, has the wrong shape, or is not finite; or an integer
            ``dtype`` cannot represent one of the numbers.
    """
    try:
        numbers = np.asarray(as_array(value))
    except ValueError:  # ragged
        numbers = np.asarray(None)
    if numbers.dtype.kind not in "biuf":
        raise ValueError(f"{name} = {value!r}: expected numbers of shape ({', '.join(map(str, shape))})")
    with np.errstate(invalid="ignore"):  # a number that does not fit is rejected below
        converted = numbers.astype(dtype)
    has_shape(name, converted.shape, shape)
    if converted.dtype.kind in "iu" and converted.dtype != numbers.dtype:
        finite(name, numbers)
        for index in np.argwhere(converted != numbers)[:1].tolist():
            value = numbers[tuple(index)]
            raise ValueError(f"{name}{index or ''} = {value}: expected an integer, of {converted.dtype}")
    finite(name, converted)
    return converted


def labels(name: str, value: Any, count: int, each: str) -> list[Any]:
    """``value`` as a list of labels, of which none is missing: two missing ones are neither the same nor different.

    Args:
        name: The argument's name, for the error.
        value: A list, tuple, array, tensor, or a column of a table.
        count: Expected number of labels.
        each: What each label belongs to, for the error.

    Raises:
        ValueError: There are more or fewer labels; or one is missing: None, NaN, NaT, masked, an empty text, or the
            text that NumPy and pandas write for these.

    Examples:
        >>> labels("groups", ["a", "b", "a"], 3, "session")
        ['a', 'b', 'a']
    """
    found = list(as_array(value)) if isinstance(value, Tensor) else list(value)
    if len(found) != count:
        raise ValueError(f"{name} has {len(found)} labels: expected {count}, one for each {each}")
    for index, label in enumerate(found):
        if _is_missing(label):
            text = repr(str(label)) if isinstance(label, str) else str(label)
            raise ValueError(f"{name}[{index}] = {text}: expected a label for each {each}, but this one is missing")
    return found


def _is_missing(label: Any) -> bool:
    ma = sys.modules.get("numpy.ma")
    if label is None or (ma is not None and label is ma.masked):
        return True
    if isinstance(label, str):
        return label.strip() in {"", "nan", "NaN", "NaT", "<NA>"}
    if isinstance(label, tuple):
        return any(map(_is_missing, label))
    try:
        return bool(label != label)  # noqa: PLR0124  # true of NaN and NaT alone
    except (TypeError, ValueError):  # of pandas.NA neither is true; an array is no label, but unhashable anyway
        return type(label).__name__ == "NAType"


def finite(name: str, value: np.ndarray | Tensor, axes: tuple[str, ...] = ()) -> None:
    """Raise ValueError if a number is not finite, and TypeError if an array does not contain numbers.

    Args:
        name: The argument's name, for the error.
        value: An array or a tensor; a tensor whose numbers cannot be read (while compiling, under a ``torch.func``
            transform, or on the meta device) is not checked.
        axes: Names of its axes, for the error, which gives the position of the first wrong number.
    """
    if isinstance(value, Tensor):
        if not readable(value):
            return
        if value.requires_grad:
            value = value.detach()
        # The sum of finite numbers may overflow, but a sum with a NaN or infinity is never finite.
        if cmath.isfinite(_sum(value)):
            return
        wrong = (~value.isfinite()).nonzero().cpu().numpy()
    elif value.dtype.kind not in "biufc":
        raise TypeError(f"{name}.dtype = {value.dtype}: expected numbers")
    else:
        wrong = np.argwhere(~np.isfinite(value))
    if not len(wrong):
        return
    position = tuple(int(index) for index in wrong[0])
    if axes:
        coordinates = ", ".join(f"{axis}={index}" for axis, index in zip(axes, position, strict=True))
        raise ValueError(f"{name} at ({coordinates}) is {value[position]}: expected a finite number")
    number = value[position]
    infinity = "minus infinity (-inf)" if number == -math.inf else "infinity (inf)"
    kind = "NaN" if cmath.isnan(number) else infinity
    raise ValueError(f"{name}{list(position) if position else ''} is {kind}: expected finite numbers")


def _sum(value: Tensor) -> complex:
    if value.numel() < SPLIT:
        return value.sum().item()
    with single_threaded():  # a sum is cheap if it does not wait for other threads
        return value.sum().item()


def readable(value: Tensor) -> bool:
    """Whether the numbers can be read: not while compiling, under a ``torch.func`` transform, or on the meta device."""
    return not torch.compiler.is_compiling() and not value.is_meta and torch.func.debug_unwrap(value) is value


def has_shape(name: str, actual: tuple[int, ...], shape: tuple[int | str, ...]) -> None:
    """Raise ValueError unless each axis has the expected size.

    Args:
        name: The argument's name, for the error.
        actual: Its shape.
        shape: For each axis its size, or a name if any size will do.
    """
    if not isinstance(shape, tuple):
        raise TypeError(f"shape = {shape!r}: expected a tuple")
    if actual == shape:
        return
    fits = len(actual) == len(shape)
    for length, expected in zip(actual, shape, strict=fits):
        fits = fits and (length == expected or not isinstance(expected, int))
    if not fits:
        raise ValueError(f"{name}.shape = {tuple(actual)}: expected ({', '.join(map(str, shape))})")


def _range(minimum: float | None, above: float | None, maximum: float | None, below: float | None) -> str:
    """The range of allowed numbers in words."""
    low = f"from {minimum}" if minimum is not None else f"above {above}" if above is not None else ""
    high = f"{maximum}" if maximum is not None else f"below {below}" if below is not None else ""
    if low and high:
        return f"a number {low}{', at most' if above is not None and maximum is not None else ' to'} {high}"
    if low:
        return f"a number {low}" if minimum is None else f"a number of at least {minimum}"
    return f"a number of at most {high}" if maximum is not None else f"a number {high}" if high else "a finite number"
