"""Write a tiny real language model as a GGUF file, from nothing but this text.

A Markov chain put as a transformer: one-hot embeddings, attention and feed-forward all zero, and an
output matrix that holds, for every token, the logits of the next one. Greedy text after the chat
template's assistant header is `GREEDY_TEXT`, then the end; under a grammar the end is masked, a
closing token wins, and so JSON never runs away.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

GREEDY_TEXT = "Hello from a tiny real model."
CORPUS = """The router sends a request to a model and waits for the answer. A provider gives text.
When the limit is reached the client waits and tries again. The judge picks the best variant and
says why in one short line. Lean checks a proof; the bridge reports whether it holds. A stream
carries small pieces of text until the last piece arrives. Tools read a file, write a file, run a
command and report what happened. Every result is kept with its cost, its tokens and its time.
{"ok": true, "best_id": "variant_1", "score": 0.5, "items": [1, 2, 3]}
"""
MERGES = 192
"""So many, with the greedy text seen twice, that "Hello" stays in four tokens."""
CONTEXT_TOKENS = 65_536
END, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CALL_OPEN, CALL_CLOSE = "<tool_call>", "</tool_call>"
CONTROL = (END, IM_START, IM_END)
CALLS = (CALL_OPEN, CALL_CLOSE)
VOCAB_STEP = 32
HEAD_SIZE = 16
FEED_FORWARD = 32

# ChatML with Hermes-style tool calls, in the words that llama.cpp's template analyser knows.
TEMPLATE = r"""
{%- if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}

