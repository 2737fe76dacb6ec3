"""Exact sums of per-user terms over groups, as they are and under bootstrap weights.

A bootstrap of users is a product of matrices: weights (resamples x users) times terms (users x terms). Floating-point
addition depends on its order, and so on the number of threads, the processor and the BLAS behind the product. A gate that
is replayed elsewhere must get the same bytes, so terms are first rounded to a grid of integers so fine that no sum can
leave the 53 bits of a double: every order of adding then gives the same number. With 100 000 users the grid is 2**-33 of
a term's largest value.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_BLOCK_USERS = 1024
_LARGEST_WEIGHT = 8


def _poisson_table() -> NDArray[np.uint8]:
    """Poisson(1) counts, one for each 16-bit number, so that random bits become weights by one look-up.

    Exact to 2**-16 in each probability: mean 1, variance 0.9999, no count above 8.
    """
    cumulative, probability = [], math.exp(-1)
    total = 0.0
    for count in range(_LARGEST_WEIGHT):
        total += probability
        cumulative.append(total)
        probability /= count + 1
    midpoints = (np.arange(1 << 16) + 0.5) / (1 << 16)
    return np.searchsorted(np.array(cumulative), midpoints).astype(np.uint8)


_POISSON = _poisson_table()


def poisson_weights(seed: int, block: int, *, users: int, resamples: int) -> NDArray[np.float64]:
    """Bootstrap weights of one block of users, shape (users, resamples).

    Each user is drawn a Poisson(1) number of times: the bootstrap for samples so large, or so split up, that a fixed
    total does not matter, and the only one whose weights a block can make without knowing of the others (Hanley and
    MacGibbon, 2006). From the raw bits of the generator, whose stream numpy promises to keep.
    """
    return _counts(seed, block, users, resamples).astype(np.float64)


# Evidence asks many questions of the same users under one seed: a run of 2 000 makes its weights once, not sixty times.
@lru_cache(maxsize=8)
def _counts(seed: int, block: int, users: int, resamples: int) -> NDArray[np.uint8]:
    bits = np.random.PCG64(np.random.SeedSequence([seed, block])).random_raw((users * resamples + 3) // 4)
    words = bits if sys.byteorder == "little" else bits.byteswap()
    counts = _POISSON.take(words.view(np.uint16)[: users * resamples]).reshape(users, resamples)
    counts.flags.writeable = False
    return counts


def grid_units(terms: NDArray[np.float64], *, spare_bits: int) -> NDArray[np.float64]:
    """Unit of each column's grid, shape (terms,): a power of two, so that dividing by it rounds nothing.

    Args:
        terms: Shape (users, terms), finite.
        spare_bits: Bits of a double kept free for adding: log2 of the largest number of times a term may be added.
    """
    largest = np.maximum(terms.max(axis=0, initial=0.0), -terms.min(axis=0, initial=0.0))
    units: NDArray[np.float64] = np.ldexp(1.0, np.frexp(largest)[1] - (52 - spare_bits))
    return units


def group_sums(terms: NDArray[np.float64], members: Sequence[NDArray[np.intp]]) -> NDArray[np.float64]:
    """Sum of each term over each group's users, shape (groups, terms); the same whatever the order of adding."""
    unit = grid_units(terms, spare_bits=_bits(terms.shape[0]))
    sums = np.empty((len(members), terms.shape[1]))
    for column in range(terms.shape[1]):
        numbers = np.rint(terms[:, column] / unit[column])
        for index, users in enumerate(members):
            sums[index, column] = numbers[users].sum()
    return sums * unit


def resampled_sums(
    terms: NDArray[np.float64], members: Sequence[NDArray[np.intp]], *, resamples: int, seed: int
) -> NDArray[np.float64]:
    """Weighted sum of each term over each group's users in each resample, shape (groups, terms, resamples).

    A user has the same weights in every group and term. Memory is the result and one block of users.

    Args:
        terms: Shape (users, terms), finite.
        members: Row numbers of each group's users, ascending.
        resamples: Number of resamples.
        seed: Seed; with the order of users it fixes every weight.
    """
    users, columns = terms.shape
    unit = grid_units(terms, spare_bits=_bits(users * _LARGEST_WEIGHT))
    sums = np.zeros((len(members), columns, resamples))
    edges = np.array([*range(0, users, _BLOCK_USERS), users])
    bounds = [np.searchsorted(group, edges) for group in members]
    chosen = np.empty((min(users, _BLOCK_USERS), resamples))
    for block, (start, end) in enumerate(pairwise(edges.tolist())):
        weights = poisson_weights(seed, block, users=end - start, resamples=resamples)
        numbers = np.rint(terms[start:end] / unit)
        for index, group in enumerate(members):
            rows = group[bounds[index][block] : bounds[index][block + 1]] - start
            if rows.size == end - start:
                sums[index] += numbers.T @ weights
            elif rows.size:
                # Into the same memory each time: asking the system for new pages costs more than the copy.
                own = np.take(weights, rows, axis=0, out=chosen[: rows.size], mode="clip")
                sums[index] += numbers[rows].T @ own
    return sums * unit[:, None]


def square_resolution(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What rounding to the grid may leave of a mean square less the square of the mean, shape (columns,)."""
    exponent = _bits(values.shape[0] * _LARGEST_WEIGHT) - 50
    resolution: NDArray[np.float64] = np.ldexp(np.abs(values).max(axis=0, initial=0.0) ** 2, exponent)
    return resolution


def _bits(additions: int) -> int:
    return max(additions, 1).bit_length()
