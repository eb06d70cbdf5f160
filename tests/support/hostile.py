"""Programs that try to get out of CodeWorld's sandbox: what each tries, and what counts as out.

Each `solve(x)` returns "out" when it got what it wanted, raises or returns "held" when it did not.
`x` tells it where the harness has put its canaries: files, sockets, and a process of its own user.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OUT = "out"


@dataclass(frozen=True)
class Hostile:
    """One attempt. `ends` names statuses that are an end and no escape, besides an exception."""

    name: str
    room: str
    code: str
    ends: Sequence[str] = ()
    escape_status: str = ""
    """The status that says that it got out, where it cannot say so itself."""


MORE_NUMBERS = {
    "x86_64": {
        "open_by_handle_at": 304, "rt_sigqueueinfo": 129, "process_vm_readv": 310,
        "process_vm_writev": 311, "pidfd_getfd": 438, "io_uring_setup": 425, "bpf": 321,
        "perf_event_open": 298, "userfaultfd": 323, "add_key": 248, "keyctl": 250,
        "pidfd_open": 434, "pidfd_send_signal": 424, "fsopen": 430, "open_tree": 428,
        "openat2": 437, "fanotify_init": 300, "get_robust_list": 274, "kcmp": 312,
        "ioprio_set": 251, "personality": 135, "modify_ldt": 154, "mq_open": 240,
        "mq_unlink": 241, "semget": 64, "semctl": 66, "io_setup": 206, "memfd_secret": 447,
        "timer_create": 222,
    },
    "aarch64": {
        "open_by_handle_at": 265, "rt_sigqueueinfo": 138, "process_vm_readv": 270,
        "process_vm_writev": 271, "pidfd_getfd": 438, "io_uring_setup": 425, "bpf": 280,
        "perf_event_open": 241, "userfaultfd": 282, "add_key": 217, "keyctl": 219,
        "pidfd_open": 434, "pidfd_send_signal": 424, "fsopen": 430, "open_tree": 428,
        "openat2": 437, "fanotify_init": 262, "get_robust_list": 100, "kcmp": 272,
        "ioprio_set": 30, "personality": 92, "mq_open": 180,
        "mq_unlink": 181, "semget": 190, "semctl": 191, "io_setup": 0, "memfd_secret": 447,
        "timer_create": 107,
    },
}  # fmt: skip
"""What the attempts call besides the sandbox's own table; `test_sandbox_numbers` checks them."""

HEAD = '''
import ctypes, errno, os, signal, socket, sys, time
import resource as limits

def call(x, name, *words):
    """A system call by name; OSError when the kernel says no."""
    libc = ctypes.CDLL(None, use_errno=True)
    got = libc.syscall(ctypes.c_long(x["numbers"][name]), *[
        ctypes.c_long(word) if isinstance(word, int) else word for word in words])
    if got < 0:
        raise OSError(ctypes.get_errno(), name)
    return got

def library(name, *words):
    libc = ctypes.CDLL(None, use_errno=True)
    got = getattr(libc, name)(*words)
    if got == -1:
        raise OSError(ctypes.get_errno(), name)
    return got

def solve(x):
'''


def _probe(
    room: str, name: str, body: str, *, ends: str = "", out: str = "", before: str = ""
) -> Hostile:
    """`body` is that of `solve`; `before` is run while the program loads."""
    code = (
        HEAD.replace("def solve(x):", before + "def solve(x):")
        + "\n".join(f"    {line}" for line in body.strip().splitlines())
        + "\n    return 'out'\n"
    )
    return Hostile(
        name=name,
        room=room,
        code=code,
        ends=ends.split(),
        escape_status=out,
    )


