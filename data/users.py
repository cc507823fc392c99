"""Users and what each role may do. data/store_users.py keeps them."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from data.errors import BrogueError
from data.settings import Frozen

Role = Literal["user", "rater", "admin"]  # each may do what those before it may
ROLES: tuple[Role, ...] = ("user", "rater", "admin")
USER_NAME = r"^[a-z0-9][a-z0-9._@+-]{0,99}$"
UserName = Annotated[str, Field(pattern=USER_NAME)]


class SignInRefused(BrogueError):
    """Name or password is wrong; which of the two is not said."""


class User(Frozen):
    """A person who may sign in."""

    name: UserName
    role: Role
    created: AwareDatetime

    def may(self, role: Role) -> bool:
        """Whether this user's role is `role` or above it."""
        return ROLES.index(self.role) >= ROLES.index(role)
