"""What the proxy figures say, in sentences for a product manager: measured facts, no verdict; and how they were made."""

from __future__ import annotations

from collections.abc import Sequence

from components.evidence.contract import Estimate
from components.evidence.proxies_learning import BLOCKS, FIRST_SHARE
from components.evidence.proxies_power import LEAST_ALONE, LEAST_USERS
from components.evidence.quality_words import counted, interval

NOTHING_DECLARED = (
    "The dataset contract declares no sensitive attribute, so whether features stand in for one was not measured."
)
STANDS_IN = 0.75
"""AUC from which a feature is called a stand-in in `proxied_importance`: of two users, it picks the one with the value in
three of four tries, where guessing picks them in two."""

_GUESS = 0.5

CONVENTIONS = {
    "auc": "Chance that, of one user with a value and one without, the prediction is higher for the first: 0.5 is a guess, 1 "
    "is certainty. Whether users have the value is known to the measurement only, never to the model.",
    "users": "Everyone with a validation or test request, one row each: means over the user's own rows, so that nobody counts "
    "twice; `unknown` is a value like any other. Numeric attributes are cut into quarters.",
    "columns": "Of a number the mean and the share of missing values, of a category the share of each of its 12 commonest codes; "
    "what belongs to a user and a category also within each of the 12 commonest categories. By rank, on a normal scale.",
    "inputs_auc": "What all features together tell: ridge regression and a forest of random trees in equal parts, for each "
    "value against all others.",
    "lists_auc": "The same from what the candidate shows: how high it scores, and each category's and provider's share of "
    "the user's exposure in the first k ranks.",
    "learning": f"Users are drawn into blocks: {FIRST_SHARE:.0%} are only learned from, the others asked about in {BLOCKS} "
    "blocks, each by models of the users before it. More users would teach a better model: the figure is what these "
    "teach, and may be less than the best single feature tells, because a learner must find it among all others.",
    "inputs_macro_auc, lists_macro_auc": "Mean over the values of an attribute, each counting the same.",
    "feature_auc": "The best of the feature's columns for the value that it tells best, in whichever direction, high, low or "
    "middling. Limits: the largest of all columns and values, which hold together. Value: chosen on four fifths of "
    "the users and told of the last, so that the largest of many is not large by chance; never outside its limits.",
    "proxied_importance": f"Summed importance of the features whose AUC for some value is above {STANDS_IN:g}; low counts those "
    "whose whole interval is, high those whose interval reaches above it.",
    "interval": "Spread by user (DeLong), within blocks; by inversion (Newcombe), so that limits stay within 0 and 1. Of one "
    "attribute, all values hold together, and all features and values hold together (max-t).",
    "few users": f"A value that fewer than {LEAST_USERS} users have, or fewer have not, has no figure; single features are asked "
    f"about values of {LEAST_ALONE} users and more.",
}


def describe(attribute: str, estimates: Sequence[Estimate], told: dict[str, str]) -> list[str]:
    """What can be told of one attribute from what the model is given and what it shows.

    Args:
        attribute: Its name.
        estimates: Those of this attribute.
        told: The value that each feature tells best.
    """
    name = attribute.replace("_", " ")
    by_value = [e for e in estimates if e.metric == "inputs_auc"]
    known = [e for e in by_value if e.value is not None]
    few = [e.segment[attribute] for e in by_value if e.value is None]
    sentences = []
    if known:
        best = max(known, key=lambda e: e.value or 0.0)
        sentences.append(
            f"From all features together, {name} {best.segment[attribute]} is told from the rest with AUC {best.value:.2f} "
            f"({interval(best, digits=2)}; 0.5 is a guess; {counted(best.n_users, 'user')}): the most of "
            f"{counted(len(known), 'value')} of {name}."
        )
    lists = [e for e in estimates if e.metric == "lists_auc" and e.value is not None]
    if lists:
        shown = max(lists, key=lambda e: e.value or 0.0)
        sentences.append(
            f"The lists that the candidate shows tell most of {name} {shown.segment[attribute]}: AUC {shown.value:.2f} "
            f"({interval(shown, digits=2)})."
        )
    alone = [e for e in estimates if e.metric == "feature_auc" and e.value is not None and e.low is not None]
    if alone:
        # By what is shown, not by what is estimated: the largest of many estimates is large by chance.
        most = max(alone, key=lambda e: (e.low or 0.0, e.value or 0.0, e.subject))
        on = f"{most.subject} ({most.detail.get('importance', 0.0):.1%} of the model)"
        if (most.low or 0.0) > _GUESS:
            sentences.append(
                f"Of {counted(len(alone), 'feature')} alone, {on} tells most: {name} {told[most.subject]} with AUC "
                f"{most.value:.2f} ({interval(most, digits=2)}, which holds for all features together)."
            )
        else:
            highest = max(e.high or 0.0 for e in alone)
            sentences.append(
                f"None of {counted(len(alone), 'feature')} alone is shown to tell {name} better than a guess; an AUC above "
                f"{highest:.2f} is ruled out for each."
            )
    for carried in (e for e in estimates if e.metric == "proxied_importance"):
        if carried.low is not None and carried.high is not None:
            sentences.append(
                f"Features shown to tell {name} better than AUC {STANDS_IN:g} carry {carried.low:.0%} of the model; "
                f"up to {carried.high:.0%} cannot be ruled out."
                if carried.high
                else f"That a feature which the model uses tells {name} better than AUC {STANDS_IN:g} is ruled out."
            )
    if few:
        sentences.append(
            f"Too few users to say anything of {name} {', '.join(few)}: fewer than {LEAST_USERS} have it, or have it not."
        )
    return sentences
