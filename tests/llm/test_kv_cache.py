"""Pages: leases, sharing, and the prefix tree."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zellige.diagnostics import InternalError
from zellige.llm.kv_cache import PagePool
from zellige.llm.prefix_cache import PrefixCache


def test_a_page_released_during_a_step_is_reused_only_after_that_step() -> None:
    pool = PagePool(1, 4)
    pages = pool.allocate(1)
    step = pool.begin_step()
    pool.release(pages)
    assert pool.allocate(1) is None and pool.retiring == 1
    pool.complete_step(step)
    assert pool.allocate(1) == [0]


def test_a_page_that_only_the_cache_held_is_free_at_once_though_a_step_is_in_flight() -> None:
    pool = PagePool(2, 4)
    before, during = pool.allocate(1), pool.allocate(1)
    for pages in (before, during):
        pool.share(pages[0])  # the cache's
    pool.release(before)
    step = pool.begin_step()
    pool.release(during)
    pool.drop(before[0])
    pool.drop(during[0])
    assert pool.free == 1 and pool.retiring == 1
    assert pool.allocate(1) == before
    pool.complete_step(step)
    assert pool.allocate(1) == during


def test_a_page_waits_for_the_last_of_several_steps_in_flight() -> None:
    pool = PagePool(2, 4)
    first, second = pool.allocate(2)
    one = pool.begin_step()
    pool.release([first])
    two = pool.begin_step()
    pool.release([second])
    pool.complete_step(one)
    assert pool.allocate(2) is None and pool.allocate(1) == [first]
    pool.complete_step(two)
    assert pool.allocate(1) == [second]


def test_a_shared_page_comes_back_with_its_last_holder() -> None:
    pool = PagePool(1, 4)
    pages = pool.allocate(1)
    pool.share(0)
    pool.release(pages)
    assert pool.free == 0
    pool.release(pages)
    assert pool.free == 1


def test_allocating_more_than_is_free_changes_nothing() -> None:
    pool = PagePool(3, 4)
    assert pool.allocate(4) is None
    assert pool.free == 3


@pytest.mark.parametrize("wrong", [lambda p: p.release([0]), lambda p: p.share(0), lambda p: p.complete_step(1)])
def test_what_nobody_holds_or_began_is_an_internal_error(wrong) -> None:
    with pytest.raises(InternalError):
        wrong(PagePool(2, 4))


def filled(pool: PagePool, cache: PrefixCache, tokens: list[int]) -> list[int]:
    pages = pool.allocate(pool.pages_for(len(tokens)))
    assert pages is not None
    cache.insert(tokens, pages)
    pool.release(pages)
    return pages


def test_a_common_beginning_is_found_by_whole_pages() -> None:
    pool = PagePool(8, 4)
    cache = PrefixCache(pool)
    pages = filled(pool, cache, list(range(10)))  # two full pages and half of a third
    assert cache.pages == 2
    assert cache.match([*range(8), 99, 98]) == pages[:2]
    assert cache.match([0, 1, 2, 3, 9, 9, 9, 9, 9]) == pages[:1]
    assert cache.match([1, 2, 3, 4, 5]) == []


def test_a_stretch_that_agrees_in_part_is_cut_and_goes_from_its_end() -> None:
    pool = PagePool(16, 2)
    cache = PrefixCache(pool)
    pages = filled(pool, cache, [1, 2, 3, 4, 5, 6, 7, 8])
    assert len(set(cache._nodes.values())) == 1
    held = cache.match([1, 2, 3, 4, 9, 9, 9])
    assert held == pages[:2]
    assert len(set(cache._nodes.values())) == 2
    other = filled(pool, cache, [1, 2, 3, 4, 5, 6, 9, 9])[3]  # the tree keeps its own pages of the common six tokens
    assert cache.evict(1) == 1
    assert set(cache._nodes) == {*pages[:3], other}, "the last page of what was used before"
    assert cache.evict(9) == 2, "down to what is held"
    assert cache.pages == 2
    pool.release(held)
    assert cache.evict(9) == 2 and pool.free == 16


def test_of_pages_that_agree_in_part_the_one_that_agrees_longest_is_found() -> None:
    pool = PagePool(12, 4)
    cache = PrefixCache(pool)
    one, other = (filled(pool, cache, [0, 1, 2, 3, *tail]) for tail in ([4, 5, 6, 7], [4, 5, 9, 9]))
    assert cache.tail([0, 1, 2, 3, 4, 5, 9, 8, 7], one[:1]) == (other[1], 3)
    assert cache.tail([0, 1, 2, 3, 4, 5, 6, 7], one[:1]) == (one[1], 3), "the last token is left to compute"
    assert cache.tail([0, 1, 2, 3, 4], one[:1]) == (-1, 0)
    assert cache.tail([0, 1, 7, 7], []) == (one[0], 2)
    assert cache.tail([5, 5], []) == (-1, 0)
    cache.clear()
    assert cache.tail([0, 1, 7, 7], []) == (-1, 0)


def test_the_last_token_is_always_left_to_compute() -> None:
    pool = PagePool(8, 4)
    cache = PrefixCache(pool)
    pages = filled(pool, cache, list(range(8)))
    assert cache.match(list(range(8))) == pages[:1]


def test_eviction_takes_leaves_least_recently_used_first_and_nothing_in_use() -> None:
    pool = PagePool(8, 2)
    cache = PrefixCache(pool)
    old = filled(pool, cache, [1, 2, 3, 4])
    new = filled(pool, cache, [5, 6, 7, 8])
    used = cache.match([1, 2, 9])
    assert used == old[:1]
    assert cache.evict(1) == 1 and cache.match([1, 2, 3, 4, 0]) == old[:1]  # old's leaf went first: it is older
    pool.release(old[:1])
    assert cache.evict(9) == 2  # new's two; old's first page is in use
    assert cache.match([5, 6, 0]) == [] and new
    pool.release(used)
    cache.clear()
    assert pool.free == 8 and cache.pages == 0


@given(prompts=st.lists(st.lists(st.integers(0, 1), max_size=12), max_size=12))
def test_a_match_has_the_tokens_that_were_put_in(prompts: list[list[int]]) -> None:
    pool = PagePool(200, 2)
    cache = PrefixCache(pool)
    holds: dict[int, tuple[int, ...]] = {}
    for tokens in prompts:
        matched = cache.match(tokens)
        for index, page in enumerate(matched):
            assert holds[page] == tuple(tokens[: 2 * index + 2])
        fresh = pool.allocate(pool.pages_for(len(tokens)) - len(matched))
        assert fresh is not None
        pages = matched + fresh
        holds |= {page: tuple(tokens[: 2 * i + 2]) for i, page in enumerate(pages) if page not in matched}
        cache.insert(tokens, pages)
        pool.release(pages)
        assert pool.held == cache.pages


def oldest_unused_leaf(pool: PagePool, cache: PrefixCache) -> int | None:
    """What must go next, by looking at every node."""
    leaves = [n for n in cache._nodes.values() if not n.children and pool.references(n.pages[-1]) == 1]
    return min(((n.used, n.pages[-1]) for n in leaves), default=(0, None))[1]


operations = st.one_of(
    st.tuples(st.just("use"), st.lists(st.integers(0, 1), min_size=1, max_size=9)),
    st.tuples(st.just("end"), st.integers(0, 5)),
    st.tuples(st.just("evict"), st.integers(1, 3)),
)


@given(steps=st.lists(operations, max_size=60))
def test_eviction_order_is_that_of_a_walk_over_the_whole_tree(steps: list[tuple[str, Any]]) -> None:
    pool = PagePool(400, 2)
    cache = PrefixCache(pool)
    running: list[list[int]] = []
    for what, value in steps:
        if what == "use":
            pages = cache.match(value)
            pages += pool.allocate(pool.pages_for(len(value)) - len(pages)) or []
            cache.insert(value, pages)
            running.append(pages)
        elif what == "end" and running:
            pool.release(running.pop(value % len(running)))
        elif what == "evict":
            for _ in range(value):
                wanted = oldest_unused_leaf(pool, cache)
                before = set(cache._nodes)
                assert cache.evict(1) == (wanted is not None)
                assert before - set(cache._nodes) == ({wanted} if wanted is not None else set())
        assert len(cache._evictable) <= 4 * cache.pages + 65


def test_a_hot_prefix_does_not_grow_the_list_of_what_can_go() -> None:
    pool = PagePool(8, 2)
    cache = PrefixCache(pool)
    filled(pool, cache, [1, 2, 3, 4])
    for _ in range(1000):
        pool.release(cache.match([1, 2, 3, 4, 5]))
    assert len(cache._evictable) < 100


def test_an_evicted_page_is_free_at_once_unless_a_sequence_held_it_in_a_step_in_flight() -> None:
    pool = PagePool(4, 2)
    cache = PrefixCache(pool)
    old = filled(pool, cache, [1, 2])
    step = pool.begin_step()
    recent = pool.allocate(1)
    assert recent is not None
    cache.insert([3, 4], recent)
    pool.release(recent)  # by a sequence that may be in the step
    assert cache.evict(2) == 2
    assert pool.allocate(3) == [*old, 2, 3] and pool.retiring == 1
    pool.complete_step(step)
    assert pool.allocate(1) == recent
