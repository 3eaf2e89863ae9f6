"""Where an archive's files come from. No source is trusted: what it gives is verified afterwards.

Only the user names sources: no URL that an object or an answer holds is ever opened, but those of
the policy file, which is the user's own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from restante import limits
from restante.client.failures import SourceFailed, SourceOverflow
from restante.client.machine import Named
from restante.errors import ConfigError, InvalidEncoding
from restante.formats.paths import check_path
from restante.formats.policy import Policy


class Source(Protocol):
    """The files of one archive, by path."""

    @property
    def name(self) -> str:
        """What the user calls it: a URL or a folder."""
        ...

    def get(
        self, path: str, *, offset: int = 0, length: int | None = None, max_bytes: int
    ) -> bytes:
        """The file's bytes from `offset`, `length` of them or all: fewer where the file ends.

        Never more than `max_bytes`. May be called from several threads. Raises SourceFailed with a
        code of `failures.CODES` (`not-found` where there is no such file), SourceOverflow.
        """
        ...

    def close(self) -> None:
        """Give up what is open; calls under way in other threads fail."""
        ...


class FolderSource:
    """An archive in a directory."""

    in_place = True
    """A thread for each read would take longer than the read."""

    def __init__(self, root: Path, name: str | None = None) -> None:
        self.name = name or str(root)
        self.root = root

    def get(
        self, path: str, *, offset: int = 0, length: int | None = None, max_bytes: int
    ) -> bytes:
        """See `Source`."""
        check_path(path)
        wanted = max_bytes + 1 if length is None else min(length, max_bytes)
        try:
            with (self.root / path).open("rb") as file:
                file.seek(offset)
                data = file.read(wanted)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise SourceFailed(f"{self.name} has no {path}", code="not-found") from error
        except OSError as error:
            reason = error.strerror or error
            raise SourceFailed(f"{self.name}, {path}: {reason}", code="source-failed") from error
        if len(data) > max_bytes:
            raise SourceOverflow(f"{self.name}, {path}: more than {max_bytes} bytes")
        return data

    def close(self) -> None:
        """Nothing is held open."""


def parse_source(
    text: str, *, proxy: str | None = None, grace_s: float = limits.SOURCE_GRACE_S
) -> Source:
    """The source of `http(s)://…`, `file:…` or a directory's path.

    `proxy` (`http://…`, `socks5://…`) carries HTTP alone, whose answers begin within `grace_s` or
    count as none. Raises ConfigError `source`.
    """
    if text.startswith(("http://", "https://")):
        from restante.client.http import HttpSource

        return HttpSource(text, proxy=proxy, grace_s=grace_s)
    path = text.removeprefix("file://").removeprefix("file:")
    if "://" in path or not path:
        raise ConfigError(
            f"not a source: {text[:200]}",
            code="source",
            hint="give http://…, https://…, or the path of an archive's folder",
        )
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ConfigError(f"no folder {root}", code="source", hint="give an archive's folder")
    return FolderSource(root, text)


def sources_of(
    policy: Policy, *, proxy: str | None = None, grace_s: float = limits.SOURCE_GRACE_S
) -> list[Source]:
    """The sources that the policy file's contact lines name, in their order."""
    urls = dict.fromkeys(url for _, url in policy.contacts)
    return [parse_source(url, proxy=proxy, grace_s=grace_s) for url in urls]


def read_policy(path: Path) -> Policy:
    """The policy of a file. Raises ConfigError `policy`."""
    try:
        with path.open("rb") as file:
            return Policy.parse(file.read(limits.POLICY_MAX_BYTES + 1))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}", code="policy") from error
    except InvalidEncoding as error:
        raise ConfigError(
            f"{path}: {error}", code="policy", hint="this file says whom you trust: get it again"
        ) from error


def require_sources(sources: Sequence[Named]) -> None:
    """Raises ConfigError `source` if there is none, or one twice."""
    if not sources:
        raise ConfigError(
            "no source to ask",
            code="source",
            hint="name a URL or a folder; this policy file has no contacts",
        )
    if len({source.name for source in sources}) != len(sources):
        raise ConfigError("a source is named twice", code="source")
