"""The benchmarks by name: `uae eval NAME` scores, `uae eval NAME-images` draws."""

from typing import Any

from uae.benchmarks.benchmark import Benchmark
from uae.benchmarks.dpg.benchmark import Dpg
from uae.benchmarks.geneval.benchmark import GenEval
from uae.benchmarks.geneval2.benchmark import GenEval2
from uae.benchmarks.geneval_pp.benchmark import GenEvalPlusPlus
from uae.benchmarks.mmt_bench.benchmark import MmtBench

BENCHMARKS: dict[str, Benchmark[Any]] = {
    "mmt-bench": MmtBench(),
    "geneval": GenEval(),
    "geneval2": GenEval2(),
    "geneval-pp": GenEvalPlusPlus(),
    "dpg": Dpg(),
}
