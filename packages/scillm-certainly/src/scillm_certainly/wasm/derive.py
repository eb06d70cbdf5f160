"""The runtime's files from the package's files: glue, module and name table. Pure."""

from __future__ import annotations

from attrs import field, frozen

from scillm_certainly.wasm import exports, glue


@frozen(kw_only=True)
class Runtime:
    """The three derived files."""

    glue: bytes = field(repr=False)
    module: bytes = field(repr=False)
    names: bytes = field(repr=False)


def derive(script: bytes, module: bytes) -> Runtime:
    """Rewrite `lean.js` and `lean.wasm`; `ProverError` when they are not the version known."""
    parts = glue.cut(script.decode("latin-1"))
    slim = exports.slim(module, parts.names)
    text = glue.joined(parts, slots=slim.slots)
    return Runtime(glue=text.encode("latin-1"), module=slim.module, names=slim.names)
