"""Files and folders at addresses such as `s3://bucket/name`, by fsspec: brought here, or taken there.

Who may read and write there follows from the environment, as each of fsspec's file systems has it (for S3:
`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL`); nothing of that is kept.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from data.errors import BrogueError, one_line

EXTRAS = {"s3": "s3"}  # protocol → the extra of ours that brings its package


def is_remote(where: str) -> bool:
    """Whether it is an address, and no path of this machine."""
    return "://" in where


def name_of(where: str) -> str:
    """The last part of an address: what lies there is called so here, too."""
    return Path(urlsplit(where).path.rstrip("/")).name or "fetched"


@contextmanager
def here(where: str) -> Iterator[Path]:
    """`where` as a path of this machine: what lies at an address is fetched for the time being.

    Raises `BrogueError` if it cannot be had.
    """
    if not is_remote(where):
        yield Path(where)
        return
    with tempfile.TemporaryDirectory() as folder:
        local = fetch(where, Path(folder) / name_of(where))
        try:
            yield local
        except BrogueError as error:  # nobody knows the place here
            raise BrogueError(str(error).replace(str(local), where)) from error


def fetch(where: str, target: Path) -> Path:
    """Bring the file or folder at an address to `target`, which does not exist yet."""
    files, path = file_system(where)
    with told(f"cannot read {where}"):
        if files.isdir(path):
            target.mkdir()
            files.get(f"{path.rstrip('/')}/", f"{target}/", recursive=True)
        else:
            files.get_file(path, str(target))
    return target


def send(source: Path, where: str, last: str = "") -> None:
    """Take a file or folder of this machine to an address at which there is nothing yet.

    An object store knows no renaming: of a folder the file `last` comes last, so that what lacks it is not whole.
    """
    files, path = file_system(where)
    with told(f"cannot write {where}"):
        if files.exists(path):
            raise BrogueError(f"{where} exists already; choose another name, or remove it there")
        found = [source] if source.is_file() else sorted(one for one in source.rglob("*") if one.is_file())
        for one in sorted(found, key=lambda file: file.name == last):
            inner = "" if one is source else f"/{one.relative_to(source).as_posix()}"
            files.put_file(str(one), f"{path.rstrip('/')}{inner}")


def file_system(where: str) -> tuple[Any, str]:
    """fsspec's file system for an address, and the path in it."""
    import fsspec

    protocol = where.partition("://")[0]
    try:
        options = {"auto_mkdir": True} if protocol == "file" else {"use_listings_cache": False}
        files, path = fsspec.core.url_to_fs(where, **options)
    except ImportError as error:
        extra = EXTRAS.get(protocol)
        how = f"pip install 'brogue[{extra}]'" if extra else one_line(error, 120)
        raise BrogueError(f"addresses that begin with {protocol}:// want a package more: {how}") from error
    except ValueError as error:
        known = ", ".join(sorted({"file", "s3", "gs", "az", "https"}))
        raise BrogueError(f"{where}: no file system '{protocol}'; there are {known} and others of fsspec") from error
    return files, path


@contextmanager
def told(what: str) -> Iterator[None]:
    """What any of the file systems may raise becomes one line that begins with `what`."""
    try:
        yield
    except BrogueError:
        raise
    except FileNotFoundError as error:
        raise BrogueError(f"{what}: nothing is there; check the address") from error
    except Exception as error:  # every file system has errors of its own
        raise BrogueError(f"{what} ({type(error).__name__}: {one_line(error, 160)})") from error
