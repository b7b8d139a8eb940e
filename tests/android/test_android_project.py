"""The Gradle project, read as text: what its files say of each other is true. No Android SDK is here to build it."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from offline import fetch, library

import fedgate
from fedgate.device_runtime.targets import adb

PROJECT = Path(__file__).parents[2] / "android_demo"
MAIN = PROJECT / "app" / "src" / "main"
ANDROID = "{http://schemas.android.com/apk/res/android}"
GRADLE = (PROJECT / "app" / "build.gradle.kts").read_text()
SOURCES = {path.stem: path.read_text() for path in sorted((MAIN / "kotlin/org/fedgate/demo").glob("*.kt"))}
LAYOUTS = {path.stem: ElementTree.parse(path).getroot() for path in sorted((MAIN / "res/layout").glob("*.xml"))}


def one(pattern, text):
    """The one group that the pattern finds, once."""
    (found,) = re.findall(pattern, text)
    return found


def resources(folder="values"):
    """{type: {name: text}} of a folder of values."""
    found = {}
    for path in (MAIN / "res" / folder).glob("*.xml"):
        for item in ElementTree.parse(path).getroot():
            found.setdefault(item.tag, {})[item.get("name")] = "".join(item.itertext())
    return found


def known():
    """Every resource as (type, name)."""
    names = {(kind, name) for kind, items in resources().items() for name in items}
    for path in (MAIN / "res").glob("*/*.xml"):
        if not path.parent.name.startswith("values"):
            names.add((path.parent.name.partition("-")[0], path.stem))
    for root in LAYOUTS.values():
        names |= {
            ("id", node.get(ANDROID + "id").partition("/")[2]) for node in root.iter() if node.get(ANDROID + "id")
        }
    return names


def identity(node):
    """The android:id of a view without "@+id/", or ""."""
    return node.get(ANDROID + "id", "").partition("/")[2]


def calls(text, function):
    """The argument lists of every call of a function, each split at its own commas."""
    for match in re.finditer(re.escape(function) + r"\(", text):
        depth, start, arguments = 1, match.end(), []
        for place in range(match.end(), len(text)):
            depth += {"(": 1, ")": -1, "{": 1, "}": -1}.get(text[place], 0)
            if depth == 0 or (depth == 1 and text[place] == ","):
                arguments.append(text[start:place].strip())
                start = place + 1
            if depth == 0:
                break
        yield [argument for argument in arguments if argument]


def included(name):
    """The nodes of a layout and of those that it includes."""
    for node in LAYOUTS[name].iter():
        yield node
        if node.tag == "include":
            yield from included(node.get("layout").partition("/")[2])


def test_versions_and_abis_are_those_of_the_offline_build():
    plugins = dict(re.findall(r'id\("([^"]+)"\) version "([^"]+)"', (PROJECT / "build.gradle.kts").read_text()))
    assert plugins["org.jetbrains.kotlin.android"] == fetch.KOTLIN.version
    assert re.findall(r'"(arm64-v8a|x86_64|armeabi-v7a|x86)"', GRADLE) == sorted(library.ABIS)
    assert one(r'versionName = "([^"]+)"', GRADLE) == fedgate.__version__
    pinned = one(r"(?m)^executorch==(\S+)$", (PROJECT.parent / "constraints.txt").read_text())
    assert one(r'"org.pytorch:executorch-android:([^"]+)"', GRADLE) == pinned
    levels = [int(one(rf"{name} = (\d+)", GRADLE)) for name in ("minSdk", "targetSdk", "compileSdk")]
    assert levels == sorted(levels) and levels[:2] == [26, 34]


def test_package_and_entry_are_those_that_adb_asks_for():
    assert {one(rf'{name} = "([^"]+)"', GRADLE) for name in ("namespace", "applicationId")} == {adb.PACKAGE}
    root = ElementTree.parse(MAIN / "AndroidManifest.xml").getroot()
    assert root.get("package") is None  # the plugin refuses it beside a namespace
    activities = {node.get(ANDROID + "name"): node for node in root.iter("activity")}
    entry = activities[adb.ACTIVITY.partition("/")[2]]
    assert entry.get(ANDROID + "exported") == "true"
    # adb's shell holds it; any other app could make the phone compute, or fill its storage
    assert entry.get(ANDROID + "permission") == "android.permission.DUMP"
    assert one(r'REQUEST = "([^"]+)"', SOURCES["RunActivity"]) == "request"


def test_activities_are_declared_and_there_and_no_permission_is_asked_for():
    root = ElementTree.parse(MAIN / "AndroidManifest.xml").getroot()
    declared = {node.get(ANDROID + "name")[1:]: node for node in root.iter("activity")}
    written = {
        name
        for text in SOURCES.values()
        for name in re.findall(r"(?m)^class (\w+) : (?:Activity|Screen|BundleScreen)\(", text)
    }
    assert set(declared) == written
    launchers = [name for name, node in declared.items() if node.find("intent-filter") is not None]
    assert launchers == ["MainActivity"]
    exported = {name for name, node in declared.items() if node.get(ANDROID + "exported") == "true"}
    assert exported == {"MainActivity", "RunActivity"}
    (application,) = root.iter("application")
    name = application.get(ANDROID + "name")[1:]
    assert f"class {name} : Application()" in SOURCES[name]
    assert not [node.tag for node in root.iter() if node.tag.startswith("uses-permission")]


def test_every_resource_that_is_named_exists_and_every_string_and_colour_is_used():
    used = set()
    for path in [MAIN / "AndroidManifest.xml", *(MAIN / "res").glob("*/*.xml")]:
        text = re.sub(r"<!--.*?-->", "", path.read_text(), flags=re.DOTALL)
        used |= set(re.findall(r"@(?!android)\+?(\w+)/(\w+)", text))
        used |= {("style", name) for name in re.findall(r'<style name="\w+" parent="(\w+)"', text)}
    for text in SOURCES.values():
        used |= set(re.findall(r"(?<![.\w])R\.(\w+)\.(\w+)", text))
    assert used - known() == set()
    unused = {
        (kind, name) for kind, name in known() - used if kind in ("string", "color", "layout", "drawable", "dimen")
    }
    assert unused == set()


def test_strings_get_as_many_arguments_as_they_have_places():
    strings, counted = resources()["string"], 0
    for name, text in SOURCES.items():
        for arguments in calls(text, "getString"):
            key = re.fullmatch(r"R\.string\.(\w+)", arguments[0])
            if key is None:
                continue  # one of two keys, checked below
            places = set(re.findall(r"%(\d)\$", strings[key[1]]))
            assert places == {str(i + 1) for i in range(len(arguments) - 1)}, (name, arguments)
            counted += 1
    assert counted > 40
    chosen = re.findall(
        r"R\.string\.(\w+) else R\.string\.(\w+)|setText\(.*?R\.string\.(\w+) else", "".join(SOURCES.values())
    )
    for name in {name for pair in chosen for name in pair if name}:
        assert "%" not in strings[name], name


@pytest.mark.parametrize("name", [name for name in SOURCES if name == "Screen" or name.endswith("Activity")])
def test_a_screen_finds_its_views_in_its_own_layouts(name):
    text = SOURCES[name]
    layouts = set(re.findall(r"(?<![.\w])R\.layout\.(\w+)", text)) | {"status"}
    there = {identity(node) for layout in layouts for node in included(layout)}
    assert set(re.findall(r"(?<![.\w])R\.id\.(\w+)", text)) <= there
    for view, which in re.findall(r"part<(\w+)>\(R\.id\.(\w+)\)", text):
        nodes = [node for layout in layouts for node in included(layout)]
        tags = {node.tag.rpartition(".")[2] for node in nodes if identity(node) == which}
        assert view == "View" or tags <= {view} | ({"LinearLayout"} if view == "ViewGroup" else set())


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_pictures_are_described_fields_are_labelled_and_targets_are_large_enough_to_touch(name):
    nodes = list(LAYOUTS[name].iter())
    labelled = {node.get(ANDROID + "labelFor", "").partition("/")[2] for node in nodes}
    styles = {item.get("name"): item for item in ElementTree.parse(MAIN / "res/values/themes.xml").getroot()}
    for node in nodes:
        own = node.tag.startswith("org.fedgate.demo.")
        if own:
            view = node.tag.rpartition(".")[2]
            assert (
                f"class {view}(context: Context, attributes: AttributeSet?) : View(context, attributes)"
                in SOURCES[view]
            )
        if own or node.tag in ("ImageView", "ImageButton"):
            assert node.get(ANDROID + "contentDescription", "").startswith("@string/")
        if node.tag in ("EditText", "Spinner"):
            assert identity(node) in labelled
        if node.tag in ("Button", "EditText", "Spinner", "ImageButton"):
            items = {item.get("name"): item.text for item in styles[node.get("style").partition("/")[2]]}
            assert items["android:minHeight"] == "48dp"
        assert (node.get(ANDROID + "text") or "@string/").startswith("@string/")


def luminance(colour):
    """Relative luminance of #AARRGGBB (WCAG 2.2)."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (3, 5, 7)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("folder", ["values", "values-night"])
