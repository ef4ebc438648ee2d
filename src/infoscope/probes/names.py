"""What scores and variants are called, in tables and figures."""

from __future__ import annotations

RANDOM = "minus random of equal "
# Scores that are shares are printed in per cent, as papers do.
SHARES = ("top-1", "top-5", "mIoU", "pixel accuracy", "class accuracy", "delta1", "delta2", "delta3")


def titled(metric: str) -> str:
    """A metric with its unit.

    Example:
        >>> titled("mIoU"), titled("RMSE"), titled("abs-rel")
        ('mIoU, %', 'RMSE, m', 'abs-rel')
    """
    return f"{metric}, %" if metric in SHARES else f"{metric}, m" if metric == "RMSE" else metric


def short_name(name: str, draws: int = 1) -> str:
    """A variant's name in a table, where random controls stand under the group they match.

    Example:
        >>> short_name("minus random of equal mass as global", 5)
        '  random, equal mass (5)'
        >>> short_name("minus global")
        'minus global'
    """
    if name.startswith(RANDOM):
        name = f"  random, equal {name.removeprefix(RANDOM).split(' ', 1)[0]}"
    return f"{name} ({draws})" if draws > 1 else name
