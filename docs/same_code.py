"""Whether an edit of a source can have changed what it computes."""

from __future__ import annotations

import ast
import builtins
import itertools
from typing import Any, NamedTuple

FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
HARMLESS = ("isinstance", "len", "type")
HARMLESS_METHODS = ("all", "any", "isfinite", "isnan")
REFUSALS = (ValueError, TypeError)  # what checks raise
OTHER_ERRORS = {
    name
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, BaseException)
    if not any(issubclass(refusal, kind) or issubclass(kind, refusal) for refusal in REFUSALS)
}
CHECKS = ("has_shape", "instance", "number", "size")  # of engram.checks; each returns what it was given, or raises
READ_BY_NO_TRIAL = {"Experiment": "answer", "Preset": "looks"}
NAMED = {ast.Name: "id", ast.arg: "arg", ast.ExceptHandler: "name"} | dict.fromkeys(DEFINITIONS.__args__, "name")


class Scope(NamedTuple):
    """The names that a scope binds in each of two sources, and those of the first by those of the second so far."""

    bound: tuple[set[str], set[str]]
    pairs: dict[str, str]
    catches: bool = False  # whether the file catches the errors of checks

    def are_paired(self, before: str, after: str) -> bool:
        """Whether two names are the same, or one was renamed to the other throughout; adds the pair."""
        if before not in self.pairs and after not in self.pairs.values():
            self.pairs[before] = after
        is_renamed = before in self.bound[0] and after in self.bound[1] - self.bound[0]
        return self.pairs.get(before) == after and (before == after or is_renamed)


class Unhandled(ast.NodeTransformer):
    """Replaces by its body what does more only after an error: a ``try`` whose handlers all refuse, or a note."""

    def visit_Try(self, node: ast.Try) -> Any:
        """The statements of the body, or the ``try`` itself."""
        self.generic_visit(node)
        is_plain = not node.orelse and not node.finalbody
        return node.body if is_plain and all(map(_refuses, node.handlers)) else node

    def visit_With(self, node: ast.With) -> Any:
        """The statements within ``checks.noted``, which names arguments in errors, or the ``with`` itself."""
        self.generic_visit(node)
        match node.items:
            case [ast.withitem(ast.Call(ast.Attribute(ast.Name("checks"), "noted")), None)]:
                return node.body
        return node


