"""What is counted between two looks: processes that begin anew, replicas that come and go, arms that are gone."""

from __future__ import annotations

import pytest
from prometheus_client.core import CollectorRegistry

from components.errors import InputError
from components.rollout.contract import CANARY, STABLE, Reading
from components.rollout.reading import drawn_counts, readings, scraped
from components.serving.contract import FAILED, Answer, Ask, Place
from components.serving.metrics import ANSWER_SECONDS, SCORES, ServingMetrics, State, exposition

NOBODY = {"cluster.canary-or-stable.upstream_rq_completed": 0.0}


class Replica:
    """A process that has answered so many lists."""

    def __init__(self, age: float = 60.0) -> None:
        self._registry = CollectorRegistry()
        self._metrics = ServingMetrics(
            self._registry,
            look=lambda: State(True, False, "r", "r", CANARY, 1_000.0 - age, None),
            clock=lambda: 1_000.0,
        )

    def answered(self, lists: int, *, surface: str = "home", fallbacks: tuple[str, ...] = ()) -> Replica:
        for number in range(lists):
            places = (Place("i", 0.3, 1, 1.0, False, "given"),)
            answer = Answer(f"q{number}", places, "r", CANARY, fallbacks, {})
            self._metrics.observe(Ask(f"q{number}", "u", None, 1, surface=surface), answer, 0.004)
        return self

    def __str__(self) -> str:
        return b"".join(exposition(self._registry)).decode()


def _envoy(completed: float, sent: float = 0.0, refused: float = 0.0, again: float = 0.0) -> dict[str, float]:
    of = "cluster.canary-or-stable.upstream_rq"
    return {
        f"{of}_completed": completed,
        f"{of}_5xx": refused,
        f"{of}_retry": again,
        "cluster.canary.upstream_rq_total": sent,
    }


def _between(
    before: dict[str, str], now: dict[str, str], *, envoy: tuple[dict[str, float], dict[str, float]] = (NOBODY, NOBODY)
) -> dict[str, Reading]:
    earlier = scraped(before, envoy[0], arm=CANARY, at=100.0)
    later = scraped(now, envoy[1], arm=CANARY, at=105.0)
    found = readings(earlier, later, arm=CANARY, share=0.1, latency_bounds=ANSWER_SECONDS)
    return {one.segment: one for one in found}


def test_a_window_is_what_was_counted_in_it() -> None:
    replica = Replica().answered(3)
    before = str(replica)
    replica.answered(4).answered(2, fallbacks=(FAILED,)).answered(1, surface="cart")
    found = _between({"a": before}, {"a": str(replica)})
    assert found[""].counts["lists"] == 7
    assert found[""].counts["fallbacks"] == 2
    assert sum(found[""].histograms["latency"]) == 7
    assert sum(found[""].histograms["score"]) == 7
    assert found["surface=home"].counts["lists"] == 6
    assert found["surface=cart"].counts["lists"] == 1
    assert (found[""].began, found[""].seconds) == (100.0, 5.0)


def test_a_process_that_began_anew_is_counted_from_nothing() -> None:
    found = _between({"a": str(Replica().answered(9))}, {"a": str(Replica().answered(2))})
    assert found[""].counts["lists"] == 2
    assert sum(found[""].histograms["latency"]) == 2


def test_replicas_are_counted_each_by_itself() -> None:
    stays = Replica().answered(1_000)
    before = {"a": str(stays), "b": str(Replica().answered(500))}
    now = {"a": str(stays.answered(3)), "b": str(Replica().answered(2))}
    assert _between(before, now)[""].counts["lists"] == 5, "one that begins anew does not take the other along"


def test_a_replica_that_was_not_read_before_is_counted_from_now_on() -> None:
    known = Replica().answered(10)
    before = {"a": str(known)}
    found = _between(before, {"a": str(known.answered(1)), "b": str(Replica().answered(900))})
    assert found[""].counts["lists"] == 1


