"""`restante inspect`: what an object is, wherever it stands."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from restante import limits
from restante.cli.output import reports
from restante.cli.printing import printable
from restante.errors import ConfigError, InvalidEncoding, Unavailable
from restante.formats import car
from restante.formats import cid as cids
from restante.formats.paths import check_path


@click.command(short_help="Show what an object or CID is.")
@click.argument("object_", metavar="OBJECT")
@click.option("--source", metavar="URL|DIR", help="Where archive paths and CIDs are looked up.")
@click.option(
    "--policy",
    "policy_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Say of notes which of this policy's keys signed.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@reports
def inspect(object_: str, source: str | None, policy_file: Path | None, as_json: bool) -> None:
    """Show what OBJECT is: a file, - (standard input), hex, a cursor, the URL of a file of an
    archive; with --source also a path of that archive, or the CID of one of its blocks.

    It knows descriptors, policies, checkpoints, watch and contact notes, log entries and bundles of
    them, tiles, segments (CAR) with their roots, page tables, directories and pages, proposals,
    certificates, pool pages, cursors and envelopes. It shows; it does not vouch for anything that
    it does not say is signed. Secrets are not shown.

    \b
    Examples:
      restante inspect policy
      restante inspect checkpoint --source http://127.0.0.1:8700 --policy policy
      restante inspect segment/0/012.car --source ./archive
      restante inspect bafyrei… --source http://127.0.0.1:8700

    Exit codes: 0 ok, 1 no object that is known, 2 usage, 3 a block is not its CID's,
    4 unavailable.
    """
    from restante.cli.objects import describe
    from restante.client import read_policy

    policy = None if policy_file is None else read_policy(policy_file)
    data, path = _load(object_, source)
    told = describe(data, policy, path)
    if as_json:
        click.echo(json.dumps(told))
    else:
        for line in _lines(told, 0):
            click.echo(line)


def _load(text: str, source: str | None) -> tuple[bytes, str]:
    """(bytes, path in an archive or empty) of what the argument names."""
    if text == "-":
        return sys.stdin.buffer.read(limits.CAR_MAX_BYTES + 1), ""
    if source is not None and (found := _from_source(text, source)) is not None:
        return found
    path = Path(text)
    if path.is_file():
        with path.open("rb") as file:
            return file.read(limits.CAR_MAX_BYTES + 1), ""
    if text.startswith(("http://", "https://")):
        return _from_url(text)
    if _is_cid(text) or _is_path(text):
        raise ConfigError(
            f"where is {text[:100]}?", code="source", hint="name an archive with --source"
        )
    if source is not None and "/" not in text and "." not in text:
        _refuse_cid(text)
    if len(text) >= 16 and "/" not in text and "." not in text:
        return text.encode(), ""  # hex, or a cursor
    raise ConfigError(f"no such file: {text[:200]}", code="object")


def _from_source(text: str, source: str) -> tuple[bytes, str] | None:
    from restante.client.sources import parse_source

    if not (_is_cid(text) or _is_path(text)):
        return None
    opened = parse_source(source)
    try:
        if _is_path(text):
            return opened.get(text, max_bytes=limits.CAR_MAX_BYTES), text
        return _block(opened, cids.from_text(text)), ""
    finally:
        opened.close()


def _block(source: Any, cid: bytes) -> bytes:
    """The block of a CID: a gateway knows it, in a folder it is looked for."""
    from restante.client.http import HttpSource

    if isinstance(source, HttpSource):
        return source.block(cid)
    for file in sorted(source.root.glob("segment/**/*.car")):
        try:
            _, blocks = car.read(file.read_bytes())
        except (InvalidEncoding, OSError):
            continue
        for named, block in blocks:
            if named == cid:
                return block
    raise Unavailable(f"no segment of {source.name} holds this block", code="not-found")


def _from_url(url: str) -> tuple[bytes, str]:
    """A file by its whole URL: what stands before the archive's path is the base."""
    from restante.client.http import HttpSource

    parts = url.split("/")
    for at in range(3, len(parts)):
        path = "/".join(parts[at:])
        if _is_path(path):
            source = HttpSource("/".join(parts[:at]))
            try:
                return source.get(path, max_bytes=limits.CAR_MAX_BYTES), path
            finally:
                source.close()
    raise ConfigError(f"not the URL of a file of an archive: {url[:200]}", code="object")


def _is_cid(text: str) -> bool:
    try:
        cids.from_text(text)
    except InvalidEncoding:
        return False
    return True


def _refuse_cid(text: str) -> None:
    """Say of what may be meant as a CID why it is none of an archive's. Raises ConfigError."""
    try:
        cids.from_text(text)
    except InvalidEncoding as error:
        if text[:1] in ("b", "B", "z", "f", "Q", "m", "u"):
            raise ConfigError(
                f"{text[:100]} is no CID of an archive: {error}",
                code="object",
                hint="an archive's blocks have CIDv1 in base32, SHA-256, raw or DAG-CBOR",
            ) from error


def _is_path(text: str) -> bool:
    try:
        check_path(text)
    except InvalidEncoding:
        return False
    return True


def _lines(value: Any, depth: int) -> Iterator[str]:
    """Indented `key: value` lines; lists of maps as items with a dash."""
    indent = "  " * depth
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, (dict, list)) and item:
                yield f"{indent}{printable(str(key))}:"
                yield from _lines(item, depth + 1)
            else:
                yield f"{indent}{printable(str(key))}: {_scalar(item)}"
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, (dict, list)):
                first, *rest = [*_lines(item, depth + 1)] or [""]
                yield f"{indent}- {first.strip()}"
                yield from rest
            else:
                yield f"{indent}- {_scalar(item)}"


def _scalar(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in ([], {}) else printable(str(value))
