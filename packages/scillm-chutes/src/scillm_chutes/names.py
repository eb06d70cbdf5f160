"""Model names as typed tokens: numbers with their roles, words, and words about deployment."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

from attrs import frozen

VERSION, SIZE, ACTIVE, EXPERTS, EFFECTIVE, CONTEXT, DATE, ODD = (
    "version",
    "size",
    "active",
    "experts",
    "effective",
    "context",
    "date",
    "odd",
)

CONFIDENTIAL = "tee"
DTYPES = frozenset(
    {
        *("fp8", "fp4", "fp16", "nvfp4", "mxfp4", "mxfp8", "bf16", "int4", "int8"),
        *("awq", "gptq", "gguf", "exl2", "bnb", "4bit", "8bit", "w4a16", "w8a8", "w8a16"),
    }
)
DEPLOYMENT = DTYPES | {CONFIDENTIAL, "free", "dynamic"}
"""Words about how a model is run, not about what it is."""

SYNONYMS = {
    "it": "instruct",
    "vl": "vision",
    "vlm": "vision",
    "embed": "embedding",
    "embeddings": "embedding",
    "rerank": "reranker",
}

NEUTRAL = frozenset({"instruct", "chat", "preview", "hf"})
"""Words that may be filled in: they name the ordinary form of a model."""

FAMILIES = frozenset(
    {
        *("llama", "l", "qwen", "mistral", "mixtral", "ministral", "magistral", "devstral"),
        *("codestral", "pixtral", "gemma", "phi", "deepseek", "gpt", "oss", "glm", "kimi"),
        *("minimax", "nemotron", "granite", "falcon", "olmo", "yi", "command", "ernie"),
        *("internlm", "internvl", "hunyuan", "seed", "grok", "jamba", "solar", "exaone"),
        *("hermes", "wizardlm", "mellum", "mimo", "longcat", "starcoder", "smollm", "qwq"),
    }
)
"""Families: a word of a request that is one of these is no misspelling of another."""

BASES = frozenset({"llama", "l", "qwen", "mistral", "mixtral", "deepseek", "gpt", "glm", "gemma"})
"""Families that others are built on; their name may be left out where the own name is given."""

OWNERS = frozenset({"meta", "nvidia", "nous", "openai", "microsoft", "google", "ibm", "zai"})

PIECE = re.compile(
    r"""
    (?P<deploy>nvfp4|mxfp[48]|fp16|fp[48]|bf16|int[48]|w\d+a16|w8a8|[48]bit|exl2)(?![a-z0-9.])
  | (?P<experts>\d+x\d+(?:\.\d+)?b|\d+e)(?![a-z0-9])
  | (?<![a-z0-9])a(?P<active>\d+(?:\.\d+)?[bm])(?![a-z0-9])
  | (?<![a-z0-9])e(?P<effective>\d+(?:\.\d+)?b)(?![a-z0-9])
  | (?P<size>\d+(?:\.\d+)?[bt])(?![a-z0-9])
  | (?P<context>\d+(?:\.\d+)?[km])(?![a-z0-9])
  | (?<![a-z0-9])v(?P<prefixed>\d+(?:\.\d+)*)(?![a-z0-9.])
  | (?P<vision>\d+(?:\.\d+)*)v(?![a-z0-9])
  | (?P<date>\d{8}|\d{6}|\d{4})(?![a-z0-9.])
  | (?P<number>\d+(?:\.\d+)*)(?![a-z0-9])
  | (?P<odd>\d+(?:\.\d+)*[a-z][a-z0-9]*)
  | (?P<word>[^\W\d_]+)
    """,
    re.VERBOSE,
)


@frozen(kw_only=True)
class Number:
    """A number of a name. `after` is the word before it; a `revision` has a v, after a size."""

    role: str
    value: str
    after: str = ""
    revision: bool = False

    @property
    def plain(self) -> tuple[str, str]:
        """Role and value."""
        return self.role, self.value


@frozen(kw_only=True)
class Name:
    """A model name taken apart."""

    vendor: str
    words: tuple[str, ...]
    numbers: tuple[Number, ...]
    deployment: frozenset[str]

    @property
    def letters(self) -> str:
        """The words without separators, in order."""
        return "".join(self.words)

    @property
    def counted(self) -> Counter[tuple[str, str]]:
        """Each number with how often it occurs."""
        return Counter(number.plain for number in self.numbers)

    @property
    def ordered(self) -> tuple[tuple[str, str], ...]:
        """The numbers as they stand."""
        return tuple(number.plain for number in self.numbers)

    @property
    def undotted(self) -> tuple[tuple[str, str], ...]:
        """Like `ordered`, with the dots of one-digit versions dropped: 3.1 is 31."""
        return tuple(
            (role, value.replace(".", "") if role == VERSION and len(value) == 3 else value)
            for role, value in self.ordered
        )


@lru_cache(maxsize=4096)
def parsed(text: str) -> Name:
    """`vendor/name` as typed tokens; anything can be parsed."""
    vendor, _, rest = text.strip().rpartition("/")
    plain = re.sub(r"(?<=\d)_(?=\d(?![\da-z]))", ".", rest.lower())
    plain = re.sub(r"(?<=[a-z]{2})v(?=\d)", "-v", plain)
    plain = re.sub(r"(?<=[a-z])(?=\d+(?:\.\d+)*[bt](?![a-z0-9]))", _apart, plain)
    words: list[str] = []
    numbers: list[Number] = []
    deployment: set[str] = set()
    sized = False
    for match in PIECE.finditer(plain):
        role, piece = str(match.lastgroup), match[match.lastgroup or 0]
        if role == "deploy" or (role == "word" and piece in DEPLOYMENT):
            deployment.add(piece)
        elif role == "word":
            words.append(SYNONYMS.get(piece, piece))
        else:
            after = words[-1] if words else ""
            numbers.append(
                Number(
                    role={"prefixed": VERSION, "vision": VERSION, "number": VERSION}.get(
                        role, role
                    ),
                    value=piece,
                    after=after,
                    revision=role == "prefixed" and sized,
                )
            )
            sized = sized or role in (SIZE, EXPERTS)
            if role == "vision":
                words.append("vision")
    return Name(
        vendor=vendor.lower(),
        words=tuple(words),
        numbers=tuple(numbers),
        deployment=frozenset(deployment),
    )


def _apart(match: re.Match[str]) -> str:
    # `a22b`, `e4b` and `8x7b` stay whole; `llama70b` falls into its word and its size.
    head = match.string[: match.start()]
    alone = re.search(r"(?:^|[^a-z0-9])(?:a|e)$|\dx$", head)
    return "" if alone else "-"


def vendor_words(vendor: str) -> frozenset[str]:
    """The words of a vendor's name."""
    return frozenset(re.findall(r"[^\W\d_]+", vendor.lower()))
