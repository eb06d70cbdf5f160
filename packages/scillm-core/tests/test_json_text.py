"""The one JSON document of an answer: found unchanged, or refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time

import pytest
import scillm.structured
from hypothesis import assume, example, given
from hypothesis import strategies as st
from scillm.errors import JsonTextError, UsageError
from scillm.structured import clean_json_string, extract_json
from scillm.structured.grounding import Ungrounded, check_grounded, unescaped
from scillm.structured.jsontext import json_part
from scillm.structured.repair import guess
from scillm.structured.truncation import certain_part

WORDS = st.text("abc é.!?\n'-0", max_size=30)
STRINGS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["```json\n{}\n```", "<think>", "</think>", '{"a": 1}', "[1]", "C:\\new", "}"]),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    STRINGS,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(STRINGS, inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.one_of(st.lists(VALUES, max_size=4), st.dictionaries(STRINGS, VALUES, max_size=4))
WRITTEN = st.builds(
    lambda value, indent, ascii_: (value, json.dumps(value, indent=indent, ensure_ascii=ascii_)),
    DOCUMENTS,
    st.sampled_from([None, 2]),
    st.booleans(),
)
WRAPPINGS = [
    "{before}{document}",
    "{before}\n{document}\n{after}",
    "```json\n{document}\n```",
    "{before}\n```json\n{document}```\n{after}",
    "~~~\n{document}\n~~~\n{after}",
    "```JSON {document}\n```",
    "{before}\n  ```\n  {document}\n  ```\n{after}",
    "<think>{before}</think>{document}",
    "{before}</think>\n\n{document}",
    '<think>\ndraft {{"a": 1}}, [2]\n</think>\n```json\n{document}\n```',
    "\ufeff{document}",
    "{before} the set {{x}} and [see below]: \n{document}",
    "{before}[a link](http://example.org/{{id}}) and \\frac{{a}}{{b}}\n{document}",
]


def same(left, right):
    """Equal also in type, order of members and sign of zero."""
    return json.dumps(left) == json.dumps(right)


def begins(part, whole):
    """Whether `part` is `whole` cut off: only its last member or element may be cut itself."""
    if isinstance(part, dict) and isinstance(whole, dict):
        items, full = list(part.items()), list(whole.items())
    elif isinstance(part, list) and isinstance(whole, list):
        items, full = list(enumerate(part)), list(enumerate(whole))
    else:
        return same(part, whole)
    pairs = list(zip(items, full, strict=False))
    return (
        len(items) <= len(full)
        and all(a == b for (a, _), (b, _) in pairs)
        and all(same(a, b) for (_, a), (_, b) in pairs[:-1])
        and all(begins(a, b) for (_, a), (_, b) in pairs[-1:])
    )


# -- what is found -----------------------------------------------------------------------------


@given(value=VALUES, indent=st.sampled_from([None, 1]), space=st.text(" \n\t\r", max_size=3))
def test_valid_json_is_read_as_json_loads_reads_it(value, indent, space):
    """Valid JSON never passes a repairer, and comes back unchanged."""
    text = space + json.dumps(value, indent=indent) + space
    found = extract_json(text)

    assert same(found.value, json.loads(text))
    assert (found.repaired, found.truncated, found.log) == (False, False, ())
    assert json.loads(text[slice(*found.source_span)]) == json.loads(text)


@given(written=WRITTEN, wrapping=st.sampled_from(WRAPPINGS), before=WORDS, after=WORDS)
def test_a_document_is_found_unchanged_in_whatever_a_model_puts_around_it(
    written, wrapping, before, after
):
    """Prose, fences, thoughts and a byte order mark change nothing."""
    value, document = written
    text = wrapping.format(before=before, document=document, after=after)
    found = extract_json(text)

    assert same(found.value, value)
    assert not found.repaired
    assert not found.truncated
    assert json_part(found, text) == document


@given(written=WRITTEN, before=WORDS)
def test_the_root_can_be_asked_for(written, before):
    """The right root is given, the other one is refused."""
    value, document = written
    right, wrong = ("object", "array") if isinstance(value, dict) else ("array", "object")

    assert same(extract_json(f"{before}\n{document}", root=right).value, value)
    with pytest.raises(JsonTextError) as refused:
        extract_json(f"{before}\n{document}", root=wrong)
    # An array that holds a broken object could be a rival; nothing else is said of it.
    assert refused.value.kind == "wrong_root"


@given(first=WRITTEN, second=WRITTEN, between=WORDS)
def test_two_documents_are_refused(first, second, between):
    """Which of two documents was meant is not guessed."""
    with pytest.raises(JsonTextError) as refused:
        extract_json(f"{first[1]} {between}\n{second[1]}")

    assert refused.value.kind in ("multiple_documents", "fragment")


@given(written=WRITTEN, before=WORDS, fence=st.booleans(), data=st.data())
def test_a_cut_document_is_refused_or_marked_and_never_wrong(written, before, fence, data):
    """Wherever the text ends: a refusal, the whole value, or its certain beginning, so marked."""
    value, document = written
    text = f"{before}\n```json\n{document}" if fence else f"{before}\n{document}"
    cut = text[: data.draw(st.integers(0, len(text)))]
    try:
        found = extract_json(cut)
    except JsonTextError:
        return

    assert begins(found.value, value) or same(found.value, _scalar(cut))
    assert found.truncated or same(found.value, value) or same(found.value, _scalar(cut))
    assert not found.repaired


def _scalar(text):
    try:
        value = json.loads(text)
    except ValueError:
        return object.__name__
    return value if not isinstance(value, (dict, list)) else object.__name__


@given(written=WRITTEN, data=st.data())
def test_a_cut_document_is_refused_when_only_whole_ones_count(written, data):
    """`allow_truncated=False` gives no part of a document."""
    _, document = written
    cut = document[: data.draw(st.integers(1, len(document) - 1))]

    with pytest.raises(JsonTextError):
        extract_json(cut, allow_truncated=False, repair=False)


@given(written=WRITTEN)
def test_most_of_a_cut_document_is_kept(written):
    """Without its last bracket, a document loses at most a number that could go on."""
    value, document = written
    part = certain_part(document.rstrip()[:-1])

    assert part is not None
    assert begins(part.value, value) if part.used else len(value) <= 1


@example(text="['\n1']")
@given(text=st.text("{}[]:,\"' ab12-\n", max_size=40))
def test_no_value_is_invented_for_any_text(text):
    """Whatever comes: the letters, digits and brackets of the value are the text's, in order."""
    try:
        found = extract_json(text)
    except JsonTextError:
        return
    part = text[slice(*found.source_span)]
    # json writes a raw newline as an escape, whose letter is not the text's.
    written = json.dumps(found.value, ensure_ascii=False).replace("\\n", " ")

    assert found.repaired or found.truncated or same(json.loads(part), found.value)
    if not found.truncated:
        assert re.findall(r"\w", part) == re.findall(r"\w", written)


