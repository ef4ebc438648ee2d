"""What becomes of codes under pixel noise, counted: each feature's lost, staying and new codes (method, section 4).

Counts are whole numbers, so that those of any split of the images add up to the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from infoscope.scope.code_noise_kernel import DRIFTS, MARGINS, PEAKS, PLACES, VALUES, count_own, count_view

# Start, feature and value of the codes above 0 of consecutive tokens, features ascending within a token.
Codes = tuple[Int64[np.ndarray, " _token_plus_one"], Int32[np.ndarray, " _code"], Float32[np.ndarray, " _code"]]


@dataclass(frozen=True)
class NoiseCounts:
    """Codes of the same views without and with pixel noise, counted by feature.

    A *clean* code is one without noise, a *noisy* one with it. *Values* are codes over their scale, in quarter octaves;
    *peaks* are the largest of a map's clean values, in octaves; *margins* are codes over the smallest code of their
    token or over their scale, in eighths of an octave; *places* of patches without a clean code are next to 1, 2, ... 8
    of the map's clean codes, or else 2, 3, ... patches from the nearest.

    Attributes:
        images: views that were compared, ``[1]``.
        codes: clean codes.
        lost: those without a noisy code.
        born: noisy codes without a clean one.
        margin_codes: clean codes by margin.
        margin_lost: those of them without a noisy code.
        margin_noisy: noisy codes by their margin among noisy ones.
        margin_born: those of them without a clean code.
        drift: logarithms of noisy over clean code, in fiftieths of an octave, by the octave of the clean value; of all
            counted features together.
        cells: patches without a clean code, of maps that have any.
        appeared: those of them with a noisy code.
        alone: noisy codes of maps without a clean one.
        own_codes: clean codes by octave of the value. This and the next three are of every feature of the dictionary.
        own_lost: those of them without a noisy code.
        own_gaps: patches without a clean code, of maps that have one: next to a code, and others.
        own_came: those of them with a noisy code.
    """

    images: Int64[np.ndarray, " 1"]
    codes: Int64[np.ndarray, "feature value"]
    lost: Int64[np.ndarray, "feature value"]
    born: Int64[np.ndarray, "feature value"]
    margin_codes: Int64[np.ndarray, "feature margin"]
    margin_lost: Int64[np.ndarray, "feature margin"]
    margin_noisy: Int64[np.ndarray, "feature margin"]
    margin_born: Int64[np.ndarray, "feature margin"]
    drift: Int64[np.ndarray, "peak change"]
    cells: Int64[np.ndarray, "feature peak place"]
    appeared: Int64[np.ndarray, "feature peak place"]
    alone: Int64[np.ndarray, " feature"]
    own_codes: Int64[np.ndarray, "every octave"]
    own_lost: Int64[np.ndarray, " every"]
    own_gaps: Int64[np.ndarray, "every 2"]
    own_came: Int64[np.ndarray, "every 2"]

    @classmethod
    def empty(cls, features: int, every: int | None = None) -> NoiseCounts:
        """No codes of so many counted features, of a dictionary of ``every``; by default all are counted."""
        every = features if every is None else every
        by_value, by_margin, by_place = (features, VALUES), (features, MARGINS), (features, PEAKS, PLACES)
        shapes = {
            "images": (1,),
            "codes": by_value,
            "lost": by_value,
            "born": by_value,
            "margin_codes": by_margin,
            "margin_lost": by_margin,
            "margin_noisy": by_margin,
            "margin_born": by_margin,
            "drift": (PEAKS, DRIFTS),
            "cells": by_place,
            "appeared": by_place,
            "alone": (features,),
            "own_codes": (every, PEAKS),
            "own_lost": (every,),
            "own_gaps": (every, 2),
            "own_came": (every, 2),
        }
        return cls(**{name: np.zeros(shape, np.int64) for name, shape in shapes.items()})

    @classmethod
    def total(cls, parts: Sequence[NoiseCounts]) -> NoiseCounts:
        """The sum of several counts of the same features; at least one."""
        return cls(**{field.name: sum(getattr(part, field.name) for part in parts) for field in fields(cls)})

    def arrays(self) -> dict[str, np.ndarray]:
        """The counts as named arrays, for a shard's file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> NoiseCounts:
        """The inverse of `arrays`."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    def add(
        self,
        clean: Codes,
        noisy: Codes,
        grid: int,
        slot: Int64[np.ndarray, " feature"],
        scale: Float64[np.ndarray, " feature"],
        by_token: bool,
    ) -> None:
        """Count the codes of one view.

        Args:
            clean: its codes.
            noisy: its codes with pixel noise.
            grid: p, patches a side.
            slot: where each feature of the dictionary is counted; -1 where it is not.
            scale: what the codes of each feature are divided by.
            by_token: whether margins are over the smallest code of a token, rather than over the scale.

        Example:
            Of two patches one keeps its code of feature 0; the other's goes, and feature 1 fires there instead:

            >>> counts = NoiseCounts.empty(2)
            >>> start = np.array([0, 1, 2, 2, 2])
            >>> clean = (start, np.array([0, 0], np.int32), np.array([2.0, 1.0], np.float32))
            >>> noisy = (start, np.array([0, 1], np.int32), np.array([2.0, 1.0], np.float32))
            >>> counts.add(clean, noisy, 2, np.arange(2), np.ones(2), by_token=True)
            >>> counts.codes.sum(1).tolist(), counts.lost.sum(1).tolist(), counts.alone.tolist()
            ([2, 0], [1, 0], [0, 1])
        """
        self.images[:] += 1
        own = self.own_codes, self.own_lost, self.own_gaps, self.own_came
        count_own(*clean, noisy[0], noisy[1], grid, scale, *own)
        count_view(
            *clean,
            *noisy,
            grid,
            slot,
            scale,
            by_token,
            self.codes,
            self.lost,
            self.born,
            self.margin_codes,
            self.margin_lost,
            self.margin_noisy,
            self.margin_born,
            self.drift,
            self.cells,
            self.appeared,
            self.alone,
        )
