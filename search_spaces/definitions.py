"""Source of classes with all that they use: collected from their modules by ``ast``, in the order they must stand."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
from dataclasses import dataclass
from types import ModuleType

from torch import nn

from search_spaces.signature import remembered

STANDARD_LIBRARY = ("collections", "dataclasses", "enum", "functools", "itertools", "math", "typing")
ALLOWED_IMPORTS = ("torch", *STANDARD_LIBRARY)
"""What a printed module may import: torch, and these harmless parts of the standard library."""


class SourceError(ValueError):
    """Source that cannot be printed: says which definition and why."""


@dataclass(frozen=True)
class _Module:
    """A parsed module: text of each top-level definition, and what each imported name stands for."""

    texts: dict[str, str]
    uses: dict[str, tuple[str, ...]]
    imports: dict[str, tuple[str, str | None]]
    """Local name -> (module, name in it; None where the module itself is imported)."""

    constants: frozenset[str]
    """Definitions that are assignments."""


@remembered
def _parsed(module: ModuleType) -> _Module:
    text = inspect.getsource(module)
    lines = text.splitlines()
    texts: dict[str, str] = {}
    uses: dict[str, tuple[str, ...]] = {}
    imports: dict[str, tuple[str, str | None]] = {}
    constants = set()
    for statement in ast.parse(text).body:
        name = _defined_name(statement)
        if name is not None:
            decorators = getattr(statement, "decorator_list", [])
            first = min([statement.lineno, *(item.lineno for item in decorators)])
            texts[name] = "\n".join(lines[first - 1 : statement.end_lineno])
            if isinstance(statement, ast.Assign | ast.AnnAssign):
                constants.add(name)
            found = (item for item in ast.walk(statement) if isinstance(item, ast.Name))
            uses[name] = tuple(dict.fromkeys(item.id for item in found))
        elif isinstance(statement, ast.Import):
            for alias in statement.names:
                imports[alias.asname or alias.name] = (alias.name, None)
        elif isinstance(statement, ast.ImportFrom):
            where = _absolute(module, statement)
            imports.update({alias.asname or alias.name: (where, alias.name) for alias in statement.names})
    return _Module(texts, uses, imports, frozenset(constants))


def _defined_name(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        return statement.name
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id
    return None


def _absolute(module: ModuleType, statement: ast.ImportFrom) -> str:
    if not statement.level:
        return statement.module or ""
    package = (module.__package__ or "").split(".")
    return ".".join([*package[: len(package) - statement.level + 1], *filter(None, [statement.module])])


class Definitions:
    """Definitions gathered with ``add``, in the order they must stand, and the ``imports`` they need."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._origins: dict[str, str] = {}
        self._constants: list[str] = []
        self._imports: set[str] = set()
        self._deferred = False

    @property
    def names(self) -> set[str]:
        return set(self._texts)

    def add(self, block: type[nn.Module]) -> None:
        """Add a class and whatever it uses. Raises SourceError."""
        self._add(importlib.import_module(block.__module__), block.__name__)

    def constants(self) -> list[str]:
        """Assignments that need no class or function: they stand first."""
        return [self._texts[name] for name in self._constants]

    def texts(self) -> list[str]:
        """Classes and functions, each after what it uses."""
        return [text for name, text in self._texts.items() if name not in self._constants]

    def imports(self, also: set[str]) -> list[str]:
        """Import lines, one a module: the future first, the standard library next, torch last."""
        gathered: dict[str, set[str]] = {}
        plain: set[str] = set()
        for line in self._imports | also:
            words = line.split()
            if words[0] == "from":
                gathered.setdefault(words[1], set()).add(line.split(" import ")[1])
            else:
                plain.add(line)
        froms = [f"from {module} import {', '.join(sorted(names))}" for module, names in gathered.items()]
        torch_lines = sorted(line for line in plain if "torch" in line) + sorted(f for f in froms if "torch" in f)
        others = sorted(line for line in plain if "torch" not in line) + sorted(f for f in froms if "torch" not in f)
        future = ["from __future__ import annotations", ""] if self._deferred else []
        return [*future, *others, *([""] if others else []), *torch_lines]

    def _add(self, module: ModuleType, name: str) -> None:
        parsed = _parsed(module)
        if name in self._texts:
            if self._origins[name] != module.__name__:
                raise SourceError(f"{self._origins[name]} and {module.__name__} both define {name}; rename one")
            return
        if name not in parsed.texts:
            raise SourceError(f"{module.__name__} does not define {name} at its top level")
        self._origins[name] = module.__name__
        self._deferred |= "annotations" in parsed.imports
        self._texts[name] = ""  # its place is taken while what it uses is added, so that two may use one another
        for used in parsed.uses[name]:
            self._use(module, parsed, used)
        del self._texts[name]
        self._texts[name] = parsed.texts[name]
        if name in parsed.constants and not (set(parsed.uses[name]) - {name}) & (self.names - set(self._constants)):
            self._constants.append(name)

    def _use(self, module: ModuleType, parsed: _Module, used: str) -> None:
        if used in parsed.texts:
            self._add(module, used)
        elif used in parsed.imports:
            where, original = parsed.imports[used]
            if where.split(".")[0] in ALLOWED_IMPORTS:
                alias = "" if used in (original, where) else f" as {used}"
                line = f"import {where}{alias}" if original is None else f"from {where} import {original}{alias}"
                self._imports.add(line)
            elif original == used:
                self._add(importlib.import_module(where), original)
            else:
                raise SourceError(f"{module.__name__}: import {used} with `from {where} import name`, without `as`")
        elif not hasattr(builtins, used) and hasattr(module, used):
            raise SourceError(f"{module.__name__}: {used} is not defined where it can be printed")