@given(written=WRITTEN, data=st.data())
def test_a_slip_of_the_pen_never_changes_the_words(written, data):
    """One character more or less: refused, mended with every word in place, or still valid."""
    _, document = written
    assume("\\" not in document)
    at = data.draw(st.integers(0, len(document) - 1))
    slip = data.draw(st.sampled_from(["", ",", '"', "'", "}", "{", "[", "]", ":", "x", " "]))
    text = document[:at] + slip + document[at + data.draw(st.integers(0, 1)) :]
    try:
        valid = json.loads(text)
    except ValueError:
        valid = None
    try:
        found = extract_json(text, allow_truncated=False)
    except JsonTextError:
        return
    part = text[slice(*found.source_span)]

    if found.repaired:
        said = json.dumps(found.value, ensure_ascii=False).replace("\\", "")
        plain = re.sub(r"\bNone\b", "null", part)
        assert re.findall(r"\w", said.lower()) == re.findall(r"\w", plain.lower())
    elif valid is not None:
        assert same(found.value, valid)
    else:
        assert same(found.value, json.loads(part))


@example(value={"": "```json\n{}\n```"}, indent=0)
@given(value=st.dictionaries(WORDS, VALUES, min_size=1, max_size=4), indent=st.sampled_from([0, 2]))
def test_an_answer_without_its_first_brace_gives_no_inner_document(value, indent):
    """A server that continues a prefilled `{` sends the rest only: no piece of it is the answer."""
    rest = json.dumps(value, indent=indent, ensure_ascii=False)[1:]

    with pytest.raises(JsonTextError):
        extract_json(rest)


