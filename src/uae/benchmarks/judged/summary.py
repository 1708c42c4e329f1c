"""A judged run's result in words."""

from uae.benchmarks.results.result import BenchResult
from uae.report.format import interval_text, value_text


def summary_text(result: BenchResult) -> str:
    """Write who judged, what is amiss, and the scores with n and 95 % intervals."""
    options = result.settings["options"]
    judge = options["judge"]
    lines = [
        f"{result.settings['benchmark']} ({result.settings['version']}), "
        f"judge {judge['kind']} {judge['name']}, {judge['dtype']}"
    ]
    if "wording" in options:
        lines.append(f"prompts {options['wording']}")
    lines += result.marks
    width = max(len(x.score.name) for x in result.scores)
    for x in result.scores:
        figure = x.estimate
        left_out = f", {figure.num_excluded} left out" if figure.num_excluded else ""
        lines.append(
            f"{x.score.name:{width}}  {value_text(figure.value, 'share'):>7}  "
            f"{interval_text(figure, 'share'):18}  n = {figure.n}{left_out}"
        )
    return "\n".join(lines)
