"""The page of an evaluation, in Markdown: what was compared, what came out, and where CFG is better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lib_pg.cli.evaluate.report.bootstrap import DRAWS
from lib_pg.cli.evaluate.report.compare import Comparison
from lib_pg.cli.evaluate.report.families import file_part
from lib_pg.cli.evaluate.report.study import Study
from lib_pg.cli.evaluate.report.tables import (
    at_equal_alignment,
    at_own_best,
    measures,
    methods_told,
    presets_told,
    rules_told,
    where_cfg_is_better,
)
from lib_pg.cli.evaluate.report.words import (
    DIFFERENT,
    NOT_REACHED,
    NOT_SHOWN,
    NOT_TOLD,
    named,
    number,
    safe,
    sorted_out,
)

# Keys of a head that have their own place on the page, or say nothing to readers.
_TOLD_ELSEWHERE = ("format", "methods", "scores", "axes", "reference", "notes", "rules")
_NAMES = 40  # of subjects that are listed


def page(
    study: Study, comparisons: Sequence[Comparison], source: str, files: Sequence[str], prefix: str
) -> str:
    """Return the page.

    Args:
        source: the file of results, as the page names it.
        files: plots and pictures that lie beside the page.
        prefix: what their names start with.
    """
    plots = {file.removeprefix(f"{prefix}-").removesuffix(".png"): f"]({file})" for file in files}
    parts = [
        "# What guidance keeps: the subject and the prompt",
        f"Made of `{source}` by `python -m lib_pg evaluate --report`: change that, not this page.",
        *(safe(note, 2000) for note in study.head.get("notes", ())),
        "## In short",
        *(_short(study, each) for each in comparisons),
        *_where_cfg_is_better(study, comparisons),
        *_presets(study, comparisons),
        "## How to read this",
        _reading(study, comparisons),
        *_differences(study, plots),
    ]
    for comparison in comparisons:
        parts += _training(study, comparison, plots)
    if "pictures" in plots:
        parts += [
            "## Pictures",
            "The same prompt and seed in each row, a column a method.",
            f"![pictures{plots['pictures']}",
        ]
    if rules := rules_told(study):
        parts += ["## How far the rules can be trusted", rules]
    parts += ["## Methods", methods_told(study), "## What made these numbers", _facts(study, comparisons)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _short(study: Study, comparison: Comparison) -> str:
    """Return one amount of training in a few lines: what differs from CFG."""
    name = safe(comparison.group.training)
    if comparison.baseline is None:
        return f"**Training: {name}.** CFG was not measured, so that nothing can be compared with it."
    base = comparison.baseline
    own = (
        f"**Training: {name}.** CFG's own best scale is {base.front.scale:g}: "
        f"{study.called('alignment')} {number(base.alignment.value)}, "
        f"{study.called('fidelity')} {number(base.fidelity.value)}."
    )
    if len(comparison.findings) == 1:
        return f"{own} No other method was measured."
    lines = [f"{own} Beside it:", ""]
    for measure, read in measures(study).items():
        found = sorted_out(comparison.findings[1:], read)
        told = [
            f"*{verdict}*: {', '.join(map(named, methods))}"
            for verdict, methods in found.items()
            if verdict in DIFFERENT
        ]
        for verdict in (NOT_REACHED, NOT_TOLD):
            if missed := len(found.get(verdict, [])):
                told.append(f"{verdict}: {missed} of {len(comparison.findings) - 1}")
        lines.append(f"- {measure}: {'; '.join(told) or NOT_SHOWN}.")
    return "\n".join(lines)


def _where_cfg_is_better(study: Study, comparisons: Sequence[Comparison]) -> Iterator[str]:
    if told := where_cfg_is_better(study, comparisons):
        yield "## Where plain CFG is better, and where no difference can be shown"
        yield (
            "Of each method the amounts of training in which its interval, for these subjects, lies below "
            "zero (*less*), includes zero (*not shown*), or in which its front ends below what CFG has (*not "
            "reached*; or *cannot be told*). Those that are not named are where the method is better."
        )
        yield told


def _presets(study: Study, comparisons: Sequence[Comparison]) -> Iterator[str]:
    if told := presets_told(study, comparisons):
        yield "## The extension's presets"
        yield (
            "Hypervolume less CFG's by amount of training, with the interval for these subjects, and the "
            "guidance scales that are best for each. Presets that are not here were not measured."
        )
        yield told


def _reading(study: Study, comparisons: Sequence[Comparison]) -> str:
    alignment, fidelity = study.called("alignment"), study.called("fidelity")
    scores = study.head["scores"]
    reference = " and ".join(f"{value:g}" for value in study.reference)
    count = sum(
        len(measures(study)) - 1 + len(each.baseline.front.scored.scales)
        for each in comparisons
        if each.baseline is not None
        for _ in each.findings[1:]
    )
    by_chance = (
        f"- This page has up to {count} differences with intervals at 95 %: if no method differed at "
        f"all, about {max(1, round(count / 20))} of them would exclude zero by chance. Look for what "
        "repeats."
    )
    return "\n".join(
        (
            f"- **{alignment}**: {safe(scores[study.alignment].get('about', ''))}. **{fidelity}**: "
            f"{safe(scores[study.fidelity].get('about', ''))}. Higher is better in both.",
            "- Every method is tried at several guidance scales; its **front** is what it reaches over them. "
            "Between neighbouring scales both scores are taken to go straight. Its **own best scale** is the "
            f"one where {alignment} times {fidelity}, each from the reference point on, is greatest.",
            f"- **{fidelity} at equal {alignment}**: the best {fidelity} on a front where {alignment} is at "
            "least what CFG has, less the same for CFG. A front that ends below that does not reach it, in "
            "95 % of the resamplings or more: *not reached*; in over 5 % of them: it *cannot be told*.",
            "- **Hypervolume**: the area below and left of the points of all scales, down to the reference "
            f"point {reference}. More scales can only add to it{_scales_differ(comparisons)}.",
            "- **Differences are paired**: all methods have the same prompts and seeds, and every resampling "
            "takes the same pictures of all of them.",
            f"- **Intervals** hold 95 % of {DRAWS} resamplings. *These subjects*: prompts, and pictures of a "
            "prompt, are resampled within each subject; that says what other prompts and seeds would give. "
            "*Other subjects*: subjects are resampled as well, and the interval is Student's, since few "
            f"subjects hardly tell how much subjects differ. {_subjects(comparisons)}{_prompts(comparisons)} "
            "Bold: without zero.",
            *([by_chance] if count else []),
        )
    )


def _scales_differ(comparisons: Sequence[Comparison]) -> str:
    lists = {each.front.scored.scales for comparison in comparisons for each in comparison.findings}
    return ", and here methods differ in their scales" if len(lists) > 1 else "; all methods have the same"


def _subjects(comparisons: Sequence[Comparison]) -> str:
    """Say how far the subjects carry."""
    counts = [len(each.group.names) for each in comparisons]
    if max(counts) == 1:
        return "Here is one subject: nothing is said of others."
    some = f"{max(counts)}" if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
    coarse = "As few as they are, that interval is coarse and wide. " if min(counts) < 10 else ""
    single = "Where there is one, nothing is said of others. " if min(counts) == 1 else ""
    return f"Here are {some} subjects. {coarse}{single}".rstrip()


def _prompts(comparisons: Sequence[Comparison]) -> str:
    """Say how far the prompts carry, where that is no further than themselves."""
    if max(each.group.prompts.max() for each in comparisons) > 0:
        return ""
    return " Here is one prompt a subject: nothing is said of others."


def _differences(study: Study, plots: Mapping[str, str]) -> Iterator[str]:
    if "differences" in plots:
        yield f"![differences to CFG{plots['differences']}"
        yield "Dot: all pictures. Thick: these subjects. Thin: other subjects. Right of the line beats CFG."
    if "omega" in plots:
        yield f"![differences to CFG over omega{plots['omega']}"
        yield (
            f"Over a constant omega: {study.called('fidelity')} and {study.called('alignment')} less CFG's "
            "where both have CFG's own best scale, and hypervolumes over all scales. Intervals: these "
            "subjects."
        )


def _training(study: Study, comparison: Comparison, plots: Mapping[str, str]) -> Iterator[str]:
    group = comparison.group
    yield f"## Training: {safe(group.training)}"
    shown = ", ".join(named(name) for name in group.names[:_NAMES])
    more = f" and {len(group.names) - _NAMES} more" if len(group.names) > _NAMES else ""
    left_out = (
        f" {group.left_out} pictures are left out: not every setting has their prompt and seed yet."
        if group.left_out
        else ""
    )
    yield (
        f"{len(group.subjects)} pictures a setting; {len(group.names)} "
        f"{'subject' if len(group.names) == 1 else 'subjects'}: {shown}{more}.{left_out}"
    )
    key = f"front-{file_part(group.training)}"
    if key in plots:
        yield f"![fronts{plots[key]}"
        resampled = "subjects resampled too" if len(group.names) > 1 else "its prompts and pictures resampled"
        yield (
            f"Above, the fronts; filled: a method's own best scale; bands: 95 % of resamplings, {resampled}. "
            "All fronts move together when pictures change: bands overlap even where paired differences do "
            "not include zero. Below, those differences with intervals for these subjects."
        )
    yield at_own_best(study, comparison)
    if comparison.baseline is not None and len(comparison.findings) > 1:
        yield at_equal_alignment(study, comparison)


def _facts(study: Study, comparisons: Sequence[Comparison]) -> str:
    """List everything that the head of the run says, and how many pictures there are."""
    pictures = sum(
        len(each.group.subjects) * len(one.scales) for each in comparisons for one in each.group.methods
    )
    facts = {
        "command": _command(study),
        "pictures": pictures,
        "seeds": f"{len(study.seeds)}, from {study.seeds[0]} to {study.seeds[-1]}",
        **{key: value for key, value in study.head.items() if key not in _TOLD_ELSEWHERE},
    }
    return "\n".join(f"- {safe(key)}: {said}" for key, value in facts.items() if (said := _said(value)))


def _command(study: Study) -> str:
    told = {name: study.head[name] for name in ("protocol", "steps", "seed") if name in study.head}
    options = " ".join(f"--{name} {value}" for name, value in told.items())
    return f"python -m lib_pg evaluate {options}"


def _said(value: Any) -> str:
    """Return a value of the head in one line; what is empty says nothing."""
    if isinstance(value, Mapping):
        return "; ".join(f"{safe(key)} {_inner(each)}" for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_inner, value))
    return f"{value:g}" if isinstance(value, float) else safe(value)


def _inner(value: Any) -> str:
    return f"({_said(value)})" if isinstance(value, (Mapping, list, tuple)) else _said(value)
