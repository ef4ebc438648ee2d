"""Counts of what becomes of codes, against dense arrays and loops."""

import numpy as np

from infoscope.scope.noise_counts import NoiseCounts

GRID, FEATURES = 5, 7


def rows(dense):
    token, feature = np.nonzero(dense)
    start = np.searchsorted(token, np.arange(len(dense) + 1))
    return start, feature.astype(np.int32), dense[token, feature].astype(np.float32)


def readings(seed):
    """Two dense encodings ``[token, feature]`` of one view; feature 6 has codes in neither, 5 only in the second."""
    rng = np.random.default_rng(seed)
    codes = rng.lognormal(0.0, 1.0, (GRID * GRID, FEATURES)) * (rng.random((GRID * GRID, FEATURES)) < 0.3)
    codes[:, 6] = 0.0
    noisy = codes * rng.lognormal(0.0, 0.1, codes.shape) * (rng.random(codes.shape) < 0.7)
    noisy += (rng.random(codes.shape) < 0.1) * (codes == 0) * rng.lognormal(0.0, 0.5, codes.shape)
    noisy[:, 6] = 0.0
    codes[:, 5] = 0.0
    return codes.astype(np.float32), noisy.astype(np.float32)


def counted(views, slot, scale, by_token):
    counts = NoiseCounts.empty(int(slot.max()) + 1, len(slot))
    for clean, noisy in views:
        counts.add(rows(clean), rows(noisy), GRID, slot, scale, by_token)
    return counts


def test_counts_are_those_of_a_loop_over_dense_codes():
    scale, slot = np.array([1.0, 2.0, 0.5, 1.0, 1.0, 1.0, 1.0]), np.array([0, 1, -1, 2, 3, 4, 5])
    views = [readings(seed) for seed in range(4)]
    counts = counted(views, slot, scale, by_token=True)
    wanted = NoiseCounts.empty(6, FEATURES)
    wanted.images[:] = 4
    row, column = np.divmod(np.arange(GRID * GRID), GRID)

    def value(code, feature):
        return int(np.clip(np.floor(4 * (np.log2(float(code) / scale[feature]) + 12)), 0, 95))

    def margin(code, codes):
        return int(np.clip(np.floor(8 * np.log2(float(code) / float(codes[codes > 0].min()))), 0, 47))

    for clean, noisy in views:
        for feature in range(FEATURES):
            active = np.flatnonzero(clean[:, feature])
            for token in range(GRID * GRID) if len(active) else ():
                before, after = clean[token, feature], noisy[token, feature]
                if before:
                    wanted.own_codes[feature, value(before, feature) // 4] += 1
                    wanted.own_lost[feature] += not after
                else:
                    apart = int(
                        np.maximum(abs(row[active] - row[token]), abs(column[active] - column[token])).min() > 1
                    )
                    wanted.own_gaps[feature, apart] += 1
                    wanted.own_came[feature, apart] += bool(after)
            own = slot[feature]
            if own < 0:
                continue
            active = np.flatnonzero(clean[:, feature])
            for token in range(GRID * GRID):
                before, after = clean[token, feature], noisy[token, feature]
                if before:
                    wanted.codes[own, value(before, feature)] += 1
                    wanted.margin_codes[own, margin(before, clean[token])] += 1
                    if not after:
                        wanted.lost[own, value(before, feature)] += 1
                        wanted.margin_lost[own, margin(before, clean[token])] += 1
                    else:
                        change = np.floor(50 * np.log2(float(after) / float(before)) + 80.5)
                        wanted.drift[value(before, feature) // 4, int(np.clip(change, 0, 160))] += 1
                if after:
                    wanted.margin_noisy[own, margin(after, noisy[token])] += 1
                    if not before:
                        wanted.margin_born[own, margin(after, noisy[token])] += 1
                        wanted.born[own, value(after, feature)] += 1
                if not before and len(active):
                    nearest = np.hypot(row[active] - row[token], column[active] - column[token]).min()
                    peak = value(clean[:, feature].max(), feature) // 4
                    around = int(
                        (np.maximum(abs(row[active] - row[token]), abs(column[active] - column[token])) == 1).sum()
                    )
                    place = own, peak, around - 1 if around else 6 + int(nearest + 0.5)
                    wanted.cells[place] += 1
                    wanted.appeared[place] += bool(after)
                elif after and not before:
                    wanted.alone[own] += 1
    assert wanted.alone[4] > 0
    assert wanted.appeared.sum() > 20
    assert wanted.own_came.min(1).any()
    for name, array in wanted.arrays().items():
        assert np.array_equal(array, getattr(counts, name)), name


def test_margins_over_the_scale_are_the_values():
    clean, noisy = readings(0)
    scale = np.full(FEATURES, 0.01)
    counts = counted([(clean, noisy)], np.arange(FEATURES), scale, by_token=False)
    margins = np.floor(8 * np.log2(clean[clean > 0].astype(np.float64) / 0.01)).astype(int).clip(0, 47)
    assert np.array_equal(counts.margin_codes.sum(0), np.bincount(margins, minlength=48))


def test_any_split_of_the_views_adds_up_to_the_same():
    views = [readings(seed) for seed in range(6)]
    where = np.arange(FEATURES), np.ones(FEATURES), True
    whole = counted(views, *where)
    parts = [NoiseCounts.from_arrays(counted(part, *where).arrays()) for part in (views[4:], views[:1], views[1:4])]
    for name, array in NoiseCounts.total(parts).arrays().items():
        assert np.array_equal(array, getattr(whole, name)), name
    assert whole.images.tolist() == [6]
