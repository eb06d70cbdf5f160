"""Model names: the right id or a refusal, never a neighbour."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import AmbiguousModelError, UnknownModelError, UsageError
from scillm_chutes.names import parsed
from scillm_chutes.resolution import resolve_model

CATALOG = (
    "Qwen/Qwen3-32B",
    "Qwen/Qwen3-8B-Base",
    "Qwen/Qwen3-14B",
    "Qwen/Qwen3-14B-Base",
    "Qwen/Qwen3-235B-A22B",
    "Qwen/Qwen3-235B-A22B-Instruct-2507-TEE",
    "Qwen/Qwen3-235B-A22B-Thinking-2507",
    "Qwen/Qwen3-30B-A3B-Instruct-2507",
    "Qwen/Qwen3-Coder-30B-A3B-Instruct",
    "Qwen/Qwen3-VL-30B-A3B-Instruct",
    "Qwen/Qwen3-Embedding-8B",
    "Qwen/Qwen3-1.7B",
    "Qwen/Qwen2.5-72B-Instruct",
    "Qwen/Qwen2.5-VL-72B-Instruct-TEE",
    "Qwen/Qwen3Guard-Gen-0.6B",
    "deepseek-ai/DeepSeek-V3",
    "deepseek-ai/DeepSeek-V3-0324-TEE",
    "deepseek-ai/DeepSeek-V3.1-TEE",
    "deepseek-ai/DeepSeek-V3.1-Terminus-TEE",
    "deepseek-ai/DeepSeek-V3.2-Speciale-TEE",
    "deepseek-ai/DeepSeek-R1-0528-TEE",
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B",
    "zai-org/GLM-4.6-TEE",
    "zai-org/GLM-4.6V",
    "zai-org/GLM-4.5-Air",
    "zai-org/GLM-4.7-FP8",
    "zai-org/GLM-4.7-TEE",
    "moonshotai/Kimi-K2-Instruct-0905",
    "moonshotai/Kimi-K2-Thinking-TEE",
    "moonshotai/Kimi-K2.5-TEE",
    "MiniMaxAI/MiniMax-M2.1-TEE",
    "openai/gpt-oss-20b",
    "openai/gpt-oss-120b-TEE",
    "unsloth/gemma-3-27b-it",
    "unsloth/gemma-3-4b-it",
    "unsloth/Llama-3.3-70B-Instruct",
    "meta-llama/Llama-3.3-70B-Instruct",
    "unsloth/Llama-3.2-1B-Instruct",
    "NousResearch/Hermes-4-405B-FP8-TEE",
    "NousResearch/Hermes-4-70B",
    "NousResearch/DeepHermes-3-Mistral-24B-Preview",
    "chutesai/Mistral-Small-3.1-24B-Instruct-2503",
    "chutesai/Mistral-Small-3.2-24B-Instruct-2506",
    "mistralai/Devstral-2-123B-Instruct-2512-TEE",
    "XiaomiMiMo/MiMo-V2-Flash",
    "Alibaba-NLP/Tongyi-DeepResearch-30B-A3B",
)

RIGHT = {
    "qwen/qwen3-32b": "Qwen/Qwen3-32B",
    "qwen 3 32b": "Qwen/Qwen3-32B",
    "qwen3 1.7b": "Qwen/Qwen3-1.7B",
    "Qwen3_14B": "Qwen/Qwen3-14B",
    "qwen3-14b-base": "Qwen/Qwen3-14B-Base",
    "qwen25 72b instruct": "Qwen/Qwen2.5-72B-Instruct",
    "qwen2.5 vl 72b": "Qwen/Qwen2.5-VL-72B-Instruct-TEE",
    "qwen3 coder 30b": "Qwen/Qwen3-Coder-30B-A3B-Instruct",
    "qwen3 235b a22b thinking": "Qwen/Qwen3-235B-A22B-Thinking-2507",
    "qwen3-235b-a22b": "Qwen/Qwen3-235B-A22B",
    "deepseek v3.1": "deepseek-ai/DeepSeek-V3.1-TEE",
    "DeepSeek-V3": "deepseek-ai/DeepSeek-V3",
    "deepseekv3.1": "deepseek-ai/DeepSeek-V3.1-TEE",
    "deepseek v3 0324": "deepseek-ai/DeepSeek-V3-0324-TEE",
    "deepseek v3.1 terminus": "deepseek-ai/DeepSeek-V3.1-Terminus-TEE",
    "deepseek r1 0528": "deepseek-ai/DeepSeek-R1-0528-TEE",
    "R1 0528": "deepseek-ai/DeepSeek-R1-0528-TEE",
    "deepsek v3.1 terminus": "deepseek-ai/DeepSeek-V3.1-Terminus-TEE",
    "THUDM/GLM-4.6": "zai-org/GLM-4.6-TEE",
    "glm4.6v": "zai-org/GLM-4.6V",
    "glm 4.5 air": "zai-org/GLM-4.5-Air",
    "kimi k2.5": "moonshotai/Kimi-K2.5-TEE",
    "kimi k2 0905": "moonshotai/Kimi-K2-Instruct-0905",
    "kimi-k2-thinking": "moonshotai/Kimi-K2-Thinking-TEE",
    "minimax m2.1": "MiniMaxAI/MiniMax-M2.1-TEE",
    "gptoss120b": "openai/gpt-oss-120b-TEE",
    "openai gpt oss 20b": "openai/gpt-oss-20b",
    "gemma 3 27b": "unsloth/gemma-3-27b-it",
    "gemma-3-27b-instruct": "unsloth/gemma-3-27b-it",
    "meta-llama/llama 3.3 70b": "meta-llama/Llama-3.3-70B-Instruct",
    "llama 3.2 1b": "unsloth/Llama-3.2-1B-Instruct",
    "hermes 4 405b": "NousResearch/Hermes-4-405B-FP8-TEE",
    "hermes-4-70b": "NousResearch/Hermes-4-70B",
    "mistral-ai/Mistral-Small-3.2-24B": "chutesai/Mistral-Small-3.2-24B-Instruct-2506",
    "mistral small 24b 2503": "chutesai/Mistral-Small-3.1-24B-Instruct-2503",
    "GLM-4.7-BF16": "zai-org/GLM-4.7-TEE",
    "devstral 2 123b": "mistralai/Devstral-2-123B-Instruct-2512-TEE",
    "MiMo V2 Flash": "XiaomiMiMo/MiMo-V2-Flash",
    "tongyi deepresearch 30b": "Alibaba-NLP/Tongyi-DeepResearch-30B-A3B",
}
NEEDLESS = {"mistral small 24b 2503"}
"""Refused although a person might say what is meant: the version 3.1 is left out."""

REFUSED = (
    "",
    "   ",
    "qwen3",
    "qwen",
    "32b",
    "70b instruct",
    "qwen3-8b",
    "qwen3 17b",
    "qwen 2.5 72b",
    "qwen3-34b",
    "qwen34b",
    "qwen3-33b",
    "qwen3 72b",
    "qwen3 235b",
    "qwen3 30b thinking",
    "qwen3 8b instruct",
    "qwen3-embedding-4b",
    "qwen3-14b-tee",
    "deepseek",
    "deepseek r1",
    "deepseek v3.2",
    "deepseek v4",
    "deepseek v3.1 speciale",
    "deepseek r1 70b",
    "llama 3.1 70b",
    "llama 70b",
    "llama-3.3-8b",
    "llama 3.3 70b",
    "glm-4.5",
    "glm-4.5v",
    "glm 4",
    "glm-4.7",
    "glm-4.8",
    "glm 4.6 air",
    "kimi k2",
    "kimi",
    "minimax m2",
    "gpt-oss",
    "gpt-oss-200b",
    "gpt-4o",
    "gemma 3 12b",
    "gemma 2 27b",
    "hermes 4",
    "hermes 3 405b",
    "mistral 24b",
    "mistral small",
    "ministral small 3.2 24b",
    "mixtral small 3.2 24b",
    "mistral 3 24b",
    "mimo v2",
    "https://llm.chutes.ai/v1",
    "./models/qwen3-32b",
    "/data/Qwen/Qwen3-32B",
    "..\\Qwen3-32B",
    "Qwen/Qwen3-32B,Qwen/Qwen3-14B",
    "text-davinci",
)


@pytest.mark.parametrize("asked", sorted(set(RIGHT) - NEEDLESS))
def test_a_name_that_says_enough_finds_its_model(asked: str) -> None:
    """Case, vendor, separators, deployment words and neutral words may differ or be left out."""
    assert resolve_model(asked, CATALOG).id == RIGHT[asked]


@pytest.mark.parametrize("asked", [*REFUSED, *sorted(NEEDLESS)])
def test_a_name_that_does_not_say_enough_is_refused(asked: str) -> None:
    """A number that differs, a word that is missing, several candidates: no id comes out."""
    with pytest.raises((AmbiguousModelError, UnknownModelError)) as caught:
        resolve_model(asked, CATALOG)

    assert set(caught.value.candidates) <= set(CATALOG)


def test_an_ambiguous_name_lists_its_candidates() -> None:
    """The refusal names every model the caller may have meant."""
    with pytest.raises(AmbiguousModelError) as caught:
        resolve_model("kimi k2", CATALOG)

    assert set(caught.value.candidates) == {
        "moonshotai/Kimi-K2-Instruct-0905",
        "moonshotai/Kimi-K2-Thinking-TEE",
    }


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        ("Qwen/Qwen3-32B", "exact"),
        ("QWEN/QWEN3-32B", "case"),
        ("qwen3 32b", "separators"),
        ("glm-4.6", "deployment"),
        ("gemma 3 27b", "tokens"),
        ("deepsek r1 0528", "typo"),
    ],
)
def test_the_rule_that_found_a_model_is_named(asked: str, rule: str) -> None:
    """A caller can see how far the name was from the id."""
    assert resolve_model(asked, CATALOG).rule == rule


@pytest.mark.parametrize("asked", ["gemma 3 27b", "qwen3 coder 30b", "deepsek v3.1"])
def test_strict_fills_nothing_in(asked: str) -> None:
    """Strict resolution only forgives case, separators, vendor and deployment words."""
    with pytest.raises(UsageError):
        resolve_model(asked, CATALOG, mode="strict")


def test_confidential_computing_is_never_dropped() -> None:
    """Who asks for a -TEE model does not get one that runs in the open."""
    with pytest.raises(UnknownModelError):
        resolve_model("Qwen3-32B-TEE", CATALOG)


names = st.sampled_from(CATALOG)
ALPHABET = "Qwen3-32B/a4.6V K2GLM_TEhinkgsmxtrl517"
asked_names = st.one_of(
    names,
    names.map(lambda name: name.rpartition("/")[2].lower().replace("-", " ")),
    names.map(lambda name: " ".join(name.rpartition("/")[2].split("-")[:2])),
    st.text(ALPHABET, max_size=24),
)


def answer(asked: str, catalog: tuple[str, ...]) -> str | None:
    try:
        return resolve_model(asked, catalog).id
    except (AmbiguousModelError, UnknownModelError):
        return None


@given(asked=asked_names, catalog=st.lists(names, unique=True, max_size=20).map(tuple))
def test_every_answer_is_in_the_catalog_and_resolves_to_itself(
    asked: str, catalog: tuple[str, ...]
) -> None:
    """What comes out was in the catalog, and asking for it again gives it again."""
    found = answer(asked, catalog)

    assert found is None or (found in catalog and answer(found, catalog) == found)


@given(asked=asked_names, catalog=st.lists(names, unique=True, max_size=20).map(tuple))
def test_an_unrelated_model_changes_nothing(asked: str, catalog: tuple[str, ...]) -> None:
    """A model of another family that comes or goes leaves every answer as it was."""
    assert answer(asked, (*catalog, "acme/Zyzzyva-9-999B")) == answer(asked, catalog)


@given(asked=asked_names, catalog=st.lists(names, unique=True, max_size=20).map(tuple))
def test_numbers_never_bend(asked: str, catalog: tuple[str, ...]) -> None:
    """Every number of the request stands, in its role, in the answer; only a dot may be added."""
    found = answer(asked, catalog)
    if found is None:
        return
    asked_numbers = parsed(asked).counted

    assert (
        not asked_numbers - parsed(found).counted or parsed(found).undotted == parsed(asked).ordered
    )


@given(asked=asked_names, catalog=st.lists(names, unique=True, max_size=20).map(tuple))
def test_strict_never_answers_what_smart_does_not(asked: str, catalog: tuple[str, ...]) -> None:
    """The strict mode gives the smart mode's answer or none."""
    try:
        strict: str | None = resolve_model(asked, catalog, mode="strict").id
    except (AmbiguousModelError, UnknownModelError):
        strict = None

    assert strict in (None, answer(asked, catalog))


