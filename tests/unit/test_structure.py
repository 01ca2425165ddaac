"""The layout of the product: imports point one way, and packages, files, functions and constructors stay small."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PRODUCT = Path(__file__).resolve().parents[2] / "procorefs"

FLOORS = (
    "cli",
    "daemon",
    "wiring",
    "kernel",
    "project",
    "service desktop",
    "versions xattr locks",
    "upload",
    "vfs",
    "journal",
    "tree staging",
    "cache",
    "config",
    "procore",
    "limiter",
    "storage",
)
"""From top to bottom: a package imports only what stands below it. Packages in one line know nothing of each other."""

FLOOR_OF = {package: number for number, packages in enumerate(FLOORS) for package in packages.split()}

MOST_LINES = 450
MOST_FUNCTION_LINES = 60
MOST_FILES = 12
MOST_ARGUMENTS = 8

EXCEPTIONS = {
    "staging/staged_file.py": (
        500,
        "one class holds one lock; its records and ranges stand in their own files",
    ),
}
"""What is larger than allowed: how large at most, and why. An entry goes when its file or package is small enough."""


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the product by its dotted name."""
    found = {}
    for path in sorted(PRODUCT.rglob("*.py")):
        parts = path.relative_to(PRODUCT.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text())
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of the product that a module imports, at its top or in a function. C extensions import nothing."""
    found = set()
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{name.name}" for name in node.names} | {str(node.module)}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return frozenset(found & modules().keys())


def package_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports_of_other_packages() -> Iterator[tuple[str, str]]:
    for module in modules():
        for other in imports(module):
            if package_of(module) and package_of(other) and package_of(module) != package_of(other):
                yield module, other


def test_no_import_points_upwards() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, other in imports_of_other_packages()
        if "sandbox" not in (package_of(module), package_of(other))
        and FLOOR_OF[package_of(other)] <= FLOOR_OF[package_of(module)]
    ]
    assert not wrong, "\n".join(wrong)


def test_every_package_has_a_floor() -> None:
    assert {package_of(module) for module in modules()} - {"", "sandbox"} == set(FLOOR_OF)


def test_only_commands_import_the_sandbox() -> None:
    users = {
        package_of(module) for module, other in imports_of_other_packages() if package_of(other) == "sandbox"
    }
    assert users == {"cli"}


def test_no_modules_import_each_other_in_a_circle() -> None:
    remaining = {
        module: {other for other in imports(module) if other != module and not module.startswith(f"{other}.")}
        for module in modules()
    }
    while free := {module for module, others in remaining.items() if not others & remaining.keys()}:
        for module in free:
            del remaining[module]
    assert not remaining, "in a circle, or above one: " + ", ".join(sorted(remaining))


def test_only_the_bridge_imports_pyfuse3() -> None:
    users = {
        module
        for module, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import) and any(name.name == "pyfuse3" for name in node.names)
    }
    assert users == {"procorefs.kernel.bridge.native"}


def test_packages_and_files_are_small() -> None:
    sizes = {
        **{
            folder: len(list(folder.glob("*.py")))
            for folder in [PRODUCT, *PRODUCT.rglob("*")]
            if folder.is_dir()
        },
        **{file: len(file.read_text().splitlines()) for file in PRODUCT.rglob("*.py")},
    }
    too_large = {
        str(path.relative_to(PRODUCT)): size
        for path, size in sizes.items()
        if size > (MOST_FILES if path.is_dir() else MOST_LINES)
    }
    grown = {name: size for name, size in too_large.items() if size > EXCEPTIONS.get(name, (0, ""))[0]}
    assert not grown
    assert too_large.keys() == EXCEPTIONS.keys(), "an exception that nothing needs"


def test_functions_and_constructors_are_small() -> None:
    wrong = [f"{module}: {what}" for module, tree in modules().items() for what in _too_large(tree)]
    assert not wrong, "\n".join(wrong)


def _too_large(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if (lines := (node.end_lineno or 0) - node.lineno + 1) > MOST_FUNCTION_LINES:
                yield f"{node.name} has {lines} lines"
            arguments = len(node.args.args) + len(node.args.kwonlyargs) - 1
            if node.name == "__init__" and arguments > MOST_ARGUMENTS:
                yield f"line {node.lineno}: a constructor with {arguments} arguments"
