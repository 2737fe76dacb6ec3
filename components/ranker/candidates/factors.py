"""Matrix factorisation: items as short vectors whose products rebuild who took what (PureSVD).

A user is folded in as the sum of the vectors of the items they took, so a user's latest items count without a refit and
no vector of any user is stored.

Source: Cremonesi, Koren and Turrin (2010), "Performance of recommender algorithms on top-N recommendation tasks";
subspace iteration as in Halko, Martinsson and Tropp (2011).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from components.ranker.candidates.interactions import Seen

_ITERATIONS = 6


def item_factors(seen: Seen, *, dimensions: int, damping: float = 0.5, seed: int) -> NDArray[np.float32]:
    """Leading right singular vectors of the binary user x item matrix, shape (n_items, <= dimensions).

    Args:
        seen: Distinct items of each user.
        dimensions: Vectors to keep; fewer where there are fewer items.
        damping: Columns are divided by users ** damping before factorising, so that a handful of best-sellers do not take
            up all directions; 0 leaves them.
        seed: Of the starting subspace.

    Products are sums in a fixed order (sparse kernels and einsum, no threaded BLAS): the same bytes on any thread count.
    """
    dimensions = min(dimensions, seen.n_items)
    matrix = seen.everyone()
    users = np.bincount(seen.items, minlength=seen.n_items)
    matrix.data /= np.maximum(users[seen.items], 1) ** damping
    transposed = sparse.csr_array(matrix.T)
    basis = _orthonormal(np.random.default_rng(seed).standard_normal((seen.n_items, dimensions)))
    for _ in range(_ITERATIONS):
        basis = _orthonormal(transposed @ (matrix @ basis))
    return basis.astype(np.float32)


def _orthonormal(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """An orthonormal basis of the columns' span, by the eigenvectors of their Gram matrix; dead directions become zero."""
    gram = np.einsum("if,ig->fg", vectors, vectors)
    values, directions = np.linalg.eigh(gram)
    alive = values > values[-1] * 1e-12 if values[-1] > 0 else np.zeros(len(values), dtype=bool)
    scale = np.zeros(len(values))
    scale[alive] = 1 / np.sqrt(values[alive])
    turned = directions * scale
    # A fixed sign: eigenvectors are only defined up to theirs.
    turned *= np.where(turned[np.abs(turned).argmax(axis=0), np.arange(len(values))] < 0, -1.0, 1.0)
    basis: NDArray[np.float64] = np.einsum("if,fg->ig", vectors, turned)
    return basis
