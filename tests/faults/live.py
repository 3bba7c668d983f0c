"""The harness against a real host; `live_scenario.py` says what the host needs."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.faults.calls import OF_HOST
from tests.faults.live_scenario import WRONG, Live, Subject, draw_live
from tests.faults.scenario import CALLBACKS
from tests.live.host import Answer, HostError

# Options that the host itself leaves changed after a call that has overridden them.
_HOSTS = {"sd_vae", "sd_model_checkpoint", "sd_checkpoint_hash"}


class _Play:
    def __init__(self, subject: Subject, scenario: Live) -> None:
        self.subject, self.scenario = subject, scenario
        self.complaints: list[str] = []
        self.fault = scenario.what
        self.is_usable = True

    def run(self) -> list[str]:
        scenario, host = self.scenario, self.subject.host
        try:
            plain = self._picture(None)
        except HostError as error:
            self.is_usable, self.fault = False, f"left out, the host alone answers {error.status}"
            return []
        before, options = host.state(), host.call("/pg-live/options")
        whole = self._picture(scenario.settings, "count" if scenario.what == "ours" else "")
        text = self._fault_text(host.call("/pg-live/calls"))
        waiting = _Waiting(lambda: self._picture(scenario.settings)) if scenario.queued else None
        answer = self._broken(text)
        if waiting is not None:
            self._same("the request that waited", waiting.answer(), whole)
        now = host.state()
        if now["ours"] or now["modifiers"]:
            self.complaints.append(f"left: {now['ours']} hooks, {now['modifiers']} modifiers")
        after = host.call("/pg-live/options")
        changed = [
            name
            for name in {**options, **after}
            if options.get(name) != after.get(name) and name not in _HOSTS
        ]
        if changed:
            self.complaints.append(f"options: {', '.join(changed)}")
        if answer is not None and scenario.what not in ("checkpoint", "vae", "missing network", "base"):
            self._check_claims(answer, plain, whole)
        self._same("the next plain picture", self._picture(None), plain)
        if host.state() != before:
            self.complaints.append("the model is not as it was")
        self._same("the next guided picture", self._picture(scenario.settings), whole)
        return self.complaints

    def _picture(self, settings: Any, fault: str = "") -> Answer:
        scenario = self.scenario
        return self.subject.picture(scenario.tags, settings, scenario.values, fault, scenario.probe)

    def _fault_text(self, calls: Mapping[str, int]) -> str:
        """Return what the probe is asked for."""
        scenario = self.scenario
        number = 1 + int(scenario.at * 2 * scenario.values["steps"])
        if scenario.what == "ours" and calls:
            names = [name for name in sorted(calls) if not name.endswith(OF_HOST)]
            name = names[int(scenario.where * len(names))]
            return f"{scenario.error} in ours {name} at {1 + int(scenario.at * calls[name])}"
        texts = {
            "layer": f"{scenario.error} in layer {scenario.where:.4f} at {number}",
            "neighbour": f"{scenario.error} in {CALLBACKS[int(scenario.where * len(CALLBACKS))]}",
            "interrupt": f"interrupt at {number}",
            "skip": f"skip at {number}",
        }
        return texts.get(scenario.what, "")

    def _broken(self, text: str) -> Answer | None:
        """Run the generation with the fault; None where the host answers with the error asked for."""
        scenario, subject = self.scenario, self.subject
        self.fault = text or scenario.what
        settings, values, tags = scenario.settings, dict(scenario.values), scenario.tags
        if scenario.what == "toggle":
            settings = {"enabled": False}
        elif scenario.what == "arguments":
            settings = WRONG[int(scenario.where * len(WRONG))]
        elif scenario.what == "missing network":
            tags += "<lora:no such network:1>"
        elif scenario.what == "checkpoint":
            values["options"] = {"sd_model_checkpoint": subject.second}
        elif scenario.what == "vae":
            values["options"] = {"sd_vae": "None"}
        elif scenario.what == "base":
            settings = {**settings, "base_checkpoint": subject.base, "weak_ratio": scenario.at}
        presser = threading.Timer(scenario.at * 2, self._press)
        if scenario.what == "button":
            presser.start()
        try:
            return subject.picture(tags, settings, values, text, scenario.probe)
        except HostError as error:
            if scenario.what not in ("layer", "missing network"):
                self.complaints.append(f"the host answers {error.status}: {error.text[:200]}")
            return None
        finally:
            presser.cancel()
            if presser.ident is not None:  # or else it might press in the next generation
                presser.join()

    def _press(self) -> None:
        self.subject.host.call("/sdapi/v1/interrupt", {})

    def _check_claims(self, answer: Answer, plain: Answer, whole: Answer) -> None:
        claims = bool(answer.guidance())
        is_plain = _equal(answer, plain)
        if claims and is_plain and not _equal(whole, plain):
            self.complaints.append(f"claims what did not run: {answer.guidance()}")
        # Of an error in a script's own method, or its own generation, the host tells on its console.
        is_inner = self.scenario.what == "layer" and self.scenario.probe == "inner"
        is_whole = self.scenario.what not in ("interrupt", "skip", "button", "ours") and not is_inner
        if is_whole and not claims and not is_plain and not answer.told:
            self.complaints.append("is guided and says nothing")

    def _same(self, what: str, ours: Answer, theirs: Answer) -> None:
        if not _equal(ours, theirs):
            self.complaints.append(f"{what} is another one")
        elif [ours.guidance(i) for i in range(len(ours.infotexts))] != [
            theirs.guidance(i) for i in range(len(theirs.infotexts))
        ]:
            self.complaints.append(f"{what} says something else: {ours.guidance()}")


class _Waiting:
    """A second request, sent while the first one runs."""

    def __init__(self, ask: Any) -> None:
        self._found: list[Answer] = []
        self._error: list[Exception] = []
        self._thread = threading.Thread(target=self._run, args=(ask,))
        threading.Timer(0.3, self._thread.start).start()

    def _run(self, ask: Any) -> None:
        try:
            self._found.append(ask())
        except Exception as error:
            self._error.append(error)

    def answer(self) -> Answer:
        while self._thread.ident is None:
            time.sleep(0.05)
        self._thread.join()
        if self._error:
            raise self._error[0]
        return self._found[0]


def _equal(a: Answer, b: Answer) -> bool:
    return len(a.pictures) == len(b.pictures) and all(map(np.array_equal, a.pictures, b.pictures))


def run(url: str, kind: str, seeds: range) -> int:
    """Play scenarios one after the other; return the exit code."""
    subject, failed, counts, start = Subject.at(url), 0, Counter[str](), time.perf_counter()
    lost = 0  # in a row
    for place, seed in enumerate(seeds, 1):
        scenario = draw_live(subject, seed)
        play = _Play(subject, scenario)
        try:
            complaints, lost = play.run(), 0
        except HostError as error:
            complaints = [f"without a fault the host answers {error.status}: {error.text[:200]}"]
        except OSError as error:
            complaints, lost = [f"the host does not answer: {error}"], lost + 1
            time.sleep(5)
        counts[scenario.what if play.is_usable else "left out"] += 1
        failed += bool(complaints)
        said = f"FAILED: {'; '.join(complaints)}" if complaints else "ok"
        print(f"{place}/{len(seeds)} {play.fault}: {said}", flush=True)
        if complaints:
            print(f"python -m tests.faults --host {kind} --url {url} --seed {seed}", flush=True)
        if lost == 3:
            print("the host is gone")
            break
    for what, count in sorted(counts.items()):
        print(f"{count:6} {what}")
    print(f"{sum(counts.values()):6} in {time.perf_counter() - start:.0f} s, {failed} failed")
    return 1 if failed or lost == 3 else 0