FILES = [
    _probe("files", "read /etc/passwd", "open('/etc/passwd').read(1)"),
    _probe("files", "read a file of the harness", "open(x['file']).read(1)"),
    _probe("files", "list the root of the host", "if 'proc' not in os.listdir('/'): return 'held'"),
    _probe("files", "list /etc", "if 'passwd' not in os.listdir('/etc'): return 'held'"),
    _probe(
        "files", "climb up from the working folder", "open('../../../../../../etc/passwd').read(1)"
    ),
    _probe("files", "read by way of /proc/self/root", "open('/proc/self/root/etc/passwd').read(1)"),
    _probe(
        "files",
        "read by way of the parent's root",
        "open('/proc/%d/root/etc/passwd' % x['parent']).read(1)",
    ),
    _probe(
        "files", "read by way of the parent's folder", "os.listdir('/proc/%d/cwd' % x['parent'])"
    ),
    _probe(
        "files",
        "a symbolic link to a host file",
        """
for place in ('.', x['folder']):
    name = '%s/link-%d' % (place, time.time_ns())
    try:
        os.symlink(x['file'], name)
        open(name).read(1)
        return 'out'
    except OSError:
        pass
return 'held'""",
    ),
    _probe(
        "files",
        "a hard link to a host file",
        "os.link(x['file'], x['folder'] + '/hard-%d' % time.time_ns())",
    ),
    _probe(
        "files",
        "create a file in a folder of the host",
        "open(x['folder'] + '/new-%d' % time.time_ns(), 'w').close()",
    ),
    _probe(
        "files",
        "rename a file of the host",
        """
os.rename(x['victim'], x['victim'] + '.gone')
os.rename(x['victim'] + '.gone', x['victim'])""",
    ),
    _probe(
        "files",
        "change the rights of a host file",
        "os.chmod(x['folder'], 0o777)\nos.utime(x['folder'])",
    ),
    _probe(
        "files",
        "use an inherited folder descriptor",
        """
for number in range(256):
    try:
        os.close(os.open('../../../../../../etc/passwd', os.O_RDONLY, dir_fd=number))
        return 'out'
    except OSError:
        pass
return 'held'""",
    ),
    _probe("files", "chroot", "os.chroot('.')"),
    _probe("files", "mount", "library('mount', b'none', b'/tmp', b'tmpfs', 0, None)"),
    _probe("files", "pivot_root", "call(x, 'pivot_root', b'.', b'.')"),
    _probe("files", "read a raw disk", "open('/dev/vda', 'rb').read(1)"),
    _probe("files", "read the machine's memory", "open('/dev/mem', 'rb').read(1)"),
    _probe(
        "files",
        "make a device",
        "os.mknod('device', 0o60600, os.makedev(254, 0))\nopen('device', 'rb').read(1)",
    ),
    _probe(
        "files",
        "open a file by its handle",
        """
handle = ctypes.create_string_buffer(b'\\x08\\0\\0\\0\\x01\\0\\0\\0' + b'\\x02' + bytes(7), 64)
call(x, 'open_by_handle_at', os.open('/', os.O_RDONLY), handle, os.O_RDONLY)""",
    ),
    _probe("files", "list the host's network devices", "os.listdir('/sys/class/net')"),
    _probe("files", "read kernel settings", "open('/proc/sys/kernel/osrelease').read()"),
    _probe(
        "files", "write a kernel setting", "open('/proc/sys/kernel/core_pattern', 'w').write('x')"
    ),
    _probe("files", "learn whether a file exists", "os.stat(x['file'])"),
    _probe(
        "files",
        "watch a folder of the host",
        """
got = library('inotify_init1', 0)
library('inotify_add_watch', got, x['folder'].encode(), 0xfff)""",
    ),
    _probe(
        "files",
        "mount by the newer calls",
        """
if call(x, 'fsopen', b'tmpfs', 0) >= 0: return 'out'""",
    ),
    _probe("files", "take a copy of the tree", "call(x, 'open_tree', -100, b'/', 1)"),
    _probe(
        "files",
        "make its tree writable again",
        """
words = (ctypes.c_uint64 * 4)(0, 1, 0, 0)
call(x, 'mount_setattr', -100, b'/', 0x8000, ctypes.byref(words), 32)""",
    ),
    _probe(
        "files",
        "open by the newer call",
        """
words = (ctypes.c_uint64 * 3)(0, 0, 0)
call(x, 'openat2', -100, b'/etc/passwd', ctypes.byref(words), 24)""",
    ),
    _probe("files", "read the machine's memory as a core", "open('/proc/kcore', 'rb').read(1)"),
    _probe("files", "a terminal of its user", "os.open('/dev/ptmx', os.O_RDWR)"),
    _probe("files", "a machine inside the machine", "os.open('/dev/kvm', os.O_RDWR)"),
    _probe("files", "a network card of its own", "os.open('/dev/net/tun', os.O_RDWR)"),
    _probe(
        "files",
        "the shared memory of its user",
        """
name = '/dev/shm/codeworld-%d' % time.time_ns()
open(name, 'w').close()
os.unlink(name)""",
    ),
    _probe("files", "watch every file", "call(x, 'fanotify_init', 0, 0)"),
]

