"""Completion as shells really ask for it, and what an answer may not load."""

import fcntl
import os
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time

import pytest

from restante.cli.root import COMMANDS
from restante.rules.query import MODES

COMMAND = (sys.executable, "-m", "restante.cli.main")
HEAVY = {"cryptography", "httpx2", "sqlite3", "asyncio", "starlette", "uvicorn", "sha3"}


def asked(*words, shell="bash", **more):
    """The answer to a shell whose line so far has these words; the last is being typed."""
    line = " ".join(("restante", *words))
    place = words[-1] if shell == "fish" else str(len(words))
    environment = {
        **os.environ,
        "_RESTANTE_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": place,
        **more,
    }
    return subprocess.run(COMMAND, capture_output=True, text=True, timeout=60, env=environment)


def answers(*words, **more):
    return asked(*words, **more).stdout.split("\n")[:-1]


def test_commands_and_their_lines():
    assert "plain,query" in answers("")
    assert answers("qu") == ["plain,query"]
    assert answers("qu", shell="fish") == ["plain,query\tRetrieve envelopes, everything verified."]
    assert answers("dev", "") == ["plain,demo", "plain,sim", "plain,judge"]
    assert answers("set", "jo") == ["plain,join"]
    assert answers("completion", "") == ["plain,bash", "plain,zsh", "plain,fish"]
    assert answers("--ver") == ["plain,--version"]


def test_options_and_choices():
    assert answers("query", "--pol") == ["plain,--policy"]
    assert answers("query", "--mode", "") == [f"plain,{mode}" for mode in MODES]
    for words in (("--mode", "e"), ("--mode=e",), ("--mode", "=", "e")):
        assert answers("query", *words) == ["plain,exact"]
    assert answers("up", "--log", "j") == ["plain,json"]


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("query", "--policy"), "file"),
        (("query", "--key-file"), "file"),
        (("post", "--file"), "file"),
        (("post", "--node"), "dir"),
        (("inspect",), "file"),
        (("inspect", "--source"), "dir"),
        (("init",), "dir"),
        (("init", "--set"), "dir"),
        (("up",), "dir"),
        (("fsck",), "dir"),
        (("status",), "dir"),
        (("set", "join"), "dir"),
        (("set", "key", "v1"), "dir"),
        (("dev", "judge"), "file"),
        (("dev", "demo", "--trace"), "dir"),
    ],
)
def test_folders_and_files(words, kind):
    assert answers(*words, "begun") == [f"{kind},begun"]


@pytest.mark.parametrize(
    "words",
    [
        ("",),
        *((name, "--") for name in COMMANDS),
        ("set", ""),
        ("set", "create", "--"),
        ("completion", ""),
        ("dev", ""),
        ("dev", "sim", "--"),
    ],
)
def test_nothing_heavy_is_loaded(words):
    """Every press of Tab pays for what is imported."""
    program = (
        "import sys\n"
        "from restante.cli.main import main\n"
        "try:\n    main()\n"
        "finally:\n    print('loaded', *sorted(sys.modules))"
    )
    environment = {
        **os.environ,
        "_RESTANTE_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("restante", *words)),
        "COMP_CWORD": str(len(words)),
    }
    command = (sys.executable, "-c", program)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    *lines, loaded = done.stdout.splitlines()
    assert any(line.startswith("plain,") for line in lines), done.stderr
    modules = set(loaded.split())
    assert modules.isdisjoint(HEAVY), f"import {modules & HEAVY} in functions"
    commands = {name for name in modules if name.startswith("restante.cli.")}
    fixed = {f"restante.cli.{name}" for name in ("main", "root", "output", "completion")}
    if words == ("",):
        assert commands == fixed


def test_a_line_that_cannot_be_completed_gets_no_message(tmp_path):
    (tmp_path / "platformdirs.py").write_text("raise ImportError('not here')")
    done = asked("fsck", "", PYTHONPATH=str(tmp_path))
    assert (done.stdout, done.stderr) == ("", "")
    assert done.returncode == 1
    assert asked("", COMP_CWORD="x").stderr == ""
    assert asked("", _RESTANTE_COMPLETE="nonsense").returncode == 1


def test_usage():
    for arguments, code in ((("tcsh",), 2), ((), 2), (("--help",), 0)):
        command = (*COMMAND, "completion", *arguments)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == code
    assert 'eval "$(restante completion bash)"' in done.stdout


# --- in real shells -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder to work in, and the command `restante` on the PATH."""
    root = tmp_path_factory.mktemp("completion")
    command = root / "bin" / "restante"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m restante.cli.main "$@"\n')
    command.chmod(0o755)
    work = root / "work"
    (work / "node-folder").mkdir(parents=True)
    (work / "node-file").touch()
    (work / "policy.txt").touch()
    (work / "my policy").touch()
    return root


