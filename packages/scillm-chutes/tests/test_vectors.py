"""Vectors from the fake: the host that makes them, one model throughout, the same manners."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import scillm
from click.testing import CliRunner
from scillm.errors import NotFoundError, UnknownModelError, UsageError
from scillm.plugins.settings import load
from scillm_chutes import auto_router_from_env, find_best_chutes_model
from scillm_chutes.commands import command
from scillm_chutes.errors import ColdModelError, IncapableModelError, KeyPausedError, ModelFullError
from scillm_chutes.fake import FakeAccount, FakeChutes, FakeModel
from scillm_chutes.reading import read_catalog
from scillm_chutes.settings import SETTINGS, pins_from
from scillm_chutes.sites import embedding_base, site_of

if TYPE_CHECKING:
    from collections.abc import Iterator

HELLO = [{"role": "user", "content": "Hello"}]
SMALL, LARGE = "juniper/Juniper-Embed-0.6B", "kelp/Kelp-Embedding-8B"


@pytest.fixture
def two(fake: FakeChutes) -> Iterator[FakeChutes]:
    """The fake with a second, busier model of vectors."""
    fake.models[LARGE] = FakeModel(
        id=LARGE, in_catalog=False, inputs=("text",), outputs=("embedding",), used=0.9
    )
    return fake


def test_vectors_come_from_the_host_that_makes_them(fake: FakeChutes) -> None:
    """One POST to the embed host, with a bearer token; the answer says who served it."""
    router = auto_router_from_env(kind="embedding")
    answer = router.embedding(router.group, ["one two", "three"])
    seen = fake.chats[-1]

    assert (seen.host, seen.path) == ("embed", "/v1/embeddings")
    assert seen.body == {"model": SMALL, "input": ["one two", "three"]}
    assert len({str(row.embedding) for row in answer.data}) == 2
    assert answer.usage is not None
    assert answer.usage.total_tokens == 3
    assert answer.scillm_meta["served_model"] == fake.served[-1] == router.preferred == SMALL
    assert fake.wrong == []


def test_the_price_is_the_rows(fake: FakeChutes) -> None:
    """Three tokens of a cent a million."""
    router = auto_router_from_env(kind="embedding")
    answer = router.embedding(router.group, "one two three")

    assert answer.scillm_meta["response_cost"] == pytest.approx(3e-8)


def test_a_router_of_vectors_never_changes_its_model(two: FakeChutes) -> None:
    """A full model is waited for or reported: another one's vectors could not be compared."""
    router = auto_router_from_env(kind="embedding")
    two.models[SMALL].concurrency = 0
    with pytest.raises(ModelFullError):
        router.embedding(router.group, "x")
    with pytest.raises(ModelFullError):
        router.embedding(router.group, "x")

    assert [row["litellm_params"]["model"] for row in router.model_list] == [SMALL]
    assert len(two.chats) == 1


