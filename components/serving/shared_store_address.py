"""Where a shared store is and how one is let in: from an address and the environment, never from a command line's words.

RANKGATE_STORE                  redis://host:6379/0, rediss:// for TLS; a user's name may stand in it, a password may not
RANKGATE_STORE_PASSWORD         the password, or
RANKGATE_STORE_PASSWORD_FILE    a file that holds it, read again at every connection, so that it can be changed meanwhile
RANKGATE_STORE_CA               a PEM file of the authorities that vouch for the server; without it the system's
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from components.errors import InputError

ADDRESS_VARIABLE = "RANKGATE_STORE"
PASSWORD_VARIABLE = "RANKGATE_STORE_PASSWORD"  # noqa: S105 (a variable's name)
PASSWORD_FILE_VARIABLE = "RANKGATE_STORE_PASSWORD_FILE"  # noqa: S105 (a variable's name)
AUTHORITIES_VARIABLE = "RANKGATE_STORE_CA"

_WHAT = f"address of the store ({ADDRESS_VARIABLE}, --to)"
_PLAIN, _ENCRYPTED = ("redis", "valkey"), ("rediss", "valkeys")
_PORT = 6379


@dataclass(frozen=True, slots=True)
class Address:
    """A server, and the way in."""

    host: str
    port: int
    database: int
    user: str
    """Empty for the server's default user."""
    encrypted: bool
    password: str
    password_file: Path | None
    authorities: Path | None

    def __str__(self) -> str:
        scheme = "rediss" if self.encrypted else "redis"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}/{self.database}"

    def __repr__(self) -> str:
        # Whatever prints one, an error or a test, must not print the password.
        return f"Address({self})"

    def secret(self) -> str:
        """The password as of now; empty where there is none.

        Raises:
            InputError: If its file cannot be read, or holds none.
        """
        if self.password_file is None:
            return self.password
        try:
            found = self.password_file.read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{self.password_file}: cannot be read ({type(error).__name__}); needed a file that holds the password of "
                f"{self}. Name it in {PASSWORD_FILE_VARIABLE}."
            ) from error
        if not found:
            raise InputError(f"{self.password_file}: found nothing in it; needed the password of {self}.")
        return found

    def tls(self) -> ssl.SSLContext | None:
        """How the connection is encrypted; None where it is not. The server's name is always checked.

        Raises:
            InputError: If the authorities cannot be read.
        """
        if not self.encrypted:
            return None
        try:
            return ssl.create_default_context(cafile=None if self.authorities is None else str(self.authorities))
        except OSError as error:
            raise InputError(
                f"{self.authorities}: no certificates can be read from it ({type(error).__name__}); needed a PEM file. "
                f"Name it in {AUTHORITIES_VARIABLE}."
            ) from error


def address_of(text: str, environment: Mapping[str, str]) -> Address:
    """An address in words, and what the environment says to it.

    Raises:
        InputError: If it is none, or holds a password. What stood there is not repeated: it may be a secret.
    """
    wanted = "needed redis://HOST[:PORT][/DATABASE], or rediss:// for TLS"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InputError(f"{_WHAT}: found no address that can be read; {wanted}.") from error
    if parts.password is not None:
        raise InputError(
            f"{_WHAT}: found a password in it; needed none there, where every list of processes shows it. "
            f"Give it in {PASSWORD_VARIABLE}, or in a file that {PASSWORD_FILE_VARIABLE} names."
        )
    if parts.scheme not in (*_PLAIN, *_ENCRYPTED) or not parts.hostname:
        raise InputError(f"{_WHAT}: found {_scheme(parts.scheme)}; {wanted}.")
    database = parts.path.strip("/")
    if parts.query or parts.fragment or not (database == "" or (database.isascii() and database.isdigit())):
        raise InputError(f"{_WHAT}: found more than a server and a database's number; {wanted}.")
    file = environment.get(PASSWORD_FILE_VARIABLE, "")
    authorities = environment.get(AUTHORITIES_VARIABLE, "")
    return Address(
        host=parts.hostname,
        port=_PORT if port is None else port,
        database=int(database or 0),
        user=unquote(parts.username or ""),
        encrypted=parts.scheme in _ENCRYPTED,
        password=environment.get(PASSWORD_VARIABLE, ""),
        password_file=Path(file) if file else None,
        authorities=Path(authorities) if authorities else None,
    )


def _scheme(name: str) -> str:
    return f"'{name[:16]}://'" if name.isalpha() else "something else"
