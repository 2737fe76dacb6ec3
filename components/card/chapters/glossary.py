"""Words that a reader may not know; only those that occur on the card."""

from __future__ import annotations

GLOSSARY: tuple[tuple[str, str], ...] = (
    ("Candidate", "The ranker that this card is about."),
    ("Incumbent", "The ranker that is in service and that the candidate would replace."),
    ("Baseline", "A simple ranking that costs little: a random order, the most popular items, items bought together."),
    ("Request", "One moment at which a list is ranked for a user."),
    ("NDCG@k", "How near the first k places come to the best order there is; 1 is that order, 0 has nothing relevant."),
    ("Recall@k", "Share of what was relevant to a request that the first k places show."),
    ("MAP@k, MRR@k", "How early relevant items come: on average over all of them, or the first one only."),
    ("Hit rate@k", "Share of requests with something relevant in the first k places."),
    ("Coverage@k", "Share of the catalogue that at least one list shows."),
    (
        "Interval",
        "Where the true figure lies for users like these, with the confidence that is told; wider with fewer users.",
    ),
    ("Group gap", "A group's figure less (or divided by) that of everyone else."),
    ("Margin", "The harm that the policy's authors would still sign for, fixed before anything was measured."),
    (
        "Pass, fail, insufficient",
        "Harm beyond the margin is ruled out; it is shown; it is neither, or was not measured.",
    ),
    (
        "Waiver",
        "A person's signed word that a release may go out although a rule stops it, for a reason and a time.",
    ),
    ("Detectable", "The smallest true difference that these users would show four times in five."),
    ("Holding together", "Intervals made wide enough that all of a family are right at once, however many there are."),
    ("Exposure", "Attention that places in lists bring: the first most, later ones less."),
    ("Calibration", "Whether a score, read as a chance, comes true as often as it says."),
    (
        "Stand-in, AUC",
        "A feature from which an attribute can be told that the model never sees. AUC: of one user with the value and one "
        "without, how often the right one is picked; 0.5 is a guess, 1 is certainty.",
    ),
    (
        "Leakage",
        "A feature that holds something of the answer, or of the time after the request. It shines in every test and is "
        "gone when the model is asked for real.",
    ),
    ("Drift", "How far a column moved from one period to the next, on a scale from 0 to 0.83."),
    ("Quarantine", "Rows that break the dataset contract; kept aside with their reason and used for nothing."),
    ("Digest", "A sha256 of a thing's content: another byte, another digest."),
)
