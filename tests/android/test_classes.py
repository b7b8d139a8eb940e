"""Class files of Java 11 as those of Java 8, and which classes others need."""

import subprocess

import pytest

NEST = """
package a;
public class Nest {
    private int secret = 41;
    private static String say(Object what) { return "said " + what; }
    static class Inner {
        private Inner() {}
        private int more(Nest nest) { return ++nest.secret; }
    }
    public static void main(String[] args) throws Exception {
        System.out.println(say(new Inner().more(new Nest())) + Class.forName("a.Found").getName());
    }
}
class Found { Used used() { return null; } }
class Used<T extends Bound> {}
class Bound {}
class Alone {}
"""


@pytest.fixture(scope="module")
def nest(tmp_path_factory, harness):
    """Classes of Java 11 by name; the nest's use each other's private members."""
    folder = tmp_path_factory.mktemp("nest")
    (folder / "Nest.java").write_text(NEST)
    # strings are joined without invokedynamic, as in ExecuTorch's classes
    javac = ["javac", "--release", "11", "-XDstringConcat=inline", "-d", folder, folder / "Nest.java"]
    subprocess.run(javac, check=True)
    return {str(path.relative_to(folder))[:-6]: path.read_bytes() for path in folder.rglob("*.class")}


def test_a_nest_of_java_11_runs_as_java_8(nest, tmp_path):
    from offline.classes import digestible

    # without the change of access Java 8's rules refuse the same classes
    for change, status in ((digestible, 0), (lambda data: data[:7] + b"\x34" + data[8:], 1)):
        for name, data in nest.items():
            file = tmp_path / f"{name}.class"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(change(data))
        done = subprocess.run(["java", "-cp", tmp_path, "a.Nest"], capture_output=True, text=True)
        assert done.returncode == status
        assert done.stdout == "said 42a.Found\n" if status == 0 else "IllegalAccessError" in done.stderr


def test_what_a_class_names_is_reached_and_no_more(nest):
    from offline.classes import reachable

    assert reachable(nest, ["a/Nest"]) == {"a/Nest", "a/Nest$Inner", "a/Found", "a/Used", "a/Bound"}
    assert reachable(nest, ["a/Used"]) == {"a/Used", "a/Bound"}
    assert reachable(nest, ["a/Bound", "elsewhere/Class"]) == {"a/Bound"}


def test_other_files_are_one_line(nest):
    from offline.classes import digestible

    from fedgate.device_runtime.errors import FedgateError

    whole = nest["a/Nest"]
    for data in (b"", b"PK\x03\x04" + whole[4:], whole[:60], whole[:-200]):
        with pytest.raises(FedgateError, match=r"^this is no class file: .+$"):
            digestible(data)
