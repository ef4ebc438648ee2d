"""The loops behind `infoscope.scope.noise_counts` and `infoscope.scope.code_noise`: compare codes, and imitate them.

Counting compares two encodings of one view. Imitating draws noisy copies of maps; its random numbers come from a
counter that starts at a key of the map, so that a copy depends on its own key and draw alone.
"""

from __future__ import annotations

import math

import numpy as np

from infoscope.runtime.compilation import compiled

# Values are put into quarter octaves from 2^-12 to 2^12 times their scale: a code's chances change little within one.
STEPS, LOWEST, VALUES = 4, -12, 96
# Margins over a token's smallest code, in eighths of an octave from 1 to 64.
MARGIN_STEPS, MARGINS = 8, 48
# Changes of codes that stay, in fiftieths of an octave, from -1.61 to 1.61 octaves.
DRIFT_STEPS, DRIFTS = 50, 161
# Peaks of maps, in octaves.
PEAKS = 24
# Where a patch without a code lies: next to 1, 2, ... 8 codes, or else 2, 3, ... patches from the nearest, rounded; the
# last is all beyond. A gap within a blob and a patch beside it have equal distances, and only the former fills often.
NEIGHBOURS, PLACES = 8, 20


@compiled()
def value_bin(ratio: float) -> int:
    """The bin of a code over its scale."""
    return min(max(math.floor(STEPS * (math.log2(ratio) - LOWEST)), 0), VALUES - 1)


@compiled()
def _margin_bin(ratio: float) -> int:
    return min(max(math.floor(MARGIN_STEPS * math.log2(ratio)), 0), MARGINS - 1)


@compiled()
def _place(squared: int, neighbours: int) -> int:
    if neighbours:
        return neighbours - 1
    return min(int(math.sqrt(squared) + 0.5) - 2 + NEIGHBOURS, PLACES - 1)


@compiled()
def _least(value: np.ndarray, first: int, stop: int) -> float:
    least = np.inf
    for entry in range(first, stop):
        least = min(least, value[entry])
    return least