SECRETS = [
    _probe(
        "secrets",
        "keys in its own environment",
        """
if not any('s3cret' in value for value in os.environ.values()): return 'held'""",
    ),
    _probe(
        "secrets",
        "keys in the parent's environment",
        "open('/proc/%d/environ' % x['parent'], 'rb').read(1)",
    ),
    _probe(
        "secrets",
        "keys in the environment of a process of its user",
        "open('/proc/%d/environ' % x['canary'], 'rb').read(1)",
    ),
    _probe(
        "secrets",
        "the command lines of others",
        "open('/proc/%d/cmdline' % x['canary'], 'rb').read(1)",
    ),
    _probe(
        "secrets",
        "expected answers in callers' frames and in memory",
        """
import gc
frame, seen = sys._getframe(), []
while frame:
    seen += [frame.f_locals, frame.f_globals]
    frame = frame.f_back
text = repr(seen) + repr([o for o in gc.get_objects() if type(o) in (dict, list, tuple)])[:10**7]
if ''.join(reversed('REWSNA-DETCEPXE')) not in text: return 'held'""",
    ),
    _probe(
        "secrets",
        "modules of the harness",
        """
for name in ('scillm', 'scillm_codeworld', 'attrs', 'confine', 'runner', 'zygote'):
    try:
        __import__(name)
        return 'out'
    except ImportError:
        pass
return 'held'""",
    ),
    _probe(
        "secrets",
        "descriptors other than its own pipes",
        """
found = []
for number in range(3, 1024):
    try:
        os.fstat(number)
        found.append(number)
    except OSError:
        pass
if len(found) <= 3: return 'held'""",
    ),
    _probe(
        "secrets",
        "whether a process of its user exists",
        "os.getpgid(x['canary'])\nos.getsid(x['canary'])",
    ),
    _probe(
        "secrets",
        "what another may run on",
        "os.sched_getaffinity(x['parent'])",
    ),
    _probe(
        "secrets",
        "how much processor time another used",
        "time.clock_gettime((~x['parent'] << 3) | 2)",
    ),
    _probe(
        "secrets",
        "where another keeps its locks",
        """
place = ctypes.create_string_buffer(16)
call(x, 'get_robust_list', x['canary'], place, ctypes.byref(place, 8))""",
    ),
    _probe(
        "secrets",
        "compare itself with another",
        "call(x, 'kcmp', os.getpid(), x['canary'], 1, 0, 0)",
    ),
    _probe(
        "secrets",
        "the memory of who started it",
        """
os.close(os.open('/proc/%d/mem' % (os.getppid() or x['parent']), os.O_RDONLY))""",
    ),
]

NETWORK = [
    _probe(
        "network", "TCP to loopback", "socket.create_connection(('127.0.0.1', x['tcp']), 2).close()"
    ),
    _probe(
        "network", "TCP over IPv6", "socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()"
    ),
    _probe(
        "network",
        "UDP to loopback",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', x['udp']))",
    ),
    _probe("network", "listen for others", "socket.socket().bind(('127.0.0.1', 0))"),
    _probe(
        "network",
        "resolve a name",
        """
socket.getaddrinfo('localhost', 80)
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 53))""",
    ),
    _probe(
        "network",
        "an abstract unix socket",
        "socket.socket(socket.AF_UNIX).connect(x['abstract'].replace('@', chr(0)))",
    ),
    _probe(
        "network",
        "a unix socket in the file system",
        "socket.socket(socket.AF_UNIX).connect(x['unix'])",
    ),
    _probe(
        "network",
        "a datagram pair that addresses others",
        """
one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
one.sendto(b'x', x['abstract_datagram'].replace('@', chr(0)))""",
    ),
    _probe(
        "network",
        "pass a descriptor on",
        "one, two = socket.socketpair()\nsocket.send_fds(one, [b'x'], [0])",
    ),
    _probe("network", "a raw socket", "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"),
    _probe("network", "a packet socket", "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"),
    _probe("network", "netlink", "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)"),
    _probe("network", "vsock", "socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)"),
    _probe(
        "network", "the kernel's ciphers", "socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)"
    ),
    _probe(
        "network",
        "a socket of any other family",
        """
for family in range(3, 64):
    for kind in range(1, 6):
        try:
            socket.socket(family, kind).close()
            return 'out'
        except OSError:
            pass
return 'held'""",
    ),
    _probe(
        "network",
        "an address that looks like none",
        """
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
place = libc.mmap(ctypes.c_void_p(0x7e0000000000), 4096, 3, 0x32, -1, 0)
one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
call(x, 'sendto', one.fileno(), b'x', 1, 0, ctypes.c_void_p(place), 6)""",
    ),
    _probe(
        "network",
        "take descriptors from others",
        "one, two = socket.socketpair()\none.send(b'x')\nsocket.recv_fds(two, 1, 1)",
    ),
]

