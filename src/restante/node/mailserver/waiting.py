"""Requests that wait: bounded, and taken in turn. Pure: no I/O, no time."""

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass

from restante import limits
from restante.networks.whisper.mail_request import MailRequest
from restante.networks.whisper.network_talk import MailPeer


@dataclass(frozen=True, slots=True)
class Job:
    """A request to be answered."""

    peer: MailPeer
    source: str
    """Whom its address is counted for."""
    request: MailRequest


class WaitingRequests:
    """In turn by peer; of a peer one is answered at a time, of an address a few."""

    def __init__(self) -> None:
        self._by_peer: OrderedDict[bytes, deque[Job]] = OrderedDict()
        self._waiting: Counter[str] = Counter()
        self._peers: set[bytes] = set()
        self._sources: Counter[str] = Counter()
        self._unpaged = 0

    def __len__(self) -> int:
        return self._waiting.total()

    @property
    def running(self) -> int:
        """How many are being answered."""
        return len(self._peers)

    def put(self, job: Job) -> bool:
        """Queue it, unless the queue, its address or its peer has enough."""
        own = self._by_peer.get(job.peer.node_id, ())
        if (
            len(self) >= limits.MAIL_QUEUE
            or len(own) >= limits.MAIL_QUEUE_PER_PEER
            or self._waiting[job.source] >= limits.MAIL_QUEUE_PER_ADDRESS
        ):
            return False
        self._by_peer.setdefault(job.peer.node_id, deque()).append(job)
        self._waiting[job.source] += 1
        return True

    def take(self) -> Job | None:
        """The next that may run; give it to `done` afterwards. Who has not taken its last answer
        yet waits for its own reading, and holds up nobody."""
        if self.running >= limits.MAIL_RUNNING:
            return None
        for node_id, jobs in self._by_peer.items():
            if not self._may_run(jobs[0]):
                continue
            job = jobs.popleft()
            del self._by_peer[node_id]
            if jobs:
                # Behind all others.
                self._by_peer[node_id] = jobs
            self._waiting[job.source] -= 1
            self._peers.add(node_id)
            self._sources[job.source] += 1
            self._unpaged += job.request.limit is None
            self._waiting += Counter()
            return job
        return None

    def _may_run(self, job: Job) -> bool:
        return (
            job.peer.node_id not in self._peers
            and (job.peer.gone or job.peer.backlog_bytes <= limits.MAIL_BACKLOG_BYTES // 2)
            and self._sources[job.source] < limits.MAIL_RUNNING_PER_ADDRESS
            and (job.request.limit is not None or self._unpaged < limits.MAIL_RUNNING_UNPAGED)
        )

    def done(self, job: Job) -> None:
        """It was answered, or given up."""
        self._peers.discard(job.peer.node_id)
        self._sources[job.source] -= 1
        self._sources += Counter()
        self._unpaged -= job.request.limit is None
