"""The commands of the pages' fenced blocks run in their order, page by page, in a scratch folder.

Python blocks that begin with `# NAME.py` become that file; diffs are applied to a copy of the source, which runs what
follows them. README's commands run first: what they leave, `runs/first` and `first.fedgate`, the other pages use.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from emulation import MISSING
from pages import PAGES, ROOT, Command, benchmarks, block_commands, blocks, commands

# What is run in the place of what a reader has: (what stands in the command, what is run, why).
SUBSTITUTES = (
    (r"PATH/TO/cifar10", "pictures", "the digits as pictures: CIFAR-10 is nobody's to give away"),
    (r"--model resnet(20|56)", "--model cnn", "ResNet-20 takes minutes to train and to export"),
    (r"--init \S+ ", "", "weights that the reader has"),
    (r"--normalise imagenet", "--normalise 0.5/0.5", "the digits have one channel"),
    (r"(fedgate train .*)--rounds \d\d", r"\1--rounds 2", "as many rounds as show that it runs"),
    (r"(fedgate train (?!.*(--rounds|--resume|--print-config)).*)", r"\1 --rounds 2", "the same, of the default"),
    (r"make demo DATA=photos", "fedgate demo --data photos --rounds 1", "the same, without setting up"),
    (r"(fedgate bench (?!.*(--seconds|--rounds)).*)", r"\1 --rounds 5", "a test measures nothing"),
    (r"--sustained \d+", "--sustained 1", "the same"),
    (r"--cpus \S+", "--cpus 0", "the CPUs of the reader's board"),
)
# What is not run at all, and why. That the command line takes these words is tested in test_pages.py.
NOT_RUN = (
    (
        r"^make (?!demo DATA)",
        "set up environments, run all tests, or build the app: tests/android/test_apk.py does the last",
    ),
    (r"--target (ssh|adb):", "another machine or a phone; tests/device_runtime/targets has a loopback and a fake"),
    (r"^fedgate (flower superlink|client) ", "run until stopped, on several machines: tests/pipeline/test_flower.py"),
    (r"^fedgate train .*--engine flower", "the same"),
)
NEEDS = ((r"emulated:|aarch64-linux-gnu", MISSING),)  # tools of Debian that are not on every machine

OUT = re.compile(r"--out (\S+)")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def reason_not_to_run(command: Command) -> str | None:
    text = f"{command.program} {shlex.join(command.words)}"
    missing = [f"needs {', '.join(tools)}" for pattern, tools in NEEDS if tools and re.search(pattern, text)]
    return next((why for pattern, why in NOT_RUN if re.search(pattern, text)), missing[0] if missing else None)


def substituted(command: Command) -> str:
    text = f"{command.program} {shlex.join(command.words)}"
    for pattern, replacement, _ in SUBSTITUTES:
        text = re.sub(pattern, replacement, text)
    return text


def test_the_tables_name_nothing_that_no_page_has():
    texts = [f"{command.program} {shlex.join(command.words)}" for page in PAGES for command in commands(page)]
    assert not [row for row in (*SUBSTITUTES, *NOT_RUN) if not any(re.search(row[0], text) for text in texts)]


def run_page(page: Path, folder: Path, source: Path) -> list[str]:
    """Run a page's blocks in `folder`; returns what failed. source: where a changed copy of the package would lie."""
    environment, failed = ENVIRONMENT, []
    for block in blocks(page):
        if block.language == "python" and (name := re.match(r"# (\w+\.py)\n", block.text)):
            (folder / name[1]).write_text(block.text)
        elif block.language == "diff":
            environment = ENVIRONMENT | {"PYTHONPATH": str(changed_source(source, block.text))}
        for command in block_commands(block):
            if reason_not_to_run(command):
                continue
            text = substituted(command)
            done = subprocess.run(argv(text), cwd=folder, env=environment, capture_output=True, text=True)
            if command.output is not None:
                (folder / command.output).write_text(done.stdout)
            if done.returncode != 0:
                failed.append(f"{command}\n  as {text}\n  {done.stderr[-2000:]}")
    return failed


