"""How many modes a spectrum of CDS has: its density, Hartigan's dip test, and Gaussian mixtures (method, section 5).

The dip test alone is evidence of more than one mode. The mixtures describe the shape: on one skewed mode BIC prefers
several components, so the number of modes of the mixture it prefers is always given beside it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

SIGNIFICANCE = 0.05
"""The dip test rejects one mode below this p-value."""

# Bins of the density per bandwidth: at this number, binning moves the curve by about 1e-4 of itself.
_BINS = 32
# A bandwidth is at least this share of the largest value, for spectra in which nearly all values are equal.
_LEAST_BANDWIDTH = 1e-4
# A bump is a mode where it stands above its saddle by this many standard errors of the density.
_STANDARD_ERRORS = 3.0
# The dip of fewer values is not defined.
_DIP_VALUES = 4
_MOST_COMPONENTS = 4
# Different values that a mixture needs for each of its components.
_VALUES_PER_COMPONENT = 4
# Most order statistics that a mixture is fitted to; 65,536 values would take ten times as long for the same curve.
_MOST_FITTED = 8192


@dataclass(frozen=True)
class Density:
    """A density of values >= 0 on an even grid.

    Attributes:
        x: points, ``[point]``, ascending from 0.
        value: density at each point.
        bandwidth: standard deviation of the kernel.
        size: number of values it was estimated from.
    """

    x: Float64[np.ndarray, " point"]
    value: Float64[np.ndarray, " point"]
    bandwidth: float
    size: int

    def modes(self) -> Int64[np.ndarray, " mode"]:
        """Positions of the modes in ``x``, ascending; the highest is always among them.

        A lower bump counts where it stands above its saddle by three standard errors of the density, whose variance is
        f / (2 sqrt(pi) n h) (Silverman 1986, section 3.3). Fewer than seven values alone in a tail thus make no mode.
        """
        from scipy.signal import find_peaks

        # Mirrored at 0, as the estimate is, so that a mode at 0 is an inner one: a plateau of the two middle points.
        points = len(self.x)
        mirrored = np.concatenate([self.value[::-1], self.value])
        peaks, properties = find_peaks(mirrored, prominence=0.0)
        height = mirrored[peaks]
        error = np.sqrt(height / (2.0 * np.sqrt(np.pi) * self.size * self.bandwidth))
        clear = (properties["prominences"] > _STANDARD_ERRORS * error) | (height == height.max())
        modes: Int64[np.ndarray, " mode"] = np.maximum(peaks[clear & (peaks >= points - 1)] - points, 0)
        return modes

    def valley(self) -> float | None:
        """Where the density is lowest between its two highest modes; None with one mode.

        Example:
            >>> rng = np.random.default_rng(0)
            >>> values = np.concatenate([rng.normal(0.1, 0.02, 500), rng.normal(0.4, 0.02, 500)])
            >>> round(estimate_density(values).valley(), 1)
            0.2
        """
        modes = self.modes()
        if len(modes) < 2:
            return None
        highest = modes[np.argsort(self.value[modes], kind="stable")[-2:]]
        between = np.arange(highest.min(), highest.max() + 1)
        lowest = between[self.value[between] == self.value[between].min()]
        # Where there is a gap with no density at all, its middle.
        return float(self.x[lowest].mean())


def estimate_density(values: Float64[np.ndarray, " value"]) -> Density:
    """Gaussian kernel density of values >= 0, reflected at 0 so that no mass leaks below.

    The bandwidth is Silverman's 0.9 min(standard deviation, interquartile range / 1.34) n^(-1/5) (Density Estimation,
    1986, equation 3.31), whose second term keeps a long tail from widening the bandwidth until the modes merge.

    Args:
        values: at least one, finite.

    Example:
        >>> density = estimate_density(np.array([0.0, 0.1, 0.1, 0.2]))
        >>> round(float(density.value.sum() * (density.x[1] - density.x[0])), 3)
        1.0
    """
    from scipy.ndimage import gaussian_filter1d

    lower, upper = np.quantile(values, [0.25, 0.75])
    scales = [scale for scale in (float(values.std()), float(upper - lower) / 1.34) if scale > 0.0]
    top = float(values.max())
    bandwidth = max(0.9 * min(scales, default=0.0) * len(values) ** -0.2, _LEAST_BANDWIDTH * (top or 1.0))
    width = bandwidth / _BINS
    bins = int(np.ceil((top + 8.0 * bandwidth) / width))
    counts = np.bincount((values / width).astype(np.int64), minlength=bins).astype(np.float64)
    # The filter's `reflect` mirrors at the edge of the first bin, which is 0.
    smooth = gaussian_filter1d(counts, bandwidth / width, mode="reflect", truncate=8.0)
    return Density((np.arange(bins) + 0.5) * width, smooth / (len(values) * width), bandwidth, len(values))


def dip_test(values: Float64[np.ndarray, " value"]) -> tuple[float, float]:
    """Hartigan's dip statistic and its p-value under one mode (Hartigan and Hartigan 1985).

    Values are taken as continuous: a spectrum on a coarse lattice, such as that of features which fire on a single
    patch, counts each lattice point as a mode. Fewer than four values give NaN for both.

    Example:
        >>> dip, p = dip_test(np.array([0.1, 0.11, 0.12, 0.13, 0.14, 0.6, 0.61, 0.62, 0.63, 0.64]))
        >>> round(dip, 3), p < 0.05
        (0.23, True)
    """
    if len(values) < _DIP_VALUES:
        return float("nan"), float("nan")
    import diptest

    with warnings.catch_warnings():
        # Above 72,000 values diptest scales its largest table by sqrt(n), as the statistic itself does in the limit.
        warnings.filterwarnings("ignore", message="Sample size exceeds")
        dip, p = diptest.diptest(np.ascontiguousarray(values))
    return float(dip), float(p)


@dataclass(frozen=True)
class Mixture:
    """A mixture of Gaussians, components by ascending mean.

    Attributes:
        weight: share of each component, ``[component]``.
        mean: its mean.
        deviation: its standard deviation.
        bic: Bayesian information criterion of the fit; lower is better.
    """

    weight: Float64[np.ndarray, " component"]
    mean: Float64[np.ndarray, " component"]
    deviation: Float64[np.ndarray, " component"]
    bic: float

    def density(self, x: Float64[np.ndarray, " point"]) -> Float64[np.ndarray, " point"]:
        """The mixture's density at each point."""
        z = (x[:, None] - self.mean) / self.deviation
        total: Float64[np.ndarray, " point"] = (
            self.weight / (self.deviation * np.sqrt(2.0 * np.pi)) * np.exp(-0.5 * z * z)
        ).sum(axis=1)
        return total

    def modes(self) -> int:
        """Number of maxima of the density, on a grid that resolves every component.

        Example:
            >>> far = Mixture(np.array([0.5, 0.5]), np.array([0.1, 0.5]), np.array([0.1, 0.1]), bic=0.0)
            >>> near = Mixture(np.array([0.5, 0.5]), np.array([0.1, 0.2]), np.array([0.1, 0.1]), bic=0.0)
            >>> far.modes(), near.modes()
            (2, 1)
        """
        # All maxima lie between the outer means (Carreira-Perpinan and Williams 2003).
        steps = np.linspace(-5.0, 5.0, 501)
        x = np.unique(self.mean[:, None] + self.deviation[:, None] * steps)
        density = self.density(x)
        rising = np.diff(density)
        rising = rising[np.abs(rising) > 1e-12 * density.max()] > 0
        return int(np.count_nonzero(rising[:-1] & ~rising[1:]))


