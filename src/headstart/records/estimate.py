"""A number that knows how sure it is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A value with its interval.

    level: coverage of [low, high], e.g. 0.95.  n: examples (or pairs) the value was measured on.
    NaN where the value is not defined, e.g. the recall of a class without test examples; prints as '–'.
    """

    value: float
    low: float
    high: float
    n: int
    level: float = 0.95

    def __str__(self) -> str:
        if self.value != self.value:
            return "–"
        if self.low != self.low:
            return f"{self.value:.3f}, n = {self.n}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}], n = {self.n}"

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0