def argv(text: str) -> list[str]:
    program, *words = shlex.split(text)
    if program == "fedgate":
        return [sys.executable, "-m", "fedgate", *words]
    return [sys.executable if program == "python" else program, *words]


def changed_source(folder: Path, diff: str) -> Path:
    """A copy of the package, made once, to which one diff after the other is applied."""
    if not folder.exists():
        for stage in ("train", "export", "device_runtime"):
            shutil.copytree(ROOT / stage, folder / stage, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "fedgate", folder / "fedgate", ignore=shutil.ignore_patterns("__pycache__"))
        for stage in ("train", "export", "device_runtime"):  # as setuptools' package-dir has it
            (folder / "fedgate" / stage).symlink_to(folder / stage)
    subprocess.run(["git", "apply", "--unsafe-paths", "-"], cwd=folder, input=diff, text=True, check=True)
    return folder


def test_the_diffs_of_the_pages_apply_to_the_source(tmp_path):
    diffs = [(page.stem, block.text) for page in PAGES for block in blocks(page) if block.language == "diff"]
    for page, diff in diffs:
        changed_source(tmp_path / page, diff)
    assert diffs


def give_pictures(folder: Path) -> None:
    """What a reader has: pictures/CLASS/IMAGE to train on, photos/CLASS/IMAGE of a device, and a picture."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images[:600], digits.target[:600], strict=True)):
        place = folder / ("pictures" if number < 500 or label > 3 else "photos") / str(label) / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15.9).astype("uint8")).save(place)
    shutil.copy(folder / "pictures" / "8" / "8.png", folder / "cat.png")


RUN = [page for page in PAGES if any(reason_not_to_run(command) is None for command in commands(page))]


@pytest.fixture(scope="module")
def after_readme(tmp_path_factory):
    """The folder in which README's commands have run, and what of them failed."""
    top = tmp_path_factory.mktemp("readme")
    folder = top / "reader"
    folder.mkdir()
    give_pictures(folder)
    return folder, run_page(PAGES[0], folder, top / "source")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", RUN, ids=[str(page.relative_to(ROOT)) for page in RUN])
def test_the_commands_of_a_page_run(page, after_readme, tmp_path):
    before, failed = after_readme
    if page != PAGES[0]:
        made = {path for command in commands(page) for path in OUT.findall(shlex.join(command.words))}
        made |= {word for command in commands(page) if command.program == "mkdir" for word in command.words}
        shown = [re.match(r"# (\w+\.py)\n", block.text) for block in blocks(page) if block.language == "python"]
        own = any(name and name[1] == "pictures.py" for name in shown)  # the page makes pictures of its own
        made |= {"pictures", "photos"} if own else set()
        folder = Path(shutil.copytree(before, tmp_path / "reader"))
        for path in made:
            shutil.rmtree(folder / path, ignore_errors=True)
        failed = run_page(page, folder, tmp_path / "source")
    assert not failed, "\n".join(failed)


# readme.py writes the pages: its test runs it with --check
QUICK = {script: words for script, words in benchmarks().items() if script != "benchmarks/readme.py"}
FOREIGN_TOOLS = {"arm": MISSING, "footprint": MISSING, "inner_loops": [] if shutil.which("llvm-mca") else ["llvm-mca"]}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("script", QUICK, ids=lambda script: Path(script).stem)
def test_a_benchmark_runs(script, tmp_path):
    """With --quick in the place of the words that take hours; that it knows those is tested in test_pages.py."""
    if missing := FOREIGN_TOOLS.get(Path(script).stem):
        pytest.skip(f"missing: {', '.join(missing)}")
    command = [sys.executable, ROOT / script, *QUICK[script], "--quick", "--json", "rows.json"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "rows.json").read_text())
