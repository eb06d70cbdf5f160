"""The provider `codex-agent`, the helper of `scillm.extras`, and echo mode."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import scillm
from scillm import portal
from scillm.errors import MalformedReplyError, RateLimitError, UsageError
from scillm.http.choice import make_transport
from scillm.plugins.registry import Registry
from scillm.plugins.settings import load
from scillm.protocols import Host
from scillm.records import ChatRequest, Endpoint
from scillm_codex.provider import CodexAgent, resolved, root_of
from scillm_codex.settings import SETTINGS
from scillm_codex.sidecar.app import Sidecar, sidecar_app
from scillm_codex.sidecar.echo import refuse_beside_login
from support.codex_service import CodexService
from support.codex_sidecar import codex_sidecar
from support.faulty import FaultyServer, Json
from support.served import served

if TYPE_CHECKING:
    from collections.abc import Iterator

USER = [{"role": "user", "content": "hi there"}]
TOOL = {
    "type": "function",
    "function": {"name": "my_a", "parameters": {"type": "object", "properties": {}}},
}


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    with served(sidecar_app(Sidecar(echo=True))) as url:
        yield url


@pytest.fixture(scope="module")
def service() -> Iterator[CodexService]:
    with CodexService().running_here() as running:
        yield running


@pytest.fixture(scope="module")
def sidecar(service: CodexService) -> Iterator[str]:
    with codex_sidecar(service) as url:
        yield url


def test_an_answer_keeps_usage_and_finish_reason(sidecar: str) -> None:
    """`codex-agent/<id>` asks the sidecar for that id."""
    answer = scillm.completion(model="codex-agent/fake-plain", messages=USER, api_base=sidecar)

    assert answer.text == "echo: hi there"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 120


def test_a_stream_is_a_stream(sidecar: str) -> None:
    """Pieces come one by one, and join to the answer."""
    with scillm.completion(
        model="fake-plain",
        custom_llm_provider="codex-agent",
        messages=USER,
        api_base=sidecar,
        stream=True,
    ) as stream:
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]

    assert "".join(pieces) == "echo: hi there"
    assert len(pieces) > 3


def test_tool_calls_are_kept(sidecar: str) -> None:
    """The earlier SciLLM dropped them; their ids and arguments are all there."""
    answer = scillm.completion(
        model="codex-agent/fake-tool", messages=USER, api_base=sidecar, tools=[TOOL]
    )

    calls = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert calls is not None
    assert calls[0].function is not None
    assert calls[0].function.name == "my_a"


def test_the_effort_reaches_the_model_behind_codex(sidecar: str, service: CodexService) -> None:
    """`reasoning_effort` goes through provider, sidecar and Codex."""
    scillm.completion(
        model="codex-agent/gpt-5.5", messages=USER, api_base=sidecar, reasoning_effort="low"
    )

    assert service.seen[-1]["reasoning"]["effort"] == "low"


def test_a_rate_limit_is_retried_by_the_router(sidecar: str, service: CodexService) -> None:
    """The Router's retries apply: a 429 that passes is an answer."""
    service.counts.pop("429once", None)

    answer = scillm.completion(
        model="codex-agent/fake-429once",
        messages=USER,
        api_base=sidecar,
        retry_enabled=True,
        retry_base_s=0.1,
    )

    assert answer.text == "echo: hi there"
    assert service.counts["429once"] == 2


def test_a_rate_limit_that_stays_is_a_rate_limit(sidecar: str) -> None:
    """429 keeps its class and its wait."""
    with pytest.raises(RateLimitError) as caught:
        scillm.completion(
            model="codex-agent/fake-ratelimitsse", messages=USER, api_base=sidecar,
            retry_enabled=False,
        )  # fmt: skip

    assert caught.value.retry_after == 2


def test_the_helper_gives_a_plain_dict(sidecar: str) -> None:
    """`scillm.extras.codex.chat` answers as the earlier one did, with everything kept."""
    from scillm.extras.codex import chat

    answer = chat(USER, model="fake-plain", base=sidecar, temperature=0, max_tokens=5)

    assert type(answer) is dict
    assert answer["choices"][0]["message"]["content"] == "echo: hi there"
    assert answer["usage"]["total_tokens"] == 120


def settings(**environ: str) -> Any:
    return load(environ, more=SETTINGS)


def test_without_a_base_the_way_out_is_named() -> None:
    """No base is one clear sentence; nothing is asked of OpenAI instead."""
    with pytest.raises(UsageError, match="scillm codex serve"):
        resolved(Endpoint(provider="codex-agent"), settings())


def test_the_key_of_the_settings_goes_to_their_base_only() -> None:
    """A key in the environment is not sent to another address."""
    found = settings(CODEX_AGENT_API_BASE="http://a:1/v1", CODEX_AGENT_API_KEY="sk-settings")

    home = resolved(Endpoint(provider="codex-agent"), found)
    away = resolved(Endpoint(provider="codex-agent", api_base="http://b:1"), found)

    assert (home.api_base, home.api_key) == ("http://a:1/v1", "sk-settings")
    assert (away.api_base, away.api_key) == ("http://b:1/v1", None)


def test_a_v1_too_much_is_taken_off_and_told(caplog: pytest.LogCaptureFixture) -> None:
    """Both spellings of the base work; the log says which is right."""
    with caplog.at_level(logging.WARNING, logger="scillm.codex"):
        assert root_of("http://a:1/v1/") == "http://a:1"

    assert "without /v1" in caplog.text


