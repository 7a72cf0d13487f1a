"""A calculator: arithmetic on numbers and nothing else, within bounds that keep it quick."""

import ast
import math
import operator
import statistics
from collections.abc import Callable
from typing import Any

import simpleeval

from tools.core.function import function

MAX_LENGTH = 1_000
# Python refuses to print integers of more than 4,300 digits; nobody reads that many either.
MAX_BITS = 13_000
MAX_FACTORIAL = 1_000

_ALLOWED_NODES = (
    ast.Expr, ast.Constant, ast.Name, ast.Call, ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp,
)  # fmt: skip
# People and models write these; Python does not read them. There are no strings in which they could mean themselves.
_SPELLINGS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "^": "**", "π": "pi"})


@function(effect="read")
def calculate(expression: str) -> dict[str, Any]:
    """Work out an arithmetic expression exactly, instead of guessing. Use it for every calculation.

    Operators: + - * / // % ** (also ^) and comparisons. Constants: pi, e, tau.
    Functions: abs, round, floor, ceil, sqrt, cbrt, exp, log(x, base), log2, log10, sin, cos, tan, asin, acos, atan,
    atan2, sinh, cosh, tanh, degrees, radians, hypot, factorial, comb, perm, gcd, lcm, min, max, sum, mean, median,
    stdev. Angles are in radians. Functions of several values take them one after the other: mean(1, 2, 3).

    Args:
        expression: The expression, with numbers only and no units, such as "(3 + 4) * 2 ** 8" or "sqrt(2) / 3".
    """
    if len(expression) > MAX_LENGTH:
        raise ValueError(f"The expression is longer than {MAX_LENGTH} characters. Calculate it in parts.")
    try:
        result = _evaluate(expression.translate(_SPELLINGS).strip())
    except ZeroDivisionError:
        raise ValueError("Division by zero: the expression has no value.") from None
    except OverflowError:
        raise ValueError("The result is too large to be worked out.") from None
    except RecursionError:
        raise ValueError("The expression is nested too deeply. Calculate it in parts.") from None
    except SyntaxError as error:
        raise ValueError(f"{expression!r} is not an arithmetic expression ({error.msg}).") from None
    except TypeError as error:
        raise ValueError(f"A function or operator got values that it cannot take: {error}.") from None
    except simpleeval.FunctionNotDefined as error:
        raise ValueError(f"There is no function {error.func_name!r}. There are: {', '.join(_FUNCTIONS)}.") from None
    except simpleeval.NameNotDefined as error:
        raise ValueError(f"There is no value {error.name!r}. Put numbers into the expression.") from None
    except KeyError:  # simpleeval's way to say that it lacks a comparison.
        raise ValueError("The calculator compares with == != < <= > >= only.") from None
    except simpleeval.InvalidExpression as error:
        raise ValueError(f"The calculator cannot do that: {error}") from None
    return {"expression": expression, "result": result}


def _evaluate(expression: str) -> int | float | bool:
    tree = ast.parse(expression, mode="eval").body
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and (
            isinstance(node.value, str | bytes | complex) or node.value is None or node.value is ...
        ):
            raise simpleeval.FeatureNotAvailable(f"{node.value!r} is not a number.")
    evaluator = simpleeval.SimpleEval(operators=_OPERATORS, functions=_FUNCTIONS, names=_NAMES)
    evaluator.nodes = {kind: handler for kind, handler in evaluator.nodes.items() if kind in _ALLOWED_NODES}
    result = _bounded(evaluator.eval(expression, previously_parsed=tree))
    # Fifteen digits are what a float holds for certain: 0.1 + 0.2 is 0.3 and not 0.30000000000000004.
    return float(f"{result:.15g}") if isinstance(result, float) else result


def _bounded(value: Any) -> Any:
    """`value` if it is a real, finite number of a size that can be shown."""
    if isinstance(value, complex):
        raise ValueError("The result is not a real number.")
    if not isinstance(value, int | float):
        raise ValueError("The result is not a number.")
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise OverflowError
    if isinstance(value, float) and not math.isfinite(value):
        raise OverflowError
    return value


def _power(base: Any, exponent: Any) -> Any:
    whole = isinstance(base, int) and isinstance(exponent, int)
    if whole and abs(base) > 1 and (exponent - 1) * (base.bit_length() - 1) > MAX_BITS:
        raise OverflowError  # Known before the work is done, as 9**9**9 would not end.
    return base**exponent


def _factorial(number: Any) -> int:
    if number > MAX_FACTORIAL:
        raise OverflowError
    return math.factorial(int(number) if number == int(number) else number)


def _choices(count: Callable[[int, int], int]) -> Callable[[int, int], int]:
    """Bounded `comb` and `perm`: the work grows with the smaller number, the result with both."""

    def bounded(n: int, k: int) -> int:
        if n > 10**6 or k > MAX_FACTORIAL:
            raise OverflowError
        return count(n, k)

    return bounded


def _checked(call: Callable[..., Any]) -> Callable[..., Any]:
    """`call` on values and with a result that are within bounds."""

    def checked(*values: Any) -> Any:
        try:
            return _bounded(call(*values))
        except ValueError as error:
            if str(error) != "math domain error":
                raise
            raise ValueError(
                f"{getattr(call, '__name__', 'A function')} has no real value for {', '.join(map(str, values))}."
            ) from None

    return checked


def _mean(*values: float) -> float:
    return statistics.fmean(values)


def _median(*values: float) -> float:
    return statistics.median(values)


def _stdev(*values: float) -> float:
    return statistics.stdev(values)


def _sum(*values: float) -> float:
    return sum(values)


def _largest(*values: float) -> float:
    return max(values)


def _smallest(*values: float) -> float:
    return min(values)


_NAMES = {"pi": math.pi, "e": math.e, "tau": math.tau, "True": True, "False": False}
_OPERATORS = {
    kind: _checked(call)
    for kind, call in (
        (ast.Add, operator.add),
        (ast.Sub, operator.sub),
        (ast.Mult, operator.mul),
        (ast.Div, operator.truediv),
        (ast.FloorDiv, operator.floordiv),
        (ast.Mod, operator.mod),
        (ast.Pow, _power),
        (ast.USub, operator.neg),
        (ast.UAdd, operator.pos),
        (ast.Not, operator.not_),
        (ast.Eq, operator.eq),
        (ast.NotEq, operator.ne),
        (ast.Lt, operator.lt),
        (ast.LtE, operator.le),
        (ast.Gt, operator.gt),
        (ast.GtE, operator.ge),
    )
}
_FROM_MATH = (
    "floor", "ceil", "sqrt", "cbrt", "exp", "log", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "atan",
    "atan2", "sinh", "cosh", "tanh", "degrees", "radians", "hypot", "gcd", "lcm",
)  # fmt: skip
_OWN: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "round": round,
    "factorial": _factorial,
    "comb": _choices(math.comb),
    "perm": _choices(math.perm),
    "min": _smallest,
    "max": _largest,
    "sum": _sum,
    "mean": _mean,
    "median": _median,
    "stdev": _stdev,
}
_FUNCTIONS = {
    name: _checked(call) for name, call in {**{name: getattr(math, name) for name in _FROM_MATH}, **_OWN}.items()
}
