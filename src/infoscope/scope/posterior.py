"""Classes by posterior: what a feature is, as far as its pairs can tell in the light of all features of the run.

Each feature is thought to have a *profile*: the shares of pairs that follow, stay, keep still and jump, and the
displacement of those that follow, which is how much of their mass is not where it was, beyond what noise explains. The
pairs at hand are a sample of that, in which noise makes some of those that would follow or stay jump. How profiles are
spread over the run's features is fitted to all of them (empirical Bayes, by the nonparametric maximum likelihood of
Kiefer and Wolfowitz 1956, with EM on a grid as in Laird 1978). Each feature then has a posterior over profiles, and so
over classes, which are regions of profiles. A feature gets a class where the posterior of the class is at least 0.9;
otherwise its pairs leave it *unsettled*. No class is what is left over.

The same posterior says whether the class would be given again: profiles are drawn from it, new pairs from these, and
the rules applied to the new pairs. The share of draws that get the class is the feature's *trust*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer
from scipy.special import ndtr
from scipy.stats import betabinom

from infoscope.scope.classes import SETTLED, ScopeClass
from infoscope.scope.displacement import FeatureDisplacement

_STEPS = 10
_EDGES = np.round(np.arange(-0.2, 1.01, 0.1), 1)
_CELLS = len(_EDGES) - 1
# Profiles on the grid give each outcome at least this much, so that one odd pair rules nothing out. Our choice: one
# pair in a hundred.
_LEAST_SHARE = 0.01
# Our choice: the likelihood of the real and planted runs at hand changed in the fifth digit after that.
_ITERATIONS = 60
# Weight of a prior that knows nothing, in features. Our choice: next to nothing, but no profile is ruled out.
_VAGUE_FEATURES = 1.0
# Features that the prior is fitted to, spread evenly over those there are. Our choice: shares are known to 1 %.
_FITTED_FEATURES = 2048
_AT_ONCE = 512
# Our choice: a chance then has a standard error of 0.044 at most, so that features are not sorted by trust at random.
_DRAWS = 128


@dataclass(frozen=True)
class PosteriorRules:
    """Where the regions of the classes end, and how sure a class must be; docs/defaults.md argues them."""

    level: float = 0.9
    """A feature gets a class where the class has at least this posterior."""
    most: float = 0.75
    """Local: at least this share of pairs follows."""
    low: float = 0.2
    """Local: the pairs that follow have a displacement below this. Mixed, within maps: at least this."""
    kept: float = 0.25
    """Global: over all pairs, at most this share of the mass keeps to its pixels, the counterpart of ``most``."""
    away: float = 0.5
    """Global: at least this share of pairs jumps, vanishes or stays at its place, and more of them jump or vanish than
    stay. Our choice: the majority, so that maps of which every pair keeps a little are not global."""
    bound: float = 2 / 3
    """Position-bound: at least this share of pairs stays at its place in the crop. Our choice: what stays in half of
    the pairs and jumps in the others has usual places, and is not bound to them."""
    partly: float = 0.5
    """Mixed, within maps: at least this share of pairs follows. Our choice: the majority."""
    still: float = 0.5
    """Diffuse: at least this share of pairs keeps still. Our choice: the majority."""
    either: float = 0.2
    """Mixed, over images: at least this share of pairs follows, and at least this share jumps."""
    broad: float = 0.5
    """Diffuse: an effective area of at least this share of the overlap."""
    narrow_null: float = 0.4
    """Diffuse: unrelated pictures displace less than this, for then their maps are hardly told apart."""


@dataclass(frozen=True)
class Evidence:
    """What the pairs of each feature say; every array is ``[feature]`` or has it first.

    Attributes:
        outcomes: how many pairs follow, stay, keep still, jump.
        noise_jumps: the share of pairs that would jump by noise alone, were they to follow or stay otherwise.
        displacement: of the pairs that follow, `FeatureDisplacement.displacement_following`; NaN where it is not known.
        error: its standard error.
        hidden: whether noise hides what follows.
        broad: the chance that the maps are broad.
        judged: whether enough pairs can be judged.
        scored: whether enough of them are valid, so that the feature has a CDS.
        scored_again: the chance of that in as many new pairs.
    """

    outcomes: Float64[np.ndarray, "feature 4"]
    noise_jumps: Float64[np.ndarray, " feature"]
    displacement: Float64[np.ndarray, " feature"]
    error: Float64[np.ndarray, " feature"]
    hidden: Bool[np.ndarray, " feature"]
    broad: Float64[np.ndarray, " feature"]
    judged: Bool[np.ndarray, " feature"]
    scored: Bool[np.ndarray, " feature"]
    scored_again: Float64[np.ndarray, " feature"]

    def __len__(self) -> int:
        return len(self.judged)

    def take(self, index: Int64[np.ndarray, " taken"]) -> Evidence:
        """The features at ``index``, in that order."""
        return Evidence(**{name: values[index] for name, values in vars(self).items()})


def gather_evidence(
    found: FeatureDisplacement,
    area: Float64[np.ndarray, " feature"],
    area_error: Float64[np.ndarray, " feature"],
    valid: Integer[np.ndarray, " feature"],
    min_pairs: int,
    rules: PosteriorRules,
) -> Evidence:
    """What the rules rest on.

    Args:
        found: the displaced shares of every feature.
        area: mean effective area as a share of the overlap.
        area_error: its standard error over pairs.
        valid: number of valid pairs.
        min_pairs: fewest judged pairs of a feature that gets a class, and fewest valid ones for a CDS.
        rules: the borders.
    """
    moves, least = found.moves, max(min_pairs, 1)
    valid = valid.astype(np.int64)
    judged = np.maximum(moves.judged, valid)
    shares = np.stack([moves.following, moves.staying, moves.still, moves.jumping], axis=1)
    with np.errstate(invalid="ignore"):
        broad = ndtr((area - rules.broad) / np.maximum(area_error, 1e-3))
        broad = np.where(found.displaced_null < rules.narrow_null, 1.0, np.nan_to_num(broad))
    return Evidence(
        outcomes=np.nan_to_num(shares) * moves.judged[:, None],
        noise_jumps=np.nan_to_num(found.noise_jumps),
        displacement=found.displacement_following,
        error=found.displacement_following_error,
        # Where nothing is known of unrelated pictures, noise is not what hides.
        hidden=found.hidden & ~np.isnan(found.displaced_null),
        broad=broad,
        judged=moves.judged >= least,
        scored=valid >= least,
        scored_again=_enough_again(valid, judged, least),
    )


def _enough_again(
    valid: Int64[np.ndarray, " feature"], pairs: Int64[np.ndarray, " feature"], least: int
) -> Float64[np.ndarray, " feature"]:
    """The chance that as many new pairs have enough valid ones.

    Each pair of a feature is valid with a chance of its own. How these are spread over the run is a beta distribution,
    fitted by moments; with fewer than two features that have pairs it is Jeffreys' prior.
    """
    has = pairs > 0
    share, even = valid[has] / pairs[has], 0.5
    mean, spread = (float(share.mean()), float(share.var())) if has.sum() > 1 else (even, 0.25)
    mean = min(max(mean, _LEAST_SHARE), 1.0 - _LEAST_SHARE)
    # Of the spread of shares, so much is due to the pairs being few.
    drawn = float((1.0 / pairs[has]).mean()) if has.any() else 0.0
    alike = (spread / (mean * (1.0 - mean)) - drawn) / (1.0 - drawn) if drawn < 1.0 else even
    weight = 1.0 / min(max(alike, _LEAST_SHARE), even) - 1.0
    again: Float64[np.ndarray, " feature"] = betabinom.sf(
        least - 1, pairs, valid + mean * weight, pairs - valid + (1.0 - mean) * weight
    )
    return again


@dataclass(frozen=True)
class Posterior:
    """The posterior of each class.

    Attributes:
        chances: ``[feature, class]``, classes in the order of `SETTLED`; what is missing to 1 is in no class. NaN for
            features that cannot be judged; without a CDS, for all but position-bound.
        names: the class of each feature.
        again: the chance that as many new pairs give the same class; NaN where the feature has none of `SETTLED`.
    """

    chances: Float64[np.ndarray, "feature class"]
    names: list[ScopeClass]
    again: Float64[np.ndarray, " feature"]

    def false_share(self, name: ScopeClass) -> float:
        """The expected share of features of a class that are not of it: the mean of 1 - posterior; NaN without any."""
        own = self.chances[np.array([given == name for given in self.names], np.bool_), SETTLED.index(name)]
        return float((1.0 - own).mean()) if len(own) else float("nan")


def judge(
    evidence: Evidence,
    rules: PosteriorRules | None = None,
    seed: int = 0,
    advance: Callable[[int], None] = lambda features: None,
    trust: bool = True,
) -> Posterior:
    """The posterior of every class for every feature, the class that follows, and whether it would be given again.

    The regions, in shares of pairs and in the displacement of those that follow:

    - *position-bound*: at least two thirds of the pairs stay;
    - *diffuse*: not position-bound, and the maps are broad; or at least half keep still;
    - *global*: at least half jump, vanish or stay, more of them jump or vanish than stay, and at most a quarter of the
      mass, over all pairs, keeps to its pixels;
    - *local*: at least three quarters follow, with a displacement under 0.2;
    - *mixed*: none of these, and at least 20 % follow and 20 % jump (over images), or at least half follow, with a
      displacement of at least 0.2 (within maps).

    Where noise hides whether maps follow, a feature can be diffuse or global, or else is unsettled. Where there is no
    CDS, too little is seen of the overlap to say anything of pixels: a feature can be position-bound, which the full
    maps tell, or else is undefined.

    Args:
        evidence: of every feature.
        rules: the borders.
        seed: of the draws that say whether a class would be given again.
        advance: called with the number of features done.
        trust: whether to ask if the classes would be given again, which takes most of the time.

    Example:
        Two hundred features that follow, two hundred that jump, and one with too few pairs:

        >>> follow, jump = np.tile([16.0, 0, 0, 0], (200, 1)), np.tile([0.0, 0, 0, 16], (200, 1))
        >>> outcomes = np.concatenate([follow, jump, [[1.0, 0, 0, 0]]])
        >>> displacement = np.where(outcomes[:, 0] > 1, 0.05, np.nan)
        >>> enough = outcomes.sum(1) >= 8
        >>> evidence = Evidence(outcomes, np.zeros(401), displacement, np.full(401, 0.03), np.zeros(401, bool),
        ...                     np.zeros(401), enough, enough, np.ones(401))
        >>> found = judge(evidence)
        >>> found.names[0], found.names[200], found.names[400], float(found.again[0])
        ('local', 'global', 'undefined', 1.0)
    """
    rules = rules or PosteriorRules()
    chances = np.full((len(evidence), len(SETTLED)), np.nan)
    names: list[ScopeClass] = ["undefined"] * len(evidence)
    again = np.full(len(evidence), np.nan)
    judged = np.flatnonzero(evidence.judged)
    advance(len(evidence) - len(judged))
    scored, unscored = judged[evidence.scored[judged]], judged[~evidence.scored[judged]]
    # Without a CDS codes mostly vanish, which says nothing of how the features that have one are spread.
    groups: tuple[tuple[Int64[np.ndarray, " group"], Int64[np.ndarray, " spread"], ScopeClass], ...] = (
        (scored, scored, "unsettled"),
        (unscored, judged, "undefined"),
    )
    for group, spread, otherwise in groups:
        if not len(group):
            continue
        model = _Model.of(fit_prior(evidence.take(spread)), rules)
        for begin in range(0, len(group), _AT_ONCE):
            index = group[begin : begin + _AT_ONCE]
            part = evidence.take(index)
            of_shares, of_cells = likelihood(part)
            chances[index] = model.chances(of_shares, of_cells, part)
            own = model.given(chances[index])
            for place, number in zip(own, index, strict=True):
                names[number] = SETTLED[place] if place >= 0 else otherwise
            # What another sample gives is asked of the features that have a class.
            classed = np.flatnonzero((own >= 0) & trust)
            again[index[classed]] = model.again(
                of_shares[classed], of_cells[classed], part.take(classed), own[classed], index[classed], seed
            )
            advance(len(index))
    return Posterior(chances, names, again)


@lru_cache(maxsize=1)
def profile_shares() -> Float64[np.ndarray, "profile 4"]:
    """Shares of the outcomes on a grid: all tenths that add up to 1, drawn in so that none is quite 0."""
    tenths = np.stack(np.meshgrid(*[np.arange(_STEPS + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    tenths = tenths[tenths.sum(1) <= _STEPS]
    shares = np.concatenate([tenths, _STEPS - tenths.sum(1, keepdims=True)], axis=1) / _STEPS
    drawn_in: Float64[np.ndarray, "profile 4"] = (1.0 - 4 * _LEAST_SHARE) * shares + _LEAST_SHARE
    return drawn_in


def fit_prior(evidence: Evidence) -> Float64[np.ndarray, "profile cell"]:
    """The spread of profiles over a run's features: a weight for each of `profile_shares` and cell of the displacement.

    By EM from an even start.
    """
    index = np.unique(np.linspace(0, len(evidence) - 1, min(len(evidence), _FITTED_FEATURES)).round().astype(np.int64))
    of_shares, of_cells = likelihood(evidence.take(index))
    weights = np.full((of_shares.shape[1], _CELLS), 1.0 / (of_shares.shape[1] * _CELLS))
    for _ in range(_ITERATIONS):
        chance = ((of_shares @ weights) * of_cells).sum(1)
        expected = weights * (of_shares.T @ (of_cells / chance[:, None]))
        weights = (expected + _VAGUE_FEATURES / weights.size) / (len(index) + _VAGUE_FEATURES)
    return weights


def likelihood(
    evidence: Evidence,
) -> tuple[Float64[np.ndarray, "feature profile"], Float64[np.ndarray, "feature cell"]]:
    """The likelihood of each feature's pairs under the shares of each profile, and under each cell of the displacement.

    That of both is their product, up to a factor of the feature. Outcomes are multinomial, where noise turns some of
    what would follow or stay into jumps. The displacement is normal about its true value, which is even within a cell
    of the grid; where it is not known, it says nothing.
    """
    log = np.log(profile_shares())
    counts, noise = evidence.outcomes, evidence.noise_jumps
    # That noise spares a pair is as likely under every profile.
    of_shares = counts[:, :3] @ log[:, :3].T + counts[:, 3:] * np.log(_jumping(noise))
    of_shares = np.exp(of_shares - of_shares.max(1, keepdims=True))
    edges = np.concatenate([[-np.inf], _EDGES[1:-1], [np.inf]])
    with np.errstate(invalid="ignore"):
        below = ndtr((edges - evidence.displacement[:, None]) / evidence.error[:, None])
    return of_shares, np.where(np.isnan(evidence.displacement)[:, None], 1.0, np.diff(below, axis=1))


def _jumping(noise: Float64[np.ndarray, " feature"]) -> Float64[np.ndarray, "feature profile"]:
    """The share of pairs that jump under each profile, by themselves or by noise."""
    shares = profile_shares()
    jumping: Float64[np.ndarray, "feature profile"] = shares[:, 3] + noise[:, None] * (shares[:, 0] + shares[:, 1])
    return jumping


@dataclass(frozen=True)
class _Model:
    """How profiles are spread, and which class each of them is.

    Attributes:
        prior: the weight of each profile.
        regions: ``[profile, class and cell]``: the prior within each class, then the prior itself.
        rules: the borders.
    """

    prior: Float64[np.ndarray, "profile cell"]
    regions: Float64[np.ndarray, "profile class_cell"]
    rules: PosteriorRules

    @classmethod
    def of(cls, prior: Float64[np.ndarray, "profile cell"], rules: PosteriorRules) -> _Model:
        parts = class_regions(rules)
        within = [prior * parts[name] for name in SETTLED]
        return cls(prior, np.concatenate([*within, prior], axis=1), rules)

    def chances(
        self,
        of_shares: Float64[np.ndarray, "feature profile"],
        of_cells: Float64[np.ndarray, "feature cell"],
        evidence: Evidence,
    ) -> Float64[np.ndarray, "feature class"]:
        """The posterior of each class."""
        joint = (of_shares @ self.regions).reshape(len(of_shares), len(SETTLED) + 1, _CELLS)
        summed = (joint * of_cells[:, None]).sum(2)
        chance = dict(zip(SETTLED, (summed[:, :-1] / summed[:, -1:]).T, strict=True))
        broad = evidence.broad
        for name in ("local", "mixed", "position-bound", "diffuse"):
            chance[name] = np.where(evidence.hidden, 0.0, chance[name])
        chance["diffuse"] = chance["diffuse"] + (1.0 - chance["position-bound"] - chance["diffuse"]) * broad
        for name in ("local", "mixed", "global"):
            chance[name] = chance[name] * (1.0 - broad)
        for name in ("local", "mixed", "global", "diffuse"):
            chance[name] = np.where(evidence.scored, chance[name], np.nan)
        return np.stack([chance[name] for name in SETTLED], axis=1)

    def given(self, chances: Float64[np.ndarray, "feature class"]) -> Int64[np.ndarray, " feature"]:
        """The place in `SETTLED` of the class that each feature gets, -1 where no class is sure enough."""
        known = np.nan_to_num(chances)
        given: Int64[np.ndarray, " feature"] = np.where(known.max(1) >= self.rules.level, known.argmax(1), -1)
        return given

    def again(
        self,
        of_shares: Float64[np.ndarray, "feature profile"],
        of_cells: Float64[np.ndarray, "feature cell"],
        evidence: Evidence,
        own: Int64[np.ndarray, " feature"],
        number: Int64[np.ndarray, " feature"],
        seed: int,
    ) -> Float64[np.ndarray, " feature"]:
        """The share of new samples of pairs, drawn from each feature's posterior, that give its class again."""
        if not len(own):
            return np.zeros(0)
        shares, jumping = profile_shares(), _jumping(evidence.noise_jumps)
        total = np.cumsum((of_shares[:, :, None] * self.prior * of_cells[:, None]).reshape(len(own), -1), axis=1)
        same = np.zeros(len(own))
        # Each feature has a generator of its own, so that its draws do not depend on which features come with it.
        drawn = np.empty((len(own), _DRAWS, 8))
        for row, feature in enumerate(number.tolist()):
            random = np.random.default_rng([seed, feature])
            place = np.searchsorted(total[row], random.random(_DRAWS) * total[row, -1]).clip(max=self.prior.size - 1)
            profile, cell = np.divmod(place, _CELLS)
            spared = shares[profile, :3] * (1.0 - evidence.noise_jumps[row] * np.array([1.0, 1.0, 0.0]))
            sampled = np.concatenate([spared, jumping[row, profile, None]], axis=1)
            drawn[row, :, :4] = random.multinomial(round(evidence.outcomes[row].sum()), sampled)
            inside = _EDGES[cell] + np.diff(_EDGES)[cell] * random.random(_DRAWS)
            # The displacement of fewer pairs that follow is known less well.
            ratio = np.maximum(evidence.outcomes[row, 0], 1) / np.maximum(drawn[row, :, 0], 1)
            drawn[row, :, 5] = evidence.error[row] * np.sqrt(ratio)
            drawn[row, :, 4] = inside + np.nan_to_num(drawn[row, :, 5]) * random.standard_normal(_DRAWS)
            drawn[row, :, 6] = random.random(_DRAWS) < evidence.broad[row]
            drawn[row, :, 7] = random.random(_DRAWS) < evidence.scored_again[row]
        unsure = (evidence.broad > 0.01) & (evidence.broad < 0.99)
        for draw in range(_DRAWS):
            sample = Evidence(
                outcomes=drawn[:, draw, :4],
                noise_jumps=evidence.noise_jumps,
                displacement=np.where(np.isnan(evidence.displacement), np.nan, drawn[:, draw, 4]),
                error=drawn[:, draw, 5],
                hidden=evidence.hidden,
                broad=np.where(unsure, drawn[:, draw, 6], evidence.broad),
                judged=evidence.judged,
                scored=drawn[:, draw, 7] > 0,
                scored_again=evidence.scored_again,
            )
            same += self.given(self.chances(*likelihood(sample), sample)) == own
        share: Float64[np.ndarray, " feature"] = same / _DRAWS
        return share


