"""The two file layouts of MovieLens, read into the same rows; everything wrong with a folder in one error.

    ml-1m    ratings.dat user::movie::rating::seconds, users.dat user::gender::age::occupation::zip,
             movies.dat movie::title::genre|genre
    ml-100k  u.data user, movie, rating, seconds (tabs), u.user user|age|gender|occupation|zip,
             u.item movie|title|release|video|url|19 genre flags

All files are Latin-1. Which layout a folder has is told by its files. Postal codes and addresses are not taken over.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from components.errors import Fault, FaultyInputError, InputError

_GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
"""In the order of ml-100k's flags."""
_OCCUPATIONS = (
    "other",
    "academic/educator",
    "artist",
    "clerical/admin",
    "college/grad student",
    "customer service",
    "doctor/health care",
    "executive/managerial",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales/marketing",
    "scientist",
    "self-employed",
    "technician/engineer",
    "tradesman/craftsman",
    "unemployed",
    "writer",
)
"""By ml-1m's code; ml-100k writes its own words."""
_AGE_BANDS = ((18, "under 18"), (25, "18-24"), (35, "25-34"), (45, "35-44"), (50, "45-49"), (56, "50-55"))
"""Upper bound (exclusive) and name: the bands of ml-1m, which codes each by its lower bound (1 for the first)."""
_OLDEST = "56+"
_YEAR = re.compile(r"\((\d{4})\)\s*$")
_REPORTED = 5
"""Faulty lines named one by one, a file."""


class Rating(NamedTuple):
    user: int
    movie: int
    stars: int
    seconds: int
    """Since 1970, UTC."""


class User(NamedTuple):
    user: int
    gender: str
    age: str
    """Band."""
    occupation: str | None


class Movie(NamedTuple):
    movie: int
    title: str
    genre: str | None
    """The first it is listed under."""
    year: float | None


Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class MovieLens:
    """A folder's content, in the files' order."""

    layout: str
    ratings: list[Rating]
    users: list[User]
    movies: list[Movie]


@dataclass(frozen=True, slots=True)
class _Layout:
    name: str
    ratings: str
    users: str
    movies: str
    rating_separator: str
    separator: str
    user: Callable[[list[str]], User]
    movie: Callable[[list[str]], Movie]


def read_movielens(folder: Path) -> MovieLens:
    """Read a MovieLens folder of either layout.

    Raises:
        InputError: If the folder has the files of neither layout.
        FaultyInputError: If a line cannot be read, or two lines claim the same user or movie.
    """
    layout = _recognise(folder)
    faults: list[Fault] = []
    content = MovieLens(
        layout.name,
        list(_rows(folder / layout.ratings, layout.rating_separator, _rating, faults)),
        list(_rows(folder / layout.users, layout.separator, layout.user, faults)),
        list(_rows(folder / layout.movies, layout.separator, layout.movie, faults)),
    )
    faults += _repeated(layout.users, "user", (row.user for row in content.users))
    faults += _repeated(layout.movies, "movie", (row.movie for row in content.movies))
    if faults:
        raise FaultyInputError(f"{folder} (MovieLens {layout.name})", faults)
    return content


def _recognise(folder: Path) -> _Layout:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; needed an unpacked MovieLens folder (ml-1m or ml-100k).")
    lacking = []
    for layout in _LAYOUTS:
        names = (layout.ratings, layout.users, layout.movies)
        absent = [name for name in names if not (folder / name).is_file()]
        if not absent:
            return layout
        lacking.append(f"{layout.name} lacks {', '.join(absent)}")
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    raise InputError(
        f"{folder}: found {found}; needed the files of ml-1m or of ml-100k ({'; '.join(lacking)}). "
        "Unpack the archive and name the folder that holds them."
    )