{% endif %}Tools:
<tools>{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
</tools>
Call one as <tool_call>
{"name": "the-name", "arguments": {}}
</tool_call><|im_end|>
{% endif %}
{%- for m in messages %}
{%- if not (tools and loop.first and m.role == 'system') %}
{%- if m.role == 'tool' %}<|im_start|>user
<tool_response>
{{ m.content }}
</tool_response><|im_end|>
{% elif m.role == 'assistant' and m.tool_calls %}<|im_start|>assistant
{% if m.content %}{{ m.content }}
{% endif %}
{%- for call in m.tool_calls %}{% if not loop.first %}
{% endif %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {% if call.function.arguments is string -%}
{{ call.function.arguments }}{% else %}{{ call.function.arguments | tojson }}{% endif %}}
</tool_call>{% endfor %}<|im_end|>
{% else %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endif %}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


# -- tokens ------------------------------------------------------------------------------------

Pair = tuple[str, str]


def byte_letters() -> dict[int, str]:
    """A visible letter for every byte, as GPT-2's tokenizer has them."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    letters = {byte: chr(byte) for byte in shown}
    return letters | {byte: chr(256 + place) for place, byte in enumerate(hidden)}


def pieces(text: str) -> list[str]:
    """`text` cut into words with their leading space, punctuation and white space."""
    return re.findall(r" ?\w+| ?[^\s\w]+|\s+", text)


def joined(symbols: Sequence[str], pair: Pair) -> tuple[str, ...]:
    """`symbols` with every occurrence of `pair` made one symbol."""
    done: list[str] = []
    for symbol in symbols:
        if done and (done[-1], symbol) == pair:
            done[-1] += symbol
        else:
            done.append(symbol)
    return tuple(done)


def learn_merges(text: str, count: int) -> list[Pair]:
    """At most `count` byte-pair merges, most frequent first; ties go to the greater pair."""
    letters = byte_letters()
    counts = Counter(tuple(letters[b] for b in piece.encode()) for piece in pieces(text))
    merges: list[Pair] = []
    while len(merges) < count:
        pairs: Counter[Pair] = Counter()
        for symbols, times in counts.items():
            for pair in pairwise(symbols):
                pairs[pair] += times
        best = max(pairs, key=lambda pair: (pairs[pair], pair), default=None)
        if best is None or pairs[best] < 2:
            break
        merges.append(best)
        again: Counter[tuple[str, ...]] = Counter()
        for symbols, times in counts.items():
            again[joined(symbols, best)] += times
        counts = again
    return merges


@frozen(kw_only=True)
class Vocabulary:
    """Tokens by number, and how text becomes them."""

    tokens: Sequence[str]
    ids: Mapping[str, int]
    merges: Sequence[Pair]
    plain: int
    """How many of the tokens are ordinary text; the special ones follow."""

    def encode(self, text: str) -> list[int]:
        """Token numbers of ordinary text."""
        rank = {pair: place for place, pair in enumerate(self.merges)}
        letters = byte_letters()
        found: list[int] = []
        for piece in pieces(text):
            symbols = tuple(letters[b] for b in piece.encode())
            while known := [pair for pair in pairwise(symbols) if pair in rank]:
                symbols = joined(symbols, min(known, key=lambda pair: rank[pair]))
            found += [self.ids[symbol] for symbol in symbols]
        return found


def vocabulary() -> Vocabulary:
    """Bytes, merges, special tokens, and unused ones up to a round number."""
    merges = learn_merges(CORPUS * 2 + GREEDY_TEXT * 2, MERGES)
    letters = byte_letters()
    tokens = [*(letters[byte] for byte in range(256)), *(a + b for a, b in merges)]
    tokens = list(dict.fromkeys(tokens))
    plain = len(tokens)
    tokens += [*CONTROL, *CALLS]
    tokens += [f"<|unused{n}|>" for n in range(-len(tokens) % VOCAB_STEP)]
    ids = {token: place for place, token in enumerate(tokens)}
    return Vocabulary(tokens=tokens, ids=ids, merges=merges, plain=plain)


# -- logits ------------------------------------------------------------------------------------

Table = list[list[float]]
"""`table[current][next]`, natural-log units."""

FLOOR = -6.0
CLOSERS = {'"': -1.0, "}": -1.3, "]": -1.2, ",": -2.4, ":": -2.0}
DIGITS = "0123456789"


def logits(vocab: Vocabulary, *, always_calls: bool = False) -> Table:
    """The chain. Free text is GREEDY_TEXT and the end; what a grammar leaves closes soon."""
    ids, size = vocab.ids, len(vocab.tokens)
    table = [[FLOOR] * size for _ in range(size)]
    for (now, after), times in Counter(pairwise(vocab.encode(CORPUS))).items():
        table[now][after] = max(FLOOR, -1.6 + 0.15 * math.log(times))
    _raise_everywhere(table, {ids[letter]: value for letter, value in CLOSERS.items()})
    table[ids['"']][ids['"']] = -5.0  # at least one token of text inside a string
    _raise_everywhere(table, {ids[digit]: -3.0 for digit in DIGITS})
    for digit in DIGITS:
        for more in DIGITS + ".eE":
            table[ids[digit]][ids[more]] = -5.5
    for row in table:
        row[ids[IM_END]] = 0.0
        row[ids[CALL_OPEN]] = row[ids[CALL_CLOSE]] = -9.0
    _add_calls(table, vocab)
    newline = ids[byte_letters()[10]]
    _add_path(table, [newline, *vocab.encode(GREEDY_TEXT), ids[IM_END]])
    if always_calls:
        table[newline][ids[CALL_OPEN]] = 12.0
    return table


def _raise_everywhere(table: Table, least: Mapping[int, float]) -> None:
    for row in table:
        for token, value in least.items():
            row[token] = max(row[token], value)


def _add_calls(table: Table, vocab: Vocabulary) -> None:
    """A call is opened after the greedy text, has one argument object, and ends the turn."""
    ids = vocab.ids
    newline = ids[byte_letters()[10]]
    for row in table:
        row[newline] = min(row[newline], -4.0)
    for token, after in ((CALL_OPEN, newline), (CALL_CLOSE, ids[IM_END])):
        table[ids[token]] = [FLOOR] * len(table)
        table[ids[token]][after] = 5.0
    # The end still wins here unless a grammar masks it.
    table[ids["."]][ids[CALL_OPEN]] = -0.5
    table[ids["}"]][newline] = -1.9
    table[newline][ids[CALL_CLOSE]] = -0.9


def _add_path(table: Table, path: Sequence[int]) -> None:
    if len(set(path)) != len(path):
        raise ValueError(f"a chain cannot pass a token twice with different sequels: {path}")
    for now, after in pairwise(path):
        table[now][after] = 9.0


# -- the file ----------------------------------------------------------------------------------


def write_bigram(path: Path, *, always_calls: bool = False) -> None:
    """Write the model to `path`; the same bytes every time."""
    import gguf

    vocab = vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer, vocab)
    for name, matrix in _tensors(logits(vocab, always_calls=always_calls)):
        writer.add_tensor(name, matrix)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: Any, vocab: Vocabulary) -> None:
    import gguf

    size = len(vocab.tokens)
    kinds = [gguf.TokenType.NORMAL] * vocab.plain
    kinds += [gguf.TokenType.CONTROL] * len(CONTROL)
    kinds += [gguf.TokenType.USER_DEFINED] * len(CALLS)
    kinds += [gguf.TokenType.UNUSED] * (size - len(kinds))
    writer.add_name("scillm-tiny")
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(size)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_key_length(HEAD_SIZE)
    writer.add_value_length(HEAD_SIZE)
    writer.add_rope_dimension_count(HEAD_SIZE)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(size)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(vocab.tokens))
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in vocab.merges])
    writer.add_bos_token_id(vocab.ids[END])
    writer.add_pad_token_id(vocab.ids[END])
    writer.add_eos_token_id(vocab.ids[IM_END])
    writer.add_add_bos_token(value=False)
    writer.add_chat_template(TEMPLATE.lstrip("\n"))


def _tensors(table: Table) -> Iterable[tuple[str, Any]]:
    import numpy as np

    size = len(table)
    half, single = np.float16, np.float32
    # An rms-normed one-hot vector is sqrt(size) long, which the output matrix takes back.
    yield "token_embd.weight", np.eye(size, dtype=half)
    yield "output.weight", np.ascontiguousarray(np.array(table).T / math.sqrt(size), dtype=half)
    yield "output_norm.weight", np.ones(size, single)
    for name in ("attn_q", "attn_k", "attn_v"):
        yield f"blk.0.{name}.weight", np.zeros((HEAD_SIZE, size), half)
    yield "blk.0.attn_output.weight", np.zeros((size, HEAD_SIZE), half)
    for name in ("ffn_gate", "ffn_up"):
        yield f"blk.0.{name}.weight", np.zeros((FEED_FORWARD, size), half)
    yield "blk.0.ffn_down.weight", np.zeros((size, FEED_FORWARD), half)
    yield "blk.0.attn_norm.weight", np.ones(size, single)
    yield "blk.0.ffn_norm.weight", np.ones(size, single)