def test_who_was_asked_for_nothing_has_counted_nothing() -> None:
    found = _between({"a": str(Replica())}, {"a": str(Replica())})[""]
    assert found.counts == {"lists": 0, "empty": 0, "fallbacks": 0, "requests": 0, "errors": 0}
    assert found.histograms == {"latency": (0,) * (len(ANSWER_SECONDS) + 1), "score": (0,) * (len(SCORES) + 1)}


def test_of_an_arm_that_is_gone_envoy_tells_how_many_it_failed() -> None:
    found = _between({"a": str(Replica())}, {}, envoy=(_envoy(10, sent=10), _envoy(25, sent=12)))[""]
    assert found.counts == {"requests": 15, "errors": 13}
    assert found.histograms == {}, "nothing else is known of it"


def test_an_envoy_that_began_anew_is_counted_from_nothing() -> None:
    replica = {"a": str(Replica())}
    found = _between(replica, replica, envoy=(_envoy(100, sent=90), _envoy(20, sent=18)))[""]
    assert (found.counts["requests"], found.counts["errors"]) == (20, 2)


def test_errors_of_requests_in_flight_never_count_below_nothing() -> None:
    replica = {"a": str(Replica())}
    found = _between(replica, replica, envoy=(_envoy(10, sent=8), _envoy(12, sent=11)))[""]
    assert (found.counts["requests"], found.counts["errors"]) == (2, 0)


def test_drawn_requests_of_the_stable_arm_are_its_own() -> None:
    counts = {"cluster.stable.upstream_rq_completed": 9.0, "cluster.stable.upstream_rq_5xx": 2.0}
    assert drawn_counts(counts, STABLE) == (9, 2)
    assert drawn_counts({}, CANARY) is None


def test_replicas_that_count_by_other_bounds_are_refused() -> None:
    one, other = str(Replica().answered(1)), str(Replica().answered(1)).replace('le="0.75"', 'le="0.8"')
    with pytest.raises(InputError, match="replicas count by different bounds"):
        scraped({"a": one, "b": other}, NOBODY, arm=CANARY, at=0.0)


def test_latency_by_other_bounds_than_it_is_judged_by_is_absent() -> None:
    texts = {"a": str(Replica().answered(5))}
    scrape = scraped(texts, NOBODY, arm=CANARY, at=0.0)
    found = readings(scrape, scrape, arm=CANARY, share=0.1, latency_bounds=(*ANSWER_SECONDS[:-1], 2.0))
    assert "latency" not in found[0].histograms
    assert "score" in found[0].histograms


@pytest.mark.parametrize("count", ["NaN", "-1.0", "+Inf"])
def test_what_is_no_count_is_refused(count: str) -> None:
    text = str(Replica().answered(5)).replace('surface="home"} 0.0\n', f'surface="home"}} {count}\n')
    with pytest.raises(InputError, match="needed a count"):
        scraped({"a": text}, NOBODY, arm=CANARY, at=0.0)


def test_what_is_no_exposition_is_refused() -> None:
    with pytest.raises(InputError, match="not as Prometheus has them"):
        scraped({"a": "<html>503</html>"}, NOBODY, arm=CANARY, at=0.0)


def test_the_oldest_features_of_any_replica_count_and_all_must_tell() -> None:
    both = {"a": str(Replica(age=10.0)), "b": str(Replica(age=700.0))}
    assert scraped(both, NOBODY, arm=CANARY, at=0.0).gauges == {"features_age_seconds": 700.0}
    silent = "\n".join(line for line in both["b"].splitlines() if "features_age" not in line) + "\n"
    assert scraped({**both, "b": silent}, NOBODY, arm=CANARY, at=0.0).gauges == {}


def test_surfaces_that_have_no_series_of_their_own_are_no_segment() -> None:
    replica = Replica()
    for number in range(10):
        replica.answered(1, surface=f"s{number}")
    found = _between({"a": str(Replica())}, {"a": str(replica)})
    assert "surface=other" not in found
    assert found[""].counts["lists"] == 10
