"""Every field that only a person can fill: its key, what the card calls it, who fills it and who asks for it.

Most are keys of model-card.yaml. The decision is not: an approval adds it, beside the card that it signs.
"""

from __future__ import annotations

from dataclasses import dataclass

from components.card.contract import Unwritten
from components.verdict.contract import Purpose


@dataclass(frozen=True, slots=True)
class TeamField:
    """One key of model-card.yaml."""

    key: str
    label: str
    who: str
    asked: str


TEAM_FIELDS = (
    TeamField("owner", "Owner", "the head of the team", "AI Act Annex IV 1(a); whoever must be called"),
    TeamField("contact", "Contact", "the team", "users, providers and reviewers who want to ask or complain"),
    TeamField("licence", "Licence", "the team with its legal department", "whoever reuses the model; Hugging Face"),
    TeamField("intended_use", "Intended use", "the product owner", "AI Act Annex IV 1(a)"),
    TeamField("intended_users", "Who works with it or meets its lists", "the product owner", "AI Act Annex IV 2(b), 3"),
    TeamField("out_of_scope", "Out of scope", "the product owner", "reviewers; AI Act Annex IV 3"),
    TeamField("surfaces", "Where it is shown", "the product owner", "AI Act Annex IV 1(d)"),
    TeamField("main_parameters", "Main parameters, as users are told them", "the product owner", "DSA Art. 27(1)"),
    TeamField("user_options", "What users can change about it", "the product owner", "DSA Art. 27(1) and (3), Art. 38"),
    TeamField(
        "risks", "Foreseeable harm, and what is done about it", "the team with who is affected", "AI Act Annex IV 3, 5"
    ),
    TeamField("oversight", "Human oversight", "the team", "AI Act Annex IV 2(e), 3"),
    TeamField("rollout", "Canary and way back", "who runs the service", "reviewers; AI Act Annex IV 9"),
    TeamField("retention", "How long models, evidence and logs are kept", "the team with data protection", "reviewers"),
    TeamField("changes", "What is new, as the team says it", "the team", "AI Act Annex IV 6"),
)


def unwritten(purpose: Purpose, *, submitted_by: str) -> tuple[Unwritten, ...]:
    """The fields that are still empty, the decision last: no card holds the signature over itself."""
    empty = [field for field in TEAM_FIELDS if not getattr(purpose, field.key)]
    return (
        *(Unwritten(field.key, field.label, field.who, field.asked) for field in empty),
        Unwritten(
            "approval.dsse.json",
            "Approver, time and signature",
            f"a reviewer other than {submitted_by}",
            "AI Act Annex IV 2(g); they lie beside the card, in the approval that signs it",
        ),
    )
