"""Every method beside CFG: at its own best scale, at equal alignment, at equal fidelity, and as an area."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lib_pg.cli.evaluate.report.bootstrap import Array, Draws, Estimate, Means, draw, estimate
from lib_pg.cli.evaluate.report.fronts import best_at, hypervolume, own_best
from lib_pg.cli.evaluate.report.study import Group, Scored, Study

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


@dataclass(frozen=True, eq=False)
class Finding:
    """What is known of one method.

    Attributes:
        alignment, fidelity: at its own best scale.
        volume: its hypervolume.
        more_volume: less CFG's, paired.
        more_fidelity: less CFG's, both at least at the alignment of CFG's own best scale; None where the
            method does not reach that.
        more_alignment: the same for alignment, both at least at the fidelity of CFG's own best scale.
    """

    front: Front
    alignment: Estimate
    fidelity: Estimate
    volume: Estimate
    more_volume: Estimate | None = None
    more_fidelity: Estimate | None = None
    more_alignment: Estimate | None = None

    @property
    def method(self) -> str:
        return self.front.scored.method


@dataclass(frozen=True, eq=False)
class Comparison:
    """One amount of training: CFG first where it was measured, then the others in their order."""

    group: Group
    draws: Draws
    findings: tuple[Finding, ...]

    @property
    def baseline(self) -> Finding | None:
        return self.find(BASELINE)

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
    return Front(scored, alignment, fidelity, own_best(alignment.value(), fidelity.value(), study.reference))


def _finding(study: Study, front: Front, baseline: Front | None, draws: Draws) -> Finding:
    def volume(of: Front, part: int) -> Array:
        return hypervolume(of.alignment.part(part), of.fidelity.part(part), study.reference)

    def known(statistic: Callable[[int], Array]) -> Estimate:
        found = estimate(statistic, draws)
        assert found is not None, "a mean of finite scores is finite"
        return found

    finding = Finding(
        front,
        known(lambda part: front.alignment.part(part)[:, front.best]),
        known(lambda part: front.fidelity.part(part)[:, front.best]),
        known(lambda part: volume(front, part)),
    )
    if baseline is None or front is baseline:
        return finding

    def more(along: str, wanted: str) -> Estimate | None:
        def statistic(part: int) -> Array:
            level = getattr(baseline, along).part(part)[:, baseline.best]
            own, other = (
                best_at(level, getattr(each, along).part(part), getattr(each, wanted).part(part))
                for each in (front, baseline)
            )
            return own - other

        return estimate(statistic, draws)

    return Finding(
        front, finding.alignment, finding.fidelity, finding.volume,
        estimate(lambda part: volume(front, part) - volume(baseline, part), draws),
        more("alignment", "fidelity"),
        more("fidelity", "alignment"),
    )  # fmt: skip
