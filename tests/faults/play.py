"""Plays a scenario on a contract host, and says what is not as it was."""

from __future__ import annotations

import contextlib
import gc
import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults import a1111, evidence, forge
from tests.faults.calls import Calls, has_passed
from tests.faults.extension import Extension, own_copy
from tests.faults.injections import Injection
from tests.faults.scenario import Scenario
from tests.faults.webui import Result, Webui

_OPENED: dict[str, Any] = {"a1111": a1111.opened, "forge": forge.opened}


@dataclass
class Report:
    """What came of a scenario.

    Attributes:
        fault: what was done, in words.
        has_happened: whether the fault came in the generation.
        complaints: what is wrong afterwards.
    """

    fault: str
    has_happened: bool
    complaints: list[str]


def play(scenario: Scenario, extension: Extension) -> Report:
    """Play a scenario on a fresh host.

    Args:
        extension: what the last scenario on a host of this kind has left; loading it takes long.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(io.StringIO()),
        _OPENED[scenario.host](scenario, extension, Path(folder)) as webui,
    ):
        return _Play(webui, Path(folder)).run()


class _Play:
    def __init__(self, webui: Webui, folder: Path) -> None:
        self.webui, self.folder = webui, folder
        self.scenario = webui.scenario
        self.complaints: list[str] = []
        webui.has_inner = self.scenario.inner

    def run(self) -> Report:
        webui, fault = self.webui, self.scenario.fault
        plain = self._plain(on=False)
        whole, seen = self._guided()
        before = evidence.weights(webui), evidence.backups(webui), evidence.options(webui)
        functions = evidence.functions()
        injection = Injection(webui, fault, seen, webui.evaluations, self.folder)
        p = webui.request(None if fault.what == "toggle" else self.scenario.settings)
        waiting = webui.request(self.scenario.settings) if self.scenario.queued else None
        with injection.applied():
            result = webui.generate(p)
        self._check_error(result, injection)
        self._check_left(result, injection)
        if fault.what not in ("checkpoint", "network file") and self.scenario.refiner is None:
            self._check_weights("weights at once", before[0])
        if fault.what != "reload":
            self._expect("functions of the host", evidence.differing(functions, evidence.functions()))
        self._expect("options", evidence.differing(before[2], evidence.options(webui)))
        self._expect("attributes of p", self._strange(p, plain.p))
        if fault.what in ("ours", "neighbour", "host", "layer", "none", "interrupt", "skip", "toggle"):
            self._check_claims(result, injection, whole, plain)
        if waiting is not None:
            self._same("the request that waited", webui.generate(waiting), whole)
        after = self._plain(on=False)
        self._same("the next plain picture", after, plain)
        self._same("the next picture with the extension off", self._plain(on=True), plain)
        self._expect("left when it is off", evidence.left_on(webui) + self._kept())
        self._same("the next guided picture", self._guided()[0], whole)
        self._plain(on=False)
        self._check_weights("weights", before[0])
        self._expect("what the host keeps of weights", evidence.differing(before[1], evidence.backups(webui)))
        return Report(injection.name, injection.has_happened, self.complaints)

    def _plain(self, on: bool) -> Result:
        self.webui.on = on
        result = self.webui.generate(self.webui.request(None))
        self.webui.on = True
        if result.error is not None:
            raise result.error
        return result

    def _guided(self) -> tuple[Result, Calls]:
        calls = Calls()
        with calls.watched():
            result = self.webui.generate(self.webui.request(self.scenario.settings))
        if result.error is not None:
            raise result.error
        return result, calls

    def _check_error(self, result: Result, injection: Injection) -> None:
        """No error but the one asked for, and of ours none that a host would not see in mid-run."""
        foreign = [error for error in self.webui.reported if error is not injection.error]
        self._expect("errors", [repr(error) for error in foreign])
        if result.error is not None and result.error is not injection.error:
            self.complaints.append(f"another error: {result.error!r}")
        is_ours = self.scenario.fault.what in ("ours", "host") and not injection.calls.is_of_host
        if is_ours and isinstance(result.error, Exception) and has_passed(result.error):
            self.complaints.append("a fault of ours has ended the request")

    def _check_left(self, result: Result, injection: Injection) -> None:
        """Where the host breaks off between our callback and its sampling, the next generation cleans."""
        is_outside = result.error is not None and not self.webui.broke_off_sampling
        if is_outside or injection.calls.is_in_ending or injection.calls.is_of_host:
            return
        self._expect("left", evidence.left_on(self.webui))

    def _check_weights(self, what: str, before: dict[str, tuple[Any, ...]]) -> None:
        """What is new, such as a checkpoint that was not loaded before, is no matter."""
        now = evidence.weights(self.webui)
        self._expect(what, [name for name, was in before.items() if now.get(name) != was])

    def _check_claims(self, result: Result, injection: Injection, whole: Result, plain: Result) -> None:
        """What pictures say and what made them: told against the plain and the whole guided run."""
        for number, batch in enumerate(result.batches):
            claims = any(key.startswith("PG") for key in batch.infotext)
            is_plain = batch.predictions == plain.bytes[number][: len(batch.predictions)]
            is_asked = whole.bytes[number][: len(batch.predictions)] == batch.predictions
            if claims and is_plain and batch.predictions and not is_asked:
                self.complaints.append(f"batch {number + 1} claims what did not run: {batch.infotext}")
            if not claims and not is_plain and not (result.told or self.webui.reported):
                self.complaints.append(f"batch {number + 1} is guided and does not say so")
        if self.scenario.fault.what == "none":
            self._same("the same again", result, whole)

    def _strange(self, p: Any, plain: Any) -> list[str]:
        return sorted(set(vars(p)) - set(vars(plain)) - {"personalization_guidance", "hr_extra_network_data"})

    def _kept(self) -> list[str]:
        return [key for key in vars(self.webui.model()) if "personalization" in key]

    def _same(self, what: str, ours: Result, theirs: Result) -> None:
        if ours.error is not None:
            self.complaints.append(f"{what}: {ours.error!r}")
        elif ours.bytes != theirs.bytes:
            self.complaints.append(f"{what} is another one")
        elif [b.infotext for b in ours.batches] != [b.infotext for b in theirs.batches]:
            self.complaints.append(f"{what} says something else: {ours.batches[0].infotext}")

    def _expect(self, what: str, wrong: list[str]) -> None:
        if wrong:
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            self.complaints.append(f"{what}: {', '.join(wrong[:3])}{more}")


@contextlib.contextmanager
def extensions() -> Iterator[dict[str, Extension]]:
    """Keep our script apart, by host, while scenarios are played."""
    with own_copy():
        gc.collect()
        gc.freeze()  # the extension collects itself, which takes longer the more there is
        try:
            yield {name: Extension() for name in _OPENED}
        finally:
            gc.unfreeze()
