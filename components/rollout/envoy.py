"""The one configuration of Envoy, on a laptop and in a cluster: who is sent to which arm, and what a failing arm costs.

    user id, release  -> hash  -> place on a line -> | canary |        stable        | baseline |

The line is cut by the shares of the arms, the canary's piece first: a user who is in the canary at 10 % is in it at 50 % too,
and one who is in the baseline stays there. The release is part of the hash, so each canary draws anew, and it is the candidate's
on all arms, so users of the stable arm keep theirs as well. Requests without a user are drawn by their own id.

A canary or a baseline that fails costs a user nothing but time: what cannot be connected, is reset or is answered 502, 503 or 504
is asked again of the stable arm, and an arm that keeps failing is left out for a while.

Two files: `bootstrap` is what Envoy starts with; `routes` is read from a watched folder and replaced by a rename, without a
restart.

Source: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/api; `use_hash_policy` of weighted clusters and `previous_priorities`
of an aggregate cluster are described there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.artifacts.files import write_atomically
from components.errors import Fault, FaultyInputError
from components.rollout.contract import BASELINE, CANARY, STABLE

ROUTES_FILE = "routes.json"
ROUTES = "split"
USER_HEADER = "x-user-id"
"""Names the user to Envoy, which does not read bodies; a gateway or the caller sets it."""
REQUEST_HEADER = "x-request-id"
ARM_HEADER = "x-rankgate-arm"
"""Of an answer: the arm that was drawn. Which one answered is in its body: it is another where the drawn one failed."""
WHOLE = 10_000
"""Shares are whole numbers of ten-thousandths."""

_ORDER = (CANARY, STABLE, BASELINE)
_TYPES = "type.googleapis.com/envoy"
_CONNECT = "0.5s"


@dataclass(frozen=True, slots=True)
class Address:
    """Where an arm listens."""

    host: str
    """A name is looked up again and again; all of its addresses are used."""
    port: int


@dataclass(frozen=True, slots=True)
class Front:
    """What Envoy starts with."""

    listen: Address
    admin: Address
    """Of statistics and of readiness; nobody else's business."""
    arms: Mapping[str, tuple[Address, ...]]
    """By name; the stable one is needed. An arm that does not run yet may be named."""
    folder: Path
    """Watched for `ROUTES_FILE`, as Envoy sees it."""
    timeout_seconds: float = 5.0
    """For a request, all attempts together."""
    try_seconds: float = 2.0
    """For one attempt; then the stable arm is asked."""
    most_requests: int = 1024
    """In flight to one arm; more are refused, rather than waiting for an arm that does not keep up."""


@dataclass(frozen=True, slots=True)
class Split:
    """Who goes where."""

    release: str
    """The candidate's digest: users are drawn by it."""
    shares: Mapping[str, int]
    """Of `WHOLE`, by arm; they add up to it."""


def bootstrap(front: Front) -> dict[str, Any]:
    """What Envoy is started with, as its JSON.

    Raises:
        FaultyInputError: If an arm is unknown, the stable one is missing, or one has no address.
    """
    faults = [
        Fault(
            f"arms.{name}",
            "an unknown arm" if name not in _ORDER else "no address",
            f"one of {', '.join(_ORDER)}, with addresses",
        )
        for name, places in front.arms.items()
        if name not in _ORDER or not places
    ]
    if STABLE not in front.arms:
        faults.append(Fault("arms", ", ".join(front.arms) or "none", f"{STABLE} among them"))
    if faults:
        raise FaultyInputError("traffic", faults)
    arms = [name for name in _ORDER if name in front.arms]
    return {
        "node": {"id": "rankgate", "cluster": "rankgate"},
        "admin": {"address": _address(front.admin)},
        # What Envoy would tell of crashes goes nowhere; a limit of connections keeps it within its memory.
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": f"{_TYPES}.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": 10_000,
                    },
                }
            ]
        },
        "static_resources": {
            "listeners": [_listener(front)],
            "clusters": [
                *(_cluster(name, front.arms[name], front) for name in arms),
                *(_with_fallback(name) for name in arms if name != STABLE),
            ],
        },
    }


def routes(split: Split, front: Front) -> dict[str, Any]:
    """What the watched file holds, as its JSON.

    Raises:
        FaultyInputError: If the shares are none, or of arms that Envoy was not started with.
    """
    faults = [
        Fault(f"shares.{name}", str(share), f"an arm of {', '.join(front.arms)} and at least 0")
        for name, share in split.shares.items()
        if name not in front.arms or share < 0
    ]
    if sum(split.shares.values()) != WHOLE:
        faults.append(Fault("shares", str(sum(split.shares.values())), f"{WHOLE} in all"))
    if not split.release:
        faults.append(Fault("release", "nothing", "the candidate's digest"))
    if faults:
        raise FaultyInputError("traffic", faults)
    return {
        "version_info": f"{split.release[:16]}:" + ",".join(f"{name}={split.shares.get(name, 0)}" for name in _ORDER),
        "resources": [
            {
                "@type": f"{_TYPES}.config.route.v3.RouteConfiguration",
                "name": ROUTES,
                "virtual_hosts": [{"name": "ranker", "domains": ["*"], "routes": [_route(split, front)]}],
            }
        ],
    }


