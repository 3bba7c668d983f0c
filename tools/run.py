"""Set up a private environment in .venv, once, and run a job in it: demo, serve, test, soak or bench.

    python tools/run.py demo [arguments for the job]

Needs Python 3.10 or later and nothing else. It is written for older versions too, so that these can say so.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON_VERSION = " ".join(sys.version.split())
# Written last, so that a set-up that broke off is never taken for a whole one.
STAMP = VENV / "set-up-with"

# Each installs all before it, too.
REQUIREMENTS = ["requirements.txt", "requirements-serve.txt", "requirements-test.txt"]

# What each job needs, and its commands as arguments of Python.
JOBS = {
    "demo": ("requirements.txt", [["-m", "lib_pg", "demo"]]),
    "serve": ("requirements-serve.txt", [["-m", "lib_pg", "serve"]]),
    "soak": ("requirements-test.txt", [["-m", "tests.faults.soak"]]),
    "bench": ("requirements.txt", [["-m", "benchmarks.speed"]]),
    "test": (
        "requirements-test.txt",
        [["-m", "ruff", "check"], ["-m", "ruff", "format", "--check"], ["-m", "mypy"], ["-m", "pytest"]],
    ),
}

# What tests/browser needs beside, and the folder for what .venv cannot hold: two versions of one package.
BROWSER = [
    ("requirements-driver.txt", None),
    ("requirements-gradio3.txt", VENV / "gradio3"),
    ("requirements-gradio4.txt", VENV / "gradio4"),
]


def main(arguments):
    """Run the job named first and return its exit code; what follows goes to its last command."""
    if not arguments or arguments[0] not in JOBS:
        return complain(f"usage: python tools/run.py {'|'.join(JOBS)} [arguments]")
    trouble = missing()
    if trouble:
        return complain(trouble)
    requirements, commands = JOBS[arguments[0]]
    try:
        set_up(requirements)
        if arguments[0] == "test":
            set_up_browser()
        for number, command in enumerate(commands, 1):
            more = arguments[1:] if number == len(commands) else []
            code = subprocess.call([str(python())] + command + more, cwd=str(ROOT))  # noqa: RUF005
            if code:
                return code
    except subprocess.CalledProcessError:
        return complain("the set-up failed, see above; run this again to repeat it")
    except OSError as error:
        return complain(f"the set-up failed: {error}")
    except KeyboardInterrupt:
        return 130
    return 0


def missing():
    """Return what this Python lacks, and what to do, in one line; empty where it lacks nothing."""
    if sys.version_info < (3, 10):  # noqa: UP036
        return f"Python 3.10 or later is needed, this is {sys.version.split()[0]}; run a later one"
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        return f"this Python has no module {error.name}; on Debian or Ubuntu: apt install python3-venv"
    return ""


def set_up(requirements):
    """Make .venv and install `requirements`, unless that is done for this Python and these versions."""
    made_with = STAMP.read_text("utf-8") if STAMP.is_file() and python().exists() else ""
    enough = REQUIREMENTS[REQUIREMENTS.index(requirements) :]
    if made_with in [wanted(each) for each in enough]:
        return
    print(f"setting up {VENV} with {requirements}; this is done once", flush=True)
    if made_with.splitlines()[:1] == [PYTHON_VERSION]:
        STAMP.unlink()
    else:
        if VENV.exists():
            shutil.rmtree(str(VENV))
        subprocess.check_call([sys.executable, "-m", "venv", str(VENV)])
    pip = [str(python()), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.check_call([*pip, "install", "-r", str(ROOT / requirements)])
    STAMP.write_text(wanted(requirements), "utf-8")


def set_up_browser():
    """Install what tests/browser needs, side by side; where that fails its tests are skipped, no more."""
    started = []
    for name, folder in BROWSER:
        requirements = ROOT / "tests" / "browser" / name
        stamp = VENV / (name + ".done")
        if stamp.is_file() and stamp.read_bytes() == requirements.read_bytes():
            continue
        if folder and sys.version_info >= (3, 13):  # which those versions of gradio do not know
            continue
        command = [str(python()), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        command += ["--no-deps", "--only-binary", ":all:", "--no-compile", "-r", str(requirements)]
        if folder:
            shutil.rmtree(str(folder), ignore_errors=True)
            command += ["--target", str(folder)]
        print(f"installing {name} for the tests in a browser; this is done once", flush=True)
        started.append((stamp, requirements, subprocess.Popen(command)))
    for stamp, requirements, process in started:
        if process.wait():
            print(f"{requirements.name} cannot be installed: tests in a browser are skipped", flush=True)
        else:
            shutil.copyfile(str(requirements), str(stamp))


def wanted(requirements):
    """Return all that an environment for `requirements` depends on, the version of Python first."""
    names = REQUIREMENTS[: REQUIREMENTS.index(requirements) + 1]
    return "\n".join([PYTHON_VERSION] + [(ROOT / name).read_text("utf-8") for name in names])


def python():
    """Return the interpreter in .venv."""
    return VENV / "Scripts" / "python.exe" if os.name == "nt" else VENV / "bin" / "python"


def complain(message):
    """Print one line to the error output and return the exit code for it."""
    print(message, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
