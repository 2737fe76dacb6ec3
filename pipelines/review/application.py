"""The desk as an ASGI application: what each address answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp

from components.errors import BlockedError, NotApprovedError, RankgateError
from pipelines.review.deciding import ChangedError, Decider, Form
from pipelines.review.desk import Desk
from pipelines.review.pages import render, static_files
from pipelines.review.reading import card_page
from pipelines.review.security import CARD_POLICY, Gate, Secrets
from pipelines.review.views import Said, Views
from pipelines.runs import Run

_LARGEST_FORM = 32_768
_FIELDS = ("page", "code", "card", "seen", "decision", "reason")

Answer = Callable[[Request], Awaitable[Response]]


def review_application(desk: Desk, secrets_: Secrets, *, port: int) -> ASGIApp:
    """The desk behind its gate.

    Args:
        desk: Who sits at it.
        secrets_: What this start keeps to itself.
        port: Where it listens on loopback: other Host headers are refused.
    """
    views, decider = Views(desk, secrets_), Decider(desk)

    def queue(request: Request) -> Response:
        return _page("queue", views.queue(request.query_params))

    def run(request: Request) -> Response:
        held = desk.run(request.path_params["run"])
        return _absent(views) if held is None else _page("run", views.run(held, _signed(held, views, request)))

    def criterion(request: Request) -> Response:
        held = desk.run(request.path_params["run"])
        values = views.criterion(held, request.path_params["criterion"]) if held else None
        return _absent(views) if values is None else _page("criterion", values)

    def finding(request: Request) -> Response:
        held = desk.run(request.path_params["run"])
        number: int = request.path_params["number"]
        values = views.finding(held, request.path_params["criterion"], number) if held else None
        return _absent(views) if values is None else _page("finding", values)

    def card(request: Request) -> Response:
        held = desk.run(request.path_params["run"])
        content = card_page(held, request.path_params["digest"]) if held else None
        if content is None:
            return _absent(views)
        headers = {"content-security-policy": CARD_POLICY}
        return Response(content, media_type="text/html; charset=utf-8", headers=headers)

    async def decision(request: Request) -> Response:
        fields = await _form(request)
        held = await run_in_threadpool(desk.run, request.path_params["run"])
        if held is None:
            return _absent(views)
        return await run_in_threadpool(_decide, held, fields, views, decider)

    def static(request: Request) -> Response:
        found = static_files().get(request.path_params["name"])
        if found is None:
            return _absent(views)
        return Response(found[0], media_type=found[1], headers={"cache-control": "private, max-age=300"})

    def refused(request: Request, error: Exception) -> Response:  # noqa: ARG001
        return _page("message", views.message("This cannot be shown", str(error)), status=409)

    routes = [
        Route("/", queue),
        Route("/runs/{run}", run),
        Route("/runs/{run}/card/{digest}", card),
        Route("/runs/{run}/rules/{criterion}", criterion),
        Route("/runs/{run}/rules/{criterion}/{number:int}", finding),
        Route("/runs/{run}/decision", decision, methods=["POST"]),
        Route("/static/{name}", static),
    ]
    application = Starlette(
        routes=[Mount(f"/{secrets_.folder}", app=Router(routes, redirect_slashes=False))],
        exception_handlers={RankgateError: refused, 404: lambda request, error: _absent(views)},  # noqa: ARG005
    )
    return Gate(application, secrets_, port=port)


def _decide(run: Run, fields: dict[str, str], views: Views, decider: Decider) -> Response:
    if not views.secrets.is_ours(fields["code"], run=run.name, page=fields["page"]):
        said = Said("This form is not from a page of this desk about this run. Nothing was signed.", "bad")
        return _page("run", views.run(run, said), status=403)
    form = Form(**{name: fields[name] for name in ("page", "card", "seen", "decision", "reason")})
    try:
        release = decider.decide(run, form)
    except RankgateError as error:
        said = Said(str(error), "bad", reason=fields["reason"], decision=fields["decision"])
        return _page("run", views.run(run, said), status=_status(error))
    return RedirectResponse(f"{views.at.run(run.name)}?signed={release.digest}", status_code=303)


def _status(error: RankgateError) -> int:
    if isinstance(error, ChangedError):
        return 409
    if isinstance(error, BlockedError | NotApprovedError):
        return 403
    return 422


def _signed(run: Run, views: Views, request: Request) -> Said | None:
    """What is said after a decision, if the address speaks of the decision that lies beside the run."""
    digest = request.query_params.get("signed", "")
    if not digest:
        return None
    decision = views.decision(run)
    if decision is None or decision.release != digest:
        return None
    approval = decision.approval
    name = "Release" if approval.decision == "approved" else "Decision"
    return Said(f"Signed: {approval.decision} by {approval.approver}. {name} {digest[:12]}.", "good")


def _page(template: str, values: dict[str, Any], *, status: int = 200) -> Response:
    return Response(render(template, values), status_code=status, media_type="text/html; charset=utf-8")


def _absent(views: Views) -> Response:
    words = "There is no such page. Runs are listed in the queue."
    return _page("message", views.message("Not found", words), status=404)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; empty where one is missing, given twice, or the body is too long."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_FORM:
            return dict.fromkeys(_FIELDS, "")
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=16, errors="strict")
    except ValueError:
        return dict.fromkeys(_FIELDS, "")
    return {
        name: values[0] if len(values := [value for key, value in pairs if key == name]) == 1 else ""
        for name in _FIELDS
    }
