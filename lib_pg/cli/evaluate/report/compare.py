"""Every method beside CFG: at its own best scale, at equal alignment, at equal fidelity, and as an area."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lib_pg.cli.evaluate.report.bootstrap import Array, Draws, Estimate, Means, Part, draw, estimate
from lib_pg.cli.evaluate.report.fronts import best_at, hypervolume, own_best
from lib_pg.cli.evaluate.report.study import Axis, Group, Scored, Study

BASELINE = "CFG"


@dataclass(frozen=True, eq=False)
class Front:
    """A method's curve over its scales.

    Attributes:
        alignment, fidelity: means of the scales, all cells and draws.
        best: which scale is its own best one.
    """

    scored: Scored
    alignment: Means
    fidelity: Means
    best: int

    @property
    def scale(self) -> float:
        """Its own best scale."""
        return self.scored.scales[self.best]

    def means(self, axis: Axis) -> Means:
        return self.alignment if axis == "alignment" else self.fidelity


@dataclass(frozen=True, eq=False)
class Finding:
    """What is known of one method; differences are to CFG, and paired.

    Attributes:
        alignment, fidelity: at its own best scale.
        volume: its hypervolume.
        more_volume: the difference of hypervolumes.
        more_fidelity: for each scale of CFG, the difference of the best fidelities, both at least at the
            alignment that CFG has at that scale; undefined where the method does not reach that.
        more_alignment: the same for alignment, both at least at the fidelity of CFG's own best scale.
        same_scale: the differences of alignment and of fidelity where both have CFG's own best scale; None
            where the method was not tried at that.
        cfg_best: the place of CFG's own best scale among its scales.
    """

    front: Front
    alignment: Estimate
    fidelity: Estimate
    volume: Estimate
    more_volume: Estimate | None = None
    more_fidelity: tuple[Estimate, ...] = ()
    more_alignment: Estimate | None = None
    same_scale: tuple[Estimate, Estimate] | None = None
    cfg_best: int = 0

    @property
    def method(self) -> str:
        return self.front.scored.method

    @property
    def at_best(self) -> Estimate | None:
        """The difference of the best fidelities at the alignment of CFG's own best scale."""
        return self.more_fidelity[self.cfg_best] if self.more_fidelity else None


@dataclass(frozen=True, eq=False)
class Comparison:
    """One amount of training: CFG first where it was measured, then the others in their order."""

    group: Group
    draws: Draws
    findings: tuple[Finding, ...]

    @property
    def baseline(self) -> Finding | None:
        return self.find(BASELINE)

    def mean(self, finding: Finding, score: str) -> float:
        """Return the mean of any score of a method at its own best scale."""
        scores = finding.front.scored.scores[score][finding.front.best]
        return float(self.draws.means(scores[None])["whole"][0, 0])

    def find(self, method: str) -> Finding | None:
        return next((each for each in self.findings if each.method == method), None)


def compare(study: Study, draws: int) -> list[Comparison]:
    """Return a comparison for each amount of training."""
    return [_comparison(study, group, draws) for group in study.groups]


def _comparison(study: Study, group: Group, count: int) -> Comparison:
    draws = draw(group.subjects, group.prompts, count)
    fronts = {each.method: _front(study, each, draws) for each in group.methods}
    baseline = fronts.get(BASELINE)
    ordered = sorted(fronts.values(), key=lambda front: front is not baseline)
    return Comparison(group, draws, tuple(_finding(study, front, baseline, draws) for front in ordered))


def _front(study: Study, scored: Scored, draws: Draws) -> Front:
    alignment, fidelity = (draws.means(scored.scores[name]) for name in (study.alignment, study.fidelity))
    return Front(
        scored, alignment, fidelity, own_best(alignment["whole"][0], fidelity["whole"][0], study.reference)
    )


def _finding(study: Study, front: Front, baseline: Front | None, draws: Draws) -> Finding:
    def volume(of: Front, part: Part) -> Array:
        return hypervolume(of.alignment[part], of.fidelity[part], study.reference)

    finding = Finding(
        front,
        estimate(lambda part: front.alignment[part][:, front.best], draws),
        estimate(lambda part: front.fidelity[part][:, front.best], draws),
        estimate(lambda part: volume(front, part), draws),
    )
    if baseline is None or front is baseline:
        return finding
    return replace(
        finding,
        more_volume=estimate(lambda part: volume(front, part) - volume(baseline, part), draws),
        more_fidelity=tuple(
            _more("alignment", "fidelity", scale, front, baseline, draws)
            for scale in range(len(baseline.scored.scales))
        ),
        more_alignment=_more("fidelity", "alignment", baseline.best, front, baseline, draws),
        same_scale=_same_scale(front, baseline, draws),
        cfg_best=baseline.best,
    )


def _more(along: Axis, wanted: Axis, scale: int, front: Front, baseline: Front, draws: Draws) -> Estimate:
    """Compare the best `wanted` where `along` is at least CFG's at one of its scales."""

    def statistic(part: Part) -> Array:
        level = baseline.means(along)[part][:, scale]
        own, other = (
            best_at(level, each.means(along)[part], each.means(wanted)[part]) for each in (front, baseline)
        )
        return own - other

    return estimate(statistic, draws)


def _same_scale(front: Front, baseline: Front, draws: Draws) -> tuple[Estimate, Estimate] | None:
    if baseline.scale not in front.scored.scales:
        return None
    place = front.scored.scales.index(baseline.scale)

    def difference(axis: Axis) -> Estimate:
        own, other = front.means(axis), baseline.means(axis)
        return estimate(lambda part: own[part][:, place] - other[part][:, baseline.best], draws)

    return difference("alignment"), difference("fidelity")
