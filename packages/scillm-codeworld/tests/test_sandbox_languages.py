"""Programs in other languages: JSON in on stdin, JSON out on stdout, held like the others."""

from __future__ import annotations

import re

import anyio
import pytest
from scillm.errors import SandboxError
from scillm.records import Limits
from scillm_codeworld.records import Program
from scillm_codeworld.sandbox import open_sandbox
from scillm_codeworld.sandbox.inside.cell import WORK_BYTES
from scillm_codeworld.sandbox.toolchains import PROGRAM_BYTES, found

LIMITS = Limits(time_s=10.0, memory_mb=512, output_bytes=100_000)
SHORT = Limits(time_s=1.0, memory_mb=512, output_bytes=100_000)

DOUBLE = {
    "c": '#include <stdio.h>\nint main(void){long x;if(scanf("%ld",&x)!=1)return 2;'
    'fputs("note",stderr);printf("%ld\\n",2*x);return 0;}',
    "cpp": '#include <iostream>\nint main(){long x;std::cin>>x;std::cerr<<"note";std::cout<<2*x;}',
    "rust": "use std::io::Read;fn main(){let mut s=String::new();"
    'std::io::stdin().read_to_string(&mut s).unwrap();eprint!("note");'
    'let x:i64=s.trim().parse().unwrap();println!("{}",2*x);}',
    "javascript": "const x=JSON.parse(require('fs').readFileSync(0,'utf8'));"
    "process.stderr.write('note');console.log(JSON.stringify(2*x))",
    "go": 'package main\nimport ("encoding/json"; "fmt"; "os")\nfunc main() { var x int\n'
    "if json.NewDecoder(os.Stdin).Decode(&x) != nil { os.Exit(2) }\n"
    'fmt.Fprint(os.Stderr, "note"); fmt.Println(2 * x) }',
}
BROKEN = {
    "c": "int main(void){ return nonsense; }",
    "cpp": "int main(){ return nonsense; }",
    "rust": "fn main(){ nonsense }",
    "go": "package main\nfunc main() { nonsense }",
}
ESCAPES = {
    "reads /etc/passwd": '#include <stdio.h>\nint main(void){FILE*f=fopen("/etc/passwd","r");'
    'printf("%d",f!=0);return 0;}',
    "opens a socket": "#include <stdio.h>\n#include <sys/socket.h>\n"
    'int main(void){printf("%d",socket(AF_INET,SOCK_STREAM,0)>=0);return 0;}',
    "forks": "#include <stdio.h>\n#include <unistd.h>\n"
    'int main(void){printf("%d",fork()>=0);return 0;}',
    "writes outside": '#include <stdio.h>\nint main(void){FILE*f=fopen("/usr/x","w");'
    'printf("%d",f!=0);return 0;}',
    "lists processes": "#include <stdio.h>\n#include <dirent.h>\n"
    'int main(void){printf("%d",opendir("/proc")!=0);return 0;}',
}


def runs(language, work):
    """What `work(sandbox)` gives at L3; skips without the tool or the level."""
    if found(language) is None:
        pytest.skip(f"no tool for {language} here")

    async def main():
        async with open_sandbox(require="L3", languages=("python", language)) as sandbox:
            return await work(sandbox)

    try:
        return anyio.run(main)
    except SandboxError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("language", DOUBLE)
def test_a_program_answers_and_its_stderr_is_kept(language):
    """Twice, so that the second run finds it built."""

    async def work(sandbox):
        program = Program(code=DOUBLE[language], language=language)
        return [await sandbox.run(program, n, LIMITS) for n in (21, -3)]

    first, second = runs(language, work)

    assert [(run.status, run.output, run.stderr) for run in (first, second)] == [
        ("ok", 42, "note"),
        ("ok", -6, "note"),
    ], (first, second)
    assert first.isolation["level"] == "L3"
    assert first.wall_s > 0
    assert first.cpu_s > 0