def fit_mixtures(values: Float64[np.ndarray, " value"]) -> tuple[Mixture, ...]:
    """Gaussian mixtures of one to four components, by expectation maximisation.

    Each fit starts from the values cut into equal shares, so that nothing is random. Above 8,192 values, mixtures are
    fitted to that many evenly spaced order statistics; BIC is of all values either way. Fewer components are tried
    where there are fewer than four different values per component, and none where all values are equal.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> values = np.concatenate([rng.normal(0.1, 0.02, 500), rng.normal(0.4, 0.02, 500)])
        >>> [round(float(mean), 1) for mean in fit_mixtures(values)[1].mean]
        [0.1, 0.4]
    """
    different = len(np.unique(values))
    if different < 2:
        return ()
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    # Standardised, so that the lower limit on a component's variance means the same for every spectrum.
    centre, scale = values.mean(), values.std()
    z = np.sort((values - centre) / scale)
    fitted = z if len(z) <= _MOST_FITTED else z[np.linspace(0, len(z) - 1, _MOST_FITTED).round().astype(np.int64)]
    fits = []
    for components in range(1, min(_MOST_COMPONENTS, max(1, different // _VALUES_PER_COMPONENT)) + 1):
        shares = np.array_split(fitted, components)
        model = GaussianMixture(
            components,
            weights_init=np.full(components, 1.0 / components),
            means_init=np.array([[share.mean()] for share in shares]),
            precisions_init=np.array([[[1.0 / max(share.var(), 1e-3)]] for share in shares]),
            max_iter=500,
            tol=1e-5,
        )
        with warnings.catch_warnings():
            # After 500 steps, what is left to gain is far below any difference in BIC worth reporting.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(fitted[:, None])
        order = np.argsort(model.means_[:, 0])
        fits.append(
            Mixture(
                weight=model.weights_[order],
                mean=model.means_[order, 0] * scale + centre,
                deviation=np.sqrt(model.covariances_[order, 0, 0]) * scale,
                bic=float(model.bic(z[:, None]) + 2.0 * len(z) * np.log(scale)),
            )
        )
    return tuple(fits)


@dataclass(frozen=True)
class Evidence:
    """The evidence for and against more than one mode.

    Attributes:
        dip: Hartigan's dip statistic; NaN with fewer than four values.
        dip_p: its p-value under one mode.
        modes: modes of the kernel density.
        bic: Bayesian information criterion of Gaussian mixtures of 1, 2, ... components; it describes the shape.
        mixture_modes: modes of the mixture with the lowest BIC; 1 where none could be fitted.
    """

    dip: float
    dip_p: float
    modes: int
    bic: tuple[float, ...]
    mixture_modes: int

    @property
    def one_mode(self) -> bool:
        """Whether the dip test does not reject one mode; nothing else counts as evidence against it."""
        return not self.dip_p < SIGNIFICANCE

    def mixture_sentence(self) -> str:
        """What the mixtures show, and what they do not, in a sentence; empty where none could be fitted.

        Example:
            >>> Evidence(0.004, 0.93, 1, (10.0, 4.0, 2.0, 7.0), 1).mixture_sentence()
            'By BIC, 3 Gaussian components describe the shape best; their sum has 1 mode. That is no evidence of modes.'
        """
        if not self.bic:
            return ""
        best = int(np.argmin(self.bic)) + 1
        components = "1 Gaussian describes" if best == 1 else f"{best} Gaussian components describe"
        modes = "1 mode" if self.mixture_modes == 1 else f"{self.mixture_modes} modes"
        whose = "it" if best == 1 else "their sum"
        return f"By BIC, {components} the shape best; {whose} has {modes}. That is no evidence of modes."


def gather_evidence(values: Float64[np.ndarray, " value"], density: Density) -> Evidence:
    """The evidence for the number of modes of the values, whose density is given.

    Example:
        >>> values = np.random.default_rng(0).gamma(2.0, 0.05, 1000)
        >>> evidence = gather_evidence(values, estimate_density(values))
        >>> evidence.one_mode, evidence.modes, int(np.argmin(evidence.bic)) + 1
        (True, 1, 3)
    """
    dip, p = dip_test(values)
    mixtures = fit_mixtures(values)
    best = min(mixtures, key=lambda mixture: mixture.bic, default=None)
    return Evidence(
        dip=dip,
        dip_p=p,
        modes=len(density.modes()),
        bic=tuple(mixture.bic for mixture in mixtures),
        mixture_modes=best.modes() if best else 1,
    )
