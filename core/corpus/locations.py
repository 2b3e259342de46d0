"""Gateway to where a corpus is: a path or a URL, and after a `#` the folder of the DVC project within it."""

import re
from dataclasses import dataclass
from pathlib import Path
from posixpath import isabs, normpath

from core.errors import InvalidInput, NotConnected

_URL = re.compile(r"^(https?|ssh|git)://|^[\w.-]+@[\w.-]+:")


@dataclass(frozen=True, slots=True)
class Location:
    """A git repository (path or URL), and the folder in it that holds the DVC project ("" for the top)."""

    repository: str
    folder: str = ""

    @property
    def is_url(self) -> bool:
        """Whether git would fetch it over a network."""
        return bool(_URL.match(self.repository))

    @property
    def shown(self) -> str:
        """The location without its password, as it can be given again."""
        return without_password(self.repository) + (f"#{self.folder}" if self.folder else "")


def parse_location(location: str) -> Location:
    """Return the parts of `PATH`, `PATH#folder`, `URL` or `URL#folder`. A path that exists is taken as it is.

    Raises InvalidInput when the folder leads out of the repository.

    >>> parse_location("https://git.example.org/docs.git#handbook")
    Location(repository='https://git.example.org/docs.git', folder='handbook')
    """
    repository, hash_sign, folder = location.rpartition("#")
    if not hash_sign or (not _URL.match(location) and _path(location).exists()):
        return Location(location)
    folder = normpath(folder).strip("/") if folder else ""
    if isabs(folder) or ".." in folder.split("/"):
        raise InvalidInput("corpus", f"{without_password(location)} names a folder outside of its repository")
    return Location(repository, "" if folder == "." else folder)


def find_folder(location: Location) -> Path:
    """Return the folder of a location that is a path. Raises NotConnected when there is none."""
    folder = _path(location.repository)
    if not folder.is_dir():
        raise NotConnected(f"{location.repository} is not a folder on this machine. Check the path, or use a git URL")
    return folder.resolve()


def without_password(url: str) -> str:
    """Return the URL without its password, for display and logs."""
    return re.sub(r"//[^/@]*@", "//***@", url)


def _path(location: str) -> Path:
    return Path(location.removeprefix("file://")).expanduser()
