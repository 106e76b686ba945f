"""The content store: what it forgets, what it keeps, and when it is gone."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlrcbench.errors import SnapshotError
from mlrcbench.storage.snapshots.content_store import ContentStore


class _Holder:
    """Keeps contents by their digests."""

    def __init__(self, *digests: str) -> None:
        self._digests = set(digests)

    def digests(self) -> set[str]:
        return self._digests


@pytest.fixture
def store() -> Iterator[ContentStore]:
    """A store with one user."""
    made = ContentStore()
    made.join()
    yield made
    if made.is_open:
        made.leave()


def test_a_sweep_forgets_all_that_nobody_names(store: ContentStore) -> None:
    """At once: five contents, of which one is named; their files go too, and so do linkable copies."""
    digests = [store.put_bytes(b"x" * size) for size in range(1, 6)]
    holder = _Holder(digests[2])
    store.hold(holder)
    store.sweep()
    assert dict(store.sizes) == {digests[2]: 3}
    assert store.total_bytes == 3
    assert os.listdir(store.folder) == [digests[2]]


def test_a_sweep_without_holders_empties_the_store(store: ContentStore) -> None:
    """A holder that nothing refers to any more keeps nothing."""
    digests = [store.put_bytes(bytes([number])) for number in range(4)]
    store.hold(_Holder(*digests))
    store.sweep()
    assert (dict(store.sizes), store.total_bytes, os.listdir(store.folder)) == ({}, 0, [])


def test_every_holder_keeps_what_it_names(store: ContentStore) -> None:
    """Contents that several name, and contents that one does."""
    digests = [store.put_bytes(bytes([number])) for number in range(4)]
    holders = [_Holder(digests[0], digests[1]), _Holder(digests[1], digests[2])]
    for holder in holders:
        store.hold(holder)
    store.sweep()
    assert set(store.sizes) == set(digests[:3])


@given(st.lists(st.binary(max_size=4), max_size=8))
def test_a_content_counts_once(contents: list[bytes]) -> None:
    """However often it is put in."""
    store = ContentStore()
    store.join()
    try:
        for content in contents:
            store.put_bytes(content)
        assert store.total_bytes == sum(map(len, set(contents)))
        assert len(store.sizes) == len(set(contents))
    finally:
        store.leave()


def test_the_last_user_removes_the_store(store: ContentStore) -> None:
    """Not the one before."""
    digest = store.put_bytes(b"content")
    store.join()
    store.leave()
    with store.reader(digest) as descriptor:
        assert os.read(descriptor, 100) == b"content"
    store.leave()
    assert not store.folder.exists()
    with pytest.raises(SnapshotError, match="closed"), store.reader(digest):
        pass