@pytest.mark.parametrize("language", BROKEN)
def test_what_does_not_compile_is_a_syntax_error_with_the_compilers_words(language):
    """The message names what the compiler did not understand."""

    async def work(sandbox):
        return await sandbox.run(Program(code=BROKEN[language], language=language), 1, LIMITS)

    run = runs(language, work)

    assert run.status == "syntax_error"
    assert "nonsense" in run.reason


@pytest.mark.parametrize(
    ("end", "status"), [("return 0;", "unserialisable"), ("return 3;", "exception")]
)
def test_what_is_written_in_place_of_an_answer_is_shown(end, status):
    """A program that prints text, or fails after it printed some, has that text as its stdout."""
    code = '#include <stdio.h>\nint main(void){puts("not so far");' + end + "}"

    async def work(sandbox):
        return await sandbox.run(Program(code=code, language="c"), 1, LIMITS)

    run = runs("c", work)

    assert (run.status, run.output, run.stdout) == (status, None, "not so far\n")


@pytest.mark.parametrize("name", ESCAPES)
def test_a_compiled_program_is_held_too(name):
    """No call of libc gets further than Python does."""

    async def work(sandbox):
        return await sandbox.run(Program(code=ESCAPES[name], language="c"), 1, LIMITS)

    run = runs("c", work)

    assert (run.status, run.output) == ("ok", 0), run


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("for(;;);", "timeout", "did not answer within 1 s"),
        ("return 3;", "exception", "exit code 3"),
        ("*(volatile int*)0=1;", "killed", "SIGSEGV"),
        ('puts("no json");', "unserialisable", "no JSON"),
        ('for(;;)puts("xxxxxxxxxxxxxxxx");', "output_limit", "answer"),
        ("char*p=malloc(1L<<31);if(!p)return 9;memset(p,1,1L<<31);", "exception", "exit code 9"),
    ],
)
def test_a_compiled_program_that_fails_says_how(body, status, reason):
    """The same words as for Python."""
    code = f"#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\nint main(void){{{body}}}"

    async def work(sandbox):
        return await sandbox.run(Program(code=code, language="c"), 1, SHORT)

    run = runs("c", work)

    assert run.status == status, run
    assert reason in run.reason


GREEDY = {
    "plainly": "char*p=malloc(N);",
    "shared": "char*p=mmap(0,N,3,MAP_SHARED|MAP_ANONYMOUS,-1,0);",
    "as a stack": "char*p=mmap(0,N,3,MAP_PRIVATE|MAP_ANONYMOUS|MAP_GROWSDOWN,-1,0);",
    "made read-only": "char*p=(char*)1;for(int i=0;i<128;i++){char*q=mmap(0,N/128,3,MAP_PRIVATE|"
    "MAP_ANONYMOUS,-1,0);if(q==MAP_FAILED)return 9;memset(q,1,N/128);mprotect(q,N/128,1);}"
    'puts("1");return 0;',
    "tables of nothing": "char*p=(char*)1;volatile char*q=mmap(0,N<<9,1,MAP_PRIVATE|MAP_ANONYMOUS|"
    "MAP_NORESERVE,-1,0);if(q==MAP_FAILED)return 9;long s=0;for(long i=0;i<N<<9;i+=2L<<20)s+=q[i];"
    'if(s==0)puts("1");return 0;',
}
"""Ways to 2 GiB. Only the first is one that a limit on data would see."""
LEADERLESS = """
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
static void *greedy(void *none) {
    usleep(100000);
    for (;;) {
        char *p = mmap(0, 64L << 20, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) _exit(9);
        memset(p, 1, 64L << 20);
    }
}
int main(void) {
    pthread_t thread;
    if (pthread_create(&thread, 0, greedy, 0)) return 9;
    syscall(SYS_exit, 0);
}
"""


