"""A metric's history as the SDK shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from acamkd_core.spec.errors import CoreError


@dataclass(frozen=True)
class Metric:
    """One series of one job. `y` holds None where the value was not finite; mIoU is in points (0 to 100)."""

    name: str
    job: str
    x_name: str
    x: list[float]
    y: list[float | None]

    @property
    def last(self) -> float | None:
        """The newest value."""
        return self.y[-1] if self.y else None

    def __len__(self) -> int:
        return len(self.x)

    def __iter__(self) -> Iterator[tuple[float, float | None]]:
        return iter(zip(self.x, self.y, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain data: `{"name", "job", <x's name>, "value"}`."""
        return {"name": self.name, "job": self.job, self.x_name: list(self.x), "value": list(self.y)}

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with one column, indexed by x. pandas is not a dependency; install it for this.

        Raises:
            CoreError: `install.missing`.
        """
        try:
            import pandas  # type: ignore[import-untyped, import-not-found, unused-ignore]
        except ModuleNotFoundError:
            raise CoreError(
                "install.missing", "to_pandas needs pandas, which is not installed", hint="pip install pandas"
            ) from None

        index = pandas.Index(self.x, name=self.x_name)
        return pandas.DataFrame({self.name: pandas.array(self.y, dtype="Float64")}, index=index)
