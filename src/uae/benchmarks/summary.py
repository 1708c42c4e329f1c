"""A run's result in words."""

from uae.benchmarks.results.result import BenchResult
from uae.report.format import interval_text, value_text


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
        figure, kind = x.estimate, "share" if judge or x.score.is_share else "number"
        left_out = f", {figure.num_excluded} left out" if figure.num_excluded else ""
        lines.append(
            f"{x.score.name:{width}}  {value_text(figure.value, kind):>7}  "
            f"{interval_text(figure, kind):18}  n = {figure.n}{left_out}"
        )
    return "\n".join(lines)
