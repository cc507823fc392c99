"""Who may do what: users with a role and a password, and who is signed in.

Only hashes are kept, of passwords (bcrypt) and of tokens (SHA-256). While there are no users the system is open.
"""

from datetime import datetime, timedelta

from data.store import Store
from data.users import Role, User

SIGNED_IN = timedelta(days=7)  # then a person signs in again


class Users:
    """The users of a store. Every method is one transaction; bcrypt takes about 0.2 s, so call off the event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def any(self) -> bool:
        """Whether there are users at all; if not, the system is open."""
        raise NotImplementedError

    def all(self) -> list[User]:
        """All users, by name."""
        raise NotImplementedError

    def get(self, name: str) -> User | None:
        """The user of that name."""
        raise NotImplementedError

    def create(self, name: str, role: Role, password: str) -> User:
        """A new user. A name that is taken or cannot be one and a bad password are refused (BrogueError)."""
        raise NotImplementedError

    def set_password(self, name: str, password: str) -> None:
        """Change a password; whoever is signed in under the name is signed out."""
        raise NotImplementedError

    def set_role(self, name: str, role: Role) -> User:
        """Change a role; counts at once, also for who is signed in. Raises `UnknownName`."""
        raise NotImplementedError

    def remove(self, name: str) -> None:
        """Remove a user and sign them out; what they said stays. Raises `UnknownName`."""
        raise NotImplementedError

    def check(self, name: str, password: str) -> User | None:
        """The user, if the password is theirs. Takes as long for a name that there is not."""
        raise NotImplementedError

    def sign_in(self, name: str, password: str) -> tuple[User, str, datetime]:
        """The user, a token that stands for them, and when it ends. Raises `SignInRefused`."""
        raise NotImplementedError

    def by_token(self, token: str) -> User | None:
        """Whom a token stands for, with the role of this moment; none if it is unknown or at its end."""
        raise NotImplementedError

    def sign_out(self, token: str) -> None:
        """From now on the token stands for nobody."""
        raise NotImplementedError
