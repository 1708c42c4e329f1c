"""The first look at images that a benchmark measures: each file's container, no picture decoded.

A start costs what reading costs. A picture that turns out damaged when it is decoded is left out
then, as one row that is counted.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

from uae.core.ranks import current, gathered, share
from uae.data.survey import looks
from uae.runs.progress import Progress

log = logging.getLogger(__name__)

_SHOWN_EVERY = 16


def faults_of(paths: Mapping[str, Path], what: str = "images") -> dict[str, str]:
    """Return why files are no pictures that can be opened, by name; all ranks share the work.

    A bar, or a line of progress, says how many are done of `what` they are.
    """
    names, size = share(list(paths)), current().size
    # no bar where no lines are said: with -q, and on all ranks but the first
    progress = Progress(terminal=None if log.isEnabledFor(logging.INFO) else False)
    progress.show(what, 0, len(paths), unit="image")
    own = {}
    pairs = zip(names, looks([paths[name] for name in names]), strict=True)
    for done, (name, look) in enumerate(pairs, start=1):
        if fault := look.fault:
            own[name] = f"{fault.reason}: {fault.detail}"
        if done % _SHOWN_EVERY == 0 or done == len(names):
            progress.show(what, min(done * size, len(paths)), len(paths), unit="image")
    progress.close()
    faults = {name: fault for part in gathered(own) for name, fault in part.items()}
    return {name: faults[name] for name in paths if name in faults}