@pytest.mark.parametrize(
    "params", [{"reasoning_effort": "high"}, {"reasoning": {"effort": "high"}}]
)
def test_an_effort_goes_as_it_was_given(params: dict[str, Any]) -> None:
    """In one form: a server that checks its parameters refuses the other."""
    request = ChatRequest(model="m", messages=USER, params=params)

    body = json.loads(provider("http://a:1").prepare(request).body)

    assert body == {"model": "m", "messages": USER, **params}


def test_an_effort_in_the_other_form_reaches_the_model(sidecar: str, service: CodexService) -> None:
    """`reasoning={"effort": …}` goes through provider, sidecar and Codex too."""
    scillm.completion(
        model="codex-agent/gpt-5.5",
        messages=USER,
        api_base=sidecar,
        extra_body={"reasoning": {"effort": "high"}},
    )

    assert service.seen[-1]["reasoning"]["effort"] == "high"


def provider(base: str) -> CodexAgent:
    found = settings()
    host = Host(
        transport=make_transport(found),
        plugins=Registry(),
        settings=found,
        emit=lambda _event: None,
    )
    return CodexAgent(Endpoint(provider="codex-agent", api_base=base), host)


def test_models_come_from_the_sidecar(echo: str) -> None:
    """The provider lists what the sidecar lists."""

    async def listed() -> Any:
        return await provider(echo).models()

    assert list(portal.call(listed)) == ["codex-echo"]


@pytest.mark.parametrize("rows", ['{"data": [{"id": "a"}, {}]}', '{"data": [1]}', '{"data": 1}'])
def test_a_list_of_models_without_ids_is_no_list(rows: str, faulty_server: FaultyServer) -> None:
    """Nothing is made up for a row without an id, and none is left out."""
    faulty_server.route("/v1/models", Json(json.loads(rows)))

    async def listed() -> Any:
        return await provider(faulty_server.root_url).models()

    with pytest.raises(MalformedReplyError, match="A list of models with ids was wanted"):
        portal.call(listed)


@pytest.mark.parametrize("prefix", ["codex-agent/", "code-agent/", "code_agent/"])
def test_older_prefixes_mean_the_same_provider(
    prefix: str, sidecar: str, service: CodexService
) -> None:
    """Model names of earlier programs work, in SciLLM and in a client that asks the sidecar."""
    answer = scillm.completion(model=f"{prefix}fake-plain", messages=USER, api_base=sidecar)
    asked = service.seen[-1]["model"]
    body = {"model": f"{prefix}fake-plain", "messages": USER}
    raw = httpx.post(f"{sidecar}/v1/chat/completions", json=body)

    assert (answer.text, asked) == ("echo: hi there", "fake-plain")
    assert raw.json()["choices"][0]["message"]["content"] == "echo: hi there"


def test_the_route_without_v1_is_the_same(echo: str) -> None:
    """A client whose base URL was written without `/v1` is answered."""
    raw = httpx.post(f"{echo}/chat/completions", json={"model": "x", "messages": USER})

    assert raw.json()["choices"][0]["message"]["content"] == "[echo] hi there"


def test_an_echo_is_marked_everywhere(echo: str) -> None:
    """Nobody can take an echo for an answer: text, model, and a header say so."""
    raw = httpx.post(f"{echo}/v1/chat/completions", json={"model": "gpt-6-sol", "messages": USER})

    document = raw.json()
    assert raw.headers["x-scillm-echo"] == "1"
    assert document["model"] == "codex-echo"
    assert document["choices"][0]["message"]["content"] == "[echo] hi there"


def test_echo_beside_a_login_is_refused_unless_forced(tmp_path: Path) -> None:
    """Who has a login wants real answers."""
    login = tmp_path / "auth.json"
    login.write_text("{}")

    refuse_beside_login(login, forced=True)
    refuse_beside_login(tmp_path / "none.json", forced=False)
    with pytest.raises(UsageError, match="--force-echo"):
        refuse_beside_login(login, forced=False)


def test_the_fallback_answers_too(service: CodexService) -> None:
    """`codex exec` gives the whole answer, its usage, and typed errors."""
    with codex_sidecar(service, use_exec=True) as url:
        answer = scillm.completion(model="codex-agent/fake-plain", messages=USER, api_base=url)
        with pytest.raises(RateLimitError):
            scillm.completion(
                model="codex-agent/fake-429", messages=USER, api_base=url, retry_enabled=False
            )

    assert answer.text.endswith("hi there")
    assert answer.usage is not None
    assert answer.usage.total_tokens == 120


def test_the_fallback_says_whether_it_is_ready(service: CodexService) -> None:
    """`/ready` has run the binary, and read the login where one is needed."""
    with codex_sidecar(service, use_exec=True) as url:
        good = httpx.get(f"{url}/ready", timeout=30)
    with codex_sidecar(None, use_exec=True, auth=None) as url:
        bad = httpx.get(f"{url}/ready", timeout=30)

    assert (good.status_code, good.json()["codex"]) == (200, "0.169.0")
    assert bad.status_code == 503
    assert "codex login" in bad.json()["reason"]


def test_the_fallback_refuses_what_it_cannot_do(service: CodexService) -> None:
    """A client's tools have no way through `codex exec`; the error says so."""
    with (
        codex_sidecar(service, use_exec=True) as url,
        pytest.raises(scillm.BadRequestError, match="without --exec"),
    ):
        scillm.completion(model="codex-agent/fake-plain", messages=USER, api_base=url, tools=[TOOL])
