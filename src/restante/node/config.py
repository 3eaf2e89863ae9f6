"""The operator's configuration: one table of options says what there is, everywhere.

Precedence: defaults < `restante.toml` < environment (`RESTANTE_<SECTION>_<KEY>`) < flags.
"""

import difflib
import json
import textwrap
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from restante import limits
from restante.errors import ConfigError
from restante.node.home import DEFAULT_ROLES, ROLES

Value: TypeAlias = "int | str | list[str] | dict[str, str]"


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its place, its default (whose type is its type), its bounds, and what it is."""

    section: str
    key: str
    default: Value
    help: str
    unit: str = ""
    least: int = 0
    greatest: int = 2**62

    @property
    def name(self) -> str:
        return f"{self.section}.{self.key}" if self.key else self.section

    @property
    def variable(self) -> str:
        """The environment variable that overrides it."""
        return f"RESTANTE_{self.section}_{self.key}".upper().rstrip("_")


OPTIONS = (
    Option("node", "roles", list(DEFAULT_ROLES), f"What this process is: {', '.join(ROLES)}."),
    Option(
        "node",
        "passphrase_file",
        "",
        "A file whose first line is the passphrase of the keys, if they have one.",
    ),
    Option("listen", "host", "127.0.0.1", "Where peers and `restante post` reach this node."),
    Option("listen", "port", 8420, "TCP port; 0 takes a free one.", greatest=65535),
    Option("listen", "url", "", "Under which URL others reach it; published in its contact note."),
    Option(
        "listen",
        "trusted_proxies",
        [],
        "Reverse proxies, addresses or networks, that say in X-Forwarded-For who asks.",
    ),
    Option("gateway", "host", "127.0.0.1", "Where clients read."),
    Option("gateway", "port", 8421, "TCP port; 0 takes a free one.", greatest=65535),
    Option(
        "gateway",
        "sources",
        [],
        "URLs or folders that the gateway reads; empty: the peers, or this node's own archive.",
    ),
    Option(
        "gateway",
        "denylist",
        "",
        "A file of CIDs, one a line, that are withheld (410); a change of it counts at once.",
    ),
    Option("gateway", "cache_max_bytes", 1024**3, "The oldest files go first.", "bytes"),
    Option(
        "network",
        "source",
        "none",
        "What is observed: `none` (only what is posted here), `whisper`, or `trace:FILE[,FILE…]`.",
    ),
    Option(
        "whisper",
        "peers",
        [],
        "Nodes that are dialled, and dialled again for ever: enode://<node id>@<host>:<port>.",
    ),
    Option("whisper", "host", "127.0.0.1", "Where other Whisper nodes reach this one."),
    Option(
        "whisper", "port", 0, "TCP port; 0 takes a free one, another at each start.", greatest=65535
    ),
    Option(
        "whisper",
        "advertise",
        "",
        "The host that this node's enode names, where others cannot use `host` (0.0.0.0, or NAT).",
    ),
    Option("whisper", "max_peers", 50, "More are refused, but for those of `peers`.", "", 1, 1000),
    Option(
        "mailserver",
        "password_file",
        "",
        "A file whose first line encrypts old clients' requests; empty: status-offline-inbox.",
    ),
    Option(
        "mailserver",
        "key_file",
        "",
        "A file with the private key (64 hex digits) that requests may be encrypted to.",
    ),
    Option(
        "mailserver",
        "sources",
        [],
        "URLs or folders that mail is read from; empty: as the gateway reads.",
    ),
    Option(
        "mailserver", "rate_limit_s", 0, "Seconds between two requests of a peer.", "s", 0, 86_400
    ),
    Option("clock", "source", "wall", "`wall`, or `replay:FILE` with the record of a replay."),
    Option("engine", "source", "local:engine.db", "What orders certificates: `local:FILE`."),
    Option("validator", "grace_s", 5, "From a window's end to outsiders' proposals.", "s", 0, 3600),
    Option(
        "validator", "step_s", 10, "Between two standings: own proposals, submission.", "s", 1, 3600
    ),
    Option(
        "validator",
        "pool_max_bytes",
        4 * 1024**3,
        "Above it the network is not read any more and windows count as unwatched.",
        "bytes",
        64 * 1024**2,
    ),
    Option(
        "validator",
        "retention_days",
        30,
        "Segments, certificates and entries of older windows go, also from the stores; 0: never.",
        "days",
        0,
        100_000,
    ),
    Option(
        "validator",
        "children_kept_s",
        86_400,
        "How long what a roll-up was made of stays after it is in the log: others count on a day.",
        "s",
    ),
    Option("peers", "", {}, "The other validators: name = URL. A proposer lists all of them."),
    Option("stores", "", {}, "Where the archive is published: name = `folder:PATH`."),
    Option("log", "format", "text", "`text`, a line per window, or `json`."),
)
_BY_NAME = {option.name: option for option in OPTIONS}
_TABLES = {option.section for option in OPTIONS if not option.key}


@dataclass(frozen=True, slots=True)
class Config:
    """Every option's value, by `section.key`, and where it came from."""

    values: dict[str, Value]
    origins: dict[str, str] = field(default_factory=dict)

    def int_(self, name: str) -> int:
        value = self.values[name]
        assert isinstance(value, int)
        return value

    def text(self, name: str) -> str:
        value = self.values[name]
        assert isinstance(value, str)
        return value

    def list_(self, name: str) -> list[str]:
        value = self.values[name]
        assert isinstance(value, list)
        return value

    def table(self, name: str) -> dict[str, str]:
        value = self.values[name]
        assert isinstance(value, dict)
        return value


