"""The page that goes with exported weights: what they are, how good they are, under which terms, how to load them."""

import json
import re
from collections.abc import Collection

from merging.evaluation.assumptions import assumptions
from merging.methods.forgetting import GROUPS
from merging.runs.export.recipe import Recipe
from merging.runs.export.weights import KEPT_WEIGHTS, require_done
from merging.runs.jobs.merge_result import Forgetting, MergeResult
from merging.runs.run import Run
from merging.suites.suite import Suite
from merging.weights.files.writing import dtype_in_words

# Rebuilds one task's model from a file of localised models; a test runs it as it stands.
LOCALISED = """\
import merging

weights = merging.task_weights(merging.open_checkpoint("base.safetensors"), "model.safetensors", "the task's name")
"""

# Loads the weights and classifies an image; written beside them as classify.py, and run by a test.
CLASSIFY = """\
import json, sys
import open_clip, torch
from PIL import Image
from safetensors.torch import load_file
from torchvision import transforms as T

config = json.load(open("config.json"))
if len(sys.argv) != 3 or sys.argv[1] not in config["classes"]:
    sys.exit("expected: classify.py TASK IMAGE, with a TASK of " + ", ".join(config["classes"]))
task, image = sys.argv[1], Image.open(sys.argv[2]).convert("RGB")
no_text = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}
model = open_clip.CLIP(config["embed_dim"], config["vision_cfg"], no_text, config["quick_gelu"]).visual.eval()
model.load_state_dict({name: tensor.float() for name, tensor in load_file("model.safetensors").items()})
square = [T.Resize(config["size"], T.InterpolationMode.BICUBIC), T.CenterCrop(config["size"]), T.ToTensor()]
features = model(T.Compose([*square, T.Normalize(config["mean"], config["std"])])(image)[None])
logits = torch.nn.functional.normalize(features) @ load_file("heads.safetensors")[task].T * config["logit_scale"]
index = int(logits.argmax())
print(config["classes"][task][index] if config["classes"][task] else index, f"{logits.softmax(1).max():.0%}")
"""

# The same where the weights are in several files.
CLASSIFY_PARTS = CLASSIFY.replace("import json, sys", "import glob, json, sys").replace(
    'name, tensor in load_file("model.safetensors")',
    'part in glob.glob("model-*.safetensors") for name, tensor in load_file(part)',
)

_HUGGINGFACE = (
    "from transformers import CLIPVisionModelWithProjection",
    "",
    'model = CLIPVisionModelWithProjection.from_pretrained(".")',
)


def model_card(run: Run, recipe: Recipe, suite: Suite, files: Collection[str]) -> str:
    """The page, in Markdown, with the fields that the Hugging Face hub reads at its head.

    Args:
        run: a finished run.
        recipe: of it and its weights.
        suite: what it was made from.
        files: names of the files beside the page.
    """
    return "\n".join(
        [
            "---",
            "library_name: open_clip",
            "license: other",
            "tags: [clip, model-merging]",
            "---",
            "",
            f"# {_plain(recipe.label)}",
            "",
            f"Merged from {len(run.spec.tasks)} models of {_plain(suite.label)}, fine-tuned from one CLIP "
            f"({_plain(suite.architecture_label)}) on different tasks: {', '.join(map(_plain, run.spec.tasks))}.",
            "",
            *_architecture(suite),
            *_accuracy(run),
            *_parameters(run, recipe),
            *_use(run, recipe, suite, files),
            *_files(recipe),
            *_licence(run, suite),
        ]
    )