@compiled()
def count_view(
    clean_start: np.ndarray,
    clean_feature: np.ndarray,
    clean_value: np.ndarray,
    noisy_start: np.ndarray,
    noisy_feature: np.ndarray,
    noisy_value: np.ndarray,
    grid: int,
    slot: np.ndarray,
    scale: np.ndarray,
    by_token: bool,
    codes: np.ndarray,
    lost: np.ndarray,
    born: np.ndarray,
    margin_codes: np.ndarray,
    margin_lost: np.ndarray,
    margin_noisy: np.ndarray,
    margin_born: np.ndarray,
    drift: np.ndarray,
    cells: np.ndarray,
    appeared: np.ndarray,
    alone: np.ndarray,
) -> None:
    """Add one view's codes and what became of them to the counts.

    Args:
        clean_start: row pointers of the view's tokens into the two arrays that follow.
        clean_feature: features, ascending within a token.
        clean_value: their codes.
        noisy_start: the same of the noisy encoding.
        noisy_feature: likewise.
        noisy_value: likewise.
        grid: patches a side.
        slot: ``[feature]``, where a feature is counted; -1: nowhere.
        scale: ``[feature]``, what codes are divided by.
        by_token: whether margins are over the token's smallest code, or over the scale.
        codes: ``[slot, value]``, clean codes. Here and below counts are added to.
        lost: those without a noisy code.
        born: ``[slot, value]``, noisy codes without a clean one.
        margin_codes: ``[slot, margin]``, clean codes.
        margin_lost: those without a noisy one.
        margin_noisy: noisy codes by their margin in the noisy encoding.
        margin_born: those without a clean one.
        drift: ``[peak, drift]``, changes of codes that stay, by the octave of the clean code.
        cells: ``[slot, peak, place]``, patches without a clean code, by the map's peak and where they lie to its codes;
            maps without a clean code are left out.
        appeared: those of them with a noisy code.
        alone: ``[slot]``, noisy codes of maps without a clean one.
    """
    patches, slots = grid * grid, len(alone)
    begin = np.zeros(slots + 1, np.int64)
    for entry in range(clean_start[0], clean_start[patches]):
        if slot[clean_feature[entry]] >= 0:
            begin[slot[clean_feature[entry]] + 1] += 1
    for own in range(slots):
        begin[own + 1] += begin[own]
    written = begin[:-1].copy()
    cell = np.empty(begin[slots], np.int64)
    peak = np.zeros(slots)
    # New codes by slot, in a chain each: the patch, and the one before.
    most = noisy_start[patches] - noisy_start[0]
    last, before, place, new = np.full(slots, -1, np.int64), np.empty(most, np.int64), np.empty(most, np.int64), 0
    for token in range(patches):
        i, stop = clean_start[token], clean_start[token + 1]
        j, noisy_stop = noisy_start[token], noisy_start[token + 1]
        floor, noisy_floor = 1.0, 1.0
        if by_token:
            floor, noisy_floor = _least(clean_value, i, stop), _least(noisy_value, j, noisy_stop)
        while i < stop or j < noisy_stop:
            in_clean = i < stop and (j >= noisy_stop or clean_feature[i] <= noisy_feature[j])
            in_noisy = j < noisy_stop and (i >= stop or noisy_feature[j] <= clean_feature[i])
            feature = clean_feature[i] if in_clean else noisy_feature[j]
            own = slot[feature]
            if own >= 0:
                unit = scale[feature]
                if in_clean:
                    ratio = clean_value[i] / unit
                    bin = value_bin(ratio)
                    margin = _margin_bin(clean_value[i] / floor if by_token else ratio)
                    codes[own, bin] += 1
                    margin_codes[own, margin] += 1
                    cell[written[own]] = token
                    written[own] += 1
                    peak[own] = max(peak[own], ratio)
                    if in_noisy:
                        change = DRIFT_STEPS * math.log2(noisy_value[j] / clean_value[i]) + DRIFTS // 2
                        drift[bin // STEPS, min(max(math.floor(change + 0.5), 0), DRIFTS - 1)] += 1
                    else:
                        lost[own, bin] += 1
                        margin_lost[own, margin] += 1
                if in_noisy:
                    ratio = noisy_value[j] / unit
                    margin = _margin_bin(noisy_value[j] / noisy_floor if by_token else ratio)
                    margin_noisy[own, margin] += 1
                    if not in_clean:
                        margin_born[own, margin] += 1
                        born[own, value_bin(ratio)] += 1
                        place[new], before[new] = token, last[own]
                        last[own] = new
                        new += 1
            if in_clean:
                i += 1
            if in_noisy:
                j += 1
    nearest, neighbours = np.empty(patches, np.int64), np.empty(patches, np.int64)
    for own in range(slots):
        first, stop = begin[own], begin[own + 1]
        if first == stop:
            entry = last[own]
            while entry >= 0:
                alone[own] += 1
                entry = before[entry]
            continue
        _surroundings(cell, first, stop, grid, nearest, neighbours)
        octave = value_bin(peak[own]) // STEPS
        for token in range(patches):
            if nearest[token] > 0:
                cells[own, octave, _place(nearest[token], neighbours[token])] += 1
        entry = last[own]
        while entry >= 0:
            appeared[own, octave, _place(nearest[place[entry]], neighbours[place[entry]])] += 1
            entry = before[entry]


@compiled()
def count_own(
    clean_start: np.ndarray,
    clean_feature: np.ndarray,
    clean_value: np.ndarray,
    noisy_start: np.ndarray,
    noisy_feature: np.ndarray,
    grid: int,
    scale: np.ndarray,
    codes: np.ndarray,
    lost: np.ndarray,
    gaps: np.ndarray,
    came: np.ndarray,
) -> None:
    """Count, for every feature of the dictionary, what becomes of its codes and of the patches without one.

    Args:
        clean_start: row pointers of the view's tokens into the two arrays that follow.
        clean_feature: features, ascending within a token.
        clean_value: their codes.
        noisy_start: row pointers of the same view with noise.
        noisy_feature: features, likewise.
        grid: patches a side.
        scale: ``[feature]``, what codes are divided by.
        codes: ``[feature, octave]``, clean codes by value. Counts are added to.
        lost: ``[feature]``, those of them without a noisy code.
        gaps: ``[feature, 2]``, patches without a clean code, of maps that have one: next to a code, and others.
        came: ``[feature, 2]``, those of them with a noisy code.
    """
    patches, features = grid * grid, len(lost)
    begin, noisy_begin = np.zeros(features + 1, np.int64), np.zeros(features + 1, np.int64)
    for entry in range(clean_start[0], clean_start[patches]):
        begin[clean_feature[entry] + 1] += 1
    for entry in range(noisy_start[0], noisy_start[patches]):
        noisy_begin[noisy_feature[entry] + 1] += 1
    for feature in range(features):
        begin[feature + 1] += begin[feature]
        noisy_begin[feature + 1] += noisy_begin[feature]
    written, noisy_written = begin[:-1].copy(), noisy_begin[:-1].copy()
    cell, value = np.empty(begin[features], np.int64), np.empty(begin[features])
    noisy_cell = np.empty(noisy_begin[features], np.int64)
    for token in range(patches):
        for entry in range(clean_start[token], clean_start[token + 1]):
            place = written[clean_feature[entry]]
            cell[place], value[place] = token, clean_value[entry]
            written[clean_feature[entry]] += 1
        for entry in range(noisy_start[token], noisy_start[token + 1]):
            noisy_cell[noisy_written[noisy_feature[entry]]] = token
            noisy_written[noisy_feature[entry]] += 1
    # Of each patch: 1, has a clean code; 2, is next to one; 4, has a noisy code. It is cleared after each feature.
    state = np.zeros(patches, np.uint8)
    for feature in range(features):
        first, stop = begin[feature], begin[feature + 1]
        if first == stop:
            continue
        beside = 0
        for entry in range(first, stop):
            state[cell[entry]] |= 1
        for entry in range(first, stop):
            row, column = cell[entry] // grid, cell[entry] % grid
            for y in range(max(row - 1, 0), min(row + 2, grid)):
                for x in range(max(column - 1, 0), min(column + 2, grid)):
                    if state[y * grid + x] == 0:
                        state[y * grid + x] = 2
                        beside += 1
        gaps[feature, 0] += beside
        gaps[feature, 1] += patches - (stop - first) - beside
        for entry in range(noisy_begin[feature], noisy_begin[feature + 1]):
            token = noisy_cell[entry]
            if state[token] == 2:
                came[feature, 0] += 1
            elif state[token] == 0:
                came[feature, 1] += 1
            state[token] |= 4
        for entry in range(first, stop):
            codes[feature, value_bin(value[entry] / scale[feature]) // STEPS] += 1
            if state[cell[entry]] & 4 == 0:
                lost[feature] += 1
        for entry in range(first, stop):
            row, column = cell[entry] // grid, cell[entry] % grid
            for y in range(max(row - 1, 0), min(row + 2, grid)):
                for x in range(max(column - 1, 0), min(column + 2, grid)):
                    state[y * grid + x] = 0
        for entry in range(noisy_begin[feature], noisy_begin[feature + 1]):
            state[noisy_cell[entry]] = 0


@compiled()
def _surroundings(
    cell: np.ndarray, first: int, stop: int, grid: int, nearest: np.ndarray, neighbours: np.ndarray
) -> None:
    """The squared distance of every patch from the nearest of some patches, and how many of these are around it."""
    neighbours[:] = 0
    for entry in range(first, stop):
        row, column = cell[entry] // grid, cell[entry] % grid
        for y in range(max(row - 1, 0), min(row + 2, grid)):
            for x in range(max(column - 1, 0), min(column + 2, grid)):
                neighbours[y * grid + x] += 1
    for token in range(grid * grid):
        row, column = token // grid, token % grid
        least = 2 * grid * grid
        for entry in range(first, stop):
            down, right = cell[entry] // grid - row, cell[entry] % grid - column
            least = min(least, down * down + right * right)
        nearest[token] = least


@compiled()
def _mixed(state: np.uint64) -> np.uint64:
    """One step of splitmix64 (Steele, Lea and Flood 2014)."""
    z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled()
def _uniform(state: np.ndarray) -> float:
    """The next number above 0 and below 1."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    return (float(_mixed(state[0]) >> np.uint64(11)) + 0.5) * 2.0**-53


@compiled()
def noisy_copies(
    start: np.ndarray,
    patch: np.ndarray,
    value: np.ndarray,
    scale: np.ndarray,
    key: np.ndarray,
    grid: int,
    top: int,
    side: int,
    lost: np.ndarray,
    spread: np.ndarray,
    appears: np.ndarray,
    born: np.ndarray,
    stays: np.ndarray,
    gain: np.ndarray,
    extra: np.ndarray,
    out: np.ndarray,
) -> None:
    """Draw noisy copies of maps, on a window of the grid.

    Args:
        start: row pointers, ``[map + 1]``.
        patch: patches of the codes, on the whole grid.
        value: the codes.
        scale: ``[map]``, what codes are divided by.
        key: uint64 ``[map]``, where each map's random numbers begin.
        grid: patches a side.
        top: the window's first row and column.
        side: the window's patches a side.
        lost: ``[value]``, the chance that a code of this size is lost.
        spread: ``[peak]``, standard deviation of the logarithm of what a code that stays is multiplied with.
        appears: ``[peak, place]``, the chance that a patch without a code gets one.
        born: ``[value]``, the cumulative shares of the sizes of codes that appear.
        stays: ``[map]``, what the chance that a code stays is multiplied with; it does not exceed 1.
        gain: ``[map, 2]``, what the chance of a patch without a code is multiplied with: next to a code, and elsewhere.
        extra: ``[map, 2]``, what is added to it.
        out: ``[map, draw, cell]``, the copies; zeros.
    """
    state = np.empty(1, np.uint64)
    nearest, neighbours = np.empty(grid * grid, np.int64), np.empty(grid * grid, np.int64)
    held = np.zeros(grid * grid)
    cell = patch.astype(np.int64)
    for row_of_map in range(len(start) - 1):
        first, stop = start[row_of_map], start[row_of_map + 1]
        if first == stop:
            continue
        _surroundings(cell, first, stop, grid, nearest, neighbours)
        unit, peak = scale[row_of_map], 0.0
        for entry in range(first, stop):
            held[cell[entry]] = value[entry]
            peak = max(peak, value[entry])
        octave = value_bin(peak / unit) // STEPS
        for draw in range(out.shape[1]):
            state[0] = _mixed(key[row_of_map] + np.uint64(draw + 1) * np.uint64(0xD1B54A32D192ED03))
            for row in range(side):
                for column in range(side):
                    token = (top + row) * grid + top + column
                    code = 0.0
                    if nearest[token] == 0:
                        bin = value_bin(held[token] / unit)
                        if _uniform(state) < stays[row_of_map] * (1.0 - lost[bin]):
                            # Box and Muller 1958.
                            angle, radius = 2.0 * math.pi * _uniform(state), math.sqrt(-2.0 * math.log(_uniform(state)))
                            code = held[token] * math.exp(spread[bin // STEPS] * radius * math.cos(angle))
                    else:
                        chance = appears[octave, _place(nearest[token], neighbours[token])]
                        where = 0 if neighbours[token] else 1
                        chance = gain[row_of_map, where] * chance + extra[row_of_map, where]
                        if _uniform(state) >= chance:
                            continue
                        chance, bin = _uniform(state), 0
                        while bin < VALUES - 1 and born[bin] < chance:
                            bin += 1
                        code = unit * 2.0 ** (LOWEST + (bin + _uniform(state)) / STEPS)
                    out[row_of_map, draw, row * side + column] = code
        for entry in range(first, stop):
            held[cell[entry]] = 0.0