@given(
    words=st.lists(st.from_regex(r"[a-z]{1,5}( [a-z]{1,5})?", fullmatch=True), min_size=2),
    gap=st.sampled_from([" ", "\n  ", "` ", "' ", "”", "| "]),
    data=st.data(),
)
def test_two_strings_never_become_one(words, gap, data):
    """Where the comma between two strings went wrong, the list keeps its length or is refused."""
    place = data.draw(st.integers(1, len(words) - 1))
    left, right = (json.dumps(part)[1:-1] for part in (words[:place], words[place:]))
    try:
        found = extract_json(f"[{left}{gap}{right}]")
    except JsonTextError:
        return

    assert found.value == words


# -- real answers ------------------------------------------------------------------------------

ANSWERS = {
    "fence and prose": ('Sure! Here it is:\n\n```json\n{"a": 1}\n```\nAnything else?', {"a": 1}),
    "fence on one line": ('```json {"a": 1} ```', {"a": 1}),
    "fence in the text": ('The answer is ```{"a": 1}``` here.', {"a": 1}),
    "unclosed fence": ('```json\n{"a": 1}', {"a": 1}),
    "scalar in a fence": ("```json\n42\n```", 42),
    "fence before prose documents": ('Given {"x": 9}:\n```json\n{"a": 1}\n```', {"a": 1}),
    "other fence first": ('```python\nd = {"x": 9}\n```\n```json\n{"a": 1}\n```', {"a": 1}),
    "javascript fence": ('```javascript\n{"a": 1}\n```', {"a": 1}),
    "shell fence beside it": ('```\nls -l\n```\n{"a": 1}', {"a": 1}),
    "draft in its thoughts": ('<think>maybe {"a": 0}</think>{"a": 1}', {"a": 1}),
    "template wrote <think>": ('maybe {"a": 0}\n</think>\n{"a": 1}', {"a": 1}),
    "two thoughts": ('<think>a</think><think>{"a": 0}</think> {"a": 1}', {"a": 1}),
    "tag as data": ('so: {"a": "<think>x</think>"}', {"a": "<think>x</think>"}),
    "quoted list": ("> ```json\n> [1]\n> ```", [1]),
    "byte order mark": ('\ufeff{"a": 1}', {"a": 1}),
    "comment after": ('{"a": 1}, as you asked', {"a": 1}),
    "single quotes": ("{'a': 'b', 'c': [1, 2]}", {"a": "b", "c": [1, 2]}),
    "python": ("{'a': True, 'b': None}", {"a": True, "b": None}),
    "trailing comma": ('{"a": [1, 2,],}', {"a": [1, 2]}),
    "missing comma": ('{"a": 1 "b": 2}', {"a": 1, "b": 2}),
    "bare keys": ("{a: 1, b_c: 'x'}", {"a": 1, "b_c": "x"}),
    "comments": ('{"a": 1, // one\n /* two */ "b": 2,}', {"a": 1, "b": 2}),
    "raw newline": ('{"a": "x\ny"}', {"a": "x\ny"}),
    "inner quotes": ('{"a": "he said "hi" to me", "b": 2}', {"a": 'he said "hi" to me', "b": 2}),
    "curly quotes": ("{\u201ca\u201d: 1}", {"a": 1}),
    "escaped single quote": ("{'it\\'s': 'a\\u00e9'}", {"it's": "a\u00e9"}),
    "broken in a fence": ("x {'y': 1}\n```json\n{'a': 1,}\n```", {"a": 1}),
    "point first": ('{"a": .5,}', {"a": 0.5}),
    "plus": ("{'a': +1}", {"a": 1}),
    "nothing": ("", "no_document"),
    "prose": ("I cannot do that.", "no_document"),
    "only thoughts": ('<think>{"a": 1}', "truncated"),
    "two documents": ('{"a": 1} {"b": 2}', "multiple_documents"),
    "JSON lines": ('{"a": 1}\n{"a": 2}\n', "multiple_documents"),
    "two after thinking": ('<think>x</think>{"a": 1}\n{"a": 2}', "multiple_documents"),
    "two fences": ("```json\n[1]\n```\n```json\n[2]\n```", "multiple_documents"),
    "one whole, one broken": ("{'a': 1} or {\"b\": 2}", "multiple_documents"),
    "lost beginning": ('"a": {"b": 1}, "c": 2}', "fragment"),
    "lost beginning, a document in its text": ('"a": "see [1] there", "b": 2}', "fragment"),
    "lost beginning, inside a text": ('"see {\'x\': 1} there", "b": 2}', "fragment"),
    "lost beginning, broken": ('"a": {\'b\': 1}, "c": 2}', "fragment"),
    "lost beginning, in a fence": ('```json\n"a": "see [1]", "b": 2\n```', "fragment"),
    "lost first quote": ('{r": "[1]", "s": "x"}', "fragment"),
    "lost bracket of a list": ('"a", [-2, true, ', "fragment"),
    "brackets in its thoughts": ('<think>so "a": { and ] </think>{"a": 1}', {"a": 1}),
    "brackets around it": ('For x in (0, 1]: {"a": 1}, not ]0, 1[', {"a": 1}),
    "closed inside a number": ('{"r": [], "s": 1}e+20\n}', "fragment"),
    "inches": ('{"a": "a 5" by 6" pipe",}', {"a": 'a 5" by 6" pipe'}),
    "a quote too many": ('{"a":" "b c", "d": "e\\"f"}', "dropped_members"),
    "a quote too many in front": ('[1, {"\n "a": 1, "b\\"c": 2}]', "dropped_members"),
    "two strings": ('["x y"` "z"]', "dropped_members"),
    "space in a number": ('{"a": [1 234]}', "dropped_members"),
    "lost bracket": ('{"a": 1}]', "fragment"),
    "doubled key": ('{"a": 1, "a": 2}', "duplicate_key"),
    "doubled key, broken": ("{'a': 1, 'a': 2}", "dropped_members"),
    "NaN": ('{"a": NaN}', "not_finite"),
    "infinite": ('{"a": 1e999}', "not_finite"),
    "bare word": ("{'a': tru}", "dropped_members"),
    "bare date": ("{'on': 2026-01-01}", "dropped_members"),
    "dropped member": ('{"a": {"b": 1}, "c"}', "dropped_members"),
    "dropped word": ('{"a": "b" c}', "dropped_members"),
    "a set for a list": ("{'a': {1, 2}}", "dropped_members"),
    "NaN, broken": ("{'a': NaN}", "dropped_members"),
    "undefined": ("{'a': undefined}", "dropped_members"),
    "elision": ("[1, 2, ...]", "dropped_members"),
    "elided element": ("[1,,2]", "dropped_members"),
    "hole": ('["x", {,"a": 1}]', "dropped_members"),
    "leading zeros": ("{a: 007}", "dropped_members"),
    "underscore": ("{'a': 1_000}", "dropped_members"),
    "wrong closer": ('{"a": [1, 2}', "truncated"),
    "crossed closers": ('{"a": [1, 2}, 3]}', "dropped_members"),
    "Windows path": ('{"a": "C:\\Users\\me"}', "bad_escape"),
    "half escape": ("{'a': '\\u12'}", "bad_escape"),
    "no colon": ('{"a" "b"}', "dropped_members"),
    "unclosed string": ('{"a": "x, "b": "y"}', "truncated"),
    "number too long": ("[" + "1" * 5000 + "]", "too_large"),
    "cut in a broken one": ("{'a': 1, 'b': [", "truncated"),
    "nothing finished": ('{"a": ', "truncated"),
    "cut after a tag as data": ('[{"</think>": 1, "b": "{}', "fragment"),
    "tag torn into data": ('<think>{"</think>{"x": "<think>y</think>"}', "fragment"),
    "list in a fence": ("```json\nFirst: [1]\n```", [1]),
}


