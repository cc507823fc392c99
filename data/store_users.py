"""Who may sign in and who has: users with a role and a password, and the tokens of those who are signed in.

Only hashes are kept, of passwords (bcrypt) and of tokens (SHA-256). While there are no users the system is open.
"""

import re
import secrets
import unicodedata
from datetime import datetime, timedelta

import bcrypt
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from data.errors import BrogueError, UnknownName, one_line, unknown
from data.judgements import now
from data.secrets import digest
from data.store import Store
from data.store_schema import SessionRow, UserRow
from data.users import ROLES, USER_NAME, Role, SignInRefused, User

SIGNED_IN = timedelta(days=7)  # then a person signs in again
ROUNDS = 12  # bcrypt's: about 0.2 s a password
SHORTEST, LONGEST = 8, 72  # characters; bytes, bcrypt's own limit
_NOBODY = "anonymous"  # who rates without a name while the system is open


class Users:
    """The users of a store. Every method is one transaction; bcrypt takes about 0.2 s, so call off the event loop."""

    def __init__(self, store: Store, rounds: int = ROUNDS) -> None:
        self._store = store
        self._rounds = rounds

    def any(self) -> bool:
        """Whether there are users at all; if not, the system is open."""
        with self._store.reading() as session:
            return session.scalar(select(UserRow.name).limit(1)) is not None

    def all(self) -> list[User]:
        """All users, by name."""
        with self._store.reading() as session:
            return [_user(row) for row in session.scalars(select(UserRow).order_by(UserRow.name))]

    def get(self, name: str) -> User | None:
        """The user of that name."""
        with self._store.reading() as session:
            row = session.get(UserRow, _plain(name))
            return None if row is None else _user(row)

    def create(self, name: str, role: Role, password: str) -> User:
        """A new user. A name that is taken or cannot be one and a bad password are refused (BrogueError)."""
        row = UserRow(name=_new_name(name), created=now(), role=_role(role), password=self._hash(password))
        with self._store.writing() as session:
            if session.get(UserRow, name) is not None:
                raise BrogueError(f"there is a user '{name}' already; change their password: brogue users password")
            session.add(row)
            return _user(row)

    def set_password(self, name: str, password: str) -> None:
        """Change a password; whoever is signed in under the name is signed out. Raises `UnknownName`."""
        hashed = self._hash(password)
        with self._store.writing() as session:
            _known(session, name).password = hashed
            session.execute(delete(SessionRow).where(SessionRow.user == name))

    def set_role(self, name: str, role: Role) -> User:
        """Change a role; counts at once, also for who is signed in. Raises `UnknownName`."""
        with self._store.writing() as session:
            row = _known(session, name)
            row.role = _role(role)
            return _user(row)

    def remove(self, name: str) -> None:
        """Remove a user and sign them out; what they said stays. Raises `UnknownName`."""
        with self._store.writing() as session:
            session.delete(_known(session, name))

    def check(self, name: str, password: str) -> User | None:
        """The user, if the password is theirs. Takes as long for a name that there is not."""
        found = self._checked(name, password)
        return None if found is None else _user(found)

    def sign_in(self, name: str, password: str) -> tuple[User, str, datetime]:
        """The user, a token that stands for them, and when it ends. Raises `SignInRefused`."""
        found = self._checked(name, password)
        token, expires = secrets.token_urlsafe(32), now() + SIGNED_IN
        with self._store.writing() as session:
            # Read again: the password may have been changed while it was being checked.
            row = None if found is None else session.get(UserRow, found.name, with_for_update=True)
            if found is None or row is None or row.password != found.password:
                raise SignInRefused("the name or the password is wrong")
            session.execute(delete(SessionRow).where(SessionRow.expires <= now()))
            session.add(SessionRow(token=digest(token), user=row.name, expires=expires))
            return _user(row), token, expires

    def by_token(self, token: str) -> User | None:
        """Whom a token stands for, with the role of this moment; none if it is unknown or at its end."""
        query = select(UserRow).join(SessionRow, SessionRow.user == UserRow.name)
        with self._store.reading() as session:
            row = session.scalar(query.where(SessionRow.token == digest(token), SessionRow.expires > now()))
            return None if row is None else _user(row)

    def sign_out(self, token: str) -> None:
        """From now on the token stands for nobody."""
        with self._store.writing() as session:
            session.execute(delete(SessionRow).where(SessionRow.token == digest(token)))

    def _checked(self, name: str, password: str) -> UserRow | None:
        with self._store.reading() as session:
            row = session.scalar(select(UserRow).where(UserRow.name == _typed(name)))
        # A hash that no password has: an unknown name takes as long as a known one.
        hashed = f"$2b${self._rounds:02d}${'.' * 53}" if row is None else row.password
        given = _bytes(password)
        right = bcrypt.checkpw(given[:LONGEST], hashed.encode()) and len(given) <= LONGEST
        return row if right else None

    def _hash(self, password: str) -> str:
        given = _bytes(password)
        if len(password) < SHORTEST or len(given) > LONGEST:
            found = f"{len(password)} characters" if len(password) < SHORTEST else f"{len(given)} bytes"
            raise BrogueError(
                f"the password has {found}; wanted at least {SHORTEST} characters and at most {LONGEST} bytes"
            )
        return bcrypt.hashpw(given, bcrypt.gensalt(self._rounds)).decode()


def _bytes(password: str) -> bytes:
    """Keyboards differ in how they write the same letter (NIST SP 800-63B, 3.1.1.2: normalise)."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "replace")


def _typed(name: str) -> str:
    """A name as people type it when they sign in."""
    return _plain(name.strip().lower())


def _plain(name: str) -> str:
    """PostgreSQL refuses to look for what it could not hold; no name of ours has such letters."""
    return name.encode("ascii", "replace").decode().replace("\x00", "?")


def _new_name(name: str) -> str:
    if not re.fullmatch(USER_NAME, name) or name == _NOBODY:
        raise BrogueError(
            f"'{one_line(name, 40)}' cannot be a user's name: lower-case letters, digits and . _ @ + - only, at most "
            f"100, a letter or digit first, and not '{_NOBODY}'"
        )
    return name


def _role(role: str) -> str:
    if role not in ROLES:
        raise unknown("role", role, list(ROLES), "Each may do what those before it may: user, rater, admin")
    return role


def _known(session: Session, name: str) -> UserRow:
    row = session.scalar(select(UserRow).where(UserRow.name == _plain(name)).with_for_update())
    if row is None:
        raise UnknownName(f"no user '{one_line(name, 40)}'; list them: brogue users list")
    return row


def _user(row: UserRow) -> User:
    return User.model_validate({"name": row.name, "role": row.role, "created": row.created})
