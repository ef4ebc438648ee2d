"""The ground distances, by name; apart from what computes them, so that naming one loads nothing."""

from typing import Literal

Metric = Literal["euclidean", "l1"]