def class_regions(rules: PosteriorRules) -> dict[ScopeClass, Float64[np.ndarray, "profile cell"]]:
    """How much of each profile of the grid is in each class, 0 to 1, as `judge` says; breadth apart."""
    # The borders are in shares as they are, those of the grid are drawn in from 0 and 1.
    shares = (profile_shares() - _LEAST_SHARE) / (1.0 - 4 * _LEAST_SHARE)
    follow, stay, still, jump = shares.T[:, :, None]
    cell = (_EDGES[1:] + _EDGES[:-1]) / 2

    def above(share: Float64[np.ndarray, ...], border: float) -> Float64[np.ndarray, ...]:
        """The part of the cell around each profile of the grid in which a share is above a border."""
        return np.clip((share - border) * _STEPS + 0.5, 0.0, 1.0)

    bound = above(stay, rules.bound)
    diffuse = (1.0 - bound) * above(still, rules.still)
    rest = 1.0 - bound - diffuse
    keeps = follow * (1.0 - np.clip(cell, 0.0, 1.0)) + still
    broken = rest * (1.0 - above(keeps, rules.kept)) * above(jump + stay, rules.away) * above(jump - stay, 0.0)
    slight = (cell < rules.low).astype(np.float64)
    followed, other = (rest - broken) * above(follow, rules.most), (rest - broken) * (1.0 - above(follow, rules.most))
    over_images = above(follow, rules.either) * above(jump, rules.either)
    # What follows in most pairs, but not in full.
    within_maps = above(follow, rules.partly) * (1.0 - slight)
    local = followed * slight
    mixed = followed * (1.0 - slight) + other * (over_images + (1.0 - over_images) * within_maps)
    every = np.ones((1, _CELLS))
    regions = {"local": local, "diffuse": diffuse, "position-bound": bound, "global": broken, "mixed": mixed}
    return {name: regions[name] * every for name in SETTLED}
