"""A result of Unified-Bench or of a duel in lines."""

from uae.benchmarks.results.result import BenchResult
from uae.benchmarks.unified_bench.run import NUM_TOKENS
from uae.report.format import interval_text, value_text
from uae.report.statistics import Estimate


def summary_text(result: BenchResult) -> str:
    """Write a result as a table, with n and 95 % intervals."""
    settings = result.settings
    lines = [
        f"{settings['benchmark']}: {settings['model']['name']}",
        f"{result.num_items} images, {result.num_excluded} left out; 95 % intervals",
    ]
    lines += result.marks
    width = max(len(x.score.name) for x in result.scores)
    for x in result.scores:
        lines.append(f"  {x.score.name:{width}}  {_figure(x.estimate, x.score.name)}")
    return "\n".join(lines)


def _figure(figure: Estimate, name: str) -> str:
    kind = "count" if name.endswith(NUM_TOKENS) else "number"
    left_out = f", {figure.num_excluded} left out" if figure.num_excluded else ""
    interval = interval_text(figure, kind)
    return f"{value_text(figure.value, kind):>7}  {interval:16}  n = {figure.n}{left_out}"