@pytest.mark.parametrize("name", GREEDY)
def test_a_compiled_program_holds_no_more_memory_than_it_may(name):
    """However it asks for it: it gets none, or it is ended, and soon."""
    code = (
        "#define _GNU_SOURCE\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
        f"#include <sys/mman.h>\n#define N (2L<<30)\nint main(void){{{GREEDY[name]}"
        'if(!p||p==MAP_FAILED)return 9;memset(p,1,N);puts("1");return 0;}'
    )
    limits = Limits(time_s=30.0, memory_mb=128, output_bytes=1000)

    async def work(sandbox):
        return await sandbox.run(Program(code=code, language="c"), 1, limits)

    run = runs("c", work)

    assert run.status in ("exception", "memory"), run
    assert "exit code 9" in run.reason or "used up its memory" in run.reason
    assert run.max_rss_kb < 1 << 20


def test_memory_is_counted_when_the_first_thread_has_ended():
    """What the others hold is still the program's."""
    limits = Limits(time_s=30.0, memory_mb=128, output_bytes=1000)

    async def work(sandbox):
        return await sandbox.run(Program(code=LEADERLESS, language="c"), 1, limits)

    run = runs("c", work)

    assert run.status == "memory", run
    assert run.max_rss_kb < 1 << 20


def test_a_program_that_takes_long_to_build_holds_up_no_other():
    """Others are built beside it; only the same program waits for it."""
    slow = (
        "template<int N,int M>struct A{static const long v=A<N-1,M>::v+A<N-1,M+(1<<N)>::v;};"
        "template<int M>struct A<0,M>{static const long v=1;};int main(){return A<24,0>::v;}"
    )
    ended = []

    async def work(sandbox):
        async def one(name, code):
            run = await sandbox.run(Program(code=code, language="cpp"), 1, LIMITS)
            ended.append((name, run.status, run.output))
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(one, "slow", slow)
            await anyio.sleep(0.3)
            group.start_soon(one, "quick", DOUBLE["cpp"])

    runs("cpp", work)

    assert ended == [("quick", "ok", 2)]


def test_what_cannot_be_built_is_tried_once():
    """Asked again, the finding is the same, down to the random name the linker gave its object."""
    code = "int missing(void);int main(void){return missing();}"

    async def work(sandbox):
        program = Program(code=code, language="c")
        return [await sandbox.run(program, n, LIMITS) for n in (1, 2)]

    first, second = runs("c", work)

    assert first.status == "syntax_error"
    assert re.search(r"cc\w{6}\.o", first.reason), first.reason
    assert second.reason == first.reason


def test_a_program_too_large_to_run_says_so():
    """The size it has and the size it may have."""
    code = "char x[20<<20]={1};int main(void){return x[0];}"

    async def work(sandbox):
        return await sandbox.run(Program(code=code, language="c"), 1, LIMITS)

    run = runs("c", work)

    assert run.status == "output_limit"
    assert f"at most {PROGRAM_BYTES} are run" in run.reason
    assert PROGRAM_BYTES == WORK_BYTES


def test_the_compiler_is_held_as_well():
    """A source that includes a host file learns nothing of it."""
    code = '#include "/etc/passwd"\nint main(void){return 0;}'

    async def work(sandbox):
        return await sandbox.run(Program(code=code, language="c"), 1, LIMITS)

    run = runs("c", work)

    assert run.status == "syntax_error"
    assert "root:" not in run.reason
    assert "No such file" in run.reason


def test_a_language_that_was_not_allowed_is_refused_with_a_reason():
    """So is one below L3; the program is not run."""

    async def main():
        async with open_sandbox(prefer="L1", languages=("python", "c")) as low:
            below = await low.run(Program(code=DOUBLE["c"], language="c"), 1, LIMITS)
        async with open_sandbox(languages=("python",)) as narrow:
            other = await narrow.run(Program(code=DOUBLE["c"], language="c"), 1, LIMITS)
        return below, other

    below, other = anyio.run(main)

    assert (below.status, other.status) == ("sandbox_refused", "sandbox_refused")
    assert "L3 or above" in below.reason
    assert below.isolation["level"] == "L1"
    assert "c " in other.reason
