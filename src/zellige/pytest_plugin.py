"""A pytest plugin: every kernel of the configured files becomes a test, which passes if the kernel is proved.

In `pyproject.toml`, files and folders relative to it:

    [tool.pytest.ini_options]
    zellige_check = ["src/my_kernels", "tests/test_kernels.py"]

`pytest` then collects `src/my_kernels/scan.py::my_scan` and so on; a plain run collects them all, a run of given paths
those among them. Nothing of Zellige is imported unless the option is set.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from zellige.runtime.kernel import Kernel


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the ini option."""
    parser.addini("zellige_check", "files and folders whose Zellige kernels are to be proved", type="paths", default=[])


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> KernelFile | None:
    """A file that pytest comes across, if its kernels are to be proved."""
    if file_path.suffix != ".py":
        return None
    if any(file_path.is_relative_to(path.resolve()) for path in parent.config.getini("zellige_check")):
        return KernelFile.from_parent(parent, path=file_path)
    return None


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a run without given paths: adds the files that pytest does not come across."""
    if config.args_source is pytest.Config.ArgsSource.ARGS or not config.getini("zellige_check"):
        return
    from zellige.cli.kernel_files import python_files
    from zellige.diagnostics import ZelligeError

    met = {item.path for item in items if isinstance(item, KernelItem)}
    for path in config.getini("zellige_check"):
        try:
            files = python_files(path.resolve())
        except ZelligeError as error:
            raise pytest.UsageError(f"zellige_check: {error.message}") from None
        for file in files:
            if file not in met:
                met.add(file)
                items.extend(KernelFile.from_parent(session, path=file).collect())


class KernelFile(pytest.File):
    """A Python file and its kernels."""

    def collect(self) -> Iterator[KernelItem]:
        """One test a kernel. CollectError if the file cannot be imported."""
        from zellige.cli.kernel_files import kernels_in, load
        from zellige.diagnostics import ZelligeError

        try:
            kernels = kernels_in(load(self.path))
        except ZelligeError as error:
            raise self.CollectError(error.render()) from None
        for kernel in kernels:
            yield KernelItem.from_parent(self, name=kernel.name, kernel=kernel)


class KernelItem(pytest.Item):
    """One kernel with all its static parameters and dtypes."""

    def __init__(self, *, kernel: Kernel, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.kernel = kernel
        self.add_marker("zellige")

    def runtest(self) -> None:
        """VerificationError at the first variant that is refused."""
        from zellige.cli.kernel_files import check_kernel
        from zellige.diagnostics.findings import VerificationError
        from zellige.runtime.paths import cache_dir
        from zellige.verify import VerdictCache

        for checked in check_kernel(self.kernel, VerdictCache(cache_dir("verdicts")).verify):
            if not checked.verdict.proved:
                raise VerificationError(self.kernel.name, checked.verdict.findings)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """A refusal as the command line shows it."""
        from zellige.diagnostics import ZelligeError

        if isinstance(excinfo.value, ZelligeError):
            return excinfo.value.render()
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where it stands: file, line (from 0), title."""
        return self.path, self.kernel.function.__code__.co_firstlineno - 1, f"kernel {self.name}"


def pytest_configure(config: pytest.Config) -> None:
    """Declares the marker that kernels have, so that `-m zellige` selects them."""
    config.addinivalue_line("markers", "zellige: a kernel that is to be proved")
