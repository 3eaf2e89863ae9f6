"""What a node asks of the validators over HTTP, with every wait and every answer bounded.

A peer's URL comes from the configuration, never from a message. Whatever a peer answers is either
what was asked for, parsed strictly, or an Unavailable: the caller tries again or asks another.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TypeVar

import httpx2

from restante import limits
from restante.errors import Invalid, Unavailable
from restante.formats.descriptor import Descriptor
from restante.formats.exchange import (
    BodiesRequest,
    CosignatureReport,
    PoolPage,
    encode_bodies,
    parse_bodies,
)
from restante.formats.message import Answer, Proposal
from restante.formats.paths import segment_path
from restante.formats.segment import Contents, read_cars
from restante.formats.whisper import parse as parse_envelope
from restante.node.wire.skew import Offset, Offsets
from restante.ports import Clock

T = TypeVar("T")

TIME_HEADER = "Restante-Time-Ms"
DAG_CBOR_TYPE = "application/vnd.ipld.dag-cbor"
BODIES_TYPE = "application/vnd.restante.bodies"


@dataclass(frozen=True, slots=True)
class Peer:
    """A validator as this node reaches it."""

    name: str
    url: str


def open_client() -> httpx2.AsyncClient:
    """The process's one HTTP client: connections are kept, proxies of the environment unused."""
    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(limits.PEER_TIMEOUT_S, connect=limits.PEER_CONNECT_S),
        limits=httpx2.Limits(
            max_connections=limits.PEER_CONNECTIONS,
            max_keepalive_connections=limits.PEER_CONNECTIONS,
            keepalive_expiry=limits.PEER_KEEPALIVE_S,
        ),
        # Asked for as it is, an answer cannot unpack into more than was read.
        headers={"Accept-Encoding": "identity"},
        trust_env=False,
        follow_redirects=False,
    )


