"""How the program ends: one line, whatever ends it."""

from __future__ import annotations

import argparse
import io
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

from lib_pg.cli.devices import check_device, chosen_device, is_out_of_memory
from lib_pg.cli.errors import UsageError
from lib_pg.cli.main import main


def _command(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(options: object) -> int:
        raise error

    module = types.SimpleNamespace(run=run)
    monkeypatch.setitem(sys.modules, "lib_pg.cli.demo.command", module)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"),
        OSError("Cannot allocate memory (os error 12)"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
)
def test_memory_that_does_not_suffice_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    _command(monkeypatch, error)
    assert main(["demo"]) == 2
    assert capsys.readouterr().err.startswith("error: the memory does not suffice; try a smaller --width")


def test_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    _command(monkeypatch, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        main(["demo"])


def test_signals_are_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    _command(monkeypatch, KeyboardInterrupt())
    assert main(["demo"]) == 130
    assert [signal.getsignal(number) for number in numbers] == before


# A program that is started in the background inherits that Ctrl-C is ignored.
_AS_FROM_A_SHELL = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("lib_pg", run_name="__main__")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signal")
@pytest.mark.parametrize(("number", "said"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_an_end_during_imports_is_one_line(tmp_path: Path, number: signal.Signals, said: str) -> None:
    """The import here swallows every exception, as libraries do that import what they may not have."""
    (tmp_path / "torch.py").write_text(
        "import os, signal, time\n"
        "try:\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        "    time.sleep(5)\n"
        "except BaseException as error:\n"
        "    raise ImportError('half') from error\n"
        if number == signal.SIGINT
        else f"import os, time\nos.kill(os.getpid(), {int(number)})\ntime.sleep(5)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", _AS_FROM_A_SHELL, "demo"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()])},
    )
    assert (done.returncode, done.stderr) == (128 + number, f"{said}\n")


@pytest.mark.parametrize("name", ["meta", "cuda:77", "nonsense", "cpu:x", "", "vulkan", "xla", "mkldnn"])
def test_a_device_that_cannot_compute_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be used: .*choose another with --device"):
        check_device(name)


def test_a_device_that_computes_is_taken() -> None:
    check_device("cpu")


@pytest.mark.parametrize("out", ["folder", "file/x.png"])
def test_the_demo_sees_at_once_that_it_cannot_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setattr("lib_pg.cli.demo.command.load_pipeline", None)  # not reached
    assert main(["demo", "--out", str(tmp_path / out)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("name", ["狗", "\udcff"])
def test_names_that_the_output_cannot_hold_are_printed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def run(options: object) -> int:
        print(name)
        return 0

    monkeypatch.setitem(sys.modules, "lib_pg.cli.demo.command", types.SimpleNamespace(run=run))  # type: ignore[arg-type]
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "latin-1", write_through=True))
    assert main(["demo"]) == 0
    assert written.getvalue().decode().strip() == ascii(name)[1:-1]


@pytest.mark.parametrize(
    "arguments",
    [["demo", "--seed"], ["generate", "--count"], ["grid", "--count"], ["evaluate", "--bundled", "--steps"],
     ["evaluate", "--bundled", "--seed"]],
)  # fmt: skip
def test_what_is_no_number_is_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*arguments, "1e3"])
    assert end.value.code == 2
    assert f"argument {arguments[-1]}: '1e3' is no whole number" in capsys.readouterr().err


def test_evaluate_knows_the_device_auto_as_the_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(options: argparse.Namespace) -> int:
        asked.append(options.device)
        return 0

    module = types.SimpleNamespace(run=run)
    monkeypatch.setitem(sys.modules, "lib_pg.cli.evaluate.bundled", module)  # type: ignore[arg-type]
    assert main(["evaluate", "--bundled", "--device", "auto"]) == 0
    assert asked == [chosen_device("auto")] != ["auto"]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--protocol", "dreambench", "--quick"], "--quick"),
        (["--protocol", "dreambench", "--cache", "x"], "--cache"),
        (["--bundled", "--scales", "2,3", "--base-checkpoint", "x"], "--base-checkpoint, --scales"),
        (["--protocol", "bundled", "--methods", "CFG"], "--methods"),
    ],
)
def test_options_of_the_other_protocol_are_refused(
    given: list[str], named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They would do nothing, and what was not asked for would run for hours."""
    for protocol in ("bundled", "dreambench"):
        module = types.SimpleNamespace(run=lambda options: 0)
        monkeypatch.setitem(sys.modules, f"lib_pg.cli.evaluate.{protocol}", module)  # type: ignore[arg-type]
    assert main(["evaluate", *given]) == 2
    assert f"{named} would do nothing" in capsys.readouterr().err