def test_both_themes_have_every_colour_and_enough_contrast(folder):
    colours = resources(folder)["color"]
    assert colours.keys() == resources()["color"].keys()

    def contrast(name):
        dark, light = sorted(luminance(colours[which]) for which in (name, "background"))
        return (light + 0.05) / (dark + 0.05)

    for name in ("words", "warning"):
        assert contrast(name) >= 4.5, name  # WCAG 1.4.3, text
    for name in ("strip_open", "chart_first", "chart_second", "accent"):
        assert contrast(name) >= 3, name  # 1.4.11, graphics


def test_core_and_drawing_know_nothing_of_android_and_nothing_needs_androidx():
    for path in (MAIN / "kotlin").rglob("*.kt"):
        imports = re.findall(r"(?m)^import (\S+)", path.read_text())
        assert not [name for name in imports if name.startswith(("androidx.", "kotlinx."))], path
        if path.parent.name != "demo":
            assert not [name for name in imports if name.startswith("android.")], path


def test_gradle_is_pinned_by_version_and_hash_and_its_jar_is_not_in_git():
    wrapper = (PROJECT / "gradle/wrapper/gradle-wrapper.properties").read_text()
    assert re.search(r"distributionUrl=https\\://services\.gradle\.org/distributions/gradle-[\d.]+-bin\.zip\n", wrapper)
    assert re.search(r"distributionSha256Sum=[0-9a-f]{64}\n", wrapper)
    assert "gradle/wrapper/gradle-wrapper.jar" in (PROJECT / ".gitignore").read_text().split()


def test_the_readmes_pictures_are_there_and_say_what_the_layouts_say():
    named = re.findall(r"\((screens/[\w-]+\.svg)\)", (PROJECT / "README.md").read_text())
    assert set(named) == {f"screens/{path.name}" for path in (PROJECT / "screens").iterdir()}
    strings = resources()["string"]
    for name in named:
        picture = ElementTree.parse(PROJECT / name).getroot()
        words = {node.text for node in picture.iter("{http://www.w3.org/2000/svg}text")}
        layout = Path(name).stem.partition("-")[0]
        buttons = [node for node in LAYOUTS[layout].iter() if node.tag == "Button"]
        assert {strings[node.get(ANDROID + "text").partition("/")[2]].upper() for node in buttons} <= words
        theme = "values-night" if "night" in name else "values"
        assert picture[0].get("fill") == resources(theme)["color"]["background"].replace("#FF", "#")