class Peers:
    """The validators of one set."""

    def __init__(
        self, d: Descriptor, urls: dict[str, str], client: httpx2.AsyncClient, clock: Clock
    ) -> None:
        self._d = d
        self._client = client
        self._clock = clock
        self.by_name = {name: Peer(name, url.rstrip("/")) for name, url in urls.items()}
        self.offsets = Offsets(d.window_s)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.by_name)

    # --- routes -----------------------------------------------------------------------------

    async def propose(self, name: str, proposal: Proposal) -> Answer:
        """Hand in a proposal. Raises Unavailable."""
        data = await self._post(name, "/proposals", proposal.encode(), limits.ANSWER_BYTES)
        return self._parsed(name, lambda: Answer.parse(data))

    async def push(self, name: str, key: bytes, cid: bytes, raws: Sequence[bytes]) -> Answer:
        """Hand in bodies that a proposal needs. Raises Unavailable."""
        path = f"/proposals/bodies?key={key.hex()}&cid={cid.hex()}"
        data = await self._post(name, path, encode_bodies(raws), limits.ANSWER_BYTES)
        return self._parsed(name, lambda: Answer.parse(data))

    async def certificate(self, name: str, certificate: bytes) -> None:
        """Hand in a certificate. Raises Unavailable."""
        await self._post(name, "/accepts", certificate, limits.ANSWER_BYTES)

    async def pool(self, name: str, after: int) -> PoolPage:
        """A page of a validator's pool. Raises Unavailable."""
        path = f"/pool?after={after}&limit={limits.POOL_PAGE_IDS}"
        data = await self._get(name, path, limits.ANSWER_BYTES)
        page: PoolPage = self._parsed(name, lambda: PoolPage.parse(data))
        if page.after not in (after, page.floor):
            raise self._nonsense(name, "a pool page from another position")
        return page

    async def bodies(self, name: str, ids: Sequence[bytes]) -> list[bytes]:
        """The bodies that a validator holds of these ids, in as many requests as it takes.

        Ends when an answer holds nothing that is still wanted, or when one request's time is over:
        a peer that drips a body at a time is asked no further. Raises Unavailable.
        """
        deadline = time.monotonic() + limits.PEER_DEADLINE_S
        wanted = dict.fromkeys(ids)
        found: list[bytes] = []
        while wanted:
            asked = tuple(wanted)[: limits.BODIES_IDS]
            data = await self._post(
                name, "/bodies", BodiesRequest(asked).encode(), limits.BODIES_ANSWER_BYTES
            )
            raws = self._parsed(name, partial(parse_bodies, data, self._d.max_envelope_bytes))
            before = len(wanted)
            for raw in raws:
                id_ = sha256(raw).digest()
                if id_ in wanted:
                    del wanted[id_]
                    found.append(raw)
            if len(wanted) == before or time.monotonic() > deadline:
                break
        return found

    async def cosignatures(self, name: str) -> CosignatureReport:
        """The newest cosignatures that a validator knows. Raises Unavailable."""
        data = await self._get(name, "/cosignatures", limits.ANSWER_BYTES)
        return self._parsed(name, lambda: CosignatureReport.parse(data))

    async def segment(self, name: str, window: int, cid: bytes) -> Contents:
        """A window's segment, verified in full against its CID. Raises Unavailable."""
        root = await self._get(name, f"/{segment_path(0, window)}", limits.CAR_MAX_BYTES)
        parts = [root]
        # Only a segment over 64 MiB has more parts, and all but its last are about that large.
        while (
            len(parts[-1]) >= limits.CAR_PART_BYTES // 2 and len(parts) < limits.SEGMENT_MAX_PARTS
        ):
            try:
                path = f"/{segment_path(0, window, len(parts))}"
                parts.append(await self._get(name, path, limits.CAR_MAX_BYTES))
            except Unavailable as error:
                if error.code != "not-found":
                    raise
                break
        contents: Contents = self._parsed(
            name,
            lambda: read_cars(
                parts,
                self._d,
                lambda raw: parse_envelope(raw).topic,
                lambda raw: parse_envelope(raw).sent_s,
            ),
        )
        if contents.segment.root_cid != cid:
            raise self._nonsense(name, f"another segment for window {window}")
        return contents

    async def file(self, name: str, path: str, max_bytes: int) -> bytes:
        """A file of a validator's archive, unverified. Raises Unavailable (`not-found`)."""
        return await self._get(name, f"/{path}", max_bytes)

    async def read(self, name: str, path: str, offset: int, length: int) -> bytes:
        """Bytes of a file of a validator's archive, unverified; fewer where the file ends.

        Files that change come whole. Raises Unavailable (`not-found`).
        """
        span = f"bytes={offset}-{offset + length - 1}"
        return await self._request(name, "GET", f"/{path}", None, length, span)

    # --- requests ---------------------------------------------------------------------------

    async def _get(self, name: str, path: str, max_bytes: int) -> bytes:
        return await self._request(name, "GET", path, None, max_bytes)

    async def _post(self, name: str, path: str, body: bytes, max_bytes: int) -> bytes:
        return await self._request(name, "POST", path, body, max_bytes)

    async def _request(
        self,
        name: str,
        method: str,
        path: str,
        body: bytes | None,
        max_bytes: int,
        span: str | None = None,
    ) -> bytes:
        peer = self.by_name[name]
        sent_ms = self._clock.now_ms()
        headers = {} if span is None else {"Range": span}
        try:
            async with (
                asyncio.timeout(limits.PEER_DEADLINE_S),
                self._client.stream(
                    method, peer.url + path, content=body, headers=headers
                ) as response,
            ):
                self._note_time(name, sent_ms, response.headers.get(TIME_HEADER))
                data = await _read(response, max_bytes)
        except (httpx2.HTTPError, httpx2.StreamError, TimeoutError, OSError) as error:
            self.offsets.forget(name)
            detail = f"{type(error).__name__} {error}".strip()
            raise Unavailable(f"{name} ({peer.url}): {detail}", code="peer-unreachable") from error
        if response.status_code in (404, 410):
            raise Unavailable(f"{name} has no {path}", code="not-found")
        if not 200 <= response.status_code < 300 or data is None:
            raise Unavailable(
                f"{name} answered {response.status_code} to {method} {path.partition('?')[0]}",
                code="peer-refused" if response.status_code < 500 else "peer-failing",
            )
        if span is not None and response.status_code != 206 and not span.startswith("bytes=0-"):
            raise self._nonsense(name, "a whole file where a part of it was asked for")
        return data

    def _note_time(self, name: str, sent_ms: int, header: str | None) -> None:
        if header is not None and header.isascii() and header.isdecimal() and len(header) < 16:
            now_ms = self._clock.now_ms()
            self.offsets.note(name, Offset.measured(sent_ms, now_ms, int(header)))

    def _parsed(self, name: str, parse: Callable[[], T]) -> T:
        try:
            return parse()
        except Invalid as error:
            raise self._nonsense(name, str(error)) from error

    def _nonsense(self, name: str, what: str) -> Unavailable:
        return Unavailable(f"{name} answered nonsense: {what}", code="peer-nonsense")


async def _read(response: httpx2.Response, max_bytes: int) -> bytes | None:
    """The body; None when it is larger than what was asked for can be."""
    parts = []
    size = 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > max_bytes:
            return None
        parts.append(part)
    return b"".join(parts)
