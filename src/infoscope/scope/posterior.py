"""Classes by posterior: what a feature is, as far as its pairs can tell in the light of all features of the run.

Each feature is thought to have a *profile*: shares of pairs that follow, stay, keep still and jump, and a displacement,
how much of its mass leaves its pixels beyond what noise explains. The pairs at hand are a sample of that. How profiles
are spread over the run's features is fitted to all of them (empirical Bayes, by the nonparametric maximum likelihood of
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
from jaxtyping import Bool, Float64, Int64
from scipy.special import ndtr

from infoscope.scope.classes import SETTLED, ScopeClass
from infoscope.scope.displacement import FeatureDisplacement

_STEPS = 10
_EDGES = np.round(np.arange(-0.2, 1.21, 0.1), 1)
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
# The outcomes and the displacement are of the same pairs, so they say in part the same. Our choice: outcomes count
# half, for with that weight trust is a probability on two disjoint pools of 1,000 photographs (docs/controls.md).
_OUTCOME_WEIGHT = 0.5
_AT_ONCE = 512
_DRAWS = 32


@dataclass(frozen=True)
class PosteriorRules:
    """Where the regions of the classes end, and how sure a class must be; docs/defaults.md argues them."""

    level: float = 0.9
    """A feature gets a class where the class has at least this posterior."""
    most: float = 0.5
    """Local: at least this share of pairs follows. Global: at least this share jumps or vanishes. Diffuse: at least
    this share keeps still. Position-bound: at least this share stays at its place in the crop."""
    low: float = 0.2
    """Local: a displacement below this, so that noise explains nearly all that is displaced."""
    high: float = 0.8
    """Global: as much displaced as this part of what unrelated pictures displace. Mixed: less than that."""
    beyond: float = 0.5
    """Global: a displacement of at least this too, for where noise displaces much, as much as unrelated pictures
    displace is no sign of context. Our choice: the middle."""
    plain: float = 0.9
    """Global, where noise leaves no room to tell: as much displaced as this part of what unrelated pictures displace.
    Our choice: half of what may be kept otherwise."""
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
        displacement: see `FeatureDisplacement`; NaN where noise leaves no room.
        error: its standard error.
        kept: displaced mass over what unrelated pictures displace, whatever noise explains.
        noise: what noise displaces over what unrelated pictures displace.
        broad: the chance that the maps are broad.
        judged: whether enough pairs can be judged.
    """

    outcomes: Float64[np.ndarray, "feature 4"]
    displacement: Float64[np.ndarray, " feature"]
    error: Float64[np.ndarray, " feature"]
    kept: Float64[np.ndarray, " feature"]
    noise: Float64[np.ndarray, " feature"]
    broad: Float64[np.ndarray, " feature"]
    judged: Bool[np.ndarray, " feature"]

    def __len__(self) -> int:
        return len(self.judged)

    def take(self, index: Int64[np.ndarray, " taken"]) -> Evidence:
        """The features at ``index``, in that order."""
        return Evidence(**{name: values[index] for name, values in vars(self).items()})