PROCESSES = [
    _probe("processes", "fork", "if os.fork() == 0: os._exit(0)"),
    _probe(
        "processes", "vfork by system call", "if call(x, 'clone', 17, 0, 0, 0, 0) == 0: os._exit(0)"
    ),
    _probe(
        "processes",
        "start a program",
        "import subprocess\nsubprocess.run(['/bin/true'], check=True)",
    ),
    _probe(
        "processes",
        "become another program",
        "os.execv('/bin/sh', ['sh', '-c', 'exit 0'])",
        out="exec",
    ),
    _probe(
        "processes",
        "become a program in memory",
        """
got = os.memfd_create('x')
os.write(got, open('/bin/true', 'rb').read())
os.execve(got, ['x'], {})""",
        out="exec",
    ),
    _probe(
        "processes",
        "a daemon that outlives the run",
        """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(60)
    os._exit(0)""",
    ),
    _probe(
        "processes",
        "a fork bomb",
        """
count = 0
while count < 200:
    count += 1
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)""",
    ),
    _probe("processes", "a thread", "import threading\nthreading.Thread(target=print).start()"),
    _probe(
        "processes",
        "a bomb of threads",
        """
import threading
for _ in range(200): threading.Thread(target=time.sleep, args=(20,), daemon=True).start()""",
    ),
    _probe("processes", "signal the parent", "os.kill(x['parent'], 0)"),
    _probe("processes", "signal a process of its user", "os.kill(x['canary'], 0)"),
    _probe("processes", "signal everybody", "os.kill(-1, 0)"),
    _probe(
        "processes",
        "queue a signal",
        "call(x, 'rt_sigqueueinfo', x['canary'], 0, ctypes.create_string_buffer(128))",
    ),
    _probe(
        "processes",
        "let a pipe signal another process",
        """
import fcntl
fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, x['canary'])""",
    ),
    _probe(
        "processes",
        "trace a process of its user",
        """
library('ptrace', 16, x['canary'], 0, 0)
time.sleep(0.05)
library('ptrace', 17, x['canary'], 0, 0)""",
    ),
    _probe(
        "processes",
        "read the memory of a process of its user",
        """
into = ctypes.create_string_buffer(8)
class Piece(ctypes.Structure): _fields_ = [('at', ctypes.c_void_p), ('size', ctypes.c_size_t)]
mine, theirs = Piece(ctypes.addressof(into), 8), Piece(x['address'], 8)
call(x, 'process_vm_readv', x['canary'], ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0)""",
    ),
    _probe(
        "processes",
        "take a descriptor of a process of its user",
        "call(x, 'pidfd_getfd', call(x, 'pidfd_open', x['canary'], 0), 0, 0)",
    ),
    _probe(
        "processes",
        "limit a process of its user",
        "limits.prlimit(x['canary'], limits.RLIMIT_CORE)",
    ),
    _probe(
        "processes",
        "slow a process of its user down",
        "os.setpriority(os.PRIO_PROCESS, x['canary'], 7)",
    ),
    _probe(
        "processes",
        "choose another's processor",
        "os.sched_setaffinity(x['canary'], os.sched_getaffinity(0))",
    ),
    _probe("processes", "have itself traced", "library('ptrace', 0, 0, 0, 0)"),
    _probe("processes", "signal its own group", "os.kill(0, 0)"),
    _probe(
        "processes",
        "signal a process by its descriptor",
        "call(x, 'pidfd_send_signal', call(x, 'pidfd_open', x['canary'], 0), 0, 0, 0)",
    ),
    _probe("processes", "signal a thread of its user", "call(x, 'tkill', x['canary'], 0)"),
    _probe(
        "processes",
        "write the memory of a process of its user",
        """
class Piece(ctypes.Structure): _fields_ = [('at', ctypes.c_void_p), ('size', ctypes.c_size_t)]
own = ctypes.create_string_buffer(8)
mine, theirs = Piece(ctypes.addressof(own), 0), Piece(x['address'], 0)
call(x, 'process_vm_writev', x['canary'], ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0)""",
    ),
    _probe(
        "processes",
        "undo its death signal",
        "library('prctl', 1, 0, 0, 0, 0)",
    ),
    _probe(
        "processes",
        "become the parent of others' children",
        "library('prctl', 36, 1, 0, 0, 0)",
    ),
    _probe(
        "processes",
        "go before everybody",
        "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
    ),
    _probe("processes", "be nicer to itself", "os.setpriority(os.PRIO_PROCESS, 0, -5)"),
    _probe(
        "processes",
        "go before others at the disk",
        "call(x, 'ioprio_set', 1, 0, (1 << 13) | 0)",
    ),
    _probe(
        "processes",
        "become another program by descriptor",
        """
place = os.open('/bin/sh', os.O_RDONLY)
words = (ctypes.c_char_p * 4)(b'sh', b'-c', b'exit 0', None)
call(x, 'execveat', place, b'', words, None, 0x1000)""",
        out="exec",
    ),
]