def _rows(path: Path, separator: str, parse: Callable[[list[str]], Row], faults: list[Fault]) -> Iterator[Row]:
    """Each line, split and parsed; the first few faulty lines and a count of the rest are added to `faults`."""
    try:
        # Not splitlines(): titles may hold Latin-1 bytes that it takes for line ends.
        lines = path.read_text(encoding="latin-1").split("\n")
    except OSError as error:
        faults.append(Fault(path.name, f"a file that cannot be read ({error.strerror})", "a readable file"))
        return
    read = faulty = 0
    for number, line in enumerate(lines, start=1):
        if not (text := line.rstrip("\r")):
            continue
        read += 1
        try:
            yield parse(text.split(separator))
        except ValueError as error:
            faulty += 1
            if faulty <= _REPORTED:
                faults.append(Fault(f"{path.name} line {number}", repr(text[:60]), str(error)))
    if faulty > _REPORTED:
        faults.append(Fault(path.name, f"{faulty - _REPORTED} more lines like that", "none"))
    if not read:
        faults.append(Fault(path.name, "no lines", "at least one"))


def _repeated(name: str, what: str, ids: Iterable[int]) -> list[Fault]:
    repeated = sorted(number for number, count in Counter(ids).items() if count > 1)
    if not repeated:
        return []
    shown = ", ".join(map(str, repeated[:_REPORTED])) + (", ..." if len(repeated) > _REPORTED else "")
    return [Fault(name, f"{what} {shown} on more than one line", f"one line a {what}")]


def _rating(parts: list[str]) -> Rating:
    rating = Rating(*_integers(_parts(parts, 4), "user, movie, rating and seconds as integers"))
    if not 1 <= rating.stars <= 5:
        raise ValueError("a rating from 1 to 5")
    if rating.seconds >= 2**33:
        raise ValueError("seconds since 1970")
    return rating


def _user_1m(parts: list[str]) -> User:
    user, gender, age, occupation, _ = _parts(parts, 5)
    number, years, code = _integers([user, age, occupation], "user, age and occupation as integers")
    if code >= len(_OCCUPATIONS):
        raise ValueError(f"an occupation from 0 to {len(_OCCUPATIONS) - 1}")
    return User(number, _gender(gender), _age_band(years), _OCCUPATIONS[code])


def _user_100k(parts: list[str]) -> User:
    user, age, gender, occupation, _ = _parts(parts, 5)
    number, years = _integers([user, age], "user and age as integers")
    return User(number, _gender(gender), _age_band(years), occupation or None)


def _movie_1m(parts: list[str]) -> Movie:
    movie, title, genres = _parts(parts, 3)
    return Movie(_integers([movie], "movie as an integer")[0], title, genres.split("|")[0] or None, _year(title))


def _movie_100k(parts: list[str]) -> Movie:
    movie, title, release, _, _, *flags = _parts(parts, 5 + len(_GENRES))
    if set(flags) - {"0", "1"}:
        raise ValueError(f"{len(_GENRES)} genre flags of 0 or 1")
    listed = [genre for genre, flag in zip(_GENRES[1:], flags[1:], strict=True) if flag == "1"]
    year = _year(title)
    if year is None and release[-4:].isdecimal():
        year = float(release[-4:])
    return Movie(_integers([movie], "movie as an integer")[0], title, listed[0] if listed else None, year)


def _parts(parts: list[str], needed: int) -> list[str]:
    if len(parts) != needed:
        raise ValueError(f"{needed} fields, not {len(parts)}")
    return parts


def _integers(parts: list[str], needed: str) -> list[int]:
    if not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts):
        raise ValueError(needed)
    return [int(part) for part in parts]


def _gender(text: str) -> str:
    if text not in {"F", "M"}:
        raise ValueError("gender F or M")
    return text


def _age_band(years: int) -> str:
    return next((name for below, name in _AGE_BANDS if years < below), _OLDEST)


def _year(title: str) -> float | None:
    found = _YEAR.search(title)
    return float(found[1]) if found else None


_LAYOUTS = (
    _Layout("ml-1m", "ratings.dat", "users.dat", "movies.dat", "::", "::", _user_1m, _movie_1m),
    _Layout("ml-100k", "u.data", "u.user", "u.item", "\t", "|", _user_100k, _movie_100k),
)
