"""The tables of an evaluation's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lib_pg.cli.evaluate.report.compare import Comparison, Finding
from lib_pg.cli.evaluate.report.families import by_family
from lib_pg.cli.evaluate.report.study import Study
from lib_pg.cli.evaluate.report.words import (
    LESS,
    LESS_BEYOND,
    NOT_REACHED,
    NOT_SHOWN,
    NOT_TOLD,
    Measure,
    interval,
    named,
    number,
    safe,
    signed,
    table,
    verdict,
)
from lib_pg.presets import BUILT_IN
from lib_pg.settings import DEFAULTS, Settings, SettingsError


def measures(study: Study) -> dict[str, Measure]:
    """Return what is compared, by its name: one number a method and amount of training."""
    alignment, fidelity = study.called("alignment"), study.called("fidelity")
    return {
        f"{fidelity} at the {alignment} of CFG's own best scale": lambda each: each.at_best,
        f"{alignment} at the {fidelity} of CFG's own best scale": lambda each: each.more_alignment,
        "hypervolume": lambda each: each.more_volume,
    }


def where_cfg_is_better(study: Study, comparisons: Sequence[Comparison]) -> str:
    """Return the trainings, by method and measure, in which it is not shown to be better; may be empty."""
    compared = [each for each in comparisons if each.baseline is not None]
    methods = dict.fromkeys(one.method for each in compared for one in each.findings[1:])
    rows = []
    for method in methods:
        cells = [
            [
                (safe(each.group.training), verdict(read(finding)))
                for each in compared
                if (finding := each.find(method)) is not None
            ]
            for read in measures(study).values()
        ]
        rows.append([named(method), *map(_lost, cells)])
    return table(["method", *measures(study)], rows) if rows else ""


def _lost(found: Sequence[tuple[str, str]]) -> str:
    """Say in which trainings a method is worse, cannot be told apart, or does not reach CFG."""
    said = []
    for name, verdicts in (
        ("**less**", (LESS, LESS_BEYOND)),
        ("not shown", (NOT_SHOWN,)),
        ("cannot be told", (NOT_TOLD,)),
        ("not reached", (NOT_REACHED,)),
    ):
        trainings = [training for training, verdict in found if verdict in verdicts]
        if trainings:
            said.append(f"{name}: {', '.join(trainings)}")
    return "; ".join(said) or "-"


def at_own_best(study: Study, comparison: Comparison) -> str:
    """Return the table of all methods at their own best scales."""
    parts = [name for name in study.head["scores"] if name not in (study.alignment, study.fidelity)]
    head = [
        "method", "own best scale", study.called("alignment"), study.called("fidelity"), "hypervolume",
        "less CFG's, these subjects", "other subjects", *map(study.score_called, parts),
    ]  # fmt: skip
    rows = [
        [
            named(each.method),
            f"{each.front.scale:g}",
            number(each.alignment.value),
            number(each.fidelity.value),
            number(each.volume.value),
            "" if each.more_volume is None else signed(each.more_volume),
            interval(each.more_volume),
            *(number(comparison.mean(each, name)) for name in parts),
        ]
        for each in _in_order(comparison)
    ]
    return table(head, rows)


def at_equal_alignment(study: Study, comparison: Comparison) -> str:
    """Return the table of differences at CFG's alignment, a column a scale of CFG."""
    base = comparison.baseline
    assert base is not None
    alignment, fidelity = study.called("alignment"), study.called("fidelity")
    levels = [
        f"CFG {scale:g}{' (own best)' if place == base.front.best else ''}: {number(level)}"
        for place, (scale, level) in enumerate(
            zip(base.front.scored.scales, base.front.alignment["whole"][0].tolist(), strict=True)
        )
    ]
    rows = [
        [
            named(each.method),
            *(signed(found) for found in each.more_fidelity),
            "" if each.more_alignment is None else signed(each.more_alignment),
        ]
        for each in _in_order(comparison)
        if each is not base
    ]
    title = (
        f"{fidelity} less CFG's at equal {alignment}, which is that of CFG at each scale; last, {alignment} "
        f"less CFG's at the {fidelity} of its own best scale. These subjects."
    )
    return f"{title}\n\n{table(['', *levels, f'{alignment} at equal {fidelity}'], rows)}"


def _in_order(comparison: Comparison) -> list[Finding]:
    """Return CFG, then the methods by family."""
    first = [] if comparison.baseline is None else [comparison.baseline]
    return first + [each for members in by_family(comparison.findings).values() for each in members]


def methods_told(study: Study) -> str:
    rows = []
    for name, told in study.head["methods"].items():
        settings = {"mode": DEFAULTS["mode"], **told.get("settings", {})}
        settings.pop("enabled", None)
        said = ", ".join(f"{key} {value}" for key, value in settings.items())
        scales = ", ".join(f"{scale:g}" for scale in told.get("scales", ()))
        rows.append([named(name), safe(told.get("about", "")), safe(said), scales])
    return table(["method", "what it is", "settings (others at their defaults)", "guidance scales"], rows)


def presets_told(study: Study, comparisons: Sequence[Comparison]) -> str:
    """Return the area under the front less CFG's of the methods that the extension has as presets."""
    compared = [each for each in comparisons if each.baseline is not None]
    rows = []
    for preset, settings in BUILT_IN.items():
        for method, told in study.head["methods"].items():
            if _as_measured(told.get("settings", {})) != _as_measured(settings.to_dict()):
                continue
            found = [each.find(method) for each in compared]
            rows.append([preset, named(method), *map(_beside_cfg, found, compared)])
    head = ["preset", "method", *(safe(each.group.training) for each in compared)]
    return table(head, rows) if rows else ""


def _as_measured(settings: Mapping[str, object]) -> Settings | None:
    """Return settings without what makes no difference here: pictures have no negative prompt."""
    try:
        return Settings.from_dict({**settings, "enabled": True, "weak_prompt": "Null"}).in_use()
    except SettingsError:  # of another version
        return None


def _beside_cfg(finding: Finding | None, comparison: Comparison) -> str:
    base = comparison.baseline
    if finding is None or finding.more_volume is None or base is None:
        return ""
    return f"{signed(finding.more_volume)} at {finding.front.scale:g}, CFG at {base.front.scale:g}"


def rules_told(study: Study) -> str:
    """Return the errors of the rules that judge pictures, where the head of the run tells of them."""
    told = study.head.get("rules", {})
    if not told:
        return ""
    parts = list(dict.fromkeys(part for each in told.values() for part in each["missed"]))
    head = ["subject", *(f"{part} missed" for part in parts)]
    seen = list(dict.fromkeys(part for each in told.values() for part in each["wrongly seen"]))
    head += [*(f"{part} wrongly seen" for part in seen), "likeness", "likeness of others"]
    rows = [
        [
            named(name),
            *(f"{each['missed'][part]:.1%}" for part in parts),
            *(f"{each['wrongly seen'][part]:.1%}" for part in seen),
            *(_spread(each[what]) for what in ("likeness", "likeness of others")),
        ]
        for name, each in told.items()
    ]
    return (
        "On true drawings in every context that is asked for: how often the rules miss what is there, and "
        "how often they see what is not (each part of the prompt wrong in turn); likeness of the subject "
        f"itself and of the other subjects, mean with the lowest and the highest.\n\n{table(head, rows)}"
    )


def _spread(found: Mapping[str, float]) -> str:
    return f"{found['mean']:.3f} ({found['lowest']:.3f} to {found['highest']:.3f})"