def test_a_pin_says_which_model_makes_the_vectors(
    two: FakeChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CHUTES_EMBEDDING_MODEL is asked although another ranks higher."""
    monkeypatch.setenv("CHUTES_EMBEDDING_MODEL", "kelp embedding 8b")
    router = auto_router_from_env(kind="embedding")

    assert router.embedding(router.group, "x").model == LARGE


def test_accounts_share_the_model_of_vectors(
    two: FakeChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second account answers for a banned one, with the same model."""
    other = FakeAccount()
    two.site.accounts[other.key] = other
    monkeypatch.setenv("CHUTES_API_KEY_1", two.key)
    monkeypatch.setenv("CHUTES_API_KEY_2", other.key)
    router = auto_router_from_env(kind="embedding")
    two.account.ban(two.site.clock())
    models = {router.embedding(router.group, "x").model for _ in range(3)}

    assert models == {SMALL}
    assert other.billed == 3


def test_a_limited_key_is_silent_for_vectors_too(fake: FakeChutes) -> None:
    """A ban met by a chat holds for vectors: the edge counts keys, not hosts."""
    chats, vectors = auto_router_from_env(), auto_router_from_env(kind="embedding")
    fake.account.ban(fake.site.clock())
    with pytest.raises(KeyPausedError):
        chats.completion(chats.group, HELLO)
    with pytest.raises(KeyPausedError):
        vectors.embedding(vectors.group, "x")

    assert len(fake.chats) == 1


@pytest.mark.parametrize("api_base", [None, "embed", "llm"])
def test_a_model_can_be_named_without_a_router(fake: FakeChutes, api_base: str | None) -> None:
    """`chutes/<id>` reaches the embed host whichever base of the service is given, or none."""
    base = {None: None, "llm": fake.api_base, "embed": embedding_base(fake.api_base)}[api_base]
    answer = scillm.Router().embedding(f"chutes/{SMALL}", "x", api_base=base)

    assert answer.model == SMALL
    assert fake.chats[-1].host == "embed"


def test_names_of_models_of_vectors_are_resolved(fake: FakeChutes) -> None:
    """Once their list is known, a name means what it means for chats."""
    auto_router_from_env()
    auto_router_from_env(kind="embedding")
    answer = scillm.Router().embedding("chutes/juniper embed 0.6b", "x")

    assert answer.model == SMALL
    with pytest.raises(UnknownModelError):
        scillm.Router().embedding("chutes/juniper embed 0.7b", "x")


def test_no_body_goes_where_it_cannot_be_used(fake: FakeChutes) -> None:
    """Texts for vectors are not sent to models of words, idle or absent ones, nor chats here."""
    vectors = auto_router_from_env(kind="embedding")
    auto_router_from_env()
    base = embedding_base(fake.api_base)
    router = scillm.Router()
    with pytest.raises((UnknownModelError, NotFoundError)):
        router.embedding("chutes/acme/Alder-3-32B", "x", api_base=base)
    with pytest.raises((IncapableModelError, NotFoundError)):
        router.completion(f"chutes/{SMALL}", HELLO)
    with pytest.raises(UsageError):
        vectors.embedding(vectors.group, [])
    fake.models[SMALL].state = "cold"
    vectors.markets[0].feed = None
    with pytest.raises(ColdModelError):
        vectors.embedding(vectors.group, "x")
    with pytest.raises(ModelFullError, match="cold"):
        vectors.embedding(vectors.group, "x")

    assert [(seen.host, seen.body["model"]) for seen in fake.chats] == [("embed", SMALL)]


def test_the_command_line_ranks_models_of_vectors(
    two: FakeChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`rank`, `best` and `peers` know the kind embedding; the key is in no output."""

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(command, [*arguments, "--kind", "embedding"])
        assert result.exit_code == 0, result.output
        assert two.key not in result.output
        return result.output

    ranked = json.loads(run("rank", "--json"))["ranked"]

    assert [row["id"] for row in ranked] == [SMALL, LARGE]
    assert run("best").strip() == SMALL
    assert f"CHUTES_EMBEDDING_MODEL={SMALL}" in run("peers")
    monkeypatch.setenv("CHUTES_EMBEDDING_MODEL", LARGE)
    assert f"CHUTES_EMBEDDING_MODEL={LARGE}" in run("peers")


@pytest.mark.parametrize("kind", ["text", "embedding"])
def test_what_peers_prints_runs(two: FakeChutes, kind: str) -> None:
    """The lines of Python make a Router and are answered; there is no alternate for vectors."""
    auto_router_from_env()
    printed = CliRunner().invoke(command, ["peers", "--kind", kind]).output
    environment, _, program = printed.partition("\n\n")
    names: dict[str, object] = {"messages": HELLO, "texts": ["a", "b"]}
    exec(program, names)

    assert len(environment.splitlines()) == {"text": 3, "embedding": 1}[kind]
    assert getattr(names["answer"], "model", "") == two.served[-1]


def test_the_best_model_of_vectors_is_a_row_that_works(fake: FakeChutes) -> None:
    """The row goes into a Router as it is; it names the embed host and no key."""
    row = find_best_chutes_model("embedding")
    assert row is not None
    with scillm.Router([row]) as router:
        answer = router.embedding(row["model_name"], "x")

    assert answer.model == SMALL
    assert fake.key not in str(row)


def test_the_base_for_vectors_is_found_beside_the_one_for_chats() -> None:
    """The official hosts and the fake's; any other base serves both."""
    official = site_of(embedding_base("https://llm.chutes.ai/v1"))

    assert official.api_base == "https://embed.chutes.ai/v1"
    assert official.management == "https://api.chutes.ai"
    assert official.catalog.startswith("https://api.chutes.ai/chutes/?")
    assert embedding_base("http://127.0.0.1:1/_llm/v1") == "http://127.0.0.1:1/_embed/v1"
    assert embedding_base("https://proxy.example/v1") == "https://proxy.example/v1"
    assert site_of("https://proxy.example/v1").catalog == "https://proxy.example/v1/models"


def test_only_the_template_tells_what_makes_vectors() -> None:
    """A chute of another template, or without prices, is listed and says nothing of them."""
    rows = [
        {"name": "a", "standard_template": "tei"},
        {"name": "b", "standard_template": "vllm", "current_estimated_price": {}},
        {"name": " "},
        "c",
    ]
    found = read_catalog({"items": rows}, now=1.0)

    assert [(m.id, m.outputs, m.prompt_usd) for m in found.models] == [
        ("a", frozenset({"embedding"}), None),
        ("b", None, None),
    ]


def test_a_pin_of_vectors_has_no_alternates() -> None:
    """Alternates would make vectors that cannot be compared."""
    settings = load({"CHUTES_EMBEDDING_MODEL": "a", "CHUTES_EMBEDDING_MODEL_2": "b"}, more=SETTINGS)

    assert pins_from(settings, "embedding", 0) == ("a",)
    assert pins_from(settings, "embedding", 2) == ("b",)
    assert "CHUTES_EMBEDDING_MODEL_ALT1" not in {name for row in SETTINGS for name in row.env}