def load(
    path: Path | None, environ: Mapping[str, str], flags: Mapping[str, Value] | None = None
) -> Config:
    """The effective configuration. `flags` are values by `section.key`. Raises ConfigError."""
    values: dict[str, Value] = {option.name: option.default for option in OPTIONS}
    origins = dict.fromkeys(values, "default")
    if path is not None:
        for name, value in parse(path).items():
            values[name], origins[name] = value, str(path)
    for option in OPTIONS:
        if option.variable in environ and option.key:
            text = environ[option.variable]
            values[option.name] = _check(option, _from_text(option, text), option.variable)
            origins[option.name] = option.variable
    for name, value in (flags or {}).items():
        values[name] = _check(_BY_NAME[name], value, f"--{name}")
        origins[name] = "flag"
    return Config(values, origins)


def parse(path: Path) -> dict[str, Value]:
    """The options that a file sets. Raises ConfigError `config`, with a hint at what was meant."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path} is missing", code="not-a-node", hint="`restante init DIR` makes a node"
        ) from error
    if len(data) > limits.CONFIG_MAX_BYTES:
        raise ConfigError(f"{path} is too large")
    try:
        document = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from error
    found: dict[str, Value] = {}
    for section, content in document.items():
        if section not in {option.section for option in OPTIONS}:
            raise _unknown(path, section, sorted({option.section for option in OPTIONS}))
        if not isinstance(content, dict):
            raise ConfigError(f"{path}: {section} is a section: [{section}]")
        if section in _TABLES:
            found[section] = _check(_BY_NAME[section], content, str(path))
            continue
        for key, value in content.items():
            name = f"{section}.{key}"
            if name not in _BY_NAME:
                raise _unknown(path, name, sorted(_BY_NAME))
            found[name] = _check(_BY_NAME[name], value, str(path))
    return found


def _check(option: Option, value: Any, where: str) -> Value:
    """The value, if it is one of this option's. Raises ConfigError."""
    expected = type(option.default)
    if type(value) is not expected:
        kinds = {int: "a number", str: "a text", list: "a list of texts", dict: "a table of texts"}
        raise ConfigError(f"{where}: {option.name} is {kinds[expected]}")
    if isinstance(value, int) and not option.least <= value <= option.greatest:
        raise ConfigError(
            f"{where}: {option.name} is not in {option.least}…{option.greatest} {option.unit}"
        )
    items: list[Any] = []
    if isinstance(value, dict | list):
        items = list(value.values()) if isinstance(value, dict) else value
    if any(not isinstance(item, str) for item in items):
        raise ConfigError(f"{where}: {option.name} holds something that is not a text")
    if option.name == "node.roles":
        for role in items:
            if role not in ROLES:
                raise _unknown(where, role, list(ROLES))
    if option.name == "log.format" and value not in ("text", "json"):
        raise ConfigError(f"{where}: log.format is text or json")
    checked: Value = value
    return checked


def _from_text(option: Option, text: str) -> Any:
    if isinstance(option.default, int):
        try:
            return int(text)
        except ValueError:
            raise ConfigError(f"{option.variable} is a number, not {text!r}") from None
    if isinstance(option.default, list):
        return [item.strip() for item in text.split(",") if item.strip()]
    return text


def _unknown(where: object, name: str, known: list[str]) -> ConfigError:
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
    return ConfigError(f"{where}: unknown {name}", hint=hint)


_EXAMPLES = {"peers": 'v2 = "http://192.0.2.7:8420"', "stores": 'disk = "folder:/srv/restante"'}
_HEAD = """\
# A Restante node. Every option is here with its default; each is read once, at start: a change
# takes a restart. An environment variable RESTANTE_<SECTION>_<KEY> goes before this file, and a
# flag of `restante up` before both. Relative paths are relative to this file's folder.
"""


def template(values: Mapping[str, Value] | None = None) -> str:
    """The annotated file with every option: `values` where given, else defaults."""
    given = {option.name: option.default for option in OPTIONS} | dict(values or {})
    lines = [_HEAD]
    section = ""
    for option in OPTIONS:
        if option.section != section:
            section = option.section
            lines.append(f"[{section}]")
        unit = f" In {option.unit}." if option.unit else ""
        text = f"{option.help}{unit} (restart required)"
        lines += textwrap.wrap(text, 100, initial_indent="# ", subsequent_indent="# ")
        value = given[option.name]
        if isinstance(value, dict):
            lines += [f"{_key(name)} = {_toml(item)}" for name, item in value.items()]
            if not value:
                lines.append(f"# {_EXAMPLES[section]}")
        else:
            lines.append(f"{option.key} = {_toml(value)}")
        lines.append("")
    return "\n".join(lines)


def _key(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() else _toml(name)


def _toml(value: Value) -> str:
    if isinstance(value, int):
        return f"{value:_}" if value >= 10_000_000 else str(value)
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    assert isinstance(value, str)
    # TOML's basic strings are JSON's, but for DEL.
    return json.dumps(value, ensure_ascii=False)
