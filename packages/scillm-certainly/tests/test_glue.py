"""The glue loses its long lists and nothing that is used; an unknown layout is refused."""

from __future__ import annotations

import pytest
from scillm.errors import ProverError
from scillm_certainly.wasm import glue

READ = glue.STOCK_READ + "}" + glue.STOCK_WRITE
CALLS = "".join(
    f"function {name}(a){{if(ENVIRONMENT_IS_PTHREAD)return proxyToMainThread(1,0,1,a);}}"
    for name in (*glue.CALLS, *glue.REFUSED)
)
SCRIPT = (
    "var used=_kept(1);var __dlsym_js=(h,s)=>{};__dlsym_js.sig=1;"
    "updateTableMap(0,wasmTable.length);var _main,_kept,_lost;"
    f"{READ}{CALLS}"
    'FS.mount(NODEFS,{root:"/home"},"/home");FS.mount(NODEFS,{root:"/tmp"},"/tmp");FS.chdir(cwd);'
    "if(isNode){path=__filename}"
    'function assignWasmExports(wasmExports){_kept=Module["_kept"]=wasmExports["kept"];'
    '_lost=Module["_lost"]=wasmExports["lost"];memory=wasmExports["memory"]}'
    'var wasmImports;console.log("[DEBUG:A] x");'
)


def test_only_names_in_use_stay() -> None:
    """A name nobody uses is neither declared nor assigned; one in use is, and is exported."""
    parts = glue.cut(SCRIPT)

    assert parts.names == {"kept", "memory"}
    assert "_lost" not in parts.declaration + parts.assignment
    assert "_kept" in parts.declaration
    assert "_kept" in parts.assignment


def test_the_host_is_out_of_reach() -> None:
    """No folder of the host is mounted, and every call that could change a file is refused."""
    text = glue.joined(glue.cut(SCRIPT), slots=7)

    assert "FS.mount" not in text
    assert "updateTableMap(0,7)" in text
    for name in glue.REFUSED:
        assert f"function {name}(a){{var q=-69;if(q!==undefined)return q;" in text


@pytest.mark.parametrize(
    "missing", ["var _main,", "var wasmImports;", "FS.chdir(cwd)", "__dlsym_js.sig=", "_fd_read("]
)
def test_another_layout_is_refused(missing: str) -> None:
    """A script that is not the known one is never half edited."""
    with pytest.raises(ProverError, match="laid out"):
        glue.joined(glue.cut(SCRIPT.replace(missing, "something else")), slots=1)
