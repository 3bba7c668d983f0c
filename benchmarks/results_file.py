"""Files of results: written a setting a line as they are measured, read for the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.arms import CFG, PG, TWO_PASSES
from benchmarks.denoisers import FAMILIES
from benchmarks.measure import Measured
from benchmarks.plan import Setting
from lib_pg.cli.output import replace_file


class Results:
    """What was measured on one machine, written after every setting.

    Args:
        path: of the file, which may be there already; None for no file.

    Raises:
        ValueError: the file is of another machine or other versions, or is no such file.
    """

    def __init__(self, path: Path | None, machine: dict[str, Any]) -> None:
        self._path = path
        self._found: dict[str, Any] = {"machine": machine, "settings": []}
        if path is not None and path.exists():
            try:
                self._found = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ValueError(f"{path} is damaged: {error}; choose another file with --json") from error
            if self._found["machine"] != machine:
                raise ValueError(
                    f"{path} is of another machine or other versions, {self._found['machine']}, and here is "
                    f"{machine}; choose another file with --json"
                )

    def has(self, setting: Setting) -> bool:
        return any(each["key"] == setting.key for each in self._found["settings"])

    def add(self, result: Measured) -> None:
        self._found["settings"].append(_rounded(result.as_json()))
        self._write()

    def lacks_kernels(self, setting: Setting) -> bool:
        """Say whether a setting is there without its kernels."""
        return any(each["key"] == setting.key and not each["kernels"] for each in self._found["settings"])

    def add_kernels(self, setting: Setting, kernels: dict[str, tuple[int, float]]) -> None:
        for each in self._found["settings"]:
            if each["key"] == setting.key:
                each["kernels"] = _rounded(kernels)
        self._write()

    def _write(self) -> None:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._path, _dumped(self._found).encode())


@dataclass(frozen=True, eq=False)
class Row:
    """One setting's results, as they were written."""

    setting: Setting
    found: dict[str, Any]

    @property
    def engines(self) -> str:
        return self.found["engines"]

    @property
    def arms(self) -> list[str]:
        return list(self.found["seconds"])

    def step(self, arm: str) -> float:
        """Return the median seconds of a step."""
        return median(self.found["seconds"][arm])

    def ratios(self, arm: str = PG) -> list[float]:
        """Return an arm's step to CFG's, one number a round."""
        seconds = self.found["seconds"]
        return [own / cfg for own, cfg in zip(seconds[arm], seconds[CFG], strict=True)]

    def ratio(self, arm: str = PG) -> float:
        return median(self.ratios(arm))

    def extra(self, arm: str = PG) -> int | None:
        """Return the bytes beyond CFG's peak."""
        return self.found["extra_bytes"].get(arm)

    def memory(self, arm: str = PG) -> float | None:
        """Return the bytes beyond CFG's peak to those of the networks; None where there are none."""
        extra, own = self.extra(arm), self.found["network_bytes"]
        return None if extra is None or not own or arm in (CFG, TWO_PASSES) else extra / own

    def prepared(self, picture: int) -> float:
        """Return the seconds that guidance takes once for the first picture (0) or the next one (1)."""
        return self.found["attach"][picture] + max(0.0, self.found["first_step"][picture])

    def busy(self, arm: str) -> float:
        """Return the share of an arm's step in which the device has work; each is timed in its own call."""
        return float(self.found["kernels"][arm][1]) / self.step(arm)

    def work(self, arm: str = PG) -> float:
        """Return the time of an arm's kernels to that of CFG's."""
        kernels = self.found["kernels"]
        return float(kernels[arm][1]) / float(kernels[CFG][1])


@dataclass(frozen=True, eq=False)
class Machine:
    """All results of one file.

    Attributes:
        label: what the file is called after `speed-`.
        note: what has to be known of the run.
        run: what tells it from others of the same device.
    """

    label: str
    facts: dict[str, Any]
    rows: list[Row]
    note: str = ""
    run: str = ""

    @property
    def kind(self) -> str:
        return self.facts["kind"]

    @property
    def name(self) -> str:
        return ", ".join(filter(None, (self.facts["device"], self.run)))

    def models(self) -> list[str]:
        return list(dict.fromkeys(row.setting.model for row in self.rows))

    def base(self, model: str) -> Setting:
        """Return the setting that a model's others vary: the first one."""
        return next(row.setting for row in self.rows if row.setting.model == model)

    def find(self, setting: Setting) -> Row | None:
        return next((row for row in self.rows if row.setting.key == setting.key), None)

    def bases(self) -> list[Row]:
        """Return models' bases and the same at other types and, on a CPU, at the size that users choose."""
        found = []
        for model in self.models():
            base = self.base(model)
            for row in self.rows:
                size_too = row.setting.size == FAMILIES[model].size
                same = replace(
                    row.setting, dtype=base.dtype, size=base.size if size_too else row.setting.size
                )
                if same.key == base.key:
                    found.append(row)
        return found

    def along(self, model: str, name: str) -> list[Row]:
        """Return the rows that differ from a model's base in one field alone, the base too, in its order."""
        base = self.base(model)
        rows = [
            row for row in self.rows if replace(row.setting, **{name: getattr(base, name)}).key == base.key
        ]
        return sorted(rows, key=lambda row: getattr(row.setting, name))


def read(folder: Path) -> Iterator[Machine]:
    """Yield the machines of all files `speed-*.json` in a folder, GPUs first."""
    found = []
    for path in sorted(folder.glob("speed-*.json"), key=lambda path: path.stem):
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = [Row(_setting(each["setting"]), each) for each in content["settings"]]
        label = path.stem.removeprefix("speed-")
        beside = content.get("note", ""), content.get("run", "")
        found.append(Machine(label, content["machine"], rows, *beside))
    yield from sorted(found, key=lambda machine: machine.kind == "cpu")


def _setting(fields: dict[str, Any]) -> Setting:
    return Setting(**{**fields, "arms": tuple(fields["arms"])})


def _dumped(found: dict[str, Any]) -> str:
    """Return the file: the machine, what was written beside it by hand, and a setting a line."""
    lines = ",\n".join("  " + json.dumps(each) for each in found["settings"])
    beside = "".join(
        f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)},\n"
        for key, value in found.items()
        if key != "settings"
    )
    return f'{{\n{beside} "settings": [\n{lines}\n ]\n}}\n'


def _rounded(value: Any) -> Any:
    """Return results with six digits of each number, as many as a clock has."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    return value