def is_same_code(before: str, after: str) -> bool:
    """Whether two sources are the same up to layout, comments, prose, and names that were changed throughout.

    Prose is docstrings, including those of assignments, an experiment's answer and the arguments of its claims, which
    no trial reads, and the text of a raised ValueError or TypeError, which a trial that finished never showed. No trial
    reads the looks of a preset either, nor the type of a parameter unless it is a class by its name, as its settings.

    A check that was added does not count, an ``if`` that can only raise ValueError or TypeError, or a line like
    ``checks.size("n", n)``: a trial that finished without it gives the same, or ends with this error. Nor do handlers
    that all end by raising the error again, or ValueError or TypeError, or a ``with checks.noted(n=n)``. All of these
    count in a file that catches such errors of its own functions; that no other file does is for the author of the edit
    to see.

    Such names are those of a function's variables, changed throughout it, and those that the file itself defines,
    changed throughout the file, to names that were not used there before: exchanged parameters are other parameters to
    a caller who names them. Attributes, keywords and whatever is imported or built in must be the same: another name
    there is another thing.
    """
    trees = ast.parse(before), ast.parse(after)
    catches = any(map(_catches, trees))
    if not catches:
        for tree in trees:
            Unhandled().visit(tree)
    for node in (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Module | DEFINITIONS)):
        node.body = [statement for statement in node.body if not _is_text(statement)]
    for node in (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if isinstance(node.func, ast.Name) and node.func.id in READ_BY_NO_TRIAL:
            node.keywords = [keyword for keyword in node.keywords if keyword.arg != READ_BY_NO_TRIAL[node.func.id]]
    for tree in trees:
        factories = {"Claim", "claims_from"} | set(itertools.chain.from_iterable(map(_makers_of_claims, tree.body)))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in factories:
                node.func, node.args, node.keywords = ast.Name("Claim", ast.Load()), [], []
    for node in (node for tree in trees for node in ast.walk(tree)):
        match node:
            case ast.arg(annotation=ast.Subscript() | ast.BinOp()):
                node.annotation = None
            case ast.Raise(ast.Call(ast.Name("ValueError" | "TypeError"), [ast.Constant(str()) | ast.JoinedStr()], [])):
                node.exc.args = []
    return _are_same(*trees, Scope(tuple(map(_bound_in, trees)), {}, catches), None)


def _catches(tree: ast.Module) -> bool:
    """Whether a file handles or suppresses errors that checks raise, in the same place or in its own functions."""
    defined_here = {node.name for node in ast.walk(tree) if isinstance(node, DEFINITIONS)}
    for node in ast.walk(tree):
        match node:
            case ast.Try(body, handlers):
                caught = [handler.type for handler in handlers if not _raises_again(handler)]
            case ast.With(items, body):
                caught = [item.context_expr for item in items if "suppress" in ast.unparse(item.context_expr)]
            case _:
                continue
        kinds = [kind for error in caught for kind in _kinds(error)]
        if all(isinstance(kind, ast.Name) and kind.id in OTHER_ERRORS for kind in kinds):
            continue
        for part in (part for statement in body for part in ast.walk(statement)):
            match part:
                case ast.Raise() | ast.Call(ast.Attribute(ast.Name("checks"))):
                    return True
                case ast.Call(ast.Name(name) | ast.Attribute(attr=name)) if name in defined_here:
                    return True
    return False


def _kinds(error: ast.expr | None) -> list[ast.expr | None]:
    """The exceptions that a handler, or a call of ``suppress``, names."""
    match error:
        case ast.Tuple(kinds) | ast.Call(args=kinds):
            return list(kinds)
    return [error]


def _raises_again(handler: ast.ExceptHandler) -> bool:
    leaving = (ast.Return, ast.Continue, ast.Break)
    goes_on = any(isinstance(part, leaving) for statement in handler.body for part in ast.walk(statement))
    return isinstance(handler.body[-1], ast.Raise) and not goes_on


def _refuses(handler: ast.ExceptHandler) -> bool:
    match handler.body[-1]:
        case ast.Raise(None) | ast.Raise(ast.Call(ast.Name("ValueError" | "TypeError"))):
            return _raises_again(handler)
    return False


def _makers_of_claims(statement: ast.stmt) -> list[str]:
    match statement:
        case ast.Assign(targets, ast.Call(ast.Name("claims_from"))):
            return [target.id for target in targets if isinstance(target, ast.Name)]
    return []


def _is_text(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(ast.Constant(str())):
            return True
    return False


def _without_new_checks(before: list[Any], after: list[Any]) -> list[Any]:
    old_checks = {ast.dump(node) for node in before if _is_check(node)}
    return [node for node in after if not _is_check(node) or ast.dump(node) in old_checks]


def _is_check(node: Any) -> bool:
    """Whether all that a statement can do is to raise ValueError or TypeError."""
    match node:
        case ast.If(test, [ast.Raise(ast.Call(ast.Name("ValueError" | "TypeError")))], []):
            return _is_harmless(test)
        case ast.Expr(ast.Call(ast.Attribute(ast.Name("checks"), name), arguments, keywords)) if name in CHECKS:
            return all(map(_is_harmless, [*arguments, *keywords]))
    return False


def _is_harmless(node: ast.AST) -> bool:
    """Whether evaluating an expression changes nothing, as taking an item out of an iterator does."""
    for part in ast.walk(node):
        match part:
            case ast.Call(function):
                _, dot, name = ast.unparse(function).rpartition(".")
                if name not in (HARMLESS_METHODS if dot else HARMLESS):
                    return False
            case ast.Subscript(value) if not (isinstance(value, ast.Attribute) and value.attr == "shape"):
                return False
            case ast.NamedExpr() | ast.Await() | ast.Starred() | ast.comprehension() | ast.In() | ast.NotIn():
                return False
    return True


def _bound_in(tree: ast.Module | FUNCTIONS) -> set[str]:
    """The names that a file binds outside its functions, or a function and those within it; not those of classes."""
    outer = ast.ClassDef if isinstance(tree, FUNCTIONS) else FUNCTIONS | ast.ClassDef
    pending, bound = list(ast.iter_child_nodes(tree)), set()
    while pending:
        node = pending.pop()
        bound |= _bound_by(node)
        pending += [] if isinstance(node, outer) else list(ast.iter_child_nodes(node))
    return bound


def _bound_by(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        return set()
    name = getattr(node, NAMED.get(type(node), ""), None)
    return {name} - {None}


def _are_same(before: Any, after: Any, file: Scope, function: Scope | None) -> bool:
    if type(before) is not type(after):
        return False
    if isinstance(before, list):
        after = _without_new_checks(before, after) if len(after) > len(before) and not file.catches else after
        pairs = zip(before, after, strict=False)
        return len(before) == len(after) and all(_are_same(*pair, file, function) for pair in pairs)
    if not isinstance(before, ast.AST):
        return bool(before == after)
    # The functions within a function share its scope.
    inner = function
    if inner is None and isinstance(before, FUNCTIONS):
        inner = Scope((_bound_in(before), _bound_in(after)), {})
    for field in before._fields:
        values = getattr(before, field), getattr(after, field)
        if field == NAMED.get(type(before)) and None not in values:
            # A function's own name is one of the scope around it.
            if not _are_paired(*values, file, function if isinstance(before, DEFINITIONS) else inner):
                return False
        elif not _are_same(*values, file, inner):
            return False
    return True


def _are_paired(before: str, after: str, file: Scope, function: Scope | None) -> bool:
    if function is None:
        return file.are_paired(before, after)
    is_local = before in function.bound[0], after in function.bound[1]
    return is_local[0] == is_local[1] and (function if is_local[0] else file).are_paired(before, after)