def gather_evidence(
    found: FeatureDisplacement,
    area: Float64[np.ndarray, " feature"],
    area_error: Float64[np.ndarray, " feature"],
    min_pairs: int,
    rules: PosteriorRules,
) -> Evidence:
    """What the rules rest on.

    Args:
        found: the displaced shares of every feature.
        area: mean effective area as a share of the overlap.
        area_error: its standard error over pairs.
        min_pairs: fewest judged pairs of a feature that gets a class.
        rules: the borders.
    """
    moves = found.moves
    shares = np.stack([moves.following, moves.staying, moves.still, moves.jumping], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        broad = ndtr((area - rules.broad) / np.maximum(area_error, 1e-3))
        broad = np.where(found.displaced_null < rules.narrow_null, 1.0, np.nan_to_num(broad))
        kept, noise = found.displaced / found.displaced_null, found.displaced_noise / found.displaced_null
    return Evidence(
        outcomes=np.nan_to_num(shares) * moves.judged[:, None],
        displacement=found.displacement,
        error=found.displacement_error,
        kept=kept,
        noise=np.nan_to_num(noise),
        broad=broad,
        judged=moves.judged >= max(min_pairs, 1),
    )


@dataclass(frozen=True)
class Posterior:
    """The posterior of each class.

    Attributes:
        chances: ``[feature, class]``, classes in the order of `SETTLED`; what is missing to 1 is in no class. NaN for
            features that cannot be judged.
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

    The regions, in shares of pairs and in displacement:

    - *position-bound*: at least half of the pairs stay;
    - *diffuse*: not position-bound, and the maps are broad; or at least half keep still;
    - *local*: at least half follow, and the displacement is under 0.2;
    - *global*: at least half jump or vanish, at least 0.8 of what unrelated pictures displace is displaced, and the
      displacement is at least 0.5; where noise leaves no room, at least 0.9 of what unrelated pictures displace;
    - *mixed*: none of these, and at least 20 % follow and 20 % jump (over images), or the displacement is at least 0.2
      while less than 0.8 of what unrelated pictures displace is displaced (within maps).

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
        >>> kept = np.concatenate([np.full(200, 0.05), np.full(200, 0.97), [0.5]])
        >>> evidence = Evidence(outcomes, kept, np.full(401, 0.03), kept, np.zeros(401), np.zeros(401),
        ...                     outcomes.sum(1) >= 8)
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
    if not len(judged):
        return Posterior(chances, names, again)
    profiles, prior = grid_of_profiles(), fit_prior(evidence.take(judged))
    for begin in range(0, len(judged), _AT_ONCE):
        index = judged[begin : begin + _AT_ONCE]
        part = evidence.take(index)
        weights = prior * likelihood(part, profiles)
        weights /= weights.sum(1, keepdims=True)
        chances[index] = _class_chances(weights, profiles, part, rules)
        own = _given(chances[index], rules)
        for place, number in zip(own, index, strict=True):
            names[number] = SETTLED[place] if place >= 0 else "unsettled"
        # What another sample gives is asked of the features that have a class.
        classed = np.flatnonzero((own >= 0) & trust)
        again[index[classed]] = _again(
            weights[classed], profiles, part.take(classed), own[classed], index[classed], prior, rules, seed
        )
        advance(len(index))
    return Posterior(chances, names, again)


@dataclass(frozen=True)
class Profiles:
    """Profiles on a grid.

    Attributes:
        shares: of the outcomes; none is quite 0.
        cell: of the displacement, which is even between ``_EDGES[cell]`` and ``_EDGES[cell + 1]``.
    """

    shares: Float64[np.ndarray, "profile 4"]
    cell: Int64[np.ndarray, " profile"]


@lru_cache(maxsize=1)
def grid_of_profiles() -> Profiles:
    """All tenths that add up to 1, with each cell of the displacement."""
    tenths = np.stack(np.meshgrid(*[np.arange(_STEPS + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    tenths = tenths[tenths.sum(1) <= _STEPS]
    shares = np.concatenate([tenths, _STEPS - tenths.sum(1, keepdims=True)], axis=1) / _STEPS
    shares = (1.0 - 4 * _LEAST_SHARE) * shares + _LEAST_SHARE
    return Profiles(np.repeat(shares, _CELLS, axis=0), np.tile(np.arange(_CELLS), len(shares)))


def fit_prior(evidence: Evidence) -> Float64[np.ndarray, " profile"]:
    """The spread of profiles over a run's features, as weights of `grid_of_profiles`, by EM from an even start."""
    index = np.unique(np.linspace(0, len(evidence) - 1, min(len(evidence), _FITTED_FEATURES)).round().astype(np.int64))
    chance = likelihood(evidence.take(index), grid_of_profiles())
    profiles = chance.shape[1]
    weights = np.full(profiles, 1.0 / profiles)
    for _ in range(_ITERATIONS):
        expected = weights * (chance.T @ (1.0 / (chance @ weights)))
        weights = (expected + _VAGUE_FEATURES / profiles) / (len(index) + _VAGUE_FEATURES)
    return weights


def likelihood(evidence: Evidence, profiles: Profiles) -> Float64[np.ndarray, "feature profile"]:
    """The likelihood of each feature's pairs under each profile, up to a factor of the feature.

    Outcomes are multinomial. The displacement is normal about its true value, which is even within a cell of the grid;
    where noise hides it, it says nothing.
    """
    of_outcomes = _OUTCOME_WEIGHT * (evidence.outcomes @ np.log(profiles.shares).T)
    of_outcomes = np.exp(of_outcomes - of_outcomes.max(1, keepdims=True))
    edges = np.concatenate([[-np.inf], _EDGES[1:-1], [np.inf]])
    with np.errstate(invalid="ignore"):
        below = ndtr((edges - evidence.displacement[:, None]) / evidence.error[:, None])
    of_displacement = np.where(np.isnan(evidence.displacement)[:, None], 1.0, np.diff(below, axis=1))
    # What no profile of the grid could give is as unlikely under all of them.
    of_displacement /= np.maximum(of_displacement.max(1, keepdims=True), 1e-300)
    joint: Float64[np.ndarray, "feature profile"] = of_outcomes * of_displacement[:, profiles.cell] + 1e-300
    return joint


def _class_chances(
    weights: Float64[np.ndarray, "feature profile"], profiles: Profiles, evidence: Evidence, rules: PosteriorRules
) -> Float64[np.ndarray, "feature class"]:
    """The posterior of each class, from that of each profile."""
    # The borders are in shares as they are, those of the grid are drawn in from 0 and 1.
    shares = (profiles.shares - _LEAST_SHARE) / (1.0 - 4 * _LEAST_SHARE)
    in_cell = (profiles.cell[:, None] == np.arange(_CELLS)).astype(np.float64)

    def beyond_border(share: Float64[np.ndarray, " profile"], border: float) -> Float64[np.ndarray, " profile"]:
        """The part of the cell around each profile of the grid in which a share is above a border."""
        return np.clip((share - border) * _STEPS + 0.5, 0.0, 1.0)

    def displaced(part: Float64[np.ndarray, " profile"]) -> Float64[np.ndarray, "feature cell"]:
        """The posterior of a part of each profile, by cell of the displacement."""
        summed: Float64[np.ndarray, "feature cell"] = weights @ (part[:, None] * in_cell)
        return summed

    # At most one of four shares is above a border of a half.
    follows, stays, keeps_still, jumps = (beyond_border(share, rules.most) for share in shares.T)
    others = 1.0 - follows - stays - keeps_still - jumps
    both = others * beyond_border(shares[:, 0], rules.either) * beyond_border(shares[:, 3], rules.either)
    slight = ((_EDGES[1:] + _EDGES[:-1]) / 2 < rules.low).astype(np.float64)
    # Where noise hides the displacement, nothing can be said to follow, and only what is displaced in full is plain.
    hidden = np.isnan(evidence.displacement)
    with np.errstate(invalid="ignore", divide="ignore"):
        border = (rules.high - evidence.noise) / (1.0 - evidence.noise)

    def above(border: Float64[np.ndarray, " feature"]) -> Float64[np.ndarray, "feature cell"]:
        """The part of each cell above a border."""
        part: Float64[np.ndarray, "feature cell"] = np.clip((_EDGES[1:] - border[:, None]) / np.diff(_EDGES), 0.0, 1.0)
        return part

    part = (1.0 - slight) * (1.0 - above(border))
    beyond = above(np.maximum(border, rules.beyond))
    beyond[hidden] = (evidence.kept[hidden] >= rules.plain)[:, None]
    part[hidden] = 0.0
    followed, jumped, in_both = displaced(follows), displaced(jumps), displaced(both)
    between = followed + jumped + displaced(others - both)
    local = np.where(hidden, 0.0, followed @ slight)
    jumping = (jumped * beyond).sum(1)
    mixed = np.where(hidden, 0.0, in_both.sum(1)) + (between * part).sum(1)
    bound, steady, broad = displaced(stays).sum(1), displaced(keeps_still).sum(1), evidence.broad
    by_name = {
        "local": local * (1.0 - broad),
        "global": jumping * (1.0 - broad),
        "mixed": mixed * (1.0 - broad),
        "position-bound": bound,
        "diffuse": steady + (1.0 - bound - steady) * broad,
    }
    return np.stack([by_name[name] for name in SETTLED], axis=1)


def _given(chances: Float64[np.ndarray, "feature class"], rules: PosteriorRules) -> Int64[np.ndarray, " feature"]:
    """The place in `SETTLED` of the class that each feature gets, -1 where no class is sure enough."""
    best = chances.argmax(1)
    given: Int64[np.ndarray, " feature"] = np.where(chances.max(1) >= rules.level, best, -1)
    return given


def _again(
    weights: Float64[np.ndarray, "feature profile"],
    profiles: Profiles,
    evidence: Evidence,
    own: Int64[np.ndarray, " feature"],
    number: Int64[np.ndarray, " feature"],
    prior: Float64[np.ndarray, " profile"],
    rules: PosteriorRules,
    seed: int,
) -> Float64[np.ndarray, " feature"]:
    """The share of new samples of pairs, drawn from each feature's posterior, that give its class again."""
    if not len(own):
        return np.zeros(0)
    total = np.cumsum(weights, axis=1)
    same = np.zeros(len(own))
    # Each feature draws from a generator of its own, so that its draws do not depend on which features come with it.
    drawn = np.empty((len(own), _DRAWS, 6))
    for row, feature in enumerate(number.tolist()):
        random = np.random.default_rng([seed, feature])
        profile = np.searchsorted(total[row], random.random(_DRAWS) * total[row, -1]).clip(max=len(prior) - 1)
        drawn[row, :, :4] = random.multinomial(round(evidence.outcomes[row].sum()), profiles.shares[profile])
        cell = profiles.cell[profile]
        inside = _EDGES[cell] + np.diff(_EDGES)[cell] * random.random(_DRAWS)
        drawn[row, :, 4] = inside + np.nan_to_num(evidence.error[row]) * random.standard_normal(_DRAWS)
        drawn[row, :, 5] = random.random(_DRAWS) < evidence.broad[row]
    for draw in range(_DRAWS):
        displacement = np.where(np.isnan(evidence.displacement), np.nan, drawn[:, draw, 4])
        sample = Evidence(
            outcomes=drawn[:, draw, :4],
            displacement=displacement,
            error=evidence.error,
            kept=evidence.kept,
            noise=evidence.noise,
            broad=np.where((evidence.broad > 0.01) & (evidence.broad < 0.99), drawn[:, draw, 5], evidence.broad),
            judged=evidence.judged,
        )
        posterior = prior * likelihood(sample, profiles)
        posterior /= posterior.sum(1, keepdims=True)
        same += _given(_class_chances(posterior, profiles, sample, rules), rules) == own
    share: Float64[np.ndarray, " feature"] = same / _DRAWS
    return share
