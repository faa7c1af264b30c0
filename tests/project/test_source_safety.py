"""What our source never does: open pickles, run text as code, trust a model's code, use a shell."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("s2d_store", "cli", "trainers", "queries", "benchmarks", "docs", "examples", "tests")
PICKLERS = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
RUN_TEXT = {"eval", "exec", "compile", "__import__"}
# Full names of calls: numpy opens pickles only where it is told to, and is not told to.
REFUSED_CALLS = {
    "torch.load",
    "torch.save",
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.unsafe_load",
}
# Python's processes talk in pickles over pipes of their own; nothing of it is stored. We import
# from it what watches vLLM's processes; engines beside each other and what stores captured rollouts
# are started by it; benchmarks start peers, checks and many writers of one store, as one test does.
MULTIPROCESSING = {
    Path("s2d_store/engines/vllm_process.py"),
    Path("s2d_store/engines/local_workers.py"),
    Path("s2d_store/capture/storing.py"),
    Path("s2d_store/capture/drain.py"),
    Path("benchmarks/workers.py"),
    Path("benchmarks/gpu/processes.py"),
    Path("benchmarks/proxy.py"),
    Path("benchmarks/verifier.py"),
    Path("benchmarks/fused_loss.py"),
    Path("benchmarks/writers.py"),
    Path("benchmarks/chaos.py"),
    Path("tests/tables/test_concurrency.py"),
}
# Models that these scripts have just made, or that a package ships: not a user's folder.
OWN_MODELS = ("examples", "benchmarks", "tests")


def findings(tree: ast.AST, place: Path) -> Iterator[str]:
    """What a module does that it must not, a line each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            for name in [module or "", *(alias.name for alias in node.names)]:
                top = name.split(".")[0]
                if top in PICKLERS or (top == "multiprocessing" and place not in MULTIPROCESSING):
                    yield f"{place}:{node.lineno} imports {top}"
        elif isinstance(node, ast.Call):
            yield from (f"{place}:{node.lineno} {what}" for what in _in_call(node, place))


def _in_call(node: ast.Call, place: Path) -> Iterator[str]:
    name = ast.unparse(node.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    # Weights alone are read without running what a pickle says.
    of_weights = name == "torch.load" and given.get("weights_only") == "True"
    if name in RUN_TEXT | REFUSED_CALLS and not of_weights:
        yield f"calls {name}"
    for keyword in ("allow_pickle", "trust_remote_code", "shell"):
        if given.get(keyword, "False") != "False":
            yield f"passes {keyword}={given[keyword]}"
    automatic = name.rpartition(".")[0].rpartition(".")[2].startswith("Auto")
    if name.endswith(".from_pretrained") and automatic and place.parts[0] not in OWN_MODELS:
        if "trust_remote_code" not in given:
            yield f"calls {name} without trust_remote_code=False"
        if "Model" in name and given.get("use_safetensors") != "True":
            yield f"calls {name} without use_safetensors=True"


def test_our_source_does_none_of_it() -> None:
    paths = [path for folder in OURS for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(paths) > 150
    found = [
        finding
        for path in paths
        for finding in findings(ast.parse(path.read_text()), path.relative_to(ROOT))
    ]
    # The tests make a pickle, to see it refused.
    assert [line for line in found if "test_model_folders.py" not in line] == []
    assert any("calls torch.save" in line for line in found)


SAMPLES = {
    "import pickle": "imports pickle",
    "from dill import loads": "imports dill",
    "import joblib.memory as m": "imports joblib",
    "from multiprocessing import Queue": "imports multiprocessing",
    "eval('1')": "calls eval",
    "exec(text)": "calls exec",
    "torch.load(f)": "calls torch.load",
    "np.load(f, allow_pickle=True)": "passes allow_pickle=True",
    "f(trust_remote_code=asked)": "passes trust_remote_code=asked",
    "subprocess.run(c, shell=True)": "passes shell=True",
    "os.system(c)": "calls os.system",
    "yaml.load(f)": "calls yaml.load",
    "AutoTokenizer.from_pretrained(p)": "without trust_remote_code=False",
    "t.AutoModelForCausalLM.from_pretrained(p, trust_remote_code=False)": "without use_safetensors",
}


@pytest.mark.parametrize("text", SAMPLES)
def test_each_is_noticed(text: str) -> None:
    found = list(findings(ast.parse(text), Path("s2d_store/x.py")))
    assert len(found) == 1
    assert all(line.startswith("s2d_store/x.py:1 ") for line in found)
    assert SAMPLES[text] in found[0]


@pytest.mark.parametrize(
    "text",
    [
        "model.eval()",
        "np.load(f, allow_pickle=False)",
        "con.execute(text)",
        "re.compile(text)",
        "GenerationConfig.from_pretrained(p)",
        "AutoConfig.from_pretrained(p, trust_remote_code=False)",
    ],
)
def test_what_only_looks_like_it_is_not(text: str) -> None:
    assert list(findings(ast.parse(text), Path("s2d_store/x.py"))) == []
