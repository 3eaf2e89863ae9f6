"""The id lists of a window's proposals, so that later ones can be sent as differences."""

from collections import OrderedDict

from restante import limits
from restante.formats.message import Proposal

Ids = tuple[bytes, ...]


class IdLists:
    """Lists by proposer and CID. Outsiders share one bounded room; validators have their own, so
    that no flood of keys makes a validator's proposal forgotten."""

    def __init__(self, validators: frozenset[bytes]) -> None:
        """`validators`: public keys."""
        self._validators = validators
        self._own: OrderedDict[tuple[bytes, bytes], Ids] = OrderedDict()
        self._others: OrderedDict[tuple[bytes, bytes], Ids] = OrderedDict()
        self._ids = {id(self._own): 0, id(self._others): 0}

    def __bool__(self) -> bool:
        """Whether any proposal came in this window."""
        return bool(self._own or self._others)

    def resolve(self, p: Proposal) -> Ids | None:
        """The ids that a proposal names, sorted; None if the list it differs from was forgotten.

        A difference that does not add up to the count it claims is resolved, and not remembered.
        """
        if p.against is None:
            ids = p.ids
        else:
            known = self.get(p.key, p.against)
            if known is None:
                return None
            ids = tuple(sorted(set(known).difference(p.drop).union(p.add)))
        if len(ids) == p.count:
            self._put(p.key, p.cid, ids)
        return ids

    def get(self, key: bytes, cid: bytes) -> Ids | None:
        """The list of an earlier proposal by this key."""
        return self._room(key).get((key, cid))

    def _room(self, key: bytes) -> OrderedDict[tuple[bytes, bytes], Ids]:
        return self._own if key in self._validators else self._others

    def _put(self, key: bytes, cid: bytes, ids: Ids) -> None:
        room = self._room(key)
        total = self._ids[id(room)] + len(ids) - len(room.get((key, cid), ()))
        room[key, cid] = ids
        room.move_to_end((key, cid))
        while len(room) > limits.ID_LISTS or (total > limits.ID_LISTS_IDS and len(room) > 1):
            total -= len(room.popitem(last=False)[1])
        self._ids[id(room)] = total
