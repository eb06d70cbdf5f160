"""The book of limiters: one for each deployment and key, found again by name."""

from __future__ import annotations

import gc

import anyio
import pytest
import trio
import trio.testing
from scillm.errors import RateLimitError
from scillm.resilience.account import account_name, key_name
from scillm.resilience.limiter import Limiter
from scillm.resilience.limiter_book import MOST_LIMITERS, LimiterBook
from scillm.resilience.limits import Rates

KEY = "sk-book-0123456789"


def virtual_limiter(rates, name):
    return Limiter(rates, name=name, clock=trio.current_time)


def virtual(main):
    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_name_has_one_limiter_and_its_first_rates():
    """Whoever asks again gets the same one; keys and deployments never meet."""
    book = LimiterBook(deployment_rates=Rates(rpm=60), key_rates=Rates(rpm=120))

    assert book.deployment("a") is book.deployment("a", Rates(rpm=1))
    assert book.deployment("a").rate_per_s == 1.0
    assert book.key(KEY).rate_per_s == 2.0
    assert book.deployment(key_name(KEY)) is not book.key(KEY)
    assert book.deployment("b", Rates(rpm=6)).rate_per_s == 0.1
    assert LimiterBook().deployment("a").rate_per_s is None


def test_a_key_is_never_kept_or_shown():
    """Only its hash is, also in errors."""

    async def main():
        book = LimiterBook(key_rates=Rates(rpm=60, burst=1))
        async with book.slot("a", api_key=KEY):
            pass
        with pytest.raises(RateLimitError) as caught:
            async with book.slot("a", api_key=KEY, max_wait_s=0.1):
                pass
        return str(caught.value) + repr(vars(book)) + book.key(KEY).name

    assert KEY not in anyio.run(main)


def test_an_account_is_an_address_with_a_key_and_tells_no_secret():
    """One server and one key are one account, however its address ends; passwords are no name."""
    here, there = "http://h/v1", "http://user:secret@h/v1"

    assert account_name("openai", here, KEY) == account_name("vllm", f"{here}/", KEY)
    assert account_name("openai", here, None) == here
    assert account_name("groq", None, None) == "groq"
    assert account_name("openai", there, KEY) != account_name("openai", here, KEY)
    assert account_name("openai", there, None) != here
    assert "secret" not in account_name("openai", there, KEY)
    assert KEY not in account_name("openai", here, KEY)


def test_a_slot_waits_for_the_key_and_for_the_deployment():
    """Two deployments of one key share the key's rate; tokens used count for both."""

    async def main():
        book = LimiterBook(
            deployment_rates=Rates(rpm=60, burst=1, tpm=6000),
            key_rates=Rates(rpm=30, burst=1, tpm=6000),
            new=virtual_limiter,
        )
        moments = []
        for name in ("a", "b", "a"):
            async with book.slot(name, api_key=KEY, tokens=100) as slot:
                moments.append(trio.current_time())
        slot.used(100)
        async with book.slot("c", tokens=100) as slot:
            slot.used(1100)
        async with book.slot("d", api_key=KEY, tokens=0) as slot:
            slot.used(500)
        before = trio.current_time()
        async with book.slot("e", api_key=KEY, tokens=100):
            return moments, before, trio.current_time()

    moments, before, last = virtual(main)

    assert moments == pytest.approx([0, 2, 4], abs=1e-3)
    assert last - before == pytest.approx(5.0, abs=1e-2)


def test_a_refusal_rests_the_deployment_and_not_its_siblings():
    """Models of one key are limited separately upstream."""

    async def main():
        book = LimiterBook(new=virtual_limiter)
        async with book.slot("a", api_key=KEY) as slot:
            slot.limited(30.0)
        async with book.slot("b", api_key=KEY):
            assert trio.current_time() == 0
        async with book.slot("a", api_key=KEY):
            return trio.current_time()

    assert virtual(main) == pytest.approx(30.0, abs=1e-3)


def test_limiters_that_nobody_uses_are_forgotten_and_the_others_never():
    """A week of one-off names does not fill the memory; rests and holders are safe."""
    book = LimiterBook()
    resting, held = book.deployment("resting"), book.deployment("held")
    resting.limited(1000.0)
    for number in range(3 * MOST_LIMITERS):
        book.deployment(f"once-{number}")
    gc.collect()

    assert len(book) <= MOST_LIMITERS + 1
    assert book.deployment("resting") is resting
    assert book.deployment("held") is held
