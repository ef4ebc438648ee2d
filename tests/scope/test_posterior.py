"""Posterior classes against brute force, and against truth that was drawn; trust is asked for where it is tested."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multinomial, norm

from infoscope.scope import posterior
from infoscope.scope.classes import SETTLED
from infoscope.scope.posterior import Evidence, PosteriorRules, fit_prior, grid_of_profiles, judge, likelihood

PAIRS = 24


def evidence_of(outcomes, displacement, error=0.05, noise=0.0, broad=0.0, kept=None) -> Evidence:
    outcomes, displacement = np.asarray(outcomes, float), np.asarray(displacement, float)
    count = len(outcomes)
    return Evidence(
        outcomes=outcomes,
        displacement=displacement,
        error=np.full(count, error),
        kept=displacement * (1 - noise) + noise if kept is None else np.full(count, kept),
        noise=np.full(count, noise),
        broad=np.full(count, broad),
        judged=outcomes.sum(1) >= 8,
    )


# Profiles by kind: shares that follow, stay, keep still and jump, and the displacement.
KINDS = {
    "local": ([0.92, 0.02, 0.02, 0.04], 0.08),
    "global": ([0.04, 0.03, 0.0, 0.93], 0.95),
    "position-bound": ([0.05, 0.85, 0.0, 0.10], 0.97),
    "mixed": ([0.5, 0.05, 0.0, 0.45], 0.5),
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
    found = likelihood(evidence, grid_of_profiles())[0].reshape(-1, len(posterior._EDGES) - 1)
    edges = np.concatenate([[-np.inf], posterior._EDGES[1:-1], [np.inf]])
    cells = np.diff(norm.cdf(edges, 0.33, 0.07))
    profiles = np.unique(grid_of_profiles().shares, axis=0)
    by_hand = np.array([multinomial.pmf([10, 2, 0, 4], 16, profile) for profile in profiles]) ** 0.5
    wanted = np.outer(by_hand, cells)
    assert found / found.max() == pytest.approx(wanted / wanted.max(), abs=1e-12)


def test_the_grid_is_every_tenth_and_adds_up():
    profiles = np.unique(grid_of_profiles().shares, axis=0)
    assert len(profiles) == 286  # 13 over 3
    assert len(grid_of_profiles().shares) == 286 * 14
    assert profiles.sum(1) == pytest.approx(1.0)
    assert profiles.min() == pytest.approx(0.01)


def test_em_climbs():
    _, evidence = drawn(np.random.default_rng(0), {"local": 60, "global": 30})
    chance = likelihood(evidence, grid_of_profiles())

    def log_likelihood(weights: np.ndarray) -> float:
        return float(np.log(chance @ weights).sum())

    even = np.full(chance.shape[1], 1 / chance.shape[1])
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


def test_a_posterior_is_a_probability():
    """Of true profiles drawn all over the square, as many features of a class are of it as their posteriors say."""
    chances, truths = [], []
    for seed in range(20, 23):
        rng = np.random.default_rng(seed)
        follow, displacement = rng.uniform(0, 1, (2, 2000))
        outcomes = np.array([rng.multinomial(PAIRS, [f, 0, 0, 1 - f]) for f in follow])
        # Outcomes count half, so twice as many tell what they say.
        evidence = evidence_of(outcomes * 2, displacement + rng.normal(0, 0.05, 2000))
        found = judge(evidence, trust=False)
        for name, true in (
            ("local", (follow >= 0.5) & (displacement < 0.2)),
            ("global", (follow <= 0.5) & (displacement >= 0.8)),
        ):
            chances.append(found.chances[:, SETTLED.index(name)])
            truths.append(true)
    chance, truth = np.concatenate(chances), np.concatenate(truths)
    for low, high, off in ((0.2, 0.5, 0.1), (0.5, 0.8, 0.1), (0.8, 0.9, 0.08), (0.9, 1.01, 0.03)):
        inside = (chance >= low) & (chance < high)
        assert inside.sum() >= 150
        assert truth[inside].mean() == pytest.approx(chance[inside].mean(), abs=off), low


def test_trust_is_the_chance_of_the_same_class_in_new_pairs():
    rng = np.random.default_rng(3)
    count = 2500
    follow = np.where(rng.random(count) < 0.5, rng.uniform(0.7, 1, count), rng.uniform(0, 0.5, count))
    displacement = np.clip(1 - follow + rng.normal(0, 0.15, count), 0, 1)

    def sample() -> Evidence:
        # Twice the pairs, for they count half.
        outcomes = [2 * rng.multinomial(PAIRS, [f, 0, 0, 1 - f]) for f in follow]
        return evidence_of(outcomes, displacement + rng.normal(0, 0.05, count))

    one, other = judge(sample()), judge(sample(), trust=False)
    classed = np.isin(one.names, SETTLED)
    same = np.array(one.names) == np.array(other.names)
    trust = one.again
    assert not np.isnan(trust[classed]).any()
    assert np.isnan(trust[~classed]).all()
    for low, high in ((0.4, 0.8), (0.8, 0.95), (0.95, 1.01)):
        inside = classed & (trust >= low) & (trust < high)
        assert inside.sum() >= 50
        assert same[inside].mean() == pytest.approx(trust[inside].mean(), abs=0.09), low


def test_a_feature_between_two_classes_is_unsettled():
    rng = np.random.default_rng(4)
    evidence = evidence_of([[24, 0, 0, 0]] * 300, rng.uniform(0.0, 0.4, 300))
    names, at_border = np.array(judge(evidence, trust=False).names), np.abs(evidence.displacement - 0.2) < 0.02
    assert at_border.sum() >= 10
    assert set(names[at_border]) == {"unsettled"}
    assert set(names[evidence.displacement < 0.1]) == {"local"}
    assert set(names[evidence.displacement > 0.3]) == {"mixed"}


def test_what_noise_hides_is_never_local_and_global_only_where_all_is_displaced():
    _, plain = drawn(np.random.default_rng(5), {"local": 60, "global": 60})
    hidden = replace(plain, displacement=np.full(120, np.nan), noise=np.full(120, 0.9), kept=np.full(120, 0.95))
    names = np.array(judge(hidden, trust=False).names)
    assert set(names[:60]) <= {"unsettled"}
    assert set(names[60:]) == {"global"}
    assert "global" not in judge(replace(hidden, kept=np.full(120, 0.7)), trust=False).names


def test_what_noise_nearly_explains_is_not_global():
    """Noise displaces 0.7 of what unrelated pictures do, and the feature 0.83: little beyond noise, much in all."""
    rng = np.random.default_rng(11)
    _, parked = drawn(rng, {"global": 60})
    outcomes = np.array([rng.multinomial(PAIRS, [0.2, 0, 0, 0.8]) for _ in range(60)], float)
    noisy = evidence_of(outcomes, rng.normal(0.42, 0.04, 60), noise=0.7)
    assert noisy.kept.mean() > 0.8
    together = Evidence(**{name: np.concatenate([v, vars(noisy)[name]]) for name, v in vars(parked).items()})
    names = np.array(judge(together, trust=False).names)
    assert (names[:60] == "global").all()
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


def test_the_expected_false_share_is_the_mean_of_what_is_missing_to_one():
    _, evidence = drawn(np.random.default_rng(10), {"local": 60, "global": 60})
    found = judge(evidence, trust=False)
    own = np.array([name == "local" for name in found.names])
    assert found.false_share("local") == pytest.approx(1 - found.chances[own, 0].mean())
    assert np.isnan(found.false_share("diffuse"))
    assert found.false_share("local") < 1 - PosteriorRules().level
