"""kimina-client's own calls against the URL of the first argument; prints what it made of them."""

import asyncio
import json
import sys

if sys.version_info < (3, 12):
    # kimina-client 0.2.1 cannot be imported there: pydantic wants the backport's TypedDict.
    import typing

    import typing_extensions

    typing.TypedDict = typing_extensions.TypedDict

from kimina_client import AsyncKiminaClient, KiminaClient, Snippet

CODES = {
    "good": "theorem t : 1 + 1 = 2 := rfl",
    "bad": "theorem t : 1 + 1 = 3 := rfl",
    "gap": "theorem t : 1 = 3 := sorry",
    "axiom": "axiom a : 1 = 2\ntheorem t : 1 = 2 := a",
    "check": "#check Nat",
    "endless": "partial def f (n : Nat) : Nat := f (n + 1)\n#eval f 0",
}
SNIPPETS = [Snippet(id=name, code=code) for name, code in CODES.items()]


def statuses(answer):
    return {row.id: row.analyze().status.value for row in answer.results}


async def asynchronous(url):
    client = AsyncKiminaClient(api_url=url)
    return statuses(await client.check(SNIPPETS[:4], timeout=20, show_progress=False))


client = KiminaClient(api_url=sys.argv[1])
client.test()
many = [f"theorem t{n} : {n} + 1 = {n + n % 2 + 1 - n % 2} := rfl" for n in range(20)]
told = {
    "health": client.health(),
    "sync": statuses(client.check(SNIPPETS, timeout=5, show_progress=False)),
    "async": asyncio.run(asynchronous(sys.argv[1])),
    "many": sorted(statuses(client.check(many, timeout=20, show_progress=False)).values()),
}
sys.stdout.write(json.dumps(told) + "\n")
