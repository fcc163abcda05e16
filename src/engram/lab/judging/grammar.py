"""Claims as text, read as the laboratory's own expressions.

    claim     = expression (">=" | "<=") number  |  expression "within" number "+-" number
    expression = term {("+" | "-") term}
    term      = factor {("*" | "/") factor}
    factor    = number  |  "-" factor  |  "(" expression ")"  |  metric "(" arm ")"
              | "share(" metric ["," trials] ")(" arm ")"  |  "met(" claim ")"
              | "median(" expression ")"  |  "abs(" expression ")"
              | ("min" | "max") "(" expression {"," expression} ")"

A metric is a name such as ``val/accuracy`` or a text in quotes; an arm is all up to the closing parenthesis, or a text
in quotes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from engram.lab.claims.measure import Condition, Criterion, Measure, maximum, met, metric, minimum, share

_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_NAME = re.compile(r"[^\W\d][\w./@%:-]*(?=\s*\()")
_BARE = re.compile(r"[^\s()<>=,+*]+")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_RELATION = re.compile(r">=|<=")


class ClaimError(ValueError):
    """A claim that is no claim, with the place where it stops being one."""

    def __init__(self, text: str, place: int, expected: str) -> None:
        pointer = " " * place + "^"
        super().__init__(f"claim = {text!r}: expected {expected} here:\n    {text}\n    {pointer}")
        self.place = place


@dataclass(frozen=True)
class Expression:
    """An expression as the laboratory's measure and, where its arms enter one by one, as their parts.

    Attributes:
        measure: The measure; it reads ``{arm: {metric: value}}``.
        metrics: The metrics that it reads.
        sum_of: The measures whose sum it is, by the one arm that each reads; None if it is no such sum.
        product_of: Those whose product it is, with their exponents 1 or -1; None if it is no quotient of arms.
        bare: For a metric of an arm alone, its name.
        rises: Whether a larger value of its first metric makes it larger.
    """

    measure: Measure
    metrics: tuple[str, ...] = ()
    sum_of: dict[str, Measure] | None = None
    product_of: tuple[tuple[Measure, int], ...] | None = None
    bare: str = ""
    rises: bool = True


@dataclass(frozen=True)
class ParsedClaim:
    """A claim that was read.

    Attributes:
        text: The claim as it was written, without spaces around it.
        expression: What it measures.
        condition: The laboratory's condition.
    """

    text: str
    expression: Expression
    condition: Condition

    @property
    def measure(self) -> Measure:
        """The measured quantity."""
        return self.condition.measure

    @property
    def criterion(self) -> Criterion:
        """The range that it must lie in."""
        return self.condition.criterion

    @property
    def formula(self) -> str:
        """The claim in one spelling, by which a ledger knows it again."""
        low, high = self.criterion.low, self.criterion.high
        return f"{self.measure.form} {self.measure.formula} in [{low!r}, {high!r}]"


def parse(text: str) -> ParsedClaim:
    """Read a claim.

    Args:
        text: The claim, as in ``accuracy(new) - accuracy(old) >= 0.01``.

    Raises:
        TypeError: It is no text.
        ClaimError: It is no claim; the message points at the place.

    Examples:
        >>> parse("loss(new) / loss(old) <= 0.95").measure.form
        'ratio'
    """
    if not isinstance(text, str):
        raise TypeError(f"claim = {text!r}: expected a text, as in 'accuracy(new) - accuracy(old) >= 0.01'")
    return _Reader(text.strip()).whole()


class _Reader:
    """Reads a claim from left to right."""

    def __init__(self, text: str) -> None:
        self.text, self.place = text, 0

    def whole(self) -> ParsedClaim:
        expression, condition = self.claim()
        if self.place < len(self.text):
            raise self.error("the end of the claim")
        return ParsedClaim(self.text, expression, condition)

    def claim(self) -> tuple[Expression, Condition]:
        expression = self.expression()
        if not expression.measure.arms:
            raise ClaimError(self.text, 0, "a metric of an arm, as in accuracy(new)")
        if relation := self.take(_RELATION):
            threshold = self.threshold(f"a number after {relation}; write a - b {relation} margin to compare arms")
            return expression, expression.measure >= threshold if relation == ">=" else expression.measure <= threshold
        if self.take(re.compile(r"within\b")):
            target = self.threshold("a number")
            if not self.take(re.compile(r"\+-|±|\+/-")):
                raise self.error("+- and a tolerance")
            return expression, expression.measure.within(
                target, self.threshold("a tolerance of at least 0", sign=False)
            )
        raise self.error("+, -, *, /, >=, <= or within, and a threshold")

    def expression(self) -> Expression:
        left = self.term()
        while sign := self.take(re.compile(r"\+(?!-|/-)|-")):
            left = _added(left, self.term(), sign)
        return left

    def term(self) -> Expression:
        left = self.factor()
        while sign := self.take(re.compile(r"[*/]")):
            place = self.place
            right = self.factor()
            if sign == "/" and not right.measure.arms and right.measure({}) == 0:
                raise ClaimError(self.text, place, "a number other than 0")
            left = _multiplied(left, right, sign)
        return left

    def factor(self) -> Expression:
        if number := self.take(_NUMBER):
            return _constant(float(number))
        if self.take(re.compile("-")):
            return _multiplied(_constant(-1.0), self.factor(), "*")
        if self.take(re.compile(r"\(")):
            inner = self.expression()
            self.close()
            return inner
        if quoted := self.take(_QUOTED):
            return self.of_arm(quoted[1:-1])
        if name := self.take(_NAME):
            return self.call(name)
        if self.peek(_BARE):
            raise self.error("a metric with its arm, as in accuracy(new)")
        raise self.error("a metric of an arm, as in accuracy(new), or a number")

    def call(self, name: str) -> Expression:
        if name in ("min", "max"):
            return self.extreme(minimum if name == "min" else maximum)
        if name == "share":
            return self.share()
        if name not in ("median", "abs", "met"):
            return self.of_arm(name)
        self.open()
        if name == "met":
            expression, condition = self.claim()
            self.close()
            measure = met(condition)
            return Expression(measure, expression.metrics, sum_of=_if_one_arm(measure))
        inner = self.expression()
        self.close()
        measure = inner.measure.median() if name == "median" else abs(inner.measure)
        return Expression(measure, inner.metrics, sum_of=_if_one_arm(measure), rises=inner.rises)

    def extreme(self, of: Callable[..., Measure]) -> Expression:
        self.open()
        parts = [self.expression()]
        while self.take(re.compile(",")):
            parts.append(self.expression())
        self.close()
        measure = of(*(part.measure for part in parts))
        metrics = tuple(dict.fromkeys(name for part in parts for name in part.metrics))
        return Expression(measure, metrics, sum_of=_if_one_arm(measure), rises=parts[0].rises)

    def share(self) -> Expression:
        self.open()
        key, trials = self.name("a metric"), ""
        if self.take(re.compile(",")):
            trials = self.take(_NUMBER) or self.name("the metric with the number of trials, or a number")
        self.close()
        arm = self.arm()
        # The table's share lies under a name of its own, beside the number of its trials.
        name = f"share({key}{f', {trials}' if trials else ''})"
        measure = share(name, f"trials of {name}" if trials else "")(arm)
        return Expression(measure, (name,), {arm: measure}, ((measure, 1),), bare=name)

    def of_arm(self, name: str) -> Expression:
        arm = self.arm()
        measure = metric(name)(arm)
        return Expression(measure, (name,), {arm: measure}, ((measure, 1),), bare=name)

    def arm(self) -> str:
        self.open()
        if quoted := self.take(_QUOTED):
            self.close()
            return quoted[1:-1]
        depth, start = 0, self.place
        for place in range(start, len(self.text)):
            depth += {"(": 1, ")": -1}.get(self.text[place], 0)
            if depth < 0:
                if not (arm := self.text[start:place].strip()):
                    break
                self.place = place + 1
                return arm
        raise self.error("the name of an arm and )")

    def name(self, what: str) -> str:
        if quoted := self.take(_QUOTED):
            return quoted[1:-1]
        if name := self.take(_BARE):
            return name
        raise self.error(what)

    def threshold(self, what: str, *, sign: bool = True) -> float:
        minus = self.take(re.compile(r"[+-]")) if sign else ""
        number = self.take(_NUMBER)
        if not number:
            raise self.error(what)
        if self.peek(re.compile("%")):
            raise self.error("a number without %, in the unit of the metric")
        return -float(number) if minus == "-" else float(number)

    def open(self) -> None:
        if not self.take(re.compile(r"\(")):
            raise self.error("(")

    def close(self) -> None:
        if not self.take(re.compile(r"\)")):
            raise self.error(")")

    def peek(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        self.place += len(self.text[self.place :]) - len(self.text[self.place :].lstrip())
        return pattern.match(self.text, self.place)

    def take(self, pattern: re.Pattern[str]) -> str:
        found = self.peek(pattern)
        self.place = found.end() if found else self.place
        return found[0] if found else ""

    def error(self, expected: str) -> ClaimError:
        return ClaimError(self.text, self.place, expected)


def _constant(value: float) -> Expression:
    return Expression(Measure(lambda results: value, (), formula=f"{value:g}"))


def _number(expression: Expression) -> float | None:
    return None if expression.measure.arms else float(expression.measure({}))


def _plain(expression: Expression) -> Measure | float:
    """A measure, or the number that it is: the laboratory treats ratios of measures and of numbers differently."""
    number = _number(expression)
    return expression.measure if number is None else number


def _added(left: Expression, right: Expression, sign: str) -> Expression:
    if (a := _number(left)) is not None and (b := _number(right)) is not None:
        return _constant(a + b if sign == "+" else a - b)
    x, y = _plain(left), _plain(right)
    measure = x + y if sign == "+" else x - y
    sums = _merged(left, right, sign)
    rises = left.rises if left.metrics else right.rises == (sign == "+")
    return Expression(measure, tuple(dict.fromkeys(left.metrics + right.metrics)), sums, rises=rises)  # type: ignore[arg-type]


def _merged(left: Expression, right: Expression, sign: str) -> dict[str, Measure] | None:
    if (number := _number(right)) is not None:
        return _with_number(left.sum_of, number if sign == "+" else -number)
    if (number := _number(left)) is not None:
        terms = right.sum_of and {arm: part if sign == "+" else -1 * part for arm, part in right.sum_of.items()}
        return _with_number(terms, number)
    if left.sum_of is None or right.sum_of is None:
        return None
    terms = dict(left.sum_of)
    for arm, part in right.sum_of.items():
        if arm in terms:
            terms[arm] = terms[arm] + part if sign == "+" else terms[arm] - part
        else:
            terms[arm] = part if sign == "+" else -1 * part
    return terms


def _with_number(terms: dict[str, Measure] | None, number: float) -> dict[str, Measure] | None:
    if not terms:
        return None
    first = next(iter(terms))
    return {**terms, first: terms[first] + number}


def _multiplied(left: Expression, right: Expression, sign: str) -> Expression:
    a, b = _number(left), _number(right)
    if a is not None and b is not None:
        return _constant(a * b if sign == "*" else a / b)
    x, y = _plain(left), _plain(right)
    measure = x * y if sign == "*" else x / y
    whole = Expression(measure, tuple(dict.fromkeys(left.metrics + right.metrics)))  # type: ignore[arg-type]
    first, other = (left, b) if b is not None else (right, a)
    if other is not None and (sign == "*" or b is not None):
        factor = other if sign == "*" else 1 / other
        sums = first.sum_of and {arm: factor * part for arm, part in first.sum_of.items()}
        products = first.product_of and (
            (factor * first.product_of[0][0], first.product_of[0][1]),
            *first.product_of[1:],
        )
        return replace(whole, sum_of=sums, product_of=products, rises=first.rises == (factor > 0))
    if a is None and b is None and left.product_of and right.product_of:
        turned = tuple((part, -power if sign == "/" else power) for part, power in right.product_of)
        whole = replace(whole, product_of=left.product_of + turned, rises=left.rises)
    return replace(whole, sum_of=_if_one_arm(whole.measure))


def _if_one_arm(measure: Measure) -> dict[str, Measure] | None:
    return {measure.arms[0]: measure} if len(measure.arms) == 1 else None
