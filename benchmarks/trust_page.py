"""
Render ``docs/trust.md`` from figures that commands measured; nothing on it is written by hand.

    python benchmarks/trust_page.py [--check]

It reads what the workshop holds (calibration, fresh runs) and ``benchmarks/figures/`` (verdicts,
runs with other lines of TensorFlow). What has no file yet is called not measured. `README.md`
beside this file says how each of them is made. With ``--check`` nothing is written; exit code 1
when the page is not what the figures say.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
from pathlib import Path

import jinja2
import msgspec
from bench import FIGURES, ROOT
from tally import NAMINGS, Verdicts

from nbassay.calibration import Calibration, calibrated_bound, read_calibration
from nbassay.drift import LEVEL, Drift, find_drift
from nbassay.files import write_whole
from nbassay.intervals import Share
from nbassay.reporting.text import percent, plural
from nbassay.trust import Trust, asked, read_trust
from nbassay.workshop import Workshop, read_workshop

PAGE = ROOT / "docs" / "trust.md"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scatter:
    """How one accuracy of right solutions scatters; all but *runs* and *below* are 0..1."""

    check: str
    mean: float
    sd: float
    low: float
    high: float
    nominal: float
    below: int
    """Runs below the nominal value."""
    bound: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrustPage:
    """All that the template may use."""

    calibration: Calibration
    scatter: tuple[Scatter, ...]
    trust: Trust | None
    is_trust_stale: bool
    """Whether the fresh runs were graded under other bounds than today's."""
    verdicts: Verdicts | None
    lines: tuple[Drift, ...]
    """Other lines of the packages, held against the calibration."""
    level: float
    """Chance of a false alarm in one comparison."""


def read_page(workshop: Workshop, figures: Path) -> TrustPage:
    """
    Read everything that was measured.

    Raises:
        ManifestError: Calibration or fresh runs cannot be read.
    """
    manifest = workshop.manifest
    assert manifest.calibration is not None
    calibration = read_calibration(workshop.path(manifest.calibration))
    trust = read_trust(workshop)
    verdicts = figures / "verdicts.json"
    return TrustPage(
        calibration=calibration,
        scatter=tuple(
            scatter_of(
                check_id, [getattr(run, one.measure) for run in calibration.runs], one.nominal
            )
            for check_id, one in manifest.bounds.items()
        ),
        trust=trust,
        is_trust_stale=trust is not None and trust.bounds != asked(workshop),
        verdicts=msgspec.json.decode(verdicts.read_bytes(), type=Verdicts)
        if verdicts.exists()
        else None,
        lines=tuple(
            find_drift(read_calibration(path), calibrated=calibration, bounds=manifest.bounds)
            for path in sorted((figures / "lines").glob("*.json"))
        ),
        level=LEVEL,
    )


def scatter_of(check_id: str, values: list[float], nominal: float) -> Scatter:
    """The figures of one accuracy."""
    return Scatter(
        check=check_id,
        mean=statistics.fmean(values),
        sd=statistics.stdev(values),
        low=min(values),
        high=max(values),
        nominal=nominal,
        below=sum(value < nominal for value in values),
        bound=calibrated_bound(values, nominal).value,
    )


def interval(share: Share) -> str:
    """``0.0 % to 1.8 %``."""
    return f"{percent(share.low, decimals=1)} to {percent(share.high, decimals=1)}"


def one_in(chance: float) -> str:
    """``once in 8,000``: two digits, rounded towards the larger chance."""
    times = int(1 / chance)
    unit = 10 ** max(0, len(str(times)) - 2)
    return f"once in {times // unit * unit:,}"


def versions(packages: dict[str, str]) -> str:
    """``tensorflow 2.21.0, keras 3.15.1``."""
    return ", ".join(f"{name} {version}" for name, version in packages.items())


def render(page: TrustPage) -> str:
    """The page as Markdown."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - Markdown of our own figures
    )
    environment.filters |= {
        "interval": interval,
        "one_in": one_in,
        "percent": percent,
        "plural": plural,
        "versions": versions,
    }
    return environment.get_template("trust.md.j2").render(page=page, namings=NAMINGS)


def main() -> int:
    """Render, write or compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    asked_for = parser.parse_args()
    text = render(read_page(read_workshop(ROOT), FIGURES))
    if asked_for.check:
        is_true = PAGE.exists() and PAGE.read_text("utf-8") == text
        print("docs/trust.md is what the figures say" if is_true else "docs/trust.md is outdated")
        return 0 if is_true else 1
    write_whole(PAGE, text)
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
