"""Every public name has a docstring, which names the errors that it raises and gives the shapes of its arrays.

CONTRIBUTING.md ("Docstrings") has the rules. A name is public if neither it nor its module's path has a leading
underscore. Special methods such as `__init__` share the docstring of their class, and a method that replaces one of a
base class in asrkit shares that method's.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import asrkit

ROOT = Path(asrkit.__file__).parent

Function = ast.FunctionDef | ast.AsyncFunctionDef
ARRAY = re.compile(r"\b(ndarray|NDArray|Tensor)\b")
# "(frames, dims)", "(num_samples,)", "(2, D + 1)"; or in words.
SHAPE = re.compile(r"\([\w' +*/.-]+,(?: ?[\w' +*/.-]+,?)*\)|\b\d-D\b|\bshape\b|\bscalar\b")


@dataclass
class Package:
    """What the docstrings of one module may refer to in others.

    `makers`: the error that a function returns, by the function's name. `classes`: definitions by their names.
    """

    makers: dict[str, str] = field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)

    def add(self, tree: ast.Module) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                self.classes[node.name] = node
            elif isinstance(node, Function) and node.returns and ast.unparse(node.returns).endswith("Error"):
                self.makers[node.name] = ast.unparse(node.returns)

    def inherited(self, of: ast.ClassDef, method: str) -> str:
        """The docstring of the method that `method` of the class replaces, or nothing."""
        for base in of.bases:
            definition = self.classes.get(ast.unparse(base).partition("[")[0].rpartition(".")[2])
            if definition is not None and definition is not of:
                replaced = [node for node in definition.body if isinstance(node, Function) and node.name == method]
                text = ast.get_docstring(replaced[0]) if replaced else None
                if found := text or self.inherited(definition, method):
                    return found
        return ""

    def raised(self, body: list[ast.stmt], caught: frozenset[str] = frozenset()) -> Iterator[str]:
        """Names of the errors that statements raise themselves (not in a nested function) and do not catch."""
        for node in body:
            if isinstance(node, ast.Raise) and node.exc is not None:
                called = ast.unparse(getattr(node.exc, "func", node.exc)).split(".")[-1]
                name = self.makers.get(called, called)
                if name[0].isupper() and not {name, "Exception"} & caught:
                    yield name
            elif isinstance(node, ast.Try):
                types = [handler.type for handler in node.handlers if handler.type is not None]
                names = {ast.unparse(each) for kind in types for each in getattr(kind, "elts", [kind])}
                yield from self.raised(node.body, caught | names)
                for handler in node.handlers:
                    yield from self.raised(handler.body, caught)
                yield from self.raised([*node.orelse, *node.finalbody], caught)
            elif not isinstance(node, Function | ast.ClassDef):
                yield from self.raised([*getattr(node, "body", []), *getattr(node, "orelse", [])], caught)
                for case in getattr(node, "cases", []):
                    yield from self.raised(case.body, caught)

    def faults(self, tree: ast.Module, module: str) -> Iterator[str]:
        """A line for each fault of a module's docstrings."""
        if not ast.get_docstring(tree):
            yield f"{module}: no docstring"
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield from self.class_faults(node, f"{module}: {node.name}")
            elif isinstance(node, Function) and is_checked(node):
                yield from self.function_faults(node, f"{module}: {node.name}", ast.get_docstring(node) or "")

    def class_faults(self, node: ast.ClassDef, name: str) -> Iterator[str]:
        about = ast.get_docstring(node) or ""
        if not about:
            yield f"{name}: no docstring"
        fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
        yield from array_faults([ast.unparse(each.target) for each in fields if is_array(each.annotation)], name, about)
        for each in node.body:
            if isinstance(each, ast.ClassDef) and not each.name.startswith("_"):
                yield from self.class_faults(each, f"{name}.{each.name}")
            elif isinstance(each, Function) and is_checked(each):
                text = ast.get_docstring(each) or self.inherited(node, each.name)
                if each.name.startswith("__"):
                    text = f"{about}\n{text}"
                yield from self.function_faults(each, f"{name}.{each.name}", text)

    def function_faults(self, node: Function, name: str, text: str) -> Iterator[str]:
        if not text.strip():
            yield f"{name}: no docstring"
            return
        told = text.partition("Raise")[2]
        for error in dict.fromkeys(self.raised(node.body)):
            if not error.startswith("_") and not re.search(rf"\b{error}\b", told):
                yield f'{name}: raises {error}; expected that name after "Raises"'
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        yield from array_faults([each.arg for each in arguments if is_array(each.annotation)], name, text)
        if is_array(node.returns) and not SHAPE.search(text):
            yield f"{name}: no shape of the array that it returns"


