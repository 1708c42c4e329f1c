"""The gate of fault 34: finds, in source code, what can run code that comes in with data."""

import ast
from collections.abc import Iterator
from pathlib import Path

_PICKLE_MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "marshal",
    "shelve",
    "joblib",
}
_BUILTINS = {"eval", "exec", "compile", "__import__"}
_FUNCTIONS = (
    _BUILTINS
    | {f"builtins.{name}" for name in _BUILTINS}
    | {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
    | {"torch.hub.load", "torch.jit.load", "torch.serialization.load", "runpy.run_path"}
    | {"yaml.load", "yaml.full_load", "yaml.unsafe_load", "yaml.Loader", "yaml.UnsafeLoader"}
)
"""Never named, called or not: a variable might hold them."""
_STRINGS = {"extractall", "trust_remote_code"}
_ARGUMENTS = {
    "weights_only": False,
    "trust_remote_code": True,
    "allow_pickle": True,
    "shell": True,
}
"""Keyword arguments, with the value that is never passed; a variable might hold it, so neither."""


def forbidden(source: str) -> list[str]:
    """Return what a source may not hold, each in words."""
    tree = ast.parse(source)
    origins = _origins(tree)
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += _of_import(node)
        elif isinstance(node, ast.Call):
            found += _of_call(node, origins)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            name = _dotted(node, origins)
            if name in _FUNCTIONS or name.rpartition(".")[2] == "extractall":
                found.append(name)
        elif isinstance(node, ast.Constant) and node.value in _STRINGS:
            found.append(f"the string {node.value!r}")  # a key of **kwargs, or getattr
    return found


def forbidden_in(folder: Path) -> dict[str, list[str]]:
    """Return what the Python files below a folder may not hold, by file; clean ones left out."""
    found = {
        str(path.relative_to(folder)): forbidden(path.read_text())
        for path in sorted(folder.rglob("*.py"))
    }
    return {path: faults for path, faults in found.items() if faults}


def _origins(tree: ast.Module) -> dict[str, str]:
    """Return the full names behind imported ones: {"load": "torch.load", "t": "torch"}."""
    origins: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            origins |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                origins[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return origins


def _dotted(node: ast.expr, origins: dict[str, str]) -> str:
    """Return "torch.load" for the expression torch.load, ".x" for what is no chain of names."""
    if isinstance(node, ast.Name):
        return origins.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, origins)}.{node.attr}"
    return ""


def _of_import(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    names = [alias.name for alias in node.names]
    modules = names if isinstance(node, ast.Import) else [node.module or ""]
    yield from (f"import of {name}" for name in modules if name.split(".")[0] in _PICKLE_MODULES)
    if isinstance(node, ast.ImportFrom):
        full_names = [f"{node.module}.{name}" for name in names]
        yield from (f"import of {name}" for name in full_names if name in _FUNCTIONS)
        yield from (f"import of {name}" for name in full_names if name == "torch.load")


def _of_call(call: ast.Call, origins: dict[str, str]) -> Iterator[str]:
    keywords = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    if _dotted(call.func, origins) == "torch.load" and "weights_only" not in keywords:
        yield "torch.load without weights_only=True"
    for argument, never in _ARGUMENTS.items():
        value = keywords.get(argument)
        if value is not None and not (
            isinstance(value, ast.Constant) and value.value is (not never)
        ):
            yield f"{argument} that is not {not never}"
