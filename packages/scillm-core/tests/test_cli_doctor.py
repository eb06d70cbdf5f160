"""`scillm doctor`: what works, what does not, and what to do about it."""

from __future__ import annotations

import json
from importlib import metadata
from typing import TYPE_CHECKING

import pytest
from scillm.cli.checks import libraries_in
from support.scillm_process import Installation

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "sk-sentinel-51f2"

CHECKS = """
from scillm.records import Check

class Plugin:
    def scillm_checks(self):
        return [
            Check(name="greet idle", ok=None, detail="no key is set"),
            Check(name="greet mouth", ok={ok}, detail="{detail}", fix="{fix}"),
        ]
"""


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def add_hooks(here: Installation, source: str) -> None:
    here.add(
        "scillm-greet",
        points={"scillm.hooks": {"greet": "greet_hooks:Plugin"}},
        modules={"greet_hooks": source},
    )


def checks_of(out: str) -> dict[str, dict[str, object]]:
    return {check["name"]: check for check in json.loads(out)["checks"]}


def test_a_sound_installation_passes(here: Installation) -> None:
    """With the core alone every check is run and passes, and the exit code is 0."""
    done = here.run("doctor", "--json")

    checks = checks_of(done.out)
    assert (done.code, done.err) == (0, "")
    assert {check["status"] for check in checks.values()} == {"ok"}
    assert {"python", "scillm-core", "event loop", "settings", "run store", "plugins"} <= {*checks}


def test_the_libraries_of_the_core_are_checked(here: Installation) -> None:
    """What scillm-core[cli] requires has its line with the version found, test tools have none."""
    checks = checks_of(here.run("doctor", "--json").out)

    libraries = ["anyio", "attrs", "cattrs", "click", "httpx", "pluggy", "rich"]
    found = {name: checks[name]["detail"] for name in libraries}
    assert found == {name: metadata.version(name) for name in libraries}
    assert not {"pytest", "hypothesis", "trio"} & {*checks}


def test_a_requirement_of_another_extra_or_platform_is_no_library() -> None:
    """Only what every installation with the command line has can be missing from it."""
    requirements = [
        *("anyio>=4.8", "json-thing<2,>=1", "click>=8.1; extra == 'cli'", 'rich ; extra == "cli"'),
        *("pytest; extra == 'testing'", "old; python_version < '3.11'"),
        "winonly; sys_platform == 'win32' and extra == 'cli'",
    ]

    core, cli = "scillm-core", "scillm-core[cli]"
    assert libraries_in(requirements) == {
        "anyio": core,
        "json-thing": core,
        "click": cli,
        "rich": cli,
    }


def test_nothing_is_left_behind(here: Installation) -> None:
    """The check of the run store makes no folder and leaves no file."""
    before = sorted(path.name for path in here.folder.iterdir())

    absent = here.run("doctor", "--json")
    after = sorted(path.name for path in here.folder.iterdir())
    here.runs.mkdir()
    present = here.run("doctor", "--json")

    assert after == before
    assert "can be created" in str(checks_of(absent.out)["run store"]["detail"])
    assert "can be written" in str(checks_of(present.out)["run store"]["detail"])
    assert list(here.runs.iterdir()) == []


def test_a_run_store_that_cannot_be_written_fails(here: Installation) -> None:
    """A store below a file fails with the reason and with what to do."""
    (here.folder / "file").write_text("")
    env = {"SCILLM_RUNS_DIR": str(here.folder / "file" / "runs")}

    done = here.run("doctor", "--json", env=env)

    check = checks_of(done.out)["run store"]
    assert (done.code, check["ok"]) == (1, False)
    assert "SCILLM_RUNS_DIR" in str(check["fix"])


def test_a_wrong_setting_fails_and_hides_nothing_else(here: Installation) -> None:
    """A wrong setting is a failed line, what depends on it is `not run`, the rest is checked."""
    done = here.run("doctor", "--json", env={"SCILLM_TIMEOUT_S": "soon"})

    checks = checks_of(done.out)
    assert done.code == 1
    assert "SCILLM_TIMEOUT_S" in str(checks["settings"]["detail"])
    assert (checks["run store"]["ok"], checks["run store"]["status"]) == (None, "not run")
    assert checks["event loop"]["ok"] is True


