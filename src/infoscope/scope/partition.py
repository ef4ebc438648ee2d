"""The partition of features into low-CDS and high-CDS ones by a threshold (method, section 5).

The continuous spectrum is the primary result. Where it has one mode, a threshold is a convention and says so. Local and
global are words for the classes (`infoscope.scope.classes`), which rest on more than CDS and divide the features
differently.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt32

from infoscope.errors import InfoscopeError, check_choice
from infoscope.options import PartitionMethod, ThresholdKind
from infoscope.scope.modes import Evidence, estimate_density, fit_mixtures, gather_evidence

# Of what `Partition.to_json` gives. Version 1 had no such entry, and called its counts local and global.
FORMAT_VERSION = 2

_METHOD_NAMES = {
    "otsu": "Otsu",
    "mixture": "crossing of two Gaussians",
    "quantile": "quantile",
    "value": "given",
}


@dataclass(frozen=True)
class Partition:
    """Features with a low and with a high CDS.

    Attributes:
        method: the method asked for.
        kind: ``valley`` where the threshold is a true valley of the density of a spectrum with more than one mode;
            else ``convention``. A ``convention`` of method ``valley`` is Otsu's threshold.
        threshold: gamma; a CDS up to it is low, above it high.
        low_cds: features with a CDS up to the threshold, ascending.
        high_cds: features with a CDS above it, ascending.
        unscored: features without a CDS, ascending.
        evidence: the evidence for and against more than one mode.
    """

    method: PartitionMethod
    kind: ThresholdKind
    threshold: float
    low_cds: UInt32[np.ndarray, " low"]
    high_cds: UInt32[np.ndarray, " high"]
    unscored: UInt32[np.ndarray, " unscored"]
    evidence: Evidence

    @property
    def local(self) -> UInt32[np.ndarray, " low"]:
        """Deprecated: `low_cds`."""
        return self._renamed("local", "low_cds")

    @property
    def global_(self) -> UInt32[np.ndarray, " high"]:
        """Deprecated: `high_cds`."""
        return self._renamed("global_", "high_cds")

    def _renamed(self, old: str, new: str) -> UInt32[np.ndarray, " feature"]:
        warnings.warn(
            f"Partition.{old} is now Partition.{new}, and the old name goes in the next version: local and global are "
            "the classes of scope_class, which are other features",
            DeprecationWarning,
            stacklevel=3,
        )
        features: UInt32[np.ndarray, " feature"] = getattr(self, new)
        return features

    def sentence(self) -> str:
        """How many modes the spectrum has and what that makes of the threshold, for a terminal or a page.

        Example:
            >>> print(partition(np.random.default_rng(0).gamma(2.0, 0.05, 1000)).sentence())
            One mode (dip 0.0085, p = 0.95): the spectrum is continuous and the threshold 0.128 (Otsu) is a convention.
        """
        evidence = self.evidence
        threshold = f"the threshold {self.threshold:.3f}"
        if self.kind == "valley":
            threshold += " is the lowest point between the two highest modes."
        else:
            used = "otsu" if self.method == "valley" else self.method
            threshold += f" ({_METHOD_NAMES[used]}) is a convention."
        if math.isnan(evidence.dip):
            scored = len(self.low_cds) + len(self.high_cds)
            return f"Too few scored features ({scored}) to tell how many modes the spectrum has: {threshold}"
        p = "p < 0.001" if evidence.dip_p < 0.001 else f"p = {evidence.dip_p:.2g}"
        dip = f"(dip {evidence.dip:.4f}, {p})"
        if evidence.one_mode:
            return f"One mode {dip}: the spectrum is continuous and {threshold}"
        if evidence.modes == 1:
            return f"More than one mode by the dip test {dip}, but the smoothed density has no valley: {threshold}"
        return f"More than one mode {dip}: {threshold}"

    def to_json(self) -> dict[str, Any]:
        """What ``partition.json`` holds; a number that is not defined is None.

        Example:
            >>> document = partition(np.array([0.1, 0.2, np.nan]), "value", value=0.15).to_json()
            >>> document["format_version"], document["threshold"], document["counts"], document["dip"]
            (2, 0.15, {'low_cds': 1, 'high_cds': 1, 'unscored': 1}, {'statistic': None, 'p': None})
        """
        evidence = self.evidence
        undefined = math.isnan(evidence.dip)
        return {
            "format_version": FORMAT_VERSION,
            "method": self.method,
            "kind": self.kind,
            "threshold": self.threshold,
            "counts": {
                "low_cds": len(self.low_cds),
                "high_cds": len(self.high_cds),
                "unscored": len(self.unscored),
            },
            "dip": {
                "statistic": None if undefined else evidence.dip,
                "p": None if undefined else evidence.dip_p,
            },
            "bic": list(evidence.bic),
            "mixture_modes": evidence.mixture_modes,
        }


def partition(
    cds: Float64[np.ndarray, " feature"],
    method: PartitionMethod = "valley",
    quantile: float | None = None,
    value: float | None = None,
) -> Partition:
    """Divide features into low-CDS and high-CDS ones.

    Args:
        cds: CDS of every feature, ``[feature]``; NaN where there is none.
        method: where the threshold comes from. ``valley``: the lowest point of the density between its two highest
            modes, if the dip test rejects one mode and there is such a point, else Otsu's. ``otsu``: least variance
            on both sides. ``mixture``: where two fitted Gaussians cross. ``quantile`` and ``value``: as
            given.
        quantile: share of the scored features that are low-CDS, for method ``quantile``.
        value: the threshold itself, for method ``value``.

    Raises:
        InfoscopeError: no feature has a CDS; the argument that the method needs is missing or out of range; a mixture
            cannot be fitted, or its components do not cross.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> result = partition(np.concatenate([rng.normal(0.1, 0.02, 500), rng.normal(0.4, 0.02, 500)]))
        >>> result.kind, len(result.low_cds), len(result.high_cds)
        ('valley', 500, 500)
    """
    check_choice("partition method", method, PartitionMethod)
    scored = ~np.isnan(cds)
    values = cds[scored]
    if not len(values):
        raise InfoscopeError(
            f"none of {len(cds)} features has a CDS, so there is nothing to divide: measure more images, "
            "or ask for fewer pairs with --min-pairs"
        )
    density = estimate_density(values)
    evidence = gather_evidence(values, density)
    valley = None if evidence.one_mode else density.valley()
    threshold = _threshold(values, valley, method, quantile, value)
    feature = np.arange(len(cds), dtype=np.uint32)
    with np.errstate(invalid="ignore"):
        low, high = cds <= threshold, cds > threshold
    return Partition(
        method=method,
        kind="valley" if method == "valley" and valley is not None else "convention",
        threshold=threshold,
        low_cds=feature[low],
        high_cds=feature[high],
        unscored=feature[~scored],
        evidence=evidence,
    )


def otsu_threshold(values: Float64[np.ndarray, " value"]) -> float:
    """Otsu's threshold: the cut of the sorted values with the largest variance between both sides (Otsu 1979).

    Every cut between two different values is tried, without a histogram, and the threshold lies halfway between them.
    Where all values are equal it is that value.

    Example:
        >>> otsu_threshold(np.array([0.4, 0.1, 0.1, 0.2, 0.5, 0.5]))
        0.30000000000000004
    """
    ordered = np.sort(values)
    if ordered[0] == ordered[-1]:
        return float(ordered[0])
    size = len(ordered)
    below = np.arange(1, size)
    # With the mean subtracted, the variance between the sides is s^2 / (below * above), s being the lower side's sum.
    lower_sum = np.cumsum(ordered - ordered.mean())[:-1]
    between = np.where(ordered[1:] > ordered[:-1], lower_sum**2 / (below * (size - below)), -1.0)
    cut = int(np.argmax(between))
    middle = 0.5 * (ordered[cut] + ordered[cut + 1])
    # Halfway between two neighbouring floats rounds to one of them.
    return float(middle if middle < ordered[cut + 1] else ordered[cut])


def mixture_crossing(values: Float64[np.ndarray, " value"]) -> float:
    """Where the upper of two fitted Gaussians becomes the denser one, going up from the lower one's mean.

    Raises:
        InfoscopeError: there are too few different values, or the lower component is never the denser one.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> round(mixture_crossing(np.concatenate([rng.normal(0.1, 0.02, 500), rng.normal(0.4, 0.02, 500)])), 2)
        0.25
    """
    fits = fit_mixtures(values)
    if len(fits) < 2:
        raise InfoscopeError(
            f"{len(np.unique(values))} different CDS values are too few for a mixture: choose another method, "
            "such as otsu"
        )
    weight, mean, variance = fits[1].weight, fits[1].mean, fits[1].deviation ** 2
    # The logarithm of the ratio of both densities is a quadratic in x.
    terms = np.array(
        [
            -0.5 / variance,
            mean / variance,
            np.log(weight) - 0.5 * np.log(variance) - 0.5 * mean**2 / variance,
        ]
    )
    ratio = terms[:, 0] - terms[:, 1]
    roots = np.roots(ratio)
    above = roots.real[(np.abs(roots.imag) < 1e-12) & (roots.real > mean[0])]
    if np.polyval(ratio, mean[0]) <= 0 or not len(above):
        raise InfoscopeError(
            "the two components of the mixture do not cross above the lower one's mean, so they give no threshold: "
            "choose another method, such as otsu"
        )
    return float(above.min())


def _threshold(
    values: Float64[np.ndarray, " value"],
    valley: float | None,
    method: PartitionMethod,
    quantile: float | None,
    value: float | None,
) -> float:
    if method == "valley" and valley is not None:
        return valley
    if method in ("valley", "otsu"):
        return otsu_threshold(values)
    if method == "mixture":
        return mixture_crossing(values)
    if method == "quantile":
        return float(np.quantile(values, _share("quantile", quantile)))
    return _share("value", value)


def _share(name: str, number: float | None) -> float:
    """The argument that a method needs, once it is known to be a share."""
    if number is None or not 0.0 <= number <= 1.0:
        raise InfoscopeError(f"partition method {name!r} needs {name} between 0 and 1, not {number}")
    return float(number)