def environment(place):
    path = os.pathsep.join((str(place / "bin"), os.environ["PATH"]))
    more = {
        "PATH": path,
        "HOME": str(place),
        "ZDOTDIR": str(place),
        "XDG_CONFIG_HOME": str(place),
        "TERM": "dumb",
        "LC_ALL": "C",
    }
    return {**os.environ, **more}


def shell_or_skip(name):
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return found


class Terminal:
    """A shell in a terminal of its own, in which Control-G shows the line so far as `<line>`."""

    def __init__(self, place, *command):
        self._master, slave = os.openpty()
        # Lines are not to wrap.
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 500, 0, 0))
        # A session's leader that opens a terminal has it as its own.
        script = 'tty=$1; shift; exec "$@" <>"$tty" >&0 2>&1'
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", script, "sh", os.ttyname(slave), *command],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=environment(place),
            cwd=place / "work",
        )
        self._seen = ""
        # What is typed before the shell reads may be lost.
        self._until(r"READY\r?\n[^\n]*\$ ")
        os.close(slave)

    def completed(self, line):
        """The line after Tab was pressed at its end."""
        os.write(self._master, f"{line}\t\x07\x15".encode())
        return self._until(r"<(restante[^\n]*)>")

    def close(self):
        self._process.kill()
        self._process.wait(20)
        os.close(self._master)

    def _until(self, pattern):
        deadline = time.monotonic() + 60
        while (match := re.search(pattern, self._seen)) is None:
            assert time.monotonic() < deadline, repr(self._seen)
            if not select.select([self._master], [], [], 1)[0]:
                continue
            self._seen += os.read(self._master, 4096).decode(errors="replace")
        self._seen = self._seen[match.end() :]
        return match[1] if match.re.groups else match[0]


LINES = [
    ("restante que", "restante query "),
    ("restante query --pol", "restante query --policy "),
    ("restante query --mode e", "restante query --mode exact "),
    ("restante query --policy pol", "restante query --policy policy.txt "),
    ("restante query --policy my", r"restante query --policy my\ policy "),
    ("restante fsck no", "restante fsck node-folder/"),
    ("restante inspect node-fi", "restante inspect node-file "),
    ("restante set jo", "restante set join "),
    ("restante dev de", "restante dev demo "),
    ("restante completion z", "restante completion zsh "),
]


def test_bash(place):
    bash = shell_or_skip("bash")
    version = subprocess.run(
        [bash, "-c", 'echo "${BASH_VERSINFO[0]} ${BASH_VERSINFO[1]}"'],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    if tuple(map(int, version.stdout.split())) < (4, 4):
        pytest.skip("completion needs bash 4.4")
    (place / "bashrc").write_text(
        "PS1='$ '\n"
        "bind 'set bell-style none'\n"
        "bind 'set enable-bracketed-paste off'\n"
        """bind -x '"\\C-g": printf "<%s>\\n" "$READLINE_LINE"'\n"""
        'eval "$(restante completion bash)"\n'
        "echo READY\n"
    )
    terminal = Terminal(place, bash, "--noprofile", "--rcfile", str(place / "bashrc"), "-i")
    try:
        for line, completed in LINES:
            assert terminal.completed(line) == completed
        assert terminal.completed("restante query --mode=b") == "restante query --mode=bucket "
    finally:
        terminal.close()


def test_zsh(place):
    zsh = shell_or_skip("zsh")
    (place / ".zshrc").write_text(
        "PS1='$ '\n"
        "unsetopt zle_bracketed_paste prompt_sp; unset zle_bracketed_paste\n"
        "bindkey -e\n"
        "autoload -Uz compinit && compinit -u -D\n"
        'eval "$(restante completion zsh)"\n'
        'show() { print -r -- "<$BUFFER>" }\n'
        "zle -N show && bindkey '^G' show\n"
        "echo READY\n"
    )
    terminal = Terminal(place, zsh, "-i")
    try:
        for line, completed in LINES:
            assert terminal.completed(line) == completed
    finally:
        terminal.close()


def test_fish(place):
    fish = shell_or_skip("fish")
    for line, completed in LINES:
        script = f'restante completion fish | source; complete -C "{line}"'
        done = subprocess.run(
            [fish, "-c", script],
            capture_output=True, text=True, timeout=60, env=environment(place), cwd=place / "work",
        )  # fmt: skip
        found = [each.split("\t")[0] for each in done.stdout.splitlines()]
        word = completed.removeprefix(line.rpartition(" ")[0] + " ").rstrip()
        assert found == [word.replace("\\ ", " ")], (line, done.stderr)
