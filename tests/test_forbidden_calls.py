"""No file of the package can run code that comes in with data: fault test 34, an AST gate."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "uae"

PICKLE_MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "marshal",
    "shelve",
    "joblib",
}
BUILTINS = {"eval", "exec", "compile", "__import__"}
NAMES = {"extractall", "trust_remote_code"}
OS_SHELLS = {"system", "popen"}
ARGUMENTS = {
    "weights_only": False,
    "trust_remote_code": True,
    "allow_pickle": True,
    "shell": True,
}
"""Keyword arguments, with the value that is never passed; a variable might hold it, so neither."""


def dotted(node: ast.expr) -> str:
    """ "torch.load" for the expression torch.load; "" for what is no chain of names."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def faults_of_call(call: ast.Call) -> Iterator[str]:
    name = dotted(call.func)
    keywords = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    if name in BUILTINS:
        yield f"{name}()"
    if name.rpartition(".")[2] == "extractall":
        yield "extractall()"
    if name in {f"os.{shell}" for shell in OS_SHELLS}:
        yield f"{name}()"
    if name == "torch.load" and "weights_only" not in keywords:
        yield "torch.load() without weights_only=True"
    for argument, forbidden in ARGUMENTS.items():
        value = keywords.get(argument)
        if value is not None and not (
            isinstance(value, ast.Constant) and value.value is (not forbidden)
        ):
            yield f"{argument} that is not {not forbidden}"


def faults(source: str) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            found += faults_of_call(node)
        elif isinstance(node, ast.Import):
            modules = {alias.name.split(".")[0] for alias in node.names}
            found += [f"import {module}" for module in modules & PICKLE_MODULES]
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".")[0]
            names = {alias.name for alias in node.names}
            if module in PICKLE_MODULES:
                found.append(f"from {module} import")
            if (module == "torch" and "load" in names) or (module == "os" and names & OS_SHELLS):
                found.append(f"from {module} import {', '.join(sorted(names))}")
        elif isinstance(node, ast.Constant) and node.value in NAMES:
            found.append(f"the string {node.value!r}")  # a key of **kwargs, or getattr
    return found


def test_the_package_has_none():
    files = sorted(PACKAGE.rglob("*.py"))
    assert files
    found = {str(path.relative_to(PACKAGE)): faults(path.read_text()) for path in files}
    assert not {path: names for path, names in found.items() if names}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.loads(data)",
        "from pickle import loads as parse",
        "import dill",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "from torch import load",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=config.trust)",
        "AutoModel.from_pretrained(name, **{'trust_remote_code': True})",
        "tarfile.open(path).extractall()",
        "subprocess.run(command, shell=True)",
        "os.system(command)",
        "from os import system",
        "eval(text)",
        "exec(text)",
        "__import__(name)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_a_fault_is_seen(source: str):
    assert faults(source)


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "re.compile(pattern)",
        "torch.compile(model)",
        "torch.load(path, weights_only=True)",
        "subprocess.run(command, shell=False)",
        "AutoModel.from_pretrained(name, trust_remote_code=False)",
        "from safetensors.torch import load_file",
        "json.loads(text)",
    ],
)
def test_what_is_safe_passes(source: str):
    assert not faults(source)
