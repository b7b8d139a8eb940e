"""Reading JSON that somebody else wrote: one parser and one set of checks, so that a bad file gives one clear line."""

import json
import math
from collections.abc import Iterable

from ..errors import FedgateError


def canonical_json(value) -> str:
    """The one spelling of a JSON value: sorted keys, no spaces, ASCII. Refuses NaN and infinities."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise FedgateError(f"this cannot be written as JSON: {error}") from error


def parse_json(text: bytes | str, where: str):
    """Parse strict JSON; `where` names the source in errors.

    Stricter than `json.loads`: UTF-8 only, no NaN or infinity (also not as 1e999), no key twice in one object (two
    parsers could read two different files), no lone surrogates (they cannot be printed or hashed).
    """
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_unique_keys)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except RecursionError as error:
        raise FedgateError(f"{where} is not valid JSON: nested too deeply") from error
    except ValueError as error:
        raise FedgateError(f"{where} is not valid JSON: {error}") from error


def _no_constant(text):
    raise ValueError(f"{text} is not a number")


def _finite(text):
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


def _unique_keys(pairs):
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("an object has a key twice")
    return fields


class Fields:
    """A JSON object whose fields are read by type; each method raises `FedgateError` naming `where` and the key.

    Keys that nobody asks for are ignored, so that a later version may add some.
    """

    def __init__(self, value, where: str):
        if not isinstance(value, dict):
            raise FedgateError(f"{where} must be an object")
        self._value = value
        self._where = where

    def get(self, key: str):
        if key not in self._value:
            raise FedgateError(f"{self._where} has no '{key}'")
        return self._value[key]

    def refuse(self, key: str, must: str):
        """Raise: the field `key` is not what it must be."""
        raise FedgateError(f"{self._where}: '{key}' must be {must}")

    def text(self, key: str, limit: int = 200) -> str:
        """A printable string (escape sequences in a label would reach the reader's terminal)."""
        value = self.get(key)
        if not is_text(value, limit):
            self.refuse(key, f"a printable text of 1 to {limit} characters")
        return value

    def choice(self, key: str, known: Iterable[str]) -> str:
        value = self.get(key)
        if value not in tuple(known):
            self.refuse(key, f"one of {', '.join(known)}")
        return value

    def flag(self, key: str) -> bool:
        value = self.get(key)
        if not isinstance(value, bool):
            self.refuse(key, "true or false")
        return value

    def whole(self, key: str, low: int, high: int) -> int:
        value = self.get(key)
        if not is_whole(value, low, high):
            self.refuse(key, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, low: float, high: float) -> float:
        value = self.get(key)
        if not is_number(value, low, high):
            self.refuse(key, f"a number from {low:g} to {high:g}")
        return float(value)

    def items(self, key: str, low: int, high: int) -> list:
        value = self.get(key)
        if not isinstance(value, list) or not low <= len(value) <= high:
            self.refuse(key, f"a list of {low} to {high} items" if low != high else f"a list of {low} items")
        return value

    def wholes(self, key: str, lengths: tuple[int, int], low: int, high: int) -> tuple[int, ...]:
        value = self.items(key, *lengths)
        if not all(is_whole(item, low, high) for item in value):
            self.refuse(key, f"whole numbers from {low} to {high}")
        return tuple(value)

    def numbers(self, key: str, lengths: tuple[int, int], low: float, high: float) -> tuple[float, ...]:
        value = self.items(key, *lengths)
        if not all(is_number(item, low, high) for item in value):
            self.refuse(key, f"numbers from {low:g} to {high:g}")
        return tuple(float(item) for item in value)

    def sha256(self, key: str) -> str:
        value = self.get(key)
        if not (isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")):
            self.refuse(key, "a SHA-256 in 64 lower-case hexadecimal digits")
        return value


def is_text(value, limit: int = 200) -> bool:
    return isinstance(value, str) and 0 < len(value) <= limit and value.isprintable()


def is_whole(value, low: int, high: int) -> bool:
    """True for an int in range; JSON's true and false, which Python counts as ints, are none."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_number(value, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