def array_faults(names: list[str], where: str, text: str) -> Iterator[str]:
    """Faults of the docstring `text` on the arrays `names`."""
    for name in names:
        if not re.search(rf"\b{name}\b", text):
            yield f"{where}: does not say what the array {name} is"
    if names and not SHAPE.search(text):
        yield f"{where}: no shape of {', '.join(names)}"


def is_array(annotation: ast.expr | None) -> bool:
    return annotation is not None and ARRAY.search(ast.unparse(annotation)) is not None


def is_checked(function: Function) -> bool:
    """Whether a function is public or special, and not one more definition of a name that is described already."""
    decorators = {ast.unparse(each).rpartition(".")[2] for each in function.decorator_list}
    is_private = function.name.startswith("_") and not function.name.startswith("__")
    return not is_private and not decorators & {"overload", "setter"}


def faults_of(sources: dict[str, str]) -> list[str]:
    """The faults of modules, given as name -> text."""
    package, trees = Package(), {name: ast.parse(text) for name, text in sources.items()}
    for tree in trees.values():
        package.add(tree)
    return [fault for name, tree in trees.items() for fault in package.faults(tree, name)]


def test_docstrings_are_whole() -> None:
    paths = {str(path.relative_to(ROOT)): path for path in sorted(ROOT.rglob("*.py"))}
    public = {name: path for name, path in paths.items() if not re.search(r"(^|/)_(?!_)", name)}
    assert len(public) > 200
    assert faults_of({name: path.read_text(encoding="utf-8") for name, path in public.items()}) == []


EXAMPLE = '''
"""A module."""
class Shape:
    """A plane one."""
    corners: np.ndarray
    def __init__(self, at: np.ndarray): ...
    def area(self):
        """Its area."""
    def _hidden(self): ...
    @overload
    def grown(self): ...
class Square(Shape):
    """Raises ValueError if its `corners`, (4, 2), are no square; `at` is (2,)."""
    def area(self): ...
    def side(self): ...
    def __getitem__(self, place):
        raise ValueError("no square")
def lost() -> AudioError:
    """An error."""
def find(samples: np.ndarray) -> np.ndarray:
    """Finds `samples`."""
    try:
        if samples:
            raise KeyError
        raise KeyError("a")
    except KeyError:
        raise lost()
def whole(samples: np.ndarray) -> np.ndarray:
    """Finds in `samples`, (num_samples,), what is (frames, dims). Raises AudioError without any."""
    def inner():
        raise KeyError("b")
    raise lost()
'''


def test_what_is_missing_is_found() -> None:
    assert faults_of({"a.py": EXAMPLE, "b.py": "def _private(): ...\ndef public(): ..."}) == [
        "a.py: Shape: does not say what the array corners is",
        "a.py: Shape: no shape of corners",
        "a.py: Shape.__init__: does not say what the array at is",
        "a.py: Shape.__init__: no shape of at",
        "a.py: Square.side: no docstring",
        'a.py: find: raises AudioError; expected that name after "Raises"',
        "a.py: find: no shape of samples",
        "a.py: find: no shape of the array that it returns",
        "b.py: no docstring",
        "b.py: public: no docstring",
    ]