KERNEL = [
    _probe("kernel", "a nested user namespace", "library('unshare', 0x10000000)"),
    _probe(
        "kernel",
        "a user namespace by clone3",
        """
words = (ctypes.c_uint64 * 8)(0x10000000, 0, 0, 0, 17, 0, 0, 0)
if call(x, 'clone3', ctypes.byref(words), 64) == 0: os._exit(0)""",
    ),
    _probe(
        "kernel",
        "another process's namespace",
        "library('setns', os.open('/proc/%d/ns/net' % x['parent'], os.O_RDONLY), 0)",
    ),
    _probe("kernel", "io_uring", "call(x, 'io_uring_setup', 4, ctypes.create_string_buffer(120))"),
    _probe(
        "kernel",
        "bpf",
        """
wanted = b'\\x01\\0\\0\\0\\x04\\0\\0\\0\\x04\\0\\0\\0\\x01\\0\\0\\0'
call(x, 'bpf', 0, ctypes.create_string_buffer(wanted, 120), 120)""",
    ),
    _probe(
        "kernel",
        "performance counters",
        """
wanted = ctypes.create_string_buffer(b'\\x01\\0\\0\\0\\x80\\0\\0\\0', 128)
call(x, 'perf_event_open', wanted, 0, -1, -1, 0)""",
    ),
    _probe("kernel", "userfaultfd", "call(x, 'userfaultfd', 1)"),
    _probe("kernel", "the keyring", "call(x, 'add_key', b'user', b'codeworld', b'secret', 6, -2)"),
    _probe(
        "kernel",
        "shared memory that stays",
        """
got = library('shmget', 0, 4096, 0o1600)
library('shmctl', got, 0, None)""",
    ),
    _probe(
        "kernel",
        "a message queue that stays",
        """
got = library('msgget', 0, 0o1600)
library('msgctl', got, 0, None)""",
    ),
    _probe("kernel", "set the clock", "time.clock_settime(time.CLOCK_REALTIME, time.time())"),
    _probe("kernel", "rename the host", "socket.sethostname(socket.gethostname())"),
    _probe(
        "kernel",
        "become root",
        "os.setuid(0) if os.getuid() else None\nif os.geteuid() != 0: return 'held'",
    ),
    _probe(
        "kernel",
        "take capabilities",
        """
class Head(ctypes.Structure): _fields_ = [('v', ctypes.c_uint32), ('p', ctypes.c_int)]
every = (ctypes.c_uint32 * 6)(*[0xffffffff] * 3, 0, 0, 0)
library('capset', ctypes.byref(Head(0x20080522, 0)), every)""",
    ),
    _probe(
        "kernel",
        "load a filter that spies",
        """
if call(x, 'seccomp', 1, 8, ctypes.create_string_buffer(16)) >= 0: return 'out'""",
    ),
    _probe(
        "kernel", "learn the host's name", "if socket.gethostname() != x['host']: return 'held'"
    ),
    _probe("kernel", "see the kernel's log", "library('klogctl', 10, None, 0)"),
    _probe(
        "kernel",
        "the door for 32-bit programs",
        """
if os.uname().machine != 'x86_64': return 'held'
import mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes.fromhex('b814000000cd80c3'))
asked = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
if asked() < 0: return 'held'""",
        ends="killed",
    ),
    _probe(
        "kernel",
        "the door for programs of 32-bit addresses",
        "call({'numbers': {'x32': 0x40000000 + x['numbers']['getpid']}}, 'x32')",
    ),
    _probe("kernel", "change its personality", "call(x, 'personality', 0x0040000)"),
    _probe(
        "kernel",
        "take ports of the machine",
        """
if os.uname().machine != 'x86_64': return 'held'
library('iopl', 3)""",
    ),
    _probe(
        "kernel",
        "a table of segments",
        """
if os.uname().machine != 'x86_64': return 'held'
call(x, 'modify_ldt', 0, ctypes.create_string_buffer(64), 64)""",
    ),
    _probe(
        "kernel",
        "a queue of messages by name",
        """
name = b'codeworld-%d' % time.time_ns()
call(x, 'mq_open', name, os.O_CREAT | os.O_RDWR, 0o600, 0)
call(x, 'mq_unlink', name)""",
    ),
    _probe(
        "kernel",
        "semaphores that stay",
        """
got = call(x, 'semget', 0, 1, 0o1600)
call(x, 'semctl', got, 0, 0)""",
    ),
    _probe(
        "kernel",
        "the machine's share of asynchronous input",
        """
place = (ctypes.c_uint64 * 1)(0)
call(x, 'io_setup', 4096, ctypes.byref(place))""",
    ),
    _probe("kernel", "memory that nobody sees", "call(x, 'memfd_secret', 0)"),
    _probe(
        "kernel",
        "ask for somebody's key",
        "call(x, 'keyctl', 0, -4, 1)",
    ),
    _probe(
        "kernel",
        "timers without number",
        """
for _ in range(100):
    place = (ctypes.c_uint64 * 1)(0)
    call(x, 'timer_create', 1, 0, ctypes.byref(place))""",
    ),
    _probe("kernel", "see what is mounted where", "open('/proc/self/mountinfo').read(1)"),
]

