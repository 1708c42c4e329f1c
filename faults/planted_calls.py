"""Fault 34: calls that run code from data, planted in copies of the package's files."""

import ast
import random
import sys
import tempfile
from pathlib import Path

import uae
from faults.ast_gate import forbidden_in
from faults.trials import Outcome, arguments, report

PACKAGE = Path(uae.__file__).parent

PLANTED = (
    "import pickle\npickle.loads(data)",
    "import pickle as p\np.load(file)",
    "from pickle import loads as parse\nparse(data)",
    "import dill",
    "torch.load(path)",
    "torch.load(path, weights_only=False)",
    "torch.load(path, weights_only=flag)",
    "from torch import load",
    "import torch as t\nt.load(path)",
    "torch.hub.load(repository, name)",
    "AutoModel.from_pretrained(name, trust_remote_code=True)",
    "AutoModel.from_pretrained(name, trust_remote_code=config.trust)",
    "AutoModel.from_pretrained(name, **{'trust_remote_code': True})",
    "tarfile.open(path).extractall()",
    "getattr(archive, 'extractall')(folder)",
    "subprocess.run(command, shell=True)",
    "subprocess.getoutput(command)",
    "os.system(command)",
    "import os as system\nsystem.popen(command)",
    "from os import system",
    "eval(text)",
    "exec(text)",
    "run = eval",
    "import builtins\nbuiltins.eval(text)",
    "__import__(name)",
    "np.load(path, allow_pickle=True)",
    "yaml.load(text, yaml.SafeLoader)",
    "yaml.unsafe_load(text)",
)


def planted(source: str, call: str, chance: random.Random) -> str:
    """Put statements before a random one of a source, at any depth."""
    tree = ast.parse(source)
    blocks = [node.body for node in ast.walk(tree) if isinstance(getattr(node, "body", 0), list)]
    block = chance.choice(blocks)
    place = chance.randrange(len(block) + 1)
    block[place:place] = ast.parse(call).body
    return ast.unparse(tree)


def is_found(path: Path, call: str, chance: random.Random) -> bool:
    """Plant a call in a copy of a file, beside an unchanged copy; only the first may be named."""
    with tempfile.TemporaryDirectory() as folder:
        source = path.read_text()
        Path(folder, "spoiled.py").write_text(planted(source, call, chance))
        Path(folder, "clean.py").write_text(source)
        return list(forbidden_in(Path(folder))) == ["spoiled.py"]


def main() -> int:
    """Check the package itself, then plant each call in random files of it."""
    given = arguments(100 * len(PLANTED))
    chance = random.Random(given.seed)
    files = sorted(PACKAGE.rglob("*.py"))
    in_package = forbidden_in(PACKAGE)
    found = sum(
        is_found(chance.choice(files), PLANTED[i % len(PLANTED)], chance)
        for i in range(given.trials)
    )
    return report(
        Outcome(
            number=34,
            fault="code that runs data (AST gate)",
            how=f"{len(PLANTED)} kinds, each planted at a random place of random files",
            trials=given.trials,
            detected=found,
            lost=f"{len(in_package)} of the {len(files)} files as shipped hold any",
            passed=found == given.trials and not in_package,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
