"""No file of the package can run code that comes in with data; the gate itself is in `faults`."""

import pytest

from faults.ast_gate import forbidden, forbidden_in
from faults.planted_calls import PACKAGE, PLANTED


def test_the_package_has_none():
    assert list(PACKAGE.rglob("*.py"))
    assert not forbidden_in(PACKAGE)


@pytest.mark.parametrize("source", PLANTED)
def test_a_fault_is_seen(source: str):
    assert forbidden(source)


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "re.compile(pattern)",
        "torch.compile(model)",
        "class Settings:\n    compile: bool = False",
        "from re import compile as pattern\npattern(text)",
        "torch.load(path, weights_only=True)",
        "subprocess.run(command, shell=False)",
        "AutoModel.from_pretrained(name, trust_remote_code=False)",
        "from safetensors.torch import load_file",
        "json.loads(text)",
        "yaml.safe_load(text)",
    ],
)
def test_what_is_safe_passes(source: str):
    assert not forbidden(source)