RESOURCES = [
    _probe("resources", "2 GiB at once", "bytearray(2 << 30)", ends="memory"),
    _probe(
        "resources",
        "memory bit by bit",
        "kept = []\nwhile len(kept) < 2000: kept.append(b'x' * (1 << 20))",
        ends="memory",
    ),
    _probe(
        "resources", "2 GiB of shared memory", "import mmap\nmmap.mmap(-1, 2 << 30)", ends="memory"
    ),
    _probe(
        "resources",
        "memory in files that have no name",
        """
kept = []
for number in range(20):
    kept.append(os.memfd_create('x'))
    for _ in range(64): os.write(kept[-1], b'x' * (1 << 20))""",
    ),
    _probe(
        "resources",
        "a file of 64 MiB",
        """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with open('big', 'wb') as file:
    for _ in range(64): file.write(b'x' * (1 << 20))""",
    ),
    _probe(
        "resources",
        "a hundred files of 1 MiB",
        """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for number in range(100):
    with open('n%d' % number, 'wb') as file: file.write(b'x' * (1 << 20))""",
    ),
    _probe(
        "resources",
        "100,000 files",
        "for number in range(100_000): open('n%d' % number, 'w').close()",
    ),
    _probe("resources", "a thousand descriptors", "kept = [os.pipe() for _ in range(500)]"),
    _probe("resources", "lift its own limits", "limits.setrlimit(limits.RLIMIT_AS, (-1, -1))"),
    _probe(
        "resources",
        "a flood on stdout",
        "for _ in range(10**5): sys.stdout.write('x' * 10**5)",
        ends="output_limit",
    ),
    _probe(
        "resources",
        "a flood on stderr",
        "for _ in range(10**5): sys.stderr.write('x' * 10**5)",
        ends="output_limit",
    ),
    _probe("resources", "an answer of 50 MB", "return 'x' * 50_000_000", ends="output_limit"),
    _probe("resources", "a loop", "while True: pass", ends="timeout"),
    _probe("resources", "a sleep", "time.sleep(600)", ends="timeout"),
    _probe(
        "resources",
        "a loop that will not be stopped",
        """
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True:
    try: time.sleep(600)
    except BaseException: pass""",
        ends="timeout",
    ),
    _probe(
        "resources",
        "a stop that nobody continues",
        "os.kill(os.getpid(), signal.SIGSTOP)\ntime.sleep(600)",
        ends="timeout",
    ),
    _probe(
        "resources",
        "a recursion in C",
        """
sys.setrecursionlimit(10**9)
def down(n): return sorted([n], key=down)
down(1)""",
        ends="killed memory timeout",
    ),
    _probe(
        "resources",
        "an alarm clock",
        """
signal.signal(signal.SIGALRM, signal.SIG_IGN)
signal.setitimer(signal.ITIMER_REAL, 1e-5, 1e-5)
time.sleep(600)""",
        ends="timeout",
    ),
    _probe(
        "resources",
        "2 GiB as a stack",
        """
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
place = libc.mmap(None, ctypes.c_size_t(2 << 30), 3, 0x122, -1, 0)
if place == ctypes.c_void_p(-1).value: return 'held'""",
        ends="memory",
    ),
    _probe(
        "resources",
        "a folder in a folder in a folder",
        """
for _ in range(100_000):
    os.mkdir('f')
    os.chdir('f')""",
    ),
    _probe(
        "resources",
        "a hole of a terabyte",
        """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
place = os.open('hole', os.O_RDWR | os.O_CREAT)
os.ftruncate(place, 1 << 40)""",
    ),
    _probe(
        "resources",
        "attributes of a file",
        """
open('named', 'w').close()
for number in range(100): os.setxattr('named', 'user.n%d' % number, b'x' * 4096)""",
    ),
    _probe(
        "resources",
        "call the host's crash handler",
        """
limits.setrlimit(limits.RLIMIT_CORE, (0, 0))""",
        ends="killed",
    ),
    _probe(
        "resources",
        "an endless trickle on stdout",
        """
while True:
    os.write(1, b'x')
    time.sleep(0.001)""",
        ends="timeout",
    ),
    _probe(
        "resources",
        "an answer that never ends its line",
        """
while True:
    for number in range(3, 4096):
        try: os.write(number, b' ')
        except OSError: pass
    time.sleep(0.001)""",
        ends="timeout",
    ),
    _probe(
        "resources",
        "a pattern that is never matched",
        "import re\nre.match('(a|a)*b', 'a' * 99)",
        ends="timeout",
    ),
    _probe(
        "resources",
        "a number without end",
        "return 9 ** 9 ** 9",
        ends="timeout memory",
    ),
]

