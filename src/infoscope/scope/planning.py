"""How many images a score needs to repeat: fitted on parts of the images of one run, and carried on to more images.

How far two runs on different images would order the features alike is not seen in one run. It is seen between parts of
its images: the strongest images of a part are those of the run's ranking that lie in it, so two halves, quarters or
eighths are two runs on fewer images, without a pass. What grows from eighths to halves, and from few images a score to
many, is carried on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from infoscope.scope.reliability import spearman

# Two parts of each make a pool of all, of half and of a quarter of the images, each seen from its two halves.
PARTS = (2, 4, 8)
# Our choice: more than four divisions of the images into parts hardly steady the fit, since they share their images.
DRAWS = 4
# Our choice: the standard error of a rank correlation over 4,096 features is below 0.02, and more would take seconds.
MOST_FEATURES = 4096
# Our choice: over fewer features, a rank correlation has a standard error of 0.1 and more.
LEAST_FEATURES = 100
# Nunnally, Psychometric Theory (1978): 0.7 will do early on, 0.8 for work that compares groups.
TARGET = 0.8
# Our choice: the largest parts have four times the images of the smallest, and the fit is believed for twice that ratio
# in logarithms.
FARTHEST = 16
# A correlation outside has no logit, or one that is all noise.
_LEAST, _MOST = 0.01, 0.995


@dataclass(frozen=True)
class PartReliability:
    """How far scores over two parts of the images order the features alike.

    Attributes:
        images: how many images each part has; of parts that differ by one, the mean.
        top_images: how many images a score is over: of features with enough images, the mean.
        spearman: rank correlation between the scores, mean over the pairs of parts.
        features: over how many features, likewise.
    """

    images: float | int
    top_images: float | int
    spearman: float
    features: float | int


@dataclass(frozen=True)
class Growth:
    """How reliability grows: r / (1 - r) = signal * k ** per_top_image * images ** per_image.

    Spearman and Brown's formula is the case of ``per_top_image`` 1 and ``per_image`` 0: pairs that differ alike for all
    features, whichever images they come from. Real ones have long tails, and the k strongest of more images are
    stronger.

    Attributes:
        signal: the left side for one image a score and one image in all.
        per_top_image: power of k, the number of images a score is over.
        per_image: power of the number of images to choose from.
    """

    signal: float
    per_top_image: float
    per_image: float

    def reliability(self, images: float | int, top_images: float | int) -> float:
        """The rank correlation expected between two runs on so many different images each.

        Example:
            >>> Growth(signal=0.25, per_top_image=1.0, per_image=0.0).reliability(images=1000, top_images=16)
            0.8
        """
        odds: float = self.signal * top_images**self.per_top_image * images**self.per_image
        return odds / (1.0 + odds)

    def images_for(self, target: float, images: int, top_images: int, *, in_proportion: bool) -> int | None:
        """The least number of images, from ``images`` on, at which reliability reaches a target.

        Args:
            target: rank correlation, above 0 and below 1.
            images: how many there are.
            top_images: k with these.
            in_proportion: k grows as the images do; otherwise it stays.

        Returns:
            That number, in two digits; None where it is above `FARTHEST` times the images, or no number would do.

        Example:
            >>> growth = Growth(signal=0.25, per_top_image=1.0, per_image=0.0)
            >>> growth.images_for(0.8, 500, 8, in_proportion=True), growth.images_for(0.8, 500, 8, in_proportion=False)
            (1000, None)
        """
        power = self.per_image + (self.per_top_image if in_proportion else 0.0)
        missing = math.log(target / (1 - target)) - _logit(self.reliability(images, top_images))
        if missing <= 0:
            return images
        # In logarithms, since a power near 0 asks for more than a float holds.
        if power <= 0 or missing / power > math.log(FARTHEST):
            return None
        return _two_digits(images * math.exp(missing / power))


@dataclass(frozen=True)
class ImagePlan:
    """How reliable CDS is expected to be, and how many images would make it reliable.

    Attributes:
        images: how many were measured.
        top_images: k.
        expected: the rank correlation of CDS expected between two runs on so many different images each.
        target: the one to be reached.
        images_needed: how many images reach it at this k, at least ``images``; None where no number up to ``farthest``
            does.
        images_in_proportion: how many reach it when k grows as they do; None likewise.
        top_images_in_proportion: that k; None likewise.
        farthest: the largest number of images that the fit is carried on to.
        growth: the fit.
        fitted_on: what it was fitted on.
    """

    images: int
    top_images: int
    expected: float
    target: float
    images_needed: int | None
    images_in_proportion: int | None
    top_images_in_proportion: int | None
    farthest: int
    growth: Growth
    fitted_on: list[PartReliability]

    def sentence(self) -> str:
        """The plan in a line.

        Example:
            >>> growth = Growth(signal=0.25, per_top_image=0.75, per_image=0.0)
            >>> print(plan_from(growth, images=500, top_images=8).sentence())
            between runs on 500 images each, with k = 8, about 0.54 is expected; 0.8 would take about 2,600 images with
            k = 42; at this k, no number up to 8,000 gives it
        """
        pools = f"between runs on {self.images:,} images each, with k = {self.top_images}"
        here = f"{pools}, about {self.expected:.2f} is expected"
        if self.expected >= self.target:
            return here
        if self.images_in_proportion is None:
            return f"{here}; no number up to {self.farthest:,} would give {self.target:g}, even if k grew with it"
        grown = f"{self.images_in_proportion:,} images with k = {self.top_images_in_proportion}"
        would = f"{self.target:g} would take about {grown}"
        if self.images_needed is None:
            return f"{here}; {would}; at this k, no number up to {self.farthest:,} gives it"
        return f"{here}; {would}, or about {self.images_needed:,} at this k"


def plan_images(
    distance: Float64[np.ndarray, "feature rank"],
    image: Int64[np.ndarray, "feature rank"],
    images: int,
    top_images: int,
    valid_share: float = 0.5,
) -> ImagePlan | None:
    """How many images would give a reliable CDS, from the ranking of one run.

    Args:
        distance: of the pair of each feature and rank, as a share of D; NaN where it does not count.
        image: the image at each rank, below ``images``; -1 where a feature has no more images.
        images: how many images were ranked.
        top_images: k; there may be more ranks than that.
        valid_share: a score needs this share of its images to count.

    Returns:
        The plan; None where the ranks or the features are too few to fit one (8 ranks, 100 features).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> image = np.stack([rng.permutation(400)[:16] for _ in range(300)])
        >>> distance = rng.normal(0.3, 0.05, (300, 1)) + rng.normal(0.0, 0.1, (300, 16))
        >>> plan = plan_images(distance, image, images=400, top_images=8)
        >>> plan is not None and 0.55 < plan.expected < 0.75    # 0.65, by the variances
        True
    """
    fitted_on = part_reliabilities(distance, image, images, valid_share)
    growth = fit_growth(fitted_on)
    return None if growth is None else plan_from(growth, images, top_images, fitted_on=fitted_on)


def plan_from(
    growth: Growth,
    images: int,
    top_images: int,
    target: float = TARGET,
    fitted_on: list[PartReliability] | None = None,
) -> ImagePlan:
    """The plan that follows from a fit; arguments as of `ImagePlan`."""
    in_proportion = growth.images_for(target, images, top_images, in_proportion=True)
    return ImagePlan(
        images=images,
        top_images=top_images,
        expected=growth.reliability(images, top_images),
        target=target,
        images_needed=growth.images_for(target, images, top_images, in_proportion=False),
        images_in_proportion=in_proportion,
        top_images_in_proportion=None if in_proportion is None else math.ceil(top_images * in_proportion / images),
        farthest=FARTHEST * images,
        growth=growth,
        fitted_on=fitted_on or [],
    )


def part_reliabilities(
    distance: Float64[np.ndarray, "feature rank"],
    image: Int64[np.ndarray, "feature rank"],
    images: int,
    valid_share: float = 0.5,
) -> list[PartReliability]:
    """Reliability between parts of the images, for several sizes of parts and numbers of images a score is over.

    Arguments as for `plan_images`. Over at most `MOST_FEATURES` features, evenly spread; a combination over fewer than
    `LEAST_FEATURES` is left out, as is one that asks more of the ranks than they hold of a part on average.
    """
    if len(distance) > MOST_FEATURES:
        chosen = np.linspace(0, len(distance) - 1, MOST_FEATURES).astype(np.int64)
        distance, image = distance[chosen], image[chosen]
    found = []
    for parts in PARTS if len(distance) >= LEAST_FEATURES else ():
        most = distance.shape[1] // parts
        sizes = [2**power for power in range(most.bit_length())]
        draws = []
        for draw in range(DRAWS):
            # Drawn by position alone, so that the same run always gives the same plan.
            of_image = np.random.default_rng([draw, parts]).permutation(np.arange(images) % parts)
            draws.append([_compare_parts(distance, image, of_image, parts, size, valid_share) for size in sizes])
        for size in range(len(sizes)):
            top_images, r, features = np.mean([one[size] for one in draws], axis=0)
            if features >= LEAST_FEATURES and not math.isnan(r):
                found.append(PartReliability(images / parts, float(top_images), float(r), float(features)))
    return found


def _compare_parts(
    distance: Float64[np.ndarray, "feature rank"],
    image: Int64[np.ndarray, "feature rank"],
    of_image: Int64[np.ndarray, " image"],
    parts: int,
    size: int,
    valid_share: float,
) -> tuple[float, float, float]:
    """Images a score is over, rank correlation and features, each the mean over the parts taken two by two."""
    scores, taken = part_scores(distance, image, of_image, parts, size, valid_share)
    pairs = [(scores[part], scores[part + 1]) for part in range(0, parts, 2)]
    shared = [~np.isnan(one) & ~np.isnan(other) for one, other in pairs]
    r = [spearman(one[both], other[both]) for (one, other), both in zip(pairs, shared, strict=True)]
    # A feature whose ranking ends early has no more images, here as in a run on the part alone. Where the ranking goes
    # on, its images from the part may be fewer than asked for, and the score is over that many: the mean is harmonic,
    # as an error's variance falls with their number.
    longer = (image[:, -1] >= 0) & ~np.isnan(scores)
    over = float(1.0 / np.mean(1.0 / taken[longer])) if longer.any() else float(size)
    return over, float(np.mean(r)), float(np.mean([both.sum() for both in shared]))


def part_scores(
    distance: Float64[np.ndarray, "feature rank"],
    image: Int64[np.ndarray, "feature rank"],
    of_image: Int64[np.ndarray, " image"],
    parts: int,
    size: int,
    valid_share: float = 0.5,
) -> tuple[Float64[np.ndarray, "part feature"], Int64[np.ndarray, "part feature"]]:
    """Each feature's score by its strongest images within each part.

    Args:
        distance: as for `plan_images`.
        image: likewise.
        of_image: the part that each image is in, below ``parts``.
        parts: how many parts there are.
        size: how many images a score is over at most.
        valid_share: a score needs this share of ``size`` to count.

    Returns:
        The scores, NaN where there is none, and how many images each is over.

    Example:
        >>> image, distance = np.array([[5, 2, 1, 4]]), np.array([[0.1, 0.2, 0.3, 0.4]])
        >>> scores, taken = part_scores(distance, image, np.array([0, 0, 0, 1, 1, 1]), parts=2, size=2)
        >>> scores.tolist(), taken.tolist()
        ([[0.25], [0.25]], [[2], [2]])
    """
    ranked = image >= 0
    of_pair = np.where(ranked, of_image[np.maximum(image, 0)], -1)
    within = of_pair == np.arange(parts)[:, None, None]
    first = within & (within.cumsum(axis=2) <= size)
    valid = first & ~np.isnan(distance)
    pairs = valid.sum(axis=2)
    total = np.where(valid, distance, 0.0).sum(axis=2)
    scores: Float64[np.ndarray, "part feature"] = np.divide(
        total, pairs, out=np.full(total.shape, np.nan), where=pairs >= max(1, math.ceil(size * valid_share))
    )
    return scores, first.sum(axis=2)


def fit_growth(points: list[PartReliability]) -> Growth | None:
    """The growth that fits reliabilities best, by least squares on log r / (1 - r).

    Each is weighted by the inverse of its variance, n r^2 / (1 + r)^2 for a correlation over n features (by Fisher's
    standard error (1 - r^2) / sqrt(n) of r). ``per_image`` is at least 0.

    Returns:
        The growth; None with fewer than four, or where images or images a score do not vary.

    Example:
        >>> points = [PartReliability(m, k, k / (4 + k), 1000) for m in (100, 200) for k in (1, 2)]
        >>> growth = fit_growth(points)
        >>> round(growth.signal, 6), round(growth.per_top_image, 6), round(abs(growth.per_image), 6)
        (0.25, 1.0, 0.0)
    """
    images = np.array([point.images for point in points])
    top_images = np.array([point.top_images for point in points])
    if len(points) < 4 or np.ptp(images) == 0 or np.ptp(top_images) == 0:
        return None
    r = np.clip([point.spearman for point in points], _LEAST, _MOST)
    weight = np.sqrt([point.features for point in points]) * r / (1 + r)
    columns = np.stack([np.ones(len(points)), np.log(top_images), np.log(images)], axis=1)

    def solve(used: int) -> list[float]:
        found = np.linalg.lstsq(columns[:, :used] * weight[:, None], np.log(r / (1 - r)) * weight, rcond=None)[0]
        return [float(number) for number in found]

    solved = solve(3)
    # Stronger images do not make a score less reliable; where it seems so, the ranks were too few to tell.
    constant, per_top_image, per_image = solved if solved[2] > 0 else [*solve(2), 0.0]
    return Growth(math.exp(constant), per_top_image, per_image)


def _logit(r: float) -> float:
    return math.log(r / (1 - r))


def _two_digits(number: float) -> int:
    """The number rounded up to two digits, as far as the fit is to be believed.

    Example:
        >>> _two_digits(1234.0), _two_digits(1000.0), _two_digits(87.2)
        (1300, 1000, 88)
    """
    unit: int = 10 ** max(0, math.floor(math.log10(number)) - 1)
    # A hair less, so that what rounding put above a round number does not become the next one.
    return math.ceil(number / unit - 1e-9) * unit