@given(asked=asked_names, catalog=st.permutations(CATALOG[:12]).map(tuple))
def test_the_order_of_the_catalog_does_not_matter(asked: str, catalog: tuple[str, ...]) -> None:
    """The server sorts by popularity, which changes; the answer does not."""
    assert answer(asked, catalog) == answer(asked, CATALOG[:12])


@given(text=st.text(max_size=40))
def test_any_text_can_be_asked_for(text: str) -> None:
    """Nothing but the two refusals comes of a strange name."""
    assert answer(text, CATALOG) is None or answer(text, CATALOG) in CATALOG


def test_the_vendor_that_was_given_tells_uploads_apart() -> None:
    """Of two uploads of one model the named vendor's is meant; without a vendor it is refused."""
    uploads = ("Qwen/Qwen3-32B", "unsloth/Qwen3-32B")

    assert resolve_model("unsloth/qwen3 32b", uploads).id == "unsloth/Qwen3-32B"
    with pytest.raises(AmbiguousModelError):
        resolve_model("qwen3 32b", uploads)


@pytest.mark.parametrize(
    ("asked", "catalog"),
    [
        ("elm", ("elm/Elm-8B",)),
        ("8B", ("elm/Elm-8B",)),
        ("kestrel 1b", ("x/Kestrels-1B", "x/Kestrelz-1B")),
    ],
)
def test_family_size_or_a_doubtful_word_alone_name_nothing(
    asked: str, catalog: tuple[str, ...]
) -> None:
    """Not even where the catalog has one model only."""
    with pytest.raises((AmbiguousModelError, UnknownModelError)):
        resolve_model(asked, catalog)


def test_a_mode_that_does_not_exist_is_named() -> None:
    """There is no mode that guesses."""
    with pytest.raises(ValueError, match="not 'closest'"):
        resolve_model("x", CATALOG, mode="closest")  # type: ignore[arg-type]