ANSWERS = [
    _probe(
        "answers",
        "an object equal to everything",
        """
class Equal(str):
    __eq__ = lambda a, b: True
    __hash__ = str.__hash__
class Any:
    __eq__ = lambda a, b: True
return Any()""",
        ends="unserialisable",
    ),
    _probe(
        "answers",
        "an object that unpickles itself",
        """
class Bomb:
    def __reduce__(self): return (os.system, ('true',))
return Bomb()""",
        ends="unserialisable",
    ),
    _probe(
        "answers",
        "claims that nothing was run",
        """
for number in range(3, 256):
    try: os.write(number, b'{"status": "sandbox_refused"}\\n')
    except OSError: pass
os._exit(0)""",
        out="sandbox_refused",
    ),
    _probe(
        "answers",
        "claims infinity",
        """
for number in range(3, 256):
    try: os.write(number, b'{"status": "ok", "output": 1e999}\\n')
    except OSError: pass
os._exit(0)""",
        ends="unserialisable",
    ),
    _probe(
        "answers",
        "claims to have taken no time",
        """
time.perf_counter = time.time = time.monotonic = lambda: 0.0
ctypes.pythonapi.PyErr_Clear()
import select
select.select([], [], [], 0.3)
return 'slow'""",
        out="fast",
    ),
    _probe("answers", "breaks the interpreter", "ctypes.string_at(0)", ends="killed"),
    _probe(
        "answers",
        "closes every pipe and stays",
        "os.closerange(0, 1024)\nwhile True: pass",
        ends="exception timeout",
    ),
    _probe(
        "answers",
        "poisons what the next run uses",
        """
import builtins, json
builtins.len = lambda thing: 666
json.dumps = lambda *a, **k: '"poisoned"'
sys.modules['math'] = None
os.environ['CODEWORLD_LEFT_BEHIND'] = 'yes'
try: open('left-behind', 'w').close()
except OSError: pass
return 'poisoned'""",
    ),
    _probe(
        "answers",
        "answers before it is asked",
        "return 'held'",
        before="""
for _number in range(3, 4096):
    try: os.write(_number, b'{"status": "loaded"}\\n{"status": "ok", "output": "out"}\\n')
    except OSError: pass
""",
    ),
    _probe(
        "answers",
        "answers twice",
        """
wrote = 0
for number in range(3, 256):
    try: wrote += os.write(number, b'{"status": "ok", "output": "held"}\\n')
    except OSError: pass
return 'out' if wrote else 'held'""",
    ),
    _probe(
        "answers",
        "goes on after its answer",
        """
import atexit, gc, threading
class Late:
    def __del__(self):
        for number in range(3, 4096):
            try: os.write(number, b'{"status": "ok", "output": "out"}\\n')
            except OSError: pass
        time.sleep(60)
kept = Late()
atexit.register(kept.__del__)
os._exit = lambda code: (kept.__del__(), time.sleep(60))
sys.stdout = type('Out', (), {'write': len, 'flush': lambda self: time.sleep(60)})()
return 'held'""",
    ),
    _probe(
        "answers",
        "claims a status that is no word",
        """
for number in range(3, 256):
    try: os.write(number, b'{"status": [{}], "output": "out"}\\n')
    except OSError: pass
os._exit(0)""",
    ),
    _probe(
        "answers",
        "claims an answer without a bottom",
        """
for number in range(3, 256):
    try: os.write(number, b'{"status": "ok", "output": ' + b'[' * 40_000 + b']' * 40_000 + b'}\\n')
    except OSError: pass
os._exit(0)""",
        ends="unserialisable",
    ),
    _probe(
        "answers",
        "claims half a character",
        """
for number in range(3, 256):
    try: os.write(number, b'{"status": "ok", "output": "\\\\ud800"}\\n')
    except OSError: pass
os._exit(0)""",
        ends="unserialisable",
    ),
    _probe(
        "answers",
        "claims a number that takes an hour to read",
        """
for number in range(3, 256):
    try: os.write(number, b'{"status": "ok", "output": ' + b'9' * 90_000 + b'}\\n')
    except OSError: pass
os._exit(0)""",
        ends="unserialisable",
    ),
    _probe(
        "answers",
        "a text that lies about itself",
        """
class Lie(str):
    __eq__ = lambda a, b: True
    __hash__ = str.__hash__
    __str__ = __repr__ = encode = lambda *a: 'out'
return Lie('held')""",
    ),
    _probe(
        "answers",
        "an error that lies about itself",
        """
class Kind(type):
    __name__ = property(lambda self: sys.exit(0))
class Lie(Exception, metaclass=Kind):
    def __str__(self): raise SystemExit(0)
raise Lie""",
    ),
    _probe(
        "answers",
        "answers that are still to be made",
        "return (number for number in range(3))",
        ends="unserialisable",
    ),
]

