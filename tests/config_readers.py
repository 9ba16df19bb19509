"""Finds in the source where each field of a config class is read: `config.optim.opt`, wherever `config` comes from."""

import ast
import dataclasses
from collections import defaultdict
from pathlib import Path

from configs import schema

ROOT = Path(__file__).parent.parent
PLACES = ("*.py", "factory/*.py", "datasets/**/*.py", "engine/**/*.py", "deploy/**/*.py", "models/**/*.py")

CLASSES = {name: kind for name, kind in vars(schema).items() if dataclasses.is_dataclass(kind)}


class _Reads(ast.NodeVisitor):
    """Collects (class, field) of the reads in one file.

    The class of an expression is known by annotations (`config: OptimConfig`, of parameters and of class attributes),
    by `parse(TrainConfig, ...)`, and by assignments of such expressions to names and attributes.
    """

    def __init__(self):
        self.attributes: dict[str, str] = {}  # attributes of objects that are no configs: `self.config`
        self.scopes: list[dict[str, str]] = [{}]
        self.found: set[tuple[str, str]] = set()

    def class_of(self, node: ast.expr) -> str | None:
        if isinstance(node, ast.Name):
            return next((scope[node.id] for scope in reversed(self.scopes) if node.id in scope), None)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "parse" and node.args:
            return ast.unparse(node.args[0])
        if not isinstance(node, ast.Attribute):
            return None
        owner = self.class_of(node.value)
        if owner is None:
            return self.attributes.get(node.attr)
        field = next((field for field in dataclasses.fields(CLASSES[owner]) if field.name == node.attr), None)
        return field.type.__name__ if field and dataclasses.is_dataclass(field.type) else None

    def visit_Attribute(self, node):
        owner = self.class_of(node.value)
        if owner:
            self.found.add((owner, node.attr))
        self.generic_visit(node)

    def visit_FunctionDef(self, node):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        known = {a.arg: self._annotated(a.annotation) for a in arguments}
        self.scopes.append({name: kind for name, kind in known.items() if kind})
        self.generic_visit(node)
        self.scopes.pop()

    def visit_AnnAssign(self, node):
        kind = self._annotated(node.annotation)
        if kind:
            self._assign(node.target, kind)
            if isinstance(node.target, ast.Name):
                self.attributes[node.target.id] = kind
        self.generic_visit(node)

    def visit_Assign(self, node):
        for target in node.targets:
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = zip(target.elts, node.value.elts, strict=False)
            else:
                pairs = [(target, node.value)]
            for name, value in pairs:
                if kind := self.class_of(value):
                    self._assign(name, kind)
        self.generic_visit(node)

    def _assign(self, target: ast.expr, kind: str) -> None:
        if isinstance(target, ast.Name):
            self.scopes[-1][target.id] = kind
        elif isinstance(target, ast.Attribute):
            self.attributes[target.attr] = kind

    @staticmethod
    def _annotated(annotation: ast.expr | None) -> str | None:
        text = ast.unparse(annotation).strip("'").split(" | ")[0].split(".")[-1] if annotation else None
        return text if text in CLASSES else None


def read_fields(source: str) -> set[tuple[str, str]]:
    """The (class, field) pairs that a source text reads; methods of the config classes count as fields."""
    reads = _Reads()
    tree = ast.parse(source)
    reads.visit(tree)
    reads.visit(tree)  # once more: an attribute may be used above the method that assigns it
    return reads.found


def readers() -> dict[tuple[str, str], set[str]]:
    """Files of the project by the (class, field) that they read; a subclass's field counts for each of its classes."""
    files = defaultdict(set)
    for pattern in PLACES:
        for path in ROOT.glob(pattern):
            for owner, field in read_fields(path.read_text(encoding="utf-8")):
                for name, kind in CLASSES.items():
                    if issubclass(kind, CLASSES[owner]) or issubclass(CLASSES[owner], kind):
                        files[name, field].add(str(path.relative_to(ROOT)))
    # What a config class computes of its fields, as OptimConfig.betas, is read in the schema.
    for name, kind in CLASSES.items():
        for base in kind.__mro__:
            for attribute, value in vars(base).items():
                if isinstance(value, property) and (name, attribute) in files:
                    for field in value.fget.__code__.co_names:
                        files[name, field] |= files[name, attribute]
    return files