def _plain(text: str) -> str:
    """Text from a file in which Markdown finds nothing to interpret."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~$&-])", r"\\\1", text)


def _architecture(suite: Suite) -> list[str]:
    """What the weights do not show, and who says it."""
    lines = [f"- {_plain(line)}" for line in assumptions(suite).lines]
    return ["## Architecture", "", "What no tensor shows of it, and who says so:", "", *lines, ""]


def _accuracy(run: Run) -> list[str]:
    result = require_done(run)
    if not result.accuracy:
        return ["Its accuracy was not measured.", ""]
    adapted = result.merge.adapted_on
    return [
        "## Accuracy",
        "",
        f"Top-1 on the {result.split} split, seed {run.spec.seed}."
        + (f" {result.shift_in_words}" if result.shift_in_words else "")
        + (f" Coefficients were adapted on unlabeled {adapted.split} images." if adapted else ""),
        "",
        *(_before_and_after(result.forgetting) if result.forgetting else _per_task(result)),
        "",
        *([_plain(result.about_images), ""] if result.about_images else []),
    ]


def _per_task(result: MergeResult) -> list[str]:
    accuracy, counts = result.accuracy or {}, result.counts or {}
    rows = [f"| {_plain(t)} | {counts[t]} | {100 * a:.1f} % |" for t, a in accuracy.items()]
    average = f"| **average** | {result.images} | **{100 * sum(accuracy.values()) / len(accuracy):.1f} %** |"
    return ["| task | images | accuracy |", "|---|---:|---:|", *rows, average]


def _before_and_after(report: Forgetting) -> list[str]:
    """Of a model that forgets: every task with what is meant for it; the average is that of the others."""
    rows = [
        f"| {_plain(task)} | {group} | {row.images} | {100 * row.before:.1f} % | {100 * row.after:.1f} % |"
        for group in GROUPS
        for task, row in report.rows(group).items()
    ]
    rest = report.remaining
    if rest is not None:
        numbers = f"{100 * rest.before:.1f} % | **{100 * rest.after:.1f} %**"
        rows.append(f"| **average without forgotten tasks** | | | {numbers} |")
    return ["| task | meant to be | images | zero-shot | this model |", "|---|---|---:|---:|---:|", *rows]


def _parameters(run: Run, recipe: Recipe) -> list[str]:
    papers = {part.stage.paper for part in run.spec.pair.parts} - {""}
    lines = ["## Method", "", "```json", json.dumps(run.spec.pair.fields, indent=2), "```", ""]
    if recipe.chosen:
        lines += [f"Chosen on validation images, where a parameter is auto: `{json.dumps(recipe.chosen)}`.", ""]
    for sentence in run.merged.units if run.merged else ():
        lines += [sentence, ""]
    for kind, digest in (recipe.sources or {}).items():
        lines += [
            f"The {kind} is its author's own, a source of SHA-256 `{digest}`, without which it can't be replayed.",
            "",
        ]
    return [*lines, *(f"<{paper}>" for paper in sorted(papers)), *([""] if papers else [])]


def _use(run: Run, recipe: Recipe, suite: Suite, files: Collection[str]) -> list[str]:
    if run.spec.pair.localised:
        return [
            "## Use",
            "",
            "`model.safetensors` is not one model: it holds a vector that all tasks share and a mask of one bit a",
            "weight for every task. With the base model it gives each task's visual tower, names as in open_clip's",
            "`model.visual`:",
            "",
            "```python",
            *LOCALISED.splitlines(),
            "```",
            "",
        ]
    rounded = _rounded(recipe, suite)
    if recipe.weights.layout == "huggingface":
        what = "the visual tower, names as in transformers' `CLIPVisionModelWithProjection`"
        return [
            "## Use",
            "",
            f"`model.safetensors` holds {what}{rounded}.",
            "",
            "```python",
            *_HUGGINGFACE,
            "```",
            "",
        ]
    what = f"`model.safetensors` holds the visual tower, names as in open_clip's `model.visual`{rounded}."
    lines = ["## Use", "", what]
    if "classify.py" in files:
        lines += [
            "`python classify.py TASK IMAGE`, in this folder, loads it and classifies an image:",
            "",
            "```python",
            *classify_text(files).splitlines(),
            "```",
        ]
    return [*lines, ""]


def classify_text(files: Collection[str]) -> str:
    """The code that classifies with exported weights, given the names of the files that these are in."""
    return CLASSIFY if KEPT_WEIGHTS in files else CLASSIFY_PARTS


def _rounded(recipe: Recipe, suite: Suite) -> str:
    """What the weights became when they were written, which the measured accuracy knows nothing of."""
    said = dtype_in_words(recipe.weights.dtype, suite.base_checkpoint.infos)
    return f", {said}{' after its accuracy was measured' * said.endswith(recipe.weights.dtype)}" if said else ""


def _files(recipe: Recipe) -> list[str]:
    prints = [f"| {_plain(name)} | `{value}` |" for name, value in recipe.fingerprints.items()]
    return [
        "## Made from",
        "",
        "`merging replay recipe.yaml` makes these weights again, bit for bit on the CPU, from files with the",
        "same fingerprints.",
        "",
        "| file or task | SHA-256 |",
        "|---|---|",
        *prints,
        f"| the tensors written | `{recipe.weights.sha256}` |",
        "",
    ]


def _licence(run: Run, suite: Suite) -> list[str]:
    """The suite's licence and its tasks', or that none is known."""
    named = {"": suite.licence, **{name: suite.task(name).licence for name in run.spec.tasks}}
    known = [f"{name}: {licence}" if name else licence for name, licence in named.items() if licence]
    terms = "; ".join(map(_plain, known)) or "not stated in the suite"
    return [f"Licence of what it was made from: {terms}. Merged weights are bound by the terms of all of it.", ""]