@pytest.mark.parametrize(("text", "wanted"), ANSWERS.values(), ids=ANSWERS.keys())
def test_what_models_really_write(text, wanted):
    """Answers as models give them: the value, or the kind of refusal."""
    if not isinstance(wanted, str):
        found = extract_json(text)

        assert same(found.value, wanted)
        return
    with pytest.raises(JsonTextError) as refused:
        extract_json(text)

    assert refused.value.kind == wanted
    assert refused.value.message.endswith(".")


def test_citations_do_not_hide_an_object():
    """When an object is wanted, bracketed numbers in prose are no rivals; lists of objects are."""
    found = extract_json('As [1] and [2, 3] say: {"a": 1}', root="object")

    assert found.value == {"a": 1}
    assert found.log == ("lists in brackets were passed over",)
    for text, kind in [('[{"a": 1}] {"b": 2}', "multiple_documents"), ("so [1]", "wrong_root")]:
        with pytest.raises(JsonTextError) as refused:
            extract_json(text, root="object")
        assert refused.value.kind == kind


def test_a_cut_answer_gives_what_was_finished():
    """A number at the very end may go on, so it is left out; what was finished is kept."""
    text = 'Here: {"a": [1, {"b": true, "c": 12'
    found = extract_json(text)

    assert found.value == {"a": [1, {"b": True}]}
    assert found.truncated
    assert text[slice(*found.source_span)] == '{"a": [1, {"b": true'
    assert "cut off after character" in found.log[0]
    assert json_part(found, text) == '{"a": [1, {"b": true}]}'


