from __future__ import annotations

import numpy as np
from scipy import stats

from components.ranker.draws import draw, sample


def test_a_draw_depends_on_nothing_but_its_key_and_seed():
    requests, items = np.repeat(np.arange(40), 30), np.tile(np.arange(30), 40)
    all_at_once = draw(requests, items, seed=7)
    shuffled = np.random.default_rng(0).permutation(len(items))
    np.testing.assert_array_equal(draw(requests[shuffled], items[shuffled], seed=7), all_at_once[shuffled])
    np.testing.assert_array_equal(draw(requests[5:6], items[5:6], seed=7), all_at_once[5:6])
    assert (draw(requests, items, seed=8) != all_at_once).all()


def test_draws_are_uniform_and_requests_do_not_resemble_each_other():
    grid = draw(np.repeat(np.arange(300), 300), np.tile(np.arange(300), 300), seed=0).reshape(300, 300)
    assert stats.kstest(grid.ravel(), "uniform").pvalue > 0.001
    correlations = np.corrcoef(grid)[np.triu_indices(300, 1)]
    assert abs(correlations).max() < 0.35
    assert abs(np.corrcoef(grid.T)[np.triu_indices(300, 1)]).max() < 0.35


def test_a_sample_keeps_its_members_when_others_join():
    some, more = np.arange(1000, dtype=np.int32), np.arange(2000, dtype=np.int32)
    assert set(sample(some, share=0.3, seed=1)) == set(sample(more, share=0.3, seed=1)) & set(some.tolist())
    assert 250 < len(sample(some, share=0.3, seed=1)) < 350
    assert len(sample(some, share=1.7, seed=1)) == 1000