def test_not_run_is_never_counted_as_passed(here: Installation) -> None:
    """A check that was not run is shown as such, and is in no other count."""
    add_hooks(here, CHECKS.format(ok=True, detail="open", fix=""))

    plain, as_json = here.run("doctor"), here.run("doctor", "--json")

    words = [str(check["status"]) for check in checks_of(as_json.out).values()]
    assert words.count("not run") == 1
    line = next(line for line in plain.out.splitlines() if line.startswith("greet idle"))
    assert line.split(maxsplit=2)[2].startswith("not run")
    assert plain.out.splitlines()[-1] == f"{words.count('ok')} ok, 0 FAILED, 1 not run"
    assert plain.code == 0


@pytest.mark.parametrize(("fix", "shown"), [("open it", "open it"), ("", "the check names no fix")])
def test_a_failing_check_of_a_plugin_shows_its_fix(
    here: Installation, fix: str, shown: str
) -> None:
    """A plugin's failing check makes the doctor fail and says what to do, or that it cannot."""
    add_hooks(here, CHECKS.format(ok=False, detail="shut", fix=fix))

    done = here.run("doctor")

    line = next(line for line in done.out.splitlines() if line.startswith("greet mouth"))
    assert done.code == 1
    assert "FAILED" in line
    assert line.endswith(f"shut; fix: {shown}")


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ("raise ValueError('no')", "ValueError: no"),
        ("yield 1 / 0", "ZeroDivisionError: division by zero"),
        ("return 5", "TypeError: 'int' object is not iterable"),
        ("return ['open']", "TypeError: Check records were wanted, but a str came."),
    ],
)
def test_a_broken_hook_is_a_failed_line(here: Installation, body: str, detail: str) -> None:
    """A plugin whose checks raise or are none fails with the error; the others are still there."""
    add_hooks(here, f"class Plugin:\n    def scillm_checks(self):\n        {body}")

    done = here.run("doctor", "--json")

    checks = checks_of(done.out)
    assert (done.code, done.err) == (1, "")
    assert checks["hook scillm_checks of greet"]["detail"] == detail
    assert checks["hook scillm_checks of greet"]["fix"]
    assert checks["python"]["ok"] is True


def test_a_broken_plugin_has_one_line(here: Installation) -> None:
    """A plugin that cannot be imported is reported once, with its reason and a fix."""
    add_hooks(here, "raise RuntimeError('kaput')")

    done = here.run("doctor")

    lines = [line for line in done.out.splitlines() if "kaput" in line]
    assert done.code == 1
    assert len(lines) == 1
    assert "fix: update or uninstall scillm-greet" in lines[0]


@pytest.mark.parametrize("library", ["httpx", "cattrs", "anyio", "pluggy"])
def test_a_library_that_cannot_be_imported_fails(here: Installation, library: str) -> None:
    """A damaged library is a failed line with the pip line, and the report is still whole."""
    here.add("zz-damage", points={}, modules={library: "raise OSError('damaged')"})

    done = here.run("doctor", "--json")

    checks = checks_of(done.out)
    assert done.code == 1
    assert checks[library]["detail"] == "OSError: damaged"
    assert "pip install" in str(checks[library]["fix"])
    assert checks["python"]["ok"] is True


def test_a_secret_is_masked_wherever_it_turns_up(here: Installation) -> None:
    """Even a plugin that puts a set key into its report does not make the doctor show it."""
    add_hooks(here, CHECKS.format(ok=False, detail=f"refused {SECRET}", fix=f"renew {SECRET}"))

    for options in ([], ["--json"]):
        done = here.run("doctor", *options, env={"OPENAI_API_KEY": SECRET})

        assert "refused ***" in done.out
        assert SECRET not in done.out + done.err