def test_a_mended_answer_says_what_was_mended():
    """`repaired` and `log` tell that the notation was changed."""
    found = extract_json("{'a': None,}")

    assert found.repaired
    assert found.log
    assert json_part(found, "{'a': None,}") == '{"a": null}'


def test_mending_can_be_declined():
    """`repair=False` refuses broken notation."""
    with pytest.raises(JsonTextError) as refused:
        extract_json("{'a': 1}", repair=False)

    assert refused.value.kind == "broken"


def test_without_json_repair_the_refusal_names_the_extra():
    """The library is optional; a user who needs it is told what to install."""
    script = (
        "import sys; sys.modules['json_repair'] = None\n"
        "from scillm.structured import extract_json\n"
        "assert extract_json('so: {\"a\": 1}').value == {'a': 1}\n"
        "extract_json(\"{'a': 1}\")\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 1
    assert "JsonTextError" in done.stderr
    assert "pip install 'scillm-core[json]'" in done.stderr


@pytest.mark.parametrize(("text", "root"), [(None, "any"), (b"{}", "any"), ("{}", "dict")])
def test_wrong_arguments_are_refused(text, root):
    """A call that makes no sense says so."""
    with pytest.raises(UsageError):
        extract_json(text, root=root)


@pytest.mark.parametrize(
    ("value", "source"),
    [
        ([1], "[1] more"),
        ([1], "['1']"),
        (["1"], "[1]"),
        (["a"], "['\\'a']"),
        ([], "[1]"),
        ([1], "[]"),
        ([1], "[2]"),
        ([1.0], "[1]"),
        ([True], "[1]"),
        ([None], "[nil]"),
        (["a", "b"], "['a, b']"),
        ({"a": 1}, "{'b': 1}"),
        ({"a": 1}, "{'a', 1}"),
        (["a\\"], "['a\\\\\n\x00', \"]"),
        (["\ud83d"], "['\\\\ud83d']"),
        (["x"], "['" + '\\"' + "x']"),
        ([""], "['a']"),
        (["\\"], "[`\\\\"),
    ],
)
def test_a_guess_that_says_something_else_does_not_stand(value, source):
    """However a repairer errs: other words, kinds, brackets or order are noticed."""
    with pytest.raises(Ungrounded):
        check_grounded(value, source)


@pytest.mark.parametrize(
    "text",
    ['["a" "b" ', "]", "[1}", '["a" "b', '{"a" 1', "{1", "[1]", "[1] ", '{"a": 1, ,', "[tru e"],
)
def test_only_the_beginning_of_a_document_can_be_cut(text):
    """Broken or whole JSON is not taken for JSON that ends too early."""
    assert certain_part(text) is None


def test_a_guess_that_fails_is_a_refusal():
    """What the library raises does not get through."""
    for text in ("[" * 3000, '{"a": "x, "b": ' * 350 + "}"):
        with pytest.raises(JsonTextError) as refused:
            guess(text)
        assert refused.value.kind in ("broken", "too_deep")


def test_an_escape_that_is_not_json_has_no_meaning():
    """Quotes may be escaped in either kind of string; nothing else is guessed."""
    assert unescaped('it\\\'s \\u00e9 "q"') == 'it\'s \u00e9 "q"'
    assert unescaped("\\x41") is None


def test_an_unknown_name_is_an_attribute_error():
    """A lazy module answers like any other."""
    with pytest.raises(AttributeError, match="nothing"):
        _ = scillm.structured.nothing


# -- hostile answers ---------------------------------------------------------------------------

MB = 1_000_000
HOSTILE = {
    "2 KB of brackets": "[" * 2000,
    "2 KB of objects": '{"a":' * 400,
    "closed": "[" * 1000 + "]" * 1000,
    "a little too deep": "[" * 201 + "]" * 201,
    "too deep in prose": "x " + "[" * 260 + "1" + "]" * 260,
    "too deep inside a broken one": "{'a': " + "[" * 300 + "]" * 300 + "}",
    "hidden from a look at the brackets": "{'a\"': " + "[" * 250 + "]" * 250 + ", 'b\"': 1,}",
    "deep in an object": '{"a": 1, "b": ' + "[" * 300 + "]" * 300 + "}",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_deep_nesting_is_refused(text):
    """A small hostile answer ends neither the process nor the stack."""
    with pytest.raises(JsonTextError) as refused:
        extract_json(text)

    assert refused.value.kind == "too_deep"


def test_200_levels_are_allowed():
    """The limit is where it is said to be."""
    text = "[" * 200 + "]" * 200

    assert extract_json(text).value == json.loads(text)


LARGE = {
    "open brackets with noise": ("[" * 150 + "x") * (MB // 151),
    "braces": "{x} " * (MB // 4),
    "broken objects": '{"a"} ' * (MB // 6),
    "backticks": "`" * MB,
    "fences": "```\n{\n```\n" * (MB // 10),
    "thoughts": "<think>[1]</think>" * (MB // 18),
    "closing tags": "</think>" * (MB // 8),
    "opening quotes": '{"' * (MB // 2),
    "unfinished string": '{"k": "' + "a" * MB,
    "backslashes": '{"a": "' + "\\" * MB,
    "escaped quotes": '{"' + '\\"' * (MB // 2) + "\\",
    "misplaced quotes": '["' + 'a"b' * 60_000 + '"]',
    "long and broken": "['" + "a b " * 100_000 + "']",
    "spaces": "{" + " " * MB + "x",
    "over 2 MB": "x" * 2_000_001,
    "long numbers": "[" + "1" * MB + "]",
}


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE.keys())
def test_a_large_hostile_answer_is_refused_in_seconds(text):
    """A megabyte made to be slow is refused; the linear walk takes a fraction of the bound."""
    started = time.process_time()
    with pytest.raises(JsonTextError):
        extract_json(text)

    assert time.process_time() - started < 10


def test_a_large_document_is_found():
    """A megabyte of JSON in prose is no trouble."""
    value = [{"id": number, "text": "x" * 50} for number in range(12_000)]

    assert extract_json(f"Here you are:\n{json.dumps(value)}\nDone.").value == value


# -- the earlier project's name ----------------------------------------------------------------


def test_clean_json_string_keeps_its_call_form():
    """Text in, JSON text out; with return_dict the dict or list."""
    assert clean_json_string('so {"a":  1.50}.') == '{"a":  1.50}'
    assert clean_json_string("{'a': True}") == '{"a": true}'
    assert clean_json_string("null") == "null"
    assert clean_json_string('x {"a": 1}', return_dict=True) == {"a": 1}
    assert clean_json_string("[1]", return_dict=True) == [1]
    assert clean_json_string({"a": "é"}) == '{"a": "é"}'
    assert clean_json_string([1], return_dict=True) == [1]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("no json here", "no_document"),
        ("", "no_document"),
        ("[1,2", "truncated"),
        ('{"a":1} trailing {"b":2}', "multiple_documents"),
        ('{"a": NaN}', "not_finite"),
        ({"a": float("nan")}, "not_finite"),
        ({"a": object()}, "not_finite"),
    ],
)
def test_clean_json_string_never_invents(content, kind):
    """Where the earlier one gave the text back, {} or a guess, this one refuses."""
    with pytest.raises(JsonTextError) as refused:
        clean_json_string(content)

    assert refused.value.kind == kind


def test_clean_json_string_gives_no_scalar_for_a_dict():
    """return_dict means a dict or a list."""
    with pytest.raises(JsonTextError) as refused:
        clean_json_string("42", return_dict=True)

    assert refused.value.kind == "wrong_root"


def test_a_refusal_shows_both_ends_of_a_long_text():
    """`.text` is an excerpt that says how much is left out."""
    with pytest.raises(JsonTextError) as refused:
        extract_json("a" * 500 + "z" * 500)

    assert refused.value.text == "a" * 100 + " … (800 characters) … " + "z" * 100
