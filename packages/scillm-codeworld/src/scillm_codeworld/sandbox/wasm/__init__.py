"""The level `wasm`: CPython compiled to WebAssembly, whose fuel is an exact cost."""
