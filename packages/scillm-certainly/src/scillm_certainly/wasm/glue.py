"""Lean's JavaScript glue, cut from 89 MB to under 1 MB and given a few other manners.

The edits (each fails loudly when the text it looks for is not there exactly once):
- names nobody uses are no longer declared and assigned; `dlsym` reads the name table instead;
- library files are read in the thread that asks, not by a round trip to the main thread;
- no folder of the host is mounted, and no file can be written;
- stdin is handed over as raw bytes, and stdout written to its end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from attrs import frozen
from scillm.errors import ProverError

LOOKUP = (
    "var __dlsymTab;var __dlsym_js=(handle,symbol)=>{growMemViews();var u=HEAPU8,a=0x811c9dc5|0,"
    "c=0x9747b28c|0,i=symbol,x;"
    "while(x=u[i++]){a=Math.imul(a^x,0x01000193);c=Math.imul(c^x,0x85ebca6b);c=c<<13|c>>>19}"
    "a=(a^a>>>15)>>>0;c=(c^c>>>16)>>>0;"
    'if(!__dlsymTab){var f=require("fs").readFileSync(__dirname+"/names.bin");'
    "__dlsymTab=new Uint32Array(f.buffer,f.byteOffset,f.byteLength>>2)}"
    "var t=__dlsymTab,M=t.length/3-1,j=a&M;"
    "while(t[3*j+2]){if(t[3*j]===a&&t[3*j+1]===c)return t[3*j+2];j=j+1&M}"
    'dlSetError("no such symbol");return 0};'
)
STOCK_READ = (
    "read(stream,buffer,offset,length,pos){"
    "if(!stream.tty||!stream.tty.ops.get_char){throw new FS.ErrnoError(60)}"
)
BYTES_READ = STOCK_READ + (
    "if(stream.tty.ops===TTY.default_tty_ops){"
    "var b=Buffer.allocUnsafe(Math.min(length,1048576)),n;"
    "for(;;){try{n=fs.readSync(0,b,0,b.length,null);break}catch(e){"
    'if(e.code==="EAGAIN"){Atomics.wait(new Int32Array(new SharedArrayBuffer(4)),0,0,5);continue}'
    'if(e.code==="EOF"){n=0;break}throw new FS.ErrnoError(29)}}'
    "for(var k=0;k<n;k++)buffer[offset+k]=b[k];return n}"
)
STOCK_WRITE = 'defaultPrint=(...args)=>fs.writeSync(1,args.map(stringify).join(" ")+"\\n");'
WHOLE_WRITE = (
    'defaultPrint=(...args)=>{var b=Buffer.from(args.map(stringify).join(" ")+"\\n"),o=0;'
    "while(o<b.length){try{o+=fs.writeSync(1,b,o)}catch(e){"
    'if(e.code!=="EAGAIN")throw e;'
    "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)),0,0,5)}}};"
)
"""A pipe takes 64 KB at a time; what it does not take, the published glue drops."""
CALLS: Mapping[str, str] = {
    "___syscall_openat": "__lf.open(path,flags)",
    "___syscall_stat64": "__lf.stat(path,buf)",
    "___syscall_lstat64": "__lf.stat(path,buf)",
    "___syscall_newfstatat": "__lf.stat(path,buf)",
    "___syscall_fstat64": "__lf.fstat(fd,buf)",
    "_fd_read": "__lf.read(fd,iov,iovcnt,pnum)",
    "_fd_seek": "__lf.seek(fd,offset,whence,newOffset)",
    "_fd_close": "__lf.close(fd)",
}
"""System calls of the glue that are first offered to `FILES`."""
REFUSED = (
    "___syscall_chdir",
    "___syscall_chmod",
    "___syscall_fchmodat2",
    "___syscall_ftruncate64",
    "___syscall_mkdirat",
    "___syscall_mknodat",
    "___syscall_renameat",
    "___syscall_rmdir",
    "___syscall_symlinkat",
    "___syscall_truncate64",
    "___syscall_unlinkat",
    "___syscall_utimensat",
)
"""System calls that answer EROFS: a check must leave nothing behind for the next one to find."""
READ_ONLY = "-69"
FILES = (
    'var __lf={B:268435456,pos:new Map,P:"/lean/lib/",'
    'W:new Set(["/dev/stdout","/dev/stderr","/dev/null"]),'
    "host(p){p=UTF8ToString(p);"
    'if(!p.startsWith(this.P)||p.split("/").includes(".."))return undefined;'
    "return process.env.LEAN_WASM_ROOT+p.slice(5)},"
    "open(p,fl){var h=this.host(p);"
    "if(h===undefined)return fl&1603&&!this.W.has(UTF8ToString(p))?-69:undefined;"
    "if(fl&67)return-69;"
    'try{var f=fs.openSync(h,"r");this.pos.set(f,0);return this.B+f}'
    'catch(e){return e.code==="ENOENT"?-44:-29}},'
    "w(buf,st){SYSCALLS.writeStat(buf,{dev:st.dev,ino:Number(st.ino)%2147483647,mode:st.mode,"
    "nlink:st.nlink,uid:0,gid:0,rdev:0,size:st.size,atime:st.atime,mtime:st.mtime,ctime:st.ctime,"
    "blksize:4096,blocks:st.blocks});return 0},"
    "stat(p,buf){var h=this.host(p);if(h===undefined)return;"
    "var st=fs.statSync(h,{throwIfNoEntry:false});return st?this.w(buf,st):-44},"
    "fstat(fd,buf){if(fd<this.B)return;return this.w(buf,fs.fstatSync(fd-this.B))},"
    "read(fd,iov,n,pn){if(fd<this.B)return;fd-=this.B;growMemViews();"
    "var t=0,p=this.pos.get(fd);"
    "for(var i=0;i<n;i++){var a=HEAPU32[iov>>2],l=HEAPU32[iov+4>>2];iov+=8;if(!l)continue;"
    "var r=fs.readSync(fd,HEAPU8.subarray(a,a+l),0,l,p);p+=r;t+=r;if(r<l)break}"
    "this.pos.set(fd,p);HEAPU32[pn>>2]=t;return 0},"
    "seek(fd,o,wh,nw){if(fd<this.B)return;fd-=this.B;o=Number(o);"
    "var b=wh===0?0:wh===1?this.pos.get(fd):fs.fstatSync(fd).size;this.pos.set(fd,b+o);"
    "(growMemViews(),HEAP64)[nw>>3]=BigInt(b+o);return 0},"
    "close(fd){if(fd<this.B)return;fd-=this.B;this.pos.delete(fd);fs.closeSync(fd);return 0}};"
)
EDITS: Mapping[str, str] = {
    'FS.mount(NODEFS,{root:"/home"},"/home");FS.mount(NODEFS,{root:"/tmp"},"/tmp");': (
        'for(var d of["work","bin","lib/lean"])FS.mkdirTree("/lean/"+d);'
        'FS.writeFile("/lean/bin/lean.js","");'
        'FS.writeFile("/lean/work/driver.lean",fs.readFileSync(process.env.CERTAINLY_DRIVER));'
    ),
    "FS.chdir(cwd)": 'FS.chdir("/lean/work")',
    "if(isNode){path=__filename}": 'if(isNode){path="/lean/bin/lean.js"}',
    STOCK_READ: BYTES_READ,
    STOCK_WRITE: WHOLE_WRITE,
    "function ___syscall_openat(": FILES + "function ___syscall_openat(",
}
ASSIGNMENT = re.compile(r'([\w$]+)=Module\["[^"]*"\]=wasmExports\["([^"]*)"\](?:\.value)?;?')
WORD = re.compile(r"[A-Za-z_$][\w$]*")
USED = re.compile(r'wasmExports\["([^"]*)"\]')
OTHERS = re.compile(r"([\w$]+)=wasmExports")


@frozen(kw_only=True)
class Cut:
    """The glue without its long lists, and the exported names that the rest still uses."""

    head: str
    declaration: str
    middle: str
    assignment: str
    tail: str
    names: frozenset[str]


def cut(text: str) -> Cut:
    """Drop the declaration and assignment of every export the glue itself never uses."""
    declared = text.find("var _main,")
    assigned = text.find("function assignWasmExports(")
    end = text.find("var wasmImports;", assigned)
    if min(declared, assigned, end) < 0:
        raise ProverError("lean.js is not laid out as the one version that is known.")
    head, tail = text[:declared], text[end:]
    middle = text[text.index(";", declared) + 1 : assigned]
    words = set(WORD.findall(head + middle + tail))
    body = text[text.index("{", assigned) + 1 : end - 1]
    names: set[str] = set()
    variables: list[str] = []
    lines: list[str] = []
    rest: list[str] = []
    at = 0
    for found in ASSIGNMENT.finditer(body):
        rest.append(body[at : found.start()])
        at = found.end()
        if found[1] in words or found[2] in words:
            names.add(found[2])
            variables.append(found[1])
            lines.append(found[0].rstrip(";"))
    rest.append(body[at:])
    extra = "".join(rest).strip(";")
    names.update(USED.findall(head + middle + tail + extra))
    variables += OTHERS.findall(extra)
    return Cut(
        head=head,
        declaration=f"var {','.join(dict.fromkeys(variables))};",
        middle=middle,
        assignment=f"function assignWasmExports(wasmExports){{{extra};{';'.join(lines)}}}",
        tail=tail,
        names=frozenset(names),
    )


def joined(parts: Cut, *, slots: int) -> str:
    """The whole glue again, with its edits; `slots` is the size the function table had."""
    head = parts.head
    start, end = head.find("var __dlsym_js="), head.find("__dlsym_js.sig=")
    if not 0 <= start < end:
        raise ProverError("lean.js is not laid out as known: __dlsym_js is not there.")
    head = head[:start] + LOOKUP + head[end:]
    head = _once(head, "updateTableMap(0,wasmTable.length)", f"updateTableMap(0,{slots})")
    text = head + parts.declaration + parts.middle + parts.assignment + parts.tail
    for name, probe in {**CALLS, **dict.fromkeys(REFUSED, READ_ONLY)}.items():
        pattern = rf"(function {name}\([\w,]*\)\{{)(?=if\(ENVIRONMENT_IS_PTHREAD\)return proxyTo)"
        text, count = re.subn(pattern, rf"\1var q={probe};if(q!==undefined)return q;", text)
        if count != 1:
            raise ProverError(f"lean.js is not laid out as known: {name} came {count} times.")
    for old, new in EDITS.items():
        text = _once(text, old, new)
    return text.replace('console.log("[DEBUG', '(()=>{})("[DEBUG')


def _once(text: str, old: str, new: str) -> str:
    count = text.count(old)
    if count != 1:
        raise ProverError(f"lean.js is not laid out as known: {old[:60]!r} came {count} times.")
    return text.replace(old, new)
