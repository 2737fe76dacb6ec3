"""A ranker as a service asks it: ids in, an ordered list of ids and scores out.

The same feature lookup, model, retrieval, order and rules as offline. Ids that the ranker has never seen are welcome: an
unknown user has no history, an unknown item no counts, and both are ranked by what is known of the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import repeat
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.dataset.contract import Feature
from components.dataset.laid_out import open_online
from components.dataset.lookup import FeatureTables
from components.dataset.online import OnlineFeatures, PartShape
from components.errors import Fault, FaultyInputError, InputError
from components.ranker.candidates.index import Index, open_index, source_of
from components.ranker.candidates.interactions import Bools, Ids, Ints
from components.ranker.candidates.union import Flags
from components.ranker.contract import Explanation, Place, Ranker
from components.ranker.eligibility import eligibility_of
from components.ranker.explaining import explain_rows, features_of
from components.ranker.exploring import drawable_places, explore
from components.ranker.lists import Lists, join_lists
from components.ranker.ordering import order_within, ranks_within
from components.ranker.rerank import ItemParts, rerank
from components.ranker.rows import feature_columns
from components.ranker.settings import SCORE_ROWS
from components.ranker.storage import CANDIDATES, ONLINE, RankerFolder, open_ranker, parts_of
from components.ranker.stored_users import NumberOfId, SortedIds, StoredUser, user_set_digest
from components.ranker.unscored import UnscoredLists, order_of_catalogue
from components.ranker.vocabulary import Vocabulary

_SLICE = 4_096
_MANY_USERS = 100_000
"""Beyond, refreshed users are searched for, 10 µs a request: making and dropping a dict of a million, while others are answered,
holds them up for 36 and 24 ms at a time."""
GIVEN = "given"
"""The source of an item that the caller named."""
STAGES = ("retrieve", "features", "score", "rerank")
"""What an asking goes through; the first only where candidates are retrieved."""


def _unwatched(_: str) -> None:
    """Nobody asks how long a stage takes."""


class LoadedRanker:
    """An opened ranker; safe to ask from one thread at a time."""

    def __init__(
        self, folder: RankerFolder, *, vocabulary: Vocabulary | None = None, users_elsewhere: bool = False
    ) -> None:
        """Take what is needed out of a folder.

        Args:
            folder: An opened ranker's.
            vocabulary: Of the ranker, where it is known already.
            users_elsewhere: See `open`.

        Raises:
            InputError: If what it looks up does not fit together, or not the ranker.
        """
        users, items = folder.users, folder.items
        # Without the tables that it has read: they are needed here only.
        self._folder = replace(folder)
        self.manifest: Ranker = folder.manifest
        self._booster = folder.booster
        self._calibration = folder.calibration
        self._explained = features_of(folder.manifest.features, folder.dataset.features)
        self._vocabulary = folder.vocabulary if vocabulary is None else vocabulary
        self._context = folder.dataset.context
        self._bucket_seconds = folder.dataset.bucket_seconds
        self._tables = folder.tables
        self._index: Index = open_index(folder.data / CANDIDATES)
        if folder.refreshed is not None:
            self._check_refreshed(folder)
        self._columns = feature_columns(self._tables, folder.manifest.features)
        self.users_elsewhere = users_elsewhere
        """Whether users are not laid out here."""
        self.user_set = user_set_digest(folder.manifest.features, folder.digests()) if users_elsewhere else ""
        """Names the users whose rows fit this ranker; only where they are elsewhere."""
        self._told = False
        self._online = _laid_out(folder, self._tables, self._columns, users_elsewhere=users_elsewhere)
        described = folder.dataset
        self._parts = ItemParts.of(
            items, category=described.category, provider=described.provider, price=described.price
        )
        # Of an item nobody knows, the last: nobody took it.
        self._popularity = np.append(self._index.users_of_item, 0)
        self._eligibility = eligibility_of(
            folder.manifest.rerank,
            items,
            context=described.context,
            parts=parts_of(described),
            subject=f"re-rank rules of ranker {folder.path.name}",
        )
        ids = users.sort_by("user")["user_id"]
        many = folder.refreshed is not None and len(ids) > _MANY_USERS
        self.user_ids: Sequence[str] = SortedIds(ids) if users_elsewhere or many else _texts(ids)
        """Ids of the known users; a user's number is its place."""
        self.item_ids: list[str] = _texts(items["item_id"])
        """Ids of the catalogue; an item's number is its place."""
        self._users: Mapping[str, int] = (
            NumberOfId(self.user_ids)
            if isinstance(self.user_ids, SortedIds)
            else {user_id: user for user, user_id in enumerate(self.user_ids)}
        )
        self._items = {item_id: item for item, item_id in enumerate(self.item_ids)}

    @classmethod
    def open(cls, path: Path, *, threads: int = 1, users_elsewhere: bool = False) -> LoadedRanker:
        """Open a ranker's folder after comparing every file with its manifest.

        Args:
            path: The folder.
            threads: Threads to score with; for a service one is fastest.
            users_elsewhere: Do not lay out users, because `knowing` will be told of them: memory does not grow with users then,
                but for their ids, and whoever is asked for without is looked up in the tables.

        Raises:
            InputError: If a file is absent, foreign, changed or unreadable.
        """
        return cls(open_ranker(path, threads=threads), users_elsewhere=users_elsewhere)

    def refreshed(self, place: Path) -> LoadedRanker:
        """The same ranker over what `refreshing.refresh_ranker` has written; the model is shared.

        Args:
            place: The folder, every byte of which the caller has checked. It is read here and mapped; it may be unlinked after.

        Raises:
            InputError: If it is no such folder, or not of this ranker.
        """
        folder = replace(self._folder, refreshed=place)
        return LoadedRanker(folder, vocabulary=self._vocabulary, users_elsewhere=self.users_elsewhere)

    def knowing(self, user_id: str, user: StoredUser) -> LoadedRanker:
        """The same ranker, which knows one user, by what is kept of them elsewhere; all else is shared.

        Args:
            user_id: Who they are.
            user: Of this ranker's `user_set`.
        """
        if self._online is None:
            raise InputError(
                "users kept elsewhere: found a ranker too large to be laid out; needed one opened for them."
            )
        one = object.__new__(LoadedRanker)
        one.__dict__.update(self.__dict__)
        one._told = True
        one.user_ids, one._users = (user_id,), {user_id: 0}
        one._online = self._online.of_one(user.part)
        one._index = self._index.of_one(user.seen)
        return one

    def stored_users(self, users: range) -> Iterator[tuple[str, StoredUser]]:
        """Id, and what is kept, of some consecutive users; memory grows with how many."""
        online, first = self._online or OnlineFeatures.of_items(self._tables, self._columns), 0
        if users.stop > online.users:
            online, first = online.holding(self._tables, users), users.start
        for user in users:
            yield self.user_ids[user], StoredUser(online.part(user - first), self._index.seen.of(user))

    @cached_property
    def shape(self) -> PartShape:
        """Of what `stored_users` gives and `knowing` takes."""
        return (self._online or OnlineFeatures.of_items(self._tables, self._columns)).shape

    def _check_refreshed(self, folder: RankerFolder) -> None:
        """Refuse data that is counted, coded or numbered otherwise than the model was trained on."""
        tables, index = self._tables, self._index
        texts = {
            feature.attribute: self._vocabulary[feature.name]
            for feature in folder.dataset.features
            if feature.family == "context"
        }
        sizes = (folder.users.num_rows, folder.items.num_rows)
        checked = (
            ("feature list", tables.features == folder.dataset.features, "the ranker's own"),
            ("bucket", tables.bucket_seconds == self._bucket_seconds, f"{self._bucket_seconds} s"),
            ("texts of the context", dict(tables.context_values) == texts, "those that the ranker was trained with"),
            ("users and items of the tables", (tables.users, tables.items) == sizes, f"{sizes}"),
            ("users and items of the index", (index.seen.n_users, index.n_items) == sizes, f"{sizes}"),
        )
        if faults := [Fault(where, "another", needed) for where, same, needed in checked if not same]:
            raise FaultyInputError(f"features {folder.data.name}", faults)

    @property
    def latest_bucket_start(self) -> int:
        """Features know events before this moment, in seconds since the epoch."""
        return int(self._tables.latest_bucket) * self._bucket_seconds

    @property
    def taking_events(self) -> tuple[str, ...]:
        """Names of the events that count as having taken an item."""
        return self._folder.dataset.outcomes

    @property
    def events(self) -> tuple[str, ...]:
        """Names of all events that say anything, ascending: those, and the one that says what was shown."""
        return tuple(sorted({*self.taking_events, self._tables.impression} - {""}))

    @property
    def declared_features(self) -> tuple[Feature, ...]:
        """The declarative list that the ranker was trained on."""
        return self._folder.dataset.features

    @property
    def latest_bucket(self) -> int:
        """The bucket as of which it looks features up."""
        return int(self._tables.latest_bucket)

    @property
    def context(self) -> tuple[str, ...]:
        """Names of the context columns that a request may speak of."""
        return self._context

    def knows_user(self, user_id: str) -> bool:
        """Whether the user has a history or attributes here."""
        return user_id in self._users

    def knows_items(self, item_ids: Sequence[str]) -> bool:
        """Whether the catalogue has all of them."""
        return self._items.keys() >= set(item_ids)

    def may_show(self, user_id: str | None, items: Ids, context: Mapping[str, str], *, retrieved: bool) -> Bools:
        """Which items the rules let a request be shown, shape of `items`; blocked ids of unknown items are not looked at.

        Args:
            user_id: None for a visitor.
            items: By number, -1 for one nobody knows.
            context: Of the request.
            retrieved: Also leave out what the catalogue does not have yet; a caller may name it all the same.
        """
        allowed = self._allowed(self._user(user_id), items, context)
        if not retrieved:
            return allowed
        return allowed & self._index.eligible(int(self._tables.latest_bucket))[items]

    def unscored_lists(self) -> UnscoredLists:
        """The order to fall back on where there is no time or no way to score; worked out anew each time."""
        visitors = [self._items[item] for item, _ in self.recommend(None, k=len(self._items) or 1)]
        order = order_of_catalogue(
            np.array(visitors, dtype=np.int32),
            popularity=self._index.popularity,
            users_of_item=self._index.users_of_item,
        )
        return UnscoredLists(
            order,
            item_ids=self.item_ids,
            numbers=self._items,
            parts=self._parts,
            rules=self.manifest.rerank,
            allowed=self.may_show,
            blocks=self._eligibility.blocks,
        )

    def explain(
        self, user_id: str | None, item_ids: Sequence[str], *, context: Mapping[str, str] | None = None
    ) -> tuple[Explanation, ...]:
        """Why each item has the score that `rank` gives it, in the order given.

        Raises:
            InputError: If a context name is unknown.
            EvidenceError: If the shares of a score do not add up to it.
        """
        items = np.array([self._items.get(name, -1) for name in item_ids], dtype=np.int32)
        matrix = self._inputs(
            self._user(user_id), items, self._checked(context, 1), bucket=int(self._tables.latest_bucket)
        )
        return explain_rows(
            item_ids,
            matrix,
            self._booster.scores(matrix),
            self._booster.contributions(matrix),
            features=self._explained,
            vocabulary=self._vocabulary,
        )

    def rank(
        self,
        user_id: str | None,
        item_ids: Sequence[str],
        *,
        context: Mapping[str, str] | None = None,
        k: int,
        bucket: int | None = None,
        exclude: Collection[str] = (),
    ) -> list[tuple[str, float]]:
        """Order the given items for a user; nothing is explored.

        Args:
            user_id: None for a visitor who is not known.
            item_ids: Candidates; one that comes twice is ranked once, one that the rules exclude not at all.
            context: Of the request, such as its device; names as in the data set.
            k: Most items to give back, at least 1.
            bucket: Moment to ask as of; the latest the ranker knows without it.
            exclude: Items that this request must not be shown.

        Returns:
            At most `k` (item_id, score), best first; empty for no candidates.

        Raises:
            InputError: If `k` is below 1 or a context name is unknown.
        """
        shown = self.show(user_id, item_ids, context=context, k=k, bucket=bucket, exclude=exclude)
        return [(item.item_id, item.score) for item in shown]

    def recommend(
        self,
        user_id: str | None,
        *,
        k: int,
        context: Mapping[str, str] | None = None,
        bucket: int | None = None,
        exclude: Collection[str] = (),
    ) -> list[tuple[str, float]]:
        """Retrieve candidates for a user and order them; as `rank` otherwise. A user who is not known gets what is popular."""
        shown = self.show(user_id, None, context=context, k=k, bucket=bucket, exclude=exclude)
        return [(item.item_id, item.score) for item in shown]

    def show(
        self,
        user_id: str | None,
        item_ids: Sequence[str] | None,
        *,
        k: int,
        context: Mapping[str, str] | None = None,
        bucket: int | None = None,
        exclude: Collection[str] = (),
        taken: Sequence[str] = (),
        request: str | None = None,
        lap: Callable[[str], None] = _unwatched,
    ) -> list[Place]:
        """What to show, each item with the chance it had of standing where it stands; as `rank` otherwise.

        Args:
            user_id: As in `rank`.
            item_ids: Candidates; None retrieves them.
            k: As in `rank`.
            context: As in `rank`.
            bucket: As in `rank`.
            exclude: As in `rank`.
            taken: What the user has taken since, oldest first: retrieval looks for what is near it too, as if it were known.
                Features are as of the bucket all the same, and nothing is left out for it but what `exclude` names.
            request: Key of the request, which the exploration slot draws by: the same key draws the same. None explores
                nothing, and every propensity is 1.
            lap: Called as each of `STAGES` ends, with its name.
        """
        asked = self._checked(context, k)
        at = int(self._tables.latest_bucket) if bucket is None else bucket
        if item_ids is None:
            items, sources = self._retrieved(user_id, asked, exclude, taken, bucket=at)
            lap("retrieve")
            names = [self.item_ids[item] for item in items.tolist()]
            ties = items
        else:
            names = list(dict.fromkeys(item_ids))
            if exclude or self._eligibility.blocks_some:
                names = [name for name in names if not (name in exclude or self._eligibility.blocks(name))]
            items = np.fromiter(map(self._items.get, names, repeat(-1)), np.int32, len(names))
            # Items nobody knows keep their given order behind equals: they get numbers after all known ones.
            ties = np.where(items >= 0, items, len(self.item_ids) + np.arange(len(items)))
            sources = None
        return self._shown(
            user_id, names, items, ties, asked, sources=sources, k=k, bucket=at, request=request, lap=lap
        )

    def recommend_many(self, users: Ids, *, k: int) -> tuple[Lists, int]:
        """As `recommend`, without context, for many users at once; nothing is explored.

        Args:
            users: Users by number, ascending, shape (users,); -1 is a visitor who is not known.
            k: Most items for each, at least 1.

        Returns:
            Lists whose requests are places in `users`, and how many (user, candidate) pairs were scored. The work is done in
            portions of about `settings.SCORE_ROWS` pairs, so memory does not grow with users.
        """
        bucket, rules = int(self._tables.latest_bucket), self.manifest.rerank
        permitted = np.atleast_2d(self._eligibility.of_catalogue({}, requests=1))[0]
        most = min(sum(self.manifest.candidate_sources.values()), self._index.n_items)
        portion = max(1, SCORE_ROWS // max(1, most))
        parts, pairs = [], 0
        for begin in range(0, len(users), portion):
            some = users[begin : begin + portion]
            starts, items = self._index.candidates(
                some,
                bucket=bucket,
                quotas=self.manifest.candidate_sources,
                exclude_seen=rules.exclude_seen,
                permitted=permitted,
            )
            owner = np.repeat(np.arange(len(some), dtype=np.int32), np.diff(starts))
            matrix = self._tables.matrix(some[owner], items, np.full(len(items), bucket, dtype=np.int64))
            scores = self._booster.scores(np.ascontiguousarray(matrix[:, self._columns]))
            order = order_within(owner, scores, self._index.users_of_item[items], items)
            listed = items[order]
            # Retrieval has left out what was seen and what the rules do not permit.
            everything = np.ones(len(items), dtype=np.bool_)
            places = rerank(
                owner[order], listed, scores[order], parts=self._parts.take(listed), allowed=everything, rules=rules
            )
            shown = order[places]
            ranks = ranks_within(owner[shown])
            shown, ranks = shown[ranks <= k], ranks[ranks <= k]
            parts.append(Lists(owner[shown] + np.int32(begin), ranks, items[shown], scores[shown]))
            pairs += len(items)
        return join_lists(parts), pairs

    def _retrieved(
        self,
        user_id: str | None,
        context: Mapping[str, str],
        exclude: Collection[str],
        taken: Sequence[str],
        *,
        bucket: int,
    ) -> tuple[Ids, Flags]:
        permitted = None
        if self._eligibility.limits or exclude:
            said = {name: [value] for name, value in context.items()}
            permitted = np.atleast_2d(self._eligibility.of_catalogue(said, requests=1)).copy()
            permitted[:, [self._items[item] for item in exclude if item in self._items]] = False
        user, index = self._user(user_id), self._index
        if since := [self._items[item] for item in taken if item in self._items]:
            known = index.seen.of(user)
            new = np.array(list(dict.fromkeys(since)), dtype=np.int32)
            user, index = 0, index.of_one(np.concatenate([known, new[~np.isin(new, known)]]))
        _, items, sources = index.named_candidates(
            np.array([user], dtype=np.int32),
            bucket=bucket,
            quotas=self.manifest.candidate_sources,
            exclude_seen=self.manifest.rerank.exclude_seen,
            permitted=permitted,
        )
        return items, sources

    def probability(self, score: float) -> float:
        """The calibrated probability of a positive outcome at a score."""
        return float(self._calibration.probability(np.array([score]))[0])

    def _user(self, user_id: str | None) -> int:
        return -1 if user_id is None else self._users.get(user_id, -1)

    def _checked(self, context: Mapping[str, str] | None, k: int) -> dict[str, str]:
        if k < 1:
            raise InputError(f"k: found {k}; needed at least 1.")
        unknown = sorted(set(context or ()) - set(self._context))
        if unknown:
            raise InputError(
                f"context: found {', '.join(unknown)}; needed one of: {', '.join(self._context) or 'none is used'}."
            )
        return dict(context or {})

    def _shown(
        self,
        user_id: str | None,
        names: Sequence[str],
        items: Ids,
        ties: Ids,
        context: Mapping[str, str],
        *,
        sources: Flags | None,
        k: int,
        bucket: int,
        request: str | None,
        lap: Callable[[str], None],
    ) -> list[Place]:
        """The first `k` items that the rules let pass, as shown; `ties` stands for an item where all else is equal."""
        rows = len(items)
        if not rows:
            return []
        user, rules = self._user(user_id), self.manifest.rerank
        matrix = self._inputs(user, items, context, bucket=bucket)
        lap("features")
        scores = self._booster.scores(matrix)
        lap("score")
        one = np.zeros(rows, dtype=np.int32)
        order = order_within(one, scores, self._popularity[items], ties)
        listed = items[order]
        parts = self._parts.take(listed)
        places = rerank(
            one, listed, scores[order], parts=parts, allowed=self._allowed(user, listed, context), rules=rules
        )
        if rules.exploration is not None and request is not None:
            drawable = drawable_places(parts.rows(places), rules)
            explored = explore(drawable, rules.exploration, request=request)
            places = places[explored.order]
            propensities, slot = explored.propensities[:k].tolist(), explored.slot
        else:
            propensities, slot = [1.0] * min(k, len(places)), 0
        final = order[places[:k]]
        count = len(final)
        drawn = [False] * count
        if 0 < slot <= count:
            drawn[slot - 1] = True
        shown = list(
            map(
                Place,
                [names[place] for place in final.tolist()],
                scores[final].tolist(),
                range(1, count + 1),
                propensities,
                drawn,
                [GIVEN] * count if sources is None else source_of(sources[final]),
            )
        )
        lap("rerank")
        return shown

    def _inputs(self, user: int, items: Ids, context: Mapping[str, str], *, bucket: int) -> NDArray[np.float32]:
        """What the model is given, shape (items, its features)."""
        if self._online is not None and bucket == self._tables.latest_bucket and user < self._online.users:
            return self._online.matrix(user, items, context)
        if self._told:
            latest = self._tables.latest_bucket
            raise InputError(f"bucket: found {bucket}; needed {latest}, all that a stored user is known as of.")
        rows = len(items)
        said = {name: [context.get(name)] * rows for name in self._context}
        matrix = self._tables.matrix(
            np.full(rows, user, dtype=np.int32), items, np.full(rows, bucket, dtype=np.int64), said or None
        )
        return np.ascontiguousarray(matrix[:, self._columns])

    def _allowed(self, user: int, items: Ids, context: Mapping[str, str]) -> Bools:
        """Whether each item may be shown to the user."""
        said = {name: [value] for name, value in context.items()}
        allowed = self._eligibility.of_rows(items, np.zeros(len(items), dtype=np.int64), said, requests=1)
        if self.manifest.rerank.exclude_seen:
            allowed = allowed & ((items < 0) | ~np.isin(items, self._index.seen.of(user)))
        return allowed


def _laid_out(
    folder: RankerFolder, tables: FeatureTables, columns: Ints, *, users_elsewhere: bool
) -> OnlineFeatures | None:
    """Features of the latest bucket; None where they are too many. Refreshed ones were laid out by whoever published them."""
    if folder.refreshed is not None and (found := open_online(folder.refreshed / ONLINE, tables, columns)):
        return found
    return (OnlineFeatures.of_items if users_elsewhere else OnlineFeatures.of)(tables, columns)


def _texts(column: pa.ChunkedArray) -> list[str]:
    """A column as a list; in slices, since each is one step that lets nobody else have the interpreter."""
    return [
        text
        for begin in range(0, len(column), _SLICE)
        for text in column.slice(begin, _SLICE).combine_chunks().to_pylist()
    ]