def write_routes(split: Split, front: Front, folder: Path) -> None:
    """Replace the watched file at once: Envoy sees the old split or the new one, never half of either."""
    text = json.dumps(routes(split, front), indent=1, sort_keys=True)
    write_atomically(folder / ROUTES_FILE, text.encode() + b"\n")


def _listener(front: Front) -> dict[str, Any]:
    manager = {
        "@type": f"{_TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ranker",
        "rds": {
            "route_config_name": ROUTES,
            "config_source": {
                "resource_api_version": "V3",
                "path_config_source": {
                    "path": str(front.folder / ROUTES_FILE),
                    "watched_directory": {"path": str(front.folder)},
                },
            },
        },
        # What a caller writes into x-envoy-* headers is nobody's instruction here.
        "use_remote_address": True,
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        # A request is drawn by its id where it has no user: the caller's own id is kept.
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "stream_idle_timeout": "60s",
        "request_timeout": "30s",
        "request_headers_timeout": "10s",
        "common_http_protocol_options": {"idle_timeout": "300s", "headers_with_underscores_action": "REJECT_REQUEST"},
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
        "server_name": "rankgate",
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": f"{_TYPES}.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            }
        ],
    }
    return {
        "name": "front",
        "address": _address(front.listen),
        # Another process on the same port would take half of the requests, unseen.
        "enable_reuse_port": False,
        "per_connection_buffer_limit_bytes": 1 << 21,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _route(split: Split, front: Front) -> dict[str, Any]:
    weighted = [
        {
            "name": drawn_cluster(name),
            "weight": split.shares.get(name, 0),
            "response_headers_to_add": [
                {"header": {"key": ARM_HEADER, "value": name}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            ],
        }
        for name in _ORDER
        if name in front.arms
    ]
    return {
        "match": {"prefix": "/"},
        "route": {
            "weighted_clusters": {"clusters": weighted, "use_hash_policy": True},
            "hash_policy": [
                {"header": _drawn_by(USER_HEADER, split.release), "terminal": True},
                {"header": _drawn_by(REQUEST_HEADER, split.release)},
            ],
            "timeout": f"{front.timeout_seconds:g}s",
            "retry_policy": {
                # A list may be asked for twice: nothing is changed by it. A 500 is an answer, and no other arm's fault.
                "retry_on": "connect-failure,refused-stream,reset,reset-before-request,retriable-status-codes",
                "retriable_status_codes": [502, 503, 504],
                "num_retries": 3,
                "per_try_timeout": f"{front.try_seconds:g}s",
                "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
                "retry_priority": {
                    "name": "envoy.retry_priorities.previous_priorities",
                    "typed_config": {
                        "@type": f"{_TYPES}.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                        "update_frequency": 1,
                    },
                },
                "retry_host_predicate": [
                    {
                        "name": "envoy.retry_host_predicates.previous_hosts",
                        "typed_config": {
                            "@type": f"{_TYPES}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                        },
                    }
                ],
                "host_selection_retry_max_attempts": 3,
            },
        },
    }


def _drawn_by(header: str, release: str) -> dict[str, Any]:
    return {
        "header_name": header,
        "regex_rewrite": {"pattern": {"regex": "^(.*)$"}, "substitution": f"\\1|{release}"},
    }


def _cluster(name: str, places: Sequence[Address], front: Front) -> dict[str, Any]:
    return {
        "name": name,
        "cluster_type": {
            "name": "envoy.clusters.dns",
            "typed_config": {
                "@type": f"{_TYPES}.extensions.clusters.dns.v3.DnsCluster",
                "dns_refresh_rate": "5s",
            },
        },
        "connect_timeout": _CONNECT,
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(place)}} for place in places]}],
        },
        # Nobody is sent to an arm whose replicas are all known to be ill: its users go to the stable one.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0.0}} if name != STABLE else {},
        "health_checks": [
            {
                "timeout": "1s",
                "interval": "1s",
                "no_traffic_interval": "1s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "http_health_check": {"path": "/readyz"},
            }
        ],
        "outlier_detection": {
            "consecutive_5xx": 20,
            "consecutive_gateway_failure": 3,
            "enforcing_consecutive_gateway_failure": 100,
            "interval": "1s",
            "base_ejection_time": "5s",
            "max_ejection_time": "60s",
            # The stable arm keeps at least half: it is what everybody falls back on.
            "max_ejection_percent": 50 if name == STABLE else 100,
        },
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": front.most_requests,
                    "max_pending_requests": front.most_requests,
                    "max_requests": front.most_requests,
                    "max_retries": front.most_requests // 4,
                }
            ]
        },
    }


def _with_fallback(name: str) -> dict[str, Any]:
    """An arm, and the stable one where it fails."""
    return {
        "name": drawn_cluster(name),
        "connect_timeout": _CONNECT,
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {
            "name": "envoy.clusters.aggregate",
            "typed_config": {
                "@type": f"{_TYPES}.extensions.clusters.aggregate.v3.ClusterConfig",
                "clusters": [name, STABLE],
            },
        },
    }


def drawn_cluster(name: str) -> str:
    """Envoy's name of what users of an arm are sent to: the arm itself, and for all but the stable one that behind it."""
    return name if name == STABLE else f"{name}-or-{STABLE}"


def _address(place: Address) -> dict[str, Any]:
    return {"socket_address": {"address": place.host, "port_value": place.port}}