HELD_BELOW = {"learn whether a file exists": "L3", "learn the host's name": "L3"}
"""Attempts that come to nothing only from this level on: Landlock hides no names."""

FREE_AT_WASM = ("a sleep",)
"""Costs neither time nor anything else there: its clock is its own, and moves on at once."""

HELD_ANSWERS = ("held", "slow", "poisoned")
SLOW_S = 0.25


def was_held(
    attempt: Hostile,
    *,
    status: str,
    output: object,
    reason: str,
    wall_s: float | None,
    level: str = "",
) -> bool:
    """Whether the attempt came to nothing, by how its run ended."""
    if level == "wasm" and (attempt.name in FREE_AT_WASM or status == "exception"):
        return True
    if attempt.escape_status == "exec" and "left with exit code" in reason:
        return False
    if attempt.escape_status == "fast" and (wall_s is None or wall_s < SLOW_S):
        return False
    if status == "ok":
        return output in HELD_ANSWERS
    return status == "exception" or status in attempt.ends


CORPUS = (*FILES, *SECRETS, *NETWORK, *PROCESSES, *KERNEL, *RESOURCES, *ANSWERS)


def at_level(code: str, level: str) -> str:
    """`code` as it is tried there: at level wasm what is not there is None, and it goes on."""
    if level != "wasm":
        return code
    return code.replace(IMPORTS, LENIENT_IMPORTS)


IMPORTS = """
import ctypes, errno, os, signal, socket, sys, time
import resource as limits
"""
LENIENT_IMPORTS = """
def _had(name):
    try:
        return __import__(name)
    except ImportError:
        return None

ctypes, errno, os, signal, socket, sys, time, limits = map(
    _had, "ctypes errno os signal socket sys time resource".split())
"""

CLEAN = """
import os
def solve(x):
    import math
    return [len("abc"), math.floor(2.5), os.environ.get("CODEWORLD_LEFT_BEHIND"),
            os.path.exists("left-behind")]
"""
"""What is run after each attempt: it must find everything as new."""
CLEAN_ANSWER = [3, 2, None, False]

FAST = frozenset(
    """
read /etc/passwd|read a file of the harness|create a file in a folder of the host
keys in its own environment|keys in the parent's environment|descriptors other than its own pipes
expected answers in callers' frames and in memory|TCP to loopback|UDP to loopback
an abstract unix socket|a daemon that outlives the run|become another program
signal a process of its user|trace a process of its user|let a pipe signal another process
a nested user namespace|io_uring|2 GiB at once|a loop that will not be stopped
claims that nothing was run|poisons what the next run uses
answers before it is asked|claims a status that is no word|an address that looks like none
how much processor time another used|the door for 32-bit programs
""".strip()
    .replace("\n", "|")
    .split("|")
)
"""The attempts of the normal test run; the others are tried by `pytest -m deep`."""
