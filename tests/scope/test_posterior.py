"""Posterior classes against brute force, and against truth that was drawn; trust is asked for where it is tested."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multinomial, norm

from infoscope.scope import posterior
from infoscope.scope.classes import SETTLED, Moves
from infoscope.scope.displacement import FeatureDisplacement
from infoscope.scope.posterior import (
    Evidence,
    PosteriorRules,
    class_regions,
    fit_prior,
    judge,
    likelihood,
    profile_shares,
)

PAIRS = 24


def evidence_of(
    outcomes, displacement, error=0.05, noise=0.0, broad=0.0, hidden=False, scored=True, scored_again=1.0
) -> Evidence:
    outcomes = np.asarray(outcomes, float)
    count = len(outcomes)
    return Evidence(
        outcomes=outcomes,
        noise_jumps=np.full(count, noise),
        displacement=np.asarray(displacement, float),
        error=np.full(count, error),
        hidden=np.full(count, hidden),
        broad=np.full(count, broad),
        judged=outcomes.sum(1) >= 8,
        scored=(outcomes.sum(1) >= 8) & scored,
        scored_again=np.full(count, float(scored_again if scored else 0)),
    )


# Profiles by kind: shares that follow, stay, keep still and jump, and the displacement of those that follow.
KINDS = {
    "local": ([0.94, 0.02, 0.01, 0.03], 0.05),
    "global": ([0.04, 0.03, 0.0, 0.93], 0.6),
    "position-bound": ([0.03, 0.90, 0.0, 0.07], 0.6),
    "mixed": ([0.9, 0.02, 0.0, 0.08], 0.45),
    "diffuse": ([0.03, 0.02, 0.92, 0.03], 0.4),
}


def drawn(rng, counts: dict[str, int], pairs: int = PAIRS, error: float = 0.05):
    kinds, outcomes, displacement = [], [], []
    for kind, count in counts.items():
        shares, true = KINDS[kind]
        kinds += [kind] * count
        outcomes += rng.multinomial(pairs, shares, count).tolist()
        displacement += rng.normal(true, error, count).tolist()
    return np.array(kinds), evidence_of(outcomes, displacement, error)


def test_the_likelihood_is_multinomial_times_normal_over_each_cell():
    evidence = evidence_of([[10, 2, 0, 4]], [0.33], error=0.07)
    of_shares, of_cells = likelihood(evidence)
    edges = np.concatenate([[-np.inf], posterior._EDGES[1:-1], [np.inf]])
    cells = np.diff(norm.cdf(edges, 0.33, 0.07))
    by_hand = np.array([multinomial.pmf([10, 2, 0, 4], 16, profile) for profile in profile_shares()])
    assert of_shares[0] == pytest.approx(by_hand / by_hand.max(), abs=1e-12)
    assert of_cells[0] == pytest.approx(cells, abs=1e-12)


def test_noise_turns_what_would_follow_or_stay_into_jumps():
    of_shares, _ = likelihood(evidence_of([[10, 2, 1, 3]], [0.33], noise=0.2))
    spared = profile_shares() * np.array([0.8, 0.8, 1.0, 1.0])
    spared[:, 3] = 1.0 - spared[:, :3].sum(1)
    by_hand = np.array([multinomial.pmf([10, 2, 1, 3], 16, profile) for profile in spared])
    assert of_shares[0] == pytest.approx(by_hand / by_hand.max(), abs=1e-12)


def test_the_grid_is_every_tenth_and_adds_up():
    profiles = profile_shares()
    assert len(np.unique(profiles, axis=0)) == len(profiles) == 286  # 13 over 3
    assert profiles.sum(1) == pytest.approx(1.0)
    assert profiles.min() == pytest.approx(0.01)


def region_of(shares: list[float], displacement: float) -> dict[str, float]:
    place = int(np.abs(profile_shares() - 0.01 - 0.96 * np.array(shares)).sum(1).argmin())
    cell = int(np.searchsorted(posterior._EDGES, displacement) - 1)
    return {name: part[place, cell] for name, part in class_regions(PosteriorRules()).items() if part[place, cell]}


@pytest.mark.parametrize(
    ("shares", "displacement", "of"),
    [
        ([0.9, 0.0, 0.0, 0.1], 0.15, {"local": 1.0}),
        ([0.9, 0.0, 0.0, 0.1], 0.25, {"mixed": 1.0}),  # within maps
        ([0.6, 0.0, 0.0, 0.4], 0.05, {"mixed": 1.0}),  # over images
        ([0.1, 0.0, 0.0, 0.9], 0.05, {"global": 1.0}),
        ([0.3, 0.0, 0.0, 0.7], 0.55, {"global": 1.0}),  # what follows keeps half: 0.135 of the mass in all
        ([0.4, 0.0, 0.0, 0.6], 0.05, {"mixed": 1.0}),
        ([0.0, 0.5, 0.0, 0.5], 0.05, {"global": 0.5}),  # on the border: half jump
        ([0.0, 0.6, 0.0, 0.4], 0.05, {}),  # most pairs stay, and the rest jump, as at an edge
        ([0.0, 0.8, 0.0, 0.2], 0.05, {"position-bound": 1.0}),
        ([0.2, 0.0, 0.7, 0.1], 0.05, {"diffuse": 1.0}),
        ([0.4, 0.4, 0.2, 0.0], 0.05, {}),  # none of them
        ([0.9, 0.0, 0.0, 0.1], 0.75, {"mixed": 1.0}),  # no pair keeps much, and few jump
    ],
)
def test_where_the_regions_are(shares, displacement, of):
    assert region_of(shares, displacement) == pytest.approx(of)


def test_no_profile_is_of_two_classes():
    total = np.sum(list(class_regions(PosteriorRules()).values()), axis=0)
    assert total.max() <= 1 + 1e-12
    assert total.min() >= 0


def test_em_climbs():
    _, evidence = drawn(np.random.default_rng(0), {"local": 60, "global": 30})
    of_shares, of_cells = likelihood(evidence)

    def log_likelihood(weights: np.ndarray) -> float:
        return float(np.log(np.einsum("fp,pc,fc->f", of_shares, weights, of_cells)).sum())

    even = np.full((of_shares.shape[1], of_cells.shape[1]), 1 / (of_shares.shape[1] * of_cells.shape[1]))
    assert log_likelihood(fit_prior(evidence)) > log_likelihood(even) + 50
    assert fit_prior(evidence).sum() == pytest.approx(1.0)


def test_kinds_that_are_plain_get_their_class():
    kinds, evidence = drawn(np.random.default_rng(1), dict.fromkeys(KINDS, 80))
    found = judge(evidence, trust=False)
    names = np.array(found.names)
    for kind in KINDS:
        own = names[kinds == kind]
        assert (own == kind).mean() >= 0.85, kind
        assert np.isin(own, [kind, "unsettled"]).mean() >= 0.97, kind
    assert np.nansum(found.chances, axis=1).max() <= 1 + 1e-9


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_posterior_is_a_probability(noise):
    """Of true profiles drawn all over the square, as many features of a class are of it as their posteriors say."""
    chances, truths = [], []
    for seed in range(20, 23):
        rng = np.random.default_rng(seed)
        follow, displacement = rng.uniform(0, 1, 2000), rng.uniform(0, 0.6, 2000)
        outcomes = np.array([rng.multinomial(PAIRS, [f * (1 - noise), 0, 0, 1 - f * (1 - noise)]) for f in follow])
        found = judge(evidence_of(outcomes, displacement + rng.normal(0, 0.05, 2000), noise=noise), trust=False)
        for name, true in (
            ("local", (follow >= 0.75) & (displacement < 0.2)),
            ("global", (follow <= 0.5) & (follow * (1 - displacement) <= 0.25)),
        ):
            chances.append(found.chances[:, SETTLED.index(name)])
            truths.append(true)
    chance, truth = np.concatenate(chances), np.concatenate(truths)
    for low, high, off in ((0.2, 0.5, 0.1), (0.5, 0.8, 0.1), (0.8, 0.9, 0.08), (0.9, 1.01, 0.03)):
        inside = (chance >= low) & (chance < high)
        assert inside.sum() >= 100
        assert truth[inside].mean() == pytest.approx(chance[inside].mean(), abs=off), low


def test_trust_is_the_chance_of_the_same_class_in_new_pairs():
    rng = np.random.default_rng(3)
    count = 2500
    follow = np.where(rng.random(count) < 0.5, rng.uniform(0.7, 1, count), rng.uniform(0, 0.5, count))
    displacement = np.clip(rng.normal(0.15, 0.15, count), 0, 0.7)

    def sample() -> Evidence:
        outcomes = [rng.multinomial(PAIRS, [0.9 * f, 0, 0, 1 - 0.9 * f]) for f in follow]
        return evidence_of(outcomes, displacement + rng.normal(0, 0.05, count), noise=0.1)

    one, other = judge(sample()), judge(sample(), trust=False)
    classed = np.isin(one.names, SETTLED)
    same = np.array(one.names) == np.array(other.names)
    trust = one.again
    assert not np.isnan(trust[classed]).any()
    assert np.isnan(trust[~classed]).all()
    for low, high in ((0.4, 0.8), (0.8, 0.95), (0.95, 1.01)):
        inside = classed & (trust >= low) & (trust < high)
        assert inside.sum() >= 50
        assert same[inside].mean() == pytest.approx(trust[inside].mean(), abs=0.06), low


def test_a_feature_between_two_classes_is_unsettled():
    rng = np.random.default_rng(4)
    evidence = evidence_of([[24, 0, 0, 0]] * 300, rng.uniform(0.0, 0.4, 300))
    names, at_border = np.array(judge(evidence, trust=False).names), np.abs(evidence.displacement - 0.2) < 0.02
    assert at_border.sum() >= 10
    assert set(names[at_border]) == {"unsettled"}
    assert set(names[evidence.displacement < 0.1]) == {"local"}
    assert set(names[evidence.displacement > 0.3]) == {"mixed"}


def test_what_noise_hides_is_diffuse_or_nothing():
    _, plain = drawn(np.random.default_rng(5), {"local": 60, "position-bound": 60, "mixed": 60})
    hidden = replace(plain, hidden=np.ones(180, bool))
    assert set(judge(hidden, trust=False).names) == {"unsettled"}
    assert set(judge(replace(hidden, broad=np.ones(180)), trust=False).names) == {"diffuse"}


def test_jumps_that_noise_explains_are_no_sign_of_context():
    """Half of the pairs jump. Without noise the feature is mixed; where noise makes half jump, it is local."""
    rng = np.random.default_rng(11)
    outcomes = [rng.multinomial(PAIRS, [0.49, 0, 0, 0.51]) for _ in range(200)]
    displacement = rng.normal(0.05, 0.03, 200)
    without = np.array(judge(evidence_of(outcomes, displacement, 0.03), trust=False).names)
    explained = np.array(judge(evidence_of(outcomes, displacement, 0.03, noise=0.5), trust=False).names)
    assert (without == "mixed").mean() > 0.9
    assert (explained == "local").mean() > 0.9


def test_what_jumps_beyond_noise_is_global_all_the_same():
    """Every pair jumps, where noise alone would make 0.4 of them jump."""
    rng = np.random.default_rng(12)
    parked = [rng.multinomial(16, [0.02, 0, 0, 0.98]) for _ in range(60)]
    local = [rng.multinomial(16, [0.58, 0, 0, 0.42]) for _ in range(120)]
    names = np.array(judge(evidence_of(parked + local, [np.nan] * 60 + [0.05] * 120, noise=0.4), trust=False).names)
    assert (names[:60] == "global").mean() > 0.9
    assert "global" not in names[60:]


def test_broad_maps_are_diffuse_unless_they_stay():
    kinds, evidence = drawn(np.random.default_rng(6), {"local": 60, "position-bound": 60})
    names = np.array(judge(replace(evidence, broad=np.ones(120)), trust=False).names)
    assert set(names[kinds == "local"]) == {"diffuse"}
    assert (names[kinds == "position-bound"] == "position-bound").mean() > 0.85


def test_order_and_chunks_change_nothing(monkeypatch):
    _, evidence = drawn(np.random.default_rng(7), {"local": 50, "mixed": 40, "global": 30})
    whole = judge(evidence)
    monkeypatch.setattr(posterior, "_AT_ONCE", 7)
    in_parts = judge(evidence)
    assert in_parts.names == whole.names
    assert in_parts.chances == pytest.approx(whole.chances, abs=1e-9, nan_ok=True)
    assert in_parts.again == pytest.approx(whole.again, abs=1e-9, nan_ok=True)
    order = np.random.default_rng(8).permutation(len(evidence))
    shuffled = judge(evidence.take(order), trust=False)
    assert shuffled.chances == pytest.approx(whole.chances[order], abs=1e-9, nan_ok=True)


def test_too_few_pairs_are_undefined_and_have_no_part_in_the_prior():
    _, evidence = drawn(np.random.default_rng(9), {"local": 50})
    few = evidence_of([[0, 0, 0, 3]] * 50, [0.9] * 50)
    together = Evidence(**{name: np.concatenate([v, vars(few)[name]]) for name, v in vars(evidence).items()})
    found = judge(together, trust=False)
    assert found.names[50:] == ["undefined"] * 50
    assert np.isnan(found.chances[50:]).all()
    assert found.chances[:50] == pytest.approx(judge(evidence, trust=False).chances, abs=1e-9)


def test_without_a_cds_only_places_are_told_and_the_prior_is_of_the_others():
    _, evidence = drawn(np.random.default_rng(9), {"local": 50})
    vanishing = evidence_of([[0, 0, 0, 16]] * 40 + [[0, 16, 0, 0]] * 40, [np.nan] * 80, scored=False)
    together = Evidence(**{name: np.concatenate([v, vars(vanishing)[name]]) for name, v in vars(evidence).items()})
    found = judge(together)
    assert found.names[50:] == ["undefined"] * 40 + ["position-bound"] * 40
    assert np.isnan(found.again[50:90]).all()
    assert np.isnan(np.delete(found.chances[50:], SETTLED.index("position-bound"), axis=1)).all()
    assert (found.chances[90:, SETTLED.index("position-bound")] > 0.9).all()
    assert (found.again[90:] > 0.9).all()
    assert found.chances[:50] == pytest.approx(judge(evidence, trust=False).chances, abs=1e-9)
    # With a CDS those that vanish would be global.
    scored = judge(replace(together, scored=together.judged), trust=False)
    assert scored.names[50:90] == ["global"] * 40


def test_trust_knows_that_new_pairs_may_give_no_cds():
    counts = {"local": 60, "global": 40, "position-bound": 40}
    kinds, evidence = drawn(np.random.default_rng(11), counts)
    sure, unsure = judge(evidence), judge(replace(evidence, scored_again=np.full(len(evidence), 0.6)))
    assert unsure.names == sure.names
    classed = np.array([name not in ("unsettled", "undefined") for name in sure.names])
    bound = kinds == "position-bound"
    ratio = unsure.again / sure.again
    assert ratio[classed & ~bound].mean() == pytest.approx(0.6, abs=0.02)
    assert ratio[classed & bound].mean() == pytest.approx(1.0, abs=0.02)  # this class needs no CDS


def judged_again(valid: np.ndarray, pairs: np.ndarray, least: int) -> Evidence:
    n = np.zeros(len(pairs))
    found = FeatureDisplacement(*[n] * 9, Moves(n, n, n, n, n, n, pairs.astype(np.uint32)))
    return posterior.gather_evidence(found, n, n, valid, least, PosteriorRules())


@pytest.mark.parametrize(("a", "b"), [(6.0, 1.0), (2.0, 2.0), (30.0, 4.0)])
def test_the_chance_of_a_cds_is_how_often_new_pairs_give_one(a, b):
    """Chances drawn from a beta, two samples of pairs: of features alike in one, how many have a CDS in the other."""
    random = np.random.default_rng(12)
    chance, pairs = random.beta(a, b, 60_000), np.full(60_000, 16)
    valid, new = random.binomial(16, chance), random.binomial(16, chance)
    evidence = judged_again(valid, pairs, 8)
    assert (evidence.scored == (valid >= 8)).all()
    for count in range(17):
        alike = valid == count
        if alike.sum() >= 1000:
            assert evidence.scored_again[alike].mean() == pytest.approx((new[alike] >= 8).mean(), abs=0.04), count


def test_the_chance_of_a_cds_of_a_feature_alone_and_without_pairs():
    assert judged_again(np.array([16]), np.array([16]), 8).scored_again[0] > 0.99
    nothing = judged_again(np.array([0, 0]), np.array([0, 0]), 1)
    assert nothing.scored_again.tolist() == [0.0, 0.0]
    assert len(judged_again(np.zeros(0, np.int64), np.zeros(0, np.int64), 1)) == 0


def test_the_expected_false_share_is_the_mean_of_what_is_missing_to_one():
    _, evidence = drawn(np.random.default_rng(10), {"local": 60, "global": 60})
    found = judge(evidence, trust=False)
    own = np.array([name == "local" for name in found.names])
    assert found.false_share("local") == pytest.approx(1 - found.chances[own, 0].mean())
    assert np.isnan(found.false_share("diffuse"))
    assert found.false_share("local") < 1 - PosteriorRules().level
