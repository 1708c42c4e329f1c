"""A run's result in words."""

from uae.benchmarks.results.result import BenchResult
from uae.report.format import Kind, interval_text, value_text
from uae.report.statistics import Estimate


def summary_text(result: BenchResult) -> str:
    """Write what was run, who judged, what is amiss, and the scores with n and 95 % intervals."""
    options = result.settings["options"]
    head = f"{result.settings['benchmark']} ({result.settings['version']})"
    if judge := options.get("judge"):
        head += f", judge {judge['kind']} {judge['name']}, {judge['dtype']}"
    wording = [f"prompts {options['wording']}"] if "wording" in options else []
    lines = [head, *wording, *result.marks]
    width = max(len(x.score.name) for x in result.scores)
    for x in result.scores:
        kind = "share" if judge or x.score.is_share else "number"
        lines.append(f"{x.score.name:{width}}  {figure_text(x.estimate, kind)}")
    return "\n".join(lines)


def figure_text(figure: Estimate, kind: Kind, width: int = 18) -> str:
    """Write a figure, its interval in so many columns, its n, and how many were left out of it."""
    left_out = f", {figure.num_excluded} left out" if figure.num_excluded else ""
    interval = f"{interval_text(figure, kind):{width}}"
    return f"{value_text(figure.value, kind):>7}  {interval}  n = {figure.n}{left_out}"
