"""Plugin files are run by their own source, anew when it has changed, and one that is broken harms no other."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import twisted.plugins
from mailhub import builtin
from mailhub.plugin_files import find
from mailhub.plugin_modules import MODULES, SIZE_LIMIT
from mailhub.plugins import Catalogue, Component, load_catalogue

OUR_POLICIES = {one.name for one in vars(builtin).values() if isinstance(one, Component) and one.kind == "policy"}
Put = Callable[[str, str], Path]
PLUGIN = """\
from mailhub.plugins import Component
class Policy:
    word = {word!r}
    def __init__(self, options, hub): ...
    def begin(self, origin): ...
{name} = Component("policy", {name!r}, Policy)
"""


def words(name: str, word: str = "one") -> str:
    return PLUGIN.format(name=name, word=word)


def policies(catalogue: Catalogue) -> list[str]:
    """Those of plugins."""
    return [name for name in catalogue.names("policy") if name not in OUR_POLICIES]


def factory(catalogue: Catalogue, name: str) -> Any:
    (found,) = [one for one in catalogue.factories if (one.kind, one.name) == ("policy", name)]
    return found


def test_a_file_that_was_not_changed_gives_the_very_same_factories(plugin: Put) -> None:
    file = plugin("words_plugin.py", words("words"))
    first = load_catalogue()
    os.utime(file, (1, 1))
    again = load_catalogue()
    assert factory(first, "words") is factory(again, "words")
    assert {id(one) for one in first.factories} == {id(one) for one in again.factories}


def test_a_file_that_was_changed_is_run_anew_though_time_and_size_are_the_same(plugin: Put) -> None:
    file = plugin("words_plugin.py", words("words", "one"))
    before = file.stat()
    first = factory(load_catalogue(), "words")
    file.write_text(words("words", "two"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = factory(load_catalogue(), "words")
    assert (first.make.word, second.make.word) == ("one", "two")


def test_neither_compiled_files_nor_dropin_cache_are_read_or_written(plugin: Put) -> None:
    file = plugin("words_plugin.py", words("words"))
    cache = file.parent / "dropin.cache"
    cache.write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    assert policies(load_catalogue()) == ["words"]
    assert sorted(path.name for path in file.parent.iterdir()) == ["dropin.cache", "words_plugin.py"]
    cache.unlink()
    load_catalogue()
    assert sorted(path.name for path in file.parent.iterdir()) == ["words_plugin.py"]


def test_who_imports_a_plugin_file_is_run_anew_with_it(plugin: Put) -> None:
    plugin("parts_of_mine.py", "WORD = 'one'\n")
    plugin("words_plugin.py", f"from .parts_of_mine import WORD\n{words('words')}Policy.word = WORD\n")
    plugin("other_plugin.py", words("other"))
    first = load_catalogue()
    plugin("parts_of_mine.py", "WORD = 'two'\n")
    second = load_catalogue()
    assert second.broken == ()
    assert (factory(first, "words").make.word, factory(second, "words").make.word) == ("one", "two")
    assert factory(first, "other") is factory(second, "other")


def test_a_package_is_a_plugin_file_and_is_run_anew_when_a_part_of_it_changes(plugin: Put) -> None:
    folder = plugin("nothing_plugin.py", "").parent / "words_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(f"from .part import WORD\n{words('words')}Policy.word = WORD\n")
    (folder / "part.py").write_text("WORD = 'one'\n")
    assert factory(load_catalogue(), "words").make.word == "one"
    (folder / "part.py").write_text("WORD = 'two'\n")
    assert factory(load_catalogue(), "words").make.word == "two"
    assert not (folder / "__pycache__").exists()


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"import sys\nsys.exit(3)\n", "SystemExit: 3"),
        (b"raise KeyboardInterrupt\n", "KeyboardInterrupt: "),
        (b"raise GeneratorExit('x')\n", "GeneratorExit: x"),
        (b"class Quiet(BaseException): ...\nraise Quiet('one\\ntwo')\n", "Quiet: one two"),
        (b"word = '\xff'\n", "SyntaxError: "),
        (b"word = 1\0\n", "SyntaxError: source code string cannot contain null bytes"),
        (b"open('/nonexistent/words')\n", "FileNotFoundError: "),
        (b"x = " + b"(" * 3000 + b")" * 3000, "SyntaxError: too many nested parentheses"),
        (b"#" * (SIZE_LIMIT + 1), "cannot be read: it is larger than 4 MiB"),
    ],
    ids=["exit", "interrupt", "generator", "base", "octets", "NUL", "file", "depth", "size"],
)
def test_a_file_that_is_broken_in_any_way_is_named_and_the_others_are_there(
    plugin: Put, octets: bytes, reason: str
) -> None:
    broken = plugin("broken_plugin.py", "")
    broken.write_bytes(octets)
    plugin("words_plugin.py", words("words"))
    catalogue = load_catalogue()
    (line,) = catalogue.broken
    assert line.startswith(f"{broken}: {reason}")
    assert "\n" not in line
    assert policies(catalogue) == ["words"]
    assert "twisted.plugins.broken_plugin" not in sys.modules


def test_what_raises_when_it_is_looked_at_is_named(plugin: Put) -> None:
    file = plugin(
        "odd_plugin.py",
        "class Odd:\n    @property\n    def __class__(self): raise SystemExit(3)\nstrange = Odd()\n" + words("odd"),
    )
    plugin("words_plugin.py", words("words"))
    catalogue = load_catalogue()
    (line,) = catalogue.broken
    assert line == f"{file}: SystemExit: 3"
    assert "words" in policies(catalogue)


def test_what_is_no_file_is_named(plugin: Put) -> None:
    folder = plugin("words_plugin.py", words("words")).parent
    (folder / "gone_plugin.py").symlink_to(folder / "nothing")
    (folder / "folder_plugin.py").mkdir()
    os.mkfifo(folder / "pipe_plugin.py")
    catalogue = load_catalogue()
    assert sorted(catalogue.broken) == [
        f"{folder}/folder_plugin.py: cannot be read: it is no regular file",
        f"{folder}/gone_plugin.py: cannot be read: No such file or directory",
        f"{folder}/pipe_plugin.py: cannot be read: it is no regular file",
    ]
    assert policies(catalogue) == ["words"]


def test_a_name_that_cannot_be_imported_is_told_and_those_of_editors_are_not(plugin: Put) -> None:
    folder = plugin("words_plugin.py", words("words")).parent
    for name in ("my-plugin.py", "mine (copy).py", ".#words_plugin.py", "words_plugin.py~", "__init__x.pyc"):
        (folder / name).write_text("raise ValueError\n")
    told = "is not run: a plugin file's name is letters, digits and _, without spaces or -"
    assert sorted(load_catalogue().broken) == [f"{folder}/mine (copy).py: {told}", f"{folder}/my-plugin.py: {told}"]


def test_the_first_of_two_files_of_one_name_counts_and_the_other_is_named(plugin: Put, tmp_path: Path) -> None:
    first = plugin("words_plugin.py", words("words", "one"))
    other = tmp_path / "more"
    other.mkdir()
    (other / "words_plugin.py").write_text(words("words", "two"))
    catalogue = load_catalogue([other])
    assert factory(catalogue, "words").make.word == "one"
    assert catalogue.broken == (f"{other}/words_plugin.py: is not run: {first} has the same name",)
    # A copy does no harm, nor does a folder that is named twice.
    (other / "words_plugin.py").write_text(words("words", "one"))
    assert load_catalogue([other, other, first.parent]).broken == ()


def test_names_of_other_programs_stay_theirs(tmp_path: Path) -> None:
    mine = tmp_path / "twisted_core.py"
    mine.write_text(words("words"))
    catalogue = load_catalogue([tmp_path])
    theirs = Path(str(twisted.plugins.__file__)).parent / "twisted_core.py"
    assert catalogue.broken == (f"{mine}: is not run: {theirs} has the same name",)
    assert policies(catalogue) == []


def test_where_other_programs_put_theirs_only_files_that_speak_of_mailhub_are_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "site-packages" / "twisted" / "plugins"
    folder.mkdir(parents=True)
    monkeypatch.setattr(twisted.plugins, "__path__", [*twisted.plugins.__path__, str(folder)])
    (folder / "another_program.py").write_text("raise RuntimeError\n")
    (folder / "ours_plugin.py").write_text(words("words"))
    catalogue = load_catalogue()
    assert (catalogue.broken, policies(catalogue)) == ((), ["words"])


def test_a_factory_that_another_file_imports_is_found_once(plugin: Put) -> None:
    plugin("a_plugin.py", "from twisted.plugins.words_plugin import words\n")
    file = plugin("words_plugin.py", words("words") + "again = words\n")
    catalogue = load_catalogue()
    assert catalogue.broken == ()
    assert factory(catalogue, "words").name == "words"
    assert [one.path.name for one in catalogue.files if one.factories and one.path.parent == file.parent] == [
        "a_plugin.py"
    ]


class TestAnImportByTwistd:
    """twistd imports the files that its cache does not know, before mailhub looks for plugins."""

    def test_is_not_run_twice_when_it_is_what_the_file_says(self, plugin: Put) -> None:
        plugin("words_plugin.py", "import builtins\nbuiltins.ran = getattr(builtins, 'ran', 0) + 1\n" + words("words"))
        __import__("twisted.plugins.words_plugin")
        import builtins

        try:
            load_catalogue()
            assert vars(builtins)["ran"] == 1
        finally:
            del vars(builtins)["ran"]

    def test_is_not_trusted_when_the_compiled_file_is_another_source_s(self, plugin: Put) -> None:
        file = plugin("words_plugin.py", words("words", "one"))
        before = file.stat()
        __import__("twisted.plugins.words_plugin")
        file.write_text(words("words", "two"))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert factory(load_catalogue(), "words").make.word == "two"

    def test_counts_no_more_when_what_it_imports_is_another(self, plugin: Put) -> None:
        part = plugin("parts_of_mine.py", "WORD = 'one'\n")
        before = part.stat()
        plugin("a_words_plugin.py", f"from .parts_of_mine import WORD\n{words('words')}Policy.word = WORD\n")
        __import__("twisted.plugins.a_words_plugin")
        part.write_text("WORD = 'two'\n")
        os.utime(part, ns=(before.st_atime_ns, before.st_mtime_ns))
        first = factory(load_catalogue(), "words")
        assert first.make.word == "two"
        assert factory(load_catalogue(), "words") is first

    def test_does_not_count_for_a_package(self, plugin: Put) -> None:
        folder = plugin("nothing_plugin.py", "").parent / "imported_package"
        folder.mkdir()
        (folder / "__init__.py").write_text(f"from .part import WORD\n{words('words')}Policy.word = WORD\n")
        (folder / "part.py").write_text("WORD = 'one'\n")
        __import__("twisted.plugins.imported_package")
        (folder / "part.py").write_text("WORD = 'three'\n")
        try:
            assert factory(load_catalogue(), "words").make.word == "three"
        finally:
            for name in [one for one in sys.modules if one.startswith("twisted.plugins.imported_package")]:
                del sys.modules[name]


def test_a_file_beside_is_imported_from_where_both_are(plugin: Put) -> None:
    file = plugin("words_plugin.py", f"import parts_of_mine\n{words('words')}")
    plugin("parts_of_mine.py", "")
    assert load_catalogue().broken == (
        f"{file}: ModuleNotFoundError: No module named 'parts_of_mine' "
        "(it is beside this file: `from . import parts_of_mine`)",
    )
    file.write_text(f"from . import parts_of_mine\n{words('words')}")
    assert load_catalogue().broken == ()


def test_what_was_running_comes_back(plugin: Put) -> None:
    file = plugin("words_plugin.py", words("words", "one"))
    first = factory(load_catalogue(), "words")
    file.write_text("raise ValueError\n")
    plugin("new_plugin.py", words("new"))
    with suppress(LookupError), MODULES.kept():
        assert policies(load_catalogue()) == ["new"]
        raise LookupError
    module = sys.modules["twisted.plugins.words_plugin"]
    assert (vars(module)["words"], vars(twisted.plugins)["words_plugin"]) == (first, module)
    assert "twisted.plugins.new_plugin" not in sys.modules
    # It is not taken for unchanged the next time.
    assert load_catalogue().broken == (f"{file}: ValueError: ",)


@pytest.mark.parametrize(
    "line", ["__name__ = 'rename'", "__name__ = 5", "__file__ = 5", "__path__ = 5", "__spec__ = None"]
)
def test_a_file_may_call_itself_what_it_will(plugin: Put, line: str) -> None:
    plugin("words_plugin.py", f"{words('words', 'one')}{line}\n")
    plugin("other_plugin.py", words("other"))
    catalogue = load_catalogue()
    assert catalogue.broken == ()
    first = factory(catalogue, "words")
    assert factory(load_catalogue(), "words") is first
    plugin("words_plugin.py", f"{words('words', 'two')}{line}\n")
    assert factory(load_catalogue(), "words").make.word == "two"
    assert factory(load_catalogue(), "other") is factory(catalogue, "other")


@pytest.mark.parametrize("line", ["import sys; del sys.modules[__name__]", "del __name__"])
def test_a_file_that_takes_itself_away_is_named(plugin: Put, line: str) -> None:
    file = plugin("words_plugin.py", f"{words('words')}{line}\n")
    plugin("other_plugin.py", words("other"))
    (told,) = load_catalogue().broken
    assert told.startswith(f"{file}: ")
    assert policies(load_catalogue()) == ["other"]


def test_what_a_file_imports_is_run_anew_with_it_where_it_is_run_alone(plugin: Put) -> None:
    part = plugin("parts_of_mine.py", "WORD = 'one'\n")
    plugin("a_words_plugin.py", f"from . import parts_of_mine\n{words('words')}Policy.word = parts_of_mine.WORD\n")
    plugin("b_plugin.py", words("other"))
    load_catalogue()
    plugin("b_plugin.py", words("other", "two"))
    part.write_text("WORD = 'two'\n")
    name = "twisted.plugins.a_words_plugin"
    catalogue = load_catalogue(again=name)
    assert [factory(catalogue, one).make.word for one in ("words", "other")] == ["two", "one"]
    # It is not old code that goes on without a word when what it imports is broken, or gone.
    part.write_text("def f(:\n")
    assert len(load_catalogue(again=name).broken) == 2
    # Nor is it when that is mended, and it has not run itself.
    part.write_text("WORD = 'three'\n")
    assert factory(load_catalogue(again=name), "words").make.word == "three"
    part.unlink()
    (told,) = load_catalogue(again=name).broken
    assert "cannot import name 'parts_of_mine'" in told


def test_one_file_can_be_run_anew_alone(plugin: Put) -> None:
    for name in ("a", "b"):
        plugin(f"{name}_plugin.py", words(name, "one"))
    load_catalogue()
    for name in ("a", "b"):
        plugin(f"{name}_plugin.py", words(name, "two"))
    catalogue = load_catalogue(again="twisted.plugins.b_plugin")
    assert [factory(catalogue, name).make.word for name in ("a", "b")] == ["one", "two"]
    assert factory(load_catalogue(), "a").make.word == "two"


def test_a_library_that_has_changed_under_a_plugin_is_named(plugin: Put, tmp_path: Path) -> None:
    library = tmp_path / "elsewhere" / "words_library.py"
    library.write_text("WORD = 1\n")
    plugin("words_plugin.py", f"import words_library\n{words('words')}")
    try:
        load_catalogue()
        assert library not in MODULES.changed_outside()
        library.write_text("WORD = 12\n")
        assert library in MODULES.changed_outside()
    finally:
        sys.modules.pop("words_library", None)


def test_folders_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert find([tmp_path / "file", tmp_path / "nothing"]).faults == (
        f"{tmp_path}/file: cannot be read: Not a directory",
    )
