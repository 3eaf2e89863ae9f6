"""RFC 6962 trees against pymerkle, and every proof of every small tree, right and wrong."""

from hashlib import sha256

import pytest
from pymerkle import InmemoryTree

from restante.errors import VerificationFailed
from restante.formats import tree

SIZES = 65
LEAVES = [tree.leaf_hash(bytes([i])) for i in range(SIZES)]
ROOTS = [tree.root(LEAVES[:size]) for size in range(SIZES + 1)]
OTHER = sha256(b"other").digest()


def hash_at(level: int, index: int) -> bytes:
    if level == 0:
        return LEAVES[index]
    return tree.node_hash(hash_at(level - 1, 2 * index), hash_at(level - 1, 2 * index + 1))


def spoiled(proof: list[bytes]) -> list[list[bytes]]:
    """Every way a proof goes wrong: truncated, extended, swapped, altered, a node cut."""
    bad = [[*proof, OTHER], [OTHER, *proof], *([proof[:-1], proof[1:]] if proof else [])]
    for i in range(len(proof)):
        bad.append([*proof[:i], OTHER, *proof[i + 1 :]])
        bad.append([*proof[:i], proof[i][:-1], *proof[i + 1 :]])
        if i:
            bad.append([*proof[: i - 1], proof[i], proof[i - 1], *proof[i + 1 :]])
    return [each for each in bad if each != proof]


def test_the_vectors_of_rfc_6962_hold() -> None:
    assert tree.EMPTY_ROOT.hex() == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
    assert tree.leaf_hash(b"").hex() == (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    )
    assert tree.root([]) == tree.EMPTY_ROOT == tree.Frontier.EMPTY.root()


def test_roots_equal_those_of_pymerkle() -> None:
    other = InmemoryTree(algorithm="sha256")
    for size in range(1, 65):
        other.append_entry(bytes([size - 1]))
        assert ROOTS[size] == other.get_root(size)


def test_a_frontier_is_the_tree_it_came_from() -> None:
    frontier = tree.Frontier.EMPTY
    for size in range(SIZES):
        assert frontier.root() == ROOTS[size]
        assert frontier == tree.frontier_at(size, hash_at)
        frontier = frontier.append(LEAVES[size])
    assert tree.Frontier.EMPTY.extend(LEAVES) == frontier
    with pytest.raises(ValueError):
        tree.Frontier(3, (OTHER,))


def test_every_inclusion_proof_verifies_and_no_other() -> None:
    for size in range(1, SIZES + 1):
        for index in range(size):
            proof = tree.inclusion_proof(index, size, hash_at)
            tree.verify_inclusion(LEAVES[index], index, size, proof, ROOTS[size])
            with pytest.raises(VerificationFailed) as failure:
                tree.verify_inclusion(OTHER, index, size, proof, ROOTS[size])
            assert failure.value.code == "inclusion"
            wrong = {index - 1, index + 1, index ^ 1, size - 1 - index, size, -1} - {index}
            for other in wrong:
                with pytest.raises(VerificationFailed):
                    tree.verify_inclusion(LEAVES[index], other, size, proof, ROOTS[size])
            for bad in spoiled(proof):
                with pytest.raises(VerificationFailed):
                    tree.verify_inclusion(LEAVES[index], index, size, bad, ROOTS[size])


def test_every_consistency_proof_verifies_and_no_other() -> None:
    for size in range(SIZES + 1):
        for old in range(size + 1):
            proof = tree.consistency_proof(old, size, hash_at)
            tree.verify_consistency(old, size, ROOTS[old], ROOTS[size], proof)
            for old_root, root in ((OTHER, ROOTS[size]), (ROOTS[old], OTHER)):
                if root == OTHER and old == 0 and size:
                    continue  # every tree continues the empty one
                with pytest.raises(VerificationFailed) as failure:
                    tree.verify_consistency(old, size, old_root, root, proof)
                assert failure.value.code == "consistency"
            for bad in spoiled(proof):
                with pytest.raises(VerificationFailed):
                    tree.verify_consistency(old, size, ROOTS[old], ROOTS[size], bad)
            if old != size:
                with pytest.raises(VerificationFailed):
                    tree.verify_consistency(size, old, ROOTS[size], ROOTS[old], proof)


def test_proofs_of_trees_that_are_not_there_are_refused() -> None:
    for index, size in ((0, 0), (1, 1), (-1, 2)):
        with pytest.raises(ValueError):
            tree.inclusion_proof(index, size, hash_at)
    for old, size in ((2, 1), (-1, 1)):
        with pytest.raises(ValueError):
            tree.consistency_proof(old, size, hash_at)
    with pytest.raises(VerificationFailed):
        tree.verify_consistency(-1, 1, OTHER, OTHER, [])
